//! The safetensors format, read strictly: what the specification forbids is an error here, also
//! where the reference crate lets it pass (leading space, duplicate names, unknown fields).
//!
//! Files are read, never mapped: a mapped file that another process truncates is a SIGBUS.

use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::Dtype;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

/// The specification's limit.
const MAX_HEADER: u64 = 100_000_000;

/// Reads every tensor of the file at `path` into `tensors`, on the CPU with its stored type, and
/// returns the file's SHA-256. Memory: the tensors, and one of them twice.
pub fn read(path: &Path, tensors: &mut BTreeMap<String, Tensor>, sum: &mut Sha256) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let length = file.metadata().map_err(|e| Error::io(path, &e))?.len();
    read_from(BufReader::new(file), length, path, tensors, sum)
}

/// As [`read`], from `input` with `length` bytes to come; `path` is its name in messages.
pub fn read_from(
    mut input: impl Read,
    length: u64,
    path: &Path,
    tensors: &mut BTreeMap<String, Tensor>,
    sum: &mut Sha256,
) -> Result<()> {
    let entries = read_header(&mut input, length, sum).map_err(|e| e.file(path.display()))?;
    for entry in entries {
        let wrong = |what: String| {
            Error::model(what)
                .file(path.display())
                .place(format!("tensor {}", entry.name))
        };
        let dtype = candle_type(entry.dtype).ok_or_else(|| {
            wrong(format!(
                "values of type {:?} are not supported",
                entry.dtype
            ))
        })?;
        // The header was checked against the file's length, so this is at most that.
        let mut bytes = vec![0; entry.bytes()];
        input.read_exact(&mut bytes).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                wrong("the file became shorter while it was read".into()).caused_by(e)
            }
            _ => Error::io(path, &e),
        })?;
        sum.update(&bytes);
        let tensor = Tensor::from_raw_buffer(&bytes, dtype, &entry.shape, &Device::Cpu)?;
        if tensors.contains_key(&entry.name) {
            return Err(wrong("stands in two files".into()));
        }
        tensors.insert(entry.name, tensor);
    }
    Ok(())
}

/// Writes a file at `path`: `data` gives each entry's little-endian bytes, in any order of names.
/// Laid out as the reference writer does, by falling width of the values, then by name; fsynced.
/// Memory: one tensor. Returns the SHA-256 in hex.
pub fn write(
    path: &Path,
    mut entries: Vec<Entry>,
    mut data: impl FnMut(&Entry) -> Result<Vec<u8>>,
) -> Result<String> {
    entries.sort_by(|a, b| (b.dtype.bitsize(), &a.name).cmp(&(a.dtype.bitsize(), &b.name)));
    let mut header = serde_json::Map::new();
    // transformers refuses a file that does not name its framework.
    header.insert("__metadata__".into(), serde_json::json!({ "format": "pt" }));
    let mut end = 0;
    for entry in &entries {
        let start = end;
        end += entry.bytes();
        header.insert(
            entry.name.clone(),
            serde_json::json!({ "dtype": entry.dtype, "shape": entry.shape, "data_offsets": [start, end] }),
        );
    }
    let mut header = serde_json::Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');

    let io = |e: std::io::Error| Error::io(path, &e);
    let mut out = BufWriter::new(File::create(path).map_err(io)?);
    let mut sum = Sha256::new();
    let mut put = |bytes: &[u8]| {
        sum.update(bytes);
        out.write_all(bytes).map_err(io)
    };
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    for entry in &entries {
        let bytes = data(entry)?;
        if bytes.len() != entry.bytes() {
            let what = format!(
                "tensor {}: {} bytes for {:?}",
                entry.name,
                bytes.len(),
                entry.shape
            );
            return Err(Error::new(crate::error::Kind::Internal, what));
        }
        put(&bytes)?;
    }
    let file = out.into_inner().map_err(|e| Error::io(path, e.error()))?;
    file.sync_all().map_err(io)?;
    Ok(hex(sum))
}

/// The SHA-256 of a file in hex, as `sha256sum` prints it.
pub fn digest(path: &Path) -> Result<String> {
    let mut sum = Sha256::new();
    File::open(path)
        .and_then(|mut file| std::io::copy(&mut file, &mut sum))
        .map_err(|e| Error::io(path, &e))?;
    Ok(hex(sum))
}

/// The SHA-256 of some bytes in hex.
pub fn digest_of(bytes: &[u8]) -> String {
    hex(Sha256::new_with_prefix(bytes))
}

/// A digest in lower-case hexadecimal.
pub fn hex(sum: Sha256) -> String {
    sum.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

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

/// The type that tensors have in memory; truth values are bytes there.
fn candle_type(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::U8 | Dtype::BOOL => DType::U8,
        _ => return None,
    })
}

/// Reads the header of a file of `length` bytes: the entries in the order of their data, which
/// covers the rest of the file without hole or overlap.
fn read_header(input: &mut impl Read, length: u64, sum: &mut Sha256) -> Result<Vec<Entry>> {
    let wrong = |what: String| Error::model(what).place("header");
    let mut start = [0; 9];
    let read = |input: &mut dyn Read, into: &mut [u8]| {
        input
            .read_exact(into)
            .map_err(|e| wrong(format!("the file ends in it, after {length} bytes")).caused_by(e))
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
    sum.update(eight);
    sum.update(&header);
    let text = std::str::from_utf8(&header)
        .map_err(|e| wrong(format!("is not UTF-8: {e}")).caused_by(e))?;
    let Header(mut found) = serde_json::from_str(text)
        .map_err(|e| wrong(format!("is not a valid table of tensors: {e}")).caused_by(e))?;

    found.sort_by_key(|(_, raw)| raw.data_offsets);
    let mut end = 0;
    for (name, raw) in &found {
        let wrong = |what: String| Error::model(what).place(format!("tensor {name}"));
        let (from, to) = raw.data_offsets;
        match from.cmp(&end) {
            std::cmp::Ordering::Less => {
                return Err(wrong(format!(
                    "its data from byte {from} overlaps the one before, which ends at {end}"
                )));
            }
            std::cmp::Ordering::Greater => {
                return Err(wrong(format!(
                    "a hole of {} bytes lies before its data",
                    from - end
                )));
            }
            std::cmp::Ordering::Equal => {}
        }
        let bytes = checked_bytes(raw.dtype, &raw.shape).ok_or_else(|| {
            wrong(format!(
                "shape {:?} of {:?} overflows",
                raw.shape, raw.dtype
            ))
        })?;
        if to < from || (to - from) != bytes as u64 {
            let what = format!("shape {:?} of {:?} is {bytes} bytes", raw.shape, raw.dtype);
            return Err(wrong(format!(
                "{what}, but its data runs from {from} to {to}"
            )));
        }
        end = to;
        if end > length - 8 - size {
            return Err(wrong(format!(
                "its data ends at byte {end}, behind the end of the file"
            ))
            .todo("the file is truncated; fetch it again"));
        }
    }
    let trailing = length - 8 - size - end;
    if trailing > 0 {
        return Err(wrong(format!("{trailing} bytes follow the last tensor")));
    }
    Ok(found
        .into_iter()
        .map(|(name, raw)| Entry {
            name,
            dtype: raw.dtype,
            shape: raw.shape,
        })
        .collect())
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
    use crate::error::Kind;

    fn file(header: &[u8], data: &[u8]) -> Vec<u8> {
        [&(header.len() as u64).to_le_bytes(), header, data].concat()
    }

    fn open(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        std::fs::write(&path, bytes).unwrap();
        let mut tensors = BTreeMap::new();
        read(&path, &mut tensors, &mut Sha256::new())?;
        Ok(tensors)
    }

    #[track_caller]
    fn refused(bytes: &[u8], words: &[&str]) {
        let error = open(bytes).unwrap_err();
        assert_eq!(error.kind(), Kind::Model, "{error}");
        for word in words {
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    const ONE: &str = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;

    #[test]
    fn every_type_of_value_is_read() {
        for (dtype, width, expected) in [
            ("F64", 8, DType::F64),
            ("F32", 4, DType::F32),
            ("F16", 2, DType::F16),
            ("BF16", 2, DType::BF16),
            ("I64", 8, DType::I64),
            ("U8", 1, DType::U8),
            ("BOOL", 1, DType::U8),
        ] {
            let header = format!(
                r#"{{"a":{{"dtype":"{dtype}","shape":[3],"data_offsets":[0,{}]}}}}"#,
                3 * width
            );
            let tensors = open(&file(header.as_bytes(), &vec![0; 3 * width])).unwrap();
            assert_eq!(
                (tensors["a"].dtype(), tensors["a"].dims()),
                (expected, &[3][..])
            );
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let entries = vec![
            Entry {
                name: "half".into(),
                dtype: Dtype::F16,
                shape: vec![3],
            },
            Entry {
                name: "wide".into(),
                dtype: Dtype::F32,
                shape: vec![1, 2],
            },
        ];
        let digest = write(&path, entries, |entry| Ok(vec![0; entry.bytes()])).unwrap();
        let (mut tensors, mut sum) = (BTreeMap::new(), Sha256::new());
        read(&path, &mut tensors, &mut sum).unwrap();
        assert_eq!(hex(sum), digest);
        let mut whole = Sha256::new();
        whole.update(std::fs::read(&path).unwrap());
        assert_eq!(hex(whole), digest);
        assert_eq!(tensors["wide"].dims(), [1, 2]);
        assert!(safetensors::SafeTensors::deserialize(&std::fs::read(&path).unwrap()).is_ok());
    }

    #[test]
    fn a_damaged_header_is_an_error() {
        refused(b"", &["header"]);
        refused(&[1, 0, 0], &["header"]);
        refused(&file(b"", b""), &["header"]);
        refused(&file(b"", b"123456789"), &["header"]);
        refused(&file(b" {}", b""), &["header", "'{'"]);
        refused(&file(b"{\xff}", b""), &["header", "UTF-8"]);
        refused(&file(b"{nonsense", b""), &["header"]);
        refused(&file(b"{}x", b""), &["header"]);
        refused(
            &[&1000u64.to_le_bytes()[..], b"{}"].concat(),
            &["header", "1000"],
        );
        refused(
            &[&100_000_001u64.to_le_bytes()[..], b"{}"].concat(),
            &["header"],
        );
        refused(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat(), &["header"]);
        let nested = "{\"a\":".repeat(100_000);
        refused(&file(nested.as_bytes(), b""), &["header"]);
    }

    #[test]
    fn data_that_does_not_tile_the_file_is_an_error() {
        let two = |from: i64, to: i64| {
            format!(
                r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"b":{{"dtype":"F32","shape":[1],"data_offsets":[{from},{to}]}}}}"#
            )
        };
        assert!(open(&file(two(8, 12).as_bytes(), &[0; 12])).is_ok());
        refused(
            &file(two(4, 8).as_bytes(), &[0; 12]),
            &["tensor b", "overlap"],
        );
        refused(
            &file(two(12, 16).as_bytes(), &[0; 16]),
            &["tensor b", "hole"],
        );
        refused(&file(two(-4, 8).as_bytes(), &[0; 12]), &["tensor b"]);
        refused(
            &file(two(8, 16).as_bytes(), &[0; 16]),
            &["tensor b", "4 bytes"],
        );
        refused(&file(two(8, 4).as_bytes(), &[0; 16]), &["tensor b"]);
        refused(&file(ONE.as_bytes(), &[0; 9]), &["1 bytes follow"]);
        refused(&file(ONE.as_bytes(), &[0; 7]), &["tensor a", "truncated"]);
        for shape in ["4611686018427387904,4", "18446744073709551615", "-1", "1.5"] {
            let header =
                format!(r#"{{"a":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,8]}}}}"#);
            refused(&file(header.as_bytes(), &[0; 8]), &["tensor a"]);
        }
    }

    #[test]
    fn duplicate_names_unknown_fields_and_types_are_errors() {
        let entry = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
        refused(
            &file(format!("{{{entry},{entry}}}").as_bytes(), &[0; 8]),
            &["duplicate tensor a"],
        );
        refused(
            &file(
                ONE.replace("\"shape\"", "\"x\":1,\"shape\"").as_bytes(),
                &[0; 8],
            ),
            &["tensor a"],
        );
        refused(
            &file(ONE.replace("F32", "F33").as_bytes(), &[0; 8]),
            &["tensor a"],
        );
        refused(
            &file(
                ONE.replace("F32", "C64").replace("[2]", "[1]").as_bytes(),
                &[0; 8],
            ),
            &["tensor a", "C64"],
        );
    }

    #[test]
    fn a_pickle_under_another_name_is_refused_with_the_way_out() {
        for start in [
            &b"PK\x03\x04\x00\x00\x00\x00\x08\x08\x00"[..],
            b"\x80\x02}q\x00(X\x04\x00\x00\x00",
        ] {
            let error = open(start).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(
                error.to_string().contains("crocuta models convert"),
                "{error}"
            );
        }
    }

    #[test]
    fn every_cut_and_every_flipped_bit_of_the_header_is_an_error_or_a_model_never_a_panic() {
        let good = file(ONE.as_bytes(), &[0; 8]);
        for end in 0..good.len() {
            assert!(open(&good[..end]).is_err());
        }
        for bit in 0..(good.len() - 8) * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let _ = open(&bad);
        }
    }
}
