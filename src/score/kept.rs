//! Hidden vectors that stay on the device: sums of them are all that travels.

use super::line::Sum;
use crate::error::Result;
use crate::ops::{Device, Later, Reduction, Tensor, pool};
use crate::stream::{check_finite, load, store};
use std::io::{Read, Write};
use std::ops::Range;

/// Rows that are summed one after the other; of these sums, those of a run in turn. That rounds
/// less than one long sum in f32.
const TOGETHER: usize = 32;

/// The vectors of consecutive positions of a strand.
///
/// Memory: D numbers a position that was not forgotten, on the device.
pub(super) struct Kept {
    /// The first position that is kept.
    from: u64,
    width: usize,
    rows: Option<Tensor>, // (positions, D)
}

impl Kept {
    /// Of positions from `from` on, vectors of `width`.
    pub fn new(from: u64, width: usize) -> Self {
        Self {
            from,
            width,
            rows: None,
        }
    }

    /// Appends positions.
    pub fn push(&mut self, rows: Tensor) -> Result<()> {
        self.rows = Some(match self.rows.take() {
            None => rows,
            Some(kept) => Tensor::cat(&[kept, rows], 0)?,
        });
        Ok(())
    }

    /// Forgets what lies before `position`.
    pub fn forget(&mut self, position: u64) -> Result<()> {
        let Some(rows) = self.rows.take() else {
            return Ok(());
        };
        let count = rows.dim(0)?;
        let n = (position.saturating_sub(self.from) as usize).min(count);
        self.from += n as u64;
        self.rows = match n {
            0 => Some(rows),
            n if n == count => None,
            n => Some(rows.narrow(0, n, count - n)?),
        };
        Ok(())
    }

    /// Stores what is kept; waits for the work that computes it.
    pub fn save(&self, file: &mut dyn Write) -> Result<()> {
        let rows = self.rows.as_ref().map(Tensor::to_vec1::<f32>);
        store(&(self.from, rows.transpose()?), file)
    }

    /// Takes up what [`Self::save`] stored, on the device where it lay.
    pub fn restore(&mut self, device: &Device, file: &mut dyn Read) -> Result<()> {
        let rows: Option<Vec<f32>>;
        (self.from, rows) = load(file)?;
        let rows = rows.map(|rows| {
            let shape = (rows.len() / self.width, self.width);
            Tensor::from_vec(rows, shape, device)
        });
        self.rows = rows.transpose()?;
        Ok(())
    }

    /// The sums of runs of positions, as far as they are kept.
    pub fn sums(&self, runs: impl Iterator<Item = Range<u64>>) -> Result<Sums> {
        let rows = self.rows.as_ref();
        let count = rows.map_or(Ok(0), |rows| rows.dim(0))?;
        let row = |position: u64| (position.saturating_sub(self.from) as usize).min(count);
        let runs = runs.map(|run| row(run.start)..row(run.end));
        Sums::of(rows, self.width, &runs.collect::<Vec<_>>())
    }
}

/// Sums of runs of rows, which the device is at work on.
pub(super) struct Sums {
    width: usize,
    /// Rows of each run.
    counts: Vec<usize>,
    /// The sums of those that are not empty.
    values: Option<Later>,
}

impl Sums {
    /// Of rows of `x` (T, `width`); of none all runs are empty.
    pub fn of(x: Option<&Tensor>, width: usize, runs: &[Range<usize>]) -> Result<Self> {
        let (mut parts, mut of_runs) = (Vec::new(), Vec::new());
        for run in runs.iter().filter(|run| !run.is_empty()) {
            let first = parts.len();
            let starts = run.clone().step_by(TOGETHER);
            parts.extend(starts.map(|row| row..run.end.min(row + TOGETHER)));
            of_runs.push(first..parts.len());
        }
        let values = match x {
            Some(x) if !parts.is_empty() => {
                let parts = pool(x, &parts, Reduction::Sum)?;
                Some(pool(&parts, &of_runs, Reduction::Sum)?.later()?)
            }
            _ => None,
        };
        Ok(Self {
            width,
            counts: runs.iter().map(ExactSizeIterator::len).collect(),
            values,
        })
    }

    /// Waits for them.
    ///
    /// # Errors
    /// Model: one is not finite.
    pub fn read(self) -> Result<Vec<Sum>> {
        let values = self.values.map(|values| values.read());
        let values = values.transpose()?.unwrap_or_default();
        check_finite(&values, self.width, |_| {
            "a sum of hidden vectors".to_string()
        })?;
        let mut rows = values.chunks_exact(self.width);
        let sums = self.counts.into_iter().map(|count| {
            let mut sum = Sum::new(self.width);
            if count > 0 {
                sum.add(rows.next().unwrap_or_default());
            }
            sum.count = count;
            sum
        });
        Ok(sums.collect())
    }
}
