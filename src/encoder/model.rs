//! The encoder that a checkpoint holds, whichever architecture it is.

use super::{
    Encoder, Segment, Vocabulary, caduceus, evo1, evo2, hyena, mamba, mamba2, s4d, striped_hyena,
    transformer, vocabulary,
};
use crate::checkpoint::{Architecture, Checkpoint, Config};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// An encoder of any architecture.
pub enum Model {
    /// HyenaDNA.
    Hyena(hyena::Model),
    /// Mamba.
    Mamba(mamba::Model),
    /// Mamba-2.
    Mamba2(mamba2::Model),
    /// Caduceus.
    Caduceus(caduceus::Model),
    /// Evo and Evo 2.
    StripedHyena(striped_hyena::Model),
    /// S4D.
    S4d(s4d::Model),
    /// A Transformer.
    Transformer(transformer::Model),
}

/// The state of a [`Model`].
#[derive(Clone, Serialize, Deserialize)]
pub enum State {
    /// HyenaDNA.
    Hyena(hyena::State),
    /// Mamba.
    Mamba(mamba::State),
    /// Mamba-2.
    Mamba2(mamba2::State),
    /// Caduceus.
    Caduceus(caduceus::State),
    /// Evo and Evo 2.
    StripedHyena(striped_hyena::State),
    /// S4D.
    S4d(s4d::State),
    /// A Transformer.
    Transformer(transformer::State),
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
    /// Floating-point operations a base in the matrix products.
    pub flops: usize,
    /// What [`Encoder::forward`] returns.
    pub layer: &'static str,
    /// What a user should know of the numbers: where they differ from the published model's.
    pub note: Option<String>,
}

impl Model {
    /// Builds the encoder from a checkpoint's configuration and weights.
    ///
    /// # Errors
    /// Model: the configuration is wrong, or the tensors do not fit it; up to ten are named.
    pub fn load(checkpoint: &Checkpoint) -> Result<(Self, Facts)> {
        let facts = Self::describe(&checkpoint.config, &checkpoint.dir)?;
        let model = Self::build(checkpoint).map_err(|error| checkpoint.explain(error))?;
        Ok((model, facts))
    }

    /// What a configuration says of its model, whose weights need not be there. `dir`: where its
    /// tokenizer lies, if it has one.
    ///
    /// # Errors
    /// Model: no model can have this configuration.
    pub fn describe(config: &Config, dir: &Path) -> Result<Facts> {
        let tokens = |size| Vocabulary::find(dir, size);
        let mut facts = match Architecture::of(config)? {
            Architecture::HyenaDna => hyena::Hyperparameters::read(config)?.facts(),
            Architecture::Mamba => {
                let sizes = mamba::Hyperparameters::read(config)?;
                sizes.facts(tokens(sizes.vocabulary)?)
            }
            Architecture::Mamba2 => {
                let sizes = mamba2::Hyperparameters::read(config)?;
                sizes.facts(tokens(sizes.vocabulary)?)
            }
            Architecture::Caduceus => {
                let sizes = caduceus::Hyperparameters::read(config)?;
                sizes.facts(tokens(sizes.vocabulary)?)
            }
            Architecture::Evo1 => evo1::read(config)?.facts(),
            Architecture::Evo2 => evo2::read(config)?.facts(),
            Architecture::S4d => {
                let sizes = s4d::Hyperparameters::read(config)?;
                sizes.facts(tokens(sizes.vocabulary)?)
            }
            Architecture::Transformer => {
                let sizes = transformer::Hyperparameters::read(config)?;
                sizes.facts(tokens(sizes.vocabulary)?)
            }
        };
        let Vocabulary { size, bases, mask } = &facts.vocabulary;
        if let Some(id) = bases.iter().chain(mask).find(|id| **id as usize >= *size) {
            let what = format!("a base is token {id}, but the model has {size} tokens");
            return Err(config.error("vocab_size", what));
        }
        if facts.context.is_none() {
            facts.context = vocabulary::longest_input(dir)?;
        }
        Ok(facts)
    }

    fn build(checkpoint: &Checkpoint) -> Result<Self> {
        let (config, weights) = (&checkpoint.config, &checkpoint.weights);
        Ok(match checkpoint.architecture {
            Architecture::HyenaDna => {
                let sizes = hyena::Hyperparameters::read(config)?;
                Self::Hyena(hyena::Model::load(&sizes, weights)?)
            }
            Architecture::Mamba => {
                let sizes = mamba::Hyperparameters::read(config)?;
                Self::Mamba(mamba::Model::load(&sizes, weights)?)
            }
            Architecture::Mamba2 => {
                let sizes = mamba2::Hyperparameters::read(config)?;
                Self::Mamba2(mamba2::Model::load(&sizes, weights)?)
            }
            Architecture::Caduceus => {
                let sizes = caduceus::Hyperparameters::read(config)?;
                Self::Caduceus(caduceus::Model::load(&sizes, weights)?)
            }
            Architecture::Evo1 => {
                Self::StripedHyena(striped_hyena::Model::load(evo1::read(config)?, weights)?)
            }
            Architecture::Evo2 => {
                Self::StripedHyena(striped_hyena::Model::load(evo2::read(config)?, weights)?)
            }
            Architecture::S4d => {
                let sizes = s4d::Hyperparameters::read(config)?;
                Self::S4d(s4d::Model::load(&sizes, weights)?)
            }
            Architecture::Transformer => {
                let sizes = transformer::Hyperparameters::read(config)?;
                Self::Transformer(transformer::Model::load(sizes, weights)?)
            }
        })
    }

    /// The embedding (V, D), to which the output head is tied where none is stored.
    pub fn embedding(&self) -> &Tensor {
        match self {
            Self::Hyena(model) => model.embedding(),
            Self::Mamba(model) => model.embedding(),
            Self::Mamba2(model) => model.embedding(),
            Self::Caduceus(model) => model.embedding(),
            Self::StripedHyena(model) => model.embedding(),
            Self::S4d(model) => model.embedding(),
            Self::Transformer(model) => model.embedding(),
        }
    }

    /// The complement of each token, if the hidden vectors hold both strands: [`caduceus`].
    pub fn complement(&self) -> Option<&[u32]> {
        match self {
            Self::Caduceus(model) => model.complement(),
            _ => None,
        }
    }

    /// The encoder, if it looks both ways and can run layer by layer: [`caduceus::Exact`].
    pub fn layered(&self) -> Option<&caduceus::Model> {
        match self {
            Self::Caduceus(model) => Some(model),
            _ => None,
        }
    }

    /// Whether all its layers have a form on the GPU.
    pub fn runs_on_gpu(&self) -> bool {
        match self {
            Self::Transformer(model) => model.runs_on_gpu(),
            _ => true,
        }
    }

    /// Whether gradients pass through all its layers on the GPU.
    pub fn trains_on_gpu(&self) -> bool {
        self.runs_on_gpu() && !matches!(self, Self::Mamba2(_))
    }

    /// Lets attention see only the keys less than `window` tokens away, which bounds the state;
    /// `None`, as published: all of them. The facts of state change with it. A usage error where
    /// the model has no attention, or only an approximation.
    pub fn set_attention_window(&mut self, window: Option<usize>, facts: &mut Facts) -> Result<()> {
        match self {
            Self::StripedHyena(model) => model.set_attention_window(window, facts),
            Self::Transformer(model) => model.set_attention_window(window, facts),
            _ => Err(Error::usage(
                "the model has no attention to set a window for",
            )),
        }
    }
}

impl Encoder for Model {
    type State = State;

    fn start(&self, lanes: usize) -> Result<State> {
        match self {
            Self::Hyena(model) => model.start(lanes).map(State::Hyena),
            Self::Mamba(model) => model.start(lanes).map(State::Mamba),
            Self::Mamba2(model) => model.start(lanes).map(State::Mamba2),
            Self::Caduceus(model) => model.start(lanes).map(State::Caduceus),
            Self::StripedHyena(model) => model.start(lanes).map(State::StripedHyena),
            Self::S4d(model) => model.start(lanes).map(State::S4d),
            Self::Transformer(model) => model.start(lanes).map(State::Transformer),
        }
    }

    fn fork(&self, from: &[(&State, usize)], room: usize) -> Result<State> {
        /// The states of one architecture.
        macro_rules! fork {
            ($model:expr, $variant:ident) => {{
                let same = from.iter().map(|(state, lane)| match state {
                    State::$variant(state) => Ok((state, *lane)),
                    _ => Err(foreign_state()),
                });
                let same = same.collect::<Result<Vec<_>>>()?;
                $model.fork(&same, room).map(State::$variant)
            }};
        }
        match self {
            Self::Hyena(model) => fork!(model, Hyena),
            Self::Mamba(model) => fork!(model, Mamba),
            Self::Mamba2(model) => fork!(model, Mamba2),
            Self::Caduceus(model) => fork!(model, Caduceus),
            Self::StripedHyena(model) => fork!(model, StripedHyena),
            Self::S4d(model) => fork!(model, S4d),
            Self::Transformer(model) => fork!(model, Transformer),
        }
    }

    fn forward(&self, tokens: &Tensor, segments: &[Segment], state: &mut State) -> Result<Tensor> {
        match (self, state) {
            (Self::Hyena(model), State::Hyena(state)) => model.forward(tokens, segments, state),
            (Self::Mamba(model), State::Mamba(state)) => model.forward(tokens, segments, state),
            (Self::S4d(model), State::S4d(state)) => model.forward(tokens, segments, state),
            (Self::Mamba2(model), State::Mamba2(state)) => model.forward(tokens, segments, state),
            (Self::Caduceus(model), State::Caduceus(state)) => {
                model.forward(tokens, segments, state)
            }
            (Self::StripedHyena(model), State::StripedHyena(state)) => {
                model.forward(tokens, segments, state)
            }
            (Self::Transformer(model), State::Transformer(state)) => {
                model.forward(tokens, segments, state)
            }
            _ => Err(foreign_state()),
        }
    }
}

fn foreign_state() -> Error {
    Error::new(Kind::Internal, "the state is another architecture's")
}
