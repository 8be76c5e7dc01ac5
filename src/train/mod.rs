//! Training: one loop for every objective, exact to resume, the same bytes from the same seed.
//!
//! An [`Objective`] reads its data and gives a loss and its gradient; [`run`] knows nothing else
//! of it. What is held out is named by the user, in ranges of contigs or whole ones, and never
//! drawn at random: neighbouring bases are too alike.
//!
//! Memory: the genomes, one byte a base; five copies of the parameters (values, gradient, two
//! moments, best values); and the activations of one part of a step, whose size the chunk and the
//! lanes of the part decide, never the length of the input.

mod calibration;
mod card;
mod curve;
mod directory;
mod fit;
mod labelled;
mod labels;
mod metrics;
mod network;
mod next_base;
mod objective;
mod optimiser;
mod record;
mod run;
mod sampler;
mod saved;
mod sequences;
mod split;
mod tally;
#[cfg(test)]
mod tests;
mod tracks;

pub use directory::write;
pub use fit::{
    Estimate, Lesson, Material, Prepared, Request, Steps, Tracking, Written, adapt, prepare,
    prepare_with,
};
pub use labels::Labels;
pub use metrics::{Confusion, Ratio, auroc, average_precision, interval, ratio, spearman};
pub use network::{Network, Trained, Trainee};
pub use next_base::{Draws, NextBase, Sizes};
pub use objective::{Baseline, Evaluation, Loss, Objective, Select};
pub use optimiser::{AdamW, Schedule};
pub use record::RunRecord;
pub use run::{Outcome, Plan, Report, run};
pub use sampler::{EpochPlace, Lanes, Pieces, Sampler};
pub use saved::{Point, Saving};
pub use sequences::{Example, Reading, Sequences, examples, linear_start, task};
pub use split::{DataFile, Genomes, Passage};
pub use tracks::{TrackReading, Tracks};
