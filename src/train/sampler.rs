//! The order in which training spans are read: passages, drawn anew for each epoch.

use super::split::{Genomes, Passage};
use crate::sequence::region::Span;
use crate::sequence::{N, Segment};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::ops::Range;

/// Cuts the training spans into passages. In each epoch every base is read once: the cuts begin
/// at a random place, each passage has a random strand, and their order is random. All of it
/// follows from the seed.
pub struct Sampler {
    spans: Vec<Span>,
    length: u64,
    both: bool,
    seed: u64,
    place: EpochPlace,
    passages: Vec<Passage>,
}

/// How far a sampler has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochPlace {
    pub(super) epoch: u64,
    pub(super) next: u64,
}

impl Sampler {
    /// Passages of at most `length` bases of `spans`; of the forward strand only, unless `both`.
    pub fn new(spans: Vec<Span>, length: u64, both: bool, seed: u64) -> Self {
        let mut sampler = Self {
            spans,
            length: length.max(2),
            both,
            seed,
            place: EpochPlace::default(),
            passages: Vec::new(),
        };
        sampler.seek(EpochPlace::default());
        sampler
    }

    /// Bases of an epoch.
    pub fn bases(&self) -> u64 {
        self.spans.iter().map(|span| span.end - span.start).sum()
    }

    /// Where [`Sampler::seek`] goes on.
    pub fn place(&self) -> EpochPlace {
        self.place
    }

    /// Goes on from a place.
    pub fn seek(&mut self, place: EpochPlace) {
        self.place = place;
        self.passages = self.epoch(place.epoch);
    }

    /// The next passage, at least 2 bases long.
    pub fn next_passage(&mut self) -> Passage {
        loop {
            if let Some(passage) = self.passages.get(self.place.next as usize) {
                self.place.next += 1;
                return *passage;
            }
            self.seek(EpochPlace {
                epoch: self.place.epoch + 1,
                next: 0,
            });
        }
    }

    fn epoch(&self, epoch: u64) -> Vec<Passage> {
        let mut rng = generator("passages", self.seed, epoch);
        let mut passages = Vec::new();
        for span in &self.spans {
            let mut start = span.start;
            let mut end = start + rng.random_range(2..=self.length);
            while start < span.end {
                // A single base has nothing to predict: it goes with the passage before it.
                let stop = if end + 1 >= span.end { span.end } else { end };
                let reverse = self.both && rng.random();
                passages.push(Passage {
                    span: Span {
                        start,
                        end: stop,
                        ..*span
                    },
                    reverse,
                });
                (start, end) = (stop, stop + self.length);
            }
        }
        passages.shuffle(&mut rng);
        passages
    }
}

/// The random numbers for one purpose.
pub(super) fn generator(purpose: &str, seed: u64, number: u64) -> StdRng {
    let mut key = Sha256::new();
    key.update(purpose);
    key.update(seed.to_le_bytes());
    key.update(number.to_le_bytes());
    StdRng::from_seed(key.finalize().into())
}

/// Passages side by side, each read piece by piece with a state of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lanes(Vec<Option<LanePassage>>);

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct LanePassage {
    passage: Passage,
    before: u64,
}

/// What a model reads at a time, and what it should have predicted.
#[derive(Default)]
pub struct Pieces {
    /// Base codes, end to end.
    pub codes: Vec<u8>,
    /// The base after each; `None` where it is unknown or the passage ends.
    pub targets: Vec<Option<u8>>,
    /// Where the lanes stand in the state.
    pub segments: Vec<Segment>,
}

impl Pieces {
    /// Adds the bases of a passage at these places, on a lane.
    pub fn push(&mut self, genomes: &Genomes, passage: &Passage, places: Range<u64>, lane: usize) {
        let Range { start, end } = places;
        let len = (end - start) as usize;
        // With the base behind them, if there is one.
        let codes = genomes.read_passage(passage, start..passage.len().min(end + 1));
        let next = |i| codes.get(i).copied().filter(|base| *base != N);
        self.targets.extend((1..=len).map(next));
        self.codes.extend_from_slice(&codes[..len]);
        self.segments.push(Segment {
            lane,
            len,
            starts: start == 0,
            ends: end == passage.len(),
        });
    }

    /// Replaces this fraction of the bases by random ones; the targets stay.
    pub fn corrupt(&mut self, fraction: f64, mut rng: StdRng) {
        let below = (fraction * 2f64.powi(32)) as u64;
        for code in &mut self.codes {
            let drawn: u64 = rng.random();
            if drawn >> 32 < below {
                *code = (drawn % 4) as u8;
            }
        }
    }
}

impl Lanes {
    /// So many lanes, each before its first passage.
    pub fn new(count: usize) -> Self {
        Self(vec![None; count])
    }

    /// The number of lanes.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The next piece of each lane, at most `chunk` bases. A lane whose passage has ended begins
    /// the next one.
    pub fn next_pieces(&mut self, sampler: &mut Sampler, genomes: &Genomes, chunk: u64) -> Pieces {
        let mut pieces = Pieces::default();
        for (lane, slot) in self.0.iter_mut().enumerate() {
            let LanePassage { passage, before } = slot.take().unwrap_or_else(|| LanePassage {
                passage: sampler.next_passage(),
                before: 0,
            });
            let end = (before + chunk).min(passage.len());
            pieces.push(genomes, &passage, before..end, lane);
            *slot = (end < passage.len()).then_some(LanePassage {
                passage,
                before: end,
            });
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sequence::region::Query;
    use proptest::prelude::*;

    fn genomes() -> Genomes {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("g.fa");
        std::fs::write(
            &path,
            format!(">a\n{}\n>b\n{}\n", "GATTACA".repeat(40), "ACGTT"),
        )
        .unwrap();
        Genomes::read(&[path]).unwrap()
    }

    proptest! {
        #[test]
        fn an_epoch_reads_every_training_base_once_and_none_that_is_held_out(
            start in 1u64..250, len in 1u64..40, length in 1u64..100, seed: u64,
        ) {
            let genomes = genomes();
            let held = Query::parse(&format!("a:{start}-{}", start + len - 1)).unwrap();
            let held = genomes.held_out(&[held]).unwrap();
            let spans = genomes.training(&held).unwrap();
            let mut sampler = Sampler::new(spans.clone(), length, true, seed);
            let mut read = [vec![0; 280], vec![0; 5]];
            let mut left = sampler.bases();
            while left > 0 {
                let passage = sampler.next_passage();
                prop_assert!(passage.len() >= 2 && passage.len() <= length.max(2) + 1);
                left -= passage.len();
                for i in passage.span.start..passage.span.end {
                    read[passage.span.contig][i as usize] += 1;
                }
            }
            for (contig, read) in read.iter().enumerate() {
                for (i, read) in read.iter().enumerate() {
                    let covers = |span: &Span| {
                        span.contig == contig && (span.start..span.end).contains(&(i as u64))
                    };
                    prop_assert_eq!(*read, u8::from(spans.iter().any(covers)));
                    prop_assert!(*read == 0 || !held.iter().any(covers));
                }
            }
        }

        #[test]
        fn a_sampler_goes_on_where_another_one_was(seed: u64, read in 0usize..60) {
            let spans = genomes().training(&[]).unwrap();
            let mut first = Sampler::new(spans.clone(), 20, true, seed);
            for _ in 0..read {
                first.next_passage();
            }
            let mut second = Sampler::new(spans, 20, true, seed);
            second.seek(first.place());
            for _ in 0..30 {
                prop_assert_eq!(first.next_passage(), second.next_passage());
            }
        }
    }

    #[test]
    fn lanes_read_their_passages_to_the_end_and_predict_what_comes_next() {
        let genomes = genomes();
        let spans = genomes.training(&[]).unwrap();
        let mut sampler = Sampler::new(spans, 30, true, 1);
        let mut again = Sampler::new(genomes.training(&[]).unwrap(), 30, true, 1);
        let mut lanes = Lanes::new(1);
        for _ in 0..20 {
            let passage = again.next_passage();
            let mut read = 0;
            loop {
                let pieces = lanes.next_pieces(&mut sampler, &genomes, 7);
                let segment = pieces.segments[0];
                assert_eq!(
                    (segment.starts, segment.len),
                    (read == 0, pieces.codes.len())
                );
                for (code, target) in pieces.codes.iter().zip(&pieces.targets) {
                    assert_eq!(*code, genomes.base(&passage, read));
                    read += 1;
                    let next = (read < passage.len()).then(|| genomes.base(&passage, read));
                    assert_eq!(*target, next);
                }
                if segment.ends {
                    break;
                }
            }
            assert_eq!(read, passage.len());
        }
    }

    #[test]
    fn the_named_fraction_of_the_bases_becomes_random_and_no_target() {
        let genomes = genomes();
        let spans = genomes.training(&[]).unwrap();
        let passage = Passage {
            span: spans[0],
            reverse: true,
        };
        let read = |fraction: f64, number| {
            let mut pieces = Pieces::default();
            for lane in 0..100 {
                pieces.push(&genomes, &passage, 0..passage.len(), lane);
            }
            pieces.corrupt(fraction, generator("corrupt", 1, number));
            pieces
        };
        let clean = read(0.0, 0);
        // A random base is the true one in a quarter of the cases.
        for (fraction, changed) in [(0.0, 0.0), (0.2, 0.15), (1.0, 0.75)] {
            let found = read(fraction, 0);
            assert_eq!(found.targets, clean.targets);
            let pairs = found.codes.iter().zip(&clean.codes);
            let differ = pairs.filter(|(a, b)| a != b).count() as f64;
            assert!((differ / clean.codes.len() as f64 - changed).abs() < 0.01);
            assert_eq!(read(fraction, 0).codes, found.codes);
            assert_eq!(read(fraction, 1).codes == found.codes, fraction == 0.0);
        }
    }

    #[test]
    fn one_strand_is_read_if_only_one_is_asked_for() {
        let spans = genomes().training(&[]).unwrap();
        let reversed = |both| {
            let mut sampler = Sampler::new(spans.clone(), 10, both, 3);
            (0..50).filter(|_| sampler.next_passage().reverse).count()
        };
        assert_eq!(reversed(false), 0);
        assert!((10..40).contains(&reversed(true)));
    }
}
