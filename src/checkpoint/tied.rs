//! The language-model head and the embedding: one matrix in many models, two in others.

use super::Config;
use crate::error::Result;
use ::safetensors::View;
use candle_core::Tensor;
use std::collections::BTreeMap;

/// Is the tensor of this name a language model's head?
pub fn is_head(name: &str) -> bool {
    let heads = ["lm_head.weight", "unembed.weight"];
    let below = |head: &&str| {
        name.strip_suffix(*head)
            .is_some_and(|above| above.ends_with('.'))
    };
    heads.iter().any(|head| name == *head || below(head))
}

/// Is the tensor of this name the embedding of tokens?
pub fn is_embedding(name: &str) -> bool {
    name.ends_with(".weight")
        && name.contains("embed")
        && !is_head(name)
        && !name.starts_with("crocuta_heads.")
}

/// The key of `config.json` that says whether the head is the embedding.
pub fn tied_key(config: &Config) -> &'static str {
    if config.has("tie_embeddings") {
        "tie_embeddings"
    } else {
        "tie_word_embeddings"
    }
}

/// The same key, if it says so and the two are
/// stored and differ: other programs would leave the head out.
pub(super) fn wrongly_tied(
    config: &Config,
    tensors: &BTreeMap<&String, &Tensor>,
) -> Result<Option<&'static str>> {
    let key = tied_key(config);
    let one = |is: fn(&str) -> bool| tensors.iter().find(|(name, _)| is(name));
    let (Some((_, head)), Some((_, embedding))) = (one(is_head), one(is_embedding)) else {
        return Ok(None);
    };
    let same = head.dims() == embedding.dims() && View::data(*head) == View::data(*embedding);
    Ok((!same && config.flag(key, Some(true))?).then_some(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Changes, Checkpoint, Staging, create, preset, write_model};
    use serde_json::json;

    #[test]
    fn a_head_that_differs_from_the_embedding_is_no_longer_said_to_be_tied() {
        let dir = tempfile::tempdir().unwrap();
        for (name, layers) in [
            ("mamba-d256-l16", "num_hidden_layers"),
            ("mamba2-d256-l16", "num_hidden_layers"),
        ] {
            let mut config = preset(name).unwrap();
            config.extend([layers, "hidden_size"].map(|key| (key.to_string(), json!(1))));
            config.insert("hidden_size".into(), json!(64));
            config.insert("tie_word_embeddings".into(), json!(true));
            let base = dir.path().join(name);
            create(&Config::new("x", config), 0, &base, 1 << 30).unwrap();
            let base = Checkpoint::open(&base).unwrap();
            let stored = base.weights.stored();
            let (_, embedding) = stored.iter().find(|(name, _)| is_embedding(name)).unwrap();
            for (change, tied) in [(0.0, true), (1.0, false)] {
                let head = (embedding + change).unwrap();
                let out = dir.path().join(format!("{name}{tied}"));
                let changes = Changes {
                    tensors: BTreeMap::from([("lm_head.weight".to_string(), head)]),
                    ..Changes::default()
                };
                let staging = Staging::begin(&out).unwrap();
                write_model(staging, &base, changes, |_| Ok(())).unwrap();
                let config = Checkpoint::open(&out).unwrap().config;
                assert_eq!(config.flag("tie_word_embeddings", None).unwrap(), tied);
            }
        }
    }

    #[test]
    fn heads_and_embeddings_are_known_by_their_names() {
        for name in ["lm_head.weight", "backbone.unembed.weight"] {
            assert!(is_head(name) && !is_embedding(name));
        }
        for name in ["a.word_embeddings.weight", "embedding_layer.weight"] {
            assert!(is_embedding(name) && !is_head(name));
        }
        for name in ["xlm_head.weight", "pos_emb.z", "crocuta_heads.embed.weight"] {
            assert!(!is_head(name) && !is_embedding(name), "{name}");
        }
    }
}
