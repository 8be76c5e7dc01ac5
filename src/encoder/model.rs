//! The encoder that a checkpoint holds, whichever architecture it is.

use super::{Encoder, Segment, Vocabulary, caduceus, hyena, mamba};
use crate::checkpoint::{Architecture, Checkpoint};
use crate::error::{Error, Kind, Result};
use candle_core::Tensor;

/// An encoder of any architecture.
pub enum Model {
    /// HyenaDNA.
    Hyena(hyena::Model),
    /// Mamba.
    Mamba(mamba::Model),
    /// Caduceus.
    Caduceus(caduceus::Model),
}

/// The state of a [`Model`].
#[derive(Clone)]
pub enum State {
    /// HyenaDNA.
    Hyena(hyena::State),
    /// Mamba.
    Mamba(mamba::State),
    /// Caduceus.
    Caduceus(caduceus::State),
}

/// What is known of a model besides its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// Width D of the hidden vectors.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Bases of the training context, where the configuration knows it.
    pub context: Option<usize>,
    /// A hidden vector depends on no later token: sequences may be run in pieces.
    pub causal: bool,
    /// The tokens.
    pub vocabulary: Vocabulary,
    /// Bytes of state for one unfinished sequence of any length.
    pub state_bytes: usize,
    /// Bytes that the model keeps besides weights and state (filter spectra), at most.
    pub kept_bytes: usize,
    /// Floating-point operations a base in the matrix products.
    pub flops: usize,
    /// What [`Encoder::forward`] returns.
    pub layer: &'static str,
}

impl Model {
    /// Builds the encoder from a checkpoint's configuration and weights.
    pub fn load(checkpoint: &Checkpoint) -> Result<(Self, Facts)> {
        match checkpoint.architecture {
            Architecture::HyenaDna => {
                let sizes = hyena::Hyperparameters::read(&checkpoint.config)?;
                let model = hyena::Model::load(&sizes, &checkpoint.weights)?;
                Ok((Self::Hyena(model), sizes.facts()))
            }
            Architecture::Mamba => {
                let sizes = mamba::Hyperparameters::read(&checkpoint.config)?;
                let vocabulary = Vocabulary::find(&checkpoint.dir, sizes.vocabulary)?;
                let model = mamba::Model::load(&sizes, &checkpoint.weights)?;
                Ok((Self::Mamba(model), sizes.facts(vocabulary)))
            }
            Architecture::Caduceus => {
                let sizes = caduceus::Hyperparameters::read(&checkpoint.config)?;
                let vocabulary = Vocabulary::find(&checkpoint.dir, sizes.vocabulary)?;
                let model = caduceus::Model::load(&sizes, &checkpoint.weights)?;
                Ok((Self::Caduceus(model), sizes.facts(vocabulary)))
            }
            other => Err(Error::model(format!("{other} is not supported yet"))),
        }
    }

    /// The embedding (V, D), to which the output head is tied where none is stored.
    pub fn embedding(&self) -> &Tensor {
        match self {
            Self::Hyena(model) => model.embedding(),
            Self::Mamba(model) => model.embedding(),
            Self::Caduceus(model) => model.embedding(),
        }
    }

    /// The complement of each token, if the hidden vectors hold both strands: [`caduceus`].
    pub fn complement(&self) -> Option<&[u32]> {
        match self {
            Self::Caduceus(model) => model.complement(),
            _ => None,
        }
    }
}

impl Encoder for Model {
    type State = State;

    fn start(&self, lanes: usize) -> Result<State> {
        match self {
            Self::Hyena(model) => model.start(lanes).map(State::Hyena),
            Self::Mamba(model) => model.start(lanes).map(State::Mamba),
            Self::Caduceus(model) => model.start(lanes).map(State::Caduceus),
        }
    }

    fn forward(&self, tokens: &Tensor, segments: &[Segment], state: &mut State) -> Result<Tensor> {
        match (self, state) {
            (Self::Hyena(model), State::Hyena(state)) => model.forward(tokens, segments, state),
            (Self::Mamba(model), State::Mamba(state)) => model.forward(tokens, segments, state),
            (Self::Caduceus(model), State::Caduceus(state)) => {
                model.forward(tokens, segments, state)
            }
            _ => Err(Error::new(
                Kind::Internal,
                "the state is another architecture's",
            )),
        }
    }
}
