//! Caduceus: Schiff et al. 2024, arXiv:2403.03234; Ph (one strand) and PS (both strands).
//!
//! Symbols: T tokens in a step, D width of a strand, I inner width, V tokens.
//! Keys: `caduceus.backbone.layers.{i}.mixer.mamba_fwd.…`, for PS `….mixer.submodule.…`; below any
//! prefix, as of PlantCaduceus, which was saved without `caduceus.`. The mixers are Mamba's, those
//! of PlantCAD2 Mamba-2's.
//!
//! Differences from the published code: the projections in and out, which both directions share,
//! run once; the two strands of PS run side by side, each in its own direction of reading, with
//! the exchange of strands that the published fused norm makes before each layer folded into the
//! weights of every other layer (see `Block::load`).

mod exact;
mod mixer;

pub use exact::{Exact, Store};
pub use mixer::MixerSizes;

use super::facts::Layer;
use super::layers::{LayerTaps, depth};
use super::mamba::{Norm, projection};
use super::{Encoder, Facts, Segment, Vocabulary};
use crate::checkpoint::{CaduceusLayers, Config, Weights};
use crate::error::{Error, Kind, Result};
use crate::ops::{Linear, Tensor};
use crate::sequence::mirrored;
use mixer::Mixer;
use serde::{Deserialize, Serialize};

/// Keys of the configuration. Those that are not read concern training and kernels.
const KEYS: [&str; 19] = [
    "bidirectional",
    "bidirectional_strategy",
    "bidirectional_weight_tie",
    "complement_map",
    "d_model",
    "flip_lm_head_channels",
    "fused_add_norm",
    "gradient_checkpointing_stride",
    "initializer_cfg",
    "layer_cfg",
    "n_layer",
    "norm_cfg",
    "norm_epsilon",
    "pad_vocab_size_multiple",
    "rcps",
    "residual_in_fp32",
    "rms_norm",
    "ssm_cfg",
    "vocab_size",
];

/// The sizes of a model, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// D, `d_model`: the width of one strand.
    pub width: usize,
    /// `n_layer`.
    pub layers: usize,
    /// V, `vocab_size` padded to a multiple of `pad_vocab_size_multiple`.
    pub vocabulary: usize,
    /// Of every norm, `norm_epsilon`.
    pub eps: f64,
    /// Are they RMS norms, as in all published models? Else layer norms.
    pub rms_norm: bool,
    /// The mixers' sizes, `ssm_cfg`.
    pub mixer: MixerSizes,
    /// `bidirectional_strategy`: directions are multiplied, not added.
    pub multiply: bool,
    /// `fused_add_norm`: PS layers exchange the strands, as in all published models.
    pub exchange: bool,
    /// PS: the complement of each token, `complement_map`. Ph: `None`.
    pub complement: Option<Vec<u32>>,
}

impl Hyperparameters {
    /// Reads and checks `config.json`.
    pub fn read(config: &Config) -> Result<Self> {
        config.deny_unknown(&KEYS)?;
        let width = config.size("d_model", 1..=1 << 16, None)?;
        for key in [
            "bidirectional",
            "bidirectional_weight_tie",
            "flip_lm_head_channels",
        ] {
            if !config.flag(key, Some(true))? {
                return Err(config.error(key, "only true, as published, is supported"));
            }
        }
        let multiply = match config.text("bidirectional_strategy", Some("add"))?.as_str() {
            "add" => false,
            "ew_multiply" => true,
            other => {
                let error = config.error("bidirectional_strategy", format!("unknown: {other}"));
                return Err(error.todo("add and ew_multiply are known"));
            }
        };
        let multiple = config.size("pad_vocab_size_multiple", 1..=1 << 20, Some(8))?;
        let vocabulary = config
            .size("vocab_size", 1..=1 << 20, None)?
            .next_multiple_of(multiple);
        let complement = if !config.flag("rcps", Some(false))? {
            None
        } else if config.has("complement_map") {
            Some(complement(&config.object("complement_map")?, vocabulary)?)
        } else {
            return Err(config.error("complement_map", "missing, but rcps is true"));
        };
        let layers = CaduceusLayers::of(config)?;
        Ok(Self {
            width,
            layers: config.size("n_layer", 1..=1 << 12, None)?,
            vocabulary,
            eps: layers.norms.epsilon("norm_epsilon", 1e-5)?,
            rms_norm: layers.norms.flag("rms_norm", Some(true))?,
            mixer: MixerSizes::read(&layers, width)?,
            multiply,
            exchange: complement.is_some() && layers.norms.flag("fused_add_norm", Some(true))?,
            complement,
        })
    }

    /// What a user wants to know of the model.
    pub fn facts(&self, vocabulary: Vocabulary) -> Facts {
        let strands = 1 + usize::from(self.complement.is_some());
        let flops = strands * self.layers * self.mixer.flops();
        Facts {
            causal: false,
            ..Facts::state_space(strands * self.width, self.layers, flops, vocabulary)
        }
    }
}

/// The complement of each token; tokens beyond the map's are their own.
fn complement(map: &Config, vocabulary: usize) -> Result<Vec<u32>> {
    let mut complement: Vec<u32> = (0..vocabulary as u32).collect();
    for key in map.keys() {
        let wrong = || map.error(key, format!("not one of {vocabulary} tokens"));
        let token: usize = key.parse().map_err(|_| wrong())?;
        let other = map.size(key, 0..=vocabulary - 1, None)?;
        *complement.get_mut(token).ok_or_else(wrong)? = other as u32;
    }
    for (token, other) in complement.iter().enumerate() {
        if complement[*other as usize] as usize != token {
            return Err(map.error(&token.to_string(), "the complement's complement is another"));
        }
    }
    Ok(complement)
}

/// Nothing outlives a call: every segment is a whole sequence.
#[derive(Clone, Serialize, Deserialize)]
pub struct State;

/// The Caduceus encoder.
pub struct Model {
    embedding: Tensor, // (V, D)
    blocks: Vec<Block>,
    norm: Norm,
    complement: Option<Vec<u32>>,
    /// Each block exchanges the strands.
    exchange: bool,
}

/// One layer, scanned in both directions.
struct Block {
    norm: Norm,
    mixer: Mixer,
    /// Of one direction.
    out_proj: Linear,
    /// Of the sum of both, each of which adds the bias.
    out_sum: Linear,
    multiply: bool,
}

impl Model {
    /// Takes the weights below `caduceus.backbone`.
    pub fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let first = ["layers.0.norm.weight", "layers.0.norm.submodule.weight"];
        let backbone = weights.below(&first);
        let backbone = backbone.unwrap_or_else(|| weights.at("caduceus.backbone"));
        let mut words = backbone.at("embeddings.word_embeddings");
        if let Some(complement) = &sizes.complement {
            check_complement(&words, complement)?;
            check_complement(&weights.at("lm_head"), complement)?;
            words = words.at("embedding");
        }
        let blocks = (0..sizes.layers)
            .map(|i| {
                let exchanged = sizes.exchange && i % 2 == 0;
                Block::load(sizes, &backbone.at("layers").at(i), exchanged)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            embedding: words.tensor("weight", &[sizes.vocabulary, sizes.width])?,
            blocks,
            norm: norm(sizes, &backbone.at("norm_f"), false)?,
            complement: sizes.complement.clone(),
            exchange: sizes.exchange,
        })
    }

    /// The embedding (V, D), to which the output head is tied.
    pub fn embedding(&self) -> &Tensor {
        &self.embedding
    }

    /// PS: the complement of each token.
    pub fn complement(&self) -> Option<&[u32]> {
        self.complement.as_deref()
    }
}

impl Encoder for Model {
    type State = State;

    fn start(&self, _lanes: usize) -> Result<State> {
        Ok(State)
    }

    fn fork(&self, _from: &[(&State, usize)], _room: usize) -> Result<State> {
        Ok(State)
    }

    /// For PS (T, 2D): the strand as given, then the other strand at the same base, its channels
    /// in reverse, as published.
    fn forward_layers(
        &self,
        tokens: &Tensor,
        segments: &[Segment],
        _: &mut State,
        layers: &[Layer],
    ) -> Result<Vec<Tensor>> {
        if !segments
            .iter()
            .all(|segment| segment.starts && segment.ends)
        {
            let what = "a bidirectional encoder was given a piece of a sequence";
            return Err(Error::new(Kind::Internal, what));
        }
        let mut taps = LayerTaps::new(layers, self.blocks.len())?;
        let Some(complement) = &self.complement else {
            let x = self.run(tokens, segments, &mut taps)?; // (T, D)
            return taps.finish(&x, |x| self.norm.forward(x));
        };
        let ids = tokens.to_vec1::<u32>()?;
        let (rows, beyond) = (ids.len(), complement.len() as u32);
        let flip = mirrored(segments);
        let other = flip.iter().map(|&row| ids.get(row as usize));
        let other = other.map(|id| complement.get(*id? as usize).copied());
        let other = other.map(|id| id.unwrap_or(beyond));
        let both: Vec<u32> = ids.iter().copied().chain(other).collect();
        let both = Tensor::from_vec(both, 2 * rows, tokens.device())?;
        let x = self.run(&both, &[segments, segments].concat(), &mut taps)?; // (2T, D)
        let flip = Tensor::new(flip, tokens.device())?;
        let join = |x: &Tensor, layer| {
            let (f, g) = (x.narrow(0, 0, rows)?, x.narrow(0, rows, rows)?);
            self.join(f, g, &flip, layer)
        };
        let mut found = taps.finish(&x, |x| join(x, Layer::Norm))?; // (T, 2D), or else (2T, D)
        for (layer, x) in layers.iter().zip(&mut found) {
            if *layer != Layer::Norm {
                *x = join(x, *layer)?;
            }
        }
        Ok(found)
    }
}

impl Model {
    /// The two strands' residual streams before `layer`, (T, D) each in its own direction of
    /// reading, to its vectors (T, 2D). `flip`: the row of each base in the other strand.
    fn join(&self, mut f: Tensor, mut g: Tensor, flip: &Tensor, layer: Layer) -> Result<Tensor> {
        let reverse_complement = |x: &Tensor| x.index_select(flip, 0)?.flip(1);
        // Blocks exchange the strands as published two at a time.
        if self.exchange && depth(&[layer], self.blocks.len()) % 2 == 1 {
            (f, g) = (reverse_complement(&g)?, reverse_complement(&f)?);
        }
        if layer == Layer::Norm {
            (f, g) = (self.norm.forward(&f)?, self.norm.forward(&g)?);
        }
        Tensor::cat(&[f, reverse_complement(&g)?], 1)
    }

    /// The blocks that must run: (T) to (T, D).
    fn run(&self, tokens: &Tensor, segments: &[Segment], taps: &mut LayerTaps) -> Result<Tensor> {
        let mut x = self.embedding.index_select(tokens, 0)?; // (T, D)
        for (i, block) in self.blocks.iter().enumerate().take(taps.depth()) {
            taps.put(Layer::After(i), &x);
            x = block.forward(&x, segments)?; // (T, D)
        }
        Ok(x)
    }
}

impl Block {
    /// Takes the weights below `layers.{i}`.
    ///
    /// The published fused norm of PS reads, before each layer, the other strand's reverse
    /// complement (rows and channels reversed). Every second exchange undoes the one before, so
    /// the strands stay in place where every even layer, from 0, is `exchanged`: norm, columns of
    /// the projection in and rows of the projection out reversed, and its directions exchanged.
    fn load(sizes: &Hyperparameters, weights: &Weights, exchanged: bool) -> Result<Self> {
        let (width, bias) = (sizes.width, sizes.mixer.bias());
        let mixer = match sizes.complement {
            Some(_) => weights.at("mixer.submodule"),
            None => weights.at("mixer"),
        };
        let (fwd, rev) = (mixer.at("mamba_fwd"), mixer.at("mamba_rev"));
        let tied = |name, shape| tied([fwd.at(name), rev.at(name)], shape, bias);
        let norm = norm(sizes, &weights.at("norm"), exchanged)?;
        let (mut into, into_bias) = tied("in_proj", [sizes.mixer.projected(), width])?;
        let (mut out, mut out_bias) = tied("out_proj", [width, sizes.mixer.inner()])?;
        let mut directions = [&fwd, &rev];
        if exchanged {
            into = into.flip(1)?;
            out = out.flip(0)?;
            out_bias = out_bias.map(|bias| bias.flip(0)).transpose()?;
            directions.reverse();
        }
        let twice = out_bias.as_ref().map(|bias| bias.affine(2.0, 0.0));
        Ok(Self {
            norm,
            mixer: Mixer::load(&sizes.mixer, (into, into_bias), directions)?,
            out_sum: Linear::new(out.clone(), twice.transpose()?).rounding(weights.rounded()),
            out_proj: Linear::new(out, out_bias).rounding(weights.rounded()),
            multiply: sizes.multiply,
        })
    }

    /// (T, D) to (T, D), residual included.
    fn forward(&self, x: &Tensor, segments: &[Segment]) -> Result<Tensor> {
        let y = self.norm.forward_to_product(x)?;
        if self.multiply {
            let [right, left] = self.mixer.both(&y, segments)?; // (T, I)
            let (right, left) = (
                self.out_proj.forward(&right)?,
                self.out_proj.forward(&left)?,
            );
            return right.mul(&left)?.add(x);
        }
        // The weight of the projection out is the same for both directions.
        self.out_sum
            .forward_residual(&self.mixer.sum(&y, segments)?, x)
    }
}

/// A norm, which PS models without fused norms save one level deeper; its channels in reverse order
/// if `reversed`.
fn norm(sizes: &Hyperparameters, weights: &Weights, reversed: bool) -> Result<Norm> {
    let deeper = weights.at("submodule");
    let weights = if deeper.has("weight") {
        &deeper
    } else {
        weights
    };
    Norm::load(weights, sizes.width, sizes.eps, sizes.rms_norm, reversed)
}

/// The projection that both directions share: published files keep the first, files saved anew
/// either or both.
fn tied(
    [fwd, rev]: [Weights; 2],
    shape: [usize; 2],
    bias: bool,
) -> Result<(Tensor, Option<Tensor>)> {
    if !(fwd.has("weight") && rev.has("weight")) {
        let stored = if rev.has("weight") { rev } else { fwd };
        return projection(&stored, shape, bias);
    }
    let (kept, other) = (
        projection(&fwd, shape, bias)?,
        projection(&rev, shape, bias)?,
    );
    let differ =
        |a: &Tensor, b: &Tensor| -> Result<bool> { Ok(a.to_vec1::<f32>()? != b.to_vec1::<f32>()?) };
    let biases_differ = match (&kept.1, &other.1) {
        (Some(a), Some(b)) => differ(a, b)?,
        _ => false,
    };
    if differ(&kept.0, &other.0)? || biases_differ {
        let what = "differs from mamba_fwd's, but the configuration says that they are tied";
        return Err(rev.error(&rev.full("weight"), what));
    }
    Ok(kept)
}

/// An error if a complement map is stored that is not the configuration's.
fn check_complement(weights: &Weights, complement: &[u32]) -> Result<()> {
    let name = "complement_map";
    let Some(stored) = weights.integers(name, &[complement.len()])? else {
        return Ok(());
    };
    if stored
        .iter()
        .zip(complement)
        .all(|(a, b)| *a == i64::from(*b))
    {
        Ok(())
    } else {
        Err(weights.error(&weights.full(name), "differs from the configuration's"))
    }
}

#[cfg(test)]
mod tests;
