//! Transformers, the baseline: names as in `encoder/transformer.rs`.

use super::{Fill, LAYERS, Plan, WIDTH};
use crate::checkpoint::Config;
use crate::error::Result;

/// Weights normal around zero, those that write to the residual stream smaller, as GPT-2.
pub fn plan(config: &Config, plan: &mut Plan) -> Result<()> {
    let width = config.size("hidden_size", WIDTH, None)?;
    let heads = config.size("num_heads", 1..=width, None)?;
    let inner = config.size("inner_size", WIDTH, Some(4 * width))?;
    let layers = config.size("num_layers", LAYERS, None)?;
    let rows = config.size("vocab_size", WIDTH, Some(16))?;
    let deviation = config.number("initializer_range", Some(0.02))?;
    let normal = || Fill::Normal(deviation);
    let residual = || Fill::Normal(deviation / (2.0 * layers as f64).sqrt());
    plan.add("embedding.weight", &[rows, width], normal());
    plan.add("norm.weight", &[width], Fill::constant(1.0));
    for layer in 0..layers {
        let at = format!("layers.{layer}");
        plan.add(format!("{at}.norm1.weight"), &[width], Fill::constant(1.0));
        plan.add(format!("{at}.norm2.weight"), &[width], Fill::constant(1.0));
        plan.linear(
            format!("{at}.attention.qkv"),
            [3 * width, width],
            normal(),
            false,
        );
        plan.linear(
            format!("{at}.attention.out"),
            [width, width],
            residual(),
            false,
        );
        plan.linear(format!("{at}.mlp.fc1"), [inner, width], normal(), false);
        plan.linear(format!("{at}.mlp.fc2"), [width, inner], residual(), false);
        match config.text("attention", None)?.as_str() {
            "performer" => {
                let features = config.size("features", WIDTH, Some(256))?;
                // Independent rows; the orthogonal ones of the paper differ in variance alone.
                let shape = [features, width / heads];
                plan.add(
                    format!("{at}.attention.features"),
                    &shape,
                    Fill::Normal(1.0),
                );
            }
            "nystrom" => {
                let taps = config.size("conv_size", 1..=1024, Some(33))?;
                plan.add(
                    format!("{at}.attention.conv.weight"),
                    &[heads, 1, taps],
                    Fill::torch(taps),
                );
            }
            _ => {}
        }
    }
    Ok(())
}
