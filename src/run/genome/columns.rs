//! The columns of tables of bases, bins and intervals.

use super::{Embed, GenomeJob, RowsOf};
use crate::head::Task;
use crate::run::session::Session;
use crate::run::{heads, layers, name_of};
use crate::stream::genome::{Head, Intervals};
use crate::stream::{Engine, Pool};
use crate::table::{self, Column, Positions, RowUnit, Vectors};

impl GenomeJob<'_> {
    pub(super) fn columns(
        &self,
        session: &Session,
        head: &Head,
        task: Option<&Task>,
    ) -> Vec<Column<Positions>> {
        let facts = &session.engine.facts;
        let bins = self.bins();
        let unit = if bins.is_some() {
            RowUnit::Bin
        } else {
            RowUnit::Base
        };
        match (self.rows, head, task) {
            (RowsOf::Embeddings(embed), ..) => {
                let pool = bins.map(|(_, pool)| name_of(pool));
                table::embeddings(unit, &vectors(embed, session, pool))
            }
            (_, _, Some(task)) => table::head_outputs(&heads::outputs(task), unit),
            (_, Head::Prediction { .. }, None) if bins.is_some() => {
                table::bin_predictions(facts.causal)
            }
            (_, Head::Prediction { model, logits, .. }, None) => {
                table::predictions(facts.causal, logits.then(|| model.width()))
            }
            (_, Head::Embedding | Head::Task(_), None) => Vec::new(),
        }
    }

    /// How the bases of an interval become one row.
    pub(super) fn pool(&self) -> Pool {
        match self.rows {
            RowsOf::Embeddings(embed) => embed.binning.pool,
            RowsOf::Predictions(_) => Pool::Mean,
        }
    }

    pub(super) fn interval_columns(
        &self,
        session: &Session,
        intervals: &Intervals,
    ) -> Vec<Column<Positions>> {
        match self.rows {
            RowsOf::Embeddings(embed) => {
                let vectors = vectors(embed, session, Some(name_of(self.pool())));
                table::interval_embeddings(intervals.all(), &vectors)
            }
            RowsOf::Predictions(_) => {
                let causal = session.engine.facts.causal;
                table::interval_predictions(intervals.all(), causal)
            }
        }
    }
}

/// The vectors of a table; `pool`: how those of several bases become one.
fn vectors(embed: &Embed, session: &Session, pool: Option<String>) -> Vectors {
    let Engine { facts, layers, .. } = &session.engine;
    Vectors {
        element: embed.dtype.element(),
        dim: facts.width,
        layers: layers::named(facts, layers),
        pool,
        causal: facts.causal,
    }
}
