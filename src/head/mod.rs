//! Heads: hidden vectors in, what the user asked for out.

mod language_model;

pub use language_model::{LanguageModel, PREDICTIONS};
