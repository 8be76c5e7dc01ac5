//! Reads: records → steps → encoder → likelihoods and pooled vectors → a row a read.
//!
//! The same three threads as for genomes. Reads share a step, end to end, from 50 bases to
//! megabases; one that is longer than a step goes on in the next, with the state carried.

mod rows;
mod steps;
mod table;

pub use table::{ReadReceipts, ReadSink};

use super::{Pool, Progress, SIGNAL, Windows, hidden_bases, interrupted};
use crate::encoder::{Encoder, Facts, Model, State};
use crate::error::{Error, Kind, Result};
use crate::head::LanguageModel;
use crate::io::alignments::{Alignments, Placed, Record};
use crate::ops::{Device, Tensor};
use rows::{Partial, Values};
use std::panic::resume_unwind;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use steps::{ReadStep, ReadSteps};

/// Steps that may wait for the encoder, and of results for the table.
const WAITING: usize = 2;

/// A model with its head, and what is computed of each read.
pub struct ReadEngine {
    /// The encoder.
    pub model: Model,
    /// Its sizes and tokens.
    pub facts: Facts,
    /// Where it runs.
    pub device: Device,
    /// The language model on top of it.
    pub likelihood: LanguageModel,
    /// For an encoder that looks both ways: every base is hidden once, one in so many at a time.
    pub masked: Option<usize>,
    /// How the vectors of a read become one; none: they are not kept.
    pub pool: Option<Pool>,
    /// Predictions of every base too.
    pub per_base: bool,
}

/// How reads are read.
#[derive(Clone, Copy, Debug)]
pub struct ReadSettings {
    /// Tokens of a step.
    pub chunk: usize,
    /// Windows that are read with an empty state each; none: the state is carried.
    pub windows: Option<Windows>,
    /// Reverse reads are turned round, so that every read is read as it was sequenced.
    pub sequenced: bool,
    /// Secondary and supplementary alignments are reads too.
    pub all: bool,
    /// Records that are no reads are handed on: the sink writes them.
    pub keep: bool,
}

/// What a run over reads did.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReadTotals {
    /// Records of the input.
    pub records: u64,
    /// Secondary alignments that were left out.
    pub secondary: u64,
    /// Supplementary alignments that were left out.
    pub supplementary: u64,
    /// Rows: reads.
    pub rows: u64,
    /// Reads without a sequence.
    pub no_sequence: u64,
    /// Reads whose alignment cannot be.
    pub bad_alignment: u64,
    /// Bases of all reads.
    pub bases: u64,
    /// The longest read.
    pub longest: u64,
    /// Bases that are N or another ambiguity code.
    pub ambiguous: u64,
    /// Calls of the encoder.
    pub steps: u64,
}

/// A record, and what is known of it before the model has seen it.
struct Read {
    /// Its place in the input.
    index: i64,
    record: Record,
    placed: Placed,
    /// It gets a row.
    wanted: bool,
    /// [`Record::reference_positions`], once they are asked for.
    positions: OnceLock<Vec<Option<u64>>>,
}

/// What a read's row says of how it went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ok,
    NoSequence,
    BadAlignment,
}

impl Read {
    fn status(&self) -> Status {
        match self.placed {
            Placed::Wrong => Status::BadAlignment,
            _ if self.record.is_empty() => Status::NoSequence,
            _ => Status::Ok,
        }
    }
}

/// What the writing thread is told, in order.
enum Output {
    /// A record that gets no row.
    Record(Arc<Read>),
    /// A read that was read to its end.
    Row(Arc<Read>, Partial),
    /// Predictions of consecutive bases of a read, from this one on.
    Bases(Arc<Read>, usize, Vec<u8>, Vec<f32>),
}

/// Runs all reads of `source` through `engine` into `sink`, in order.
///
/// Memory: the model and its state; of steps and their results a multiple of `settings.chunk`, and
/// of records as many as fit in a few steps, or 32 MB, or the longest one.
pub fn run_reads(
    source: &mut Alignments,
    engine: &ReadEngine,
    sink: &mut ReadSink,
    settings: &ReadSettings,
    progress: &mut Progress,
) -> Result<ReadTotals> {
    let (to_model, steps) = sync_channel(WAITING);
    let (to_table, outputs) = sync_channel(WAITING);
    thread::scope(|scope| {
        let reader = scope.spawn(move || read(source, settings, &to_model));
        let writer = scope.spawn(move || write(sink, &outputs));
        let computed = compute(engine, &steps, &to_table, progress);
        // The other two threads see their channels closed, and end.
        drop((steps, to_table));
        let read = reader.join().unwrap_or_else(|panic| resume_unwind(panic));
        let written = writer.join().unwrap_or_else(|panic| resume_unwind(panic));
        // What stopped the run is what the reader or the writer met, if anything.
        let totals = read?;
        written?;
        let (steps, ambiguous) = computed?;
        Ok(ReadTotals {
            steps,
            ambiguous,
            ..totals
        })
    })
}

fn read(
    source: &mut Alignments,
    settings: &ReadSettings,
    to_model: &SyncSender<ReadStep>,
) -> Result<ReadTotals> {
    let mut steps = ReadSteps::new(source, *settings);
    while let Some(step) = steps.next_step()? {
        if to_model.send(step).is_err() {
            break;
        }
    }
    Ok(steps.totals())
}

fn write(sink: &mut ReadSink, outputs: &Receiver<Vec<Output>>) -> Result<()> {
    outputs.iter().try_for_each(|outputs| sink.write(outputs))
}

/// Returns the encoder's calls, and the ambiguous bases that it has read.
fn compute(
    engine: &ReadEngine,
    steps: &Receiver<ReadStep>,
    to_table: &SyncSender<Vec<Output>>,
    progress: &mut Progress,
) -> Result<(u64, u64)> {
    let mut state = engine.model.start(1)?;
    // The logits after the last base of the unfinished read, and what is known of that.
    let (mut before, mut open) = (Vec::new(), Partial::default());
    let (mut calls, mut ambiguous) = (0, 0);
    for step in steps {
        if SIGNAL.load(Ordering::Relaxed) != 0 {
            return Err(interrupted());
        }
        let values = match step.len() {
            0 => Values::default(),
            _ => engine.values(&step, &mut state)?,
        };
        calls += u64::from(step.len() > 0);
        let partials = rows::partials(engine, &step, &values, &before)?;
        if let Some(last) = values.last_logits() {
            before.clear();
            before.extend_from_slice(last);
        }
        let mut out = Vec::new();
        for (part, mut partial) in step.parts.iter().zip(partials) {
            if !part.read.wanted {
                out.push(Output::Record(Arc::clone(&part.read)));
                continue;
            }
            if engine.per_base {
                let predictions = std::mem::take(&mut partial.predictions);
                let codes = part.codes[part.kept.clone()].to_vec();
                let from = part.from + part.kept.start;
                out.push(Output::Bases(
                    Arc::clone(&part.read),
                    from,
                    codes,
                    predictions,
                ));
            }
            open.merge(partial, engine.pool);
            if part.last {
                let row = std::mem::take(&mut open);
                ambiguous += row.ambiguous;
                out.push(Output::Row(Arc::clone(&part.read), row));
            }
        }
        if let Some(part) = step.parts.last() {
            let name = String::from_utf8_lossy(part.read.record.name());
            progress.add(step.len() as u64, &name);
        }
        // A closed channel means that the writer failed; its error is the one reported.
        let sent = to_table.send(out);
        sent.map_err(|_| Error::new(Kind::Io, "the writer stopped"))?;
    }
    Ok((calls, ambiguous))
}

impl ReadEngine {
    /// Hidden vectors, if they are wanted, and logits of a step's tokens.
    fn values(&self, step: &ReadStep, state: &mut State) -> Result<Values> {
        let codes = step.parts.iter().flat_map(|part| &part.codes);
        let tokens: Vec<u32> = codes
            .map(|&code| self.facts.vocabulary.token(code))
            .collect();
        let segments: Vec<_> = step.parts.iter().filter_map(|part| part.segment).collect();
        let mut hidden = |tokens: Vec<u32>| -> Result<Tensor> {
            let tokens = Tensor::new(tokens, &self.device)?; // (T)
            self.model.forward(&tokens, &segments, state) // (T, D)
        };
        let flat = |tensor: Tensor| -> Result<Vec<f32>> { tensor.to_vec1() };
        let mut values = Values {
            masked: self.masked.is_some(),
            tokens: tokens.len(),
            ..Values::default()
        };
        if let Some(stride) = self.masked {
            let positions = step.parts.iter();
            let turns = positions.flat_map(|part| (part.from..).take(part.codes.len()));
            let turns: Vec<usize> = turns.map(|position| position % stride).collect();
            let mut logits = |tokens| flat(self.likelihood.forward(&hidden(tokens)?)?);
            let vocabulary = &self.facts.vocabulary;
            values.logits = hidden_bases(&turns, &tokens, stride, vocabulary, &mut logits)?;
            if self.pool.is_some() {
                values.hidden = flat(hidden(tokens)?)?;
            }
            return Ok(values);
        }
        let vectors = hidden(tokens)?;
        values.logits = flat(self.likelihood.forward(&vectors)?)?; // (T, V)
        if self.pool.is_some() {
            values.hidden = flat(vectors)?;
        }
        Ok(values)
    }
}
