//! Classes or values of whole sequences.

use super::labelled::Labelled;
use super::metrics::{self, Confusion};
use super::network::{Network, foreign};
use super::objective::{Evaluation, Loss, Objective, not_drawn};
use super::sampler::{EpochPlace, generator};
use crate::encoder::Encoder;
use crate::error::{Error, Kind, Result};
use crate::head::{Link, Shape, Task, Unit};
use crate::ops::{Tensor, cross_entropy};
use crate::sequence::{Segment, reverse_complement};
use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::f64::consts::LN_2;

/// Sequences that an evaluation reads at a time.
const READING: usize = 64;

/// A sequence and what the head should say of it: a class, or a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    codes: Vec<u8>,
    target: f64,
}

impl Example {
    /// Bases of some examples.
    pub fn bases(examples: &[Self]) -> u64 {
        examples
            .iter()
            .map(|example| example.codes.len() as u64)
            .sum()
    }

    /// Whether it is one of about one in `n`: its copies are too, and its reverse complement.
    pub(super) fn is_one_in(&self, n: u64) -> bool {
        let mut reverse = self.codes.clone();
        reverse_complement(&mut reverse);
        let sum = Sha256::digest(self.codes.as_slice().min(&reverse));
        let first = sum
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        first.is_multiple_of(n.max(1))
    }

    /// Bases of the longest of them.
    pub fn longest(examples: &[Self]) -> u64 {
        let lengths = examples.iter().map(|example| example.codes.len() as u64);
        lengths.max().unwrap_or_default()
    }
}

/// The head for the labels of a table: one output for each class, in the order of numbers or
/// letters; or a single value.
///
/// # Errors
/// Input: fewer than two classes, or a label that is not a number where values are wanted.
pub fn task(rows: &[Labelled], values: bool) -> Result<Task> {
    let name = "label".to_string();
    let unit = Unit::Sequence;
    if values {
        let outputs = vec!["value".to_string()];
        let link = Link::Identity;
        return Ok(Task {
            name,
            unit,
            link,
            outputs,
            shape: Shape::Linear,
            both_strands: false,
        });
    }
    let classes: BTreeSet<&str> = rows.iter().map(|row| row.label.as_str()).collect();
    let mut outputs: Vec<String> = classes.into_iter().map(str::to_string).collect();
    outputs.sort_by_key(|label| (label.parse::<i64>().unwrap_or(i64::MAX), label.clone()));
    match outputs.len() {
        2..=1000 => Ok(Task {
            name,
            unit,
            link: Link::Softmax,
            outputs,
            shape: Shape::Linear,
            both_strands: false,
        }),
        n => Err(
            Error::input(format!("{n} classes of labels, expected 2 to 1000"))
                .todo("for numbers give --values"),
        ),
    }
}

/// The examples of a table's rows. `others`: sequences that must not be among them; what equals
/// one of them, or its reverse complement, is left out. Also returns how many that were.
///
/// # Errors
/// Input: a label is none of the task's.
pub fn examples(
    task: &Task,
    rows: Vec<Labelled>,
    others: &[&[Labelled]],
) -> Result<(Vec<Example>, usize)> {
    let mut taken = BTreeSet::new();
    for row in others.iter().flat_map(|rows| rows.iter()) {
        let mut reverse = row.codes.clone();
        reverse_complement(&mut reverse);
        taken.extend([row.codes.clone(), reverse]);
    }
    let (all, mut examples) = (rows.len(), Vec::new());
    for Labelled { codes, label } in rows {
        if taken.contains(&codes) {
            continue;
        }
        let class = task.outputs.iter().position(|output| *output == label);
        let target = match task.link {
            Link::Identity => label.parse::<f64>().ok().filter(|value| value.is_finite()),
            _ => class.map(|class| class as f64),
        };
        let target = target.ok_or_else(|| {
            let what = match task.link {
                Link::Identity => "not a number",
                _ => "not a label of the training table",
            };
            Error::input(format!("label \"{label}\": {what}"))
        })?;
        examples.push(Example { codes, target });
    }
    let left_out = all - examples.len();
    Ok((examples, left_out))
}

/// Cross-entropy of classes, or the squared error of values.
pub struct Sequences {
    task: Task,
    training: Vec<Example>,
    held_out: Vec<Example>,
    test: Vec<Example>,
    /// Sequences of one part of a step.
    batch: usize,
    both: bool,
    seed: u64,
    place: EpochPlace,
    /// The order of the epoch, and which sequences are reverse-complemented in it.
    order: Vec<(usize, bool)>,
    /// What the parts of the next step read.
    drawn: Vec<Vec<Example>>,
}

impl Sequences {
    /// Trains on the first of the sets, evaluates on the second and tests on the third; `batch` sequences at a time, in an order that follows from the seed;
    /// on either strand of each, if `both`.
    ///
    /// # Errors
    /// Usage: there are none.
    pub fn new(
        task: Task,
        [training, held_out, test]: [Vec<Example>; 3],
        batch: usize,
        both: bool,
        seed: u64,
    ) -> Result<Self> {
        if training.is_empty() {
            return Err(Error::usage("no sequences are left to train on"));
        }
        let mut sequences = Self {
            task,
            training,
            held_out,
            test,
            batch: batch.max(1),
            both,
            seed,
            place: EpochPlace::default(),
            order: Vec::new(),
            drawn: Vec::new(),
        };
        sequences.seek(EpochPlace::default());
        Ok(sequences)
    }

    /// Sequences of an epoch.
    pub fn count(&self) -> usize {
        self.training.len()
    }

    fn seek(&mut self, place: EpochPlace) {
        let mut rng = generator("sequences", self.seed, place.epoch);
        let mut order: Vec<usize> = (0..self.training.len()).collect();
        order.shuffle(&mut rng);
        self.order = order
            .into_iter()
            .map(|i| (i, self.both && rng.random()))
            .collect();
        self.place = place;
    }

    fn next_batch(&mut self) -> Vec<Example> {
        let mut batch = Vec::with_capacity(self.batch);
        while batch.len() < self.batch {
            let Some(&(i, reverse)) = self.order.get(self.place.next as usize) else {
                // An epoch ends with a smaller batch.
                if !batch.is_empty() {
                    break;
                }
                let epoch = self.place.epoch + 1;
                self.seek(EpochPlace { epoch, next: 0 });
                continue;
            };
            self.place.next += 1;
            let mut example = self.training[i].clone();
            if reverse {
                reverse_complement(&mut example.codes);
            }
            batch.push(example);
        }
        batch
    }
}

impl Objective for Sequences {
    fn draw(&mut self, parts: usize) -> Result<()> {
        self.drawn = (0..parts).map(|_| self.next_batch()).collect();
        Ok(())
    }

    fn loss(&self, network: &Network, part: usize) -> Result<Loss> {
        let batch = self.drawn.get(part).ok_or_else(not_drawn)?;
        let output = forward(network, batch)?;
        let (sum, seed) = match self.task.link {
            Link::Identity => squares(&output, batch)?,
            _ => {
                let targets: Vec<u32> = batch.iter().map(|example| example.target as u32).collect();
                let (sum, seed) = cross_entropy(&output, &targets, &vec![1.0; batch.len()])?;
                (sum / LN_2, seed)
            }
        };
        Ok(Loss {
            output,
            seed,
            sum,
            count: batch.len() as u64,
            bases: batch.iter().map(|example| example.codes.len() as u64).sum(),
        })
    }

    fn evaluate(&self, network: &Network) -> Result<Option<Evaluation>> {
        measure(&self.task, network, &self.held_out)
    }

    fn test(&self, network: &Network) -> Result<Option<Evaluation>> {
        measure(&self.task, network, &self.test)
    }

    fn save(&self) -> Result<Vec<u8>> {
        postcard::to_stdvec(&self.place).map_err(|e| Error::because(Kind::Internal, e))
    }

    fn restore(&mut self, saved: &[u8]) -> Result<()> {
        self.seek(postcard::from_bytes(saved).map_err(|e| foreign().caused_by(e))?);
        Ok(())
    }
}

/// (B, K): what the head says of each sequence, from an empty state.
fn forward(network: &Network, batch: &[Example]) -> Result<Tensor> {
    let vocabulary = &network.facts.vocabulary;
    let codes = batch.iter().flat_map(|example| &example.codes);
    let tokens: Vec<u32> = codes.map(|code| vocabulary.token(*code)).collect();
    let count = tokens.len();
    let tokens = Tensor::from_vec(tokens, count, &network.device)?;
    let segment = |example: &Example| Segment {
        lane: 0,
        len: example.codes.len(),
        starts: true,
        ends: true,
    };
    let segments: Vec<Segment> = batch.iter().map(segment).collect();
    let mut state = network.model.start(1)?;
    let hidden = network.model.forward(&tokens, &segments, &mut state)?;
    network.head()?.forward(&hidden, &segments)
}

/// The sum of the squared errors, and its gradient.
fn squares(output: &Tensor, batch: &[Example]) -> Result<(f64, Tensor)> {
    let values: Vec<f32> = output.flatten_all()?.to_vec1()?;
    let errors = values
        .iter()
        .zip(batch)
        .map(|(y, example)| f64::from(*y) - example.target);
    let errors: Vec<f64> = errors.collect();
    let gradient: Vec<f32> = errors.iter().map(|error| 2.0 * *error as f32).collect();
    let gradient = Tensor::from_vec(gradient, output.dims(), output.device())?;
    Ok((errors.iter().map(|error| error * error).sum(), gradient))
}

/// How good the head is on examples; none without them. Intervals are over sequences.
fn measure(task: &Task, network: &Network, examples: &[Example]) -> Result<Option<Evaluation>> {
    let mut found = Vec::with_capacity(examples.len());
    let width = task.outputs.len();
    for batch in examples.chunks(READING) {
        let mut values: Vec<f32> = forward(network, batch)?.flatten_all()?.to_vec1()?;
        for (row, example) in values.chunks_exact_mut(width).zip(batch) {
            task.link.apply(row);
            found.push((row.to_vec(), example.target));
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    let mut all = Map::new();
    all.insert("sequences".into(), json!(found.len()));
    let score = match task.link {
        Link::Identity => values(&found, &mut all),
        _ => classes(&found, width, &mut all),
    };
    Ok(Some(Evaluation {
        score,
        metrics: all,
    }))
}

/// What the head said of a sequence, and the truth.
type Predicted = (Vec<f32>, f64);

fn classes(found: &[Predicted], width: usize, all: &mut Map<String, Value>) -> f64 {
    let bits =
        |(row, truth): &Predicted| -f64::from(row[*truth as usize].max(f32::MIN_POSITIVE)).log2();
    let score = found.iter().map(bits).sum::<f64>() / found.len() as f64;
    all.insert("cross_entropy_bits".into(), json!(score));
    let confusion = |found: &[&Predicted]| {
        let predicted = |row: &[f32]| {
            let best = row.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
            best.map_or(0, |(class, _)| class)
        };
        Confusion::new(
            width,
            found
                .iter()
                .map(|(row, truth)| (*truth as usize, predicted(row))),
        )
    };
    let mut add = |name: &str, statistic: &dyn Fn(&[&Predicted]) -> Option<f64>| {
        all.insert(
            name.into(),
            json!(statistic(&found.iter().collect::<Vec<_>>())),
        );
        let interval = metrics::interval(found, statistic);
        all.insert(format!("{name}_ci95"), json!(interval));
    };
    add("mcc", &|found| confusion(found).mcc());
    add("accuracy", &|found| confusion(found).accuracy());
    if width == 2 {
        let pairs = |found: &[&Predicted]| -> (Vec<f64>, Vec<bool>) {
            found
                .iter()
                .map(|(row, truth)| (f64::from(row[1]), *truth == 1.0))
                .unzip()
        };
        add("f1", &|found| Some(confusion(found).f1(1)));
        add("auroc", &|found| {
            let (scores, truths) = pairs(found);
            metrics::auroc(&scores, &truths)
        });
        add("average_precision", &|found| {
            let (scores, truths) = pairs(found);
            metrics::average_precision(&scores, &truths)
        });
    } else {
        add("macro_f1", &|found| Some(confusion(found).macro_f1()));
    }
    score
}

fn values(found: &[Predicted], all: &mut Map<String, Value>) -> f64 {
    let pairs = |found: &[&Predicted]| -> (Vec<f64>, Vec<f64>) {
        found
            .iter()
            .map(|(row, truth)| (f64::from(row[0]), *truth))
            .unzip()
    };
    let mean = |found: &[&Predicted]| {
        let (x, y) = pairs(found);
        let sum: f64 = x.iter().zip(&y).map(|(x, y)| (x - y).powi(2)).sum();
        Some(sum / x.len() as f64)
    };
    let rank = |found: &[&Predicted]| {
        let (x, y) = pairs(found);
        metrics::spearman(&x, &y)
    };
    let whole: Vec<&Predicted> = found.iter().collect();
    let score = mean(&whole).unwrap_or_default();
    all.insert("mean_squared_error".into(), json!(score));
    all.insert("spearman".into(), json!(rank(&whole)));
    all.insert(
        "spearman_ci95".into(),
        json!(metrics::interval(found, rank)),
    );
    score
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(codes: &[u8], label: &str) -> Labelled {
        Labelled {
            codes: codes.to_vec(),
            label: label.to_string(),
        }
    }

    #[test]
    fn classes_are_in_the_order_of_their_numbers() {
        let rows = ["10", "9", "-1", "9"].map(|label| row(&[0], label));
        let task = task(&rows, false).unwrap();
        assert_eq!(task.outputs, ["-1", "9", "10"]);
        let (examples, _) = examples(&task, rows.to_vec(), &[]).unwrap();
        let targets: Vec<f64> = examples.iter().map(|example| example.target).collect();
        assert_eq!(targets, [2.0, 1.0, 0.0, 1.0]);
    }

    #[test]
    fn wrong_labels_are_errors() {
        let two = ["a", "b"].map(|label| row(&[0], label));
        assert!(task(&two[..1], false).is_err());
        let classes = task(&two, false).unwrap();
        assert!(examples(&classes, vec![row(&[0], "c")], &[]).is_err());
        let values = task(&two, true).unwrap();
        assert!(examples(&values, two.to_vec(), &[]).is_err());
        assert!(examples(&values, vec![row(&[0], "-1.5e3")], &[]).is_ok());
    }

    #[test]
    fn copies_of_held_out_sequences_are_left_out_on_either_strand() {
        let rows = [row(&[0, 1], "a"), row(&[2, 3], "b"), row(&[3, 3], "a")];
        let task = task(&rows, false).unwrap();
        let held = [row(&[0, 0], "a"), row(&[2, 3], "a")];
        let (kept, left_out) = examples(&task, rows.to_vec(), &[&held]).unwrap();
        assert_eq!((kept.len(), left_out), (0, 3));
        let (kept, left_out) = examples(&task, rows.to_vec(), &[&held[..1]]).unwrap();
        assert_eq!((kept.len(), left_out), (2, 1));
    }

    #[test]
    fn an_epoch_reads_every_sequence_once_and_goes_on_where_it_was() {
        let rows: Vec<Labelled> = (0..10).map(|i| row(&[0; 3], &i.to_string())).collect();
        let task = task(&rows, false).unwrap();
        let (training, _) = examples(&task, rows, &[]).unwrap();
        let new = || {
            Sequences::new(task.clone(), [training.clone(), vec![], vec![]], 4, true, 5).unwrap()
        };
        let mut sequences = new();
        let mut read: Vec<f64> = Vec::new();
        for size in [4, 4, 2] {
            let batch = sequences.next_batch();
            assert_eq!(batch.len(), size);
            read.extend(batch.iter().map(|example| example.target));
        }
        read.sort_by(f64::total_cmp);
        assert_eq!(read, (0..10).map(f64::from).collect::<Vec<_>>());
        sequences.next_batch();
        let mut other = new();
        other.restore(&sequences.save().unwrap()).unwrap();
        let next = sequences.next_batch();
        assert_eq!(other.next_batch(), next);
    }
}
