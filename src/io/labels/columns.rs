//! A column of labels: each distinct value once, and a number a label.

use crate::io::table_writer::ColumnKind;
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray};
use std::collections::HashMap;
use std::sync::Arc;

/// What stands where there is no value.
const MISSING: [&str; 7] = ["", ".", "NA", "NaN", "nan", "NULL", "null"];

/// Distinct values of a column that is written with a dictionary.
const WORDS: usize = 1 << 16;

/// Values of labels, by the labels' numbers.
pub struct Column {
    /// Its name.
    pub name: String,
    /// Which value each label has, from 1; 0: none.
    codes: Vec<u32>,
    values: Vec<Arc<str>>,
    known: HashMap<Arc<str>, u32>,
    read: Read,
}

/// The values as what they all are.
enum Read {
    Integers(Vec<i64>),
    Numbers(Vec<f64>),
    Words(Arc<StringArray>),
}

impl Column {
    pub(super) fn new(name: String) -> Self {
        Self {
            name,
            codes: Vec::new(),
            values: Vec::new(),
            known: HashMap::new(),
            read: Read::Integers(Vec::new()),
        }
    }

    pub(super) fn push(&mut self, value: &str) {
        let code = if MISSING.contains(&value) {
            0
        } else if let Some(code) = self.known.get(value) {
            *code
        } else {
            let value: Arc<str> = value.into();
            self.values.push(Arc::clone(&value));
            let code = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
            self.known.insert(value, code);
            code
        };
        self.codes.push(code);
    }

    /// Integers if all values are, else numbers if all are, else words.
    pub(super) fn finish(&mut self) {
        self.known = HashMap::new();
        let values = self.values.iter();
        let integers: Option<Vec<i64>> = values.clone().map(|value| value.parse().ok()).collect();
        let numbers =
            || -> Option<Vec<f64>> { values.clone().map(|value| value.parse().ok()).collect() };
        self.read = if let Some(integers) = integers {
            Read::Integers(integers)
        } else if let Some(numbers) = numbers() {
            Read::Numbers(numbers)
        } else {
            Read::Words(Arc::new(StringArray::from_iter_values(&self.values)))
        };
    }

    /// The value of a label, as its file has it.
    pub fn text(&self, label: u32) -> Option<&str> {
        let code = self.codes[label as usize].checked_sub(1)?;
        Some(&self.values[code as usize])
    }

    /// What its rows in a table hold.
    pub fn kind(&self) -> ColumnKind {
        match &self.read {
            Read::Integers(_) => ColumnKind::OptionalI64,
            Read::Numbers(_) => ColumnKind::OptionalF64,
            Read::Words(words) if arrow_array::Array::len(words.as_ref()) > WORDS => {
                ColumnKind::Text
            }
            Read::Words(_) => ColumnKind::OptionalWords,
        }
    }

    /// The values of these labels, as rows of a table; without a label there is none.
    pub fn array(&self, labels: &[Option<u32>]) -> ArrayRef {
        let code = |label: &Option<u32>| {
            let code = self.codes[(*label)? as usize].checked_sub(1)?;
            Some(code as usize)
        };
        let codes = labels.iter().map(code);
        match &self.read {
            Read::Integers(values) => Arc::new(
                codes
                    .map(|code| Some(values[code?]))
                    .collect::<Int64Array>(),
            ),
            Read::Numbers(values) => Arc::new(
                codes
                    .map(|code| Some(values[code?]))
                    .collect::<Float64Array>(),
            ),
            Read::Words(_) if self.kind() == ColumnKind::Text => {
                let texts = codes.map(|code| Some(&*self.values[code?]));
                Arc::new(texts.collect::<StringArray>())
            }
            Read::Words(words) => {
                let keys = codes.map(|code| i32::try_from(code?).ok());
                let keys: Int32Array = keys.collect();
                // Keys are of this dictionary.
                Arc::new(DictionaryArray::<Int32Type>::new(keys, words.clone()))
            }
        }
    }
}
