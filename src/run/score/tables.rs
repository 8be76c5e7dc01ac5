//! The table of scores, as Parquet and as text, and what its footer says.

use super::{OpenScore, Score};
use crate::error::{Error, Result};
use crate::io::atomic::AtomicFile;
use crate::io::read;
use crate::io::sha256::digest_from;
use crate::io::source::{Source, can_be_read_again, shown};
use crate::io::table_writer::Receipt;
use crate::io::tsv::TsvWriter;
use crate::run::options::selection_of_spans;
use crate::run::outputs::{Format, Outputs};
use crate::run::provenance::{self, About};
use crate::run::{file_name, name_of};
use crate::score::{Mode, region_of};
use crate::sequence::region::Span;
use crate::stream::TableOutput;
use crate::table::{self, Column, Groups, Known, VariantRow, VariantRows};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// Rows of a batch.
const BATCH: usize = 1 << 13;

/// The tables that a run writes: the same rows.
pub struct Tables {
    parquet: Option<AtomicFile>,
    text: Option<AtomicFile>,
}

impl Score {
    /// Where the Parquet goes, if it is written.
    pub(super) fn table(&self) -> Option<PathBuf> {
        let elsewhere = [&self.tsv, &self.vcf_out, &self.plot];
        let elsewhere = elsewhere.into_iter().any(Option::is_some);
        self.output.table(elsewhere).map(Path::to_path_buf)
    }

    /// Claims the tables.
    pub(super) fn tables(&self, outputs: &mut Outputs) -> Result<Tables> {
        let parquet = self.table();
        let parquet = parquet.map(|path| outputs.create(&path, Format::Parquet));
        let text = self.tsv.as_ref();
        let text = text.map(|path| outputs.create(path, Format::Text));
        Ok(Tables {
            parquet: parquet.transpose()?,
            text: text.transpose()?,
        })
    }

    /// The places of the columns of the text.
    ///
    /// # Errors
    /// Usage: one does not exist, or holds vectors.
    pub(super) fn text_columns(&self, columns: &[Column<VariantRows>]) -> Result<Vec<usize>> {
        let is_text = |column: &Column<VariantRows>| column.spec.kind.dim().is_none();
        let Some(names) = &self.tsv_columns else {
            let places = (0..columns.len()).filter(|&place| is_text(&columns[place]));
            return Ok(places.collect());
        };
        let find = |name: &String| {
            let found = columns.iter().position(|column| column.spec.name == *name);
            found
                .filter(|&place| is_text(&columns[place]))
                .ok_or_else(|| {
                    let known = columns.iter().filter(|column| is_text(column));
                    let known: Vec<&str> = known.map(|column| column.spec.name.as_str()).collect();
                    let error = Error::usage(format!("--tsv-columns: no column of text is {name}"));
                    error.todo(format!("there are {}", known.join(", ")))
                })
        };
        names.iter().map(find).collect()
    }

    /// Writes the tables in the order of the input.
    pub(super) fn write(
        &self,
        opened: &OpenScore,
        known: &Known,
        tables: Tables,
    ) -> Result<Option<Receipt>> {
        let columns = table::variants(&opened.columns);
        let footer = self.footer(opened, known, &columns)?;
        let ledger = opened.ledger.read().unwrap_or_else(PoisonError::into_inner);
        let row_bytes = opened.session.estimate.row_bytes;
        let shown = self.text_columns(&columns)?;
        let specs = shown.iter().map(|&i| columns[i].spec.clone()).collect();
        let text = tables.text.map(|file| TsvWriter::create(file, specs));
        let mut text = text.transpose()?;
        let mut parquet = match tables.parquet {
            Some(file) => {
                let columns = table::variants(&opened.columns);
                let form = (Groups::of_records(), self.output.compressed.compression);
                let table = TableOutput::create(file, columns, form)?;
                Some(table.at_most(self.output.max_output, row_bytes))
            }
            None => None,
        };
        let mut places = ledger.rows().peekable();
        while places.peek().is_some() {
            let rows = places.by_ref().take(BATCH);
            let mut rows: Vec<VariantRow> = rows.map(|i| ledger.row(i)).collect::<Result<_>>()?;
            if let Some(background) = &opened.background {
                rows.iter_mut().for_each(|row| background.place(row));
            }
            let rows = VariantRows(rows);
            if let Some(text) = &mut text {
                let values = shown.iter().map(|&i| columns[i].fill(&rows));
                text.write(values.collect(), rows.0.len())?;
            }
            if let Some(parquet) = &mut parquet {
                parquet.write(rows)?;
            }
        }
        if let Some(text) = text {
            text.finish()?;
        }
        parquet.map(|table| table.finish(&footer)).transpose()
    }

    pub(super) fn footer(
        &self,
        opened: &OpenScore,
        known: &Known,
        columns: &[Column<VariantRows>],
    ) -> Result<Value> {
        let settings = &opened.settings;
        let mut params = Vec::new();
        let window = match settings.mode {
            Mode::Stream => {
                params.push(("after", json!(settings.after)));
                let context = settings.context.map_or(json!("all"), |bases| json!(bases));
                params.push(("context", context));
                None
            }
            Mode::Window(window) => {
                params.push(("window-left", json!(window.left)));
                Some(window.size as u64)
            }
        };
        params.push(("flank", json!(settings.around)));
        params.push(("max-allele", json!(settings.longest)));
        if let Some(embeddings) = settings.embeddings {
            params.push(("embeddings", json!(name_of(embeddings))));
        }
        if let Some(layer) = &self.layer {
            params.push(("layer", json!([layer])));
        }
        if let Some(protocol) = self.protocol {
            params.push(("protocol", json!(name_of(protocol))));
        }
        if let Some(background) = &self.background {
            params.push(("background", json!(file_name(background))));
        }
        if let Some(sample) = &self.sample {
            params.push(("sample", json!(sample)));
        }
        if let Some(path) = &self.variants {
            params.push(("input", json!(file_name(path))));
            if can_be_read_again(path)? {
                let digest = digest_from(Source::open(path)?);
                let digest = digest.map_err(|error| read::error(error).file(shown(path)))?;
                params.push(("input-sha256", json!(digest)));
            }
        }
        let saturated = self.saturate.iter();
        let saturated = saturated.map(|region| region_of(region, &opened.reference));
        let saturated: Vec<Span> = saturated.collect::<Result<_>>()?;
        let spans = opened.within.as_ref().unwrap_or(&saturated);
        params.extend(self.regions.param());
        let about = About {
            table: "variants",
            reference: (Some(&self.reference), opened.reference.contigs()),
            mode: None,
            window,
            strand: self.strand(),
            selection: selection_of_spans(spans, opened.reference.contigs()),
            shard: self.sharding.record(name_of(self.shard_by)),
            params,
            measured: known.measured(),
        };
        provenance::footer(&opened.session, &self.compute, about, columns)
    }
}
