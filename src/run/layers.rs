//! `--layer`: which layers' vectors are written, and how tables name them.

use crate::encoder::{Facts, Layer};
use crate::error::{Error, Result};
use crate::table::LayerName;
use serde::Serialize;
use serde_json::{Value, json};

/// The layers whose vectors are written.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Layers {
    /// The layer whose vectors are written: 0 the embedding, i the residual stream after block i,
    /// -1 that after the last block; or the name of a published module, as crocuta models show
    /// lists them [default: the last norm's output]. Repeatable: a column each.
    #[arg(long, value_name = "LAYER", help_heading = "Output")]
    pub layer: Vec<String>,
}

impl Layers {
    /// The layers of a model, in the order in which they were asked for.
    ///
    /// # Errors
    /// Usage: the model has no such layer, or it is asked for twice.
    pub fn find(&self, facts: &Facts) -> Result<Vec<Layer>> {
        let mut found = Vec::new();
        for text in &self.layer {
            let layer = facts.find_layer(text)?;
            if found.contains(&layer) {
                let what = format!("--layer {text} is a layer that was asked for before");
                return Err(Error::usage(what).todo("ask for each layer once"));
            }
            found.push(layer);
        }
        if found.is_empty() {
            found.push(Layer::Norm);
        }
        Ok(found)
    }

    /// The option as it was given, for the metadata.
    pub fn params(&self) -> Option<(&'static str, Value)> {
        (!self.layer.is_empty()).then(|| ("layer", json!(self.layer)))
    }
}

/// How tables name some layers.
pub fn named(facts: &Facts, layers: &[Layer]) -> Vec<LayerName> {
    let name = |layer: &Layer| LayerName {
        name: facts.layer_name(*layer),
        suffix: match layer {
            Layer::After(blocks) => blocks.to_string(),
            // Column names are words in SQL.
            Layer::Within(..) | Layer::Norm | Layer::Bases => {
                facts.layer_name(*layer).replace('.', "_")
            }
        },
    };
    layers.iter().map(name).collect()
}

/// The layers whose vectors were written, for the summary.
pub fn summary(facts: &Facts, layers: &[Layer]) -> (String, Value) {
    let names = layers.iter().map(|layer| facts.layer_name(*layer));
    ("layers".to_string(), json!(names.collect::<Vec<_>>()))
}
