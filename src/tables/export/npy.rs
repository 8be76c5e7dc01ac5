//! The matrix of a vector column as a NumPy array, version 1.0 of its format. A row without a
//! vector is not a number throughout.

use super::put;
use super::rows::Rows;
use crate::error::{Error, Kind, Result};
use arrow_array::Array;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Float32Type};
use arrow_schema::DataType;
use half::f16;
use half::slice::HalfFloatSliceExt;
use std::io::Write;
use std::path::Path;

/// Header and magic are a multiple of so many bytes.
const ALIGNED: usize = 64;

/// Writes the one column of the rows.
pub fn write(rows: &Rows, to: &mut dyn Write, name: &Path) -> Result<()> {
    let vector = rows.fields().first().map(|field| field.data_type().clone());
    let internal = || Error::new(Kind::Internal, "a column of vectors is none");
    let Some(DataType::FixedSizeList(item, dim)) = vector else {
        return Err(internal());
    };
    let half = *item.data_type() == DataType::Float16;
    let kind = if half { "<f2" } else { "<f4" };
    put(to, &header(kind, rows.count()?, dim as usize), name)?;
    rows.each(|columns| {
        let column = columns.first().ok_or_else(internal)?;
        let vectors = column.as_fixed_size_list();
        let dim = vectors.value_length() as usize;
        let gaps = (0..vectors.len()).filter(|row| vectors.is_null(*row));
        if half {
            let mut values = vectors
                .values()
                .as_primitive::<Float16Type>()
                .values()
                .to_vec();
            gaps.for_each(|row| values[row * dim..][..dim].fill(f16::NAN));
            put(
                to,
                bytemuck::cast_slice(values.as_slice().reinterpret_cast()),
                name,
            )
        } else {
            let mut values = vectors
                .values()
                .as_primitive::<Float32Type>()
                .values()
                .to_vec();
            gaps.for_each(|row| values[row * dim..][..dim].fill(f32::NAN));
            put(to, bytemuck::cast_slice(&values), name)
        }
    })
}

fn header(kind: &str, rows: u64, dim: usize) -> Vec<u8> {
    let mut text =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    // Magic, version, the text's length and its end of line.
    let before = 6 + 2 + 2;
    let blanks = (before + text.len() + 1).next_multiple_of(ALIGNED) - (before + text.len() + 1);
    text.extend(std::iter::repeat_n(' ', blanks));
    text.push('\n');
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [
        b"\x93NUMPY\x01\x00",
        &length.to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}
