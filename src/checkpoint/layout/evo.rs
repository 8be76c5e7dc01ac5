//! Evo and Evo 2 (StripedHyena) in their published layouts.
//!
//! The published code holds no initialisation to train from (its poles forget after one base), so
//! the modal filters begin with time constants spaced evenly in the logarithm from 2 to 2048.

use super::{Fill, LAYERS, Plan, WIDTH};
use crate::checkpoint::Config;
use crate::error::Result;
use std::f64::consts::PI;

/// Sizes that both generations share.
struct SharedSizes {
    width: usize,
    layers: usize,
    heads: usize,
    inner: usize,
    state: usize,
    taps: usize,
    deviation: f64,
    /// Deviation of layers that write to the residual stream.
    residual: f64,
}

impl SharedSizes {
    fn new(config: &Config, state: usize) -> Result<Self> {
        let width = config.size("hidden_size", WIDTH, None)?;
        let heads = config.size("num_attention_heads", 1..=width, None)?;
        if !width.is_multiple_of(2 * heads) {
            return Err(config.error(
                "num_attention_heads",
                format!("{heads} heads do not divide a width of {width} evenly"),
            ));
        }
        let multiple = config.size("inner_size_multiple_of", WIDTH, Some(16))?;
        let inner = (8 * width / 3).next_multiple_of(multiple);
        let layers = config.size("num_layers", LAYERS, None)?;
        let deviation = 0.02;
        Ok(Self {
            width,
            layers,
            heads,
            inner: config.size("inner_mlp_size", 1..=1 << 18, Some(inner))?,
            state: config.size("state_size", 1..=1024, Some(state))?,
            taps: config.size("short_filter_length", 1..=1024, Some(3))?,
            deviation,
            residual: deviation / (2.0 * layers as f64).sqrt(),
        })
    }

    /// Embedding, final norm, and each block's norms and gated MLP.
    fn skeleton(&self, config: &Config, plan: &mut Plan, prefix: &str) -> Result<()> {
        let multiple = config.size("make_vocab_size_divisible_by", WIDTH, Some(8))?;
        let rows = config
            .size("vocab_size", WIDTH, None)?
            .next_multiple_of(multiple);
        let (width, inner) = (self.width, self.inner);
        let normal = || Fill::Normal(self.deviation);
        plan.add(
            format!("{prefix}embedding_layer.weight"),
            &[rows, width],
            normal(),
        );
        if !config.flag("tie_embeddings", Some(true))? {
            plan.add(format!("{prefix}unembed.weight"), &[rows, width], normal());
        }
        plan.add(format!("{prefix}norm.scale"), &[width], Fill::constant(1.0));
        for layer in 0..self.layers {
            let at = format!("{prefix}blocks.{layer}");
            plan.add(
                format!("{at}.pre_norm.scale"),
                &[width],
                Fill::constant(1.0),
            );
            plan.add(
                format!("{at}.post_norm.scale"),
                &[width],
                Fill::constant(1.0),
            );
            plan.linear(format!("{at}.mlp.l1"), [inner, width], normal(), false);
            plan.linear(format!("{at}.mlp.l2"), [inner, width], normal(), false);
            plan.linear(
                format!("{at}.mlp.l3"),
                [width, inner],
                Fill::Normal(self.residual),
                false,
            );
        }
        Ok(())
    }

    fn attention(&self, config: &Config, plan: &mut Plan, at: &str, in_bias: bool) -> Result<()> {
        let (width, half) = (self.width, self.width / self.heads / 2);
        let out_bias = config.flag("mha_out_proj_bias", Some(true))?;
        let base = config.number("rotary_emb_base", Some(10_000.0))?;
        let at = format!("{at}.inner_mha_cls");
        plan.linear(
            format!("{at}.Wqkv"),
            [3 * width, width],
            Fill::Normal(self.deviation),
            in_bias,
        );
        plan.linear(
            format!("{at}.out_proj"),
            [width, width],
            Fill::Normal(self.residual),
            out_bias,
        );
        let frequency = move |i: usize| base.powf(-(i as f64) / half as f64);
        plan.add(
            format!("{at}.rotary_emb.inv_freq"),
            &[half],
            Fill::Each(Box::new(frequency)),
        );
        Ok(())
    }

    /// A Hyena block without its long filter. Have its projections, and by default its
    /// short filter, a bias?
    fn hyena(
        &self,
        config: &Config,
        plan: &mut Plan,
        at: &str,
        [in_bias, short_bias]: [bool; 2],
    ) -> Result<()> {
        let (width, taps) = (self.width, self.taps);
        let out_bias = config.flag("hyena_out_proj_bias", Some(true))?;
        plan.linear(
            format!("{at}.projections"),
            [3 * width, width],
            Fill::Normal(self.deviation),
            in_bias,
        );
        plan.linear(
            format!("{at}.out_filter_dense"),
            [width, width],
            Fill::Normal(self.residual),
            out_bias,
        );
        plan.add(
            format!("{at}.filter.short_filter_weight"),
            &[3 * width, 1, taps],
            Fill::torch(taps),
        );
        if config.flag("short_filter_bias", Some(short_bias))? {
            plan.add(
                format!("{at}.filter.short_filter_bias"),
                &[3 * width],
                Fill::torch(taps),
            );
        }
        Ok(())
    }
}

/// The time constant, in bases, of mode `n` of `modes`.
fn time_constant(n: usize, modes: usize) -> f64 {
    2f64.powf(1.0 + 10.0 * n as f64 / (modes.max(2) - 1) as f64)
}

/// What mixes the sequence in a block.
#[derive(Clone, Copy)]
enum Mix {
    Attention,
    Short,
    Medium,
    Long,
}

/// The mixer of each block, from the lists of their indices; each block must be in just one.
fn mixers(config: &Config, layers: usize, lists: &[(&str, Mix)]) -> Result<Vec<Mix>> {
    let mut mixers = vec![None; layers];
    for &(key, mix) in lists {
        for layer in config.sizes(key, 0..=layers - 1)? {
            if mixers[layer].replace(mix).is_some() {
                return Err(config.error(key, format!("layer {layer} is in two lists")));
            }
        }
    }
    let place = mixers.iter().position(Option::is_none).unwrap_or_default();
    let all = mixers.into_iter().collect::<Option<Vec<_>>>();
    all.ok_or_else(|| {
        config.error(
            "num_layers",
            format!("layer {place} is in no list of layers"),
        )
    })
}

/// Evo in the layout of togethercomputer/evo-1-*: complex modes as pairs.
pub fn evo1(config: &Config, plan: &mut Plan) -> Result<()> {
    let sizes = SharedSizes::new(config, 8)?;
    let (width, state) = (sizes.width, sizes.state);
    let lists = [
        ("attn_layer_idxs", Mix::Attention),
        ("hyena_layer_idxs", Mix::Long),
    ];
    sizes.skeleton(config, plan, "backbone.")?;
    for (layer, mix) in mixers(config, sizes.layers, &lists)?
        .into_iter()
        .enumerate()
    {
        let at = format!("backbone.blocks.{layer}");
        if let Mix::Attention = mix {
            let bias = config.flag("qkv_proj_bias", Some(true))?;
            sizes.attention(config, plan, &at, bias)?;
            continue;
        }
        sizes.hyena(config, plan, &at, [true, true])?;
        let pole = move |index: usize| {
            let n = index / 2 % state;
            let (size, angle) = (
                (-1.0 / time_constant(n, state)).exp(),
                PI * n as f64 / state as f64,
            );
            if index.is_multiple_of(2) {
                size * angle.cos()
            } else {
                size * angle.sin()
            }
        };
        let shape = [width, state, 1, 2];
        plan.add(format!("{at}.filter.D"), &[width], Fill::Normal(1.0));
        plan.add(
            format!("{at}.filter.poles"),
            &shape,
            Fill::Each(Box::new(pole)),
        );
        plan.add(format!("{at}.filter.residues"), &shape, Fill::Normal(0.1));
    }
    Ok(())
}

/// Evo 2 in the layout of arcinstitute/evo2_*: real modes, and explicit short and medium filters.
pub fn evo2(config: &Config, plan: &mut Plan) -> Result<()> {
    let sizes = SharedSizes::new(config, 16)?;
    let (width, state) = (sizes.width, sizes.state);
    let medium = config.size("hcm_filter_length", 1..=1 << 20, Some(128))?;
    let short = config.size("hcs_filter_length", 1..=1 << 20, Some(7))?;
    let medium_groups = config.size("hcm_filter_groups", 1..=width, None)?;
    let short_groups = config.size("hcs_filter_groups", 1..=width, None)?;
    let lists = [
        ("attn_layer_idxs", Mix::Attention),
        ("hcs_layer_idxs", Mix::Short),
        ("hcm_layer_idxs", Mix::Medium),
        ("hcl_layer_idxs", Mix::Long),
    ];
    sizes.skeleton(config, plan, "")?;
    for (layer, mix) in mixers(config, sizes.layers, &lists)?
        .into_iter()
        .enumerate()
    {
        let at = format!("blocks.{layer}");
        let bias = config.flag("qkv_proj_bias", Some(false))?;
        if let Mix::Attention = mix {
            sizes.attention(config, plan, &at, bias)?;
            continue;
        }
        sizes.hyena(config, plan, &at, [bias, false])?;
        let at = format!("{at}.filter");
        match mix {
            Mix::Short => plan.add(
                format!("{at}.h"),
                &[short_groups, 1, short],
                Fill::torch(short),
            ),
            Mix::Medium => {
                plan.add(
                    format!("{at}.h"),
                    &[medium_groups, 1, medium],
                    Fill::torch(medium),
                );
                plan.add(format!("{at}.D"), &[width], Fill::Normal(1.0));
            }
            Mix::Long | Mix::Attention => {
                let log_pole = move |index: usize| -1.0 / time_constant(index % state, state);
                plan.add(
                    format!("{at}.log_poles"),
                    &[width, state, 1],
                    Fill::Each(Box::new(log_pole)),
                );
                plan.add(format!("{at}.residues"), &[width, state], Fill::Normal(0.1));
                plan.add(format!("{at}.D"), &[width], Fill::Normal(1.0));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::checkpoint::{Config, layout, preset};
    use serde_json::json;

    #[test]
    fn presets_have_the_published_number_of_parameters() {
        for (name, billions) in [("evo-1-8k", 6.45), ("evo2-1b", 1.11), ("evo2-7b", 6.58)] {
            let plan = layout::plan(&Config::new(name, preset(name).unwrap())).unwrap();
            let values = plan
                .iter()
                .map(|planned| planned.entry.bytes() as f64 / 4.0)
                .sum::<f64>();
            assert!((values / 1e9 - billions).abs() < 0.01, "{name}: {values}");
        }
    }

    #[test]
    fn a_layer_in_no_list_or_in_two_is_an_error() {
        for list in [json!([0, 1]), json!([3])] {
            let mut config = preset("evo2-1b").unwrap();
            config.insert("attn_layer_idxs".into(), list);
            assert!(layout::plan(&Config::new("x", config)).is_err());
        }
    }
}
