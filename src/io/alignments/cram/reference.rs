//! The reference that a CRAM file was written against, contig by contig, held to its MD5.

use super::super::header::Header;
use super::lookup;
use crate::error::{Error, Result};
use crate::io::indexed::{Access, Indexed};
use crate::io::input::Input;
use crate::io::source::{exists, shown};
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

/// A FASTA file with its index; or none, and then the places that the environment and the CRAM's
/// own header name.
///
/// Memory: contigs of 600 million bases together, at most, and the one that is added last.
#[derive(Clone)]
pub struct Reference {
    path: Option<PathBuf>,
    fasta: Option<Arc<Mutex<Indexed>>>,
    /// What the CRAM's header says of its contigs.
    expected: HashMap<String, Expected>,
    held: Arc<AtomicU64>,
    /// No base is taken from it, though the decoder asks for it.
    unneeded: bool,
}

/// What a header says of a contig.
#[derive(Clone)]
struct Expected {
    md5: Option<String>,
    length: u64,
    /// The FASTA that it came from.
    url: Option<String>,
}

impl Reference {
    /// Opens `path`; without one, contigs are looked up when they are needed.
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
                Err(Error::usage(what).file(shown(path)).todo(todo))
            }
        }
    }

    /// Held to what `header` says of its contigs.
    pub(super) fn of(mut self, header: &Header) -> Self {
        let md5s = header.values("@SQ", "M5:");
        let fields = md5s.zip(header.values("@SQ", "UR:"));
        let contigs = header
            .contigs
            .iter()
            .zip(fields)
            .map(|(contig, (md5, url))| {
                // Some writers leave a field empty.
                let md5 = md5.filter(|md5| !md5.is_empty());
                let expected = Expected {
                    md5: md5.map(str::to_ascii_lowercase),
                    length: contig.length,
                    url: url.filter(|url| !url.is_empty()).map(str::to_string),
                };
                (contig.name.clone(), expected)
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
        if let (true, Some(expected)) = (self.unneeded, self.expected.get(name)) {
            self.held.fetch_add(expected.length, Ordering::Relaxed);
            return Ok(vec![b'N'; expected.length as usize]);
        }
        let Some(fasta) = &self.fasta else {
            return self.look_up(name);
        };
        let mut fasta = fasta.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path.as_deref().unwrap_or(Path::new(""));
        self.of_fasta(&mut fasta, path, name)
    }

    /// A contig from where its MD5 or its `UR` leads to.
    fn look_up(&self, name: &str) -> Result<Vec<u8>> {
        let expected = self.expected.get(name);
        if let Some(Expected {
            md5: Some(md5),
            length,
            ..
        }) = expected
            && let Some(letters) = lookup::by_md5(md5, *length)?
        {
            let held = letters.len() + BEYOND;
            self.held.fetch_add(held as u64, Ordering::Relaxed);
            return Ok(letters);
        }
        let url = expected.and_then(|expected| expected.url.as_deref());
        if let Some(path) = url.map(lookup::path_of).filter(|path| exists(path)) {
            return self.of_fasta(&mut Self::indexed(path, false)?, path, name);
        }
        let what = format!("CRAM needs its reference to read \"{name}\"");
        let todo = "give it with --reference, or name its place in REF_PATH or REF_CACHE";
        Err(Error::input(what).todo(todo))
    }

    /// A contig of a FASTA file.
    fn of_fasta(&self, fasta: &mut Indexed, path: &Path, name: &str) -> Result<Vec<u8>> {
        let wrong = |what: String| {
            let todo = "give the reference that the CRAM was written with";
            Err(Error::input(what).file(shown(path)).todo(todo))
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
            Some(expected) if expected.length > length => tracing::warn!(
                "\"{name}\" has {length} bases in the reference, {} in the CRAM: what lies \
                 beyond is N",
                expected.length
            ),
            Some(expected) if expected.length != length => {
                let expected = expected.length;
                return wrong(format!(
                    "\"{name}\" has {length} bases here, {expected} in the CRAM"
                ));
            }
            _ => {}
        }
        let letters = fasta.letters(contig)?;
        if let Some(expected) = expected.and_then(|expected| expected.md5.as_ref()) {
            let md5 = lookup::md5_of(&letters);
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
    fn records_that_have_all_their_bases_need_no_contig_of_a_reference_that_is_given() {
        let header = Header::of_text("@SQ\tSN:other\tLN:12\n".to_string()).unwrap();
        let mut reference = Reference::open(Some(&data("ref.fa")), false)
            .unwrap()
            .of(&header);
        assert!(reference.load("other").is_err());
        reference.unneeded = true;
        assert_eq!(reference.load("other").unwrap(), [b'N'; 12]);
    }

    #[test]
    fn without_a_reference_a_contig_comes_from_the_fasta_that_the_header_names() {
        let load = |path: &Path| {
            let text = format!("@SQ\tSN:17\tLN:4200\tUR:file:{}\n", path.display());
            let reference = Reference::open(None, false).unwrap();
            reference.of(&Header::of_text(text).unwrap()).load("17")
        };
        let fasta = Reference::open(Some(&data("ref.fa")), false).unwrap();
        assert!(load(&data("ref.fa")).unwrap() == fasta.load("17").unwrap());
        let error = load(&data("none.fa")).unwrap_err().to_string();
        assert!(error.contains("REF_PATH"), "{error}");
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
