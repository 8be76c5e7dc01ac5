//! What the commands promise of their results.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../harness/mod.rs"]
mod harness;

mod adapt;
mod completions;
mod embed;
mod fit;
mod fit_again;
mod genes;
mod heads;
mod inputs;
mod intervals;
mod layers;
mod messages;
mod models;
mod params;
mod pilot;
mod predict;
mod published;
#[cfg(feature = "hub")]
mod pull;
mod readers;
mod reads;
mod score;
mod shards;
mod table;
