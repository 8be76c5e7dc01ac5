//! Values in memory, as slices.

use super::{Tensor, Values};
use crate::error::{Error, Kind, Result};
use crate::ops::unwritten;
use candle_core::{CpuStorage, Storage};
use half::bf16;
use rayon::prelude::*;
use std::borrow::Cow;

/// Values of a task that widens.
const WIDENED: usize = 1 << 15;

/// The values of a contiguous tensor as they are held.
#[derive(Clone, Copy)]
pub(crate) enum Held<'a> {
    F32(&'a [f32]),
    /// Of a weight stored so.
    Bf16(&'a [bf16]),
}

impl<'a> Held<'a> {
    /// How many there are.
    pub fn len(self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    /// The values in f32, which is exact.
    pub fn wide(self) -> Cow<'a, [f32]> {
        let narrow = match self {
            Self::F32(values) => return values.into(),
            Self::Bf16(values) => values,
        };
        let mut out = unwritten(narrow.len());
        out.par_chunks_mut(WIDENED)
            .zip(narrow.par_chunks(WIDENED))
            .for_each(|(out, narrow)| {
                for (out, x) in out.iter_mut().zip(narrow) {
                    *out = f32::from(*x);
                }
            });
        out.into()
    }
}

/// Runs `f` on the values of contiguous tensors on the CPU, in f32.
pub(crate) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    with_held(tensors, |held| {
        let wide = held.map(Held::wide);
        f(wide.each_ref().map(|values| &**values))
    })
}

/// The same as they are held.
pub(crate) fn with_held<const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([Held; N]) -> Result<R>,
) -> Result<R> {
    // A weight is in memory wherever it has a copy; a value computed on a GPU is only there.
    let tensors = tensors.map(|tensor| match &tensor.values {
        Values::Cpu(values, _) => Some(values),
        Values::Cuda(_) => None,
    });
    if tensors.iter().any(Option::is_none) {
        return Err(
            Error::usage("the model has a layer that does not run on the GPU yet")
                .todo("run with --device cpu"),
        );
    }
    let mut guards = Vec::with_capacity(N);
    guards.extend(
        tensors
            .iter()
            .flatten()
            .map(|values| values.storage_and_layout()),
    );
    let mut held = [Held::F32(&[]); N];
    for (held, (storage, layout)) in held.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else {
            return Err(Error::new(Kind::Internal, "this op runs on the CPU only"));
        };
        let Some((start, end)) = layout.contiguous_offsets() else {
            return Err(Error::new(Kind::Internal, "a tensor is not contiguous"));
        };
        *held = match storage {
            CpuStorage::BF16(values) => Held::Bf16(&values[start..end]),
            _ => Held::F32(&storage.as_slice::<f32>()?[start..end]),
        };
    }
    f(held)
}
