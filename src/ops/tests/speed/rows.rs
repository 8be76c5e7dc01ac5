//! Functions of rows, and matrix products.

use super::{ROWS, time, zeros};
use crate::ops::Activation;
use crate::ops::Held;
use crate::ops::cuda::testing::{gpu, random};
use crate::ops::linear::cuda::Linear;
use crate::ops::norm::cuda::{layer_norm, rms_norm};
use crate::ops::tensor::cuda::convert;
use half::bf16;

#[test]
#[ignore = "needs a CUDA device"]
fn rows_and_products() {
    let gpu = gpu();
    let d = 256;
    let x = zeros(ROWS * d);
    let (w, b) = (zeros(d), zeros(d));
    time("layer norm f32 256", ROWS, 8 * d, 0, || {
        layer_norm::<f32>(gpu, &x, &w, &b, 1e-5).unwrap();
    });
    time("layer norm bf16 256", ROWS, 6 * d, 0, || {
        layer_norm::<bf16>(gpu, &x, &w, &b, 1e-5).unwrap();
    });
    time("rms norm f32 256", ROWS, 8 * d, 0, || {
        rms_norm::<f32>(gpu, &x, &w, 1e-5, 0.0).unwrap();
    });
    let rounded = convert::<bf16>(gpu, &x).unwrap();
    for (inner, width) in [(256, 768), (256, 256), (256, 1024), (1024, 256), (512, 48)] {
        let weight = random(width * inner, 1);
        let bias = random(width, 2);
        let wide = zeros(ROWS * inner);
        let rounded_wide;
        let rounded = match inner {
            256 => &rounded,
            _ => {
                rounded_wide = convert::<bf16>(gpu, &wide).unwrap();
                &rounded_wide
            }
        };
        let flops = 2 * inner * width;
        let plain = Linear::new(gpu, Held::F32(&weight), [width, inner], None, false).unwrap();
        let half = Linear::new(gpu, Held::F32(&weight), [width, inner], None, true).unwrap();
        let biased =
            Linear::new(gpu, Held::F32(&weight), [width, inner], Some(&bias), true).unwrap();
        time(
            &format!("product f32 {inner} {width}"),
            ROWS,
            4 * (inner + width),
            flops,
            || {
                plain
                    .forward::<f32, f32>(&wide, None, Activation::None)
                    .unwrap();
            },
        );
        let bytes = 2 * inner + 4 * width;
        time(
            &format!("product bf16 to f32 {inner} {width}"),
            ROWS,
            bytes,
            flops,
            || {
                half.forward::<bf16, f32>(rounded, None, Activation::None)
                    .unwrap();
            },
        );
        let bytes = 2 * inner + 10 * width;
        time(
            &format!("product bf16 gelu {inner} {width}"),
            ROWS,
            bytes,
            flops,
            || {
                biased
                    .forward::<bf16, bf16>(rounded, None, Activation::GeluTanh)
                    .unwrap();
            },
        );
        let residual = zeros(ROWS * width);
        let bytes = 2 * inner + 16 * width;
        time(
            &format!("product bf16 residual {inner} {width}"),
            ROWS,
            bytes,
            flops,
            || {
                biased
                    .forward::<bf16, f32>(rounded, Some(&residual), Activation::None)
                    .unwrap();
            },
        );
    }
}
