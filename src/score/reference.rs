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
                let mut genome = Genome::open(path, options)?;
                while genome.next_sequence()?.is_some() {}
                (false, genome.finished_contigs().to_vec())
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
    pub fn each(
        &self,
        entries: &[Vec<usize>],
        scratch: &Path,
        mut f: impl FnMut(&Contig, &[usize]) -> Result<()>,
    ) -> Result<()> {
        let wanted = self.contigs.iter().zip(entries);
        let wanted: HashMap<&str, &[usize]> = wanted
            .filter(|(contig, entries)| !entries.is_empty() && contig.length > 0)
            .map(|(contig, entries)| (contig.name.as_str(), entries.as_slice()))
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let regions = self.contigs.iter();
        // Without an index all of the file is read anyway.
        let wanted_here = |contig: &&sequence::Contig| wanted.contains_key(contig.name.as_str());
        let regions = regions.filter(|contig| self.indexed && wanted_here(contig));
        let regions = regions.map(|contig| {
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
        let mut genome = Genome::open(&self.path, options)?;
        while let Some(sequence) = genome.next_sequence()? {
            if let Some(&entries) = wanted.get(sequence.name.as_str()) {
                let contig = Contig::read(&mut genome, sequence, scratch)?;
                f(&contig, entries)?;
            }
        }
        Ok(())
    }
}
