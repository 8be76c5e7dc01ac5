//! Evo 2: Brixi et al. 2025, doi:10.1101/2025.02.18.638918. [StripedHyena](super::striped_hyena) with
//! short, medium and long filters: Ku et al. 2025, arXiv:2503.01868.
//!
//! Keys of a filter: [`FilterKind::Short`], [`FilterKind::Medium`] and [`FilterKind::Real`].

use super::facts::{Layer, Recommended};
use super::striped_hyena::{ADDED, FilterKind, Hyperparameters, MixerKind, Order, mixers};
use crate::checkpoint::Config;
use crate::error::Result;

/// Keys that Evo does not have. The groups are read off the tensors' shapes.
const KEYS: [&str; 12] = [
    "evo2_style_activations",
    "hcl_filter_groups",
    "hcl_layer_idxs",
    "hcm_filter_groups",
    "hcm_filter_length",
    "hcm_layer_idxs",
    "hcs_filter_groups",
    "hcs_filter_length",
    "hcs_layer_idxs",
    "hyena_flip_x1x2",
    "interleave",
    "use_fp8_input_projections",
];

/// Reads and checks `config.json`: the keys of the published YAML files.
pub fn read(config: &Config) -> Result<Hyperparameters> {
    let taps = |key: &str, published| config.size(key, 1..=1 << 12, Some(published));
    let modes = config.size("state_size", 1..=1 << 10, Some(16))?;
    let short = FilterKind::Short(taps("hcs_filter_length", 7)?);
    let medium = FilterKind::Medium(taps("hcm_filter_length", 128)?);
    let lists = [
        ("attn_layer_idxs", MixerKind::Attention),
        ("hcs_layer_idxs", MixerKind::Hyena(short)),
        ("hcm_layer_idxs", MixerKind::Hyena(medium)),
        ("hcl_layer_idxs", MixerKind::Hyena(FilterKind::Real(modes))),
    ];
    if config.flag("hyena_flip_x1x2", Some(false))? {
        return Err(config.error(
            "hyena_flip_x1x2",
            "only false, the published value, is supported",
        ));
    }
    let bias = config.flag("qkv_proj_bias", Some(false))?;
    let shared = Hyperparameters::read(config, mixers(config, &lists)?, &KEYS)?;
    for key in ["hcm_filter_groups", "hcs_filter_groups"] {
        let groups = config.size(key, 1..=shared.width, Some(shared.width))?;
        if !shared.width.is_multiple_of(groups) {
            let what = format!("{groups} groups do not divide a width of {}", shared.width);
            return Err(config.error(key, what));
        }
    }
    let of_7b = (shared.width, shared.mixers.len()) == (4096, 32);
    let recommended = of_7b.then_some(Recommended {
        layer: Layer::Within(28, ADDED),
        source: "README of github.com/ArcInstitute/evo2",
    });
    Ok(Hyperparameters {
        short_bias: config.flag("short_filter_bias", Some(false))?,
        qkv_bias: bias,
        projection_bias: bias,
        hyena_order: if config.flag("interleave", Some(true))? {
            Order::PerChannel
        } else if config.flag("column_split_hyena", Some(false))? {
            Order::PerHead
        } else {
            Order::Whole
        },
        qkv_order: if config.flag("column_split", Some(true))? {
            Order::PerHead
        } else {
            Order::Whole
        },
        first_activated: config.flag("evo2_style_activations", Some(true))?,
        note: if config.flag("use_fp8_input_projections", Some(false))? {
            Some("published with input projections in FP8, which are computed in f32 here")
        } else {
            None
        },
        recommended,
        ..shared
    })
}
