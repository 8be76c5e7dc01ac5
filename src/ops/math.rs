//! Elementary functions that compilers can vectorise: polynomials without branches or tables.
//!
//! `simd!` compiles one function body three times (AVX-512, AVX2 with FMA, and the target's
//! baseline) and picks one at run time.

/// Defines a function whose body is compiled for AVX-512, AVX2 and the baseline, and chosen once
/// per call by the processor's features. Everything that the body calls must be inlined.
///
/// In the body the constant `FMA` says whether [`mul_add`] is one instruction.
macro_rules! simd {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            fn body<const FMA: bool>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn avx512($($arg: $ty),*) $(-> $ret)? { body::<true>($($arg),*) }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $ty),*) $(-> $ret)? { body::<true>($($arg),*) }

                if $crate::ops::math::has_avx512() {
                    // SAFETY: the features were detected just above.
                    return unsafe { avx512($($arg),*) };
                }
                if $crate::ops::math::has_avx2() {
                    // SAFETY: the features were detected just above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}
pub(crate) use simd;

/// Whether the processor has what `simd!` takes for AVX-512.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx512() -> bool {
    std::arch::is_x86_feature_detected!("avx512f")
        && std::arch::is_x86_feature_detected!("avx512bw")
        && std::arch::is_x86_feature_detected!("avx512dq")
        && std::arch::is_x86_feature_detected!("avx512vl")
}

/// Whether the processor has what `simd!` takes for AVX2.
#[cfg(target_arch = "x86_64")]
pub(crate) fn has_avx2() -> bool {
    std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")
}

/// The widest instructions that `simd!` chooses on this processor.
pub fn instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        return "AVX-512";
    } else if has_avx2() {
        return "AVX2";
    }
    if cfg!(target_arch = "aarch64") {
        "NEON"
    } else {
        "baseline"
    }
}

/// A function of each value, often of what a matrix product gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// GELU by its tanh formula.
    GeluTanh,
    /// GELU as defined, by the error function.
    GeluErf,
    /// `x · sigmoid(x)`
    Silu,
}

/// Adding and subtracting 1.5·2²³ rounds an f32 below 2²² to the nearest whole number, which then
/// stands in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `exp(x)` to 2 units in the last place, for x from −87.3 to 88.3; clamped outside.
///
/// exp(x) = 2ⁿ exp(r), n = round(x / ln 2), |r| ≤ ln 2 / 2, exp(r) by a polynomial of degree 6.
#[inline(always)]
pub fn exp<const FMA: bool>(x: f32) -> f32 {
    let x = x.clamp(-87.3, 88.3);
    let shifted = mul_add::<FMA>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // ln 2 in two parts, so that n · high is exact.
    let r = mul_add::<FMA>(n, 2.121_944_4e-4, mul_add::<FMA>(n, -0.693_359_4, x));
    let mut p = 1.388_889e-3;
    p = mul_add::<FMA>(p, r, 8.333_334e-3);
    p = mul_add::<FMA>(p, r, 4.166_666_6e-2);
    p = mul_add::<FMA>(p, r, 1.666_666_7e-1);
    p = mul_add::<FMA>(p, r, 0.5);
    p = mul_add::<FMA>(p, r, 1.0);
    p = mul_add::<FMA>(p, r, 1.0);
    let scale = f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23);
    p * scale
}

/// `a · b + c`, fused where that is one instruction (without it, it would be a library call).
#[inline(always)]
pub fn mul_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `2ˣ` to 1 unit in the last place, for x from −125 to 127; below, as at −125.
///
/// Exactly 1 at 0 and without bias near it: a decay that is applied 10⁶ times must not drift.
#[inline(always)]
pub fn exp2<const FMA: bool>(x: f32) -> f32 {
    let x = x.max(-125.0);
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    // Weighted least squares on Chebyshev points of |r| ≤ 1/2; 2.2e-9 from 2ʳ.
    let mut p = 1.537_070_5e-4;
    p = mul_add::<FMA>(p, r, 1.339_984_8e-3);
    p = mul_add::<FMA>(p, r, 9.618_373e-3);
    p = mul_add::<FMA>(p, r, 5.550_329e-2);
    p = mul_add::<FMA>(p, r, 2.402_264_8e-1);
    p = mul_add::<FMA>(p, r, 6.931_472e-1);
    p = mul_add::<FMA>(p, r, 1.0);
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// `ln(1 + exp(x))`, to 4e-7 of its value for x above −87.
#[inline(always)]
pub fn softplus<const FMA: bool>(x: f32) -> f32 {
    let e = exp::<FMA>(-x.abs());
    // ln(1 + e) = 2 atanh(s), s ≤ 1/3; minimax in s², 4e-9.
    let s = e / (2.0 + e);
    let z = s * s;
    let mut p = 2.819_153_6e-1;
    p = mul_add::<FMA>(p, z, 2.795_768e-1);
    p = mul_add::<FMA>(p, z, 4.002_511e-1);
    p = mul_add::<FMA>(p, z, 6.666_631e-1);
    p = mul_add::<FMA>(p, z, 2.0);
    x.max(0.0) + s * p
}

/// `sin(x)` within 1e-6 for |x| below 10⁴ (the implicit filters' arguments stay below 10³).
#[inline(always)]
pub fn sin<const FMA: bool>(x: f32) -> f32 {
    let shifted = mul_add::<FMA>(x, std::f32::consts::FRAC_1_PI, ROUND);
    let n = shifted - ROUND;
    // π in three parts, each short enough that n · part is exact for n below 2¹².
    let r = mul_add::<FMA>(n, -3.140_625, x);
    let r = mul_add::<FMA>(n, -9.670_257_6e-4, r);
    let r = mul_add::<FMA>(n, -6.277_114e-7, r);
    let s = r * r;
    let mut p = -2.388_985_9e-8;
    p = mul_add::<FMA>(p, s, 2.752_556_2e-6);
    p = mul_add::<FMA>(p, s, -1.984_087_4e-4);
    p = mul_add::<FMA>(p, s, 8.333_331e-3);
    p = mul_add::<FMA>(p, s, -1.666_666_7e-1);
    let value = mul_add::<FMA>(r * s, p, r);
    // An odd multiple of π turns the sign.
    f32::from_bits(value.to_bits() ^ (shifted.to_bits() << 31))
}

/// `1 / (1 + exp(-x))`
#[inline(always)]
pub fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// `x · sigmoid(x)`
#[inline(always)]
pub fn silu<const FMA: bool>(x: f32) -> f32 {
    x * sigmoid::<FMA>(x)
}

/// GELU by its tanh formula: `x/2 · (1 + tanh(√(2/π) (x + 0.044715 x³)))`, as `x · sigmoid(2 …)`.
#[inline(always)]
pub fn gelu_tanh<const FMA: bool>(x: f32) -> f32 {
    x * sigmoid::<FMA>(x * mul_add::<FMA>(x * x, 0.071_354_82, 1.595_769))
}

/// GELU as defined, `x · Φ(x)` with the normal distribution's Φ, within 3e-7 of max(1, |x|).
#[inline(always)]
pub fn gelu_erf<const FMA: bool>(x: f32) -> f32 {
    x * normal::<FMA>(x)
}

/// Φ(x), the normal distribution's function.
///
/// Φ(−a) = exp(−a²/2) · M(a), and M is smooth: a polynomial in 1 / (1 + 0.3 a), fitted to a
/// relative error of 1.5e-7 for a up to 14, where Φ(−a) is below f32.
#[inline(always)]
pub fn normal<const FMA: bool>(x: f32) -> f32 {
    let a = x.abs();
    let t = 1.0 / mul_add::<FMA>(a, 0.3, 1.0);
    let mut m = 3.567_401_7e-2;
    m = mul_add::<FMA>(m, t, -1.571_996_6e-1);
    m = mul_add::<FMA>(m, t, 2.063_471_6e-1);
    m = mul_add::<FMA>(m, t, -5.367_74e-2);
    m = mul_add::<FMA>(m, t, 1.285_581_2e-1);
    m = mul_add::<FMA>(m, t, 9.991_461e-2);
    m = mul_add::<FMA>(m, t, 1.207_537_7e-1);
    m = mul_add::<FMA>(m, t, 1.196_293_1e-1);
    let tail = exp::<FMA>(-0.5 * a * a) * m * t;
    if x < 0.0 { tail } else { 1.0 - tail }
}

simd! {
/// `x ← sin(freq · (x + bias))`
pub fn sine_layer(x: &mut [f32], bias: f32, freq: f32) {
    for x in x {
        *x = sin::<FMA>(freq * (*x + bias));
    }
}
}

simd! {
/// `y ← x · (exp(−t · rate) + shift)`, element by element.
pub fn decay(y: &mut [f32], x: &[f32], t: &[f32], rate: f32, shift: f32) {
    let rate = -rate * std::f32::consts::LOG2_E;
    for ((y, x), t) in y.iter_mut().zip(x).zip(t) {
        *y = x * (exp2::<FMA>(t * rate) + shift);
    }
}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::largest;

    /// Largest |f(x) − exact(x)| over a grid, relative to max(1, |exact|).
    fn worst(
        range: std::ops::Range<i32>,
        step: f64,
        f: fn(f32) -> f32,
        exact: fn(f64) -> f64,
    ) -> f64 {
        let errors = range.map(|i| {
            let x = (f64::from(i) * step) as f32;
            let exact = exact(f64::from(x));
            (f64::from(f(x)) - exact).abs() / exact.abs().max(1.0)
        });
        largest(&errors.collect::<Vec<_>>())
    }

    #[test]
    fn elementary_functions_are_accurate() {
        elementary::<true>();
        elementary::<false>();
    }

    fn elementary<const FMA: bool>() {
        assert!(worst(-80_000..80_000, 1e-3, exp::<FMA>, f64::exp) < 3e-7);
        assert!(worst(-900_000..900_000, 1e-3, sin::<FMA>, f64::sin) < 1e-6);
        assert!(
            worst(-40_000..40_000, 1e-3, sigmoid::<FMA>, |x| 1.0
                / (1.0 + (-x).exp()))
                < 3e-7
        );
        let gelu = |x: f64| {
            0.5 * x
                * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        };
        assert!(worst(-40_000..40_000, 1e-3, gelu_tanh::<FMA>, gelu) < 1e-6);
        assert!(worst(-40_000..40_000, 1e-3, gelu_erf::<FMA>, |x| x * normal(x)) < 3e-7);
    }

    /// Φ(x): the series Σ x²ⁿ⁺¹ / (1·3·…·(2n+1)) times the density, or a continued fraction.
    fn normal(x: f64) -> f64 {
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if x.abs() > 4.0 {
            let a = x.abs();
            let fraction = (1..200).rev().fold(a, |f, k| a + f64::from(k) / f);
            let tail = density / fraction;
            return if x < 0.0 { tail } else { 1.0 - tail };
        }
        let terms = (0..100).scan(x, |term, n| {
            let now = *term;
            *term *= x * x / f64::from(2 * n + 3);
            Some(now)
        });
        0.5 + density * terms.sum::<f64>()
    }

    #[test]
    fn decays_and_steps_are_accurate_relative_to_their_value() {
        let relative = |f: fn(f32) -> f32, exact: fn(f64) -> f64, low: i32, high: i32| {
            let errors = (low..high).map(|i| {
                let x = i as f32 * 1e-3;
                (f64::from(f(x)) / exact(f64::from(x)) - 1.0).abs()
            });
            largest(&errors.collect::<Vec<_>>())
        };
        assert!(relative(exp2::<true>, f64::exp2, -124_999, 20_000) < 1e-7);
        assert!(relative(exp2::<false>, f64::exp2, -124_999, 20_000) < 1.5e-7);
        let exact: fn(f64) -> f64 = |x| x.exp().ln_1p();
        assert!(relative(softplus::<true>, exact, -87_000, 80_000) < 4e-7);
        assert!(relative(softplus::<false>, exact, -87_000, 80_000) < 4e-7);
        assert_eq!(exp2::<true>(0.0), 1.0);
        assert!(exp2::<true>(-1e30) < 1e-37 && softplus::<true>(-1e30) < 1e-37);
        assert_eq!(softplus::<true>(1e30), 1e30);
    }

    #[test]
    fn exp_has_no_infinities_or_nans_at_the_ends() {
        assert!(exp::<true>(-1e30) >= 0.0 && exp::<true>(-1e30) < 1e-37);
        assert!(exp::<true>(1e30).is_finite());
        assert_eq!(exp::<true>(0.0), 1.0);
    }
}
