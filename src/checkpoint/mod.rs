//! Checkpoints: find, verify, open, convert. Yields weights by name; encoders never open files.

mod config;
mod weights;

pub use config::Config;
pub use weights::Weights;
