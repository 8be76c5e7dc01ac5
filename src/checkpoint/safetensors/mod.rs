//! The safetensors format, read strictly: what the specification forbids is an error here, also
//! where the reference crate lets it pass (leading space, duplicate names, unknown fields).
//!
//! Files are read, never mapped: a mapped file that another process truncates is a SIGBUS.

mod header;
#[cfg(test)]
mod tests;

pub use header::{Entry, is_pickle_or_zip};

use crate::error::{Error, Result};
use crate::io::sha256::{Summing, hex};
use crate::ops::unwritten;
use bytemuck::{cast_slice, cast_slice_mut};
use candle_core::{CpuStorage, Device, Storage, Tensor, WithDType};
use half::{bf16, f16};
use header::read_header;
use rayon::prelude::*;
use safetensors::Dtype;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes that a thread reads at a time.
const BLOCK: usize = 1 << 23;

/// Reads every tensor of the file at `path` into `tensors`, on the CPU with its stored type, on all
/// threads. The file's bytes are added to `sum`. Memory: the tensors, and the bytes of those of int8
/// until they are summed up.
pub fn read(
    path: &Path,
    tensors: &mut BTreeMap<String, Tensor>,
    sum: Option<&Summing>,
) -> Result<()> {
    let file = File::open(path).map_err(|e| Error::io(path, &e))?;
    let length = file.metadata().map_err(|e| Error::io(path, &e))?.len();
    let entries = read_header(&mut BufReader::new(&file), length, sum);
    let entries = entries.map_err(|e| e.file(path.display()))?;
    let read = |at, bytes: &mut [u8]| {
        let blocks = bytes.par_chunks_mut(BLOCK).enumerate();
        blocks.try_for_each(|(i, block)| file.read_exact_at(block, at + (i * BLOCK) as u64))
    };
    read_tensors(entries, length, read, path, tensors, sum)
}

/// As [`read`], of a file that is in memory; `path` is its name in messages.
pub fn read_from(bytes: &[u8], path: &Path, tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let length = bytes.len() as u64;
    let entries = read_header(&mut &bytes[..], length, None);
    let entries = entries.map_err(|e| e.file(path.display()))?;
    let read = |at, into: &mut [u8]| bytes.get(at as usize..).unwrap_or(&[]).read_exact(into);
    read_tensors(entries, length, read, path, tensors, None)
}

/// The tensors that the header of a file of `length` bytes lists; `read` reads what lies at a place.
fn read_tensors(
    entries: Vec<Entry>,
    length: u64,
    read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
    path: &Path,
    tensors: &mut BTreeMap<String, Tensor>,
    sum: Option<&Summing>,
) -> Result<()> {
    // Their data is the rest of the file.
    let data: u64 = entries.iter().map(|entry| entry.bytes() as u64).sum();
    let mut at = length - data;
    for entry in entries {
        let wrong = |what: String| {
            Error::model(what)
                .file(path.display())
                .place(format!("tensor {}", entry.name))
        };
        let fill = |bytes: &mut [u8]| {
            read(at, bytes).map_err(|e| match e.kind() {
                io::ErrorKind::UnexpectedEof => {
                    wrong("the file became shorter while it was read".into()).caused_by(e)
                }
                _ => Error::io(path, &e),
            })
        };
        // candle has no int8.
        let tensor = if entry.dtype == Dtype::I8 {
            let mut bytes = vec![0; entry.bytes()];
            fill(&mut bytes)?;
            let wide: Vec<i16> = bytes.iter().map(|&b| b.cast_signed().into()).collect();
            if let Some(sum) = sum {
                sum.add(move |sum| sum.update(bytes));
            }
            Tensor::from_vec(wide, &*entry.shape, &Device::Cpu)?
        } else {
            let tensor = values(entry.dtype, &entry.shape, fill)?.ok_or_else(|| {
                let dtype = entry.dtype;
                wrong(format!("values of type {dtype:?} are not supported"))
            })?;
            if let Some(sum) = sum {
                let tensor = tensor.clone();
                sum.add(move |sum| add(sum, &tensor));
            }
            tensor
        };
        at += entry.bytes() as u64;
        if tensors.contains_key(&entry.name) {
            return Err(wrong("stands in two files".into()));
        }
        tensors.insert(entry.name, tensor);
    }
    Ok(())
}

/// A tensor of which `fill` gives the little-endian bytes, where there is one of this type; truth
/// values are bytes.
fn values(
    dtype: Dtype,
    shape: &[usize],
    fill: impl Fn(&mut [u8]) -> Result<()>,
) -> Result<Option<Tensor>> {
    Ok(Some(match dtype {
        Dtype::F64 => filled::<f64>(shape, fill)?,
        Dtype::F32 => filled::<f32>(shape, fill)?,
        Dtype::F16 => filled::<f16>(shape, fill)?,
        Dtype::BF16 => filled::<bf16>(shape, fill)?,
        Dtype::I64 => filled::<i64>(shape, fill)?,
        Dtype::I32 => filled::<i32>(shape, fill)?,
        Dtype::I16 => filled::<i16>(shape, fill)?,
        Dtype::U32 => filled::<u32>(shape, fill)?,
        Dtype::U8 | Dtype::BOOL => filled::<u8>(shape, fill)?,
        _ => return Ok(None),
    }))
}

fn filled<T: WithDType + bytemuck::Pod>(
    shape: &[usize],
    fill: impl Fn(&mut [u8]) -> Result<()>,
) -> Result<Tensor> {
    let mut values: Vec<T> = unwritten(shape.iter().product());
    fill(cast_slice_mut(&mut values))?;
    Ok(Tensor::from_vec(values, shape, &Device::Cpu)?)
}

/// Gives `sum` the bytes of what [`values`] made.
fn add(sum: &mut Sha256, tensor: &Tensor) {
    let (storage, _) = tensor.storage_and_layout();
    if let Storage::Cpu(storage) = &*storage {
        sum.update(match storage {
            CpuStorage::U8(values) => values,
            CpuStorage::I16(values) => cast_slice(values),
            CpuStorage::U32(values) => cast_slice(values),
            CpuStorage::I32(values) => cast_slice(values),
            CpuStorage::I64(values) => cast_slice(values),
            CpuStorage::F16(values) => cast_slice(values),
            CpuStorage::BF16(values) => cast_slice(values),
            CpuStorage::F32(values) => cast_slice(values),
            CpuStorage::F64(values) => cast_slice(values),
            _ => &[],
        });
    }
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
