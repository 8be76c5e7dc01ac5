//! Encoders: token ids in, hidden vectors out, state carried from one call to the next.
//! One architecture is one file. Encoders know nothing of files or genomes.

pub mod caduceus;
pub mod evo1;
pub mod evo2;
mod facts;
pub mod hyena;
mod layers;
pub mod mamba;
pub mod mamba2;
mod model;
pub mod pretrained;
pub mod s4d;
pub mod striped_hyena;
pub mod transformer;
mod vocabulary;

pub use crate::sequence::{Branch, Segment};
pub use facts::{CPU_STEP, Facts, Layer, Recommended};
pub use model::{Model, State};
pub use vocabulary::Vocabulary;

use crate::error::{Error, Kind, Result};
use crate::ops::Tensor;

/// A sequence encoder that carries its state.
///
/// Held to four invariants, by tests over every implementation: *chunk* (any split of a sequence
/// into segments gives the same hidden vectors, within 1e-5 of the largest magnitude in f32),
/// *lane* (a sequence gives the same whatever shares its step), *fork* (a cloned or forked state
/// runs on as the original would, and without touching it) and *golden* (hidden vectors equal the
/// published model's), at every layer.
/// A bidirectional encoder carries nothing and takes whole sequences only: a segment that does
/// not both start and end its sequence is an error. Those too long for memory: [`caduceus::Exact`].
pub trait Encoder {
    /// What one call leaves behind for the next.
    type State: Clone + Send;

    /// An empty state for `lanes` unfinished sequences at a time.
    fn start(&self, lanes: usize) -> Result<Self::State>;

    /// A state whose lanes go on from lanes of other states, which stay as they are, each for at
    /// most `room` tokens: what haplotypes need that share what came before them.
    ///
    /// Memory: a copy of each lane at most; where a state holds the past itself, only what the
    /// past means to the next `room` tokens.
    fn fork(&self, from: &[(&Self::State, usize)], room: usize) -> Result<Self::State>;

    /// Vectors (T, D) of token ids (T), u32, at each of `layers`, in their order. The segments'
    /// lengths sum to T. Blocks behind the last of the layers do not run: a state goes on with the
    /// same layers only.
    ///
    /// # Errors
    /// Internal: a layer that the model does not have, or the state is another model's.
    fn forward_layers(
        &self,
        tokens: &Tensor,
        segments: &[Segment],
        state: &mut Self::State,
        layers: &[Layer],
    ) -> Result<Vec<Tensor>>;

    /// Hidden vectors (T, D): those of the last norm.
    fn forward(
        &self,
        tokens: &Tensor,
        segments: &[Segment],
        state: &mut Self::State,
    ) -> Result<Tensor> {
        let found = self.forward_layers(tokens, segments, state, &[Layer::Norm])?;
        let last = found.into_iter().next();
        last.ok_or_else(|| Error::new(Kind::Internal, "no layer"))
    }
}
