//! `embeddings`: a vector for every base, or bin of bases.

use super::positions::{Positions, RowUnit, keys};
use super::{Column, halves};
use crate::io::table_writer::{ColumnKind, Values};
use crate::io::vector::Element;

/// The vectors of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vectors {
    /// The type of their numbers.
    pub element: Element,
    /// Numbers of a vector.
    pub dim: usize,
    /// The layer that they come from.
    pub layer: String,
    /// How the vectors of several bases become one, if they do.
    pub pool: Option<String>,
    /// The encoder is causal: a vector depends on no base downstream.
    pub causal: bool,
}

/// The columns of an `embeddings` table: the keys, then `embedding`.
///
/// ```
/// use crocuta::io::vector::Element;
/// use crocuta::table::{self, RowUnit, Vectors};
/// let vectors = Vectors {
///     element: Element::F16,
///     dim: 256,
///     layer: "final_norm".to_string(),
///     pool: None,
///     causal: true,
/// };
/// let columns = table::embeddings(RowUnit::Base, &vectors);
/// let names: Vec<_> = columns.iter().map(|c| c.spec.name.as_str()).collect();
/// assert_eq!(names.join(","), "chrom,start,end,strand,base,flags,context_left,embedding");
/// ```
pub fn embeddings(unit: RowUnit, vectors: &Vectors) -> Vec<Column<Positions>> {
    let Vectors { element, dim, .. } = *vectors;
    let meaning = if vectors.causal {
        "state after reading the base at start"
    } else {
        "state of the base at start after reading all around it"
    };
    let kind = ColumnKind::Vector { element, dim };
    let column = Column::new(
        "embedding",
        kind,
        meaning,
        move |rows: &Positions| match element {
            Element::F32 => Values::F32Vectors(rows.values.clone()),
            Element::F16 => Values::F16Vectors(halves(&rows.values)),
        },
    );
    let column = column
        .of_layer(&vectors.layer)
        .pooled(vectors.pool.as_deref());
    let mut columns = keys(unit);
    columns.push(column.primary());
    columns
}
