//! S4D: Gu et al. 2022, arXiv:2206.11893; a state space with a diagonal matrix that does not
//! depend on the input.
//!
//! Symbols: T tokens in a step, D width, N states of a channel: N / 2 complex modes and their
//! conjugates.
//! Keys: `backbone.layers.{i}.mixer.kernel.C`, …: below `mixer` those of the reference
//! implementation, around it Mamba's.
//!
//! Differences from the reference: the filter runs as a recurrence that `forward` continues (see
//! [`crate::ops::Modal`]), not as a convolution of one fixed length. There is no published model:
//! blocks are `x + S4D(norm x)`, between an embedding and a last norm.

use super::hyena::layer_norm;
use super::{Encoder, Facts, Segment, Vocabulary};
use crate::checkpoint::{Config, Weights};
use crate::error::Result;
use crate::ops::{self, LayerNorm, Linear, Modal, ModalState};
use crate::ops::{Device, Tensor};
use rustfft::num_complex::Complex64;
use serde::{Deserialize, Serialize};

/// The sizes of a model, from its `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Hyperparameters {
    /// D, `d_model`.
    pub width: usize,
    /// `n_layer`.
    pub layers: usize,
    /// Rows of the embedding, `vocab_size`.
    pub vocabulary: usize,
    /// Complex modes of a channel, half of `d_state`.
    pub modes: usize,
    /// Of every norm, `layer_norm_epsilon`.
    pub eps: f64,
}

impl Hyperparameters {
    /// Reads and checks `config.json`.
    pub fn read(config: &Config) -> Result<Self> {
        let states = config.size("d_state", 2..=1 << 12, Some(64))?;
        if !states.is_multiple_of(2) {
            return Err(config.error("d_state", "is odd, but modes come in conjugate pairs"));
        }
        Ok(Self {
            width: config.size("d_model", 1..=1 << 16, None)?,
            layers: config.size("n_layer", 1..=1 << 12, None)?,
            vocabulary: config.size("vocab_size", 1..=1 << 20, None)?,
            modes: states / 2,
            eps: config.number("layer_norm_epsilon", Some(1e-5))?,
        })
    }

    /// What a user wants to know of the model.
    pub fn facts(&self, vocabulary: Vocabulary) -> Facts {
        let (d, modes) = (self.width, self.modes);
        Facts {
            width: d,
            layers: self.layers,
            context: None,
            causal: true,
            vocabulary,
            state_bytes: self.layers * Modal::state_bytes(d, modes, true),
            token_bytes: 0,
            kept_bytes: 0,
            flops: self.layers * (2 * d * 2 * d + 12 * d * modes),
            layer: "norm_f",
            note: None,
        }
    }
}

/// What a sequence leaves behind: the modes of each layer.
#[derive(Clone, Serialize, Deserialize)]
pub struct State {
    layers: Vec<ModalState>,
}

/// The S4D encoder.
pub struct Model {
    embedding: Tensor, // (V, D)
    blocks: Vec<Block>,
    norm: LayerNorm,
}

struct Block {
    norm: LayerNorm,
    filter: Modal,
    output: Linear,
}

impl Model {
    /// Takes the weights below `backbone`.
    pub fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let backbone = weights.at("backbone");
        let blocks = (0..sizes.layers)
            .map(|i| Block::load(sizes, &backbone.at("layers").at(i)))
            .collect::<Result<_>>()?;
        let shape = [sizes.vocabulary, sizes.width];
        Ok(Self {
            embedding: backbone.at("embeddings").tensor("weight", &shape)?,
            blocks,
            norm: layer_norm(&backbone.at("norm_f"), sizes.width, sizes.eps)?,
        })
    }

    /// The embedding (V, D), to which the output head is tied where it is not stored.
    pub fn embedding(&self) -> &Tensor {
        &self.embedding
    }
}

impl Encoder for Model {
    type State = State;

    fn start(&self, lanes: usize) -> Result<State> {
        let layer = |block: &Block| block.filter.start(lanes);
        Ok(State {
            layers: self.blocks.iter().map(layer).collect(),
        })
    }

    fn fork(&self, from: &[(&State, usize)], _room: usize) -> Result<State> {
        let layer = |(i, block): (usize, &Block)| {
            let layers = from.iter().map(|(state, lane)| (&state.layers[i], *lane));
            block.filter.fork(&layers.collect::<Vec<_>>())
        };
        Ok(State {
            layers: self.blocks.iter().enumerate().map(layer).collect(),
        })
    }

    fn forward(&self, tokens: &Tensor, segments: &[Segment], state: &mut State) -> Result<Tensor> {
        let mut x = self.embedding.index_select(tokens, 0)?; // (T, D)
        for (block, state) in self.blocks.iter().zip(&mut state.layers) {
            let y = block.norm.forward(&x)?;
            let y = block.filter.forward(&y, state, segments)?; // (T, D)
            let y = block.output.forward(&ops::gelu_erf(&y)?)?; // (T, 2D)
            x = ops::glu_residual(&y, &x)?; // (T, D)
        }
        self.norm.forward(&x)
    }
}

impl Block {
    fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let d = sizes.width;
        let mixer = weights.at("mixer");
        let output = mixer.at("output_linear").at(0);
        let weight = output.tensor("weight", &[2 * d, d, 1])?;
        let skip = mixer.tensor("D", &[d])?;
        Ok(Self {
            norm: layer_norm(&weights.at("norm"), d, sizes.eps)?,
            filter: filter(sizes, &mixer.at("kernel"), &skip)?,
            output: Linear::new(
                weight.reshape((2 * d, d))?,
                Some(output.tensor("bias", &[2 * d])?),
            ),
        })
    }
}

/// The filter `K[l] = 2 Re Σ_n C'_n λ_n^l` with `λ = exp(Δ A)`, `C' = C (λ − 1) / A` (zero-order
/// hold), `A = −exp(log_A_real) + i A_imag`, and the skip D.
fn filter(sizes: &Hyperparameters, weights: &Weights, skip: &Tensor) -> Result<Modal> {
    let (d, modes) = (sizes.width, sizes.modes);
    let values = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
        weights.tensor(name, shape)?.to_vec1()
    };
    let c = values("C", &[d, modes, 2])?;
    let steps = values("log_dt", &[d])?;
    let decays = values("log_A_real", &[d, modes])?;
    let frequencies = values("A_imag", &[d, modes])?;
    let (mut poles, mut residues) = (Vec::with_capacity(c.len()), Vec::with_capacity(c.len()));
    for (i, c) in c.chunks_exact(2).enumerate() {
        let step = f64::from(steps[i / modes]).exp();
        let a = Complex64::new(-f64::from(decays[i]).exp(), f64::from(frequencies[i]));
        let pole = (step * a).exp();
        let c = Complex64::new(f64::from(c[0]), f64::from(c[1]));
        let residue = 2.0 * c * (pole - 1.0) / a;
        poles.extend([pole.re as f32, pole.im as f32]);
        residues.extend([residue.re as f32, residue.im as f32]);
    }
    let tensor = |values| Tensor::from_vec(values, (d, modes, 2), &Device::Cpu);
    Modal::complex(&tensor(poles)?, &tensor(residues)?, Some(skip))
}

#[cfg(test)]
mod tests;
