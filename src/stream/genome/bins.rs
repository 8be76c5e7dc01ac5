//! Bases pooled into bins.

use crate::stream::Pool;
use crate::table::{Batch, Positions, flag};
use serde::{Deserialize, Serialize};

/// Pools bases into bins of a fixed length, aligned to multiples of it along the contig and cut
/// at the ends of what has rows, and at its gaps.
#[derive(Clone, Serialize, Deserialize)]
pub struct Bins {
    size: i64,
    pool: Pool,
    /// One row: the bin that is not finished.
    open: Positions,
    bases: i64,
    /// Bases without a value, of each number.
    missing: Vec<u32>,
}

impl Bins {
    /// Bins of `size` bases.
    pub fn new(size: u64, pool: Pool) -> Self {
        Self {
            size: size.cast_signed(),
            pool,
            open: Positions::default(),
            bases: 0,
            missing: Vec::new(),
        }
    }

    /// Rows in reading order to the bins that they finish; `ends`: the last ones too.
    ///
    /// A row is of one base, or of several of one bin, already brought together: their sum where
    /// the mean is wanted.
    pub fn push(&mut self, block: &Positions, ends: bool) -> Positions {
        let mut out = Positions::default();
        let width = block.width();
        for i in 0..block.len() {
            let bin = block.starts[i] / self.size;
            let bases = block.ends[i] - block.starts[i];
            let adjoins = |open: &Positions| {
                open.ends[0] == block.starts[i] || open.starts[0] == block.ends[i]
            };
            let same = |open: &Positions| open.starts[0] / self.size == bin && adjoins(open);
            if !self.open.is_empty() && !same(&self.open) {
                self.close(&mut out);
            }
            if self.open.is_empty() {
                self.open.append(block, i..i + 1);
                self.bases = bases;
                if self.pool == Pool::Mean {
                    self.open.values.fill(0.0);
                    self.missing = vec![0; width];
                    self.add(&block.values[i * width..][..width]);
                }
                continue;
            }
            self.bases += bases;
            self.open.starts[0] = self.open.starts[0].min(block.starts[i]);
            self.open.ends[0] = self.open.ends[0].max(block.ends[i]);
            // The state is reset before a bin only if it is before its first base.
            self.open.flags[0] |= block.flags[i] & !flag::RESET;
            let row = &block.values[i * width..][..width];
            match self.pool {
                Pool::Mean => self.add(row),
                Pool::Max => {
                    let pooled = self.open.values.iter_mut().zip(row);
                    pooled.for_each(|(pooled, &x)| *pooled = pooled.max(x));
                }
                Pool::Last => self.open.values.copy_from_slice(row),
            }
        }
        if ends && !self.open.is_empty() {
            self.close(&mut out);
        }
        out
    }

    /// Adds to the sums; NaN is no value.
    fn add(&mut self, row: &[f32]) {
        let sums = self.open.values.iter_mut().zip(&mut self.missing);
        for ((sum, missing), &x) in sums.zip(row) {
            let known = !x.is_nan();
            *missing += u32::from(!known);
            *sum += if known { x } else { 0.0 };
        }
    }

    fn close(&mut self, out: &mut Positions) {
        if self.pool == Pool::Mean {
            let bases = self.bases;
            let sums = self.open.values.iter_mut().zip(&self.missing);
            sums.for_each(|(sum, &missing)| *sum /= (bases - i64::from(missing)) as f32);
        }
        out.append(&self.open, 0..1);
        self.open = Positions::default();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rows of width 2 at `starts`, in that order.
    pub fn rows(starts: &[i64], strand: u8) -> Positions {
        Positions {
            name: "chr".into(),
            starts: starts.to_vec(),
            ends: starts.iter().map(|s| s + 1).collect(),
            strands: vec![strand; starts.len()],
            bases: starts.iter().map(|s| (s % 4) as u8).collect(),
            flags: vec![0; starts.len()],
            context: starts.iter().map(|&s| s as i32).collect(),
            values: starts.iter().flat_map(|&s| [s as f32, -s as f32]).collect(),
            ..Positions::default()
        }
    }

    #[test]
    fn bins_lie_on_multiples_of_their_size_however_the_rows_arrive() {
        let all: Vec<i64> = (7..42).collect();
        for cut in 0..all.len() {
            let mut bins = Bins::new(10, Pool::Mean);
            let mut out = bins.push(&rows(&all[..cut], b'+'), false);
            let rest = bins.push(&rows(&all[cut..], b'+'), true);
            out.append(&rest, 0..rest.len());
            assert_eq!(out.starts, [7, 10, 20, 30, 40]);
            assert_eq!(out.ends, [10, 20, 30, 40, 42]);
            assert_eq!(
                out.values,
                [
                    8.0, -8.0, 14.5, -14.5, 24.5, -24.5, 34.5, -34.5, 40.5, -40.5
                ]
            );
            assert_eq!(out.context, [7, 10, 20, 30, 40]);
        }
        let mut known = rows(&all, b'+');
        known.values[0] = f32::NAN;
        for i in 3..13 {
            known.values[2 * i + 1] = f32::NAN;
        }
        let found = Bins::new(10, Pool::Mean).push(&known, true).values;
        assert_eq!(found[..3], [8.5, -8.0, 14.5]);
        assert!(found[3].is_nan() && found[4..6] == [24.5, -24.5]);
        let mut last = Bins::new(10, Pool::Last);
        assert_eq!(last.push(&rows(&all, b'+'), true).values[..2], [9.0, -9.0]);
        let mut max = Bins::new(10, Pool::Max);
        assert_eq!(max.push(&rows(&all, b'+'), true).values[..2], [9.0, -7.0]);
    }
}
