//! PyTorch's file: a zip of one pickle, `<root>/data.pkl`, and of raw storages,
//! `<root>/data/<key>`. Entries are only looked up by name; no name becomes a path.

use super::copies::two_copies;
use super::pickle::{Id, Pickle, Value};
use super::safetensors::{Entry, is_pickle_or_zip};
use crate::error::{Error, Result};
use crate::io::read::FirstFailure;
use ::safetensors::Dtype;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

/// The pickle holds names and shapes, not weights; published ones have less than 1 MB.
const MAX_PICKLE: u64 = 1 << 26;

/// An open file and the places of its entries.
pub struct Archive {
    path: PathBuf,
    file: File,
    entries: HashMap<String, StoredBytes>,
    root: String,
}

/// Bytes of an entry, stored as they are.
#[derive(Clone, Copy)]
struct StoredBytes {
    start: u64,
    size: u64,
    crc32: u32,
}

/// A tensor of the pickle: a view of a storage.
#[derive(Clone)]
pub struct View {
    /// Name, type and shape.
    pub entry: Entry,
    place: StoredBytes,
    /// In values, not bytes.
    offset: usize,
    strides: Vec<usize>,
}

impl Archive {
    /// Opens the file and checks every entry's size against the file.
    pub fn open(path: &Path) -> Result<Self> {
        let io = |e: std::io::Error| Error::io(path, &e);
        let wrong = |what: String| Error::model(what).file(path.display());
        let mut file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        let mut start = Vec::new();
        file.by_ref().take(8).read_to_end(&mut start).map_err(io)?;
        if !start.starts_with(b"PK") {
            return Err(if is_pickle_or_zip(&start) {
                wrong("PyTorch's old format, from before 1.6".into())
                    .todo("load it in PyTorch that you trust it with, and torch.save it again")
            } else {
                wrong("not a PyTorch file".into())
                    .todo("files in parts (.pt.part0, …) are concatenated first, with cat")
            });
        }
        let failed = FirstFailure::default();
        let damaged = |e: zip::result::ZipError| match failed.get() {
            Some(io) => Error::io(path, io),
            None => wrong(format!("damaged zip: {e}")).caused_by(e),
        };
        let watched = Watched {
            file: &mut file,
            failed: &failed,
        };
        let mut zip = ZipArchive::new(BufReader::new(watched)).map_err(damaged)?;
        let mut entries = HashMap::new();
        let mut sum = 0u64;
        for index in 0..zip.len() {
            let entry = zip.by_index_raw(index).map_err(damaged)?;
            let name = entry.name().to_string();
            let wrong = |what: &str| wrong(what.into()).place(format!("entry {name}"));
            let place = stored(&entry).map_err(wrong)?;
            sum = sum.saturating_add(place.size);
            let end = place.start.checked_add(place.size);
            if sum > length || end.is_none_or(|end| end > length) {
                return Err(wrong("reaches beyond the file, or overlaps another entry"));
            }
            entries.insert(name, place);
        }
        // The zip crate keeps the last of two entries of one name; Python may read the first.
        let directory = zip.central_directory_start();
        if count_entries(&mut file, directory).map_err(io)? != entries.len() {
            return Err(wrong("two entries have the same name".into()));
        }
        let root = root(&entries).map_err(|what| wrong(what.into()))?;
        let mut archive = Self {
            path: path.to_path_buf(),
            file,
            entries,
            root,
        };
        if let Some(&order) = archive.entries.get(&format!("{}/byteorder", archive.root))
            && archive.bytes(order, 0, order.size.min(6))? != b"little"
        {
            return Err(wrong("big-endian values are not supported".into()));
        }
        Ok(archive)
    }

    /// The bytes of the pickle.
    pub fn pickle(&mut self) -> Result<Vec<u8>> {
        let name = format!("{}/data.pkl", self.root);
        let place = self
            .entries
            .get(&name)
            .copied()
            .ok_or_else(|| self.wrong("no data.pkl"))?;
        if place.size > MAX_PICKLE {
            return Err(self.wrong(&format!(
                "data.pkl has {} bytes, more than {MAX_PICKLE}",
                place.size
            )));
        }
        self.check(place).map_err(|e| e.place("entry data.pkl"))?;
        self.bytes(place, 0, place.size)
    }

    /// The tensors of the state dictionary: the dictionary in the pickle, or its item
    /// `state_dict` (Lightning) or `model_state_dict`. Items that are not tensors are left out; a
    /// second dictionary of the same tensors, such as of their means, is an error.
    pub fn views(&self, pickle: &Pickle) -> Result<BTreeMap<String, View>> {
        let root = pickle.root();
        let inner = ["state_dict", "model_state_dict"].into_iter();
        let inner = inner.filter_map(|key| Some((key, pickle.get(root, key)?)));
        let (place, state) = inner.into_iter().next().unwrap_or(("", root));
        let Value::Dict(items) = state else {
            return Err(self.wrong("the pickle is not a dictionary of tensors"));
        };
        if let (false, Value::Dict(all)) = (place.is_empty(), root) {
            let others = all.iter().filter_map(|(key, value)| match pickle.at(*key) {
                &Value::Text(other) if other != place => Some((other, pickle.at(*value))),
                _ => None,
            });
            let names = tensors(pickle, state);
            for (other, value) in others {
                let theirs = tensors(pickle, value);
                let both = names.intersection(&theirs).count();
                if both > 1 && 2 * both >= names.len().min(theirs.len()) {
                    return Err(two_copies(place, other).file(self.path.display()));
                }
            }
        }
        let mut views = BTreeMap::new();
        for (key, value) in items {
            let &Value::Text(name) = pickle.at(*key) else {
                continue;
            };
            let Some(args) = rebuilt(pickle, *value) else {
                continue;
            };
            let view = self.view(pickle, name, args);
            let view =
                view.map_err(|e| e.file(self.path.display()).place(format!("tensor {name}")))?;
            views.insert(name.to_string(), view);
        }
        if views.is_empty() {
            Err(self.wrong("no tensor in the pickle"))
        } else {
            Ok(views)
        }
    }

    /// A view from the arguments (storage, offset, shape, strides, …) of the call that was to
    /// rebuild it, checked against its storage.
    fn view(&self, pickle: &Pickle, name: &str, args: &[Id]) -> Result<View> {
        let [storage, offset, shape, strides, ..] = args else {
            return Err(Error::model("rebuilt from too few arguments"));
        };
        let numbers = |id: Id| match pickle.at(id) {
            Value::List(items) => items
                .iter()
                .map(|id| number(pickle, *id))
                .collect::<Result<Vec<_>>>(),
            _ => Err(Error::model("a shape that is not a tuple")),
        };
        let offset = number(pickle, *offset)?;
        let (shape, strides) = (numbers(*shape)?, numbers(*strides)?);
        let (place, dtype, length) = self.storage(pickle, *storage)?;
        if !fits(&shape, &strides, offset, length) {
            return Err(Error::model(format!(
                "shape {shape:?} with strides {strides:?} at {offset} reaches beyond its storage of {length} values"
            )));
        }
        let entry = Entry {
            name: name.to_string(),
            dtype,
            shape,
        };
        Ok(View {
            entry,
            place,
            offset,
            strides,
        })
    }

    /// A storage that the pickle names: its bytes, the type of its values, and how many it has.
    fn storage(&self, pickle: &Pickle, id: Id) -> Result<(StoredBytes, Dtype, usize)> {
        let wrong = |what: &str| Error::model(what);
        let Value::Persistent(storage) = pickle.at(id) else {
            return Err(wrong("no storage"));
        };
        let (class, key, length) = match pickle.at(*storage) {
            Value::List(items) => match items[..] {
                [_, class, key, _, length, ..] => (class, key, number(pickle, length)?),
                _ => return Err(wrong("a storage of too few parts")),
            },
            _ => return Err(wrong("a storage that is not a tuple")),
        };
        let dtype = match pickle.at(class) {
            Value::Global("torch", class) => dtype(class),
            _ => None,
        };
        let dtype = dtype.ok_or_else(|| wrong("a storage of an unknown type"))?;
        let &Value::Text(key) = pickle.at(key) else {
            return Err(wrong("a storage without a key"));
        };
        let entry = format!("{}/data/{key}", self.root);
        let place = self.entries.get(&entry).copied();
        let place = place.ok_or_else(|| wrong("its storage is not in the archive"))?;
        let bytes = length.checked_mul(dtype.bitsize() / 8);
        if bytes.map(|bytes| bytes as u64) != Some(place.size) {
            return Err(wrong(&format!(
                "a storage of {length} values of {dtype:?}, but of {} bytes",
                place.size
            )));
        }
        Ok((place, dtype, length))
    }

    /// The view's values in row-major order, little-endian. Memory: the part of the storage that
    /// it spans, and the result.
    pub fn read(&mut self, view: &View) -> Result<Vec<u8>> {
        self.check(view.place)
            .map_err(|e| e.place(format!("tensor {}", view.entry.name)))?;
        let width = view.entry.dtype.bitsize() / 8;
        let shape = &view.entry.shape;
        if shape.contains(&0) {
            return Ok(Vec::new());
        }
        let span = shape
            .iter()
            .zip(&view.strides)
            .map(|(dim, stride)| (dim - 1) * stride)
            .sum::<usize>()
            + 1;
        let bytes = self.bytes(
            view.place,
            (view.offset * width) as u64,
            (span * width) as u64,
        )?;
        let mut dense = 1;
        let contiguous = shape.iter().zip(&view.strides).rev().all(|(dim, stride)| {
            let fits = *dim == 1 || *stride == dense;
            dense *= dim;
            fits
        });
        if contiguous {
            return Ok(bytes);
        }
        let mut out = Vec::with_capacity(view.entry.bytes());
        let (mut index, mut from) = (vec![0; shape.len()], 0);
        loop {
            out.extend_from_slice(&bytes[from * width..(from + 1) * width]);
            // The next index, as an odometer.
            let mut axis = shape.len();
            loop {
                if axis == 0 {
                    return Ok(out);
                }
                axis -= 1;
                index[axis] += 1;
                from += view.strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                from -= index[axis] * view.strides[axis];
                index[axis] = 0;
            }
        }
    }

    /// An error unless the entry has its CRC-32. Zero: PyTorch was told not to compute it.
    fn check(&mut self, place: StoredBytes) -> Result<()> {
        let io = |e: std::io::Error| Error::io(&self.path, &e);
        self.file.seek(SeekFrom::Start(place.start)).map_err(io)?;
        let mut input = self.file.by_ref().take(place.size);
        let (mut crc, mut buffer) = (flate2::Crc::new(), vec![0; 1 << 16]);
        loop {
            match input.read(&mut buffer).map_err(io)? {
                0 => break,
                n => crc.update(&buffer[..n]),
            }
        }
        if place.crc32 == 0 || crc.sum() == place.crc32 {
            Ok(())
        } else {
            Err(self.wrong("its checksum does not match: the file is damaged"))
        }
    }

    fn bytes(&mut self, place: StoredBytes, from: u64, length: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        self.file
            .seek(SeekFrom::Start(place.start + from))
            .and_then(|_| self.file.read_exact(&mut bytes))
            .map_err(|e| Error::io(&self.path, &e))?;
        Ok(bytes)
    }

    fn wrong(&self, what: &str) -> Error {
        Error::model(what).file(self.path.display())
    }
}

/// A file that keeps what the system says: the decoder of zips takes it for damage.
struct Watched<'a> {
    file: &'a mut File,
    failed: &'a FirstFailure,
}

impl Read for Watched<'_> {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(to);
        read.inspect_err(|error| self.failed.note(error))
    }
}

impl Seek for Watched<'_> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        // A damaged file may name places that cannot be: no failure.
        self.file.seek(to)
    }
}

/// Where an entry's bytes are; else what is wrong with it.
fn stored<R: Read>(entry: &ZipFile<R>) -> Result<StoredBytes, &'static str> {
    let name = entry.name();
    if name.starts_with('/') || name.contains('\\') || name.split('/').any(|part| part == "..") {
        return Err("leads out of the archive");
    }
    // PyTorch never compresses, so there is nothing to expand, and no bomb.
    if entry.compression() != CompressionMethod::Stored
        || entry.encrypted()
        || entry.size() != entry.compressed_size()
    {
        return Err("compressed or encrypted, which PyTorch does not do");
    }
    Ok(StoredBytes {
        start: entry.data_start(),
        size: entry.size(),
        crc32: entry.crc32(),
    })
}

/// The folder of the only pickle; else what is wrong.
fn root(entries: &HashMap<String, StoredBytes>) -> Result<String, &'static str> {
    let mut roots = entries
        .keys()
        .filter_map(|name| name.strip_suffix("/data.pkl"));
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root.to_string()),
        (None, _) => Err("a zip, but not PyTorch's: no data.pkl"),
        (Some(_), Some(_)) => Err("two data.pkl"),
    }
}

fn number(pickle: &Pickle, id: Id) -> Result<usize> {
    match pickle.at(id) {
        Value::Int(n) => usize::try_from(*n).map_err(|_| Error::model("a negative size or stride")),
        _ => Err(Error::model("a size that is not a number")),
    }
}

/// Whether a view of this shape lies within a storage of so many values.
fn fits(shape: &[usize], strides: &[usize], offset: usize, length: usize) -> bool {
    let values = shape.iter().try_fold(1usize, |n, dim| n.checked_mul(*dim));
    let end = shape
        .iter()
        .zip(strides)
        .try_fold(offset, |end, (dim, stride)| {
            end.checked_add(dim.saturating_sub(1).checked_mul(*stride)?)
        });
    shape.len() == strides.len()
        && match (values, end) {
            (Some(0), _) => true,
            // A view of more values than its storage has would only be an expanded one.
            (Some(values), Some(end)) => values <= length && end < length,
            _ => false,
        }
}

/// The names of the tensors in a dictionary; none in anything else.
fn tensors<'p>(pickle: &'p Pickle, value: &Value<'p>) -> BTreeSet<&'p str> {
    let Value::Dict(items) = value else {
        return BTreeSet::new();
    };
    let names = items
        .iter()
        .filter_map(|(key, value)| match pickle.at(*key) {
            &Value::Text(name) => rebuilt(pickle, *value).map(|_| name),
            _ => None,
        });
    names.collect()
}

/// The arguments with which a tensor was to be rebuilt; a parameter wraps a tensor.
fn rebuilt<'p>(pickle: &'p Pickle, value: Id) -> Option<&'p [Id]> {
    let mut value = value;
    for _ in 0..2 {
        let Value::Call(callable, args) = pickle.at(value) else {
            return None;
        };
        let Value::List(args) = pickle.at(*args) else {
            return None;
        };
        match pickle.at(*callable) {
            Value::Global("torch._utils", "_rebuild_tensor_v2") => return Some(args),
            Value::Global("torch._utils", "_rebuild_parameter") => value = *args.first()?,
            _ => return None,
        }
    }
    None
}

fn dtype(class: &str) -> Option<Dtype> {
    Some(match class {
        "DoubleStorage" => Dtype::F64,
        "FloatStorage" => Dtype::F32,
        "HalfStorage" => Dtype::F16,
        "BFloat16Storage" => Dtype::BF16,
        "LongStorage" => Dtype::I64,
        "IntStorage" => Dtype::I32,
        "ShortStorage" => Dtype::I16,
        "CharStorage" => Dtype::I8,
        "ByteStorage" => Dtype::U8,
        "BoolStorage" => Dtype::BOOL,
        _ => return None,
    })
}

/// Entries in the zip's central directory (APPNOTE 4.3.12).
fn count_entries(file: &mut File, start: u64) -> std::io::Result<usize> {
    file.seek(SeekFrom::Start(start))?;
    let mut input = BufReader::new(file);
    let (mut count, mut header) = (0, [0; 46]);
    loop {
        match input.read_exact(&mut header) {
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => return Err(error),
            read if read.is_err() || !header.starts_with(b"PK\x01\x02") => return Ok(count),
            _ => {}
        }
        let length = |at: usize| i64::from(u16::from_le_bytes([header[at], header[at + 1]]));
        input.seek_relative(length(28) + length(30) + length(32))?;
        count += 1;
    }
}
