//! Text on its way to a file: as it is, or BGZF.

use super::atomic::AtomicFile;
use noodles::bgzf;
use std::fmt::{Display, LowerExp};
use std::io::{BufWriter, IntoInnerError, Result, Write};
use std::path::Path;

/// A file of text. Memory: a buffer.
pub enum TextFile {
    /// As it is.
    Plain(BufWriter<AtomicFile>),
    /// In blocks that are compressed.
    Bgzf(bgzf::io::Writer<AtomicFile>),
}

impl TextFile {
    /// Writes to `file`, compressed or not.
    pub fn new(file: AtomicFile, compressed: bool) -> Self {
        if compressed {
            Self::Bgzf(bgzf::io::Writer::new(file))
        } else {
            Self::Plain(BufWriter::with_capacity(1 << 18, file))
        }
    }

    /// Where the next byte will lie; `None` of text that is not compressed.
    pub fn position(&self) -> Option<bgzf::VirtualPosition> {
        match self {
            Self::Plain(_) => None,
            Self::Bgzf(out) => Some(out.virtual_position()),
        }
    }

    /// Writes what is left; the file is still to be finished.
    ///
    /// # Errors
    /// What the file refuses.
    pub fn finish(self) -> Result<AtomicFile> {
        match self {
            Self::Plain(out) => out.into_inner().map_err(IntoInnerError::into_error),
            Self::Bgzf(out) => out.finish(),
        }
    }
}

impl Write for TextFile {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Bgzf(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Bgzf(out) => out.flush(),
        }
    }
}

/// Whether a path's name promises compressed text.
pub fn is_compressed(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| ["gz", "bgz"].contains(&extension))
}

/// Appends a number as the shortest text that reads back the same.
pub fn push_number<T: Copy + Display + LowerExp + Into<f64>>(line: &mut Vec<u8>, value: T) {
    let size: f64 = value.into().abs();
    let text = if size == 0.0 || (1e-4..1e7).contains(&size) || !size.is_finite() {
        value.to_string()
    } else {
        format!("{value:e}")
    };
    line.extend_from_slice(text.as_bytes());
}
