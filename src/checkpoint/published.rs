//! Published checkpoints that are known to load, and what is known of them.

/// A model of DNA on Hugging Face.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// `owner/name`, and `@revision` where not every one is right.
    pub name: &'static str,
    /// What it was trained on.
    pub organism: &'static str,
    /// Trained values in millions, as far as they are known.
    pub millions: Option<f64>,
    /// Bytes of its weights there, as far as they are known.
    pub bytes: Option<u64>,
    /// Bases of its context, as far as they are known.
    pub context: Option<u64>,
    /// What `crocuta models pull` needs besides the name.
    pub options: &'static str,
}

const HUMAN: &str = "human";
const PLANTS: &str = "plants";
const PROKARYOTES: &str = "prokaryotes, phages";
const LIFE: &str = "all domains of life";

/// Weights that are published as pickles.
const CONVERT: &str = "--convert";
/// Pickles without a config.json that says the architecture.
const CONVERT_WITH: &str = "--convert --config FILE";

const fn model(
    name: &'static str,
    organism: &'static str,
    millions: Option<f64>,
    bytes: Option<u64>,
    context: Option<u64>,
) -> Published {
    Published {
        name,
        organism,
        millions,
        bytes,
        context,
        options: "",
    }
}

const fn with(options: &'static str, model: Published) -> Published {
    Published { options, ..model }
}

#[rustfmt::skip] // a table
static ALL: &[Published] = &[
    model("LongSafari/hyenadna-tiny-1k-seqlen-hf", HUMAN, Some(0.436), Some(1_802_848), Some(1024)),
    model("LongSafari/hyenadna-tiny-1k-seqlen-d256-hf", HUMAN, Some(1.64), Some(6_632_032), Some(1024)),
    model("LongSafari/hyenadna-tiny-16k-seqlen-d128-hf", HUMAN, Some(0.436), Some(2_540_128), Some(16_384)),
    model("LongSafari/hyenadna-small-32k-seqlen-hf", HUMAN, Some(3.28), Some(16_276_672), Some(32_768)),
    model("LongSafari/hyenadna-medium-160k-seqlen-hf", HUMAN, Some(6.551), Some(56_947_072), Some(160_000)),
    model("LongSafari/hyenadna-medium-450k-seqlen-hf", HUMAN, Some(6.551), Some(112_627_072), Some(450_000)),
    model("LongSafari/hyenadna-large-1m-seqlen-hf", HUMAN, Some(6.551), Some(218_227_072), Some(1_000_000)),
    model("kuleshov-group/caduceus-ph_seqlen-1k_d_model-256_n_layer-4_lr-8e-3", HUMAN, Some(1.93), Some(7_746_792), Some(1024)),
    model("kuleshov-group/caduceus-ps_seqlen-1k_d_model-256_n_layer-4_lr-8e-3", HUMAN, Some(1.93), None, Some(1024)),
    model("kuleshov-group/caduceus-ph_seqlen-131k_d_model-256_n_layer-16", HUMAN, Some(7.73), None, Some(131_072)),
    model("kuleshov-group/caduceus-ps_seqlen-131k_d_model-256_n_layer-16", HUMAN, Some(7.73), Some(30_937_760), Some(131_072)),
    with(CONVERT, model("kuleshov-group/PlantCaduceus_l24", PLANTS, None, None, None)),
    with(CONVERT, model("kuleshov-group/PlantCaduceus_l32", PLANTS, None, None, None)),
    model("togethercomputer/evo-1-8k-base@1.1_fix", PROKARYOTES, Some(6450.0), None, Some(8192)),
    model("togethercomputer/evo-1-131k-base@1.1_fix", PROKARYOTES, Some(6450.0), None, Some(131_072)),
    with(CONVERT_WITH, model("arcinstitute/evo2_1b_base", LIFE, Some(1110.0), None, Some(8192))),
    with(CONVERT_WITH, model("arcinstitute/evo2_7b_base", LIFE, Some(6480.0), None, Some(8192))),
    with(CONVERT_WITH, model("arcinstitute/evo2_7b_262k", LIFE, Some(6480.0), None, Some(262_144))),
    with(CONVERT_WITH, model("arcinstitute/evo2_7b", LIFE, Some(6580.0), None, Some(1_048_576))),
    with(CONVERT_WITH, model("arcinstitute/evo2_20b", LIFE, Some(19_700.0), None, Some(1_048_576))),
    with(CONVERT_WITH, model("arcinstitute/evo2_40b_base", LIFE, Some(40_300.0), None, Some(8192))),
    with(CONVERT_WITH, model("arcinstitute/evo2_40b", LIFE, Some(41_100.0), None, Some(1_048_576))),
];

/// All of them, by family.
pub fn published() -> &'static [Published] {
    ALL
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Config, preset, weighed};

    #[test]
    fn sizes_of_published_models_are_those_of_the_presets() {
        let presets = [
            ("hyenadna-tiny-1k", 0),
            ("hyenadna-tiny-1k-d256", 1),
            ("hyenadna-tiny-16k", 2),
            ("hyenadna-small-32k", 3),
            ("hyenadna-medium-160k", 4),
            ("hyenadna-medium-450k", 5),
            ("hyenadna-large-1m", 6),
            ("caduceus-ph-1k", 7),
            ("caduceus-ps-1k", 8),
            ("caduceus-ph-131k", 9),
            ("caduceus-ps-131k", 10),
            ("evo-1-8k", 13),
            ("evo-1-131k", 14),
            ("evo2-1b", 15),
            ("evo2-7b", 18),
        ];
        for (name, place) in presets {
            let weights = weighed(&Config::new(name, preset(name).unwrap()), &[]).unwrap();
            let Published {
                bytes, millions, ..
            } = ALL[place];
            // Files have a header besides, of about 100 bytes a tensor.
            let header = bytes.map_or(0, |bytes| bytes.abs_diff(weights.bytes));
            assert!(header < 40_000, "{name}: {weights:?}");
            // HyenaDNA stores positions and a copy of the embedding besides what was trained.
            if !name.starts_with("hyenadna") {
                let found = weights.parameters as f64 / 1e6;
                assert!(
                    (found / millions.unwrap() - 1.0).abs() < 0.01,
                    "{name}: {found}"
                );
            }
        }
    }
}
