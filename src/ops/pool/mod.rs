//! Rows brought together.

use super::{Device, cuda, unwritten, with_slices};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use rayon::prelude::*;
use std::ops::Range;

/// How rows become one, each dimension by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Their sum, in order.
    Sum,
    /// The largest value; NaN if there is one.
    Max,
    /// The last row.
    Last,
}

/// Runs of rows of `x` (T, D), none of them empty, to one row each: (runs, D).
pub fn pool(x: &Tensor, runs: &[Range<usize>], how: Reduction) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    if runs.iter().any(|run| run.is_empty() || run.end > rows) {
        return Err(Error::new(Kind::Internal, "no such rows to bring together"));
    }
    if let Device::Cuda(gpu) = x.device() {
        let out = cuda::pool(gpu, x.gpu_values(gpu)?, runs, width, how)?;
        return Ok(Tensor::on_gpu(gpu, out, &[runs.len(), width]));
    }
    let out = with_slices([x], |[x]| {
        let mut out = unwritten(runs.len() * width);
        out.par_chunks_mut(width.max(1))
            .zip(runs)
            .for_each(|(out, run)| {
                let rows = &x[run.start * width..run.end * width];
                let mut rows = rows.chunks_exact(width);
                out.copy_from_slice(rows.next().unwrap_or(&[]));
                for row in rows {
                    for (pooled, &x) in out.iter_mut().zip(row) {
                        *pooled = match how {
                            Reduction::Sum => *pooled + x,
                            Reduction::Max if pooled.is_nan() || x <= *pooled => *pooled,
                            Reduction::Max | Reduction::Last => x,
                        };
                    }
                }
            });
        Ok(out)
    })?;
    Tensor::from_vec(out, (runs.len(), width), x.device())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_become_their_sums_largest_and_last_values() {
        let values = [1f32, 8., 2., -7., 3., 6., -4., 5., f32::NAN, 0., 1., 1.];
        let x = Tensor::from_slice(&values, (6, 2), &Device::Cpu).unwrap();
        let pooled = |how| {
            let pooled = pool(&x, &[0..3, 3..4, 4..6], how).unwrap();
            pooled.to_vec1::<f32>().unwrap()
        };
        assert_eq!(pooled(Reduction::Sum)[..4], [6., 7., -4., 5.]);
        assert_eq!(pooled(Reduction::Max)[..4], [3., 8., -4., 5.]);
        assert_eq!(pooled(Reduction::Last), [3., 6., -4., 5., 1., 1.]);
        assert!(pooled(Reduction::Max)[4].is_nan());
        assert_eq!(pooled(Reduction::Max)[5], 1.);
        assert!(pool(&x, &[0..1, 1..7], Reduction::Sum).is_err());
        assert!(pool(&x, &[0..2, 2..2], Reduction::Sum).is_err());
    }
}
