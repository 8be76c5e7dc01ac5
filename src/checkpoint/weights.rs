//! Weights by name: the view that an encoder builds itself from.

use crate::error::{Error, Result};
use crate::ops::{self, Device};
use candle_core::{DType, Tensor};
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::sync::{Arc, Mutex};

/// The tensors of a checkpoint, seen below a prefix. Cheap to clone.
///
/// ```
/// # use std::collections::BTreeMap;
/// # use crocuta::checkpoint::Weights;
/// # use candle_core::{DType, Device, Tensor};
/// let bias = Tensor::zeros(4, DType::F32, &Device::Cpu)?;
/// let weights = Weights::new("model", BTreeMap::from([("layers.0.bias".to_string(), bias)]));
/// assert_eq!(weights.at("layers").at(0).tensor("bias", &[4])?.dims(), [4]);
/// assert!(weights.tensor("layers.0.bias", &[5]).is_err());
/// # Ok::<(), crocuta::Error>(())
/// ```
#[derive(Clone)]
pub struct Weights {
    all: Arc<All>,
    prefix: String,
}

struct All {
    /// The file or directory, for messages.
    file: String,
    tensors: BTreeMap<String, Tensor>,
    replaced: BTreeMap<String, ops::Tensor>,
    device: Device,
    /// Matrix products round what they multiply to bf16 on the CPU.
    rounded: bool,
    used: Mutex<BTreeSet<String>>,
    /// Tensors whose values were all found to be finite.
    finite: Arc<Mutex<BTreeSet<String>>>,
}

impl Weights {
    /// The tensors read from `file`, by their full names.
    pub fn new(file: impl Display, tensors: BTreeMap<String, Tensor>) -> Self {
        Self {
            all: Arc::new(All {
                file: file.to_string(),
                tensors,
                replaced: BTreeMap::new(),
                device: Device::Cpu,
                rounded: false,
                used: Mutex::default(),
                finite: Arc::default(),
            }),
            prefix: String::new(),
        }
    }

    /// The same weights to be placed on `device`.
    #[must_use]
    pub fn on(&self, device: &Device) -> Self {
        let placed = (device.clone(), self.all.rounded);
        self.changed(self.all.replaced.clone(), placed)
    }

    /// The same weights for an encoder whose matrix products round to bf16, or do not, where it
    /// runs on the CPU.
    #[must_use]
    pub fn rounding(&self, rounded: bool) -> Self {
        let placed = (self.all.device.clone(), rounded);
        self.changed(self.all.replaced.clone(), placed)
    }

    /// Whether matrix products round on the CPU.
    pub fn rounded(&self) -> bool {
        self.all.rounded
    }

    /// The same weights with other values for those named: what training or an adapter changes.
    /// Names are full ones; the tensors are taken as they are, on whatever device.
    #[must_use]
    pub fn replacing(&self, tensors: BTreeMap<String, ops::Tensor>) -> Self {
        self.changed(tensors, (self.all.device.clone(), self.all.rounded))
    }

    fn changed(
        &self,
        replaced: BTreeMap<String, ops::Tensor>,
        (device, rounded): (Device, bool),
    ) -> Self {
        Self {
            all: Arc::new(All {
                file: self.all.file.clone(),
                tensors: self.all.tensors.clone(),
                replaced,
                device,
                rounded,
                used: Mutex::default(),
                finite: Arc::clone(&self.all.finite),
            }),
            prefix: self.prefix.clone(),
        }
    }

    /// The tensors whose names continue with `name` and a dot.
    #[must_use]
    pub fn at(&self, name: impl Display) -> Self {
        Self {
            all: Arc::clone(&self.all),
            prefix: format!("{}{name}.", self.prefix),
        }
    }

    /// The tensors below the shortest prefix, which may be none, that makes one of `endings` the
    /// name of a tensor: of a model that was saved within another.
    pub fn below(&self, endings: &[&str]) -> Option<Self> {
        let prefix = |name: &str| {
            let rest = name.strip_prefix(&self.prefix)?;
            let matched = endings
                .iter()
                .find_map(|ending| rest.strip_suffix(ending))?;
            let whole = matched.is_empty() || matched.ends_with('.');
            whole.then(|| format!("{}{matched}", self.prefix))
        };
        let prefixes = self.all.tensors.keys().filter_map(|name| prefix(name));
        Some(Self {
            all: Arc::clone(&self.all),
            prefix: prefixes.min_by_key(String::len)?,
        })
    }

    /// Is there a tensor of that name below the prefix?
    pub fn has(&self, name: &str) -> bool {
        self.all.tensors.contains_key(&self.full(name))
    }

    /// The tensor's shape as stored.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.all.tensors.get(&self.full(name)).map(Tensor::dims)
    }

    /// The tensor as f32, contiguous. An error names it if it is missing, has another shape,
    /// holds whole numbers, or a value that is NaN or infinite.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<ops::Tensor> {
        self.found(name, shape, false)
    }

    /// The same for a matrix that products read, [`ops::Linear`]'s: one that is stored in bf16 stays
    /// so in memory, not copied, and products widen it.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Result<ops::Tensor> {
        self.found(name, shape, true)
    }

    /// The tensor as f32, or if it may be `narrow` and is stored so as bf16.
    fn found(&self, name: &str, shape: &[usize], narrow: bool) -> Result<ops::Tensor> {
        let full = self.full(name);
        let found = self.all.tensors.get(&full).ok_or_else(|| {
            self.error(&full, "missing tensor")
                .todo(format!("expected shape {shape:?}"))
        })?;
        if found.dims() != shape {
            return Err(self.error(
                &full,
                format!(
                    "shape {:?}, but the configuration says {shape:?}",
                    found.dims()
                ),
            ));
        }
        if !found.dtype().is_float() {
            let what = format!("type {:?}, but weights are floating-point", found.dtype());
            return Err(self.error(&full, what));
        }
        if let Some(replaced) = self.all.replaced.get(&full) {
            ops::expect_shape(&full, replaced, shape)?;
            self.use_up(full);
            return Ok(replaced.clone());
        }
        let dtype = match found.dtype() {
            DType::BF16 if narrow => DType::BF16,
            _ => DType::F32,
        };
        let tensor = ops::Tensor::from(found.to_dtype(dtype)?.contiguous()?);
        self.expect_finite(&full, &tensor)?;
        self.use_up(full);
        tensor.to_device(&self.all.device)
    }

    /// An error that names the first value that is NaN or infinite. Training asks for the same
    /// tensors at every step: each is looked at once.
    fn expect_finite(&self, name: &str, tensor: &ops::Tensor) -> Result<()> {
        let known = self.all.finite.lock();
        if known.is_ok_and(|known| known.contains(name)) {
            return Ok(());
        }
        let place = ops::with_held([tensor], |[values]| {
            Ok(match values {
                ops::Held::F32(values) => not_finite(values),
                ops::Held::Bf16(values) => not_finite(values),
            })
        })?;
        if let Some(place) = place {
            let what = format!("value {place} is not a finite number");
            let error = self.error(name, what);
            return Err(error.todo("fetch the model again, or train it anew"));
        }
        if let Ok(mut finite) = self.all.finite.lock() {
            finite.insert(name.to_string());
        }
        Ok(())
    }

    /// The whole numbers of the tensor, if there is one; an error if it has another shape.
    pub fn integers(&self, name: &str, shape: &[usize]) -> Result<Option<Vec<i64>>> {
        let full = self.full(name);
        let Some(found) = self.all.tensors.get(&full) else {
            return Ok(None);
        };
        if found.dims() != shape {
            let what = format!("shape {:?}, but expected {shape:?}", found.dims());
            return Err(self.error(&full, what));
        }
        let numbers = found.to_dtype(DType::I64)?.to_vec1()?;
        self.use_up(full);
        Ok(Some(numbers))
    }

    /// Does the tensor hold floating-point numbers?
    pub fn is_float(&self, name: &str) -> bool {
        let found = self.all.tensors.get(&self.full(name));
        found.is_some_and(|tensor| tensor.dtype().is_float())
    }

    fn use_up(&self, name: String) {
        if let Ok(mut used) = self.all.used.lock() {
            used.insert(name);
        }
    }

    /// The tensor, if there is one; an error if it has another shape.
    pub fn optional(&self, name: &str, shape: &[usize]) -> Result<Option<ops::Tensor>> {
        self.has(name).then(|| self.tensor(name, shape)).transpose()
    }

    /// Full names of all tensors that no call of [`Weights::tensor`] has asked for.
    pub fn unused(&self) -> Vec<String> {
        let used = self
            .all
            .used
            .lock()
            .map(|used| used.clone())
            .unwrap_or_default();
        self.all
            .tensors
            .keys()
            .filter(|name| !used.contains(*name))
            .cloned()
            .collect()
    }

    /// Full names of all tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.tensors.keys().map(String::as_str)
    }

    /// All tensors as stored, by their full names.
    pub(crate) fn stored(&self) -> &BTreeMap<String, Tensor> {
        &self.all.tensors
    }

    /// The number of values in all tensors.
    pub fn values(&self) -> usize {
        self.all.tensors.values().map(Tensor::elem_count).sum()
    }

    /// The number of values in tensors whose names have none of these parts: those that belong to
    /// the architecture.
    pub fn parameters(&self, fixed: &[&str]) -> usize {
        let trained = |name: &str| !fixed.iter().any(|part| name.contains(part));
        let tensors = self.all.tensors.iter().filter(|(name, _)| trained(name));
        tensors.map(|(_, tensor)| tensor.elem_count()).sum()
    }

    /// Bytes of all tensors, as they are held.
    pub fn bytes(&self) -> usize {
        let size = |tensor: &Tensor| tensor.elem_count() * tensor.dtype().size_in_bytes();
        self.all.tensors.values().map(size).sum()
    }

    /// An error about the tensor of that full name.
    pub fn error(&self, name: &str, what: impl Display) -> Error {
        Error::model(what)
            .file(&self.all.file)
            .place(format!("tensor {name}"))
    }

    /// The full name of a tensor below the prefix.
    pub fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// The place of the first value that is NaN or infinite.
fn not_finite<T: Copy + Into<f32> + Sync>(values: &[T]) -> Option<usize> {
    const BLOCK: usize = 1 << 16;
    // Zero times a finite number is zero. Sixteen sums, so that the compiler takes vectors.
    let all_finite = |block: &[T]| {
        let mut sums = [0f32; 16];
        let (whole, rest) = block.as_chunks::<16>();
        for values in whole {
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum += (*value).into() * 0.0;
            }
        }
        let rest = rest.iter().map(|&value| value.into());
        rest.chain(sums).all(f32::is_finite)
    };
    let blocks = values.par_chunks(BLOCK);
    let block = blocks.position_first(|block| !all_finite(block))? * BLOCK;
    let mut rest = values[block..].iter();
    let place = rest.position(|&value| !value.into().is_finite());
    place.map(|place| block + place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_that_is_not_finite_is_found_wherever_it_stands() {
        for length in [1, 15, 16, 17, 4096, 200_000] {
            let mut values = vec![f32::MAX; length];
            assert_eq!(not_finite(&values), None);
            for place in [0, length / 3, length - 1] {
                for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                    let good = std::mem::replace(&mut values[place], bad);
                    assert_eq!(not_finite(&values), Some(place));
                    values[place] = good;
                }
            }
        }
        assert_eq!(not_finite::<f32>(&[]), None);
    }

    #[test]
    fn a_matrix_stored_in_bf16_is_not_copied_and_its_values_are_looked_at() {
        let stored = |values: &[f32]| {
            let values: Vec<_> = values.iter().map(|&x| half::bf16::from_f32(x)).collect();
            let tensor = Tensor::from_vec(values, (1, 3), &candle_core::Device::Cpu).unwrap();
            Weights::new("m", BTreeMap::from([("w".to_string(), tensor)]))
        };
        let weights = stored(&[1.0, 0.5, -3.0]);
        let place = |tensor: &Tensor| {
            let (storage, _) = tensor.storage_and_layout();
            match &*storage {
                candle_core::Storage::Cpu(candle_core::CpuStorage::BF16(values)) => values.as_ptr(),
                _ => panic!("not in bf16"),
            }
        };
        let matrix = weights.matrix("w", &[1, 3]).unwrap();
        assert_eq!(
            place(&matrix.stored().unwrap()),
            place(&weights.stored()["w"])
        );
        assert_eq!(matrix.to_vec1::<f32>().unwrap(), [1.0, 0.5, -3.0]);
        let error = stored(&[1.0, 0.5, f32::NAN]).matrix("w", &[1, 3]);
        let error = error.err().unwrap().to_string();
        assert!(error.contains("value 2 is not a finite number"), "{error}");
    }

    #[test]
    fn a_half_precision_value_that_is_infinite_is_an_error_that_names_the_tensor() {
        let values = [1.0f32, f32::INFINITY].map(half::f16::from_f32);
        let tensor = Tensor::new(&values, &candle_core::Device::Cpu).unwrap();
        let weights = Weights::new("m", BTreeMap::from([("a.b".to_string(), tensor)]));
        let error = weights.at("a").tensor("b", &[2]).err().unwrap().to_string();
        assert!(
            error.starts_with("m: tensor a.b: value 1 is not a finite number"),
            "{error}"
        );
    }
}
