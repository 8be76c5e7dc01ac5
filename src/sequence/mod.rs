//! DNA as numbers: base codes, complements, contigs and regions. Pure: no files, no tensors.
//!
//! ASCII ends at the file readers; everything downstream sees base codes, one byte a base:
//! the low three bits are the base, bit 3 says that it was written in lower case.

pub mod allele;
pub mod contigs;
pub mod interval;
pub mod region;
pub mod shard;

use crate::error::{Error, Kind, Result};

/// Adenine.
pub const A: u8 = 0;
/// Cytosine.
pub const C: u8 = 1;
/// Guanine.
pub const G: u8 = 2;
/// Thymine; uracil reads as thymine.
pub const T: u8 = 3;
/// Unknown, and every IUPAC ambiguity code.
pub const N: u8 = 4;
/// Set on a base that was written in lower case (soft-masked).
pub const SOFT_MASKED: u8 = 8;

/// The letters of base codes 0 to 4.
pub const LETTERS: [&str; 5] = ["A", "C", "G", "T", "N"];

/// The base of a code, without its soft-mask bit: `A`, `C`, `G`, `T` or `N`.
///
/// ```
/// use crocuta::sequence::{base, complement, G, SOFT_MASKED};
/// assert_eq!(base(G | SOFT_MASKED), G);
/// assert_eq!(complement(G | SOFT_MASKED), crocuta::sequence::C | SOFT_MASKED);
/// ```
pub fn base(code: u8) -> u8 {
    code & 7
}

/// The complement of a base code; N stays N, the soft-mask bit stays.
pub fn complement(code: u8) -> u8 {
    match base(code) {
        N => code,
        b => (3 - b) | (code & SOFT_MASKED),
    }
}

/// Reverse-complements codes in place.
pub fn reverse_complement(codes: &mut [u8]) {
    codes.reverse();
    for code in codes {
        *code = complement(*code);
    }
}

/// A sequence of the reference: a chromosome, plasmid or scaffold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contig {
    /// Its name: the FASTA header up to the first blank.
    pub name: String,
    /// Its length in bases.
    pub length: u64,
}

/// One run of consecutive tokens of one sequence within a step.
///
/// A step packs the pieces of many sequences end to end, without padding: per-token layers see
/// one long list of T tokens, and only layers that mix along the sequence look at segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The row of the state that belongs to this sequence. Not touched by a segment that both
    /// starts and ends its sequence.
    pub lane: usize,
    /// Tokens of this segment; at least 1.
    pub len: usize,
    /// The sequence starts here: whatever the lane's state held is forgotten first.
    pub starts: bool,
    /// The sequence ends here: the lane's state is not needed again.
    pub ends: bool,
}

/// The row of each row's mirror image within its segment: a step read from each segment's end.
///
/// ```
/// use crocuta::sequence::{Segment, mirrored};
/// let segment = |len| Segment { lane: 0, len, starts: true, ends: true };
/// assert_eq!(mirrored(&[segment(3), segment(2)]), [2, 1, 0, 4, 3]);
/// ```
pub fn mirrored(segments: &[Segment]) -> Vec<u32> {
    let mut rows = Vec::new();
    for segment in segments {
        let from = rows.len() as u32;
        rows.extend((from..from + segment.len as u32).rev());
    }
    rows
}

/// Rows of a step that go on as one of its sequences would behind a certain row: with a variant's
/// alternate, say. Branches' rows follow those of the segments, branch after branch, and leave no
/// state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The row, of a segment of the step, behind which it branches off.
    pub after: usize,
    /// Tokens of this branch; at least 1.
    pub len: usize,
}

impl Branch {
    /// The segment that it branches off, and that segment's first row.
    ///
    /// # Errors
    /// Internal: it is no segment's row.
    pub fn origin(&self, segments: &[Segment]) -> Result<(usize, usize)> {
        let mut end = 0;
        let index = segments.iter().position(|segment| {
            end += segment.len;
            self.after < end
        });
        let index = index.ok_or_else(|| Error::new(Kind::Internal, "a branch off no segment"))?;
        Ok((index, end - segments[index].len))
    }
}
