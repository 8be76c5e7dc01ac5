//! Which architecture a `config.json` describes.

use super::Config;
use crate::error::Result;
use std::fmt;

/// The architectures that crocuta runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// HyenaDNA: Hyena operators with implicit filters.
    HyenaDna,
    /// Mamba: selective state spaces.
    Mamba,
    /// Mamba-2: state space duality.
    Mamba2,
    /// Caduceus: bidirectional Mamba, with (PS) or without (Ph) a stream for each strand.
    Caduceus,
    /// Evo: StripedHyena with modal filters.
    Evo1,
    /// Evo 2: StripedHyena 2 with short, medium and long filters.
    Evo2,
    /// S4D: diagonal state spaces that do not depend on the input.
    S4d,
    /// A Transformer: the baseline, with exact or approximate attention.
    Transformer,
    /// A published Transformer in Hugging Face's layout.
    Pretrained(Class),
}

/// The classes of published Transformers, by their names in the library transformers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Llama: GENERator.
    Llama,
    /// Mistral: GenomeOcean.
    Mistral,
    /// Mixtral, a mixture of experts.
    Mixtral,
    /// Qwen2.
    Qwen2,
    /// Qwen3: MarinDNA.
    Qwen3,
    /// BERT: DNABERT.
    Bert,
    /// BERT with linear biases for positions (ALiBi) and gated layers: DNABERT-2.
    MosaicBert,
}

impl Class {
    /// A token's vector depends on no later token.
    pub fn causal(self) -> bool {
        !matches!(self, Self::Bert | Self::MosaicBert)
    }
}

/// The values of `model_type`. Of `mamba`, `stripedhyena` and `bert` there are two, told apart by
/// other keys.
const TYPES: [(&str, Architecture); 13] = [
    ("hyenadna", Architecture::HyenaDna),
    ("mamba", Architecture::Mamba),
    ("mamba2", Architecture::Mamba2),
    ("caduceus", Architecture::Caduceus),
    ("stripedhyena", Architecture::Evo1),
    ("s4d", Architecture::S4d),
    ("crocuta-transformer", Architecture::Transformer),
    ("llama", Architecture::Pretrained(Class::Llama)),
    ("mistral", Architecture::Pretrained(Class::Mistral)),
    ("mixtral", Architecture::Pretrained(Class::Mixtral)),
    ("qwen2", Architecture::Pretrained(Class::Qwen2)),
    ("qwen3", Architecture::Pretrained(Class::Qwen3)),
    ("bert", Architecture::Pretrained(Class::Bert)),
];

fn known_types() -> String {
    TYPES.map(|(name, _)| name).join(", ")
}

impl Architecture {
    /// Recognises the architecture by `model_type`, and where there is none by the keys that
    /// only its files have: the original HyenaDNA, mamba_ssm and Evo files.
    pub fn of(config: &Config) -> Result<Self> {
        if config.has("model_type") {
            let name = config.text("model_type", None)?;
            let Some((_, known)) = TYPES.iter().find(|(known, _)| *known == name) else {
                let error = config.error("model_type", format!("unknown architecture {name}"));
                return Err(error.todo(format!("known are {}", known_types())));
            };
            return match known {
                Self::Mamba => Self::of_mamba_ssm(config),
                Self::Evo1 if config.has("hcl_layer_idxs") => Ok(Self::Evo2),
                Self::Pretrained(Class::Bert) if config.has("alibi_starting_size") => {
                    Ok(Self::Pretrained(Class::MosaicBert))
                }
                known => Ok(*known),
            };
        }
        if config.has("layer") && config.object("layer")?.text("_name_", Some(""))? == "hyena" {
            return Ok(Self::HyenaDna);
        }
        if config.has("hcl_layer_idxs") {
            return Ok(Self::Evo2);
        }
        if config.has("hyena_layer_idxs") {
            return Ok(Self::Evo1);
        }
        if config.has("d_model") && (config.has("ssm_cfg") || config.has("rms_norm")) {
            return Self::of_mamba_ssm(config);
        }
        Err(config
            .error(
                "model_type",
                "missing, and no other key tells the architecture",
            )
            .todo(format!("add \"model_type\", one of {}", known_types())))
    }
}

impl Architecture {
    /// Mamba or Mamba-2: mamba_ssm's configurations tell by the layer.
    fn of_mamba_ssm(config: &Config) -> Result<Self> {
        let mixer = config.object("ssm_cfg")?;
        match mixer.text("layer", Some("Mamba1"))?.as_str() {
            "Mamba1" => Ok(Self::Mamba),
            "Mamba2" => Ok(Self::Mamba2),
            other => Err(config.error("ssm_cfg.layer", format!("unknown layer {other}"))),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HyenaDna => "HyenaDNA",
            Self::Mamba => "Mamba",
            Self::Mamba2 => "Mamba-2",
            Self::Caduceus => "Caduceus",
            Self::Evo1 => "Evo",
            Self::Evo2 => "Evo 2",
            Self::S4d => "S4D",
            Self::Transformer => "Transformer",
            Self::Pretrained(Class::Llama) => "Llama",
            Self::Pretrained(Class::Mistral) => "Mistral",
            Self::Pretrained(Class::Mixtral) => "Mixtral",
            Self::Pretrained(Class::Qwen2) => "Qwen2",
            Self::Pretrained(Class::Qwen3) => "Qwen3",
            Self::Pretrained(Class::Bert) => "BERT",
            Self::Pretrained(Class::MosaicBert) => "MosaicBERT",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_layouts_without_a_model_type_are_recognised() {
        for (text, expected) in [
            (
                r#"{"layer": {"_name_": "hyena"}, "d_model": 8, "n_layer": 2}"#,
                Architecture::HyenaDna,
            ),
            (
                r#"{"d_model": 8, "n_layer": 2, "ssm_cfg": {}}"#,
                Architecture::Mamba,
            ),
            (
                r#"{"d_model": 8, "n_layer": 2, "ssm_cfg": {"layer": "Mamba2"}}"#,
                Architecture::Mamba2,
            ),
            (
                r#"{"model_type": "mamba", "d_model": 8, "ssm_cfg": {"layer": "Mamba2"}}"#,
                Architecture::Mamba2,
            ),
            (
                r#"{"d_model": 8, "n_layer": 2, "ssm_cfg": null, "rms_norm": true}"#,
                Architecture::Mamba,
            ),
            (r#"{"hyena_layer_idxs": [0]}"#, Architecture::Evo1),
            (
                r#"{"hcl_layer_idxs": [0], "hcm_layer_idxs": [1]}"#,
                Architecture::Evo2,
            ),
            (
                r#"{"model_type": "stripedhyena", "hyena_layer_idxs": [0]}"#,
                Architecture::Evo1,
            ),
            (
                r#"{"model_type": "bert"}"#,
                Architecture::Pretrained(Class::Bert),
            ),
            (
                r#"{"model_type": "bert", "alibi_starting_size": 512}"#,
                Architecture::Pretrained(Class::MosaicBert),
            ),
        ] {
            let config = Config::parse("config.json", text).unwrap();
            assert_eq!(Architecture::of(&config).unwrap(), expected, "{text}");
        }
        for text in [
            "{}",
            r#"{"model_type": "gpt2"}"#,
            r#"{"model_type": 1}"#,
            r#"{"layer": 1}"#,
        ] {
            let config = Config::parse("config.json", text).unwrap();
            let error = Architecture::of(&config).unwrap_err();
            assert_eq!(error.kind(), crate::error::Kind::Model);
        }
    }
}
