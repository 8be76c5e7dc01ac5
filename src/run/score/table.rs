//! The table of scores, and what its footer says.

use super::{OpenScore, Score};
use crate::error::Result;
use crate::io::atomic::AtomicFile;
use crate::io::table_writer::Receipt;
use crate::run::name_of;
use crate::run::provenance::{self, About};
use crate::score::Mode;
use crate::stream::TableOutput;
use crate::table::{self, Groups, VariantRow, VariantRows};
use serde_json::{Value, json};
use std::sync::PoisonError;

/// Rows of a batch.
const BATCH: usize = 1 << 13;

impl Score {
    /// Writes the table in the order of the input.
    pub(super) fn write(&self, opened: &OpenScore, target: AtomicFile) -> Result<Receipt> {
        let columns = table::variants(&opened.columns);
        let footer = self.footer(opened, &columns)?;
        let ledger = opened.ledger.read().unwrap_or_else(PoisonError::into_inner);
        let row_bytes = opened.session.estimate.row_bytes;
        let mut table = TableOutput::create(target, columns, Groups::of_records())?
            .at_most(self.output.max_output, row_bytes);
        for first in (0..ledger.len()).step_by(BATCH) {
            let rows = first..ledger.len().min(first + BATCH);
            let rows: Vec<VariantRow> = rows.map(|i| ledger.row(i)).collect::<Result<_>>()?;
            table.write(VariantRows(rows))?;
        }
        table.finish(&footer)
    }

    fn footer(&self, opened: &OpenScore, columns: &[table::Column<VariantRows>]) -> Result<Value> {
        let settings = &opened.settings;
        let mut params = Vec::new();
        let window = match settings.mode {
            Mode::Stream => {
                params.push(("after", json!(settings.after)));
                if let Some(context) = settings.context {
                    params.push(("context", json!(context)));
                }
                None
            }
            Mode::Window(window) => {
                params.push(("window-left", json!(window.left)));
                Some(window.size as u64)
            }
        };
        params.push(("around", json!(settings.around)));
        params.push(("max-allele", json!(settings.longest)));
        if let Some(embeddings) = settings.embeddings {
            params.push(("embeddings", json!(name_of(embeddings))));
        }
        if let Some(layer) = &self.layer {
            params.push(("layer", json!([layer])));
        }
        if let Some(preset) = self.preset {
            params.push(("preset", json!(name_of(preset))));
        }
        if let Some(sample) = &self.sample {
            params.push(("sample", json!(sample)));
        }
        let about = About {
            table: "variants",
            reference: (Some(&self.reference), opened.reference.contigs()),
            mode: None,
            window,
            strand: self.strand(),
            regions: self.saturate.iter().cloned().collect(),
            shard: self.sharding.record(name_of(self.shard_by)),
            params,
        };
        provenance::footer(&opened.session, &self.compute, about, columns)
    }
}
