//! Published configurations by name, for `models new`.

use crate::error::{Error, Result};
use serde_json::{Map, Value, json};

type Make = fn() -> Value;

/// Every preset and what makes its configuration.
const PRESETS: &[(&str, Make)] = &[
    ("hyenadna-tiny-1k", || hyenadna(128, 2, 1026)),
    ("hyenadna-tiny-1k-d256", || hyenadna(256, 2, 1026)),
    ("hyenadna-tiny-16k", || hyenadna(128, 2, 16386)),
    ("hyenadna-small-32k", || hyenadna(256, 4, 32770)),
    ("hyenadna-medium-160k", || hyenadna(256, 8, 160_002)),
    ("hyenadna-medium-450k", || hyenadna(256, 8, 450_002)),
    ("hyenadna-large-1m", || hyenadna(256, 8, 1_000_002)),
    ("caduceus-ph-131k", || caduceus(false, 16)),
    ("caduceus-ps-131k", || caduceus(true, 16)),
    ("caduceus-ph-1k", || caduceus(false, 4)),
    ("caduceus-ps-1k", || caduceus(true, 4)),
    ("plantcad2-small", || plantcad2(768, 24)),
    ("plantcad2-medium", || plantcad2(1024, 48)),
    ("plantcad2-large", || plantcad2(1536, 48)),
    ("mamba-d256-l16", mamba),
    ("mamba2-d256-l16", mamba2),
    ("transformer-d256-l8", transformer),
    ("evo-1-8k", || evo1(8192)),
    ("evo-1-131k", || evo1(131_072)),
    ("evo2-1b", evo2_1b),
    ("evo2-7b", evo2_7b),
    ("s4d-d256-l8", s4d),
    ("crocuta-bacteria", crocuta_bacteria),
];

/// The presets' names.
pub fn presets() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// The `config.json` of a preset. An unknown name is a usage error that lists the known ones.
///
/// ```
/// let config = crocuta::checkpoint::preset("hyenadna-tiny-1k")?;
/// assert_eq!(config["max_seq_len"], 1026);
/// # Ok::<(), crocuta::Error>(())
/// ```
pub fn preset(name: &str) -> Result<Map<String, Value>> {
    match PRESETS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, config)| config())
    {
        Some(Value::Object(config)) => Ok(config),
        _ => Err(Error::usage(format!("no preset {name}")).todo(format!(
            "choose one of {}",
            presets().collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// LongSafari/hyenadna-*-hf; the length is the published one plus two special tokens.
pub fn hyenadna(width: usize, layers: usize, length: usize) -> Value {
    json!({
        "model_type": "hyenadna",
        "architectures": ["HyenaDNAForCausalLM"],
        "activation_freq": 10,
        "d_inner": 4 * width,
        "d_model": width,
        "emb_dim": 5,
        "embed_dropout": 0.1,
        "filter_order": 64,
        "hyena_dropout": 0.0,
        "hyena_filter_dropout": 0.0,
        "hyena_order": 2,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-5,
        "max_seq_len": length,
        "n_layer": layers,
        "num_inner_mlps": 2,
        "pad_token_id": 4,
        "pad_vocab_size_multiple": 8,
        "short_filter_order": 3,
        "tie_word_embeddings": false,
        "torch_dtype": "float32",
        "train_freq": true,
        "use_bias": true,
        "vocab_size": 12
    })
}

/// kuleshov-group/caduceus-{ph,ps}_seqlen-*_d_model-256_n_layer-*. The trained length is not part
/// of the configuration.
fn caduceus(per_strand: bool, layers: usize) -> Value {
    json!({
        "model_type": "caduceus",
        "architectures": ["CaduceusForMaskedLM"],
        "bidirectional": true,
        "bidirectional_strategy": "add",
        "bidirectional_weight_tie": true,
        "complement_map": complements(16, 7),
        "d_model": 256,
        "fused_add_norm": true,
        "initializer_cfg": {
            "initializer_range": 0.02,
            "n_residuals_per_layer": 1,
            "rescale_prenorm_residual": true
        },
        "n_layer": layers,
        "norm_epsilon": 1e-5,
        "pad_vocab_size_multiple": 8,
        "rcps": per_strand,
        "residual_in_fp32": false,
        "rms_norm": true,
        "ssm_cfg": {
            "bias": false,
            "conv_bias": true,
            "d_conv": 4,
            "d_state": 16,
            "dt_init": "random",
            "dt_init_floor": 1e-4,
            "dt_max": 0.1,
            "dt_min": 0.001,
            "dt_rank": "auto",
            "dt_scale": 1.0,
            "expand": 2,
            "use_fast_path": true
        },
        "torch_dtype": "float32",
        "transformers_version": "4.38.1",
        "vocab_size": 16
    })
}

/// The complement of each of so many tokens, of which A is the `a`-th, and C, G and T follow it;
/// each of the others is its own.
fn complements(tokens: usize, a: usize) -> Value {
    let complement = |token: usize| {
        if (a..a + 4).contains(&token) {
            2 * a + 3 - token
        } else {
            token
        }
    };
    let each = (0..tokens).map(|token| (token.to_string(), json!(complement(token))));
    Value::Object(each.collect())
}

/// kuleshov-group/PlantCAD2-{Small,Medium,Large}-*. Widths and layers are in their names; the sizes
/// of the mixers follow from the printed modules of the smallest and the number of parameters of
/// all three, with the one group that is mamba_ssm's default. The rest are the code's defaults.
fn plantcad2(width: usize, layers: usize) -> Value {
    json!({
        "model_type": "caduceus",
        "architectures": ["CaduceusForMaskedLM"],
        "bidirectional": true,
        "bidirectional_strategy": "add",
        "bidirectional_weight_tie": true,
        "complement_map": complements(8, 3),
        "d_model": width,
        "initializer_cfg": {
            "initializer_range": 0.02,
            "n_residuals_per_layer": 1,
            "rescale_prenorm_residual": true
        },
        "layer_cfg": {
            "mode": "mamba-only",
            "mamba_cfg": {
                "version": "v2",
                "ssm_cfg": {"d_conv": 4, "d_state": 64, "expand": 2, "headdim": 64, "ngroups": 1}
            }
        },
        "n_layer": layers,
        "norm_cfg": {"fused_add_norm": true, "norm_epsilon": 1e-5, "rms_norm": true},
        "pad_vocab_size_multiple": 8,
        "rcps": true,
        "residual_in_fp32": true,
        "torch_dtype": "float32",
        "vocab_size": 7
    })
}

/// transformers' `MambaConfig` with the characters of HyenaDNA as vocabulary.
fn mamba() -> Value {
    json!({
        "model_type": "mamba",
        "architectures": ["MambaForCausalLM"],
        "bos_token_id": 2,
        "conv_kernel": 4,
        "eos_token_id": 1,
        "expand": 2,
        "hidden_act": "silu",
        "hidden_size": 256,
        "initializer_range": 0.02,
        "intermediate_size": 512,
        "layer_norm_epsilon": 1e-5,
        "num_hidden_layers": 16,
        "pad_token_id": 4,
        "rescale_prenorm_residual": true,
        "residual_in_fp32": true,
        "state_size": 16,
        "tie_word_embeddings": true,
        "time_step_floor": 1e-4,
        "time_step_init_scheme": "random",
        "time_step_max": 0.1,
        "time_step_min": 0.001,
        "time_step_rank": 16,
        "time_step_scale": 1.0,
        "torch_dtype": "float32",
        "use_bias": false,
        "use_conv_bias": true,
        "vocab_size": 16
    })
}

/// transformers' `Mamba2Config` with the characters of HyenaDNA as vocabulary.
fn mamba2() -> Value {
    json!({
        "model_type": "mamba2",
        "architectures": ["Mamba2ForCausalLM"],
        "bos_token_id": 2,
        "chunk_size": 256,
        "conv_kernel": 4,
        "eos_token_id": 1,
        "expand": 2,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 256,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-5,
        "n_groups": 1,
        "num_heads": 8,
        "num_hidden_layers": 16,
        "pad_token_id": 4,
        "rescale_prenorm_residual": true,
        "residual_in_fp32": true,
        "rms_norm": true,
        "state_size": 128,
        "tie_word_embeddings": false,
        "time_step_floor": 1e-4,
        "time_step_max": 0.1,
        "time_step_min": 0.001,
        "torch_dtype": "float32",
        "use_bias": false,
        "use_conv_bias": true,
        "vocab_size": 16
    })
}

/// The baseline: about as many parameters as `mamba-d256-l16`.
fn transformer() -> Value {
    json!({
        "model_type": "crocuta-transformer",
        "attention": "causal",
        "hidden_size": 256,
        "initializer_range": 0.02,
        "inner_size": 1024,
        "max_seq_len": 8192,
        "norm_eps": 1e-5,
        "num_heads": 4,
        "num_layers": 8,
        "rotary_base": 10000,
        "vocab_size": 16
    })
}

/// togethercomputer/evo-1-8k-base and evo-1-131k-base, revision 1.1_fix.
fn evo1(length: usize) -> Value {
    let attention = [8, 16, 24];
    let hyena = (0..32)
        .filter(|layer| !attention.contains(layer))
        .collect::<Vec<_>>();
    let mut config = json!({
        "model_type": "stripedhyena",
        "architectures": ["StripedHyenaModelForCausalLM"],
        "attn_layer_idxs": attention,
        "column_split": false,
        "column_split_hyena": true,
        "eps": 1e-6,
        "final_norm": true,
        "hidden_size": 4096,
        "hyena_filter_groups": 1,
        "hyena_layer_idxs": hyena,
        "inner_mlp_size": 10928,
        "make_vocab_size_divisible_by": 8,
        "max_seqlen": length,
        "mha_out_proj_bias": true,
        "mlp_activation": "gelu",
        "num_attention_heads": 32,
        "num_filters": 4096,
        "num_layers": 32,
        "prefill_style": "fft",
        "proj_groups": 1,
        "qkv_proj_bias": true,
        "rotary_emb_base": 10000,
        "short_filter_bias": true,
        "short_filter_length": 3,
        "state_size": 8,
        "tie_embeddings": true,
        "torch_dtype": "bfloat16",
        "use_interpolated_rotary_pos_emb": false,
        "vocab_size": 512
    });
    if length > 8192 {
        config["use_interpolated_rotary_pos_emb"] = json!(true);
        config["rotary_emb_scaling_factor"] = json!(16);
    }
    config
}

/// arcinstitute/evo2_1b_base.
fn evo2_1b() -> Value {
    evo2(
        json!({
            "model_name": "evo2_1b_base",
            "hidden_size": 1920,
            "num_filters": 1920,
            "num_layers": 25,
            "num_attention_heads": 15,
            "inner_mlp_size": 5120,
            "hcl_filter_groups": 1920,
            "hcm_filter_groups": 128,
            "hcs_filter_groups": 128,
            "max_seqlen": 8192,
            "use_fp8_input_projections": true
        }),
        25,
    )
}

/// arcinstitute/evo2_7b, the model of 1 M tokens.
fn evo2_7b() -> Value {
    evo2(
        json!({
            "model_name": "evo2_7b",
            "hidden_size": 4096,
            "num_filters": 4096,
            "num_layers": 32,
            "num_attention_heads": 32,
            "inner_mlp_size": 11264,
            "hcl_filter_groups": 4096,
            "hcm_filter_groups": 256,
            "hcs_filter_groups": 256,
            "max_seqlen": 1_048_576,
            "use_interpolated_rotary_pos_emb": true,
            "rotary_emb_scaling_factor": 128,
            "use_fp8_input_projections": true
        }),
        32,
    )
}

/// What all Evo 2 models share; blocks repeat short, medium, long, attention, short, medium, long.
fn evo2(mut config: Value, layers: usize) -> Value {
    let every_seventh = |places: &[usize]| {
        let layers = (0..layers).filter(|layer| places.contains(&(layer % 7)));
        json!(layers.collect::<Vec<_>>())
    };
    let shared = json!({
        "attn_layer_idxs": every_seventh(&[3]),
        "hcl_layer_idxs": every_seventh(&[2, 6]),
        "hcm_layer_idxs": every_seventh(&[1, 5]),
        "hcs_layer_idxs": every_seventh(&[0, 4]),
        "column_split": true,
        "column_split_hyena": false,
        "eps": 1e-6,
        "evo2_style_activations": true,
        "final_norm": true,
        "hcm_filter_length": 128,
        "hcs_filter_length": 7,
        "hyena_filter_groups": 1,
        "hyena_flip_x1x2": false,
        "hyena_out_proj_bias": true,
        "interleave": true,
        "make_vocab_size_divisible_by": 8,
        "mha_out_proj_bias": true,
        "mlp_activation": "gelu",
        "proj_groups": 1,
        "qkv_proj_bias": false,
        "rotary_emb_base": 10000,
        "short_filter_bias": false,
        "short_filter_length": 3,
        "state_size": 16,
        "tie_embeddings": true,
        "vocab_size": 512
    });
    if let (Some(config), Value::Object(shared)) = (config.as_object_mut(), shared) {
        config.extend(shared);
    }
    config
}

/// Ours: blocks of S4D before which a layer norm stands, with the characters of HyenaDNA as
/// vocabulary.
fn s4d() -> Value {
    json!({
        "model_type": "s4d",
        "architectures": ["S4dForCausalLM"],
        "d_model": 256,
        "d_state": 64,
        "dt_max": 0.1,
        "dt_min": 0.001,
        "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-5,
        "n_layer": 8,
        "pad_token_id": 4,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "vocab_size": 16
    })
}

/// Ours, for bacterial genomes on a CPU: StripedHyena 2's operators at a small size. Two thirds
/// of the blocks filter with explicit taps (7: codons; 128: motifs and genes' starts), two carry
/// sums of exponentials over thousands of bases, and one attends to the last 256, so that the
/// state has a fixed size.
fn crocuta_bacteria() -> Value {
    json!({
        "model_type": "stripedhyena",
        "architectures": ["StripedHyena2ForCausalLM"],
        "attention_window": 256,
        "attn_layer_idxs": [3],
        "column_split": true,
        "column_split_hyena": false,
        "eps": 1e-6,
        "evo2_style_activations": false,
        "hcl_filter_groups": 128,
        "hcl_layer_idxs": [2, 6],
        "hcm_filter_groups": 128,
        "hcm_filter_length": 128,
        "hcm_layer_idxs": [1, 5, 7],
        "hcs_filter_groups": 128,
        "hcs_filter_length": 7,
        "hcs_layer_idxs": [0, 4],
        "hidden_size": 128,
        "hyena_out_proj_bias": true,
        "inner_mlp_size": 352,
        "interleave": true,
        "max_seqlen": 65536,
        "mha_out_proj_bias": true,
        "mlp_activation": "gelu",
        "num_attention_heads": 4,
        "num_filters": 128,
        "num_layers": 8,
        "qkv_proj_bias": false,
        "rotary_emb_base": 10000,
        "short_filter_bias": false,
        "short_filter_length": 3,
        "state_size": 16,
        "tie_embeddings": true,
        "torch_dtype": "float32",
        "vocab_size": 128
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Architecture, Config};

    #[test]
    fn every_preset_is_recognised() {
        for name in presets() {
            let config = Config::new(name, preset(name).unwrap());
            let architecture = Architecture::of(&config).unwrap();
            let expected = match name.split('-').next().unwrap() {
                "hyenadna" => Architecture::HyenaDna,
                "caduceus" | "plantcad2" => Architecture::Caduceus,
                "mamba" => Architecture::Mamba,
                "mamba2" => Architecture::Mamba2,
                "transformer" => Architecture::Transformer,
                "evo" => Architecture::Evo1,
                "s4d" => Architecture::S4d,
                "evo2" | "crocuta" => Architecture::Evo2,
                other => panic!("of which architecture is {other}?"),
            };
            assert_eq!(architecture, expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_preset_lists_the_known_ones() {
        let error = preset("hyenadna").unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Usage);
        assert!(
            error
                .to_string()
                .contains("hyenadna-large-1m, caduceus-ph-131k")
        );
    }

    #[test]
    fn evo2_blocks_are_the_published_lists() {
        let config = preset("evo2-7b").unwrap();
        assert_eq!(config["attn_layer_idxs"], json!([3, 10, 17, 24, 31]));
        assert_eq!(
            config["hcl_layer_idxs"],
            json!([2, 6, 9, 13, 16, 20, 23, 27, 30])
        );
        assert_eq!(
            config["hcm_layer_idxs"],
            json!([1, 5, 8, 12, 15, 19, 22, 26, 29])
        );
        assert_eq!(
            config["hcs_layer_idxs"],
            json!([0, 4, 7, 11, 14, 18, 21, 25, 28])
        );
        assert_eq!(
            preset("evo2-1b").unwrap()["hcl_layer_idxs"],
            json!([2, 6, 9, 13, 16, 20, 23])
        );
    }
}
