//! The language model's objective: each base from those before it.

use super::metrics::{self, Ratio};
use super::network::{Network, foreign};
use super::objective::{Evaluation, Loss, Objective};
use super::sampler::{Lanes, Pieces, Place, Sampler};
use super::split::{Genomes, Passage};
use crate::encoder::{Encoder, State};
use crate::error::{Error, Kind, Result};
use crate::ops::{Device, Tensor, cross_entropy};
use crate::sequence::region::Span;
use crate::sequence::{N, Segment};
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};
use std::f64::consts::LN_2;

/// Bases of a block, the unit that is drawn for intervals of confidence: longer than most genes,
/// so that blocks are all but independent.
const BLOCK: u64 = 10_000;

/// Cross-entropy of the next base, with truncated back-propagation: lanes of passages, read in
/// chunks, whose states go from chunk to chunk without gradients.
pub struct NextBase {
    genomes: Genomes,
    held_out: Vec<Span>,
    sampler: Sampler,
    chunk: u64,
    /// Bases that an evaluation reads at a time.
    reading: u64,
    parts: Vec<Part>,
}

/// Lanes that are computed together, and their states.
#[derive(Serialize, Deserialize)]
struct Part {
    lanes: Lanes,
    state: Option<State>,
}

/// Sizes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Bases of a passage, at most: the length over which a state is carried.
    pub length: u64,
    /// Bases of a lane in a step: the length over which gradients flow.
    pub chunk: u64,
    /// Lanes of a step.
    pub batch: usize,
    /// Parts of a step; at most `batch`.
    pub parts: usize,
}

impl NextBase {
    /// Trains on all that is not `held_out`, and evaluates on what is.
    ///
    /// # Errors
    /// Usage: nothing is left to train on.
    pub fn new(
        genomes: Genomes,
        held_out: Vec<Span>,
        sizes: Sizes,
        both: bool,
        seed: u64,
    ) -> Result<Self> {
        let training = genomes.training(&held_out)?;
        let parts = sizes.parts.clamp(1, sizes.batch.max(1));
        let lanes = |part: usize| sizes.batch / parts + usize::from(part < sizes.batch % parts);
        let part = |part| Part {
            lanes: Lanes::new(lanes(part)),
            state: None,
        };
        Ok(Self {
            sampler: Sampler::new(training, sizes.length, both, seed),
            genomes,
            held_out,
            chunk: sizes.chunk.max(1),
            reading: sizes.chunk.max(1) * lanes(0) as u64,
            parts: (0..parts).map(part).collect(),
        })
    }

    /// Bases of an epoch.
    pub fn epoch_bases(&self) -> u64 {
        self.sampler.bases()
    }
}

impl Objective for NextBase {
    fn loss(&mut self, network: &Network, part: usize) -> Result<Loss> {
        let part = self.parts.get_mut(part).ok_or_else(foreign)?;
        let pieces = part
            .lanes
            .next_pieces(&mut self.sampler, &self.genomes, self.chunk);
        let mut state = match part.state.take() {
            Some(state) => state,
            None => network.model.start(part.lanes.count())?,
        };
        let output = logits(network, &pieces, &mut state)?;
        part.state = Some(state);
        let vocabulary = &network.facts.vocabulary;
        let token = |target: &Option<u8>| target.map_or(0, |base| vocabulary.token(base));
        let targets: Vec<u32> = pieces.targets.iter().map(token).collect();
        let counts = pieces
            .targets
            .iter()
            .map(|t| f32::from(u8::from(t.is_some())));
        let (sum, seed) = cross_entropy(&output, &targets, &counts.collect::<Vec<_>>())?;
        Ok(Loss {
            output,
            seed,
            sum: sum / LN_2,
            count: pieces.targets.iter().flatten().count() as u64,
            bases: pieces.codes.len() as u64,
        })
    }

    fn evaluate(&self, network: &Network) -> Result<Option<Evaluation>> {
        let mut blocks: Vec<Ratio> = Vec::new();
        for span in &self.held_out {
            self.read(network, span, &mut blocks)?;
        }
        let Some(score) = metrics::ratio(&blocks.iter().collect::<Vec<_>>()) else {
            return Ok(None);
        };
        let bases: f64 = blocks.iter().map(|block| block.below).sum();
        let mut found = Map::new();
        found.insert("bits_per_base".into(), json!(score));
        found.insert(
            "bits_per_base_ci95".into(),
            json!(metrics::interval(&blocks, metrics::ratio)),
        );
        found.insert("bases".into(), json!(bases as u64));
        found.insert("ci95_blocks".into(), json!(blocks.len()));
        Ok(Some(Evaluation {
            score,
            metrics: found,
        }))
    }

    fn save(&self) -> Result<Vec<u8>> {
        let saved = (self.sampler.place(), &self.parts);
        postcard::to_stdvec(&saved).map_err(|e| Error::new(Kind::Internal, e))
    }

    fn restore(&mut self, saved: &[u8]) -> Result<()> {
        let (place, parts): (Place, Vec<Part>) =
            postcard::from_bytes(saved).map_err(|_| foreign())?;
        self.sampler.seek(place);
        self.parts = parts;
        Ok(())
    }
}

impl NextBase {
    /// Adds the bits of a held-out span's bases, block by block.
    fn read(&self, network: &Network, span: &Span, blocks: &mut Vec<Ratio>) -> Result<()> {
        let mut state = network.model.start(1)?;
        let passage = Passage {
            span: *span,
            reverse: false,
        };
        let mut before = 0;
        while before < passage.len() {
            let end = (before + self.reading).min(passage.len());
            let base = |i: u64| (i < passage.len()).then(|| self.genomes.base(&passage, i));
            let pieces = Pieces {
                codes: (before..end).filter_map(base).collect(),
                targets: (before + 1..=end)
                    .map(|i| base(i).filter(|b| *b != N))
                    .collect(),
                segments: vec![Segment {
                    lane: 0,
                    len: (end - before) as usize,
                    starts: before == 0,
                    ends: end == passage.len(),
                }],
            };
            let bits = bits(network, &pieces, &mut state)?;
            for (i, bits) in bits.into_iter().enumerate() {
                let place = before + i as u64;
                if place.is_multiple_of(BLOCK) {
                    blocks.push(Ratio::default());
                }
                if let (Some(bits), Some(block)) = (bits, blocks.last_mut()) {
                    block.above += bits;
                    block.below += 1.0;
                }
            }
            before = end;
        }
        Ok(())
    }
}

/// (T, V): what the model says of the token after each of the pieces' bases.
fn logits(network: &Network, pieces: &Pieces, state: &mut State) -> Result<Tensor> {
    let vocabulary = &network.facts.vocabulary;
    let tokens: Vec<u32> = pieces
        .codes
        .iter()
        .map(|code| vocabulary.token(*code))
        .collect();
    let count = tokens.len();
    let tokens = Tensor::from_vec(tokens, count, &Device::Cpu)?;
    let hidden = network.model.forward(&tokens, &pieces.segments, state)?;
    network.language_model()?.forward(&hidden)
}

/// `-log2 P` of each target.
fn bits(network: &Network, pieces: &Pieces, state: &mut State) -> Result<Vec<Option<f64>>> {
    let logits = logits(network, pieces, state)?;
    let width = logits.width();
    let values: Vec<f32> = logits.flatten_all()?.to_vec1()?;
    let bits = values
        .chunks_exact(width)
        .zip(&pieces.targets)
        .map(|(row, target)| {
            let token = network.facts.vocabulary.token((*target)?) as usize;
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let sum: f64 = row.iter().map(|x| f64::from(x - largest).exp()).sum();
            Some((sum.ln() - f64::from(row.get(token)? - largest)) / LN_2)
        });
    Ok(bits.collect())
}
