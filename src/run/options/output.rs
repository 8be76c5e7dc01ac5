//! What is written, and where.

use crate::io::compression::Compression;
use crate::run::units::{duration, size};
use crate::stream::Pool;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bins of bases.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Binning {
    /// One row for every BASES bases, at multiples of it.
    #[arg(long, value_name = "BASES", group = "pooled",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub bin: Option<u32>,
    /// How the bases of a bin, or of an interval, become one vector.
    #[arg(
        long,
        value_enum,
        default_value = "mean",
        requires = "pooled",
        help_heading = "Output"
    )]
    pub pool: Pool,
}

/// How tables are compressed.
#[derive(clap::Args, Clone, Copy, Debug, Serialize)]
pub struct Compressed {
    /// How columns are compressed: zstd, zstd:LEVEL (1 to 22), lz4 or none. Without a level that
    /// of vectors is 1, and that of other columns 3.
    #[arg(long, value_name = "METHOD", default_value_t, help_heading = "Output")]
    pub compression: Compression,
}

/// Where the table goes.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Output {
    /// The table to write, Parquet; - is stdout [default: stdout, or no table where another output
    /// than --summary is asked for].
    #[arg(short, long, value_name = "FILE")]
    #[serde(skip)]
    output: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub compressed: Compressed,
    /// Replace the output if it exists.
    #[arg(long, help_heading = "Output")]
    #[serde(skip)]
    pub force: bool,
    /// Refuse to start if the table may become larger, such as 500G.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Output")]
    #[serde(skip)]
    pub max_output: Option<u64>,
    /// Write counts, speed and memory of the run as JSON.
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    #[serde(skip)]
    pub summary: Option<PathBuf>,
    /// Say in the summary where the time went: reader, encoder by op, head, rows, writer.
    #[arg(long, requires = "summary", help_heading = "Output")]
    #[serde(skip)]
    pub profile: bool,
    /// Go on where an earlier run of the same command was stopped, on whatever machine; keeps
    /// checkpoints in a hidden directory beside the output until the run ends.
    #[arg(long, help_heading = "Output")]
    #[serde(skip)]
    pub resume: bool,
    /// Seconds between checkpoints.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 600,
        requires = "resume",
        help_heading = "Output"
    )]
    #[serde(skip)]
    pub checkpoint_every: u64,
    /// Keep the checkpoints of --resume in this directory, instead of beside the output: for
    /// workflows that remove what a failed job left, or give each attempt a directory of its own.
    /// Runs can share it; each finds its own, whatever its output is called.
    #[arg(long, value_name = "DIR", requires = "resume", help_heading = "Output")]
    #[serde(skip)]
    pub checkpoint_dir: Option<PathBuf>,
    /// End after so much time, such as 3h50m, 90s or 3:50:00, with a checkpoint and exit code 143:
    /// the same command with --resume goes on from there.
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "resume",
          help_heading = "Output")]
    #[serde(skip)]
    pub time_limit: Option<Duration>,
    /// Exit with code 6 if there were warnings about records.
    #[arg(long, help_heading = "Output")]
    #[serde(skip)]
    pub strict: bool,
}

impl Output {
    /// The table's path; stdout if none was given.
    pub fn path(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new("-"))
    }

    /// The table's path; none if none was given and `elsewhere` is written what was asked for.
    pub fn table(&self, elsewhere: bool) -> Option<&Path> {
        (self.output.is_some() || !elsewhere).then(|| self.path())
    }
}
