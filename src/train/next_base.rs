//! The language model's objective: each base from those before it.

use super::calibration::Calibration;
use super::metrics::{self, Ratio};
use super::network::{Network, foreign};
use super::objective::{Evaluation, Loss, Objective, not_drawn};
use super::sampler::{EpochPlace, Lanes, Pieces, Sampler, generator};
use super::split::{Genomes, Passage};
use crate::encoder::{Encoder, State};
use crate::error::{Error, Kind, Result};
use crate::ops::{Tensor, cross_entropy, surprisals};
use crate::sequence::region::Span;
use crate::sequence::{A, C, G, T};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::f64::consts::LN_2;
use std::sync::{Mutex, PoisonError};

/// Bases of a block, the unit that is drawn for intervals of confidence: longer than most genes,
/// so that blocks are all but independent.
const BLOCK: u64 = 10_000;
/// Where classes of context begin: bases that were read before one, in its region.
const CONTEXTS: [u64; 6] = [0, 64, 256, 1024, 4096, 16_384];

/// Bits and bases of a block, by class of context.
type Block = [Ratio; CONTEXTS.len()];

/// Cross-entropy of the next base, with truncated back-propagation: lanes of passages, read in
/// chunks, whose states go from chunk to chunk without gradients.
pub struct NextBase {
    genomes: Genomes,
    held_out: Vec<Span>,
    test: Vec<Span>,
    sampler: Sampler,
    draws: Draws,
    /// Pieces that were read, for the random numbers of each.
    read: u64,
    chunk: u64,
    /// Bases that an evaluation reads at a time.
    reading: u64,
    /// Each for the device that computes it.
    parts: Vec<Mutex<LanesAndState>>,
}

/// Lanes that are computed together, and their states.
#[derive(Serialize, Deserialize)]
struct LanesAndState {
    lanes: Lanes,
    state: Option<State>,
    /// What the next step reads.
    #[serde(skip)]
    drawn: Option<Pieces>,
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

/// What is drawn at random.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draws {
    /// The strand of each passage; else it is the forward one.
    pub both: bool,
    /// The fraction of the input's bases that are replaced by random ones; targets are not.
    pub corrupt: f64,
    /// What all of it follows from.
    pub seed: u64,
}

impl NextBase {
    /// Trains on all that is neither `held_out` nor `test`; evaluates on the one, tests on the
    /// other.
    ///
    /// # Errors
    /// Usage: nothing is left to train on, or a base is in both.
    pub fn new(
        genomes: Genomes,
        [held_out, test]: [Vec<Span>; 2],
        sizes: Sizes,
        draws: Draws,
    ) -> Result<Self> {
        let training = genomes.training_without([&held_out, &test])?;
        let parts = sizes.parts.clamp(1, sizes.batch.max(1));
        let lanes = |part: usize| sizes.batch / parts + usize::from(part < sizes.batch % parts);
        let part = |part| {
            Mutex::new(LanesAndState {
                lanes: Lanes::new(lanes(part)),
                state: None,
                drawn: None,
            })
        };
        Ok(Self {
            sampler: Sampler::new(training, sizes.length, draws.both, draws.seed),
            genomes,
            held_out,
            test,
            draws,
            read: 0,
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
    fn draw(&mut self, parts: usize) -> Result<()> {
        for part in self.parts.iter_mut().take(parts) {
            let part = part.get_mut().unwrap_or_else(PoisonError::into_inner);
            let mut pieces = part
                .lanes
                .next_pieces(&mut self.sampler, &self.genomes, self.chunk);
            if self.draws.corrupt > 0.0 {
                let rng = generator("corrupt", self.draws.seed, self.read);
                pieces.corrupt(self.draws.corrupt, rng);
            }
            self.read += 1;
            part.drawn = Some(pieces);
        }
        Ok(())
    }

    fn loss(&self, network: &Network, part: usize) -> Result<Loss> {
        let part = self.parts.get(part).ok_or_else(foreign)?;
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        let pieces = part.drawn.take().ok_or_else(not_drawn)?;
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

    fn evaluate(&self, network: &Network, whole: bool) -> Result<Option<Evaluation>> {
        self.measure(network, &self.held_out, whole)
    }

    fn test(&self, network: &Network) -> Result<Option<Evaluation>> {
        self.measure(network, &self.test, true)
    }

    fn save(&self) -> Result<Vec<u8>> {
        let saved = (self.sampler.place(), self.read, &self.parts);
        postcard::to_stdvec(&saved).map_err(|e| Error::because(Kind::Internal, e))
    }

    fn restore(&mut self, saved: &[u8]) -> Result<()> {
        let (place, read, parts): (EpochPlace, u64, Vec<Mutex<LanesAndState>>) =
            postcard::from_bytes(saved).map_err(|e| foreign().caused_by(e))?;
        self.sampler.seek(place);
        (self.read, self.parts) = (read, parts);
        Ok(())
    }
}

impl NextBase {
    /// Bits a base over some spans, and if `whole` how well the four bases' probabilities are
    /// calibrated; none of nothing.
    fn measure(
        &self,
        network: &Network,
        spans: &[Span],
        whole: bool,
    ) -> Result<Option<Evaluation>> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut calibration = whole.then(Calibration::default);
        for span in spans {
            self.read_span(network, span, &mut blocks, &mut calibration)?;
        }
        let all = |blocks: &[&Block]| {
            let parts: Vec<&Ratio> = blocks.iter().copied().flatten().collect();
            metrics::ratio(&parts)
        };
        let Some(score) = all(&blocks.iter().collect::<Vec<_>>()) else {
            return Ok(None);
        };
        let bases: f64 = blocks.iter().flatten().map(|block| block.below).sum();
        let mut found = Map::new();
        found.insert("bits_per_base".into(), json!(score));
        found.insert(
            "bits_per_base_ci95".into(),
            json!(metrics::interval(&blocks, all)),
        );
        found.insert("bases".into(), json!(bases as u64));
        found.insert("ci95_blocks".into(), json!(blocks.len()));
        found.insert("bits_per_base_by_context".into(), by_context(&blocks));
        found.extend(calibration.unwrap_or_default().measures());
        Ok(Some(Evaluation::by_loss(score, found)))
    }

    /// Adds the bits of a held-out span's bases, block by block.
    fn read_span(
        &self,
        network: &Network,
        span: &Span,
        blocks: &mut Vec<Block>,
        calibration: &mut Option<Calibration>,
    ) -> Result<()> {
        let mut state = network.model.start(1)?;
        let passage = Passage {
            span: *span,
            reverse: false,
        };
        let mut before = 0;
        while before < passage.len() {
            let end = (before + self.reading).min(passage.len());
            let mut pieces = Pieces::default();
            pieces.push(&self.genomes, &passage, before..end, 0);
            let logits = logits(network, &pieces, &mut state)?;
            if let Some(calibration) = calibration {
                calibrate(calibration, network, &pieces, &logits)?;
            }
            let bits = bits(network, &pieces, &logits)?;
            for (i, bits) in bits.into_iter().enumerate() {
                let place = before + i as u64;
                if place.is_multiple_of(BLOCK) {
                    blocks.push(Block::default());
                }
                // What is predicted after this base has this one before it too.
                let class = CONTEXTS.iter().rposition(|from| *from <= place + 1);
                let block = blocks.last_mut().zip(class);
                if let (Some(bits), Some((block, class))) = (bits, block) {
                    block[class].above += bits;
                    block[class].below += 1.0;
                }
            }
            before = end;
        }
        Ok(())
    }
}

/// Bits a base of each class of context that occurs, with its interval.
fn by_context(blocks: &[Block]) -> Value {
    let class = |(class, from): (usize, &u64)| {
        let of = |blocks: &[&Block]| {
            let parts: Vec<&Ratio> = blocks.iter().map(|block| &block[class]).collect();
            metrics::ratio(&parts)
        };
        let bits = of(&blocks.iter().collect::<Vec<_>>())?;
        Some(json!({
            "from": from,
            "bits_per_base": bits,
            "bits_per_base_ci95": metrics::interval(blocks, of),
        }))
    };
    CONTEXTS.iter().enumerate().filter_map(class).collect()
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
    let tokens = Tensor::from_vec(tokens, count, &network.device)?;
    let hidden = network.model.forward(&tokens, &pieces.segments, state)?;
    network.language_model()?.forward(&hidden)
}

/// Counts what the logits say of the four bases where one of them follows.
fn calibrate(
    calibration: &mut Calibration,
    network: &Network,
    pieces: &Pieces,
    logits: &Tensor,
) -> Result<()> {
    let width = logits.width();
    let values: Vec<f32> = logits.flatten_all()?.to_vec1()?;
    let letters = [A, C, G, T].map(|base| network.facts.vocabulary.token(base) as usize);
    for (row, target) in values.chunks_exact(width).zip(&pieces.targets) {
        let truth = target.and_then(|code| [A, C, G, T].iter().position(|base| *base == code));
        if let Some(truth) = truth {
            calibration.add(&letters.map(|token| row[token]), truth);
        }
    }
    Ok(())
}

/// `-log2 P` of each target.
fn bits(network: &Network, pieces: &Pieces, logits: &Tensor) -> Result<Vec<Option<f64>>> {
    let token = |target: &Option<u8>| Some(network.facts.vocabulary.token((*target)?));
    let targets: Vec<_> = pieces.targets.iter().map(token).collect();
    let nats = surprisals(logits, &targets)?.into_iter();
    Ok(nats.map(|nats| Some(nats? / LN_2)).collect())
}
