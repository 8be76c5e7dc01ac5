//! Parquet of any program, with columns of strings, numbers and truth values.

use crate::error::{Error, Kind, Result};
use crate::io::chunks::Chunks;
use crate::io::panics::contain;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Rows that can be read once.
pub struct Rows {
    builder: ParquetRecordBatchReaderBuilder<Chunks>,
    file: Chunks,
    path: PathBuf,
}

/// What Arrow would make of the columns is of no use: strings are strings.
pub fn open(path: &Path) -> Result<(Vec<String>, Rows)> {
    let file = Chunks::open(path)?;
    contain(|| {
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(file.clone(), options);
        let builder = builder.map_err(|error| file.error(path, error))?;
        let fields = builder.schema().fields().iter();
        let names = fields.map(|field| field.name().clone()).collect();
        let path = path.to_path_buf();
        let rows = Rows {
            builder,
            file,
            path,
        };
        Ok((names, rows))
    })
}

/// Gives `take` the cells of these columns, row by row.
pub fn each(
    rows: Rows,
    columns: &[usize],
    take: &mut dyn FnMut(&[&str]) -> Result<(), String>,
) -> Result<()> {
    let Rows {
        builder: rows,
        file,
        path,
    } = rows;
    let damaged = |error| file.error(&path, error);
    contain(|| {
        let mask = ProjectionMask::roots(rows.parquet_schema(), columns.iter().copied());
        let names: Vec<String> = columns
            .iter()
            .map(|&at| rows.schema().field(at).name().clone())
            .collect();
        let batches = rows.with_projection(mask).build().map_err(damaged)?;
        let mut number = 0u64;
        for batch in batches {
            let batch = batch.map_err(|error| damaged(error.into()))?;
            let texts = names.iter().map(|name| texts(&batch, name));
            let texts: Vec<Vec<String>> = texts.collect::<Result<_>>()?;
            for row in 0..batch.num_rows() {
                number += 1;
                let cells: Vec<&str> = texts.iter().map(|all| all[row].as_str()).collect();
                let taken = take(&cells);
                taken.map_err(|what| Error::input(what).place(format!("row {number}")))?;
            }
        }
        Ok(())
    })
}

/// The values of a column as text; empty where there is none.
fn texts(batch: &RecordBatch, name: &str) -> Result<Vec<String>> {
    let column = batch.column_by_name(name);
    let column = column.ok_or_else(|| Error::new(Kind::Internal, "a column of a batch"))?;
    fn numbers<T: ArrowPrimitiveType<Native: Display>>(column: &dyn Array) -> Vec<String> {
        let each = column.as_primitive::<T>().iter();
        each.map(|value| value.map(|value| value.to_string()).unwrap_or_default())
            .collect()
    }
    Ok(match column.data_type() {
        DataType::Utf8 => {
            let each = column.as_string::<i32>().iter();
            each.map(|text| text.unwrap_or_default().to_string())
                .collect()
        }
        DataType::Boolean => {
            let word =
                |value: Option<bool>| value.map_or("", |value| if value { "1" } else { "0" });
            column
                .as_boolean()
                .iter()
                .map(|value| word(value).to_string())
                .collect()
        }
        DataType::Int8 => numbers::<Int8Type>(column),
        DataType::Int16 => numbers::<Int16Type>(column),
        DataType::Int32 => numbers::<Int32Type>(column),
        DataType::Int64 => numbers::<Int64Type>(column),
        DataType::UInt8 => numbers::<UInt8Type>(column),
        DataType::UInt16 => numbers::<UInt16Type>(column),
        DataType::UInt32 => numbers::<UInt32Type>(column),
        DataType::UInt64 => numbers::<UInt64Type>(column),
        DataType::Float32 => numbers::<Float32Type>(column),
        DataType::Float64 => numbers::<Float64Type>(column),
        other => {
            let what = format!("the column {name} holds {other}, not text or numbers");
            return Err(Error::input(what).todo("name other columns"));
        }
    })
}
