//! The index beside a file that is read as a whole: what the file must have.

use crate::error::{Error, Result};
use crate::io::fai::{Entry, read_fai};
use crate::io::input::{Format, Input};
use crate::io::sequences::Planned;
use crate::io::source::{beside, exists, shown};
use crate::sequence::Contig;
use std::path::{Path, PathBuf};

/// What an index says of a file that is read as a whole.
pub struct Index {
    path: PathBuf,
    contigs: Vec<Contig>,
}

impl Index {
    /// The contigs that the index beside a whole input has, if there is one.
    ///
    /// # Errors
    /// Input: the index is damaged, or reaches beyond the end of plain text.
    pub fn of(path: &Path, input: &Input) -> Result<Option<Self>> {
        let index = beside(path, ".fai");
        let Some(size) = input.size().filter(|_| exists(&index)) else {
            return Ok(None);
        };
        let plain = input.format() == Format::Plain;
        let text_size = if plain { size } else { i64::MAX.unsigned_abs() };
        let contig = |entry: Entry| Contig {
            name: entry.name,
            length: entry.length,
        };
        let entries = read_fai(&index, text_size)?.into_iter();
        Ok(Some(Self {
            path: index,
            contigs: entries.map(contig).collect(),
        }))
    }

    pub fn contigs(&self) -> &[Contig] {
        &self.contigs
    }

    pub fn planned(&self) -> Vec<Planned> {
        let planned = |contig: &Contig| Planned::one(contig.length, 0..contig.length);
        self.contigs.iter().map(planned).collect()
    }

    /// An error unless the file has these contigs, and no others.
    pub fn must_fit(&self, found: &[Contig]) -> Result<()> {
        if self.contigs == found {
            return Ok(());
        }
        let pairs = self.contigs.iter().zip(found);
        let place = pairs.take_while(|(says, has)| says == has).count();
        let named = |contigs: &[Contig]| match contigs.get(place) {
            Some(contig) => format!("\"{}\" of {} bases", contig.name, contig.length),
            None => "no more sequences".to_string(),
        };
        let what = format!(
            "the file does not fit its index {}: sequence {} is {}, and the index has {}",
            shown(&self.path),
            place + 1,
            named(found),
            named(&self.contigs)
        );
        Err(Error::input(what).todo("get the whole file, or make the index anew (samtools faidx)"))
    }
}
