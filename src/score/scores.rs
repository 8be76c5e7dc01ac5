//! Numbers that say what a variant changes.

use super::line::{Haplotype, Line, Reading, Sum};
use crate::sequence::allele::Variant;
use crate::sequence::{N, base};
use crate::table::Scores;
use std::ops::Range;

/// Runs of the reference's hidden vectors that a comparison takes.
pub(super) const RUNS: usize = 4;

/// Which vectors are kept.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize, serde::Deserialize,
)]
pub enum Embeddings {
    /// The vector after the allele's last base.
    Site,
    /// The mean of the vectors around the variant.
    Window,
}

/// How the numbers are made.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Measure {
    /// Where the log-likelihoods begin: at the variant, or at the window's start.
    pub from: u64,
    /// One past the last position of the reference that is scored.
    pub to: u64,
    /// Bases on either side of the variant in the mean vectors.
    pub around: u64,
    /// Bases after the variant of which there are vectors of both.
    pub shared: u64,
    pub embeddings: Option<Embeddings>,
}

impl Measure {
    /// The positions of the reference's hidden vectors that are compared: its last base that the
    /// variant replaces, the base before the variant, those around it to the left, and from it on.
    pub fn runs(&self, variant: &Variant) -> [Range<u64>; RUNS] {
        let (start, end) = (variant.start, variant.end());
        let around = self.shared.min(self.around);
        [
            end.saturating_sub(1)..end,
            start.saturating_sub(1)..start,
            start.saturating_sub(self.around)..start,
            start..end + around,
        ]
    }

    /// The sums of those runs, of vectors that the line keeps.
    pub fn sums(&self, line: &Line, variant: &Variant) -> [Sum; RUNS] {
        self.runs(variant).map(|run| line.sum(run))
    }

    /// Compares the reference with a haplotype; without one, with itself. `sums`: those of
    /// [`Measure::runs`].
    pub fn compare(
        &self,
        line: &Line,
        sums: &[Sum; RUNS],
        variant: &Variant,
        alt: Option<&Haplotype>,
    ) -> Scores {
        let [last, previous, left, right] = sums;
        let start = variant.start;
        let own: Vec<Reading> = line.readings(start..self.to).copied().collect();
        let readings = alt.map_or(own.as_slice(), |alt| &alt.readings);
        let before = sum(line.readings(self.from..start));
        let (ll_ref, n_ref) = add(before, sum(&own));
        let (ll_alt, n_alt) = add(before, sum(readings));
        let after = (
            own.get(variant.reference.len()..).unwrap_or_default(),
            readings.get(variant.alternate.len()..).unwrap_or_default(),
        );
        let [jsd_mean, jsd_max, jsd_max_offset] = divergence(after.0, after.1);

        let reference_site = last.mean();
        let site = match alt {
            Some(alt) if alt.site.is_some() => alt.site.clone(),
            Some(_) => previous.mean(),
            None => reference_site.clone(),
        };
        let reference_mean = right.mean_with(left);
        let mean = match alt {
            Some(alt) => alt.around.mean_with(alt.left.as_ref().unwrap_or(left)),
            None => reference_mean.clone(),
        };
        let [cos_dist, l2_dist, dot] = distances(reference_site.as_deref(), site.as_deref());
        let [cos_win, l2_win, dot_win] = distances(reference_mean.as_deref(), mean.as_deref());
        let (ref_emb, alt_emb) = match self.embeddings {
            None => (None, None),
            Some(Embeddings::Site) => (reference_site, site),
            Some(Embeddings::Window) => (reference_mean, mean),
        };
        Scores {
            window: self.from..self.to,
            n_ref,
            n_alt,
            ll_ref,
            ll_alt,
            values: [
                ll_alt - ll_ref,
                ll_alt / f64::from(n_alt) - ll_ref / f64::from(n_ref),
                log_ratio(variant, &own, readings),
                jsd_mean,
                jsd_max,
                jsd_max_offset,
                cos_dist,
                l2_dist,
                dot,
                cos_win,
                l2_win,
                dot_win,
            ],
            four: None,
            ref_emb,
            alt_emb,
        }
    }
}

/// Positions of the reverse strand of a contig of `length` become the forward strand's.
pub(super) fn mirror(scores: &mut Scores, length: u64) {
    scores.window = length - scores.window.end..length - scores.window.start;
}

/// Replaces the log-ratio, and takes off the likelihoods: of a model that sees the base that it
/// predicts they mean nothing.
pub(super) fn masked(scores: &mut Scores, llr: f64) {
    (scores.ll_ref, scores.ll_alt) = (f64::NAN, f64::NAN);
    // delta_ll, delta_ll_mean, llr
    scores.values[..3].copy_from_slice(&[f64::NAN, f64::NAN, llr]);
}

/// The sum of log-probabilities, and of how many.
fn sum<'a>(readings: impl IntoIterator<Item = &'a Reading>) -> (f64, u32) {
    let scored = readings
        .into_iter()
        .filter(|reading| !reading.logp.is_nan());
    scored.fold((0.0, 0), |(sum, n), reading| {
        (sum + f64::from(reading.logp), n + 1)
    })
}

fn add(a: (f64, u32), b: (f64, u32)) -> (f64, u32) {
    (a.0 + b.0, a.1 + b.1)
}

/// `Σ log P(alternate's base) − Σ log P(reference's base)` over alleles of equal length, of the
/// four bases. NaN for others.
fn log_ratio(variant: &Variant, reference: &[Reading], alternate: &[Reading]) -> f64 {
    if variant.reference.len() != variant.alternate.len() {
        return f64::NAN;
    }
    let log = |codes: &[u8], readings: &[Reading]| -> f64 {
        let each = codes.iter().zip(readings);
        each.map(|(&code, reading)| match base(code) {
            N => f64::NAN,
            b => f64::from(reading.four[usize::from(b)]).ln(),
        })
        .sum()
    };
    log(&variant.alternate, alternate) - log(&variant.reference, reference)
}

/// The Jensen-Shannon divergence of predictions (nats, 0 to ln 2): mean, largest, and how many
/// bases after the variant the largest is, from 1.
fn divergence(reference: &[Reading], alternate: &[Reading]) -> [f64; 3] {
    let (mut total, mut n, mut largest) = (0.0, 0u32, (f64::NEG_INFINITY, 0usize));
    for (i, (p, q)) in reference.iter().zip(alternate).enumerate() {
        if !p.exists() || !q.exists() {
            continue;
        }
        let entropy = |p: [f64; 4]| -> f64 {
            let term = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
            p.into_iter().map(term).sum()
        };
        let (p, q) = (p.four.map(f64::from), q.four.map(f64::from));
        let mean = std::array::from_fn(|b| (p[b] + q[b]) / 2.0);
        let jsd = if p == q {
            0.0
        } else {
            (entropy(mean) - (entropy(p) + entropy(q)) / 2.0).max(0.0)
        };
        total += jsd;
        n += 1;
        if jsd > largest.0 {
            largest = (jsd, i + 1);
        }
    }
    match n {
        0 => [f64::NAN; 3],
        _ => [total / f64::from(n), largest.0, largest.1 as f64],
    }
}

/// Cosine distance, Euclidean distance and product of two vectors.
fn distances(a: Option<&[f32]>, b: Option<&[f32]>) -> [f64; 3] {
    let (Some(a), Some(b)) = (a, b) else {
        return [f64::NAN; 3];
    };
    let product = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let dot = product(a, b);
    let squares = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    let l2 = squares.sum::<f64>().sqrt();
    let norms = (product(a, a) * product(b, b)).sqrt();
    let cos = if l2 == 0.0 {
        0.0
    } else {
        (1.0 - dot / norms).max(0.0)
    };
    [cos, l2, dot]
}
