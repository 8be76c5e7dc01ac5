//! The scores of a change from both whole chromosomes, each run from its start in one call.

use super::scorer::Scorer;
use crate::step;
use crocuta::encoder::{Encoder, Segment};
use crocuta::sequence::allele::Variant;
use crocuta::table::{SCORES, Scores};

/// A whole sequence's log-probabilities over the tokens, those of the four bases, and vectors:
/// row i is of base i.
pub(super) struct Plain {
    pub logp: Vec<f64>,
    pub four: Vec<[f64; 4]>,
    pub hidden: Vec<Vec<f32>>,
}

pub(super) fn plain(scorer: &Scorer, codes: &[u8]) -> Plain {
    let token = |&code: &u8| scorer.engine.facts.vocabulary.token(code);
    let tokens: Vec<u32> = codes.iter().map(token).collect();
    let segment = Segment {
        lane: 0,
        len: tokens.len(),
        starts: true,
        ends: true,
    };
    let mut state = scorer.engine.model.start(1).unwrap();
    let hidden = step(&scorer.engine.model, &tokens, &[segment], &mut state);
    let width = hidden.len() / tokens.len();
    let tensor = crocuta::ops::Tensor::from_slice(
        &hidden,
        (tokens.len(), width),
        &crocuta::ops::Device::Cpu,
    );
    let logits = scorer
        .head
        .forward(&tensor.unwrap())
        .unwrap()
        .to_vec2::<f32>()
        .unwrap();
    let (mut logp, mut four) = (vec![f64::NAN], vec![[f64::NAN; 4]]);
    for (row, &next) in logits.iter().zip(&tokens[1..]) {
        let exp = |token: u32| f64::from(row[token as usize]).exp();
        let all: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
        logp.push((exp(next) / all).ln());
        let of = [0, 1, 2, 3].map(|code: u8| exp(scorer.engine.facts.vocabulary.token(code)));
        four.push(of.map(|p| p / of.iter().sum::<f64>()));
    }
    Plain {
        logp,
        four,
        hidden: hidden.chunks(width).map(<[f32]>::to_vec).collect(),
    }
}

pub(super) fn mutated(codes: &[u8], variant: &Variant) -> Vec<u8> {
    let (start, end) = (variant.start as usize, variant.end() as usize);
    [&codes[..start], &variant.alternate, &codes[end..]].concat()
}

pub(super) fn close(found: f64, expected: f64, bound: f64, what: &str) {
    // A model of random weights may give a base 25 nats: float32 has less than 1e-4 of thousands.
    let bound = bound * (expected.abs() / 1000.0).max(1.0);
    let same = found.is_nan() && expected.is_nan() || (found - expected).abs() <= bound;
    assert!(same, "{what}: {found}, expected {expected}");
}

/// Against both whole chromosomes, each run from its start in one call.
pub(super) fn check(
    scorer: &Scorer,
    after: usize,
    codes: &[u8],
    variant: &Variant,
    scores: &Scores,
    name: &str,
) {
    let what = |of: &str| format!("{name}, after {after}, {variant:?}: {of}");
    let (start, end) = (variant.start as usize, variant.end() as usize);
    let to = codes.len().min(end + after);
    let own = variant.alternate.len();
    let (reference, alternate) = (
        plain(scorer, codes),
        plain(scorer, &mutated(codes, variant)),
    );
    let alt_to = start + own + to - end;
    let sum = |logp: &[f64]| -> f64 { logp.iter().filter(|x| !x.is_nan()).sum() };
    let (ll_ref, ll_alt) = (
        sum(&reference.logp[start..to]),
        sum(&alternate.logp[start..alt_to]),
    );
    close(scores.ll_ref, ll_ref, 1e-4, &what("ll_ref"));
    close(scores.ll_alt, ll_alt, 1e-4, &what("ll_alt"));
    assert_eq!(scores.window, start as u64..to as u64, "{}", what("window"));
    let first = usize::from(start == 0);
    assert_eq!(
        scores.n_ref as usize,
        (to - start).saturating_sub(first),
        "{}",
        what("n_ref")
    );
    assert_eq!(
        scores.n_alt as usize,
        (alt_to - start).saturating_sub(first),
        "{}",
        what("n_alt")
    );
    let value =
        |name: &str| scores.values[SCORES.iter().position(|known| known.name == name).unwrap()];
    close(
        value("delta_ll"),
        ll_alt - ll_ref,
        2e-4 * (ll_ref.abs() / 1000.0).max(1.0),
        &what("delta_ll"),
    );
    if variant.reference.len() == own && start > 0 {
        let log = |plain: &Plain, codes: &[u8]| -> f64 {
            let each = codes.iter().zip(&plain.four[start..]);
            each.map(|(&code, four)| four[usize::from(code)].ln()).sum()
        };
        let llr = log(&alternate, &variant.alternate) - log(&reference, &variant.reference);
        close(value("llr"), llr, 2e-4, &what("llr"));
    }
    let mut divergences = Vec::new();
    for i in 0..to - end {
        let (p, q) = (reference.four[end + i], alternate.four[start + own + i]);
        let term = |p: f64, q: f64| p * (2.0 * p / (p + q)).ln();
        let jsd: f64 = (0..4)
            .map(|b| (term(p[b], q[b]) + term(q[b], p[b])) / 2.0)
            .sum();
        divergences.push(jsd);
    }
    divergences.retain(|jsd| !jsd.is_nan());
    if !divergences.is_empty() {
        let largest = divergences.iter().copied().fold(0.0, f64::max);
        let mean = divergences.iter().sum::<f64>() / divergences.len() as f64;
        close(value("jsd_max"), largest, 1e-5, &what("jsd_max"));
        close(value("jsd_mean"), mean, 1e-5, &what("jsd_mean"));
    }
    if start > 0 {
        let (a, b) = (
            &reference.hidden[end - 1],
            &alternate.hidden[start + own - 1],
        );
        let l2 = a
            .iter()
            .zip(b)
            .map(|(a, b)| f64::from(a - b).powi(2))
            .sum::<f64>()
            .sqrt();
        let scale = a.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        close(value("l2_dist"), l2, 1e-4 * scale, &what("l2_dist"));
    }
}
