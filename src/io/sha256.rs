//! SHA-256 digests, in lower-case hexadecimal as `sha256sum` prints them.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

/// That of a file.
///
/// # Errors
/// Io.
pub fn digest(path: &Path) -> Result<String> {
    let mut sum = Sha256::new();
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let copied = io::copy(&mut BufReader::with_capacity(1 << 20, file), &mut sum);
    copied.map_err(|e| Error::io(path, &e))?;
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
