//! `models`: list, show, make, verify, convert.

use super::options::readable;
use super::process::print;
use crate::checkpoint::{self, Checkpoint, Config};
use crate::encoder::Model;
use crate::error::{Error, Result};
use std::path::PathBuf;

/// Commands on models.
#[derive(clap::Subcommand, Clone, Debug)]
#[command(
    after_help = "Example:\n  crocuta models new --preset hyenadna-small-32k --seed 1 -o model"
)]
pub enum Models {
    /// List the published configurations that crocuta knows.
    List,
    /// Show a model's architecture and sizes.
    Show {
        /// The model's directory.
        model: PathBuf,
    },
    /// Make a model with random weights in the published layout: for benchmarks and training.
    New {
        /// A published configuration: see `crocuta models list`.
        #[arg(long, conflicts_with = "config", required_unless_present = "config")]
        preset: Option<String>,
        /// Your own config.json.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Equal seeds give equal weights.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The directory to make.
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
        /// Refuse to write more than this many bytes.
        #[arg(long, value_name = "BYTES", default_value_t = 4 << 30)]
        max_size: u64,
    },
}

impl Models {
    /// Runs the command.
    pub fn run(&self) -> Result<()> {
        match self {
            Self::List => print(
                &checkpoint::presets()
                    .map(|name| format!("{name}\n"))
                    .collect::<String>(),
            ),
            Self::Show { model } => show(model),
            Self::New {
                preset,
                config,
                seed,
                output,
                max_size,
            } => {
                let config = match (preset, config) {
                    (_, Some(path)) => Config::read(path)?,
                    (Some(name), None) => Config::new(name, checkpoint::preset(name)?),
                    (None, None) => return Err(Error::usage("give --preset or --config")),
                };
                let created = checkpoint::create(&config, *seed, output, *max_size)?;
                print(&format!(
                    "{}  {}\n",
                    created.digest,
                    output.join("model.safetensors").display()
                ))
            }
        }
    }
}

fn show(path: &std::path::Path) -> Result<()> {
    let checkpoint = Checkpoint::open(path)?;
    let (_, facts) = Model::load(&checkpoint)?;
    let unused = checkpoint.weights.unused();
    let unused = match unused.is_empty() {
        true => "none".to_string(),
        false => unused.join(", "),
    };
    print(&format!(
        "name: {}\narchitecture: {}\nsha256: {}\nvalues: {}\nlayers: {}\nwidth: {}\ncontext: {} bases\n\
         tokens: {}\ndefault layer: {}\nstate of a lane: {}\nkept besides weights and state: {}\n\
         matrix products: {:.2} MFLOP a base\ntensors not used by the encoder: {unused}\n",
        checkpoint.name,
        checkpoint.architecture,
        checkpoint.digest,
        checkpoint.weights.values(),
        facts.layers,
        facts.width,
        facts.context,
        facts.vocabulary.size,
        facts.layer,
        readable(facts.state_bytes as u64),
        readable(facts.kept_bytes as u64),
        facts.flops as f64 / 1e6,
    ))
}
