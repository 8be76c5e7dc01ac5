//! How columns are encoded, and their rows as arrays.

use super::columns::{ColumnKind, ColumnSpec, Values};
use super::mismatch;
use crate::error::Result;
use crate::io::compression::Compression;
use crate::io::vector::Element;
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, DictionaryArray, FixedSizeListArray, Float16Array, Float32Array, Float64Array,
    Int32Array, Int64Array, StringArray, UInt8Array, UInt16Array,
};
use arrow_buffer::NullBuffer;
use arrow_schema::{DataType, Field};
use parquet::basic::Encoding;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use std::sync::Arc;

/// Names of reads that a row group's bloom filter is made for.
const BLOOM_ROWS: u64 = 1 << 16;

pub fn properties(columns: &[ColumnSpec], compression: Compression) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_created_by(format!("crocuta version {}", env!("CARGO_PKG_VERSION")))
        .set_compression(compression.of_scalars())
        .set_statistics_enabled(EnabledStatistics::Chunk);
    for column in columns {
        let path = || ColumnPath::from(column.name.as_str());
        match column.kind {
            ColumnKind::I64 | ColumnKind::OptionalI64 | ColumnKind::I32 => {
                builder = builder
                    .set_column_dictionary_enabled(path(), false)
                    .set_column_encoding(path(), Encoding::DELTA_BINARY_PACKED);
            }
            ColumnKind::F32
            | ColumnKind::OptionalF32
            | ColumnKind::OptionalF64
            | ColumnKind::Text => {
                builder = builder.set_column_dictionary_enabled(path(), false);
            }
            ColumnKind::Words
            | ColumnKind::OptionalWords
            | ColumnKind::U8
            | ColumnKind::OptionalU8
            | ColumnKind::U16
            | ColumnKind::Vector { .. } => {}
            ColumnKind::OptionalVector { element, .. } => {
                let leaf =
                    || ColumnPath::from(vec![column.name.clone(), "list".into(), "element".into()]);
                builder = builder.set_column_dictionary_enabled(leaf(), false);
                if element == Element::F32 {
                    builder = builder.set_column_encoding(leaf(), Encoding::BYTE_STREAM_SPLIT);
                }
            }
        }
        if column.name == "read_name" {
            builder = builder.set_column_bloom_filter_enabled(path(), true);
            builder = builder.set_column_bloom_filter_max_ndv(path(), BLOOM_ROWS);
        }
        if matches!(column.name.as_str(), "chrom" | "start" | "end") {
            builder = builder.set_column_statistics_enabled(path(), EnabledStatistics::Page);
        }
    }
    builder.build()
}

pub fn array(field: &Field, values: Values) -> Result<ArrayRef> {
    let vectors = |values: ArrayRef, present: Option<Vec<bool>>| match field.data_type() {
        DataType::FixedSizeList(item, dim) => {
            let present = present.map(NullBuffer::from);
            FixedSizeListArray::try_new(Arc::clone(item), *dim, values, present).map_err(mismatch)
        }
        _ => Err(mismatch("a scalar column was given vectors")),
    };
    Ok(match values {
        Values::Words { codes, words } => {
            let words = Arc::new(StringArray::from(words));
            let built = DictionaryArray::<Int32Type>::try_new(Int32Array::from(codes), words);
            Arc::new(built.map_err(mismatch)?)
        }
        Values::OptionalWords { codes, words } => {
            let words = Arc::new(StringArray::from(words));
            let built = DictionaryArray::<Int32Type>::try_new(Int32Array::from(codes), words);
            Arc::new(built.map_err(mismatch)?)
        }
        Values::Text(v) => Arc::new(StringArray::from(v)),
        Values::I64(v) => Arc::new(Int64Array::from(v)),
        Values::OptionalI64(v) => Arc::new(Int64Array::from(v)),
        Values::I32(v) => Arc::new(Int32Array::from(v)),
        Values::U8(v) => Arc::new(UInt8Array::from(v)),
        Values::OptionalU8(v) => Arc::new(UInt8Array::from(v)),
        Values::U16(v) => Arc::new(UInt16Array::from(v)),
        Values::F32(v) => Arc::new(Float32Array::from(v)),
        Values::OptionalF32(v) => Arc::new(Float32Array::from(v)),
        Values::OptionalF64(v) => Arc::new(Float64Array::from(v)),
        Values::F16Vectors(values) => {
            Arc::new(vectors(Arc::new(Float16Array::from(values)), None)?)
        }
        Values::F32Vectors(values) => {
            Arc::new(vectors(Arc::new(Float32Array::from(values)), None)?)
        }
        Values::OptionalF16Vectors { values, present } => Arc::new(vectors(
            Arc::new(Float16Array::from(values)),
            Some(present),
        )?),
        Values::OptionalF32Vectors { values, present } => Arc::new(vectors(
            Arc::new(Float32Array::from(values)),
            Some(present),
        )?),
    })
}
