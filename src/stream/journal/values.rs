//! Values in the files of a checkpoint.

use crate::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// Writes a value that [`load`] reads.
///
/// # Errors
/// Io.
pub fn store(value: &impl Serialize, file: &mut dyn Write) -> Result<()> {
    let mut file = Watched { file, failed: None };
    let stored = postcard::to_io(value, &mut file).map(drop);
    stored.map_err(|e| match file.failed {
        Some(failed) => Error::because(Kind::Io, failed),
        None => internal(e),
    })
}

/// Reads a value that [`store`] wrote.
///
/// # Errors
/// Io; Input.
pub fn load<T: for<'a> Deserialize<'a>>(file: &mut dyn Read) -> Result<T> {
    let mut file = Watched { file, failed: None };
    let mut buffer = vec![0; 1 << 16];
    let loaded = postcard::from_io((&mut file, &mut buffer)).map(|(value, _)| value);
    loaded.map_err(|e| match file.failed {
        Some(failed) => Error::because(Kind::Io, failed),
        None => Error::input(format!("the checkpoint cannot be read: {e}"))
            .todo("remove the journal's directory to start anew"),
    })
}

/// A file that keeps the error of the system: postcard says only that there was one.
struct Watched<'a, F: ?Sized> {
    file: &'a mut F,
    failed: Option<io::Error>,
}

impl<F: ?Sized> Watched<'_, F> {
    fn keep<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        done.map_err(|error| {
            let kind = error.kind();
            // What is tried again is no failure.
            self.failed = (kind != io::ErrorKind::Interrupted).then_some(error);
            kind.into()
        })
    }
}

impl<F: Write + ?Sized> Write for Watched<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes);
        self.keep(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.file.flush();
        self.keep(flushed)
    }
}

impl<F: Read + ?Sized> Read for Watched<'_, F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(bytes);
        self.keep(read)
    }
}

pub(super) fn internal(error: impl std::fmt::Display) -> Error {
    Error::new(Kind::Internal, format!("journal: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn a_full_disk_is_named_when_a_value_is_stored() {
        let mut full = File::options().write(true).open("/dev/full").unwrap();
        let error = store(&vec![0u8; 9], &mut full).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        assert!(error.to_string().contains("No space left"), "{error}");
    }

    #[test]
    fn what_cannot_be_read_is_not_called_damaged() {
        let mut directory = File::open("/").unwrap();
        let error = load::<Vec<u8>>(&mut directory).unwrap_err();
        assert_eq!(error.kind(), Kind::Io);
        let error = load::<Vec<u8>>(&mut &[9u8, 1][..]).unwrap_err();
        assert_eq!(error.kind(), Kind::Input);
    }
}
