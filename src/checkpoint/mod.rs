//! Checkpoints: find, verify, open, convert. Yields weights by name; encoders never open files.

mod architecture;
mod bundled;
mod caduceus;
mod child;
mod config;
mod convert;
mod copies;
mod create;
mod derive;
mod digests;
mod hub;
mod int8;
mod layout;
mod open;
mod pickle;
mod presets;
mod published;
mod safetensors;
mod staging;
mod tied;
mod tokenizer;
mod torch;
mod verify;
mod weights;
mod words;

pub use architecture::{Architecture, Class};
pub use bundled::{DEFAULT, GENES, bundled};
pub use caduceus::CaduceusLayers;
pub use config::Config;
pub use convert::{convert, convert_as_child, convert_in_child};
pub use create::{Created, Weighed, create, untrained, weighed};
pub use derive::{Changes, read_tensors, write_directory, write_model};
pub use hub::Name;
#[cfg(feature = "hub")]
pub use hub::{Plan, plan};
pub use int8::int8;
pub use open::{Checkpoint, files};
pub use presets::{preset, presets};
pub use published::{Published, published};
pub use staging::{Staging, must_be_free};
pub use tied::{is_embedding, is_head, tied_key};
pub use tokenizer::{Letters, TOKENIZERS, Tokenizer};
pub use verify::{Verified, verify};
pub use weights::Weights;
pub use words::{Token, Words};
