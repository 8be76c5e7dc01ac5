//! Sequences of a FASTA input through a model: contigs, regions, or a sample's own sequence.

mod bins;
mod ending;
mod exact;
mod intervals;
mod rows;
mod sink;
mod steps;
mod strands;
mod tracks;
mod values;

pub use exact::{exact_speed, run_exact};
pub use intervals::Intervals;
pub use sink::GenomeSink;
pub use steps::{GenomeStep, GenomeSteps, Piece};
pub use tracks::{Genes, Regions, Tracks};
pub use values::{ValueFile, ValueTrack};

use super::coming::{Aside, Coming};
use super::engine::{Engine, Windows};
use super::journal::{Journal, load, store};
use super::pipeline::{self, Batched, Computation, Next, Outcome, Source, Stage, Totals};
use super::progress::Progress;
use super::{Pool, Strand};
use crate::encoder::{Encoder, State};
use crate::error::{Error, Kind, Result};
use crate::head::{LanguageModel, TaskHead};
use crate::io::genome::Genome;
use crate::ops::{self, Device, Tensor};
use rows::GenomeRows;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// What is computed for each base.
pub enum Head {
    /// The encoder's vectors, at each of the engine's layers.
    Embedding,
    /// Probabilities of the language model, and its raw logits if asked for.
    Prediction {
        /// Hidden vectors to logits.
        model: Box<LanguageModel>,
        /// Write the logits too.
        logits: bool,
        /// For a bidirectional encoder: every base is masked once, one in so many at a time, in as
        /// many runs of the encoder.
        masked: Option<usize>,
    },
    /// What a head of a user's task says of each base.
    Task(Box<TaskHead>),
}

impl Head {
    /// How often the encoder runs over each base.
    pub fn runs(&self) -> usize {
        match self {
            Self::Prediction {
                masked: Some(stride),
                logits,
                ..
            } => stride + usize::from(*logits),
            _ => 1,
        }
    }

    /// What the head makes of hidden vectors (T, D); `strands`: as [`TaskHead::begin`] has them.
    fn values(&self, hidden: Tensor, strands: &[(usize, bool)]) -> Result<Tensor> {
        Ok(match self {
            Self::Embedding => hidden,
            Self::Prediction { model, .. } => model.forward(&hidden)?, // (T, V)
            Self::Task(head) => head.begin(&hidden, strands)?,
        })
    }
}

/// How a run is done.
pub struct GenomeSettings {
    /// Tokens of a step.
    pub chunk: usize,
    /// Windows that are read with an empty state each; none: the state is carried.
    pub windows: Option<Windows>,
    /// Strands.
    pub strand: Strand,
    /// Bases of a bin and how they are pooled; none: a row for each base.
    pub bins: Option<(u64, Pool)>,
    /// A row for each of these intervals, and how their bases are pooled.
    pub intervals: Option<(Intervals, Pool)>,
    /// Where scratch files lie.
    pub scratch: PathBuf,
}

/// A model and its head, as they read a genome.
#[derive(Clone, Copy)]
pub struct Reading<'a> {
    /// The encoder.
    pub engine: &'a Engine,
    /// What its hidden vectors become.
    pub head: &'a Head,
    /// How.
    pub settings: &'a GenomeSettings,
}

impl Reading<'_> {
    /// Bases of the bins that the device pools itself: what leaves a GPU is slow to come.
    fn pooled(&self) -> Option<(u64, Pool)> {
        let there = matches!(
            (&self.engine.device, self.head),
            (Device::Cuda(_), Head::Embedding)
        );
        self.settings.bins.filter(|_| there)
    }
}

/// Runs all sequences of `genome` into `sink`, in order: on several devices, if there are several
/// readings, which have the model each on one of them.
///
/// Memory: the model and its state, and of steps and rows a multiple of `settings.chunk`; with
/// several devices what [`pipeline`] says.
///
/// # Errors
/// Those of the reader, the model and the sink.
pub fn run(
    genome: &mut Genome,
    readings: &[Reading],
    sink: &mut GenomeSink,
    journal: Option<&mut Journal>,
    progress: &mut Progress,
) -> Result<Totals> {
    let missing = || Error::new(Kind::Internal, "no model");
    let reading = *readings.first().ok_or_else(missing)?;
    let mut steps = GenomeSteps::new(genome, reading.settings);
    if let Some(journal) = &journal {
        steps.skip(journal.position())?;
        // A head looks around: only between sequences nothing of them is carried.
        steps.stop_between_sequences(matches!(reading.head, Head::Task(_)));
    }
    let computing = readings.iter().map(|&reading| {
        let state = reading.engine.model.start(1)?;
        Ok(Computing { reading, state })
    });
    let mut computes = computing.collect::<Result<Vec<_>>>()?;
    let mut rows = GenomeRows::new(reading);
    pipeline::run(
        &mut steps,
        &mut computes,
        &mut rows,
        sink,
        journal,
        progress,
    )
}

impl Source for GenomeSteps<'_> {
    type Work = GenomeStep;

    fn next_batch(&mut self) -> Result<Option<Batched<GenomeStep>>> {
        let Some(step) = self.next_step()? else {
            return Ok(None);
        };
        Ok(Some(Batched {
            next: step.next,
            ends: step.ends(),
            bytes: step.len(),
            work: step,
        }))
    }
}

/// What the model gives for a step, when the device has computed it.
struct Promised {
    values: Coming,
    masked: Option<Coming>,
}

impl Promised {
    /// Waits for it.
    fn read(self) -> Result<Outputs> {
        Ok(Outputs {
            values: self.values.read()?,
            masked: self.masked.map(Coming::read).transpose()?,
        })
    }
}

impl Outcome for (GenomeStep, Promised) {
    fn put_aside(self, aside: &mut Aside) -> Result<Self> {
        let (step, Promised { values, masked }) = self;
        let values = values.put_aside(aside)?;
        let masked = masked.map(|masked| masked.put_aside(aside)).transpose()?;
        Ok((step, Promised { values, masked }))
    }
}

/// What the model gave for a step.
struct Outputs {
    /// Of each token, (T, width); of pooled bins, of each of the step's runs.
    values: Vec<f32>,
    /// The logits (T, V) of each base from the run in which it was masked, of a bidirectional
    /// model. `values` are empty then if nobody asked for logits.
    masked: Option<Vec<f32>>,
}

/// The encoder and the first part of its head, with the state that they carry.
struct Computing<'a> {
    reading: Reading<'a>,
    state: State,
}

impl Stage for Computing<'_> {
    type In = GenomeStep;
    type Out = (GenomeStep, Promised);

    fn run(&mut self, step: GenomeStep, to: &mut Next<Self::Out>) -> Result<()> {
        let outputs = self.outputs(&step)?;
        let bases = step.len() as u64;
        let last = step.pieces.last();
        let name = last.map_or_else(String::new, |piece| piece.sequence.name.clone());
        to.send((step, outputs))?;
        to.done(bases, &name)
    }

    fn save(&self, file: &mut dyn Write) -> Result<()> {
        store(&self.state, file)
    }

    fn restore(&mut self, file: &mut dyn Read) -> Result<()> {
        self.state = load(file)?;
        Ok(())
    }
}

impl Computation for Computing<'_> {
    fn place(&self) -> String {
        self.reading.engine.device.name()
    }

    fn scratch(&self) -> &Path {
        &self.reading.settings.scratch
    }
}

impl Computing<'_> {
    fn outputs(&mut self, step: &GenomeStep) -> Result<Promised> {
        let Reading { engine, head, .. } = self.reading;
        let codes = step.pieces.iter().flat_map(|piece| &piece.codes);
        let tokens = engine.tokens(codes);
        let segments = step.segments();
        let state = &mut self.state;
        let (logits, masked) = match head {
            Head::Embedding => {
                let vectors = engine.vectors(tokens, &segments, state)?;
                let values = match self.reading.pooled() {
                    // As large as an activation: no two of them should be there at a time.
                    None => Coming::Read(vectors.to_vec1()?),
                    Some((size, pool)) => {
                        let runs = step.runs(size);
                        Coming::Later(ops::pool(&vectors, &runs, pool.reduction())?.later()?)
                    }
                };
                let masked = None;
                return Ok(Promised { values, masked });
            }
            Head::Prediction { logits, masked, .. } => (*logits, *masked),
            Head::Task(_) => (true, None),
        };
        let strands = step.strands();
        let mut run = |tokens| head.values(engine.hidden(tokens, &segments, state)?.0, &strands);
        // Of a bidirectional model, each base's logits come from the run in which it was masked.
        let masked = match masked {
            Some(stride) => {
                let positions = step.pieces.iter().flat_map(|piece| {
                    (0..piece.codes.len()).map(|i| (piece.position(i) % stride as u64) as usize)
                });
                let turns: Vec<usize> = positions.collect();
                let mut read = |tokens| run(tokens)?.to_vec1();
                let masked = engine.masked(&tokens, &turns, stride, &mut read)?;
                Some(Coming::Read(masked))
            }
            None => None,
        };
        let values = if masked.is_some() && !logits {
            Coming::Read(Vec::new())
        } else {
            Coming::Later(run(tokens)?.later()?)
        };
        Ok(Promised { values, masked })
    }
}
