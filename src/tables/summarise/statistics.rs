//! The statistics of a column of numbers in each group.

use crate::io::table_writer::{ColumnKind, ColumnSpec};
use arrow_array::{ArrayRef, Float64Array, Int64Array};
use rayon::prelude::*;
use std::sync::Arc;

/// The ends of the names of columns, and what they mean, of a column's numbers.
pub const NAMES: [(&str, &str); 8] = [
    ("n", "how many rows have a number of"),
    ("mean", "the mean of"),
    ("sd", "the standard deviation, with n - 1, of"),
    ("q05", "the quantile 0.05 of"),
    ("q25", "the quantile 0.25 of"),
    ("q50", "the median of"),
    ("q75", "the quantile 0.75 of"),
    ("q95", "the quantile 0.95 of"),
];

/// The quantiles, in the order of [`NAMES`].
const QUANTILES: [f64; 5] = [0.05, 0.25, 0.5, 0.75, 0.95];

/// The numbers of all groups, side by side, each group in its place.
pub struct Statistics {
    numbers: Vec<f64>,
    /// Where the groups begin; and the end.
    starts: Vec<usize>,
    /// How many numbers each group has.
    filled: Vec<usize>,
}

impl Statistics {
    /// Of groups of at most so many numbers.
    pub fn new(counts: &[u64]) -> Self {
        let mut starts = vec![0];
        for count in counts {
            starts.push(starts[starts.len() - 1] + *count as usize);
        }
        Self {
            numbers: vec![0.0; starts[counts.len()]],
            filled: vec![0; counts.len()],
            starts,
        }
    }

    /// Adds a number.
    pub fn push(&mut self, group: usize, number: f64) {
        self.numbers[self.starts[group] + self.filled[group]] = number;
        self.filled[group] += 1;
    }

    /// To be called when all are there: sorts each group.
    pub fn finish(&mut self) {
        let mut rest = &mut self.numbers[..];
        let mut groups = Vec::new();
        for (ends, filled) in self.starts.windows(2).zip(&self.filled) {
            let (group, others) = rest.split_at_mut(ends[1] - ends[0]);
            groups.push(&mut group[..*filled]);
            rest = others;
        }
        groups
            .into_par_iter()
            .for_each(|group| group.par_sort_unstable_by(f64::total_cmp));
    }

    /// The columns of a summary of this column.
    pub fn specs(&self, name: &str) -> Vec<ColumnSpec> {
        let kind = |what: &str| match what {
            "n" => ColumnKind::I64,
            _ => ColumnKind::OptionalF64,
        };
        let spec = |(what, _): &(&str, &str)| ColumnSpec::new(format!("{name}_{what}"), kind(what));
        NAMES.iter().map(spec).collect()
    }

    /// Their rows.
    pub fn arrays(&self) -> Vec<ArrayRef> {
        let counts = self.filled.iter().map(|count| *count as i64);
        let mut arrays: Vec<ArrayRef> = vec![Arc::new(counts.collect::<Int64Array>())];
        let group = |at: usize| &self.numbers[self.starts[at]..][..self.filled[at]];
        let all = || (0..self.filled.len()).map(group);
        let mut put = |of: &dyn Fn(&[f64]) -> Option<f64>| {
            arrays.push(Arc::new(all().map(of).collect::<Float64Array>()));
        };
        put(&mean);
        put(&deviation);
        for part in QUANTILES {
            put(&|numbers| quantile(numbers, part));
        }
        arrays
    }
}

fn mean(numbers: &[f64]) -> Option<f64> {
    let sum: f64 = numbers.iter().sum();
    (!numbers.is_empty()).then(|| sum / numbers.len() as f64)
}

fn deviation(numbers: &[f64]) -> Option<f64> {
    let mean = mean(numbers).filter(|_| numbers.len() > 1)?;
    let sum: f64 = numbers.iter().map(|x| (x - mean) * (x - mean)).sum();
    Some((sum / (numbers.len() - 1) as f64).sqrt())
}

/// Between the two numbers that it lies between, in proportion, as NumPy and R have it (type 7).
fn quantile(sorted: &[f64], part: f64) -> Option<f64> {
    let place = part * sorted.len().checked_sub(1)? as f64;
    let (below, rest) = (place.floor(), place.fract());
    let low = *sorted.get(below as usize)?;
    let high = sorted.get(below as usize + 1).copied().unwrap_or(low);
    Some(if rest > 0.0 {
        low + (high - low) * rest
    } else {
        low
    })
}
