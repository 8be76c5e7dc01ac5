//! S4D: the mixer with the names and initialisation of the reference implementation, the rest
//! named as Mamba's.

use super::{Fill, LAYERS, Plan, WIDTH};
use crate::checkpoint::Config;
use crate::error::Result;
use std::f64::consts::PI;

/// Adds the model's tensors.
pub fn plan(config: &Config, plan: &mut Plan) -> Result<()> {
    let width = config.size("d_model", WIDTH, None)?;
    let layers = config.size("n_layer", LAYERS, None)?;
    let rows = config.size("vocab_size", WIDTH, None)?;
    let modes = config.size("d_state", 2..=1 << 12, Some(64))? / 2;
    let min = config.number("dt_min", Some(0.001))?;
    let max = config.number("dt_max", Some(0.1))?;
    if !(min > 0.0 && min <= max) {
        return Err(config.error("dt_min", "is not a positive number up to dt_max"));
    }
    let deviation = config.number("initializer_range", Some(0.02))?;

    let embedding = Fill::Normal(deviation);
    plan.add("backbone.embeddings.weight", &[rows, width], embedding);
    let norm = |plan: &mut Plan, at: String| {
        plan.add(format!("{at}.weight"), &[width], Fill::constant(1.0));
        plan.add(format!("{at}.bias"), &[width], Fill::constant(0.0));
    };
    for layer in 0..layers {
        let at = format!("backbone.layers.{layer}");
        norm(plan, format!("{at}.norm"));
        let at = format!("{at}.mixer");
        plan.add(format!("{at}.D"), &[width], Fill::Normal(1.0));
        plan.torch(format!("{at}.output_linear.0"), &[2 * width, width, 1]);
        let at = format!("{at}.kernel");
        // A complex normal number has half its variance in each part.
        let part = Fill::Normal(0.5f64.sqrt());
        plan.add(format!("{at}.C"), &[width, modes, 2], part);
        let steps = Fill::Uniform(min.ln(), max.ln());
        plan.add(format!("{at}.log_dt"), &[width], steps);
        let decay = Fill::constant(0.5f64.ln());
        plan.add(format!("{at}.log_A_real"), &[width, modes], decay);
        let frequency = Fill::Each(Box::new(move |index| PI * (index % modes) as f64));
        plan.add(format!("{at}.A_imag"), &[width, modes], frequency);
    }
    norm(plan, "backbone.norm_f".into());
    if !config.flag("tie_word_embeddings", Some(true))? {
        plan.add("lm_head.weight", &[rows, width], Fill::torch(width));
    }
    Ok(())
}
