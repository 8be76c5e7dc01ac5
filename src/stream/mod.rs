//! The path that all data takes: source → steps → encoder → head → rows → table.
//!
//! There is one [`pipeline`]; [`genome`], [`reads`] and the variants of [`crate::score`] are its
//! clients. [`genome::run_exact`] alone goes another way, and says why.

mod coming;
mod engine;
mod finite;
pub mod genome;
mod journal;
mod output;
pub mod pipeline;
mod progress;
pub mod reads;
mod stop;

pub use coming::Aside;
pub use engine::{Engine, Windows};
pub use finite::check_finite;
pub use journal::{Journal, Mark, Position, RunIdentity, difference, load, store};
pub use output::TableOutput;
pub use progress::{Progress, Style};
pub use stop::{ask, go_on, interrupted, stop_after};

use crate::ops::Reduction;
use serde::{Deserialize, Serialize};

/// Which strands are read, and how they are brought together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
pub enum Strand {
    /// The sequence as it stands: context from the left.
    Forward,
    /// Its reverse complement: context from the right.
    Reverse,
    /// Two rows a position.
    Both,
    /// The mean of the two.
    Mean,
    /// Each of the --intervals along its own strand.
    Own,
    /// One row a position with the values of both: for heads that read both strands.
    #[value(skip)]
    Joined,
}

impl Strand {
    /// How often each base is read.
    pub fn passes(self) -> u64 {
        match self {
            Self::Forward | Self::Reverse => 1,
            Self::Both | Self::Mean | Self::Own | Self::Joined => 2,
        }
    }

    /// Rows of a position.
    pub fn rows(self) -> u64 {
        if self == Self::Both { 2 } else { 1 }
    }
}

/// How the vectors of several bases become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum Pool {
    /// The mean of each dimension.
    Mean,
    /// The largest value of each dimension.
    Max,
    /// The base read last.
    Last,
}

impl Pool {
    /// How rows of one step come together; a mean is divided when its bin ends.
    fn reduction(self) -> Reduction {
        match self {
            Self::Mean => Reduction::Sum,
            Self::Max => Reduction::Max,
            Self::Last => Reduction::Last,
        }
    }
}
