//! Tables read back.

use super::compare;
use arrow_array::types::Int32Type;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray, cast::AsArray};
use arrow_schema::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// A Parquet table: its rows, and what its footer says.
pub struct Table {
    pub footer: serde_json::Value,
    pub columns: Vec<String>,
    batches: Vec<RecordBatch>,
}

impl Table {
    pub fn read(bytes: &[u8]) -> Self {
        let file = Bytes::copy_from_slice(bytes);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        let pairs = builder
            .metadata()
            .file_metadata()
            .key_value_metadata()
            .unwrap();
        let footer = pairs.iter().find(|pair| pair.key == "crocuta").unwrap();
        let footer = serde_json::from_str(footer.value.as_ref().unwrap()).unwrap();
        let fields = builder.schema().fields().iter();
        let columns = fields.map(|field| field.name().clone()).collect();
        let batches = builder.build().unwrap().map(Result::unwrap).collect();
        Self {
            footer,
            columns,
            batches,
        }
    }

    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    /// Each row as text, to the last bit of its numbers.
    pub fn lines(&self) -> Vec<String> {
        let cell = |array: &ArrayRef, row: usize| match array.data_type() {
            DataType::Dictionary(..) => {
                let dictionary = array.as_dictionary::<Int32Type>();
                let words: &StringArray = dictionary.values().as_string();
                let key = dictionary.keys().iter().nth(row).unwrap();
                key.map_or("NULL".to_string(), |key| words.value(key as usize).into())
            }
            _ => format!("{:?}", array.slice(row, 1)),
        };
        let mut lines = Vec::new();
        for batch in &self.batches {
            let line = |row| {
                batch
                    .columns()
                    .iter()
                    .map(|array| cell(array, row) + "\t")
                    .collect()
            };
            lines.extend((0..batch.num_rows()).map(line));
        }
        lines
    }

    fn arrays(&self, name: &str) -> Vec<&ArrayRef> {
        let column = |batch| RecordBatch::column_by_name(batch, name).unwrap();
        self.batches.iter().map(column).collect()
    }

    /// A column of words.
    pub fn words(&self, name: &str) -> Vec<String> {
        let mut out = Vec::new();
        for array in self.arrays(name) {
            let dictionary = array.as_dictionary::<Int32Type>();
            let words: &StringArray = dictionary.values().as_string();
            let keys = dictionary.keys().values().iter();
            out.extend(keys.map(|&key| words.value(key as usize).to_string()));
        }
        out
    }

    /// A column of strings or NULL.
    pub fn texts(&self, name: &str) -> Vec<Option<String>> {
        let arrays = self.arrays(name).into_iter();
        let texts = arrays.flat_map(|array| array.as_string::<i32>().iter());
        texts.map(|text| text.map(str::to_string)).collect()
    }

    /// A column of whole numbers.
    pub fn integers(&self, name: &str) -> Vec<i64> {
        use arrow_array::types::{Int64Type, UInt8Type};
        let mut out = Vec::new();
        for array in self.arrays(name) {
            match array.data_type() {
                DataType::Int64 => out.extend(array.as_primitive::<Int64Type>().values()),
                DataType::UInt16 => {
                    let values = array
                        .as_primitive::<arrow_array::types::UInt16Type>()
                        .values();
                    out.extend(values.iter().map(|&x| i64::from(x)));
                }
                DataType::Int32 => {
                    out.extend(
                        array
                            .as_primitive::<Int32Type>()
                            .values()
                            .iter()
                            .map(|&x| i64::from(x)),
                    );
                }
                _ => out.extend(
                    array
                        .as_primitive::<UInt8Type>()
                        .values()
                        .iter()
                        .map(|&x| i64::from(x)),
                ),
            }
        }
        out
    }

    /// A column of whole numbers or NULL.
    pub fn integers_or_null(&self, name: &str) -> Vec<Option<i64>> {
        let known = self.arrays(name).into_iter();
        let known = known.flat_map(|array| (0..array.len()).map(|i| array.is_valid(i)));
        let values = self.integers(name);
        known
            .zip(values)
            .map(|(known, value)| known.then_some(value))
            .collect()
    }

    /// A column of words or NULL.
    pub fn words_or_null(&self, name: &str) -> Vec<Option<String>> {
        let mut out = Vec::new();
        for array in self.arrays(name) {
            let dictionary = array.as_dictionary::<Int32Type>();
            let words: &StringArray = dictionary.values().as_string();
            let keys = dictionary.keys().iter();
            out.extend(keys.map(|key| key.map(|key| words.value(key as usize).to_string())));
        }
        out
    }

    /// A column of `float64` or NULL.
    pub fn doubles(&self, name: &str) -> Vec<Option<f64>> {
        use arrow_array::types::Float64Type;
        let arrays = self.arrays(name).into_iter();
        let numbers = arrays.flat_map(|array| array.as_primitive::<Float64Type>().iter());
        numbers.collect()
    }

    /// Whether each row of a column has a value.
    pub fn known(&self, name: &str) -> Vec<bool> {
        let arrays = self.arrays(name).into_iter();
        let known = arrays.flat_map(|array| (0..array.len()).map(|i| array.is_valid(i)));
        known.collect()
    }

    /// A column of numbers or NULL.
    pub fn numbers(&self, name: &str) -> Vec<Option<f32>> {
        use arrow_array::types::Float32Type;
        let arrays = self.arrays(name).into_iter();
        arrays
            .flat_map(|array| {
                array
                    .as_primitive::<Float32Type>()
                    .iter()
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    /// A column of vectors.
    pub fn vectors(&self, name: &str) -> Vec<Vec<f32>> {
        use arrow_array::types::{Float16Type, Float32Type};
        let mut out = Vec::new();
        for array in self.arrays(name) {
            let lists = array.as_fixed_size_list();
            let width = lists.value_length() as usize;
            let values: Vec<f32> = match lists.value_type() {
                DataType::Float16 => {
                    let values = lists.values().as_primitive::<Float16Type>().values();
                    values.iter().map(|x| x.to_f32()).collect()
                }
                _ => lists
                    .values()
                    .as_primitive::<Float32Type>()
                    .values()
                    .to_vec(),
            };
            out.extend(values.chunks(width).map(<[f32]>::to_vec));
        }
        out
    }

    /// `chrom`, `start` and `strand` of each row.
    pub fn keys(&self) -> Vec<(String, i64, String)> {
        let names = self.words("chrom").into_iter();
        let strands = self.words("strand");
        names
            .zip(self.integers("start"))
            .zip(strands)
            .map(|((a, b), c)| (a, b, c))
            .collect()
    }
}

/// The largest difference of two columns of vectors, as a part of the largest magnitude.
pub fn difference(found: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    let lengths = |rows: &[Vec<f32>]| rows.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(found), lengths(expected));
    compare::difference(&found.concat(), &expected.concat())
}
