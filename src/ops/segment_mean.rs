//! The mean over each segment of a step.

use super::{expect_shape, with_slices};
use crate::error::Result;
use crate::ops::Tensor;
use crate::sequence::Segment;

/// (T, D) to (B, D): the mean of the rows of each of B segments, whose lengths sum to T.
pub fn segment_mean(x: &Tensor, segments: &[Segment]) -> Result<Tensor> {
    let (rows, width) = x.dims2()?;
    let lens: Vec<usize> = segments.iter().map(|segment| segment.len).collect();
    expect_shape("segments", x, &[lens.iter().sum(), width])?;
    let out = with_slices([x], |[x]| {
        let mut out = vec![0.0; lens.len() * width];
        let mut rows = x.chunks_exact(width);
        for (out, len) in out.chunks_exact_mut(width).zip(&lens) {
            for row in rows.by_ref().take(*len) {
                out.iter_mut().zip(row).for_each(|(out, x)| *out += x);
            }
            out.iter_mut().for_each(|out| *out /= *len as f32);
        }
        Ok(out)
    })?;
    let out = Tensor::from_vec(out, (lens.len(), width), x.device())?;
    Ok(out.derived([x], move |grad| {
        let out = with_slices([grad], |[grad]| {
            let mut out = Vec::with_capacity(rows * width);
            for (grad, len) in grad.chunks_exact(width).zip(&lens) {
                let row: Vec<f32> = grad.iter().map(|x| x / *len as f32).collect();
                (0..*len).for_each(|_| out.extend_from_slice(&row));
            }
            Ok(out)
        })?;
        Ok([Some(Tensor::from_vec(out, (rows, width), grad.device())?)])
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
