//! The encoder that a checkpoint holds, whichever architecture it is.

use super::{
    Branch, Encoder, Facts, Layer, Segment, Vocabulary, caduceus, evo1, evo2, hyena, mamba, mamba2,
    pretrained, s4d, striped_hyena, transformer,
};
use crate::checkpoint::{Architecture, Checkpoint, Config, Tokenizer, Words};
use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// An encoder of any architecture.
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
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
    /// A published Transformer.
    Pretrained(pretrained::Model),
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
    /// A published Transformer.
    Pretrained(pretrained::State),
}

impl Model {
    /// Builds the encoder from a checkpoint's configuration and weights.
    ///
    /// # Errors
    /// Model: the configuration is wrong, or the tensors do not fit it; up to ten are named.
    pub fn load(checkpoint: &Checkpoint) -> Result<(Self, Facts)> {
        let described = Self::describe(&checkpoint.config, &checkpoint.tokenizer);
        let facts = described.map_err(|error| error.file(checkpoint.dir.display()))?;
        let model = Self::build(checkpoint).map_err(|error| checkpoint.explain(error))?;
        Ok((model, facts))
    }

    /// What a configuration says of its model, whose weights need not be there.
    ///
    /// # Errors
    /// Model: no model can have this configuration.
    pub fn describe(config: &Config, tokenizer: &Tokenizer) -> Result<Facts> {
        let tokens = |size| Vocabulary::of(tokenizer, size);
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
            Architecture::Pretrained(class) => {
                let sizes = pretrained::Hyperparameters::read(config, class)?;
                sizes.facts(words(tokenizer)?, tokenizer.longest)?
            }
        };
        let Vocabulary { size, bases, mask } = &facts.vocabulary;
        if let Some(id) = bases.iter().chain(mask).find(|id| **id as usize >= *size) {
            let what = format!("a base is token {id}, but the model has {size} tokens");
            return Err(config.error("vocab_size", what));
        }
        facts.context = facts.context.or(tokenizer.longest);
        Ok(facts)
    }

    fn build(checkpoint: &Checkpoint) -> Result<Self> {
        let (config, weights) = (&checkpoint.config, &checkpoint.weights);
        let striped = |sizes| striped_hyena::Model::load(sizes, weights).map(Self::StripedHyena);
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
            Architecture::Evo1 => striped(evo1::read(config)?)?,
            Architecture::Evo2 => striped(evo2::read(config)?)?,
            Architecture::S4d => {
                let sizes = s4d::Hyperparameters::read(config)?;
                Self::S4d(s4d::Model::load(&sizes, weights)?)
            }
            Architecture::Transformer => {
                let sizes = transformer::Hyperparameters::read(config)?;
                Self::Transformer(transformer::Model::load(sizes, weights)?)
            }
            Architecture::Pretrained(class) => {
                let sizes = pretrained::Hyperparameters::read(config, class)?;
                let words = Arc::clone(words(&checkpoint.tokenizer)?);
                Self::Pretrained(pretrained::Model::load(sizes, words, weights)?)
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
            Self::Pretrained(model) => model.embedding(),
        }
    }

    /// The model, if it is a published Transformer, whose tokens are not bases.
    pub fn pretrained(&self) -> Option<&pretrained::Model> {
        match self {
            Self::Pretrained(model) => Some(model),
            _ => None,
        }
    }

    /// The model, if its tokens may cover several bases.
    pub fn with_words(&self) -> Option<&pretrained::Model> {
        let model = self.pretrained()?;
        (model.words().longest() > 1).then_some(model)
    }

    /// The complement of each token, if the hidden vectors hold both strands: [`caduceus`].
    pub fn complement(&self) -> Option<&[u32]> {
        match self {
            Self::Caduceus(model) => model.complement(),
            Self::Hyena(_)
            | Self::Mamba(_)
            | Self::Mamba2(_)
            | Self::StripedHyena(_)
            | Self::S4d(_)
            | Self::Transformer(_)
            | Self::Pretrained(_) => None,
        }
    }

    /// The encoder, if it is bidirectional and can run layer by layer: [`caduceus::Exact`].
    pub fn layered(&self) -> Option<&caduceus::Model> {
        match self {
            Self::Caduceus(model) => Some(model),
            Self::Hyena(_)
            | Self::Mamba(_)
            | Self::Mamba2(_)
            | Self::StripedHyena(_)
            | Self::S4d(_)
            | Self::Transformer(_)
            | Self::Pretrained(_) => None,
        }
    }

    /// Lets attention see only the keys less than `window` tokens away, which bounds the state;
    /// `None`, as published: all of them. The facts of state change with it. A usage error where
    /// the model has no attention, or only an approximation.
    pub fn set_attention_window(&mut self, window: Option<usize>, facts: &mut Facts) -> Result<()> {
        match self {
            Self::StripedHyena(model) => model.set_attention_window(window, facts),
            Self::Transformer(model) => model.set_attention_window(window, facts),
            Self::Hyena(_)
            | Self::Mamba(_)
            | Self::Mamba2(_)
            | Self::Caduceus(_)
            | Self::S4d(_) => Err(Error::usage(
                "the model has no attention to set a window for",
            )),
            Self::Pretrained(_) => {
                let error = Error::usage("a published Transformer has the attention it came with");
                Err(error.todo("give --window for shorter windows"))
            }
        }
    }

    /// Vectors (T, D) at each of `layers` of a step whose last rows are branches off its segments:
    /// each runs on as the sequence would behind a row, without a fork of the state. For models and
    /// devices that can: [`Facts::branches_on_gpu`].
    ///
    /// # Errors
    /// Internal: this one cannot, or the state is another model's.
    pub fn forward_branched(
        &self,
        tokens: &Tensor,
        rows: (&[Segment], &[Branch]),
        state: &mut State,
        layers: &[Layer],
    ) -> Result<Vec<Tensor>> {
        match (self, state) {
            (Self::Hyena(model), State::Hyena(state)) => model.run(tokens, rows, state, layers),
            (Self::StripedHyena(model), State::StripedHyena(state)) => {
                model.run(tokens, rows, state, layers)
            }
            (Self::Hyena(_) | Self::StripedHyena(_), _) => Err(foreign_state()),
            (
                Self::Mamba(_)
                | Self::Mamba2(_)
                | Self::Caduceus(_)
                | Self::S4d(_)
                | Self::Transformer(_)
                | Self::Pretrained(_),
                _,
            ) => Err(Error::new(Kind::Internal, "the model has no branches")),
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
            Self::Pretrained(model) => model.start(lanes).map(State::Pretrained),
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
            Self::Pretrained(model) => fork!(model, Pretrained),
        }
    }

    fn forward_layers(
        &self,
        tokens: &Tensor,
        segments: &[Segment],
        state: &mut State,
        layers: &[Layer],
    ) -> Result<Vec<Tensor>> {
        /// On the state of the same architecture.
        macro_rules! forward {
            ($model:expr, $variant:ident) => {
                match state {
                    State::$variant(state) => {
                        $model.forward_layers(tokens, segments, state, layers)
                    }
                    _ => Err(foreign_state()),
                }
            };
        }
        match self {
            Self::Hyena(model) => forward!(model, Hyena),
            Self::Mamba(model) => forward!(model, Mamba),
            Self::Mamba2(model) => forward!(model, Mamba2),
            Self::Caduceus(model) => forward!(model, Caduceus),
            Self::StripedHyena(model) => forward!(model, StripedHyena),
            Self::S4d(model) => forward!(model, S4d),
            Self::Transformer(model) => forward!(model, Transformer),
            Self::Pretrained(model) => forward!(model, Pretrained),
        }
    }
}

/// How bases become tokens of a published Transformer.
fn words(tokenizer: &Tokenizer) -> Result<&Arc<Words>> {
    let words = tokenizer.words.as_ref();
    words.ok_or_else(|| {
        let error = Error::usage("a published Transformer is opened as it is, not made anew");
        error.todo("crocuta models list --published names those that can be made")
    })
}

fn foreign_state() -> Error {
    Error::new(Kind::Internal, "the state is another architecture's")
}
