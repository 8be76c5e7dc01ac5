//! Evo: Nguyen et al. 2024, doi:10.1126/science.ado9336. [StripedHyena](super::striped_hyena) with
//! modal filters: Massaroli et al. 2023, arXiv:2310.18780.
//!
//! Keys of a filter: [`FilterKind::Complex`].

use super::striped_hyena::{FilterKind, Hyperparameters, MixerKind, mixers};
use crate::checkpoint::Config;
use crate::error::Result;

/// Reads and checks `config.json`: Hugging Face's or the original's keys.
pub fn read(config: &Config) -> Result<Hyperparameters> {
    let modes = config.size("state_size", 1..=1 << 10, Some(8))?;
    let lists = [
        ("attn_layer_idxs", MixerKind::Attention),
        (
            "hyena_layer_idxs",
            MixerKind::Hyena(FilterKind::Complex(modes)),
        ),
    ];
    Hyperparameters::read(config, mixers(config, &lists)?, &["hyena_layer_idxs"])
}
