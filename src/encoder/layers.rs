//! Which vectors of an encoder are asked for: its layers by number and by published name.

use super::{Facts, Layer};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;

impl Facts {
    /// The layer of this number or published name.
    ///
    /// Numbers count the residual stream as Hugging Face's `hidden_states` do: 0 is the embedding,
    /// i what block i, counted from 1, leaves, and −1 what the last one leaves, before the last
    /// norm. Names are those of the published modules, below any prefix; they count blocks from 0.
    ///
    /// # Errors
    /// Usage: the model has no such layer.
    pub fn find_layer(&self, text: &str) -> Result<Layer> {
        let found = match text.parse::<i64>() {
            Ok(_) if self.pretrained => None,
            Ok(number) => {
                let from = if number < 0 {
                    self.layers as i64 + 1
                } else {
                    0
                };
                let number = usize::try_from(number.saturating_add(from)).ok();
                number.filter(|n| *n <= self.layers).map(Layer::After)
            }
            Err(_) => self.named_layer(text),
        };
        found.ok_or_else(|| {
            if self.pretrained {
                let what = format!("a published Transformer gives its last layer alone, not {text}");
                return Error::usage(what).todo(format!("give --layer {}", self.layer));
            }
            let last = self.layer_name(Layer::After(self.layers));
            Error::usage(format!("the model has no layer {text}")).todo(format!(
                "give a number from 0 to {}, or a name from {} to {last}, or {}: crocuta models show \
                 lists them all",
                self.layers, self.embedding, self.layer
            ))
        })
    }

    fn named_layer(&self, text: &str) -> Option<Layer> {
        let below = |name: &str| {
            let above = text.strip_suffix(name);
            above.is_some_and(|above| above.is_empty() || above.ends_with('.'))
        };
        let mut all = self.all_layers();
        all.find(|layer| below(&self.layer_name(*layer)))
    }

    /// A layer's published name; of the residual stream, that of the block behind which it is.
    pub fn layer_name(&self, layer: Layer) -> String {
        match layer {
            Layer::After(0) => self.embedding.to_string(),
            Layer::After(n) => format!("{}.{}", self.block, n - 1),
            Layer::Within(i, part) => format!("{}.{i}.{part}", self.block),
            Layer::Norm => self.layer.to_string(),
            Layer::Bases => "bases".to_string(),
        }
    }

    /// All layers, in the order of computation. Each has [`Facts::width`] values a token.
    pub fn all_layers(&self) -> impl Iterator<Item = Layer> {
        let parts = self.parts;
        let block = move |i| {
            let within = parts.iter().map(move |part| Layer::Within(i, part));
            within.chain([Layer::After(i + 1)])
        };
        let blocks = if self.pretrained { 0 } else { self.layers };
        let blocks = (0..blocks).flat_map(block);
        let first = (!self.pretrained).then_some(Layer::After(0));
        first.into_iter().chain(blocks).chain([Layer::Norm])
    }

    /// The blocks that run for `layers`.
    pub fn depth(&self, layers: &[Layer]) -> usize {
        depth(layers, self.layers)
    }
}

/// The blocks that run for `layers`, of `all`.
pub(super) fn depth(layers: &[Layer], all: usize) -> usize {
    let depth = layers.iter().map(|layer| match *layer {
        Layer::After(blocks) => blocks,
        Layer::Within(block, _) => block + 1,
        Layer::Norm | Layer::Bases => all,
    });
    depth.max().unwrap_or(0)
}

/// Keeps the layers that are asked for while the blocks run.
pub(super) struct LayerTaps<'a> {
    asked: &'a [Layer],
    found: Vec<Option<Tensor>>,
    depth: usize,
}

impl<'a> LayerTaps<'a> {
    /// For a model of so many blocks.
    ///
    /// # Errors
    /// Internal: it has fewer than are asked for.
    pub fn new(asked: &'a [Layer], blocks: usize) -> Result<Self> {
        let depth = depth(asked, blocks);
        if depth > blocks {
            let what = format!("layer {depth} of a model of {blocks}");
            return Err(Error::new(Kind::Internal, what));
        }
        Ok(Self {
            asked,
            found: vec![None; asked.len()],
            depth,
        })
    }

    /// Blocks that must run.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Is this layer asked for?
    pub fn want(&self, layer: Layer) -> bool {
        self.asked.contains(&layer)
    }

    /// Keeps a layer, if it is asked for.
    pub fn put(&mut self, layer: Layer, x: &Tensor) {
        for (asked, found) in self.asked.iter().zip(&mut self.found) {
            if *asked == layer {
                *found = Some(x.clone());
            }
        }
    }

    /// All that are asked for, once the blocks have run. `x`: what they left; `norm`: the last norm.
    pub fn finish(
        mut self,
        x: &Tensor,
        norm: impl FnOnce(&Tensor) -> Result<Tensor>,
    ) -> Result<Vec<Tensor>> {
        self.put(Layer::After(self.depth), x);
        if self.want(Layer::Norm) {
            self.put(Layer::Norm, &norm(x)?);
        }
        let missing = || Error::new(Kind::Internal, "a layer that the model does not have");
        let found = self.found.into_iter();
        found.map(|found| found.ok_or_else(missing)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::{Config, preset};
    use crate::encoder::{evo2, hyena};

    fn evo2() -> Facts {
        let config = Config::new("evo2-7b", preset("evo2-7b").unwrap());
        evo2::read(&config).unwrap().facts()
    }

    #[test]
    fn layers_are_found_by_number_and_by_published_name() {
        let facts = evo2();
        for (text, layer) in [
            ("0", Layer::After(0)),
            ("27", Layer::After(27)),
            ("-1", Layer::After(32)),
            ("-33", Layer::After(0)),
            ("blocks.26", Layer::After(27)),
            ("blocks.28.mlp.l3", Layer::Within(28, "mlp.l3")),
            ("backbone.blocks.2", Layer::After(3)),
            ("embedding_layer", Layer::After(0)),
            ("norm", Layer::Norm),
        ] {
            assert_eq!(facts.find_layer(text).unwrap(), layer, "{text}");
        }
        for text in [
            "33",
            "-34",
            "blocks.32",
            "xblocks.2",
            "blocks.2.mlp",
            "",
            "9999999999999999999",
        ] {
            let error = facts.find_layer(text).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{text}");
        }
    }

    #[test]
    fn every_layer_is_found_by_its_own_name() {
        let config = Config::new("test", preset("hyenadna-tiny-1k").unwrap());
        let hyena = hyena::Hyperparameters::read(&config).unwrap().facts();
        for facts in [evo2(), hyena] {
            let layers: Vec<_> = facts.all_layers().collect();
            assert_eq!(layers.len(), 2 + facts.layers * (1 + facts.parts.len()));
            for layer in layers {
                assert_eq!(facts.find_layer(&facts.layer_name(layer)).unwrap(), layer);
                assert!(facts.depth(&[layer]) <= facts.layers);
            }
        }
    }

    #[test]
    fn a_recommended_layer_is_one_of_the_model_s() {
        let recommended = evo2().recommended.unwrap();
        assert_eq!(evo2().layer_name(recommended.layer), "blocks.28.mlp.l3");
        let config = Config::new("evo2-1b", preset("evo2-1b").unwrap());
        assert_eq!(evo2::read(&config).unwrap().facts().recommended, None);
    }
}
