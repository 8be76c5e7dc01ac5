use super::{gated_rms_norm, layer_norm, rms_norm};
use crate::ops;
use crate::ops::cuda::Floats;
use crate::ops::cuda::testing::{close, flat, gpu, random, same, tensor, values, wide};
use crate::ops::tensor::cuda::{convert, widen};
use cudarc::driver::CudaSlice;
use half::bf16;

#[test]
#[ignore = "needs a CUDA device"]
fn norms_equal_the_cpu_s() {
    let gpu = gpu();
    for (rows, width, groups) in [(3, 5, 1), (130, 256, 2), (77, 1536, 3)] {
        let (x, z) = (random(rows * width, 1), random(rows * width, 2));
        let (w, b) = (random(width, 3), random(width, 4));
        let cpu = [
            ops::LayerNorm::new(tensor(&w, &[width]), tensor(&b, &[width]), 1e-5)
                .forward(&tensor(&x, &[rows, width])),
            ops::RmsNorm::new(tensor(&w, &[width]), 1e-5).forward(&tensor(&x, &[rows, width])),
            ops::RmsNorm::with_eps_outside(tensor(&w, &[width]), 1e-6)
                .forward(&tensor(&x, &[rows, width])),
            ops::GatedRmsNorm::new(tensor(&w, &[width]), groups, 1e-5)
                .forward(&tensor(&x, &[rows, width]), &tensor(&z, &[rows, width])),
        ]
        .map(|x| flat(&x.unwrap()));
        let [x, z, w, b] = [&x, &z, &w, &b].map(|x| gpu.upload(x).unwrap());
        let found = [
            layer_norm::<f32>(gpu, &x, &w, &b, 1e-5),
            rms_norm(gpu, &x, &w, 1e-5, 0.0),
            rms_norm(gpu, &x, &w, 0.0, 1e-6),
            gated_rms_norm(gpu, &x, (&z).into(), &w, groups, 1e-5),
        ]
        .map(|x| gpu.download(&x.unwrap()).unwrap());
        let half = [
            layer_norm::<bf16>(gpu, &x, &w, &b, 1e-5),
            rms_norm(gpu, &x, &w, 1e-5, 0.0),
            rms_norm(gpu, &x, &w, 0.0, 1e-6),
            gated_rms_norm(gpu, &x, (&z).into(), &w, groups, 1e-5),
        ]
        .map(|x| wide(gpu.download(&x.unwrap()).unwrap()));
        let names = [
            "layer norm",
            "rms norm",
            "rms norm, eps outside",
            "gated rms norm",
        ];
        for i in 0..4 {
            let name = format!("{} {rows} {width}", names[i]);
            close(&name, &found[i], &cpu[i], 2e-6);
            close(&format!("{name} bf16"), &half[i], &cpu[i], 4e-3);
        }
        // A gate that was rounded is read as it is.
        let narrow: CudaSlice<bf16> = convert(gpu, &z).unwrap();
        let z = widen(gpu, &narrow).unwrap();
        let found = [Floats::from(&narrow), Floats::from(&z)]
            .map(|z| gated_rms_norm(gpu, &x, z, &w, groups, 1e-5).unwrap())
            .map(|x| gpu.download::<f32>(&x).unwrap());
        assert_eq!(found[0], found[1]);
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_norms_equal_the_cpu_s() {
    for (rows, width) in [(3, 5), (700, 36), (40, 256)] {
        let inputs = [
            values(&[rows, width], 1),
            values(&[width], 2),
            values(&[width], 3),
        ];
        same("layer norm", (&inputs, 1), |x| {
            ops::LayerNorm::new(x[1].clone(), x[2].clone(), 1e-5).forward(&x[0])
        });
        same("rms norm", (&inputs[..2], 1), |x| {
            ops::RmsNorm::new(x[1].clone(), 1e-2).forward(&x[0])
        });
        same("rms norm, eps outside", (&inputs[..2], 1), |x| {
            ops::RmsNorm::with_eps_outside(x[1].clone(), 1e-2).forward(&x[0])
        });
        let gate = values(&[rows, width], 4);
        let inputs = [inputs[0].clone(), gate, inputs[1].clone()];
        for groups in (1..=3).filter(|groups| width % groups == 0) {
            same("gated rms norm", (&inputs, 2), |x| {
                ops::GatedRmsNorm::new(x[2].clone(), groups, 1e-2).forward(&x[0], &x[1])
            });
        }
    }
}
