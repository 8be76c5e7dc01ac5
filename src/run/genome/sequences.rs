//! `predict` by a head of sequences: a row for each record of FASTA, FASTQ, CSV, TSV or Parquet.

use super::Predict;
use crate::error::{Error, Result};
use crate::head::Task;
use crate::io::alignments::{Alignments, Options};
use crate::io::atomic::AtomicFile;
use crate::run::device::Load;
use crate::run::estimate::Estimate;
use crate::run::provenance::{self, About};
use crate::run::session::{Loaded, Session};
use crate::run::summary::Summary;
use crate::run::units::number;
use crate::run::{file_name, heads};
use crate::stream::reads::{self, ReadHead, ReadSettings, SequenceSink};
use crate::stream::{Engine, Journal, Progress, Strand, TableOutput};
use crate::table::footer::Selection;
use crate::table::{self, Column, Groups, SequenceRows};
use serde_json::{Map, Value, json};

/// Everything that a run reads, open.
pub struct OpenSequences {
    /// The model on its devices.
    pub session: Session,
    /// The head, for each device.
    heads: Vec<ReadHead>,
    task: Task,
    source: Alignments,
}

/// `predict` with a head of sequences.
pub struct SequenceJob<'a>(pub &'a Predict);

impl SequenceJob<'_> {
    /// An error for an option that is for bases.
    fn check(&self, task: &Task) -> Result<()> {
        let Predict {
            bin,
            inputs,
            heads,
            logits,
            ..
        } = self.0;
        let source = &inputs.source;
        let given = [
            (bin.is_some(), "--bin"),
            (*logits, "--logits"),
            (inputs.compute.exact, "--exact"),
            (inputs.compute.strand != Strand::Forward, "--strand"),
            (source.regions.are_given(), "--region"),
            (source.intervals.intervals.is_some(), "--intervals"),
            (source.sample.reference.is_some(), "--reference"),
            (source.sharding.shard.is_some(), "--shard"),
            (heads.writes(), "--genes, --bed, --bigwig and --bedgraph"),
        ];
        match given.into_iter().find(|(given, _)| *given) {
            None => Ok(()),
            Some((_, option)) => {
                let name = &task.name;
                let what = format!("the head \"{name}\" describes whole sequences: no {option}");
                Err(Error::usage(what).todo("leave it out, or choose another --head"))
            }
        }
    }

    /// Opens the input for a model and its head.
    ///
    /// # Errors
    /// Usage: options of bases. Those of the reader and the device.
    pub fn open(&self, loaded: Loaded, task: Task) -> Result<OpenSequences> {
        self.check(&task)?;
        let super::Inputs {
            source, compute, ..
        } = &self.0.inputs;
        let options = Options {
            allow_missing_eof: source.allow_missing_eof,
            allow_empty: source.allow_empty,
            sequences: true,
            ..Options::default()
        };
        let records = Alignments::open(&source.fasta, &options)?;
        let load = Load {
            bases: None,
            vectors: false,
        };
        let mut session = Session::open(loaded, compute, None, load)?;
        let note = heads::notes(&session.checkpoint, Some(&task))?;
        session.notes.extend(note);
        let weights = &session.checkpoint.weights;
        let of_engine = |engine: &Engine| {
            Ok(ReadHead {
                likelihood: None,
                task: Some(task.load(weights, engine.facts.width)?),
                masked: None,
                pool: None,
                per_base: false,
            })
        };
        let heads = session.engines().map(of_engine).collect::<Result<_>>()?;
        let columns = table::sequences(&heads::outputs(&task));
        let tokens = session.tokens();
        session.estimate = Estimate::new(&session.engine, tokens, &columns, None, 0, 1);
        Ok(OpenSequences {
            session,
            heads,
            task,
            source: records,
        })
    }

    /// As [`crate::run::Job::process`].
    ///
    /// # Errors
    /// Those of the pipeline.
    pub fn process(
        &self,
        opened: &mut OpenSequences,
        file: AtomicFile,
        journal: Option<&mut Journal>,
        progress: &mut Progress,
    ) -> Result<Summary> {
        let super::Inputs {
            compute, output, ..
        } = &self.0.inputs;
        let columns = table::sequences(&heads::outputs(&opened.task));
        let form = (Groups::of_records(), output.compressed.compression);
        let table = match journal.as_deref() {
            None => TableOutput::create(file, columns, form)?,
            Some(journal) => TableOutput::resume(file, columns, form, journal, "table")?,
        };
        let row = opened.session.estimate.row_bytes;
        let mut sink = SequenceSink {
            table: table.at_most(output.max_output, row),
        };
        let settings = ReadSettings {
            chunk: opened.session.chunk,
            windows: opened.session.windows,
            sequenced: true,
            all: true,
            blocks: None,
            keep: false,
            scratch: compute.scratch(output.path()),
        };
        let models: Vec<_> = opened.session.engines().zip(&opened.heads).collect();
        let source = &mut opened.source;
        let (totals, read) = reads::run(source, &models, &mut sink, &settings, journal, progress)?;
        let footer = self.footer(opened, sink.table.columns())?;
        let receipt = sink.finish(&footer)?;
        let mut summary = Summary {
            totals,
            rows: receipt.rows,
            counted: format!(
                "{} sequences, {} bases, the longest {}",
                number(read.rows),
                number(read.bases),
                number(read.longest)
            ),
            receipt: Some(receipt),
            ..Summary::default()
        };
        let own = json!({
            "records": read.records,
            "no_sequence": read.no_sequence,
            "bases": read.bases,
            "ambiguous": read.ambiguous,
            "longest": read.longest,
        });
        if let Value::Object(own) = own {
            summary.own = own;
        }
        if read.no_sequence > 0 {
            let what = format!("{} sequences are empty", read.no_sequence);
            summary.warnings.push(what.clone());
            summary.failed = Some(what);
        }
        Ok(summary)
    }

    fn footer(&self, opened: &OpenSequences, columns: &[Column<SequenceRows>]) -> Result<Value> {
        let super::Inputs {
            source, compute, ..
        } = &self.0.inputs;
        let params = vec![
            ("input", json!(file_name(&source.fasta))),
            ("head", json!(opened.task.name)),
        ];
        let about = About {
            table: "sequences",
            reference: (None, &[]),
            mode: None,
            window: None,
            strand: Strand::Forward,
            selection: Selection::Listed {
                regions: Vec::new(),
            },
            shard: None,
            params,
            measured: Map::new(),
        };
        provenance::footer(&opened.session, compute, about, columns)
    }
}

impl OpenSequences {
    /// Counts the records, and measures.
    ///
    /// # Errors
    /// Those of the reader and the model.
    pub fn describe(&mut self) -> Result<String> {
        let (mut records, mut bases, mut longest) = (0, 0, 0);
        while let Some(record) = self.source.next_record()? {
            let length = record.len() as u64;
            let windows = self.session.windows;
            let again = windows.map_or(0, |windows| windows.shared(length));
            (records, bases, longest) = (records + 1, bases + length + again, longest.max(length));
        }
        let speed = self.session.estimate.measure(self.session.engines())?;
        let estimate = &mut self.session.estimate;
        (estimate.rows, estimate.bases) = (Some(records), Some(bases));
        Ok(format!(
            "format: {}\n{records} sequences, the longest {longest}\n{}",
            self.source.format().name(),
            estimate.describe(speed)
        ))
    }
}
