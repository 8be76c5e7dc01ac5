//! Matrices of whole numbers with a scale a row: half the bytes of float16.
//!
//! A value is the number times its row's scale. The numbers are stored as int8 under the tensor's
//! own name, the scales as float32 under that name and `_scale`, in the same shape but for the last
//! axis, which has length 1. Between file and model the numbers are i16: candle has no int8.

use crate::error::{Error, Result};
use candle_core::{D, DType, Tensor};
use std::collections::BTreeMap;

/// Of a shorter row the scale takes too much of what the numbers save.
const SHORTEST_ROW: usize = 64;

/// HyenaDNA's filters are sines of what these networks give, which multiply what is rounded.
const FILTER_NETWORKS: &str = ".implicit_filter.";

/// What to store for the tensor, by names: numbers and scales, or its values as float16 where int8
/// would cost accuracy or save little.
pub fn int8(name: &str, tensor: &Tensor) -> Result<Vec<(String, Tensor)>> {
    if tensor.dim(D::Minus1)? < SHORTEST_ROW || name.contains(FILTER_NETWORKS) {
        return Ok(vec![(name.to_string(), tensor.to_dtype(DType::F16)?)]);
    }
    let values = tensor.to_dtype(DType::F32)?;
    let scales = (values.abs()?.max_keepdim(D::Minus1)? / 127.0)?;
    // The numbers of a row of zeros are zero, whatever they are divided by.
    let divisors = scales.maximum(f64::from(f32::from_bits(1)))?;
    let numbers = values.broadcast_div(&divisors)?.round()?;
    let numbers = numbers.clamp(-127f32, 127f32)?.to_dtype(DType::I16)?;
    Ok(vec![(name.to_string(), numbers), (scale_of(name), scales)])
}

/// Replaces numbers and their scales by the values that they stand for, in float32.
pub(super) fn widen(tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let names: Vec<String> = tensors.keys().cloned().collect();
    for name in names {
        let scale = scale_of(&name);
        let (Some(numbers), Some(scales)) = (tensors.get(&name), tensors.get(&scale)) else {
            continue;
        };
        if numbers.dtype() != DType::I16 {
            continue;
        }
        let mut expected = numbers.dims().to_vec();
        if let Some(row) = expected.last_mut() {
            *row = 1;
        }
        if scales.dims() != expected || !scales.dtype().is_float() {
            let what = format!(
                "{:?} of type {:?}, but the scales of {:?} whole numbers are floating-point, {expected:?}",
                scales.dims(),
                scales.dtype(),
                numbers.dims(),
            );
            return Err(Error::model(what).place(format!("tensor {scale}")));
        }
        let scales = scales.to_dtype(DType::F32)?;
        let values = numbers.to_dtype(DType::F32)?.broadcast_mul(&scales)?;
        tensors.remove(&scale);
        tensors.insert(name, values);
    }
    Ok(())
}

/// The name of the scales of the tensor with that name.
pub(super) fn scale_of(name: &str) -> String {
    format!("{name}_scale")
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn restored(tensor: &Tensor) -> Vec<Vec<f32>> {
        let mut tensors = int8("a.weight", tensor).unwrap().into_iter().collect();
        widen(&mut tensors).unwrap();
        assert_eq!(tensors.keys().collect::<Vec<_>>(), ["a.weight"]);
        let values = tensors["a.weight"].to_dtype(DType::F32).unwrap();
        values.to_vec2().unwrap()
    }

    #[test]
    fn every_value_is_kept_within_half_a_step_of_its_own_row() {
        let row = |largest: f32| (0..100).map(move |i| largest * (1.0 - 0.0213 * i as f32));
        for largest in [0.0, 1e-30, 1e-6, 1.0, 3e7] {
            let rows = [row(1.0), row(largest)].map(|row| row.collect::<Vec<f32>>());
            let tensor = Tensor::new(rows.to_vec(), &Device::Cpu).unwrap();
            for (values, kept) in rows.iter().zip(restored(&tensor)) {
                let largest = values.iter().fold(0f32, |most, x| most.max(x.abs()));
                let step = largest / 127.0;
                for (value, kept) in values.iter().zip(kept) {
                    assert!((value - kept).abs() <= 0.5001 * step, "{value} {kept}");
                }
            }
        }
    }

    #[test]
    fn what_was_int8_once_is_the_same_when_it_is_stored_so_again() {
        let tensor = Tensor::randn(0f32, 0.1, (40, 64), &Device::Cpu).unwrap();
        let once = restored(&tensor);
        let again = restored(&Tensor::new(once.clone(), &Device::Cpu).unwrap());
        for (a, b) in once.iter().flatten().zip(again.iter().flatten()) {
            assert!((a - b).abs() <= 2.0 * a.abs() * f32::EPSILON, "{a} {b}");
        }
    }

    #[test]
    fn short_rows_and_the_networks_of_filters_are_kept_as_float16() {
        for (name, columns) in [("a.weight", 63), ("m.implicit_filter.2.weight", 64)] {
            let tensor = Tensor::ones((2, columns), DType::F32, &Device::Cpu).unwrap();
            let stored = int8(name, &tensor).unwrap();
            assert_eq!(stored.len(), 1);
            assert_eq!(stored[0].1.dtype(), DType::F16);
        }
    }

    #[test]
    fn scales_of_another_shape_or_type_are_an_error_that_names_them() {
        let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
        for scales in [
            zeros(&[2], DType::F32),
            zeros(&[3, 1], DType::F32),
            zeros(&[2, 1], DType::I64),
            zeros(&[], DType::F32),
        ] {
            let mut tensors = BTreeMap::from([
                ("a.weight".to_string(), zeros(&[2, 3], DType::I16)),
                ("a.weight_scale".to_string(), scales),
            ]);
            let error = widen(&mut tensors).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Model);
            assert!(
                error.to_string().contains("tensor a.weight_scale: "),
                "{error}"
            );
        }
    }
}
