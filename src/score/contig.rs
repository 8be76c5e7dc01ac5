//! The bases of the contig at work, read from either strand.

use crate::error::{Error, Result};
use crate::io::genome::{Genome, Sequence};
use crate::io::spill::Spill;
use crate::sequence::allele::Variant;
use crate::sequence::{complement, reverse_complement};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bases of a page, of which one is in memory.
const PAGE: u64 = 1 << 16;

/// A contig in a scratch file, one byte a base. Memory: a page.
pub struct Contig {
    /// Its name.
    pub name: String,
    /// Its length in bases.
    pub length: u64,
    bases: Spill,
    page: Mutex<Page>,
}

#[derive(Default)]
struct Page {
    start: u64,
    codes: Vec<u8>,
    failed: Option<Error>,
}

impl Contig {
    /// Reads all of the genome's current sequence, which is a whole contig.
    pub fn read(genome: &mut Genome, sequence: Sequence, scratch: &Path) -> Result<Arc<Self>> {
        let mut bases = Spill::create(scratch)?;
        let mut block = Vec::new();
        while genome.read_bases(&mut block, PAGE as usize)? > 0 {
            bases.push(&block)?;
            block.clear();
        }
        Ok(Arc::new(Self {
            name: sequence.name,
            length: bases.bytes(),
            bases,
            page: Mutex::default(),
        }))
    }

    /// The contig as one of its strands reads.
    pub fn strand(self: &Arc<Self>, reverse: bool) -> ContigStrand {
        ContigStrand {
            contig: Arc::clone(self),
            reverse,
        }
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, position: u64) -> Option<u8> {
        if position >= self.length {
            return None;
        }
        let mut page = self.page();
        let start = position / PAGE * PAGE;
        if page.codes.is_empty() || page.start != start {
            let len = PAGE.min(self.length - start) as usize;
            match self.bases.read(start, len) {
                Ok(codes) => (page.start, page.codes) = (start, codes),
                Err(error) => {
                    page.codes.clear();
                    page.failed = Some(error);
                    return None;
                }
            }
        }
        page.codes.get((position - start) as usize).copied()
    }
}

/// One strand of a contig; positions count from its own start.
#[derive(Clone)]
pub struct ContigStrand {
    contig: Arc<Contig>,
    /// The reverse complement is read, from the contig's right end.
    pub reverse: bool,
}

impl ContigStrand {
    /// The strand's length.
    pub fn length(&self) -> u64 {
        self.contig.length
    }

    /// The contig's name.
    pub fn name(&self) -> &str {
        &self.contig.name
    }

    /// The base code at a position; `None` beyond the end, and after a failure to read, of which
    /// [`Self::check`] tells.
    pub fn at(&self, position: u64) -> Option<u8> {
        if !self.reverse {
            return self.contig.at(position);
        }
        let mirrored = self.contig.length.checked_sub(position + 1)?;
        self.contig.at(mirrored).map(complement)
    }

    /// Fails if [`Self::at`] could not read.
    pub fn check(&self) -> Result<()> {
        let failed = self.contig.page().failed.take();
        failed.map_or(Ok(()), Err)
    }

    /// The base codes of a range that lies within the strand.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>> {
        let len = (range.end - range.start) as usize;
        if !self.reverse {
            return self.contig.bases.read(range.start, len);
        }
        let mut codes = self
            .contig
            .bases
            .read(self.contig.length - range.end, len)?;
        reverse_complement(&mut codes);
        Ok(codes)
    }

    /// A variant of the forward strand as this strand has it, as far left as it goes here: what
    /// it would be if this strand were the reference.
    pub fn variant(&self, forward: Variant) -> Variant {
        if !self.reverse {
            return forward;
        }
        let turned = |mut codes: Vec<u8>| {
            reverse_complement(&mut codes);
            codes
        };
        Variant {
            start: self.contig.length - forward.end(),
            reference: turned(forward.reference),
            alternate: turned(forward.alternate),
        }
        .normalise(|position| self.at(position))
    }
}
