//! What columns hold, and the rows that they are given.

use super::mismatch;
use crate::error::Result;
use crate::io::vector::Element;
use arrow_schema::{DataType, Field};
use half::f16;

/// A column: its name and what its rows hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnSpec {
    /// The name in the table.
    pub name: String,
    /// The type of its rows.
    pub kind: ColumnKind,
}

/// What the rows of a column hold. Only `Text` and those that say so can be NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnKind {
    /// One of a few strings: `dictionary<int32, string>`.
    Words,
    /// The same, or NULL.
    OptionalWords,
    /// Any string, or NULL: `string`.
    Text,
    /// A coordinate: `int64`.
    I64,
    /// A coordinate, or NULL.
    OptionalI64,
    /// A count: `int32`.
    I32,
    /// Bits: `uint8`.
    U8,
    /// `uint8`, or NULL.
    OptionalU8,
    /// Bits: `uint16`.
    U16,
    /// `float32`.
    F32,
    /// `float32`, or NULL.
    OptionalF32,
    /// `float64`, or NULL.
    OptionalF64,
    /// `fixed_size_list<element>[dim]`, one vector a row.
    Vector {
        /// The type of the numbers.
        element: Element,
        /// How many of them a row has; at least 1.
        dim: usize,
    },
    /// The same, or NULL: slower to write, for tables of few rows.
    OptionalVector {
        /// The type of the numbers.
        element: Element,
        /// How many of them a row has; at least 1.
        dim: usize,
    },
}

/// The rows of one column in one [`write`](super::TableWriter::write).
#[derive(Clone, Debug)]
pub enum Values {
    /// Row i is `words[codes[i]]`.
    Words {
        /// Index into `words`, one a row.
        codes: Vec<i32>,
        /// The strings.
        words: Vec<String>,
    },
    /// For [`ColumnKind::OptionalWords`]: `None` is NULL.
    OptionalWords {
        /// Index into `words`, one a row.
        codes: Vec<Option<i32>>,
        /// The strings.
        words: Vec<String>,
    },
    /// For [`ColumnKind::Text`].
    Text(Vec<Option<String>>),
    /// For [`ColumnKind::I64`].
    I64(Vec<i64>),
    /// For [`ColumnKind::OptionalI64`].
    OptionalI64(Vec<Option<i64>>),
    /// For [`ColumnKind::I32`].
    I32(Vec<i32>),
    /// For [`ColumnKind::U8`].
    U8(Vec<u8>),
    /// For [`ColumnKind::OptionalU8`].
    OptionalU8(Vec<Option<u8>>),
    /// For [`ColumnKind::U16`].
    U16(Vec<u16>),
    /// For [`ColumnKind::F32`].
    F32(Vec<f32>),
    /// For [`ColumnKind::OptionalF32`]: `None` is NULL.
    OptionalF32(Vec<Option<f32>>),
    /// For [`ColumnKind::OptionalF64`].
    OptionalF64(Vec<Option<f64>>),
    /// For a vector of [`Element::F16`]: rows × dim, row-major.
    F16Vectors(Vec<f16>),
    /// For a vector of [`Element::F32`]: rows × dim, row-major.
    F32Vectors(Vec<f32>),
    /// For [`ColumnKind::OptionalVector`] of [`Element::F16`]: `values` are rows × dim, row-major,
    /// and those of a row that is not `present` are anything.
    OptionalF16Vectors {
        /// The numbers.
        values: Vec<f16>,
        /// One a row.
        present: Vec<bool>,
    },
    /// The same for [`Element::F32`].
    OptionalF32Vectors {
        /// The numbers.
        values: Vec<f32>,
        /// One a row.
        present: Vec<bool>,
    },
}

impl Values {
    /// `rows` times the same word.
    pub fn word(word: &str, rows: usize) -> Self {
        Self::Words {
            codes: vec![0; rows],
            words: vec![word.to_string()],
        }
    }
}

impl ColumnSpec {
    /// A column called `name`.
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Self {
        let name = name.into();
        Self { name, kind }
    }

    /// The column that a field of a finished table is; none if it is of no kind that we write.
    pub fn of(field: &Field) -> Option<Self> {
        let element = |item: &DataType| match item {
            DataType::Float16 => Some(Element::F16),
            DataType::Float32 => Some(Element::F32),
            _ => None,
        };
        let kind = match (field.data_type(), field.is_nullable()) {
            (DataType::Dictionary(..), false) => ColumnKind::Words,
            (DataType::Dictionary(..), true) => ColumnKind::OptionalWords,
            (DataType::Utf8, true) => ColumnKind::Text,
            (DataType::Int64, false) => ColumnKind::I64,
            (DataType::Int64, true) => ColumnKind::OptionalI64,
            (DataType::Int32, false) => ColumnKind::I32,
            (DataType::UInt8, false) => ColumnKind::U8,
            (DataType::UInt8, true) => ColumnKind::OptionalU8,
            (DataType::UInt16, false) => ColumnKind::U16,
            (DataType::Float32, false) => ColumnKind::F32,
            (DataType::Float32, true) => ColumnKind::OptionalF32,
            (DataType::Float64, true) => ColumnKind::OptionalF64,
            (DataType::FixedSizeList(item, dim), optional) => {
                let element = element(item.data_type())?;
                let dim = usize::try_from(*dim).ok().filter(|dim| *dim > 0)?;
                if optional {
                    ColumnKind::OptionalVector { element, dim }
                } else {
                    ColumnKind::Vector { element, dim }
                }
            }
            _ => return None,
        };
        Some(Self::new(field.name(), kind)).filter(|column| column.field() == *field)
    }

    pub(in crate::io) fn field(&self) -> Field {
        let words = || DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into());
        let data_type = match self.kind {
            ColumnKind::Words | ColumnKind::OptionalWords => words(),
            ColumnKind::Text => DataType::Utf8,
            ColumnKind::I64 | ColumnKind::OptionalI64 => DataType::Int64,
            ColumnKind::I32 => DataType::Int32,
            ColumnKind::U8 | ColumnKind::OptionalU8 => DataType::UInt8,
            ColumnKind::U16 => DataType::UInt16,
            ColumnKind::F32 | ColumnKind::OptionalF32 => DataType::Float32,
            ColumnKind::OptionalF64 => DataType::Float64,
            ColumnKind::Vector { element, dim } | ColumnKind::OptionalVector { element, dim } => {
                let item = match element {
                    Element::F16 => DataType::Float16,
                    Element::F32 => DataType::Float32,
                };
                let dim = i32::try_from(dim).unwrap_or(i32::MAX);
                DataType::FixedSizeList(Field::new("element", item, false).into(), dim)
            }
        };
        Field::new(&self.name, data_type, self.kind.is_optional())
    }
}

impl ColumnKind {
    /// The type in a footer: of a vector, that of its numbers.
    pub fn name(self) -> String {
        let name = match self {
            Self::Words | Self::OptionalWords | Self::Text => "string",
            Self::I64 | Self::OptionalI64 => "int64",
            Self::I32 => "int32",
            Self::U8 | Self::OptionalU8 => "uint8",
            Self::U16 => "uint16",
            Self::F32 | Self::OptionalF32 => "float32",
            Self::OptionalF64 => "float64",
            Self::Vector { element, .. } | Self::OptionalVector { element, .. } => element.name(),
        };
        name.to_string()
    }

    /// Numbers of a vector; none of a scalar.
    pub fn dim(self) -> Option<usize> {
        match self {
            Self::Vector { dim, .. } | Self::OptionalVector { dim, .. } => Some(dim),
            _ => None,
        }
    }

    /// Bytes of a row in memory.
    pub fn memory(self) -> u64 {
        match self {
            Self::Vector { element, dim } | Self::OptionalVector { element, dim } => {
                element.size() as u64 * dim as u64
            }
            Self::Text | Self::Words | Self::OptionalWords => 16,
            _ => 8,
        }
    }

    /// Bytes of a row in the file, about: scalars compress well, vectors hardly (measured on tables
    /// of real genomes).
    pub fn stored(self) -> f64 {
        match self {
            Self::Vector { element, dim } | Self::OptionalVector { element, dim } => {
                let each = match element {
                    Element::F16 => 1.9,
                    Element::F32 => 3.5,
                };
                each * dim as f64
            }
            Self::OptionalF32 | Self::F32 => 3.7,
            Self::OptionalF64 => 7.0,
            Self::Text => 12.0,
            _ => 0.2,
        }
    }

    /// The rows that values of this kind have; none if they are of another.
    fn rows_in(self, values: &Values) -> Option<usize> {
        let vectors =
            |numbers: usize, dim: usize| numbers.is_multiple_of(dim).then(|| numbers / dim);
        let optional = |numbers: usize, dim: usize, present: &[bool]| {
            (numbers == dim * present.len()).then_some(present.len())
        };
        match (self, values) {
            (Self::Words, Values::Words { codes, .. }) => Some(codes.len()),
            (Self::OptionalWords, Values::OptionalWords { codes, .. }) => Some(codes.len()),
            (Self::Text, Values::Text(v)) => Some(v.len()),
            (Self::I64, Values::I64(v)) => Some(v.len()),
            (Self::OptionalI64, Values::OptionalI64(v)) => Some(v.len()),
            (Self::I32, Values::I32(v)) => Some(v.len()),
            (Self::U8, Values::U8(v)) => Some(v.len()),
            (Self::OptionalU8, Values::OptionalU8(v)) => Some(v.len()),
            (Self::U16, Values::U16(v)) => Some(v.len()),
            (Self::F32, Values::F32(v)) => Some(v.len()),
            (Self::OptionalF32, Values::OptionalF32(v)) => Some(v.len()),
            (Self::OptionalF64, Values::OptionalF64(v)) => Some(v.len()),
            (Self::Vector { element, dim }, values) => match (element, values) {
                (Element::F16, Values::F16Vectors(v)) => vectors(v.len(), dim),
                (Element::F32, Values::F32Vectors(v)) => vectors(v.len(), dim),
                _ => None,
            },
            (Self::OptionalVector { element, dim }, values) => match (element, values) {
                (Element::F16, Values::OptionalF16Vectors { values, present }) => {
                    optional(values.len(), dim, present)
                }
                (Element::F32, Values::OptionalF32Vectors { values, present }) => {
                    optional(values.len(), dim, present)
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether rows can be NULL.
    pub fn is_optional(self) -> bool {
        matches!(
            self,
            Self::OptionalWords
                | Self::Text
                | Self::OptionalI64
                | Self::OptionalU8
                | Self::OptionalF32
                | Self::OptionalF64
                | Self::OptionalVector { .. }
        )
    }
}

/// The rows of a batch, checked against the columns.
///
/// # Errors
/// Internal, when they do not fit.
pub(super) fn rows_of(columns: &[ColumnSpec], batch: &[Values]) -> Result<usize> {
    if batch.len() != columns.len() {
        return Err(mismatch(
            "a batch has another number of columns than its table",
        ));
    }
    let mut rows = None;
    for (column, values) in columns.iter().zip(batch) {
        let name = &column.name;
        let n = column.kind.rows_in(values);
        let n = n.ok_or_else(|| mismatch(format!("column {name} was given other values")))?;
        if *rows.get_or_insert(n) != n {
            return Err(mismatch(format!("column {name} has another length")));
        }
    }
    Ok(rows.unwrap_or(0))
}
