//! Bases that a record writes as `=`: those of the reference, which the file does not hold.

use super::record::{Placed, Record};
use super::{Options, Reference};
use crate::error::{Error, Result};
use crate::io::indexed::Indexed;
use crate::sequence::Contig;
use crate::sequence::region::Span;
use std::path::PathBuf;

/// Finds them. Memory: the reference's index, and the bases of one alignment.
pub struct LeftOut {
    path: Option<PathBuf>,
    allow_missing_eof: bool,
    /// The reference, once a record has asked for it.
    fasta: Option<Indexed>,
}

impl LeftOut {
    pub fn new(options: &Options) -> Self {
        Self {
            path: options.reference.clone(),
            allow_missing_eof: options.allow_missing_eof,
            fasta: None,
        }
    }

    /// Gives `record` the bases that it leaves out.
    ///
    /// # Errors
    /// Input, when there is no reference, it lacks the contig, or has it in another length; what
    /// [`Reference::indexed`] and reading say.
    pub fn find(&mut self, record: &mut Record, contigs: &[Contig]) -> Result<()> {
        let Placed::At { contig, start, end } = record.placed(contigs) else {
            record.resolve_bases(&[]);
            return Ok(());
        };
        let Contig { name, length } = &contigs[contig];
        let fasta = match (&mut self.fasta, &self.path) {
            (Some(fasta), _) => fasta,
            (None, Some(path)) => {
                let fasta = Reference::indexed(path, self.allow_missing_eof)?;
                self.fasta.insert(fasta)
            }
            (None, None) => {
                let what = "bases are written as '=': they are the reference's";
                return Err(Error::input(what).todo("give it with --reference"));
            }
        };
        let found = fasta.contigs().iter().position(|c| c.name == *name);
        let Some(contig) = found else {
            return Err(Error::input(format!("the reference has no \"{name}\"")));
        };
        let bases = fasta.contigs()[contig].length;
        if bases != *length {
            let what = format!("the reference is another: {name} has {bases} bases, not {length}");
            return Err(Error::input(what));
        }
        fasta.seek(Span { contig, start, end })?;
        let mut codes = Vec::new();
        while fasta.read_bases(&mut codes, 1 << 16)? > 0 {}
        record.resolve_bases(&codes);
        Ok(())
    }
}
