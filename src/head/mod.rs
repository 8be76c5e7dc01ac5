//! Heads: hidden vectors in, what the user asked for out.

mod attention_pooling;
mod language_model;
mod local_attention;
mod task;

pub use crate::ops::PREDICTIONS;
pub(crate) use attention_pooling::{PAIRS, pairs};
pub use language_model::{LanguageModel, TEMPERATURE};
pub use local_attention::{LocalAttention, LocalPiece, LocalRows, LocalSizes, LocalState};
pub use task::{HEADS, Link, PAIR_WEIGHT, Piece, Shape, SoFar, Task, TaskHead, Unit};
