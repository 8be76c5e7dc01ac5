//! Measures of quality, and how sure they are.

use super::sampler::generator;
use rand::Rng;

/// Resamplings of [`interval`].
const RESAMPLES: usize = 1000;

/// A sum over a sum: bits over bases.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ratio {
    /// What is summed above.
    pub above: f64,
    /// What is summed below.
    pub below: f64,
}

/// Sums of all over sums of all; none if nothing is below.
pub fn ratio(parts: &[&Ratio]) -> Option<f64> {
    let above: f64 = parts.iter().map(|part| part.above).sum();
    let below: f64 = parts.iter().map(|part| part.below).sum();
    (below > 0.0).then_some(above / below)
}

/// The 95 % interval of a statistic, by the percentile bootstrap over groups that do not depend on
/// each other (contigs, blocks, sequences): Efron & Tibshirani 1993, chapter 13. `None` with fewer
/// than two groups, or where the statistic is not defined for most of the resamplings. The same
/// groups always give the same interval.
pub fn interval<T>(groups: &[T], statistic: impl Fn(&[&T]) -> Option<f64>) -> Option<[f64; 2]> {
    if groups.len() < 2 {
        return None;
    }
    let mut rng = generator("bootstrap", 0, 0);
    let mut drawn = Vec::with_capacity(groups.len());
    let mut found: Vec<f64> = (0..RESAMPLES)
        .filter_map(|_| {
            drawn.clear();
            drawn.extend((0..groups.len()).map(|_| &groups[rng.random_range(0..groups.len())]));
            statistic(&drawn).filter(|x| x.is_finite())
        })
        .collect();
    if found.len() * 2 < RESAMPLES {
        return None;
    }
    found.sort_by(f64::total_cmp);
    let at = |p: f64| found[((found.len() - 1) as f64 * p).round() as usize];
    Some([at(0.025), at(0.975)])
}

/// The area under the receiver operating characteristic: the chance that a positive scores above a
/// negative, ties counting half. `None` without both.
pub fn auroc(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let ranks = midranks(scores);
    let above: f64 = ranks
        .iter()
        .zip(positive)
        .filter(|(_, p)| **p)
        .map(|(r, _)| r)
        .sum();
    let count = positive.iter().filter(|p| **p).count() as f64;
    let pairs = count * (positive.len() as f64 - count);
    (pairs > 0.0).then(|| (above - count * (count + 1.0) / 2.0) / pairs)
}

/// Average precision: `Σ (R_n − R_{n−1}) P_n` over the thresholds, equal scores at one threshold.
/// `None` without positives.
pub fn average_precision(scores: &[f64], positive: &[bool]) -> Option<f64> {
    let all = positive.iter().filter(|p| **p).count() as f64;
    let mut order: Vec<usize> = (0..scores.len().min(positive.len())).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let (mut hits, mut before, mut sum) = (0.0, 0.0, 0.0);
    for (n, i) in order.iter().enumerate() {
        hits += f64::from(u8::from(positive[*i]));
        let tied = order
            .get(n + 1)
            .is_some_and(|next| scores[*next] == scores[*i]);
        if !tied {
            sum += (hits - before) / all * hits / (n + 1) as f64;
            before = hits;
        }
    }
    (all > 0.0).then_some(sum)
}

/// Spearman's rank correlation, ties at their mean rank. `None` where either is constant.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let (x, y) = (midranks(x), midranks(y));
    let middle = (x.len() as f64 + 1.0) / 2.0;
    let product = |x: &[f64], y: &[f64]| -> f64 {
        x.iter()
            .zip(y)
            .map(|(x, y)| (x - middle) * (y - middle))
            .sum()
    };
    let scale = (product(&x, &x) * product(&y, &y)).sqrt();
    (scale > 0.0).then(|| product(&x, &y) / scale)
}

/// Ranks from 1, equal values at the mean of theirs.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = first as f64 + (tied.len() as f64 + 1.0) / 2.0;
        tied.iter().for_each(|i| ranks[*i] = rank);
        first += tied.len();
    }
    ranks
}

/// How often each class was taken for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Confusion {
    classes: usize,
    counts: Vec<f64>, // (classes, classes): true by predicted
}

impl Confusion {
    /// Counts pairs of a true class and a predicted one, all below `classes`; others are left out.
    pub fn new(classes: usize, pairs: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut counts = vec![0.0; classes * classes];
        for (truth, predicted) in pairs {
            if truth < classes && predicted < classes {
                counts[truth * classes + predicted] += 1.0;
            }
        }
        Self { classes, counts }
    }

    /// Of counts (classes, classes), true by predicted.
    pub fn of(classes: usize, counts: Vec<f64>) -> Self {
        Self { classes, counts }
    }

    fn hits(&self, class: usize) -> f64 {
        self.counts[class * self.classes + class]
    }

    fn truths(&self, class: usize) -> f64 {
        self.counts[class * self.classes..][..self.classes]
            .iter()
            .sum()
    }

    fn predictions(&self, class: usize) -> f64 {
        let rows = self.counts.chunks_exact(self.classes);
        rows.map(|row| row[class]).sum()
    }

    /// The fraction that is right; none of nothing.
    pub fn accuracy(&self) -> Option<f64> {
        let all: f64 = self.counts.iter().sum();
        let hits: f64 = (0..self.classes).map(|class| self.hits(class)).sum();
        (all > 0.0).then_some(hits / all)
    }

    /// Matthews' correlation coefficient; for more than two classes Gorodkin's R_K (2004,
    /// doi:10.1016/j.compbiolchem.2004.09.006). 0 where all are predicted the same.
    pub fn mcc(&self) -> Option<f64> {
        let all: f64 = self.counts.iter().sum();
        let sum = |f: &dyn Fn(usize) -> f64| (0..self.classes).map(f).sum::<f64>();
        let hits = sum(&|class| self.hits(class));
        let shared = sum(&|class| self.truths(class) * self.predictions(class));
        let truths = all * all - sum(&|class| self.truths(class).powi(2));
        let predictions = all * all - sum(&|class| self.predictions(class).powi(2));
        if truths * predictions > 0.0 {
            Some((hits * all - shared) / (truths * predictions).sqrt())
        } else {
            (all > 0.0).then_some(0.0)
        }
    }

    /// The harmonic mean of one class's precision and recall; 0 if it is never right.
    pub fn f1(&self, class: usize) -> f64 {
        let sum = self.truths(class) + self.predictions(class);
        if sum > 0.0 {
            2.0 * self.hits(class) / sum
        } else {
            0.0
        }
    }

    /// The mean of the classes' [`Confusion::f1`].
    pub fn macro_f1(&self) -> f64 {
        let sum: f64 = (0..self.classes).map(|class| self.f1(class)).sum();
        sum / self.classes.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Option<f64>, expected: f64) {
        assert!((found.unwrap() - expected).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn areas_equal_hand_computed_ones() {
        // Positives 0.8, 0.4; negatives 0.4, 0.1: of four pairs three are right, one is tied.
        let (scores, labels) = ([0.1, 0.4, 0.4, 0.8], [false, false, true, true]);
        near(auroc(&scores, &labels), 3.5 / 4.0);
        // Thresholds 0.8 (P 1, R 1/2), 0.4 (P 2/3, R 1), 0.1.
        near(average_precision(&scores, &labels), 0.5 + 0.5 * 2.0 / 3.0);
        // The example of scikit-learn's documentation.
        let (scores, labels) = ([0.1, 0.4, 0.35, 0.8], [false, false, true, true]);
        near(auroc(&scores, &labels), 0.75);
        near(average_precision(&scores, &labels), 0.5 + 0.5 * 2.0 / 3.0);
        assert_eq!(auroc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(average_precision(&[1.0], &[false]), None);
    }

    #[test]
    fn confusions_equal_hand_computed_ones() {
        // 3 true positives, 1 false negative, 2 false positives, 4 true negatives.
        let cells = [((1, 1), 3), ((1, 0), 1), ((0, 1), 2), ((0, 0), 4)];
        let pairs = || {
            cells
                .into_iter()
                .flat_map(|(pair, n)| std::iter::repeat_n(pair, n))
        };
        let table = Confusion::new(2, pairs());
        near(table.accuracy(), 0.7);
        near(
            table.mcc(),
            (3.0 * 4.0 - 2.0 * 1.0) / (5.0f64 * 4.0 * 6.0 * 5.0).sqrt(),
        );
        near(Some(table.f1(1)), 2.0 * 3.0 / (2.0 * 3.0 + 1.0 + 2.0));
        near(Some(table.macro_f1()), (6.0 / 9.0 + 8.0 / 11.0) / 2.0);
        // 2 of 6 right, each class 2 times, predicted 3, 2 and 1 times: 2·6 − 2·(3 + 2 + 1) = 0.
        let three = Confusion::new(3, [(0, 0), (1, 2), (2, 1), (0, 0), (1, 0), (2, 1)]);
        near(three.mcc(), 0.0);
        assert_eq!(Confusion::new(2, [(0, 1), (1, 1)]).mcc(), Some(0.0));
        assert_eq!(Confusion::new(2, []).accuracy(), None);
    }

    #[test]
    fn rank_correlations_equal_hand_computed_ones() {
        // Without ties: 1 − 6 Σ d² / n (n² − 1), d = 1, −1, 0, 1, −1.
        let found = spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[20.0, 10.0, 30.0, 50.0, 40.0]);
        near(found, 1.0 - 6.0 * 4.0 / (5.0 * 24.0));
        // Ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4: 4.5 / √(4.5 · 5).
        near(
            spearman(&[1.0, 2.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]),
            4.5 / 22.5f64.sqrt(),
        );
        assert_eq!(spearman(&[1.0, 1.0], &[1.0, 2.0]), None);
    }

    #[test]
    fn intervals_hold_the_mean_and_shrink_with_the_square_root() {
        let parts = |n: usize| -> Vec<Ratio> {
            let above = |i: usize| f64::from(u8::from(i.is_multiple_of(2)));
            (0..n)
                .map(|i| Ratio {
                    above: above(i),
                    below: 1.0,
                })
                .collect()
        };
        let width = |n| {
            let [low, high] = interval(&parts(n), ratio).unwrap();
            assert!(low < 0.5 && high > 0.5);
            high - low
        };
        // A mean of n coins: 2 · 1.96 · 0.5 / √n.
        assert!((width(100) - 0.196).abs() < 0.03);
        assert!((width(10_000) - 0.0196).abs() < 0.003);
        assert_eq!(interval(&parts(1), ratio), None);
        assert_eq!(interval(&parts(100), ratio), interval(&parts(100), ratio));
    }
}
