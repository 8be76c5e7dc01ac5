//! What is known of a model besides its weights: each architecture says it of itself.

use super::Vocabulary;

/// Bases of a step on the CPU: larger ones take more memory and are hardly faster.
pub const CPU_STEP: usize = 8192;
/// Bases of a step on a GPU, at most.
pub(super) const GPU_STEP: usize = 1 << 20;
/// Bases of a step that the bounds of attention leave.
const LEAST_STEP: usize = 1024;
/// Operations of a step with attention: half a second of an H200, whose products of bfloat16 run
/// at 4 · 10¹⁴ a second.
const STEP_FLOPS: f64 = 2e14;
/// Bytes of keys and values that a step with attention adds.
const STEP_CACHE: f64 = 8e9;

/// A layer of an encoder: D values for each token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// The residual stream after so many blocks; after none, the embedding.
    After(usize),
    /// What a module of a block returns, before the residual stream is added: the block, counted
    /// from 0, and the module's published name within it.
    Within(usize, &'static str),
    /// What the last norm returns: the default.
    Norm,
    /// Of a published Transformer, whose tokens are not bases: the logarithms of the probabilities
    /// of A, C, G, T and all else, and of a masked base where there is such a token.
    Bases,
}

/// A layer that the authors of a model advise to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recommended {
    /// The layer.
    pub layer: Layer,
    /// Where they say so.
    pub source: &'static str,
}

/// What is known of a model besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Width D of the hidden vectors.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Bases of the training context, where the configuration or the tokenizer states it.
    pub context: Option<usize>,
    /// A hidden vector depends on no later token: sequences may be run in pieces.
    pub causal: bool,
    /// The tokens.
    pub vocabulary: Vocabulary,
    /// Bytes of state for one unfinished sequence of any length, without what grows with it.
    pub state_bytes: usize,
    /// Bytes by which that state grows with each token (attention's keys and values without a
    /// window); 0 where it does not grow.
    pub token_bytes: usize,
    /// Bytes that the model keeps besides weights and state (filter spectra), at most.
    pub kept_bytes: usize,
    /// Bytes that a fork takes for each base that it may be run over, where it holds what the past
    /// means to them instead of a copy of the state.
    pub fork_base_bytes: Option<usize>,
    /// Floating-point operations a base in matrix products, scans and filters, but for what
    /// [`Facts::pair_flops`] and [`Facts::fft_channels`] count.
    pub flops: usize,
    /// Floating-point operations for each pair of a token and one that it sees, in all layers of
    /// exact attention; 0 without.
    pub pair_flops: usize,
    /// Channels, of all layers, that are convolved by Fourier transforms with filters as long as the
    /// context.
    pub fft_channels: usize,
    /// Tokens that attention sees from a token at most, where a window bounds them.
    pub seen: Option<usize>,
    /// Bases of a step on the CPU, unless asked otherwise.
    pub cpu_step: usize,
    /// Bases of a step on a GPU at most, before the bounds of [`Facts::longest_gpu_step`].
    pub gpu_step: usize,
    /// Whether all its layers have a form on the GPU.
    pub runs_on_gpu: bool,
    /// Whether gradients pass through all its layers on the GPU.
    pub trains_on_gpu: bool,
    /// Whether a step on the GPU can have branches: [`Model::forward_branched`](super::Model).
    pub branches_on_gpu: bool,
    /// Parts of the names of tensors that a checkpoint stores, but that training leaves alone:
    /// they belong to the architecture.
    pub fixed: &'static [&'static str],
    /// The stored tensor of the language-model head (V, D).
    pub head: &'static str,
    /// The head is the embedding where none is stored, whatever the configuration says.
    pub always_tied: bool,
    /// Published name of the module whose output the residual stream begins with.
    pub embedding: &'static str,
    /// Published name of the list of blocks.
    pub block: &'static str,
    /// Published names, below a block, of the modules whose output can be asked for.
    pub parts: &'static [&'static str],
    /// Published name of the last norm: what [`Encoder::forward`](super::Encoder::forward) returns.
    pub layer: &'static str,
    /// The layer that the model's authors advise to use, where they name one.
    pub recommended: Option<Recommended>,
    /// A published Transformer as its library runs it: whole windows on the CPU, of which it gives
    /// the last layer and [`Layer::Bases`]; it is not trained here.
    pub pretrained: bool,
    /// Bases from one token to the next; 1 where they differ.
    pub token_step: usize,
    /// What a user should know of the numbers: where they differ from the published model's.
    pub note: Option<String>,
}

impl Facts {
    /// Whether a sequence can be run in pieces, with a state carried from one to the next.
    pub fn streams(&self) -> bool {
        self.causal && !self.pretrained
    }

    /// The layers that a run computes unless others are asked for: the default, and last the one
    /// that a language-model head reads.
    pub fn default_layers(&self) -> Vec<Layer> {
        if self.pretrained {
            vec![Layer::Norm, Layer::Bases]
        } else {
            vec![Layer::Norm]
        }
    }

    /// A causal state-space model without a state, as it is unless it says otherwise: named as
    /// transformers names Mamba's parts.
    pub(super) fn state_space(
        width: usize,
        layers: usize,
        flops: usize,
        vocabulary: Vocabulary,
    ) -> Self {
        Self {
            width,
            layers,
            context: None,
            causal: true,
            vocabulary,
            state_bytes: 0,
            token_bytes: 0,
            kept_bytes: 0,
            fork_base_bytes: None,
            flops,
            pair_flops: 0,
            fft_channels: 0,
            seen: None,
            cpu_step: CPU_STEP,
            gpu_step: GPU_STEP,
            runs_on_gpu: true,
            trains_on_gpu: true,
            branches_on_gpu: false,
            fixed: &[],
            head: "lm_head.weight",
            always_tied: false,
            embedding: "embeddings",
            block: "layers",
            parts: &[],
            layer: "norm_f",
            recommended: None,
            pretrained: false,
            token_step: 1,
            note: None,
        }
    }

    /// Bytes of one lane of a state that was forked to run `bases` more at most.
    pub fn fork_bytes(&self, bases: u64) -> u64 {
        let state = self.state_bytes as u64;
        let owed = |each: usize| bases.saturating_mul(each as u64).min(state);
        self.fork_base_bytes.map_or(state, owed)
    }

    /// Bases of a step on a GPU at most, for `input` bases where their number is known.
    ///
    /// No more than the input rounded up to a power of two, but at least 1,024. The cost of
    /// attention grows with the step times what each token sees: up to a window, or else as much
    /// as the training context or the step, whichever is longer, but never more than the input.
    /// Its steps are bounded so that one takes about half a second of an H200, and adds 8 GB of
    /// keys and values.
    pub fn longest_gpu_step(&self, input: Option<u64>) -> usize {
        let input = input.map(|bases| usize::try_from(bases).unwrap_or(usize::MAX));
        let rounded = input.and_then(usize::checked_next_power_of_two);
        let mut step = self.gpu_step.min(rounded.unwrap_or(usize::MAX));
        if self.pair_flops > 0 {
            let most = self
                .seen
                .unwrap_or(usize::MAX)
                .min(input.unwrap_or(usize::MAX));
            let fits = |step: usize| {
                let seen = self.context.unwrap_or(0).max(step).min(most);
                let flops = self.flops as f64 + self.pair_flops as f64 * seen as f64;
                let tokens = step as f64;
                tokens * flops <= STEP_FLOPS && tokens * self.token_bytes as f64 <= STEP_CACHE
            };
            while step > LEAST_STEP && !fits(step) {
                step /= 2;
            }
        }
        step.max(LEAST_STEP)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{evo2, hyena, transformer};
    use super::*;
    use crate::checkpoint::{Config, preset};
    use serde_json::{Value, json};

    fn config(name: &str, changes: Value) -> Config {
        let mut config = preset(name).unwrap();
        config.extend(changes.as_object().unwrap().clone());
        Config::new(name, config)
    }

    #[test]
    fn steps_of_attention_are_bounded_by_context_window_and_input() {
        let evo = |changes| {
            let sizes = evo2::read(&config("evo2-7b", changes)).unwrap();
            sizes.facts()
        };
        let (long, short) = (evo(json!({})), evo(json!({"max_seqlen": 8192})));
        assert!(long.context.unwrap() > 500_000);
        for facts in [&long, &short] {
            let step = facts.longest_gpu_step(None);
            let seen = facts.context.unwrap().max(step) as f64;
            let flops = step as f64 * (facts.flops as f64 + seen * facts.pair_flops as f64);
            assert!(step == LEAST_STEP || flops <= STEP_FLOPS, "{step}");
        }
        assert!(short.longest_gpu_step(None) > long.longest_gpu_step(None));
        let windowed = evo(json!({"attention_window": 4096}));
        assert!(windowed.longest_gpu_step(None) > long.longest_gpu_step(None));
        assert_eq!(short.longest_gpu_step(Some(3000)), 4096);
        assert_eq!(short.longest_gpu_step(Some(10)), 1024);
        assert!(long.longest_gpu_step(Some(8192)) > long.longest_gpu_step(Some(1 << 30)));
        let small = config("transformer-d256-l8", json!({"attention": "causal"}));
        let sizes = transformer::Hyperparameters::read(&small).unwrap();
        let facts = sizes.facts(Vocabulary::characters(16));
        assert!((1024..1 << 20).contains(&facts.longest_gpu_step(None)));
    }

    #[test]
    fn long_filters_have_long_steps_and_forks_that_owe() {
        let facts = |name| {
            let sizes = hyena::Hyperparameters::read(&config(name, json!({}))).unwrap();
            sizes.facts()
        };
        let (short, long) = (facts("hyenadna-tiny-1k"), facts("hyenadna-large-1m"));
        assert_eq!(
            (short.cpu_step, short.longest_gpu_step(None)),
            (8192, 1 << 20)
        );
        assert_eq!(
            (long.cpu_step, long.longest_gpu_step(None)),
            (1 << 15, 3 << 20)
        );
        assert_eq!(long.longest_gpu_step(Some(1_000_000)), 1 << 20);
        assert_eq!(long.fork_bytes(10), 10 * 8 * 256 * 4);
        assert_eq!(short.fork_bytes(1 << 40), short.state_bytes as u64);
    }
}
