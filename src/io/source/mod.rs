//! Where an input's bytes come from: a file of this machine, or one that lies elsewhere and is
//! named by a URL. The one place that decides which; what reads a URL is in `remote.rs`, of the
//! feature `htslib`.

#[cfg(feature = "htslib")]
mod remote;

use super::read;
use super::sha256;
use crate::error::{Error, Kind, Result};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// How the name of a file begins that lies elsewhere.
const SCHEMES: [&str; 8] = [
    "https://",
    "http://",
    "s3://",
    "s3+https://",
    "s3+http://",
    "gs://",
    "gs+https://",
    "gs+http://",
];

/// Of a remote file, so many bytes of its beginning and of its end stand for its content.
const ENDS: u64 = 1 << 20;

/// An open input.
pub enum Source {
    /// A file, FIFO or device of this machine.
    Local(File),
    /// A file that lies elsewhere.
    #[cfg(feature = "htslib")]
    Remote(Box<remote::Remote>),
}

/// Whether a path is a URL of a file that lies elsewhere.
pub fn is_remote(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    SCHEMES
        .iter()
        .any(|scheme| text.starts_with(scheme.as_bytes()))
}

/// A path as messages and footers have it: of a URL without its query, which may hold a key.
pub fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    match text.split_once('?') {
        Some((address, _)) if is_remote(path) => address.to_string(),
        _ => text,
    }
}

/// The path of an index: `extension`, with its dot, is appended, to a URL before its query.
pub fn beside(path: &Path, extension: &str) -> PathBuf {
    before_query(path, |path| {
        let mut name = path.as_os_str().to_os_string();
        name.push(extension);
        PathBuf::from(name)
    })
}

/// The path of an index that is called as its file but for `extension`, without its dot.
pub fn with_extension(path: &Path, extension: &str) -> PathBuf {
    before_query(path, |path| path.with_extension(extension))
}

/// A path that `change` was made to; of a URL, to what stands before its query.
fn before_query(path: &Path, change: impl Fn(&Path) -> PathBuf) -> PathBuf {
    let text = path.to_str().filter(|_| is_remote(path));
    match text.and_then(|text| text.split_once('?')) {
        Some((address, query)) => {
            let mut changed = change(Path::new(address)).into_os_string();
            changed.push(format!("?{query}"));
            PathBuf::from(changed)
        }
        None => change(path),
    }
}

/// Whether `path` can be read twice: a regular file, or one that lies elsewhere. A pipe, stdin and
/// what is not there cannot.
///
/// # Errors
/// Io: the system does not say what is there.
pub fn can_be_read_again(path: &Path) -> Result<bool> {
    Ok(is_remote(path) || is_file(path)?)
}

/// Whether a regular file of this machine is there.
///
/// # Errors
/// Io: the system does not say what is there. A disk that fails has not lost the file.
pub fn is_file(path: &Path) -> Result<bool> {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    match std::fs::metadata(path) {
        Ok(found) => Ok(found.is_file()),
        Err(error) => match error.kind() {
            NotFound | NotADirectory | InvalidFilename => Ok(false),
            _ => Err(Error::io(path, &error)),
        },
    }
}

/// Whether a file is there; of a remote one, whether it can be opened. Of what the system does not
/// speak, opening says why.
pub fn exists(path: &Path) -> bool {
    if is_remote(path) {
        Source::open(path).is_ok()
    } else {
        path.try_exists().unwrap_or(true)
    }
}

/// What stands for the content of a remote file without reading all of it: its size, and the
/// SHA-256 of its first and last MiB. `None` of a server that states no size or gives no ranges. A
/// change in between that keeps the size is not seen.
///
/// # Errors
/// Io, when it cannot be read.
pub fn stamp(path: &Path) -> Result<Option<String>> {
    let mut source = Source::open(path)?;
    let Some(size) = source.size()? else {
        return Ok(None);
    };
    let ends = || {
        let mut bytes = Vec::new();
        (&mut source).take(ENDS).read_to_end(&mut bytes)?;
        source.seek(SeekFrom::Start(size.saturating_sub(ENDS)))?;
        (&mut source).take(ENDS).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = { ends }().map_err(|error| read::error(error).file(shown(path)))?;
    Ok(Some(format!(
        "{size} bytes, ends {}",
        sha256::digest_of(&bytes)
    )))
}

/// Finds the certificates of the system for `https://`. To be called before there are threads.
#[cfg(feature = "htslib")]
pub fn find_certificates() {
    remote::find_certificates();
}

impl Source {
    /// Opens a path or a URL.
    ///
    /// # Errors
    /// Io, when it cannot be opened; Usage, for a URL in a build without the feature `htslib`.
    pub fn open(path: &Path) -> Result<Self> {
        if is_remote(path) {
            return Self::remote(path);
        }
        let file = File::open(path).map_err(|error| Error::io(path, &error))?;
        Ok(Self::Local(file))
    }

    #[cfg(feature = "htslib")]
    fn remote(path: &Path) -> Result<Self> {
        let remote = remote::Remote::open(path).map_err(|error| error.file(shown(path)))?;
        Ok(Self::Remote(Box::new(remote)))
    }

    #[cfg(not(feature = "htslib"))]
    fn remote(path: &Path) -> Result<Self> {
        let what = "this program was built without remote files, which the feature htslib reads";
        let todo = "cargo install crocuta --features htslib, or fetch the file and its index first";
        Err(Error::usage(what).file(shown(path)).todo(todo))
    }

    /// Its size in bytes; `None` for what can be read once only: pipes, and remote files whose
    /// server states no size or gives no ranges.
    ///
    /// # Errors
    /// Io.
    pub fn size(&self) -> Result<Option<u64>> {
        match self {
            Self::Local(file) => {
                let about = file.metadata();
                let about = about.map_err(|error| Error::because(Kind::Io, error))?;
                Ok(about.is_file().then_some(about.len()))
            }
            #[cfg(feature = "htslib")]
            Self::Remote(remote) => Ok(remote.size()),
        }
    }
}

impl Read for Source {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Local(file) => file.read(out),
            #[cfg(feature = "htslib")]
            Self::Remote(remote) => remote.read(out),
        }
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::Local(file) => file.seek(to),
            #[cfg(feature = "htslib")]
            Self::Remote(remote) => remote.seek(to),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_no_path_and_its_index_stands_before_its_query() {
        for url in ["https://a/b.bam", "http://a/b", "s3://a/b", "gs://a/b"] {
            assert!(is_remote(Path::new(url)), "{url}");
        }
        for path in ["/https://a", "https:/a", "ftp://a/b", "a.bam", "s3:", ""] {
            assert!(!is_remote(Path::new(path)), "{path}");
        }
        let signed = Path::new("https://a/b.bam?key=1&to=x.y");
        assert_eq!(
            beside(signed, ".bai"),
            Path::new("https://a/b.bam.bai?key=1&to=x.y")
        );
        assert_eq!(
            with_extension(signed, "bai"),
            Path::new("https://a/b.bai?key=1&to=x.y")
        );
        assert_eq!(shown(signed), "https://a/b.bam");
        let file = Path::new("why?.bam");
        assert_eq!(beside(file, ".bai"), Path::new("why?.bam.bai"));
        assert_eq!(shown(file), "why?.bam");
    }

    #[cfg(not(feature = "htslib"))]
    #[test]
    fn a_build_without_htslib_says_which_build_reads_a_url() {
        let error = Source::open(Path::new("https://a/b.bam?key=secret"))
            .err()
            .unwrap();
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        assert!(message.contains("--features htslib"), "{message}");
        assert!(!message.contains("secret"), "{message}");
    }
}
