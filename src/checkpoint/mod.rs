//! Checkpoints: find, verify, open, convert. Yields weights by name; encoders never open files.

mod architecture;
mod config;
mod create;
mod layout;
mod open;
mod presets;
mod safetensors;
mod staging;
mod weights;

pub use architecture::Architecture;
pub use config::Config;
pub use create::{Created, create};
pub use open::Checkpoint;
pub use presets::{preset, presets};
pub use weights::Weights;
