use super::*;
use crate::ops::Device;

fn matrix(values: &[f32]) -> Tensor {
    Tensor::from_slice(values, (values.len() / 2, 2), &Device::Cpu).unwrap()
}

#[test]
fn gradients_pass_through_what_only_moves_values() {
    let x = matrix(&[1., 2., 3., 4., 5., 6.]).parameter(); // (3, 2)
    let y = matrix(&[7., 8.]).parameter(); // (1, 2)
    let rows = Tensor::new(&[2u32, 0, 2], &Device::Cpu).unwrap();
    let picked = x.index_select(&rows, 0).unwrap(); // rows 2, 0, 2 of x
    let joined = Tensor::cat(&[picked, y.clone(), x.clone()], 0).unwrap(); // (7, 2)
    let flipped = joined.flip(0).unwrap().t().unwrap().t().unwrap();
    let flat = flipped.narrow(0, 1, 6).unwrap().reshape(12).unwrap();
    let seed: Vec<f32> = (1..=12).map(|i| i as f32).collect();
    let seed = Tensor::from_vec(seed, 12, &Device::Cpu).unwrap();
    let gradients = flat.affine(2.0, 0.0).unwrap().backward(seed).unwrap();
    // Rows of `flat`: x1, x0, y, x2, x0, x2, and twice their seeds.
    let of_x = gradients.of(&x).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(of_x, [[24., 28.], [2., 4.], [36., 40.]]);
    let of_y = gradients.of(&y).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(of_y, [[10., 12.]]);
}

#[test]
fn constants_remember_nothing() {
    let x = matrix(&[1., 2.]);
    assert!(!x.affine(2.0, 0.0).unwrap().is_tracked());
    let y = x.parameter().exp().unwrap();
    assert!(y.is_tracked());
    assert!(!y.detach().add(&x).unwrap().is_tracked());
    assert!(x.backward(x.clone()).is_err());
    let gradients = y.backward(y.clone()).unwrap();
    assert!(gradients.of(&x).is_none());
}
