//! SHA-256 digests, in lower-case hexadecimal as `sha256sum` prints them.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

/// That of a file.
///
/// # Errors
/// Io.
pub fn digest(path: &Path) -> Result<String> {
    let digest = File::open(path).and_then(digest_from);
    digest.map_err(|e| Error::io(path, &e))
}

/// That of all that is read.
///
/// # Errors
/// The reader's.
pub fn digest_from(reader: impl Read) -> io::Result<String> {
    let mut sum = Sha256::new();
    io::copy(&mut BufReader::with_capacity(1 << 20, reader), &mut sum)?;
    Ok(hex(&sum.finalize()))
}

/// That of some bytes.
pub fn digest_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
