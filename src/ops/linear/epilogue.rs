//! What follows a product: bias, activation, and a factor or what is added.

use crate::ops::math::{self, Activation, simd};
use std::ops::Range;

/// What is done with each value of a product (M, N) after its bias.
#[derive(Clone, Copy)]
pub struct Epilogue<'a> {
    pub activation: Activation,
    pub then: Then<'a>,
}

/// What is done last.
#[derive(Clone, Copy)]
pub enum Then<'a> {
    Nothing,
    /// It is multiplied by another (M, N).
    Times(&'a [f32]),
    /// Another (M, N) is added.
    Plus(&'a [f32]),
}

impl Then<'_> {
    /// Of some rows, whose values are these.
    pub fn of(self, values: Range<usize>) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Times(other) => Self::Times(&other[values]),
            Self::Plus(other) => Self::Plus(&other[values]),
        }
    }
}

simd! {
/// Writes rows of a product y (M, N), `activation(y + bias)` and what is done last.
pub fn follow(out: &mut [f32], y: &[f32], bias: &[f32], epilogue: Epilogue) {
    let then = epilogue.then;
    match epilogue.activation {
        Activation::None => rows(out, y, bias, then, |y| y),
        Activation::GeluTanh => rows(out, y, bias, then, math::gelu_tanh::<FMA>),
        Activation::GeluErf => rows(out, y, bias, then, math::gelu_erf::<FMA>),
        Activation::Silu => rows(out, y, bias, then, math::silu::<FMA>),
    }
}
}

#[inline(always)]
fn rows(out: &mut [f32], y: &[f32], bias: &[f32], then: Then, activation: impl Fn(f32) -> f32) {
    let width = bias.len();
    let rows = out.chunks_exact_mut(width).zip(y.chunks_exact(width));
    for (row, (out, y)) in rows.enumerate() {
        let all = out.iter_mut().zip(y).zip(bias);
        match then.of(row * width..(row + 1) * width) {
            Then::Nothing => all.for_each(|((out, y), bias)| *out = activation(y + bias)),
            Then::Times(other) => all
                .zip(other)
                .for_each(|(((out, y), bias), other)| *out = activation(y + bias) * other),
            Then::Plus(other) => all
                .zip(other)
                .for_each(|(((out, y), bias), other)| *out = activation(y + bias) + other),
        }
    }
}
