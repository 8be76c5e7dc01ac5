//! `SHA256SUMS`: what the files of a model must be, in the lines that `sha256sum` and
//! `crocuta models verify` print.

use crate::error::{Error, Result};
use crate::io::input::without_mark;
use crate::io::sha256;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The file that is held against a model whenever it is opened, if it lies beside its weights.
pub const SUMS: &str = "SHA256SUMS";

/// Far above any real one.
const MAX_BYTES: u64 = 1 << 20;

/// A file of a model, and the SHA-256 of its bytes in hex.
pub type Digested = (PathBuf, String);

/// The digests of files.
pub fn of(files: &[PathBuf]) -> Result<Vec<Digested>> {
    let digested = files
        .iter()
        .map(|path| Ok((path.clone(), sha256::digest(path)?)));
    digested.collect()
}

/// Holds `files` against the digests in the file `sums`: each must be listed, with its own. An
/// error of kind `Model` names the file and both digests.
pub fn check(sums: &Path, files: &[Digested]) -> Result<()> {
    let listed = read(sums)?;
    if listed.is_empty() {
        // What `models verify DIR > DIR/SHA256SUMS` leaves: the shell makes the file first.
        return Err(Error::model("lists no files")
            .file(sums.display())
            .todo("remove it, or write the lines elsewhere and move them here"));
    }
    for (path, found) in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let wrong = |what: String| Err(Error::model(what).file(path.display()));
        let Some(expected) = listed.get(&*name) else {
            return wrong(format!("not listed in {}", sums.display()));
        };
        if found != expected {
            let what = format!(
                "its SHA-256 is {found}, but {} says {expected}",
                sums.display()
            );
            return wrong(what).map_err(|e| e.todo("fetch it again"));
        }
    }
    Ok(())
}

/// Digests in lower case by file name.
fn read(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut text = String::new();
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    if let Err(e) = file.take(MAX_BYTES).read_to_string(&mut text) {
        return Err(Error::io(path, &e));
    }
    let lines = without_mark(&text).lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let entry = |(i, line): (usize, &str)| {
        let (digest, name) = line.split_once(' ').unwrap_or_default();
        // A blank or a star, for text and binary; then perhaps the directory.
        let name = name.strip_prefix([' ', '*']).unwrap_or(name);
        let name = name.strip_prefix("./").unwrap_or(name);
        let hex = digest.len() == 64 && digest.bytes().all(|b| b.is_ascii_hexdigit());
        if hex && !name.is_empty() {
            Ok((name.to_string(), digest.to_ascii_lowercase()))
        } else {
            Err(Error::model("not a SHA-256 and the name of a file")
                .file(path.display())
                .place(format!("line {}", i + 1)))
        }
    };
    lines.map(entry).collect()
}
