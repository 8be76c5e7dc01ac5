//! What a run over a genome says of itself: the footer and the summary.

use super::{GenomeJob, Inputs, OpenGenome, RowsOf};
use crate::error::Result;
use crate::io::pileup::Consensus;
use crate::run::options::{selection_of_intervals, selection_of_spans};
use crate::run::provenance::{self, About};
use crate::run::summary::Summary;
use crate::run::{file_name, name_of};
use crate::sequence::region::{merge, spans};
use crate::stream::genome::Head;
use crate::table::footer::Selection;
use crate::table::{Column, Positions};
use serde_json::{Map, Value, json};

impl GenomeJob<'_> {
    pub(super) fn footer(
        &self,
        opened: &OpenGenome,
        columns: &[Column<Positions>],
    ) -> Result<Value> {
        let Inputs {
            source, compute, ..
        } = self.inputs;
        let mut params = Vec::new();
        if let Some((size, _)) = opened.settings.bins {
            params.push(("bin", json!(size)));
        }
        if let Head::Prediction {
            masked: Some(stride),
            ..
        } = opened.head
        {
            params.push(("mask-every", json!(stride)));
        }
        if let RowsOf::Embeddings(embed) = self.rows {
            params.extend(embed.layers.params());
        }
        if self.inputs.adapt {
            params.push(("adapt", json!(true)));
        }
        params.extend(source.regions.param());
        params.extend(source.intervals.params(opened.feature.as_deref()));
        params.extend(source.sample.params());
        if source.sample.reference.is_some() {
            params.push(("alignments", json!(file_name(&source.fasta))));
        }
        if source.gives_context() {
            let context = source.context(&opened.session.engine.facts);
            params.push(("context", json!(context)));
        }
        let reference = source.sample.reference.as_ref().unwrap_or(&source.fasta);
        let about = About {
            table: match (self.rows, &opened.settings.intervals) {
                (RowsOf::Embeddings(_), None) => "embeddings",
                (RowsOf::Predictions(_), None) => "predictions",
                (RowsOf::Embeddings(_), Some(_)) => "interval_embeddings",
                (RowsOf::Predictions(_), Some(_)) => "interval_predictions",
            },
            reference: (Some(reference), opened.genome.finished_contigs()),
            mode: compute.exact.then_some("exact"),
            window: None,
            strand: opened.settings.strand,
            selection: self.selection(opened)?,
            shard: source.sharding.record(name_of(source.shard_by)),
            params,
            measured: Map::new(),
        };
        provenance::footer(&opened.session, compute, about, columns)
    }

    /// What was asked for, before a shard is cut from it.
    fn selection(&self, opened: &OpenGenome) -> Result<Selection> {
        if let Some((intervals, _)) = &opened.settings.intervals {
            return Ok(selection_of_intervals(intervals.all()));
        }
        if opened.regions.is_empty() && self.inputs.source.regions.are_given() {
            return Ok(selection_of_intervals(&[]));
        }
        let contigs = opened.genome.finished_contigs();
        let mut asked = spans(&opened.regions, contigs)?;
        if self.inputs.source.keep_overlaps {
            asked.sort_unstable();
        } else {
            merge(&mut asked);
        }
        Ok(selection_of_spans(&asked, contigs))
    }

    /// What was read.
    pub(super) fn counts(&self, opened: &OpenGenome, rows: u64) -> Summary {
        let counts = opened.genome.counts();
        let mut summary = Summary {
            counted: format!("{rows} rows of {} sequences", opened.genome.handed_out()),
            ..Summary::default()
        };
        let total = counts.ambiguous_total();
        if total > 0 {
            let codes: String = counts.ambiguous.keys().collect();
            summary
                .warnings
                .push(format!("{total} ambiguous → N ({codes})"));
        }
        let chosen = opened.genome.consensus().map(Consensus::chosen);
        if let Some(chosen) = chosen {
            summary.notes.push(format!(
                "of {} positions {} are other than the reference, {} deleted, {} undecided",
                chosen.positions, chosen.changed, chosen.deleted, chosen.undecided
            ));
            if chosen.refused > 0 {
                let n = chosen.refused;
                summary.warnings.push(format!(
                    "{n} alignments are invalid, or span too much, and were left out"
                ));
            }
        }
        let own = json!({
            "sequences": counts.sequences,
            "empty_sequences": counts.empty,
            "bases_read": counts.bases,
            "n": counts.n,
            "soft_masked": counts.soft_masked,
            "ambiguous": counts.ambiguous,
            "consensus": chosen.map(|chosen| json!({
                "positions": chosen.positions,
                "changed": chosen.changed,
                "deleted": chosen.deleted,
                "undecided": chosen.undecided,
                "alignments": chosen.alignments,
                "refused": chosen.refused,
            })),
        });
        if let Value::Object(own) = own {
            summary.own = own;
        }
        if counts.empty > 0 {
            summary.failed = Some(format!("{} sequences are empty", counts.empty));
        }
        let what = if opened.settings.intervals.is_some() {
            "intervals"
        } else {
            "regions"
        };
        summary.leave_out(opened.left_out, what);
        summary
    }
}
