//! The mean over each segment of a step.

use super::{Device, Reduction, cuda, expect_shape, pool};
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
                let out = cuda::gather(gpu, &parts, &of_row, width)?;
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
mod tests {
    use super::*;
    use crate::ops::Device;

    #[test]
    fn means_and_their_gradients_are_those_of_each_segment() {
        let segment = |len| Segment {
            lane: 0,
            len,
            starts: true,
            ends: true,
        };
        let x: Vec<f32> = (0..10).map(|i| i as f32).collect();
        let x = Tensor::from_vec(x, (5, 2), &Device::Cpu)
            .unwrap()
            .parameter();
        let mean = segment_mean(&x, &[segment(2), segment(3)]).unwrap();
        assert_eq!(mean.to_vec2::<f32>().unwrap(), [[1.0, 2.0], [6.0, 7.0]]);
        let seed = Tensor::new(&[[2f32, 4.0], [3.0, 6.0]], &Device::Cpu).unwrap();
        let gradient = mean
            .backward(seed)
            .unwrap()
            .of(&x)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap();
        assert_eq!(
            gradient,
            [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
        );
        assert!(segment_mean(&x, &[segment(2)]).is_err());
    }
}
