//! Checkpoints: find, verify, open, convert. Yields weights by name; encoders never open files.

mod architecture;
mod child;
mod config;
mod convert;
mod create;
mod derive;
mod digests;
mod hub;
mod layout;
mod open;
mod pickle;
mod presets;
mod safetensors;
mod staging;
mod torch;
mod verify;
mod weights;

pub use architecture::Architecture;
pub use config::Config;
pub use convert::{convert_as_child, convert_in_child};
pub use create::{Created, create};
pub use derive::{Changes, derive};
pub use open::Checkpoint;
pub use presets::{preset, presets};
pub use verify::{Verified, verify};
pub use weights::Weights;
