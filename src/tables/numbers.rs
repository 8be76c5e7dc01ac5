//! Columns of numbers.

use super::file::TableFile;
use crate::error::{Error, Result};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type, Int32Type, Int64Type, UInt8Type, UInt16Type};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;

/// Gives the number of a row, or none where it is NULL or not a number.
pub type Numbers<'a> = Box<dyn Fn(usize) -> Option<f64> + 'a>;

/// What gives the numbers of a column.
///
/// # Errors
/// Usage: it holds none.
pub fn numbers<'a>(table: &TableFile, batch: &'a RecordBatch, name: &str) -> Result<Numbers<'a>> {
    macro_rules! of {
        ($column:expr, $kind:ty, $number:expr) => {{
            let column = $column.as_primitive::<$kind>();
            Box::new(move |row| {
                let value = column.is_valid(row).then(|| $number(column.value(row)));
                value.filter(|value| !value.is_nan())
            })
        }};
    }
    let none = || {
        let what = format!("the column {name} holds no numbers");
        Error::usage(what).file(table.path.display())
    };
    let column = batch.column_by_name(name).ok_or_else(none)?;
    Ok(match column.data_type() {
        DataType::Float32 => of!(column, Float32Type, f64::from),
        DataType::Float64 => of!(column, Float64Type, f64::from),
        DataType::Int64 => of!(column, Int64Type, |value: i64| value as f64),
        DataType::Int32 => of!(column, Int32Type, f64::from),
        DataType::UInt16 => of!(column, UInt16Type, f64::from),
        DataType::UInt8 => of!(column, UInt8Type, f64::from),
        _ => return Err(none()),
    })
}
