//! What a linear model makes of the same sequences: of how often each k-mer occurs, and of the bases
//! around the centre. A model of DNA that is no better is not worth its time.

use super::Example;
use super::logistic::{Features, LinearModel};
use super::measure::{Measuring, Predicted};
use crate::error::Result;
use crate::head::{Link, Shape, Task};
use crate::sequence::N;
use crate::train::objective::{Baseline, Evaluation};
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
        let rows = sets.map(|set| {
            let features = set
                .par_iter()
                .map(|example| (kind.features)(&example.codes));
            features.collect::<Vec<_>>()
        });
        let [training, held_out, test] = &rows;
        let classes = measuring.task.link != Link::Identity;
        let outputs = measuring.task.outputs.len();
        let targets: Vec<f64> = sets[0].iter().map(|example| example.target).collect();
        let fit = |penalty: f64| {
            let sizes = (kind.width, outputs);
            LinearModel::fit(training, &targets, sizes, classes, penalty)
        };
        let measured = |model: &LinearModel, rows: &[Features], set: &[Example]| {
            let said = |(row, example): (&Features, &Example)| -> Predicted {
                let said = model.predict(row).into_iter().map(|p| p as f32);
                (said.collect(), example.target)
            };
            let found: Vec<Predicted> = rows.iter().zip(set).map(said).collect();
            measuring.of(&found)
        };
        let mut best: Option<(Option<Evaluation>, LinearModel)> = None;
        let penalties = if held_out.is_empty() {
            &PENALTIES[2..3]
        } else {
            &PENALTIES[..]
        };
        for model in penalties.iter().map(|penalty| fit(*penalty)) {
            let found = measured(&model, held_out, sets[1]);
            let rank = |found: &Option<Evaluation>| found.as_ref().map_or([0.0; 2], |e| e.rank);
            let better =
                |before: &Option<Evaluation>| Evaluation::is_better(rank(&found), rank(before));
            if best.as_ref().is_none_or(|(before, _)| better(before)) {
                best = Some((found, model));
            }
        }
        best.map(|(evaluation, model)| Baseline {
            name: kind.name,
            evaluation,
            test: measured(&model, test, sets[2]),
        })
    };
    Ok(KINDS.iter().filter_map(of_kind).collect())
}

/// A linear model of the bases at each of the places of a head with attention, of which that begins:
/// weights (K, 4 P) and biases (K). Held-out data choose its penalty by the loss. None for other heads.
pub fn linear_start(task: &Task, sets: &[Vec<Example>; 3]) -> Option<[Vec<f32>; 2]> {
    let Shape::Attention { places, .. } = task.shape else {
        return None;
    };
    let classes = task.link != Link::Identity;
    let (width, outputs) = (4 * places, task.outputs.len());
    let rows = |set: &[Example]| -> Vec<Features> {
        set.par_iter()
            .map(|example| letters(&example.codes, places))
            .collect()
    };
    let (training, held_out) = (rows(&sets[0]), rows(&sets[1]));
    let targets: Vec<f64> = sets[0].iter().map(|example| example.target).collect();
    let loss = |model: &LinearModel| -> f64 {
        let each = held_out.iter().zip(&sets[1]);
        let each = each.map(|(row, example)| {
            let said = model.predict(row);
            if classes {
                -said[example.target as usize].ln()
            } else {
                (said[0] - example.target).powi(2)
            }
        });
        each.sum()
    };
    let penalties = if held_out.is_empty() {
        &PENALTIES[2..3]
    } else {
        &PENALTIES[..]
    };
    let fit = |penalty: &f64| {
        let model = LinearModel::fit(&training, &targets, (width, outputs), classes, *penalty);
        (loss(&model), model)
    };
    let best = penalties.iter().map(fit).min_by(|a, b| a.0.total_cmp(&b.0));
    best.map(|(_, model)| model.transposed())
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
    letters(codes, AROUND)
}

/// Which base stands at each of so many places around the centre, as
/// a head with attention counts them.
fn letters(codes: &[u8], places: usize) -> Features {
    let middle = codes.len() / 2;
    let found = (0..places).filter_map(|place| {
        let at = (middle + place).checked_sub(places / 2)?;
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
