//! What a linear model makes of the same sequences: of how often each k-mer occurs, and of the bases
//! around the centre. A model of DNA that is no better is not worth its time.

use super::Example;
use super::logistic::{Features, LinearModel};
use super::measure::{Measuring, Predicted};
use crate::error::Result;
use crate::head::{Link, PAIRS, Shape, Task, pairs};
use crate::sequence::N;
use crate::train::objective::{Baseline, Evaluation, Select};
use rayon::prelude::*;

/// Letters of a word.
const K: usize = 4;
/// Bases around the centre.
const AROUND: usize = 60;
/// Penalties of which held-out data choose one.
const PENALTIES: [f64; 5] = [1e-3, 3e-3, 1e-2, 3e-2, 1e-1];

/// Features of a sequence, and how many there are.
struct Kind {
    name: &'static str,
    width: usize,
    features: fn(&[u8]) -> Features,
}

const KINDS: [Kind; 2] = [
    Kind {
        name: "4-mer frequencies",
        width: 1 << (2 * K),
        features: words,
    },
    Kind {
        name: "60 bases around the centre",
        width: 4 * AROUND,
        features: around,
    },
];

/// Fits each kind on the first of the sets; the second chooses its penalty, and both that and the
/// third, what is there of them, measure it.
pub(super) fn baselines(sets: [&[Example]; 3], measuring: &Measuring) -> Result<Vec<Baseline>> {
    let of_kind = |kind: &Kind| {
        let (evaluation, model) = best(sets, measuring, kind.width, &kind.features)?;
        Some(Baseline {
            name: kind.name,
            evaluation,
            test: measured(&model, sets[2], measuring, &kind.features),
        })
    };
    Ok(KINDS.iter().filter_map(of_kind).collect())
}

/// A linear model of `width` features of the first of the sets, and how good it is on the second,
/// which chooses its penalty.
fn best(
    sets: [&[Example]; 3],
    measuring: &Measuring,
    width: usize,
    features: &(impl Fn(&[u8]) -> Features + Sync),
) -> Option<(Option<Evaluation>, LinearModel)> {
    let training = sets[0].par_iter().map(|example| features(&example.codes));
    let training: Vec<Features> = training.collect();
    let targets: Vec<f64> = sets[0].iter().map(|example| example.target).collect();
    let classes = measuring.task.link != Link::Identity;
    let sizes = (width, measuring.task.outputs.len());
    let penalties = if sets[1].is_empty() {
        &PENALTIES[2..3]
    } else {
        &PENALTIES[..]
    };
    let fitted = penalties.iter().map(|penalty| {
        let model = LinearModel::fit(&training, &targets, sizes, classes, *penalty);
        (measured(&model, sets[1], measuring, features), model)
    });
    let rank = |found: &Option<Evaluation>| found.as_ref().map_or([0.0; 2], |found| found.rank);
    fitted.reduce(|before, now| {
        if Evaluation::is_better(rank(&now.0), rank(&before.0)) {
            now
        } else {
            before
        }
    })
}

/// How good a linear model is on examples; none without them.
fn measured(
    model: &LinearModel,
    examples: &[Example],
    measuring: &Measuring,
    features: &(impl Fn(&[u8]) -> Features + Sync),
) -> Option<Evaluation> {
    let said = |example: &Example| -> Predicted {
        let said = model.predict(&features(&example.codes)).into_iter();
        (said.map(|p| p as f32).collect(), example.target)
    };
    let found: Vec<Predicted> = examples.par_iter().map(said).collect();
    measuring.of(&found)
}

/// A linear model of the pairs of bases at each of the places of a head with attention, of which that
/// begins: weights (K, 16 P) and biases (K). Held-out data choose its penalty as they choose the weights that a
/// run keeps. None for other heads.
pub fn linear_start(
    task: &Task,
    sets: &[Vec<Example>; 3],
    select: Select,
) -> Option<[Vec<f32>; 2]> {
    let Shape::Attention { places, .. } = task.shape else {
        return None;
    };
    let measuring = Measuring {
        task,
        select,
        intervals: false,
    };
    let features = |codes: &[u8]| {
        let pairs = pairs(codes, None, (0, codes.len()), places);
        pairs.map(|pair| (pair as u32, 1.0)).collect()
    };
    let sets = sets.each_ref().map(Vec::as_slice);
    let fitted = best(sets, &measuring, PAIRS * places, &features);
    fitted.map(|(_, model)| model.transposed())
}

/// How often each word of [`K`] bases occurs, over what is expected of words that are equally
/// frequent.
fn words(codes: &[u8]) -> Features {
    let mut counts = vec![0u32; 1 << (2 * K)];
    let mut all = 0u32;
    for word in codes
        .windows(K)
        .filter(|word| word.iter().all(|code| *code < N))
    {
        let index = word
            .iter()
            .fold(0, |index, code| index << 2 | usize::from(*code));
        counts[index] += 1;
        all += 1;
    }
    // Divided by the square root of what is expected: of about the same spread in sequences of any
    // length.
    let factor = (counts.len() as f32).sqrt() / all.max(1) as f32;
    let counted = counts.into_iter().enumerate().filter(|(_, n)| *n > 0);
    counted
        .map(|(i, n)| (i as u32, n as f32 * factor))
        .collect()
}

/// Which base stands at each of [`AROUND`] places around the centre.
fn around(codes: &[u8]) -> Features {
    let middle = codes.len() / 2;
    let found = (0..AROUND).filter_map(|place| {
        let at = (middle + place).checked_sub(AROUND / 2)?;
        let code = codes.get(at).filter(|code| **code < N)?;
        Some(((4 * place + usize::from(*code)) as u32, 1.0))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_counts_of_words_and_bases_at_their_places() {
        // ACGTA: ACGT is 0b00_01_10_11, CGTA 0b01_10_11_00; half of all words each.
        let found = words(&[0, 1, 2, 3, 0]);
        assert_eq!(found, [(0b0001_1011, 8.0), (0b0110_1100, 8.0)]);
        assert_eq!(words(&[0, 1, N, 3, 0]), []);
        // The centre is base 2 of 4, at place 30.
        let found: Vec<u32> = around(&[3, N, 1, 0]).into_iter().map(|(i, _)| i).collect();
        assert_eq!(found, [28 * 4 + 3, 30 * 4 + 1, 31 * 4]);
    }
}
