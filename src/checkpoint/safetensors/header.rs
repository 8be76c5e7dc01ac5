//! The header of a safetensors file: names, types, shapes and places of its tensors.

use crate::error::{Error, Kind, Result};
use crate::io::sha256::Summing;
use safetensors::Dtype;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use sha2::Digest;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, Read};

/// The specification's limit.
const MAX_HEADER: u64 = 100_000_000;

/// What the header says of one tensor.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its full name.
    pub name: String,
    /// The type of its values as stored.
    pub dtype: Dtype,
    /// Its shape; row-major.
    pub shape: Vec<usize>,
}

impl Entry {
    /// Bytes of its values. Those of entries that were read from a header fit in the file.
    pub fn bytes(&self) -> usize {
        checked_bytes(self.dtype, &self.shape).unwrap_or(usize::MAX)
    }
}

fn checked_bytes(dtype: Dtype, shape: &[usize]) -> Option<usize> {
    let width = dtype.bitsize();
    let values = shape
        .iter()
        .try_fold(1usize, |n, &dim| n.checked_mul(dim))?;
    let bits = values.checked_mul(width)?;
    bits.is_multiple_of(8).then_some(bits / 8)
}

/// Reads the header of a file of `length` bytes: the entries in the order of their data, which
/// covers the rest of the file without hole or overlap.
pub(super) fn read_header(
    input: &mut impl Read,
    length: u64,
    sum: Option<&Summing>,
) -> Result<Vec<Entry>> {
    let header = read_text(input, length, sum)?;
    let text = std::str::from_utf8(&header)
        .map_err(|e| wrong(format!("is not UTF-8: {e}")).caused_by(e))?;
    let Header(mut found) = serde_json::from_str(text)
        .map_err(|e| wrong(format!("is not a valid table of tensors: {e}")).caused_by(e))?;
    found.sort_by_key(|(_, raw)| raw.data_offsets);
    let room = length - 8 - header.len() as u64;
    let mut end = 0;
    for (name, raw) in &found {
        let place = |error: Error| error.place(format!("tensor {name}"));
        end = raw.follow(end, room).map_err(place)?;
    }
    let trailing = room - end;
    if trailing > 0 {
        return Err(wrong(format!("{trailing} bytes follow the last tensor")));
    }
    let entries = found.into_iter().map(|(name, raw)| Entry {
        name,
        dtype: raw.dtype,
        shape: raw.shape,
    });
    Ok(entries.collect())
}

fn wrong(what: String) -> Error {
    Error::model(what).place("header")
}

/// The bytes of the header, after its length.
fn read_text(input: &mut impl Read, length: u64, sum: Option<&Summing>) -> Result<Vec<u8>> {
    let mut start = [0; 9];
    let read = |input: &mut dyn Read, into: &mut [u8]| {
        input.read_exact(into).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                wrong(format!("the file ends in it, after {length} bytes")).caused_by(e)
            }
            _ => Error::because(Kind::Io, e),
        })
    };
    read(input, &mut start)?;
    let [eight @ .., first] = start;
    let size = u64::from_le_bytes(eight);
    if first != b'{' && is_pickle_or_zip(&start) {
        return Err(Error::usage("not safetensors, but a PyTorch pickle")
            .todo("use crocuta models convert"));
    }
    if !(2..=MAX_HEADER).contains(&size) {
        return Err(wrong(format!(
            "says that it is {size} bytes long, but from 2 to {MAX_HEADER} can be"
        )));
    }
    if size > length - 8 {
        return Err(wrong(format!(
            "says that it is {size} bytes long, but the file has {length}"
        )));
    }
    if first != b'{' {
        return Err(wrong("does not begin with '{'".into()));
    }
    let mut header = vec![first; usize::try_from(size).unwrap_or(usize::MAX)];
    read(input, &mut header[1..])?;
    if let Some(sum) = sum {
        let header = header.clone();
        sum.add(move |sum| {
            sum.update(eight);
            sum.update(header);
        });
    }
    Ok(header)
}

/// Does the file begin as a zip (torch since 1.6) or a pickle (torch before)?
pub fn is_pickle_or_zip(start: &[u8]) -> bool {
    start.starts_with(b"PK\x03\x04")
        || start.starts_with(b"PK\x05\x06")
        || matches!(start, [0x80, 2..=5, ..])
}

/// The header's entries in the order of writing.
struct Header(Vec<(String, Raw)>);

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl Raw {
    /// Where this tensor's data ends, if it follows what ends at `end`, in `room` bytes of data.
    fn follow(&self, end: u64, room: u64) -> Result<u64> {
        let (from, to) = self.data_offsets;
        if from < end {
            return Err(Error::model(format!(
                "its data from byte {from} overlaps the one before, which ends at {end}"
            )));
        }
        if from > end {
            let hole = from - end;
            return Err(Error::model(format!(
                "a hole of {hole} bytes lies before its data"
            )));
        }
        let (shape, dtype) = (&self.shape, self.dtype);
        let bytes = checked_bytes(dtype, shape)
            .ok_or_else(|| Error::model(format!("shape {shape:?} of {dtype:?} overflows")))?;
        if to < from || to - from != bytes as u64 {
            return Err(Error::model(format!(
                "shape {shape:?} of {dtype:?} is {bytes} bytes, but its data runs from {from} to {to}"
            )));
        }
        if to > room {
            let what = format!("its data ends at byte {to}, behind the end of the file");
            return Err(Error::model(what).todo("the file is truncated; fetch it again"));
        }
        Ok(to)
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut seen = BTreeSet::new();
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("duplicate tensor {name}")));
                    }
                    let named = |e| A::Error::custom(format!("tensor {name}: {e}"));
                    if name == "__metadata__" {
                        map.next_value::<BTreeMap<String, String>>()
                            .map_err(named)?;
                    } else {
                        let raw = map.next_value().map_err(named)?;
                        entries.push((name, raw));
                    }
                }
                Ok(Header(entries))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file on a disk that fails.
    struct Failing;

    impl Read for Failing {
        fn read(&mut self, _to: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(libc::EIO))
        }
    }

    #[test]
    fn a_disk_that_fails_is_not_called_a_damaged_header() {
        let failed = read_text(&mut Failing, 100, None).unwrap_err();
        assert_eq!(failed.kind(), Kind::Io, "{failed}");
        let cut = read_text(&mut &b"12345"[..], 100, None).unwrap_err();
        assert_eq!(cut.kind(), Kind::Model, "{cut}");
    }
}
