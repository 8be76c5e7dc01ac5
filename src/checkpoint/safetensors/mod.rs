//! The safetensors format, read strictly: what the specification forbids is an error here, also
//! where the reference crate lets it pass (leading space, duplicate names, unknown fields).
//!
//! Files are read, never mapped: a mapped file that another process truncates is a SIGBUS.

mod header;
#[cfg(test)]
mod tests;

pub use header::{Entry, is_pickle_or_zip};

use crate::error::{Error, Result};
use crate::io::sha256::hex;
use candle_core::{DType, Device, Tensor};
use header::read_header;
use safetensors::Dtype;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::Path;

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
        if entry.dtype == Dtype::I8 {
            bytes = bytes
                .iter()
                .flat_map(|&byte| i16::from(byte.cast_signed()).to_le_bytes())
                .collect();
        }
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
///
/// # Errors
/// Those of `data`; Io; Model, without a file: a value would not be a finite number when it is read.
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
        if let Some(place) = not_finite(entry.dtype, &bytes) {
            let error = Error::model(format!("value {place} is not a finite number"));
            return Err(error.place(format!("tensor {}", entry.name)));
        }
        put(&bytes)?;
    }
    let file = out.into_inner().map_err(|e| Error::io(path, e.error()))?;
    file.sync_all().map_err(io)?;
    Ok(hex(&sum.finalize()))
}

/// The place of the first value that is not a finite number, as float32: what is read is that.
fn not_finite(dtype: Dtype, bytes: &[u8]) -> Option<usize> {
    /// Where an exponent of all ones, of values of so many bytes, stands first.
    fn place<const N: usize>(bytes: &[u8], exponent: [u8; 2]) -> Option<usize> {
        let mut values = bytes.as_chunks::<N>().0.iter();
        values.position(|v| [v[N - 2] & exponent[0], v[N - 1] & exponent[1]] == exponent)
    }
    match dtype {
        Dtype::F16 => place::<2>(bytes, [0, 0x7c]),
        Dtype::BF16 => place::<2>(bytes, [0x80, 0x7f]),
        Dtype::F32 => place::<4>(bytes, [0x80, 0x7f]),
        Dtype::F64 => {
            let mut values = bytes.as_chunks().0.iter();
            values.position(|value| !(f64::from_le_bytes(*value) as f32).is_finite())
        }
        _ => None,
    }
}

/// The type that tensors have in memory: truth values are bytes there, and int8 is i16.
fn candle_type(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 | Dtype::I8 => DType::I16,
        Dtype::U32 => DType::U32,
        Dtype::U8 | Dtype::BOOL => DType::U8,
        _ => return None,
    })
}
