//! The reference: which contigs it has, and the bases of those that are asked for.

use super::contig::Contig;
use crate::error::{Error, Result};
use crate::io::genome::{Genome, Options};
use crate::io::indexed::{Access, Indexed};
use crate::io::input::{self, Input};
use crate::sequence;
use crate::sequence::region::{Query, Region, TO_END};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A FASTA file that is read more than once.
pub struct Reference {
    path: PathBuf,
    allow_missing_eof: bool,
    /// It can be read at random.
    indexed: bool,
    contigs: Vec<sequence::Contig>,
}

impl Reference {
    /// Opens a FASTA file and finds its contigs: in its index, or by reading all of it.
    pub fn open(path: &Path, allow_missing_eof: bool) -> Result<Self> {
        if input::is_stdin(path) {
            return Err(
                Error::usage("the reference is read more than once").todo("give a file, not stdin")
            );
        }
        let input = Input::open(path, allow_missing_eof)?;
        let (indexed, contigs) = match Indexed::open(path, &input, allow_missing_eof)? {
            Access::Indexed(reader) => (true, reader.contigs().to_vec()),
            Access::Stream(_) => {
                let options = Options {
                    allow_missing_eof,
                    ..Options::default()
                };
                (false, Genome::read_contigs(path, &options)?)
            }
        };
        Ok(Self {
            path: path.to_path_buf(),
            allow_missing_eof,
            indexed,
            contigs,
        })
    }

    /// Its contigs, in its order.
    pub fn contigs(&self) -> &[sequence::Contig] {
        &self.contigs
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads each contig that has entries, in the reference's order.
    ///
    /// Scratch files: a byte for each base of the contig at work.
    ///
    /// # Errors
    /// Those of the reader and of `f`.
    pub fn each(
        &self,
        entries: &[Vec<usize>],
        scratch: &Path,
        mut f: impl FnMut(&Arc<Contig>, &[usize]) -> Result<()>,
    ) -> Result<()> {
        let mut contigs = self.wanted(entries, scratch, 0)?;
        while let Some((contig, place)) = contigs.next_contig()? {
            f(&contig, &entries[place])?;
        }
        Ok(())
    }

    /// The contigs that have entries, in the reference's order, without the first `skipped`.
    ///
    /// # Errors
    /// As [`Genome::open`].
    pub fn wanted(
        &self,
        entries: &[Vec<usize>],
        scratch: &Path,
        skipped: usize,
    ) -> Result<WantedContigs> {
        let places = self.contigs.iter().enumerate().zip(entries);
        let wanted = places.filter(|((_, contig), of)| !of.is_empty() && contig.length > 0);
        let wanted = wanted.map(|((place, contig), _)| (contig.name.clone(), place));
        let wanted: HashMap<String, usize> = wanted.skip(skipped).collect();
        // Without an index all of the file is read anyway.
        let here = |contig: &&sequence::Contig| self.indexed && wanted.contains_key(&contig.name);
        let regions = self.contigs.iter().filter(here).map(|contig| {
            Query::exact(Region {
                contig: contig.name.clone(),
                start: 0,
                end: TO_END,
            })
        });
        let options = Options {
            regions: regions.collect(),
            allow_missing_eof: self.allow_missing_eof,
            ..Options::default()
        };
        let genome = if wanted.is_empty() {
            None
        } else {
            Some(Genome::open(&self.path, options)?)
        };
        Ok(WantedContigs {
            genome,
            wanted,
            scratch: scratch.to_path_buf(),
        })
    }
}

/// Contigs of a reference, of which one is read at a time.
pub struct WantedContigs {
    genome: Option<Genome>,
    /// Their places among all, by name.
    wanted: HashMap<String, usize>,
    scratch: PathBuf,
}

impl WantedContigs {
    /// The next one, with its place among all contigs; `None` after the last.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn next_contig(&mut self) -> Result<Option<(Arc<Contig>, usize)>> {
        let Some(genome) = &mut self.genome else {
            return Ok(None);
        };
        while let Some(sequence) = genome.next_sequence()? {
            if let Some(&place) = self.wanted.get(&sequence.name) {
                let contig = Contig::read(genome, sequence, &self.scratch)?;
                return Ok(Some((contig, place)));
            }
        }
        Ok(None)
    }
}
