//! Heads: hidden vectors in, what the user asked for out.

mod attention_pooling;
mod language_model;
mod local_attention;
mod task;

pub use crate::ops::PREDICTIONS;
pub use language_model::{LanguageModel, TEMPERATURE};
pub use local_attention::{LocalAttention, LocalPiece, LocalRows, LocalSizes, LocalState};
pub use task::{HEADS, LETTERS, Link, Piece, Shape, SoFar, Task, TaskHead, Unit};
