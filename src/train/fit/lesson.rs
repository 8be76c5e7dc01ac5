//! Objectives for the material of a run, and how much of it a step reads.

use super::material::{Data, Material};
use super::request::{Lesson, Request};
use crate::encoder::Facts;
use crate::error::{Error, Result};
use crate::head::{Link, Shape, Task, Unit};
use crate::sequence::region::Span;
use crate::train::{
    Draws, Example, Genomes, Labels, NextBase, Objective, Select, Sequences, Sizes, TrackReading,
    Tracks, Trained,
};
use serde_json::{Map, Value, json};

/// An objective, and what there is to say of it.
pub(super) struct Chosen {
    pub objective: Box<dyn Objective>,
    /// Its settings, by name.
    pub settings: Map<String, Value>,
    pub pace: Pace,
}

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pace {
    /// Bases or sequences of an epoch.
    pub epoch: u64,
    /// Of them, those of a step.
    pub step: u64,
    /// Passages or sequences of a step.
    pub batch: usize,
    /// Bases of a step, at most.
    pub bases: u64,
    /// Bases of an evaluation, and of the test.
    pub held_back: [u64; 2],
    /// Strands of each base that are read.
    pub strands: u64,
    /// Bytes of genomes, labels and sequences.
    pub bytes: u64,
}

impl Pace {
    /// How many steps take as long as an evaluation: a gradient takes two times as long as what it
    /// is of, unless the encoder has none.
    pub(super) fn evaluation(&self, trained: &Trained) -> f64 {
        let work = match trained {
            Trained::Head => 1.0,
            Trained::All | Trained::Adapter { .. } => 3.0,
        };
        self.held_back[0] as f64 / (work * self.bases.max(1) as f64)
    }
}

impl Lesson {
    /// What it is called in records.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::NextBase { .. } => "next-base",
            Self::Sequences { .. } => "sequences",
            Self::Tracks(_) => "tracks",
        }
    }

    /// An error unless a model can learn it.
    pub(super) fn suits(&self, facts: &Facts) -> Result<()> {
        if facts.pretrained {
            let error = Error::usage("a published Transformer runs as it was published");
            return Err(error.todo("train a crocuta-transformer, or another architecture"));
        }
        match self {
            Self::NextBase { .. } if !facts.causal => {
                let what = "next-base needs a model that reads in one direction";
                Err(Error::usage(what).todo("take another architecture than Caduceus"))
            }
            Self::Tracks(tracking) if tracking.both_strands && !facts.causal => {
                let what = "--both-strands is for models that read in one direction";
                Err(Error::usage(what).todo("leave it out: this one is bidirectional already"))
            }
            _ => Ok(()),
        }
    }
}

/// Why a model and a head cannot be trained on a GPU; none if they can.
pub(super) fn without_gpu(facts: &Facts, task: Option<&Task>) -> Option<&'static str> {
    let plain = task.is_none_or(|task| {
        let local = matches!(task.shape, Shape::LocalAttention { .. });
        task.unit == Unit::Sequence || task.link == Link::Softmax && !local
    });
    if !plain {
        return Some("this kind of head is trained on the CPU");
    }
    (!facts.trains_on_gpu).then_some("this architecture is trained on the CPU")
}

/// The objective of a run.
///
/// # Errors
/// Usage: nothing is left to train on, or a base is held out twice.
pub(super) fn choose(request: &Request, material: Material, facts: &Facts) -> Result<Chosen> {
    match (&request.lesson, material.data, material.task) {
        (
            Lesson::Tracks(tracking),
            Data::Genomes {
                genomes,
                labels: Some(labels),
                held_back,
            },
            Some(task),
        ) => tracks(
            request,
            (genomes, labels, held_back),
            (task, tracking.balanced, tracking.genes),
            facts,
        ),
        (
            Lesson::NextBase { corrupt, .. },
            Data::Genomes {
                genomes, held_back, ..
            },
            _,
        ) => next_base(request, *corrupt, (genomes, held_back), facts),
        (Lesson::Sequences { select, .. }, Data::Tables { sets, copies }, Some(task)) => {
            sequences(request, (task, *select), sets, copies)
        }
        _ => Err(Error::new(
            crate::error::Kind::Internal,
            "the material is another lesson's",
        )),
    }
}

fn next_base(
    request: &Request,
    corrupt: f64,
    (genomes, held_back): (Genomes, [Vec<Span>; 2]),
    facts: &Facts,
) -> Result<Chosen> {
    let steps = &request.steps;
    let sizes = Sizes {
        length: steps
            .length
            .unwrap_or(facts.context.unwrap_or(1 << 16) as u64),
        chunk: steps.chunk,
        batch: steps.batch.unwrap_or(8),
        parts: steps.parts,
    };
    let draws = Draws {
        both: request.both.unwrap_or(true),
        corrupt,
        seed: request.seed,
    };
    let (read, bytes) = (
        held_back.each_ref().map(|spans| bases(spans)),
        all(&genomes),
    );
    let objective = NextBase::new(genomes, held_back, sizes, draws)?;
    let step = sizes.chunk.min(sizes.length) * sizes.batch as u64;
    let own = [
        ("strand", strand(draws.both)),
        ("corrupt", json!(draws.corrupt)),
        ("length", json!(sizes.length)),
        ("chunk", json!(sizes.chunk)),
        ("batch", json!(sizes.batch)),
    ];
    Ok(Chosen {
        pace: Pace {
            epoch: objective.epoch_bases(),
            step,
            batch: sizes.batch,
            bases: step,
            held_back: read,
            strands: 1,
            bytes,
        },
        settings: settings(own),
        objective: Box::new(objective),
    })
}

fn tracks(
    request: &Request,
    (genomes, labels, held_back): (Genomes, Labels, [Vec<Span>; 2]),
    (task, balanced, genes): (Task, bool, bool),
    facts: &Facts,
) -> Result<Chosen> {
    let steps = &request.steps;
    let context = facts.context.map_or(u64::MAX, |context| context as u64);
    let reading = TrackReading {
        length: steps.length.unwrap_or(context.min(8192)),
        batch: steps.batch.unwrap_or(8),
        parts: steps.parts,
        both: request.both.unwrap_or(genes),
        balanced,
    };
    let strands = if task.both_strands { 2 } else { 1 };
    let read = held_back.each_ref().map(|spans| bases(spans));
    let longest = all(&genomes).min(reading.length);
    let bytes = all(&genomes) + labels.bytes();
    let own = [
        ("strand", strand(reading.both)),
        ("length", json!(reading.length)),
        ("batch", json!(reading.batch)),
        ("head", json!(task)),
        (
            "class_weights",
            json!(if balanced { "balanced" } else { "none" }),
        ),
    ];
    let objective = Tracks::new(task, genomes, labels, held_back, reading, request.seed)?;
    Ok(Chosen {
        pace: Pace {
            epoch: objective.epoch_bases(),
            step: reading.length.saturating_mul(reading.batch as u64),
            batch: reading.batch,
            bases: longest * reading.batch as u64,
            held_back: read,
            strands,
            bytes,
        },
        settings: settings(own),
        objective: Box::new(objective),
    })
}

fn sequences(
    request: &Request,
    (task, select): (Task, Select),
    sets: [Vec<Example>; 3],
    copies: usize,
) -> Result<Chosen> {
    let batch = request.steps.batch.unwrap_or(64);
    let both = request.both.unwrap_or(false);
    let [training, held_out, test] = sets.each_ref().map(|set| Example::bases(set));
    let (count, longest) = (sets[0].len() as u64, Example::longest(&sets[0]));
    let own = [
        ("strand", strand(both)),
        ("batch", json!(batch)),
        ("outputs", json!(task.outputs)),
        ("head", json!(task)),
        ("copies_left_out", json!(copies)),
        ("select", json!(format!("{select:?}").to_lowercase())),
    ];
    let part = batch.div_ceil(request.steps.parts.min(batch));
    let objective = Sequences::new(task, sets, part, (both, request.seed), select)?;
    Ok(Chosen {
        pace: Pace {
            epoch: count,
            step: batch as u64,
            batch,
            bases: longest * batch as u64,
            held_back: [held_out, test],
            strands: 1,
            bytes: training + held_out + test,
        },
        settings: settings(own),
        objective: Box::new(objective),
    })
}

fn strand(both: bool) -> Value {
    json!(if both { "both" } else { "forward" })
}

fn bases(spans: &[Span]) -> u64 {
    spans.iter().map(|span| span.end - span.start).sum()
}

fn all(genomes: &Genomes) -> u64 {
    genomes.contigs.iter().map(|contig| contig.length).sum()
}

/// Settings by name.
pub(super) fn settings<const N: usize>(own: [(&str, Value); N]) -> Map<String, Value> {
    let own = own.into_iter();
    own.map(|(key, value)| (key.to_string(), value)).collect()
}
