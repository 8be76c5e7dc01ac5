//! The sequences that a CRAM was written against, where no reference is given: found by their MD5
//! in `REF_CACHE` and `REF_PATH`, as samtools does. Nothing is written there, and no server is
//! asked that `REF_PATH` does not name.

use crate::error::{Error, Result};
use crate::io::read;
use crate::io::source::{Source, exists, shown};
use md5::{Digest, Md5};
use std::env;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The MD5 of a sequence's letters, as headers have it.
pub fn md5_of(letters: &[u8]) -> String {
    let digest = Md5::digest(letters);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The letters of the sequence with this MD5 and length; `None` if it is in none of the places
/// that the environment names.
///
/// # Errors
/// Input: what is found under its MD5 is another sequence; Io.
pub fn by_md5(md5: &str, length: u64) -> Result<Option<Vec<u8>>> {
    let variable = |name| env::var(name).unwrap_or_default();
    let cache = variable("REF_CACHE");
    let places = [vec![cache], places(&variable("REF_PATH"))].concat();
    let places = places.iter().filter(|place| !place.is_empty());
    let Some(path) = places
        .map(|place| filled(place, md5))
        .find(|path| exists(path))
    else {
        return Ok(None);
    };
    let mut letters = Vec::new();
    let read = Source::open(&path)?
        .take(length + 1)
        .read_to_end(&mut letters);
    read.map_err(|error| read::error(error).file(shown(&path)))?;
    let found = md5_of(&letters);
    if found != md5 {
        let what = format!("the sequence that should have the MD5 {md5} has {found}");
        return Err(Error::input(what)
            .file(shown(&path))
            .todo("remove it there"));
    }
    Ok(Some(letters))
}

/// The file that the field `UR` of a header names.
pub fn path_of(url: &str) -> &Path {
    let path = url.strip_prefix("file:").unwrap_or(url);
    Path::new(
        path.strip_prefix("//")
            .filter(|path| path.starts_with('/'))
            .unwrap_or(path),
    )
}

/// The places of a list that colons separate, but for those within a URL: after its scheme, and
/// before its port.
fn places(list: &str) -> Vec<String> {
    let mut places: Vec<String> = Vec::new();
    for piece in list.split(':') {
        let continues = places.last().is_some_and(|last| {
            let address = last.strip_prefix("URL=").unwrap_or(last);
            let is_scheme = ["http", "https", "s3", "gs"].contains(&address);
            let host = address
                .split_once("://")
                .is_some_and(|(_, host)| !host.contains('/'));
            is_scheme && piece.starts_with("//")
                || host && piece.starts_with(|first: char| first.is_ascii_digit())
        });
        match places.last_mut().filter(|_| continues) {
            Some(last) => *last = format!("{last}:{piece}"),
            None => places.push(piece.to_string()),
        }
    }
    let bare = |place: String| {
        place
            .strip_prefix("URL=")
            .map_or(place.clone(), str::to_string)
    };
    places.into_iter().map(bare).collect()
}

/// A place with the MD5 in it: `%s` stands for what is left of it, `%2s` for the next two
/// characters; a directory is one that says nothing of it.
fn filled(place: &str, md5: &str) -> PathBuf {
    let (mut path, mut left, mut rest) = (String::new(), md5, place);
    let mut named = false;
    while let Some((before, after)) = rest.split_once('%') {
        path += before;
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let Some(next) = after[digits..].strip_prefix('s') else {
            path.push('%');
            rest = after;
            continue;
        };
        let count = after[..digits]
            .parse()
            .unwrap_or(left.len())
            .min(left.len());
        path += &left[..count];
        (left, rest, named) = (&left[count..], next, true);
    }
    path += rest;
    if !named {
        path = format!("{path}/{md5}");
    }
    PathBuf::from(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart_and_filled_as_samtools_does() {
        let list = "/a/%2s/%2s/%s:http://host:8080/md5/%s:URL=https://b/%s:/plain";
        let paths: Vec<_> = places(list)
            .iter()
            .map(|place| filled(place, "0123ab"))
            .collect();
        let expected = [
            "/a/01/23/ab",
            "http://host:8080/md5/0123ab",
            "https://b/0123ab",
            "/plain/0123ab",
        ];
        assert_eq!(paths, expected.map(PathBuf::from));
        assert_eq!(filled("/x%/%s", "é"), PathBuf::from("/x%/é"));
    }

    #[test]
    fn the_file_of_a_ur_is_a_path_with_or_without_its_scheme() {
        for url in ["/a/b.fa", "file:/a/b.fa", "file:///a/b.fa"] {
            assert_eq!(path_of(url), Path::new("/a/b.fa"));
        }
        assert_eq!(path_of("https://a/b.fa"), Path::new("https://a/b.fa"));
    }
}
