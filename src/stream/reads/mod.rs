//! Reads, and sequences of other files: records → steps → encoder → likelihoods, pooled vectors and
//! what a head says → a row a record.
//!
//! Reads share a step, end to end, from 50 bases to megabases; one that is longer than a step goes
//! on in the next, with the state carried.

mod rows;
mod sink;
mod steps;
mod whole;

pub use rows::Partial;
pub use sink::{ReadReceipts, ReadSink};
pub use steps::ReadTotals;
pub use whole::SequenceSink;

use super::Pool;
use super::coming::Coming;
use super::engine::{Engine, Windows};
use super::journal::{Journal, load, store};
use super::pipeline::{self, Batched, Computation, Next, Sink, Source, Stage, Totals};
use super::progress::Progress;
use crate::encoder::{Encoder, State};
use crate::error::{Error, Kind, Result};
use crate::head::{LanguageModel, Piece, SoFar, TaskHead};
use crate::io::alignments::{Alignments, Placed, Record};
use crate::ops::Tensor;
use crate::sequence::Segment;
use crate::sequence::shard::Blocks;
use crate::table::ReadStatus;
use rows::{OfReads, PromisedReads};
use std::io::{Read as Input, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use steps::{ReadStep, ReadSteps};

/// A model with its head, and what is computed of each read.
pub struct ReadHead {
    /// The language model on top of the encoder, if likelihoods are wanted.
    pub likelihood: Option<LanguageModel>,
    /// A head of sequences.
    pub task: Option<TaskHead>,
    /// For a bidirectional encoder: every base is masked once, one in so many at a time.
    pub masked: Option<usize>,
    /// How the vectors of a read become one; none: they are not kept.
    pub pool: Option<Pool>,
    /// Predictions of every base too.
    pub per_base: bool,
}

impl ReadHead {
    /// How often the encoder runs over each base.
    pub fn runs(&self) -> usize {
        match self.masked {
            Some(stride) => stride + usize::from(self.reads_whole()),
            None => 1,
        }
    }

    /// Whether something reads vectors of bases that are not masked.
    fn reads_whole(&self) -> bool {
        self.pool.is_some() || self.task.is_some()
    }
}

/// How reads are read.
#[derive(Clone, Debug)]
pub struct ReadSettings {
    /// Tokens of a step.
    pub chunk: usize,
    /// Windows that are read with an empty state each; none: the state is carried.
    pub windows: Option<Windows>,
    /// Reads that are stored as their reverse complement are read as they were sequenced.
    pub sequenced: bool,
    /// Secondary and supplementary alignments are reads too.
    pub all: bool,
    /// Only the records of these blocks, of the input's order.
    pub blocks: Option<Blocks>,
    /// Records that are no reads are handed on: the sink writes them.
    pub keep: bool,
    /// Where scratch files lie.
    pub scratch: PathBuf,
}

/// A record, and what is known of it before the model has seen it.
pub struct SourceRead {
    /// Its place in the input.
    index: i64,
    record: Record,
    placed: Placed,
    /// It gets a row.
    wanted: bool,
    /// [`Record::reference_positions`], once they are asked for.
    positions: OnceLock<Vec<Option<u64>>>,
}

impl SourceRead {
    fn status(&self) -> ReadStatus {
        match self.placed {
            Placed::Wrong => ReadStatus::BadAlignment,
            _ if self.record.is_empty() || self.record.is_unresolved() => ReadStatus::NoSequence,
            _ => ReadStatus::Ok,
        }
    }
}

/// What the sink is told, in order.
pub enum ReadOutput {
    /// A record that gets no row.
    Record(Arc<SourceRead>),
    /// A read that was read to its end.
    Row(Arc<SourceRead>, Partial),
    /// Predictions of consecutive bases of a read, from this one on.
    Bases(Arc<SourceRead>, usize, Vec<u8>, Vec<f32>),
}

/// Runs all reads of `source` into `sink`, in order: on several devices, if there are several
/// models, each on one of them.
///
/// Memory: the model and its state; of steps and their results a multiple of `settings.chunk`, and
/// of records as many as fit in a few steps, or 32 MB, or the longest one.
///
/// # Errors
/// Those of the reader, the model and the sink.
pub fn run(
    source: &mut Alignments,
    models: &[(&Engine, &ReadHead)],
    sink: &mut impl Sink<In = Vec<ReadOutput>>,
    settings: &ReadSettings,
    journal: Option<&mut Journal>,
    progress: &mut Progress,
) -> Result<(Totals, ReadTotals)> {
    let mut steps = ReadSteps::new(source, settings.clone());
    if let Some(journal) = &journal {
        steps.skip(journal.position())?;
    }
    let computing = models.iter().map(|&(engine, head)| {
        Ok(Computing {
            engine,
            head,
            state: (engine.model.start(1)?, SoFar::default()),
            scratch: settings.scratch.clone(),
        })
    });
    let mut computes = computing.collect::<Result<Vec<_>>>()?;
    let missing = || Error::new(Kind::Internal, "no model");
    let mut rows = OfReads::new(models.first().ok_or_else(missing)?.1);
    let totals = pipeline::run(
        &mut steps,
        &mut computes,
        &mut rows,
        sink,
        journal,
        progress,
    )?;
    Ok((
        totals,
        ReadTotals {
            ambiguous: rows.ambiguous(),
            ..steps.totals()
        },
    ))
}

impl Source for ReadSteps<'_> {
    type Work = ReadStep;

    fn next_batch(&mut self) -> Result<Option<Batched<ReadStep>>> {
        let Some(step) = self.next_step()? else {
            return Ok(None);
        };
        Ok(Some(Batched {
            next: Some(self.position()),
            ends: step.ends(),
            bytes: step.bytes(),
            work: step,
        }))
    }
}

/// The encoder with the state that it carries.
struct Computing<'a> {
    engine: &'a Engine,
    head: &'a ReadHead,
    /// The encoder's, and what the head of sequences has read.
    state: (State, SoFar),
    scratch: PathBuf,
}

impl Stage for Computing<'_> {
    type In = ReadStep;
    type Out = (ReadStep, PromisedReads);

    fn run(&mut self, step: ReadStep, to: &mut Next<Self::Out>) -> Result<()> {
        let values = if step.len() > 0 {
            self.values(&step)?
        } else {
            PromisedReads::default()
        };
        let (bases, name) = (step.len() as u64, step.name());
        to.send((step, values))?;
        to.done(bases, &name)
    }

    fn save(&self, file: &mut dyn Write) -> Result<()> {
        store(&self.state, file)
    }

    fn restore(&mut self, file: &mut dyn Input) -> Result<()> {
        self.state = load(file)?;
        Ok(())
    }
}

impl Computation for Computing<'_> {
    fn place(&self) -> String {
        self.engine.device.name()
    }

    fn scratch(&self) -> &Path {
        &self.scratch
    }
}

impl Computing<'_> {
    /// Vectors, if they are wanted, and logits of a step's tokens.
    fn values(&mut self, step: &ReadStep) -> Result<PromisedReads> {
        let Self {
            engine,
            head,
            state: (state, so_far),
            ..
        } = self;
        let tokens = engine.tokens(step.parts.iter().flat_map(|part| &part.codes));
        let segments: Vec<_> = step.parts.iter().filter_map(|part| part.segment).collect();
        let mut hidden = |tokens: Vec<u32>| engine.hidden(tokens, &segments, state);
        let flat = |tensor: Tensor| -> Result<Vec<f32>> { tensor.to_vec1() };
        let mut values = PromisedReads {
            masked: head.masked.is_some(),
            tokens: tokens.len(),
            ..PromisedReads::default()
        };
        if let Some(stride) = head.masked {
            let positions = step.parts.iter();
            let turns = positions.flat_map(|part| (part.from..).take(part.codes.len()));
            let turns: Vec<usize> = turns.map(|position| position % stride).collect();
            if let Some(likelihood) = &head.likelihood {
                let mut logits = |tokens| flat(likelihood.forward(&hidden(tokens)?.0)?);
                let logits = engine.masked(&tokens, &turns, stride, &mut logits)?;
                values.logits = Coming::Read(logits);
            }
            if head.reads_whole() {
                let (hidden, vectors) = hidden(tokens)?;
                values.said = said(head, &hidden, step, so_far)?;
                if let Some(vectors) = vectors {
                    values.vectors = Coming::Read(flat(vectors)?);
                }
            }
            return Ok(values);
        }
        let (hidden, vectors) = hidden(tokens)?; // (T, D), (T, N · D)
        values.said = said(head, &hidden, step, so_far)?;
        if let Some(likelihood) = &head.likelihood {
            values.logits = Coming::Later(likelihood.forward(&hidden)?.later()?); // (T, V)
        }
        if let Some(vectors) = vectors {
            // As large as an activation: no two of them should be there at a time.
            values.vectors = Coming::Read(flat(vectors)?);
        }
        Ok(values)
    }
}

/// What the head of sequences says of each part of a step, from its `hidden` vectors (T, D): of those
/// that end a sequence.
fn said(
    head: &ReadHead,
    hidden: &Tensor,
    step: &ReadStep,
    so_far: &mut SoFar,
) -> Result<Vec<Option<Vec<f32>>>> {
    let Some(task) = &head.task else {
        return Ok(Vec::new());
    };
    let (mut rows, mut pieces, mut first) = (Vec::new(), Vec::new(), 0);
    let mut codes = Vec::new();
    let parts = step.parts.iter().filter(|part| part.segment.is_some());
    for part in parts.clone() {
        rows.push(first + part.kept.start..first + part.kept.end);
        first += part.codes.len();
        codes.extend_from_slice(&part.codes[part.kept.clone()]);
        pieces.push(Piece {
            segment: Segment {
                lane: 0,
                len: part.kept.len(),
                starts: part.from == 0,
                ends: part.last,
            },
            length: part.read.record.len(),
        });
    }
    let kept: usize = pieces.iter().map(|piece| piece.segment.len).sum();
    let mut ended = if kept == first {
        task.read((hidden, &codes), &pieces, so_far)?
    } else {
        let rows = rows
            .iter()
            .map(|rows| hidden.narrow(0, rows.start, rows.len()));
        let rows = Tensor::cat(&rows.collect::<Result<Vec<_>>>()?, 0)?;
        task.read((&rows, &codes), &pieces, so_far)?
    }
    .into_iter();
    let of_part = step
        .parts
        .iter()
        .map(|part| part.segment.and_then(|_| ended.next()).flatten());
    Ok(of_part.collect())
}
