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

use super::facts::Layer;
use super::hyena::layer_norm;
use super::layers::LayerTaps;
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
            eps: config.epsilon("layer_norm_epsilon", 1e-5)?,
        })
    }

    /// What a user wants to know of the model.
    pub fn facts(&self, vocabulary: Vocabulary) -> Facts {
        let (d, modes) = (self.width, self.modes);
        let flops = self.layers * (2 * d * 2 * d + 12 * d * modes);
        Facts {
            state_bytes: self.layers * Modal::state_bytes(d, modes, true),
            ..Facts::state_space(d, self.layers, flops, vocabulary)
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
        let layers = self.blocks.iter().enumerate().map(layer);
        Ok(State {
            layers: layers.collect::<Result<_>>()?,
        })
    }

    fn forward_layers(
        &self,
        tokens: &Tensor,
        segments: &[Segment],
        state: &mut State,
        layers: &[Layer],
    ) -> Result<Vec<Tensor>> {
        let mut taps = LayerTaps::new(layers, self.blocks.len())?;
        let mut x = self.embedding.index_select(tokens, 0)?; // (T, D)
        let blocks = self.blocks.iter().zip(&mut state.layers);
        for (i, (block, state)) in blocks.enumerate().take(taps.depth()) {
            taps.put(Layer::After(i), &x);
            let y = block.norm.forward(&x)?;
            let y = block.filter.forward(&y, state, segments)?; // (T, D)
            let y = block.output.forward_rounded(&ops::gelu_erf(&y)?)?; // (T, 2D)
            x = ops::glu_residual(&y, &x)?; // (T, D)
        }
        taps.finish(&x, |x| self.norm.forward(x))
    }
}

impl Block {
    fn load(sizes: &Hyperparameters, weights: &Weights) -> Result<Self> {
        let d = sizes.width;
        let mixer = weights.at("mixer");
        let output = mixer.at("output_linear").at(0);
        let weight = output.matrix("weight", &[2 * d, d, 1])?;
        let skip = mixer.tensor("D", &[d])?;
        Ok(Self {
            norm: layer_norm(&weights.at("norm"), d, sizes.eps)?,
            filter: filter(sizes, &mixer.at("kernel"), &skip)?,
            output: Linear::new(
                weight.reshape((2 * d, d))?,
                Some(output.tensor("bias", &[2 * d])?),
            )
            .rounding(weights.rounded()),
        })
    }
}

/// The filter `K[l] = 2 Re Σ_n C'_n λ_n^l` with `λ = exp(Δ A)`, `C' = C (λ − 1) / A` (zero-order
/// hold), `A = −exp(log_A_real) + i A_imag`, and the skip D.
fn filter(sizes: &Hyperparameters, weights: &Weights, skip: &Tensor) -> Result<Modal> {
    let (d, modes) = (sizes.width, sizes.modes);
    let stored = [
        weights.tensor("C", &[d, modes, 2])?,
        weights.tensor("log_dt", &[d])?,
        weights.tensor("log_A_real", &[d, modes])?,
        weights.tensor("A_imag", &[d, modes])?,
    ];
    let kept = StoredModes::new(&stored)?;
    let both: Vec<f32> = kept
        .modes()
        .flat_map(|mode| {
            let (pole, residue) = (mode.pole(), 2.0 * mode.c * mode.held());
            [pole.re, pole.im, residue.re, residue.im].map(|x| x as f32)
        })
        .collect();
    let both = Tensor::from_vec(both, (d * modes, 4), &Device::Cpu)?;
    let both = both.derived(stored.each_ref(), move |grad| kept.backward(grad));
    let part = |first| both.narrow(1, first, 2)?.reshape((d, modes, 2));
    Modal::complex(&part(0)?, &part(2)?, Some(skip))
}

/// What the filter's exponentials are computed from.
struct StoredModes {
    c: Vec<f32>,           // (D, N / 2, 2)
    steps: Vec<f32>,       // (D), log Δ
    decays: Vec<f32>,      // (D, N / 2), log −Re A
    frequencies: Vec<f32>, // (D, N / 2), Im A
}

/// One exponential.
struct Exponential {
    c: Complex64,
    step: f64, // Δ
    a: Complex64,
}

impl StoredModes {
    fn new([c, steps, decays, frequencies]: &[Tensor; 4]) -> Result<Self> {
        let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1();
        Ok(Self {
            c: values(c)?,
            steps: values(steps)?,
            decays: values(decays)?,
            frequencies: values(frequencies)?,
        })
    }

    fn modes(&self) -> impl Iterator<Item = Exponential> {
        let modes = self.decays.len() / self.steps.len();
        let pairs = self
            .c
            .chunks_exact(2)
            .zip(&self.decays)
            .zip(&self.frequencies);
        pairs
            .enumerate()
            .map(move |(i, ((c, decay), frequency))| Exponential {
                c: Complex64::new(f64::from(c[0]), f64::from(c[1])),
                step: f64::from(self.steps[i / modes]).exp(),
                a: Complex64::new(-f64::from(*decay).exp(), f64::from(*frequency)),
            })
    }

    /// From the gradients to the poles and residues, side by side, to those of what is stored. A
    /// complex number's is that to its real part plus i times that to its imaginary part: it passes
    /// to z from f(z) times the conjugate of the derivative.
    fn backward(&self, grad: &Tensor) -> Result<[Option<Tensor>; 4]> {
        let grad: Vec<f32> = grad.flatten_all()?.to_vec1()?;
        let modes = self.decays.len() / self.steps.len();
        let (mut to_c, mut to_decays, mut to_frequencies) = (vec![], vec![], vec![]);
        let mut to_steps = vec![0.0; self.steps.len()];
        for (i, (mode, grad)) in self.modes().zip(grad.chunks_exact(4)).enumerate() {
            let complex = |x: &[f32]| Complex64::new(f64::from(x[0]), f64::from(x[1]));
            let (to_pole, to_residue) = (complex(&grad[..2]), complex(&grad[2..]));
            let (pole, held) = (mode.pole(), mode.held());
            let of_c = to_residue * (2.0 * held).conj();
            let to_pole = to_pole + to_residue * (2.0 * mode.c / mode.a).conj();
            let direct = to_residue * (-2.0 * mode.c * held / mode.a).conj();
            let to_a = to_pole * (mode.step * pole).conj() + direct;
            to_steps[i / modes] += (to_pole * (mode.a * pole).conj()).re * mode.step;
            to_c.extend([of_c.re as f32, of_c.im as f32]);
            to_decays.push((to_a.re * mode.a.re) as f32);
            to_frequencies.push(to_a.im as f32);
        }
        let (d, cpu) = (self.steps.len(), &Device::Cpu);
        let to_steps: Vec<f32> = to_steps.into_iter().map(|x| x as f32).collect();
        Ok([
            Some(Tensor::from_vec(to_c, (d, modes, 2), cpu)?),
            Some(Tensor::from_vec(to_steps, d, cpu)?),
            Some(Tensor::from_vec(to_decays, (d, modes), cpu)?),
            Some(Tensor::from_vec(to_frequencies, (d, modes), cpu)?),
        ])
    }
}

impl Exponential {
    /// λ
    fn pole(&self) -> Complex64 {
        (self.step * self.a).exp()
    }

    /// (λ − 1) / A
    fn held(&self) -> Complex64 {
        (self.pole() - 1.0) / self.a
    }
}

#[cfg(test)]
mod tests;
