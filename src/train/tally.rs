//! How good the head of a base's classes or values is, gathered block by block of what is held out.

use super::metrics::{self, Confusion, Ratio};
use crate::head::Link;
use serde_json::{Map, Value, json};

/// Bins of scores, by log-odds from −12 to 12: areas under curves are computed of counts, scores of
/// one bin being ties.
const BINS: usize = 256;
/// Bases whose means are compared by rank.
const MEAN: usize = 100;

/// Counts of one block.
struct BlockCounts {
    loss: Ratio,
    /// Of classes that exclude each other: (true class, predicted one).
    pairs: Vec<f64>, // (K, K)
    outputs: Vec<ClassCounts>,
}

/// Counts of one class in one block, or sums of one value.
struct ClassCounts {
    /// Bases of the class, and others, by their score's bin.
    bins: [Vec<u32>; 2],
    /// Truth and prediction: (no, no), (no, yes), (yes, no), (yes, yes).
    table: [f64; 4],
    /// Means of predictions and truths, and bases of the last ones.
    means: Vec<[f64; 2]>,
    open: usize,
}

/// All blocks.
pub struct Tally {
    link: Link,
    names: Vec<String>,
    blocks: Vec<BlockCounts>,
}

impl Tally {
    /// For a head of this link, with these outputs.
    pub fn new(link: Link, names: &[String]) -> Self {
        Self {
            link,
            names: names.to_vec(),
            blocks: Vec::new(),
        }
    }

    /// Begins a block.
    pub fn begin(&mut self) {
        let k = self.names.len();
        let (bins, pairs) = match self.link {
            Link::Identity => (0, 0),
            Link::Sigmoid => (BINS, 0),
            Link::Softmax => (BINS, k * k),
        };
        self.blocks.push(BlockCounts {
            loss: Ratio::default(),
            pairs: vec![0.0; pairs],
            outputs: (0..k)
                .map(|_| ClassCounts {
                    bins: [vec![0; bins], vec![0; bins]],
                    table: [0.0; 4],
                    means: Vec::new(),
                    open: MEAN,
                })
                .collect(),
        });
    }

    /// Adds a base: what the head says of it, and its targets as `Labels::target` has them.
    pub fn add(&mut self, said: &[f32], targets: &[f32]) {
        let Some(block) = self.blocks.last_mut() else {
            return;
        };
        let bits = |p: f32| -f64::from(p.max(f32::MIN_POSITIVE)).log2();
        match (self.link, targets) {
            (Link::Softmax, [class]) if class.is_nan() => {}
            (Link::Softmax, [class]) => {
                let (truth, k) = (*class as usize, said.len());
                let best = said.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
                let best = best.map_or(0, |(class, _)| class);
                block.pairs[truth * k + best] += 1.0;
                for (i, (output, p)) in block.outputs.iter_mut().zip(said).enumerate() {
                    output.count(*p, i == truth, i == best);
                }
                block.loss.above += bits(said[truth]);
                block.loss.below += 1.0;
            }
            (Link::Sigmoid, _) => {
                for ((output, p), truth) in block.outputs.iter_mut().zip(said).zip(targets) {
                    let truth = *truth > 0.0;
                    output.count(*p, truth, *p >= 0.5);
                    block.loss.above += bits(if truth { *p } else { 1.0 - p });
                    block.loss.below += 1.0;
                }
            }
            _ => {
                for ((output, x), truth) in block.outputs.iter_mut().zip(said).zip(targets) {
                    if !truth.is_nan() {
                        output.mean(f64::from(*x), f64::from(*truth));
                        block.loss.above += f64::from(x - truth).powi(2);
                        block.loss.below += 1.0;
                    }
                }
            }
        }
    }

    /// The mean loss: bits of classes, squared errors of values; none of nothing.
    pub fn score(&self) -> Option<f64> {
        metrics::ratio(
            &self
                .blocks
                .iter()
                .map(|block| &block.loss)
                .collect::<Vec<_>>(),
        )
    }

    /// All measures, with intervals over the blocks.
    pub fn metrics(&self) -> Map<String, Value> {
        let mut all = Map::new();
        let mut add = |name: String, statistic: &dyn Fn(&[&BlockCounts]) -> Option<f64>| {
            let whole = statistic(&self.blocks.iter().collect::<Vec<_>>());
            let interval = metrics::interval(&self.blocks, statistic);
            all.insert(format!("{name}_ci95"), json!(interval));
            all.insert(name, json!(whole));
        };
        let loss = match self.link {
            Link::Identity => "mean_squared_error",
            _ => "cross_entropy_bits",
        };
        add(loss.to_string(), &|blocks| {
            metrics::ratio(&blocks.iter().map(|block| &block.loss).collect::<Vec<_>>())
        });
        let k = self.names.len();
        if self.link == Link::Softmax {
            add("mcc".to_string(), &|blocks| {
                let mut counts = vec![0.0; k * k];
                for block in blocks {
                    counts
                        .iter_mut()
                        .zip(&block.pairs)
                        .for_each(|(sum, n)| *sum += n);
                }
                Confusion::of(k, counts).mcc()
            });
        }
        for (i, name) in self.names.iter().enumerate() {
            let of = |measure: &str| format!("{measure}_{name}");
            if self.link == Link::Identity {
                add(of("spearman"), &|blocks| {
                    let means = blocks.iter().flat_map(|block| &block.outputs[i].means);
                    let (x, y): (Vec<f64>, Vec<f64>) = means.map(|[x, y]| (*x, *y)).unzip();
                    metrics::spearman(&x, &y)
                });
                continue;
            }
            let table = |blocks: &[&BlockCounts]| {
                let mut counts = vec![0.0; 4];
                for block in blocks {
                    let table = block.outputs[i].table;
                    counts.iter_mut().zip(table).for_each(|(sum, n)| *sum += n);
                }
                Confusion::of(2, counts)
            };
            add(of("auroc"), &|blocks| {
                areas(blocks, i).map(|[auroc, _]| auroc)
            });
            add(of("average_precision"), &|blocks| {
                areas(blocks, i).map(|[_, ap]| ap)
            });
            add(of("mcc"), &|blocks| table(blocks).mcc());
            add(of("f1"), &|blocks| Some(table(blocks).f1(1)));
        }
        let bases: f64 = self.blocks.iter().map(|block| block.loss.below).sum();
        all.insert("predictions".into(), json!(bases as u64));
        all.insert("ci95_blocks".into(), json!(self.blocks.len()));
        all
    }
}

impl ClassCounts {
    fn count(&mut self, p: f32, truth: bool, said: bool) {
        let odds = (p.max(1e-7) / (1.0 - p).max(1e-7)).ln();
        let bin = ((odds + 12.0) / 24.0 * BINS as f32) as usize;
        self.bins[usize::from(!truth)][bin.min(BINS - 1)] += 1;
        self.table[2 * usize::from(truth) + usize::from(said)] += 1.0;
    }

    fn mean(&mut self, x: f64, truth: f64) {
        if self.open == MEAN {
            self.means.push([0.0; 2]);
            self.open = 0;
        }
        self.open += 1;
        if let Some([mean, true_mean]) = self.means.last_mut() {
            *mean += (x - *mean) / self.open as f64;
            *true_mean += (truth - *true_mean) / self.open as f64;
        }
    }
}

/// The area under the receiver operating characteristic, and the average precision, of a class;
/// none if it never occurs, or nothing else does.
fn areas(blocks: &[&BlockCounts], class: usize) -> Option<[f64; 2]> {
    let mut bins = [[0u64; BINS]; 2];
    for block in blocks {
        for (sum, counts) in bins.iter_mut().zip(&block.outputs[class].bins) {
            sum.iter_mut()
                .zip(counts)
                .for_each(|(sum, n)| *sum += u64::from(*n));
        }
    }
    let total = bins.map(|counts| counts.iter().sum::<u64>() as f64);
    if total.contains(&0.0) {
        return None;
    }
    let (mut hits, mut misses, mut above, mut precision) = (0.0, 0.0, 0.0, 0.0);
    for bin in (0..BINS).rev() {
        let [yes, no] = [bins[0][bin] as f64, bins[1][bin] as f64];
        // Pairs with the others of this bin and of those below, ties counting half.
        above += yes * (total[1] - misses - no / 2.0);
        hits += yes;
        misses += no;
        if yes > 0.0 {
            precision += yes * hits / (hits + misses);
        }
    }
    Some([above / (total[0] * total[1]), precision / total[0]])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(k: usize) -> Vec<String> {
        (0..k).map(|i| format!("c{i}")).collect()
    }

    #[test]
    fn measures_of_counts_equal_those_of_all_scores() {
        let mut tally = Tally::new(Link::Sigmoid, &names(1));
        // Scores in the middles of bins, so that ties are the same.
        let score = |i: usize| 1.0 / (1.0 + (-((i * 37 % 60) as f32 - 29.5) * 0.28125).exp());
        let truth = |i: usize| (i * 11) % 7 < 1 + (i * 37 % 60) / 12;
        let (mut scores, mut truths) = (Vec::new(), Vec::new());
        for i in 0..600 {
            if i % 60 == 0 {
                tally.begin();
            }
            tally.add(&[score(i)], &[f32::from(u8::from(truth(i)))]);
            scores.push(f64::from(score(i)));
            truths.push(truth(i));
        }
        let found = tally.metrics();
        let near = |name: &str, expected: Option<f64>| {
            let (found, expected) = (found[name].as_f64().unwrap(), expected.unwrap());
            assert!(
                (found - expected).abs() < 1e-9,
                "{name}: {found} {expected}"
            );
        };
        near("auroc_c0", metrics::auroc(&scores, &truths));
        near(
            "average_precision_c0",
            metrics::average_precision(&scores, &truths),
        );
        let pairs = scores
            .iter()
            .zip(&truths)
            .map(|(p, t)| (usize::from(*t), usize::from(*p >= 0.5)));
        let confusion = Confusion::new(2, pairs);
        near("mcc_c0", confusion.mcc());
        near("f1_c0", Some(confusion.f1(1)));
        let interval = found["auroc_c0_ci95"].as_array().unwrap();
        let [low, high] = [0, 1].map(|i| interval[i].as_f64().unwrap());
        assert!(
            low < found["auroc_c0"].as_f64().unwrap() && high > found["auroc_c0"].as_f64().unwrap()
        );
    }

    #[test]
    fn unknown_bases_count_for_nothing() {
        let mut tally = Tally::new(Link::Softmax, &names(2));
        tally.begin();
        tally.add(&[0.25, 0.75], &[1.0]);
        tally.add(&[1.0, 0.0], &[f32::NAN]);
        assert!((tally.score().unwrap() - (4.0f64 / 3.0).log2()).abs() < 1e-6);
        let mut values = Tally::new(Link::Identity, &names(2));
        values.begin();
        for i in 0..500 {
            values.add(&[i as f32, 1.0], &[2.0 * i as f32, f32::NAN]);
        }
        let found = values.metrics();
        assert_eq!(found["spearman_c0"], 1.0);
        assert!(found["spearman_c1"].is_null());
        assert_eq!(found["predictions"], 500);
    }
}
