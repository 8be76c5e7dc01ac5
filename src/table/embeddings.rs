//! `embeddings`: a vector for every base, or bin of bases.

use super::positions::{Positions, RowUnit, keys};
use super::{Column, halves};
use crate::io::table_writer::{ColumnKind, Values};
use crate::io::vector::Element;
use std::ops::Range;

/// The vectors of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vectors {
    /// The type of their numbers.
    pub element: Element,
    /// Numbers of a vector.
    pub dim: usize,
    /// The layers that they come from: a column each.
    pub layers: Vec<LayerName>,
    /// How the vectors of several bases become one, if they do.
    pub pool: Option<String>,
    /// The encoder is causal: a vector depends on no base downstream.
    pub causal: bool,
}

/// A layer as tables name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerName {
    /// The name of the published module.
    pub name: String,
    /// What tells its column from those of other layers.
    pub suffix: String,
}

impl Vectors {
    /// For each layer the name of its column, the layer's, and where its numbers lie among those of
    /// all layers: `embedding` for one, `embedding_<layer>` for several.
    pub(super) fn columns(&self) -> Vec<(String, &str, Range<usize>)> {
        let columns = self.layers.iter().enumerate().map(|(at, layer)| {
            let name = if self.layers.len() == 1 {
                "embedding".to_string()
            } else {
                format!("embedding_{}", layer.suffix)
            };
            (name, &layer.name[..], at * self.dim..(at + 1) * self.dim)
        });
        columns.collect()
    }

    /// The columns themselves, where a row's numbers are those of all layers side by side.
    pub(super) fn filled(&self, meaning: &str) -> Vec<Column<Positions>> {
        let Self { element, dim, .. } = *self;
        let column = |(name, layer, range): (String, &str, Range<usize>)| {
            let fill = move |rows: &Positions| {
                let values = rows.vectors(range.clone());
                match element {
                    Element::F32 => Values::F32Vectors(values.into_owned()),
                    Element::F16 => Values::F16Vectors(halves(&values)),
                }
            };
            let kind = ColumnKind::Vector { element, dim };
            let column = Column::new(name, kind, meaning, fill).of_layer(layer);
            column.pooled(self.pool.as_deref()).primary()
        };
        self.columns().into_iter().map(column).collect()
    }
}

/// The columns of an `embeddings` table: the keys, then `embedding`, or one column for each layer.
///
/// ```
/// use crocuta::io::vector::Element;
/// use crocuta::table::{self, LayerName, RowUnit, Vectors};
/// let vectors = Vectors {
///     element: Element::F16,
///     dim: 256,
///     layers: vec![LayerName {
///         name: "ln_f".to_string(),
///         suffix: "ln_f".to_string(),
///     }],
///     pool: None,
///     causal: true,
/// };
/// let columns = table::embeddings(RowUnit::Base, &vectors);
/// let names: Vec<_> = columns.iter().map(|c| c.spec.name.as_str()).collect();
/// assert_eq!(names.join(","), "chrom,start,end,strand,base,flags,context_left,embedding");
/// ```
pub fn embeddings(unit: RowUnit, vectors: &Vectors) -> Vec<Column<Positions>> {
    let meaning = if vectors.causal {
        "state after reading the base at start"
    } else {
        "state of the base at start after reading all around it"
    };
    let mut columns = keys(unit);
    columns.extend(vectors.filled(meaning));
    columns
}
