//! Options of `fit`.

use crate::run::options::{Precision, Target, Workers};
use crate::run::units::{duration, size};
use crate::train::Select;
use std::path::PathBuf;
use std::time::Duration;

/// What is learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Task {
    /// Each base from those before it.
    NextBase,
    /// The labels of a table of sequences.
    Sequences,
    /// Classes or values of each base.
    Tracks,
    /// Genes of prokaryotes: from CDS the strand and the codon position of each base, and where
    /// genes start and stop, for `crocuta predict --genes`.
    Genes,
}

/// Which strands are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Strands {
    /// Either strand of each passage, at random.
    Both,
    /// The sequences as they are.
    Forward,
}

/// How a head computes its numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum HeadShape {
    /// A linear layer on each vector.
    Linear,
    /// Two layers on each vector.
    Mlp,
    /// Attention to the vectors nearby, then a linear layer: of bases.
    LocalAttention,
    /// Attention to the vectors nearby, then learned queries that bring a sequence's vectors together
    /// by what they say and where they stand, then two layers: of sequences.
    Attention,
}

/// What classes count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClassWeights {
    /// Alike.
    Balanced,
    /// By their bases.
    None,
}

/// What training starts from.
#[derive(clap::Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub struct Start {
    /// Go on with this model: a bundled one by its name, or a directory with config.json and
    /// model.safetensors.
    #[arg(short, long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Random weights of a published configuration: see `crocuta models list`.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Random weights of your own config.json.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// What is learned from, and what is held out.
#[derive(clap::Args, Clone, Debug)]
pub struct Split {
    /// Hold out this region, as in samtools: chr, chr:beg-end, 1-based, end included. Repeatable.
    /// Nothing else is held out, and nothing of it is trained on.
    #[arg(long, value_name = "REGION", help_heading = "Task")]
    pub validate: Vec<String>,
    /// Hold out the regions of this BED file.
    #[arg(long, value_name = "BED", help_heading = "Task")]
    pub validate_file: Option<PathBuf>,
    /// Hold out this region too, and measure the result on it, once. Repeatable. It chooses nothing.
    #[arg(long, value_name = "REGION", help_heading = "Task")]
    pub test: Vec<String>,
    /// The same for the regions of this BED file.
    #[arg(long, value_name = "BED", help_heading = "Task")]
    pub test_file: Option<PathBuf>,
    /// Replace this fraction of the bases that are read by random ones; those to be predicted stay
    /// true. For genomes so small that the model would learn them by heart.
    #[arg(
        long,
        value_name = "FRACTION",
        default_value_t = 0.0,
        help_heading = "Task"
    )]
    pub corrupt: f64,
    /// Strands to train on [default: both for next-base and genes, else forward].
    #[arg(long, value_enum, help_heading = "Task")]
    pub strand: Option<Strands>,
    /// A table of sequences and labels to train on: CSV, TSV or Parquet whose columns
    /// "sequence" and "label" are read.
    #[arg(long, value_name = "TABLE", help_heading = "Task")]
    pub table: Option<PathBuf>,
    /// A table of held-out sequences, which choose the step. What equals one of them on either
    /// strand is not trained on.
    #[arg(long, value_name = "TABLE", help_heading = "Task", requires = "table")]
    pub validate_table: Option<PathBuf>,
    /// A table of sequences to measure the result on, once. What equals one of them is not trained
    /// on.
    #[arg(long, value_name = "TABLE", help_heading = "Task", requires = "table")]
    pub test_table: Option<PathBuf>,
    /// Labels are values, not classes.
    #[arg(long, help_heading = "Task", requires = "table")]
    pub values: bool,
    /// What is known of each base, for --objective tracks and genes: GFF3 or GTF, whose types of features are
    /// classes; BED, whose names are; bedGraph or bigWig, which have values. Repeatable.
    #[arg(long, value_name = "FILE", help_heading = "Task")]
    pub labels: Vec<PathBuf>,
    /// Of GFF3 and GTF, only features of this type. Repeatable.
    #[arg(long, value_name = "TYPE", help_heading = "Task", requires = "labels")]
    pub feature: Vec<String>,
    /// How the classes of a base, or of a sequence, are computed from the encoder's hidden vectors; of
    /// a sequence linear and mlp read their mean.
    #[arg(long, value_enum, default_value = "linear", help_heading = "Task")]
    pub head_shape: HeadShape,
    /// Bases to either side that heads with attention look at.
    #[arg(long, value_name = "BASES", default_value_t = 16, help_heading = "Task",
          value_parser = clap::value_parser!(u16).range(0..=4096))]
    pub head_window: u16,
    /// Numbers between the two layers of mlp and attention.
    #[arg(long, value_name = "N", default_value_t = 64, help_heading = "Task",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub head_width: u16,
    /// Leave this part of what goes into the first of the two layers of mlp and attention out of a
    /// step, other ones in each [default: of attention 0.5, else 0].
    #[arg(long, value_name = "FRACTION", help_heading = "Task")]
    pub head_dropout: Option<f64>,
    /// What decides, on held-out sequences, which weights are kept [default: mcc, of values loss].
    #[arg(long, value_enum, help_heading = "Task", requires = "table")]
    pub select: Option<Select>,
    /// The head reads the hidden vectors of both strands at each base, and so its context to both
    /// sides.
    #[arg(long, help_heading = "Task", requires = "labels")]
    pub both_strands: bool,
    /// What rare classes count: balanced, as much as frequent ones; none, each base alike, which
    /// leaves probabilities what they are.
    #[arg(
        long,
        value_enum,
        default_value = "none",
        help_heading = "Task",
        requires = "labels"
    )]
    pub class_weights: ClassWeights,
    /// Train low-rank adapters of this rank, and the task's head, instead of all weights. Writes
    /// the adapter alone, in PEFT's files: `crocuta models merge` makes a model of it.
    #[arg(long, value_name = "RANK", help_heading = "Task",
          value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub lora: Option<u16>,
    /// Adapters count this much, over their rank [default: twice the rank].
    #[arg(long, value_name = "ALPHA", help_heading = "Task", requires = "lora")]
    pub lora_alpha: Option<f64>,
    /// Leave this part of the inputs of each adapter out of a step, other ones in each: against
    /// learning few sequences by heart.
    #[arg(
        long,
        value_name = "FRACTION",
        default_value_t = 0.0,
        help_heading = "Task",
        requires = "lora"
    )]
    pub lora_dropout: f64,
    /// Divide the logits by the temperature that fits held-out data best, so that probabilities are
    /// what they say; of classes of sequences, and of next-base.
    #[arg(long, help_heading = "Task")]
    pub calibrate: bool,
    /// Train the task's head alone.
    #[arg(long, help_heading = "Task", conflicts_with = "lora")]
    pub head_only: bool,
}

/// The steps.
#[derive(clap::Args, Clone, Debug)]
pub struct Schedules {
    /// Bases of a passage: over so many the model carries its state [default: the model's
    /// context].
    #[arg(long, value_name = "BASES", help_heading = "Steps",
          value_parser = clap::value_parser!(u64).range(2..=1 << 40))]
    pub length: Option<u64>,
    /// Bases that a lane reads in a step: over so many gradients flow.
    #[arg(long, value_name = "BASES", default_value_t = 2048, help_heading = "Steps",
          value_parser = clap::value_parser!(u64).range(1..=1 << 26))]
    pub chunk: u64,
    /// Passages read side by side, or sequences of a table in a step [default: 8 passages, 64
    /// sequences].
    #[arg(long, value_name = "N", help_heading = "Steps",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub batch: Option<u16>,
    /// Compute a step in so many parts, one after the other: less memory, the same step. With
    /// several GPUs there is one for each at least.
    #[arg(long, value_name = "PARTS", default_value_t = 1, help_heading = "Steps",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub accumulate: u16,
    /// Times that all bases or sequences are read [default: 1].
    #[arg(long, value_name = "N", help_heading = "Steps")]
    pub epochs: Option<f64>,
    /// Steps of the optimiser, instead of --epochs.
    #[arg(long, value_name = "N", help_heading = "Steps", conflicts_with = "epochs",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub steps: Option<u64>,
    /// The highest learning rate [default: 1e-3, where a model is adapted 5e-4].
    #[arg(long, value_name = "RATE", help_heading = "Steps")]
    pub learning_rate: Option<f64>,
    /// Steps in which the learning rate rises [default: a twentieth of them, 1000 at most].
    #[arg(long, value_name = "STEPS", help_heading = "Steps")]
    pub warm_up: Option<u64>,
    /// The last learning rate, as a fraction of the highest.
    #[arg(
        long,
        value_name = "FRACTION",
        default_value_t = 0.1,
        help_heading = "Steps"
    )]
    pub last_rate: f64,
    /// Weight decay of the matrices; norms, biases and filters have none.
    #[arg(
        long,
        value_name = "DECAY",
        default_value_t = 0.1,
        help_heading = "Steps"
    )]
    pub weight_decay: f64,
    /// Shorten gradients to this length.
    #[arg(
        long,
        value_name = "LENGTH",
        default_value_t = 1.0,
        help_heading = "Steps"
    )]
    pub clip: f64,
    /// Equal seeds give equal weights.
    #[arg(long, default_value_t = 0, help_heading = "Steps")]
    pub seed: u64,
    /// Steps between evaluations on what is held out [default: a twentieth of them, or more where
    /// evaluations would take above a fifth of the time].
    #[arg(long, value_name = "STEPS", help_heading = "Steps",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub evaluate_every: Option<u64>,
    /// Stop after so many evaluations in a row without a better one.
    #[arg(long, value_name = "N", help_heading = "Steps",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub patience: Option<u64>,
    /// Where to compute: auto, cpu, cuda, cuda:N, or several GPUs, as cuda:0,1 or cuda:all: each
    /// has a part of each step. CUDA's libraries are opened at run time.
    #[arg(long, default_value = "auto", help_heading = "Run")]
    pub device: Target,
    /// What matrix products multiply; they sum in f32.
    #[arg(long, value_enum, default_value = "f32", help_heading = "Run")]
    pub precision: Precision,
    #[command(flatten)]
    pub workers: Workers,
}

/// What is written.
#[derive(clap::Args, Clone, Debug)]
pub struct Output {
    /// The directory to make: weights, configuration, model card, metrics.json and loss.svg [default
    /// where a model is adapted: genome-model, by the names of the first FASTA file and the model].
    #[arg(short, long, value_name = "DIR", help_heading = "Output")]
    pub output: Option<PathBuf>,
    /// Replace what an earlier run of crocuta fit has made there, once this one is complete.
    #[arg(long, help_heading = "Output")]
    pub force: bool,
    /// Go on where an earlier run of the same command was stopped: the weights will be those of a
    /// run that was not.
    #[arg(long, help_heading = "Output")]
    pub resume: bool,
    /// Seconds between checkpoints.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 300,
        help_heading = "Output"
    )]
    pub checkpoint_every: u64,
    /// End after so much time, such as 3h50m, 90s or 3:50:00, with a checkpoint and exit code 143:
    /// the same command with --resume goes on from there.
    #[arg(long, value_name = "TIME", value_parser = duration, help_heading = "Output")]
    pub time_limit: Option<Duration>,
    /// The licence of the weights, for the model card: an SPDX identifier such as mit.
    #[arg(long, value_name = "ID", help_heading = "Output")]
    pub license: Option<String>,
    /// Refuse to make weights of more bytes than this, such as 60G.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "4G", help_heading = "Output")]
    pub max_size: u64,
}
