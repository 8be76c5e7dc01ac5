//! The reference that a CRAM file was written against, contig by contig, held to its MD5.

use super::super::header::Header;
use crate::error::{Error, Result};
use crate::io::indexed::{Access, Indexed};
use crate::io::input::Input;
use md5::{Digest, Md5};
use noodles::fasta;
use noodles::fasta::record::{Definition, Sequence};
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Contigs are forgotten once so many bases are held.
const HELD: u64 = 600_000_000;

/// Ns that stand behind each contig for the decoder: reads may reach beyond its end.
pub(super) const BEYOND: usize = 1 << 20;

/// The letters of a contig out of those that the decoder has.
pub(super) fn within(letters: &[u8]) -> &[u8] {
    &letters[..letters.len().saturating_sub(BEYOND)]
}

/// A FASTA file with its index, or none.
///
/// Memory: contigs of 600 million bases together, at most, and the one that is added last.
#[derive(Clone)]
pub struct Reference {
    path: Option<PathBuf>,
    fasta: Option<Arc<Mutex<Indexed>>>,
    /// MD5 and length of contigs, as the CRAM's header has them.
    expected: HashMap<String, (Option<String>, u64)>,
    held: Arc<AtomicU64>,
    /// No base is taken from it, though the decoder asks for it.
    unneeded: bool,
}

impl Reference {
    /// Opens `path`; without one, only CRAM that needs no reference can be read.
    ///
    /// # Errors
    /// Usage, when the file has no index.
    pub fn open(path: Option<&Path>, allow_missing_eof: bool) -> Result<Self> {
        let fasta = path.map(|path| Self::indexed(path, allow_missing_eof));
        let fasta = fasta.transpose()?;
        let fasta = fasta.map(|fasta| Arc::new(Mutex::new(fasta)));
        Ok(Self {
            path: path.map(Path::to_path_buf),
            fasta,
            expected: HashMap::new(),
            held: Arc::default(),
            unneeded: false,
        })
    }

    /// Opens a FASTA file with its index, alone.
    ///
    /// # Errors
    /// Usage, when it has no index.
    pub fn indexed(path: &Path, allow_missing_eof: bool) -> Result<Indexed> {
        let input = Input::open(path, allow_missing_eof)?;
        match Indexed::open(path, &input, allow_missing_eof)? {
            Access::Indexed(fasta) => Ok(*fasta),
            Access::Stream(why) => {
                let what = format!("a reference needs an index: {why}");
                let todo = "bgzip it, then samtools faidx";
                Err(Error::usage(what).file(path.display()).todo(todo))
            }
        }
    }

    /// Held to what `header` says of its contigs.
    pub(super) fn of(mut self, header: &Header) -> Self {
        let md5s = header.values("@SQ", "M5:");
        let contigs = header.contigs.iter().zip(md5s).map(|(contig, md5)| {
            // Some writers leave the field empty.
            let md5 = md5
                .filter(|md5| !md5.is_empty())
                .map(str::to_ascii_lowercase);
            (contig.name.clone(), (md5, contig.length))
        });
        self.expected = contigs.collect();
        self
    }

    /// The same for records that have all their bases: Ns will do.
    pub(super) fn unneeded(&self) -> fasta::Repository {
        fasta::Repository::new(Self {
            unneeded: true,
            ..self.clone()
        })
    }

    pub(super) fn repository(&self) -> fasta::Repository {
        fasta::Repository::new(self.clone())
    }

    /// Drops contigs if too many are held.
    pub(super) fn forget(&self, repositories: [&fasta::Repository; 2]) {
        if self.held.load(Ordering::Relaxed) > HELD {
            repositories.into_iter().for_each(fasta::Repository::clear);
            self.held.store(0, Ordering::Relaxed);
        }
    }

    fn load(&self, name: &str) -> Result<Vec<u8>> {
        let Some(fasta) = &self.fasta else {
            if let (true, Some((_, length))) = (self.unneeded, self.expected.get(name)) {
                self.held.fetch_add(*length, Ordering::Relaxed);
                return Ok(vec![b'N'; *length as usize]);
            }
            let what = format!("CRAM needs its reference to read \"{name}\"");
            return Err(Error::input(what).todo("give it with --reference"));
        };
        let mut fasta = fasta.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path.as_deref().unwrap_or(Path::new(""));
        let wrong = |what: String| {
            let todo = "give the reference that the CRAM was written with";
            Err(Error::input(what).file(path.display()).todo(todo))
        };
        let contig = fasta
            .contigs()
            .iter()
            .position(|contig| contig.name == name);
        let Some(contig) = contig else {
            return wrong(format!("the reference has no \"{name}\""));
        };
        let (length, expected) = (fasta.contigs()[contig].length, self.expected.get(name));
        match expected {
            Some((_, expected)) if *expected > length => tracing::warn!(
                "\"{name}\" has {length} bases in the reference, {expected} in the CRAM: what lies \
                 beyond is N"
            ),
            Some((_, expected)) if *expected != length => {
                return wrong(format!(
                    "\"{name}\" has {length} bases here, {expected} in the CRAM"
                ));
            }
            _ => {}
        }
        let letters = fasta.letters(contig)?;
        if let Some((Some(expected), _)) = expected {
            let md5 = Md5::digest(&letters);
            let md5: String = md5.iter().map(|byte| format!("{byte:02x}")).collect();
            if md5 != *expected {
                return wrong(format!(
                    "\"{name}\" has MD5 {md5} here, {expected} in the CRAM"
                ));
            }
        }
        self.held
            .fetch_add(length + BEYOND as u64, Ordering::Relaxed);
        Ok(letters)
    }
}

impl fasta::repository::Adapter for Reference {
    fn get(&mut self, name: &[u8]) -> Option<io::Result<fasta::Record>> {
        let name = String::from_utf8_lossy(name).into_owned();
        let record = self.load(&name).map(|mut letters| {
            letters.resize(letters.len() + BEYOND, b'N');
            let definition = Definition::new(name, None);
            fasta::Record::new(definition, Sequence::from(letters))
        });
        Some(record.map_err(io::Error::other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::alignments::tests::data;

    #[test]
    fn a_reference_that_is_shorter_than_the_header_says_will_do_unless_a_digest_says_otherwise() {
        let load = |length: u64| {
            let text = format!("@SQ\tSN:17\tLN:{length}\n");
            let reference = Reference::open(Some(&data("ref.fa")), false).unwrap();
            let header = Header::of_text(text).unwrap();
            reference.of(&header).load("17")
        };
        assert_eq!(load(5000).unwrap().len(), 4200);
        let error = load(4000).unwrap_err().to_string();
        assert!(error.contains("has 4200 bases here, 4000"), "{error}");
    }

    #[test]
    fn an_empty_digest_of_a_contig_says_nothing_and_another_one_is_refused() {
        let load = |md5: &str| {
            let text = format!("@SQ\tSN:17\tLN:4200\t{md5}\n");
            let reference = Reference::open(Some(&data("ref.fa")), false).unwrap();
            let header = Header::of_text(text).unwrap();
            reference
                .of(&header)
                .load("17")
                .map(|letters| letters.len())
        };
        assert_eq!(load("M5:").unwrap(), 4200);
        assert_eq!(load("AS:x").unwrap(), 4200);
        let error = load("M5:00").unwrap_err().to_string();
        assert!(error.contains("has MD5"), "{error}");
    }
}
