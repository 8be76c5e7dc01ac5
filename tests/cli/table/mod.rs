//! Work on finished tables.

mod concat;
mod export;
mod join;
mod parts;
mod show;
mod summarise;
