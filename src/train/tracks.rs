//! Classes or values of each base.

use super::labels::Labels;
use super::network::{Network, foreign};
use super::objective::{Evaluation, Loss, Objective, not_drawn};
use super::sampler::{EpochPlace, Sampler};
use super::split::{Genomes, Passage};
use super::tally::Tally;
use crate::encoder::Encoder;
use crate::error::{Error, Kind, Result};
use crate::head::{Link, Task};
use crate::ops::{Tensor, binary_cross_entropy, cross_entropy};
use crate::sequence::region::Span;
use crate::sequence::{Segment, complement};
use std::f64::consts::LN_2;

/// Bases of a block, the unit that is drawn for intervals of confidence, if it is not a part in
/// [`BLOCKS`] of what is held out.
const BLOCK: u64 = 10_000;
/// Blocks of an evaluation, at most.
const BLOCKS: u64 = 200;

/// Cross-entropy of each base's classes, or the squared error of its values. Passages are read
/// whole, each from an empty state.
pub struct Tracks {
    task: Task,
    genomes: Genomes,
    labels: Labels,
    held_out: Vec<Span>,
    test: Vec<Span>,
    sampler: Sampler,
    length: u64,
    /// Passages of each part of a step.
    parts: Vec<usize>,
    /// What the parts of the next step read.
    drawn: Vec<Vec<Passage>>,
    /// Of each class: what its bases count, and what others do.
    weights: Vec<[f32; 2]>,
}

/// How passages are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackReading {
    /// Bases of a passage, at most.
    pub length: u64,
    /// Passages of a step.
    pub batch: usize,
    /// Parts of a step; at most `batch`.
    pub parts: usize,
    /// Passages are of either strand, at random.
    pub both: bool,
    /// Classes count alike, however rare they are.
    pub balanced: bool,
}

impl Tracks {
    /// Trains on all that is neither `held_out` nor `test`; evaluates on the one, tests on the
    /// other.
    ///
    /// # Errors
    /// Usage: nothing is left to train on, or a base is in both; no label is left.
    pub fn new(
        task: Task,
        genomes: Genomes,
        labels: Labels,
        [held_out, test]: [Vec<Span>; 2],
        reading: TrackReading,
        seed: u64,
    ) -> Result<Self> {
        let training = genomes.training_without([&held_out, &test])?;
        if !labels.know(&training) {
            let what = "nothing is known of the bases that are trained on";
            return Err(Error::usage(what).todo("hold out less, or give labels of them"));
        }
        let weights = if reading.balanced {
            labels.balance(&training)
        } else {
            vec![[1.0; 2]; task.outputs.len()]
        };
        let parts = reading.parts.clamp(1, reading.batch.max(1));
        let share = |part| reading.batch / parts + usize::from(part < reading.batch % parts);
        Ok(Self {
            task,
            sampler: Sampler::new(training, reading.length, reading.both, seed),
            genomes,
            labels,
            held_out,
            test,
            length: reading.length,
            parts: (0..parts).map(share).collect(),
            drawn: Vec::new(),
            weights,
        })
    }

    /// Bases of an epoch.
    pub fn epoch_bases(&self) -> u64 {
        self.sampler.bases()
    }

    /// The targets of passages, end to end, as [`Labels::target`] has them.
    fn targets(&self, passages: &[Passage]) -> Vec<f32> {
        let mut out = Vec::new();
        for Passage { span, reverse } in passages {
            for i in 0..span.end - span.start {
                let base = if *reverse {
                    span.end - 1 - i
                } else {
                    span.start + i
                };
                self.labels.target(span.contig, base, *reverse, &mut out);
            }
        }
        out
    }

    /// (T, K): what the head says of passages, end to end, each from an empty state.
    fn forward(&self, network: &Network, passages: &[Passage]) -> Result<Tensor> {
        let vocabulary = &network.facts.vocabulary;
        let mut tokens: Vec<u32> = Vec::new();
        let mut segments: Vec<Segment> = Vec::new();
        let read = |passage: &Passage| self.genomes.read_passage(passage, 0..passage.len());
        for passage in passages {
            tokens.extend(read(passage).iter().map(|code| vocabulary.token(*code)));
            segments.push(Segment {
                lane: 0,
                len: passage.len() as usize,
                starts: true,
                ends: true,
            });
        }
        let count = tokens.len();
        let mut turned = Vec::new();
        if self.task.both_strands {
            // The other strand, passage by passage, and where each base is in it.
            for passage in passages {
                let codes = read(passage).into_iter().rev().map(complement);
                let first = tokens.len() as u32;
                tokens.extend(codes.map(|code| vocabulary.token(code)));
                turned.extend((first..tokens.len() as u32).rev());
            }
            segments.extend(segments.clone());
        }
        let device = &network.device;
        let all = tokens.len();
        let tokens = Tensor::from_vec(tokens, all, device)?;
        let mut state = network.model.start(1)?;
        let mut hidden = network.model.forward(&tokens, &segments, &mut state)?; // (T or 2T, D)
        if self.task.both_strands {
            let turned = Tensor::from_vec(turned, count, device)?;
            let strands = [
                hidden.narrow(0, 0, count)?,
                hidden.index_select(&turned, 0)?,
            ];
            hidden = Tensor::cat(&strands, 1)?; // (T, 2D)
        }
        network
            .head()?
            .forward(&hidden, &segments[..passages.len()])
    }

    /// The loss's sum, its gradient, and how many predictions it is of.
    fn loss_of(&self, output: &Tensor, targets: &[f32]) -> Result<(f64, Tensor, u64)> {
        let known = targets.iter().filter(|x| !x.is_nan()).count() as u64;
        let k = self.task.outputs.len();
        let (sum, seed) = match self.task.link {
            Link::Softmax => {
                let classes = targets
                    .iter()
                    .map(|x| if x.is_nan() { 0 } else { *x as u32 });
                let weight = |x: &f32| {
                    if x.is_nan() {
                        0.0
                    } else {
                        self.weights[*x as usize][0]
                    }
                };
                let weights: Vec<f32> = targets.iter().map(weight).collect();
                cross_entropy(output, &classes.collect::<Vec<_>>(), &weights)?
            }
            Link::Sigmoid => {
                let truths = targets.iter().enumerate().map(|(i, x)| {
                    let [yes, no] = self.weights[i % k];
                    if *x > 0.0 { yes } else { -no }
                });
                binary_cross_entropy(output, &truths.collect::<Vec<_>>())?
            }
            Link::Identity => {
                let values: Vec<f32> = output.flatten_all()?.to_vec1()?;
                let errors = values
                    .iter()
                    .zip(targets)
                    .map(|(y, x)| if x.is_nan() { 0.0 } else { y - x });
                let errors: Vec<f32> = errors.collect();
                let sum = errors.iter().map(|x| f64::from(*x).powi(2)).sum();
                let slopes = errors.iter().map(|x| 2.0 * x).collect();
                return Ok((
                    sum,
                    Tensor::from_vec(slopes, output.dims(), output.device())?,
                    known,
                ));
            }
        };
        Ok((sum / LN_2, seed, known))
    }
}

impl Objective for Tracks {
    fn draw(&mut self, parts: usize) -> Result<()> {
        let parts = self.parts.iter().take(parts);
        let drawn = parts.map(|&n| (0..n).map(|_| self.sampler.next_passage()).collect());
        self.drawn = drawn.collect();
        Ok(())
    }

    fn loss(&self, network: &Network, part: usize) -> Result<Loss> {
        let passages: &[Passage] = self.drawn.get(part).ok_or_else(not_drawn)?;
        let output = self.forward(network, passages)?;
        let (sum, seed, count) = self.loss_of(&output, &self.targets(passages))?;
        Ok(Loss {
            output,
            seed,
            sum,
            count,
            bases: passages.iter().map(Passage::len).sum(),
        })
    }

    fn evaluate(&self, network: &Network, _whole: bool) -> Result<Option<Evaluation>> {
        self.measure(network, &self.held_out)
    }

    fn test(&self, network: &Network) -> Result<Option<Evaluation>> {
        self.measure(network, &self.test)
    }

    fn save(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(&self.sampler.place()).map_err(|e| Error::because(Kind::Internal, e))
    }

    fn restore(&mut self, saved: &[u8]) -> Result<()> {
        let place: EpochPlace = postcard::from_bytes(saved).map_err(|e| foreign().caused_by(e))?;
        self.sampler.seek(place);
        Ok(())
    }
}

impl Tracks {
    /// All measures over some spans; none of nothing.
    fn measure(&self, network: &Network, spans: &[Span]) -> Result<Option<Evaluation>> {
        let bases: u64 = spans.iter().map(|span| span.end - span.start).sum();
        let block = BLOCK.max(bases.div_ceil(BLOCKS));
        let mut tally = Tally::new(self.task.link, &self.task.outputs);
        let k = self.task.outputs.len();
        let mut passages = Vec::new();
        for span in spans {
            let starts = (span.start..span.end).step_by(self.length as usize);
            passages.extend(starts.map(|start| Passage {
                span: Span {
                    start,
                    end: (start + self.length).min(span.end),
                    ..*span
                },
                reverse: false,
            }));
        }
        let mut place = 0u64;
        for passages in passages.chunks(self.parts[0].max(1)) {
            let targets = self.targets(passages);
            let mut said: Vec<f32> = self.forward(network, passages)?.flatten_all()?.to_vec1()?;
            let width = targets.len() / (said.len() / k).max(1);
            for (row, targets) in said.chunks_exact_mut(k).zip(targets.chunks_exact(width)) {
                if place.is_multiple_of(block) {
                    tally.begin();
                }
                place += 1;
                self.task.link.apply(row);
                tally.add(row, targets);
            }
        }
        let score = tally.score();
        Ok(score.map(|score| Evaluation::by_loss(score, tally.metrics())))
    }
}
