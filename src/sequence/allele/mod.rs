//! Alleles of variants: what kind they are, and the one spelling that all equal ones share.
//!
//! A VCF may write one change in many ways: with bases around it, or anywhere within a repeat.
//! [`Variant`] holds the change alone, as far left as it goes (Tan, Abecasis & Kang 2015), so
//! that equal changes compare equal and get one score.

use super::{LETTERS, N, base};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of change an alternate allele is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Type {
    /// One base for another.
    Snv,
    /// Several bases for as many others.
    Mnv,
    /// Bases added.
    Insertion,
    /// Bases removed.
    Deletion,
    /// Bases replaced by more or fewer others.
    Delins,
    /// REF and ALT are equal.
    Same,
    /// `<DEL>`, `<NON_REF>` and the like.
    Symbolic,
    /// `*`: the site lies in a deletion that another record describes.
    Star,
    /// A breakend, as `G]17:198982]` or `.A`.
    Breakend,
    /// `.`: the record has no alternate allele.
    Missing,
    /// REF or ALT holds something else than `ACGTN`.
    Other,
}

impl Type {
    /// The type of an alternate, as the VCF spells it. Bases around the change do not matter.
    ///
    /// ```
    /// use crocuta::sequence::allele::Type;
    /// assert_eq!(Type::of("CAT", "CGT"), Type::Snv);
    /// assert_eq!(Type::of("A", "<DEL>"), Type::Symbolic);
    /// ```
    pub fn of(reference: &str, alternate: &str) -> Self {
        let inner = || alternate.contains(['[', ']']);
        let single = || alternate.starts_with('.') || alternate.ends_with('.');
        match alternate {
            "." => return Self::Missing,
            "*" => return Self::Star,
            _ if alternate.starts_with('<') && alternate.ends_with('>') => return Self::Symbolic,
            _ if inner() || single() => return Self::Breakend,
            // An assembled insertion with its contig, as `C<ctg1>`.
            _ if alternate.contains('<') => return Self::Symbolic,
            _ => {}
        }
        let (Some(reference), Some(alternate)) = (codes(reference), codes(alternate)) else {
            return Self::Other;
        };
        let (before, after) = shared(&reference, &alternate);
        let left = |allele: &[u8]| allele.len() - before - after;
        match (left(&reference), left(&alternate)) {
            (0, 0) => Self::Same,
            (1, 1) => Self::Snv,
            (0, _) => Self::Insertion,
            (_, 0) => Self::Deletion,
            (removed, added) if removed == added => Self::Mnv,
            _ => Self::Delins,
        }
    }

    /// Why an allele of this type cannot be scored; `None` for bases that change something.
    pub fn refusal(self) -> Option<Status> {
        match self {
            Self::Snv | Self::Mnv | Self::Insertion | Self::Deletion | Self::Delins => None,
            Self::Same => Some(Status::SameAllele),
            Self::Symbolic => Some(Status::Symbolic),
            Self::Star => Some(Status::StarAllele),
            Self::Breakend => Some(Status::Breakend),
            Self::Missing => Some(Status::MissingAllele),
            Self::Other => Some(Status::UnsupportedAllele),
        }
    }

    /// The word in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Snv => "snv",
            Self::Mnv => "mnv",
            Self::Insertion => "ins",
            Self::Deletion => "del",
            Self::Delins => "delins",
            Self::Same => "same",
            Self::Symbolic => "symbolic",
            Self::Star => "star",
            Self::Breakend => "breakend",
            Self::Missing => "missing",
            Self::Other => "other",
        }
    }
}

/// Whether an alternate allele was scored, or why not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Status {
    /// Scored.
    Ok,
    /// REF is not what the reference has there.
    RefMismatch,
    /// The allele is symbolic.
    Symbolic,
    /// The allele is `*`.
    StarAllele,
    /// The allele is a breakend.
    Breakend,
    /// The record has no alternate allele.
    MissingAllele,
    /// REF and ALT are equal.
    SameAllele,
    /// REF or ALT holds something else than `ACGTN`.
    UnsupportedAllele,
    /// The allele is longer than may be scored.
    TooLong,
    /// An unknown base lies in REF, in ALT or in what is scored.
    NInWindow,
    /// The reference has no such contig.
    ContigMissing,
    /// POS is 0, or REF goes beyond the contig's end.
    OutOfRange,
    /// What is scored would go beyond the contig's end.
    EdgeTruncated,
    /// The same change stands earlier in the input.
    Duplicate,
}

impl Status {
    /// The word in tables and in VCF.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::RefMismatch => "ref_mismatch",
            Self::Symbolic => "symbolic",
            Self::StarAllele => "star_allele",
            Self::Breakend => "breakend",
            Self::MissingAllele => "missing_allele",
            Self::SameAllele => "same_allele",
            Self::UnsupportedAllele => "unsupported_allele",
            Self::TooLong => "too_long",
            Self::NInWindow => "n_in_window",
            Self::ContigMissing => "contig_missing",
            Self::OutOfRange => "out_of_range",
            Self::EdgeTruncated => "edge_truncated",
            Self::Duplicate => "duplicate",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A change of the reference: the bases from `start` that are `reference` become `alternate`.
/// The alleles are base codes without soft-mask bits; one of them may be empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Variant {
    /// The first base of `reference`, 0-based; with none, the base before which to insert.
    pub start: u64,
    /// The bases that are replaced.
    pub reference: Vec<u8>,
    /// The bases that replace them.
    pub alternate: Vec<u8>,
}

impl Variant {
    /// The variant that a VCF writes, as it is written; `pos` is 1-based.
    ///
    /// # Errors
    /// The status of an allele that is not bases, or equals REF, or stands at position 0.
    pub fn new(pos: u64, reference: &str, alternate: &str) -> Result<Self, Status> {
        if let Some(status) = Type::of(reference, alternate).refusal() {
            return Err(status);
        }
        match (pos.checked_sub(1), codes(reference), codes(alternate)) {
            (Some(start), Some(reference), Some(alternate)) => Ok(Self {
                start,
                reference,
                alternate,
            }),
            _ => Err(Status::OutOfRange),
        }
    }

    /// One past the last base of `reference`, 0-based.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.reference.len() as u64)
    }

    /// Compares `reference` with the reference itself; `at` gives the base code at a 0-based
    /// position, `None` beyond the contig's end.
    ///
    /// # Errors
    /// [`Status::OutOfRange`], [`Status::RefMismatch`] or, where the reference or the alternate
    /// holds an N, [`Status::NInWindow`].
    pub fn check(&self, at: impl Fn(u64) -> Option<u8>) -> Result<(), Status> {
        let mut unknown = self.alternate.contains(&N);
        for (position, &code) in (self.start..).zip(&self.reference) {
            match at(position).map(base) {
                None => return Err(Status::OutOfRange),
                Some(N) => unknown = true,
                Some(found) if found == code => {}
                Some(_) => return Err(Status::RefMismatch),
            }
        }
        if unknown {
            Err(Status::NInWindow)
        } else {
            Ok(())
        }
    }

    /// The same change without the bases that REF and ALT share, and as far left as the
    /// reference allows. Equal changes give equal variants.
    ///
    /// `at` is as in [`Self::check`]; a variant stops at an N, and at a position for which `at`
    /// gives `None`, so that a window of the reference bounds how far it moves.
    #[must_use]
    pub fn normalise(mut self, at: impl Fn(u64) -> Option<u8>) -> Self {
        let (before, after) = shared(&self.reference, &self.alternate);
        for allele in [&mut self.reference, &mut self.alternate] {
            allele.truncate(allele.len() - after);
            allele.drain(..before);
        }
        self.start += before as u64;
        let moved = match (self.reference.is_empty(), self.alternate.is_empty()) {
            (true, false) => &mut self.alternate,
            (false, true) => &mut self.reference,
            _ => return self,
        };
        // Moving left by one base turns the bases round by one.
        let mut last = moved.iter().rev().cycle();
        let mut steps = 0;
        while let (Some(position), Some(&code)) = (self.start.checked_sub(1), last.next()) {
            if code == N || at(position).map(base) != Some(code) {
                break;
            }
            self.start = position;
            steps += 1;
        }
        let turned = steps % moved.len();
        moved.rotate_right(turned);
        self
    }

    /// POS (1-based), REF and ALT as a normalised VCF spells the variant: where an allele is
    /// empty both get the base before, or at a contig's start the base after. `None` if that
    /// base is not to be had.
    pub fn spell(&self, at: impl Fn(u64) -> Option<u8>) -> Option<(u64, String, String)> {
        let text = |codes: &[u8]| codes.iter().map(|&code| letter(code)).collect::<String>();
        let (reference, alternate) = (text(&self.reference), text(&self.alternate));
        if !self.reference.is_empty() && !self.alternate.is_empty() {
            return Some((self.start + 1, reference, alternate));
        }
        match self.start.checked_sub(1) {
            Some(before) => {
                let anchor = letter(base(at(before)?));
                let (reference, alternate) = (
                    anchor.to_string() + &reference,
                    anchor.to_string() + &alternate,
                );
                Some((self.start, reference, alternate))
            }
            None => {
                let anchor = letter(base(at(self.end())?));
                Some((1, reference + anchor, alternate + anchor))
            }
        }
    }
}

/// The name of a variant, as gnomAD has it.
///
/// ```
/// let id = crocuta::sequence::allele::variant_id("chr1", 55051215, "G", "GA");
/// assert_eq!(id, "chr1-55051215-G-GA");
/// ```
pub fn variant_id(chrom: &str, pos: u64, reference: &str, alternate: &str) -> String {
    format!("{chrom}-{pos}-{reference}-{alternate}")
}

/// How many bases two alleles share at their ends: first as many as can be after the change,
/// then before it.
fn shared(reference: &[u8], alternate: &[u8]) -> (usize, usize) {
    let same = |(a, b): &(&u8, &u8)| a == b;
    let both = reference.iter().rev().zip(alternate.iter().rev());
    let after = both.take_while(same).count();
    let left = reference.len().min(alternate.len()) - after;
    let both = reference.iter().zip(alternate).take(left);
    (both.take_while(same).count(), after)
}

/// The base codes of an allele that holds nothing but `ACGTN`, in either case.
fn codes(allele: &str) -> Option<Vec<u8>> {
    let code = |letter: char| {
        let known = LETTERS.iter().zip(0..);
        let mut known = known.filter(|(known, _)| known.starts_with(letter.to_ascii_uppercase()));
        known.next().map(|(_, code)| code)
    };
    allele.chars().map(code).collect()
}

fn letter(code: u8) -> &'static str {
    LETTERS[usize::from(code.min(N))]
}

#[cfg(test)]
mod tests;
