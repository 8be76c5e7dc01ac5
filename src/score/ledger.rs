//! Every allele of the input, and what became of it. Texts, changes and scores lie on disk.

use crate::error::{Error, Kind, Result};
use crate::io::spill::Scratch;
use crate::sequence::allele::{Status, Variant};
use crate::table::{Allele, SCORES, Scores, Spelled, VariantRow};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// What an allele changes, without bases that it shares with the reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The change, as far left as it goes.
    pub variant: Variant,
    /// POS, REF and ALT as a normalised VCF has them.
    pub spelled: Option<Spelled>,
}

/// All alleles, by their place in the input.
///
/// Memory: 48 bytes an allele. Scratch file: its text, change and scores; 150 bytes an SNV and
/// strand, and the vectors if there are any.
pub struct Ledger {
    scratch: Scratch,
    end: u64,
    entries: Vec<Entry>,
    /// Those that have no rows, and are scored to be compared with.
    background: Range<usize>,
}

struct Entry {
    /// The contig's place in the reference; `None` if it has no such contig.
    contig: Option<u32>,
    status: Status,
    /// Where its parts lie in the scratch file; [`NOWHERE`] if they do not exist.
    allele: u64,
    change: u64,
    scores: [u64; 2],
}

const NOWHERE: u64 = u64::MAX;

impl Ledger {
    /// An empty ledger with its file in `scratch`.
    pub fn create(scratch: &Path) -> Result<Self> {
        Ok(Self {
            scratch: Scratch::create(scratch)?,
            end: 0,
            entries: Vec::new(),
            background: 0..0,
        })
    }

    /// Adds an allele on a contig of the reference, `None` for one that it lacks.
    pub fn push(&mut self, contig: Option<usize>, allele: &Allele) -> Result<()> {
        let allele = self.store(allele)?;
        self.entries.push(Entry {
            contig: contig.and_then(|contig| u32::try_from(contig).ok()),
            status: match contig {
                Some(_) => Status::Ok,
                None => Status::ContigMissing,
            },
            allele,
            change: NOWHERE,
            scores: [NOWHERE; 2],
        });
        Ok(())
    }

    /// The alleles from `first` on are a background: they have no rows.
    pub fn set_background(&mut self, first: usize) {
        self.background = first..self.len();
    }

    /// The alleles of the background.
    pub fn background(&self) -> Range<usize> {
        self.background.clone()
    }

    /// The alleles that have rows.
    pub fn rows(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.background.start).chain(self.background.end..self.len())
    }

    /// How many alleles there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An allele's contig.
    pub fn contig(&self, i: usize) -> Option<usize> {
        self.entries[i].contig.map(|contig| contig as usize)
    }

    /// An allele's status.
    pub fn status(&self, i: usize) -> Status {
        self.entries[i].status
    }

    /// An allele as the input has it.
    pub fn allele(&self, i: usize) -> Result<Allele> {
        self.load(self.entries[i].allele)
    }

    /// What an allele changes; `None` if it is not scored.
    pub fn change(&self, i: usize) -> Result<Option<Change>> {
        self.optional(self.entries[i].change)
    }

    /// Whether an allele is scored.
    pub fn is_scored(&self, i: usize) -> bool {
        self.entries[i].change != NOWHERE
    }

    /// An allele's scores on the forward or the reverse strand.
    pub fn scores(&self, i: usize, reverse: bool) -> Result<Option<Scores>> {
        self.optional(self.entries[i].scores[usize::from(reverse)])
    }

    /// All that is known of an allele.
    ///
    /// # Errors
    /// Io.
    pub fn row(&self, i: usize) -> Result<VariantRow> {
        Ok(VariantRow {
            allele: self.allele(i)?,
            spelled: self.change(i)?.and_then(|change| change.spelled),
            status: self.status(i),
            scores: [self.scores(i, false)?, self.scores(i, true)?],
            quantiles: [None; SCORES.len()],
        })
    }

    /// Takes the scores of a change on a strand, for all alleles that are this change.
    ///
    /// # Errors
    /// Io.
    pub fn take(&mut self, mut entries: Vec<usize>, reverse: bool, scores: &Scores) -> Result<()> {
        entries.sort_unstable();
        for &i in entries.iter().skip(1) {
            if self.status(i) == Status::Ok {
                self.set_status(i, Status::Duplicate);
            }
        }
        self.set_scores(&entries, reverse, scores)
    }

    /// How many alleles with rows have each status.
    pub fn statuses(&self) -> BTreeMap<&'static str, u64> {
        let mut statuses = BTreeMap::new();
        for i in self.rows() {
            *statuses.entry(self.status(i).name()).or_default() += 1;
        }
        statuses
    }

    pub(super) fn set_status(&mut self, i: usize, status: Status) {
        self.entries[i].status = status;
    }

    pub(super) fn set_change(&mut self, i: usize, change: &Change) -> Result<()> {
        self.entries[i].change = self.store(change)?;
        Ok(())
    }

    /// Stores the scores of several alleles that are the same change.
    fn set_scores(&mut self, of: &[usize], reverse: bool, scores: &Scores) -> Result<()> {
        let at = self.store(scores)?;
        for &i in of {
            self.entries[i].scores[usize::from(reverse)] = at;
        }
        Ok(())
    }

    /// The length of a part, then the part.
    fn store(&mut self, part: &impl Serialize) -> Result<u64> {
        let at = self.end;
        let bytes = postcard::to_stdvec(part).map_err(|error| broken(&error).caused_by(error))?;
        let mut block = (bytes.len() as u64).to_le_bytes().to_vec();
        block.extend(bytes);
        self.scratch.write(at, &block)?;
        self.end += block.len() as u64;
        Ok(at)
    }

    fn load<T: DeserializeOwned>(&self, at: u64) -> Result<T> {
        let mut length = [0; 8];
        self.scratch.read(at, &mut length)?;
        let length = u64::from_le_bytes(length);
        if length > self.end - at {
            return Err(broken(&"a part is longer than the file"));
        }
        let mut bytes = vec![0; length as usize];
        self.scratch.read(at + 8, &mut bytes)?;
        postcard::from_bytes(&bytes).map_err(|error| broken(&error).caused_by(error))
    }

    fn optional<T: DeserializeOwned>(&self, at: u64) -> Result<Option<T>> {
        (at != NOWHERE).then(|| self.load(at)).transpose()
    }
}

fn broken(error: &dyn std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("scratch file of variants: {error}"))
}
