//! Work on finished tables.

mod concat;
mod export;
mod parts;
mod show;
