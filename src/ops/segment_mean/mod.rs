//! The mean over each segment of a step.

use super::gather::cuda::gather;
use super::{Device, Reduction, expect_shape, pool};
use crate::error::Result;
use crate::ops::Tensor;
use crate::sequence::Segment;

/// (T, D) to (B, D): the mean of the rows of each of B segments, whose lengths sum to T. A row a
/// sequence is little: the means lie in memory, wherever the rows lie.
pub fn segment_mean(x: &Tensor, segments: &[Segment]) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let lens: Vec<usize> = segments.iter().map(|segment| segment.len).collect();
    expect_shape("segments", x, &[lens.iter().sum(), width])?;
    let mut end = 0;
    let runs = lens.iter().map(|len| {
        end += len;
        end - len..end
    });
    let mut out: Vec<f32> = pool(x, &runs.collect::<Vec<_>>(), Reduction::Sum)?.to_vec1()?;
    for (out, len) in out.chunks_exact_mut(width).zip(&lens) {
        out.iter_mut().for_each(|out| *out /= *len as f32);
    }
    let out = Tensor::from_vec(out, (lens.len(), width), &Device::Cpu)?;
    let device = x.device().clone();
    Ok(out.derived([x], move |grad| {
        let mut parts: Vec<f32> = grad.to_vec1()?;
        for (part, len) in parts.chunks_exact_mut(width).zip(&lens) {
            part.iter_mut().for_each(|part| *part /= *len as f32);
        }
        let of_row = lens.iter().enumerate();
        let of_row = of_row.flat_map(|(i, len)| std::iter::repeat_n(i, *len));
        let out = match &device {
            Device::Cuda(gpu) => {
                let of_row: Vec<u32> = of_row.map(|i| i as u32).collect();
                let (parts, of_row) = (gpu.upload(&parts)?, gpu.upload(&of_row)?);
                let out = gather(gpu, &parts, &of_row, width)?;
                Tensor::on_gpu(gpu, out, &[rows, width])
            }
            Device::Cpu => {
                let out = of_row.flat_map(|i| &parts[i * width..(i + 1) * width]);
                Tensor::from_vec(out.copied().collect(), (rows, width), &device)?
            }
        };
        Ok([Some(out)])
    }))
}

#[cfg(test)]
mod tests;
