//! `models`: list, show, make, verify, convert, compare, merge.

mod list;
mod pull;

use super::process::print;
use crate::adapter;
use crate::checkpoint::{self, Changes, Checkpoint, Config, Staging, Tokenizer};
use crate::distil::{self, Cheaper, Check, Compared};
use crate::encoder::{Facts, Layer, Model};
use crate::error::{Error, Kind, Result};
use crate::head::Task;
use crate::io::genome::{self, Genome};
use crate::io::source;
use crate::run::units::{readable, size};
use crate::run::{Workers, described};
use crate::stream;
use candle_core::DType;
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is applied to a model that is opened.
#[derive(clap::Args, Clone, Debug)]
pub struct Adapters {
    /// Apply an adapter to the model: a directory in PEFT's layout, as `crocuta fit --lora` makes
    /// them. Repeatable: several add up, and each brings its heads.
    #[arg(long, value_name = "DIR")]
    adapter: Vec<PathBuf>,
}

/// Commands on models.
#[derive(clap::Subcommand, Clone, Debug)]
#[command(
    after_help = "Example:\n  crocuta models new --preset hyenadna-small-32k --seed 1 -o model"
)]
pub enum Models {
    /// List the bundled models, which need no files, and the configurations that crocuta knows.
    #[command(after_help = "Examples:\n  crocuta models list\n  crocuta models list --published")]
    List {
        /// List published checkpoints instead, and how they come here.
        #[arg(long)]
        published: bool,
    },
    /// Show a model's architecture and sizes.
    #[command(after_help = "Example:\n  crocuta models show model")]
    Show {
        /// The model's directory.
        model: PathBuf,
        #[command(flatten)]
        adapters: Adapters,
    },
    /// Make a model with random weights in the published layout: for benchmarks and training.
    #[command(
        after_help = "Example:\n  crocuta models new --preset hyenadna-small-32k --seed 1 -o model"
    )]
    New {
        /// Random weights of a published configuration: see `crocuta models list`.
        #[arg(
            long,
            value_name = "NAME",
            conflicts_with = "config",
            required_unless_present = "config"
        )]
        preset: Option<String>,
        /// Random weights of your own config.json.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Equal seeds give equal weights.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The directory to make.
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
        /// Refuse to make weights of more bytes than this, such as 60G.
        #[arg(long, value_name = "SIZE", value_parser = size, default_value = "4G")]
        max_size: u64,
    },
    /// Bring a published model from Hugging Face's hub into its cache, where -m hf:owner/name finds
    /// it. It goes on where it was cut off. HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE and
    /// proxies are honoured. Nothing else in crocuta opens a connection.
    #[command(
        after_help = "Examples:\n  crocuta models pull LongSafari/hyenadna-small-32k-seqlen-hf\n  \
crocuta models pull kuleshov-group/PlantCaduceus_l24 --convert\n  \
crocuta models list --published"
    )]
    Pull(pull::Pull),
    /// Check a model's files: complete, undamaged, finite numbers, and the digests in SHA256SUMS if
    /// that lies beside them, as at the start of every run. Prints their digests.
    #[command(after_help = "Examples:\n  crocuta models verify model\n  \
crocuta models verify model --digests published.sha256")]
    Verify {
        /// The model's directory.
        model: PathBuf,
        /// What the digests must be: lines as this command and sha256sum print them.
        #[arg(long, value_name = "FILE")]
        digests: Option<PathBuf>,
    },
    /// Convert a PyTorch checkpoint (.ckpt, .pt, .pth, .bin) to safetensors, a HyenaDNA model to
    /// one with a small state (--distil), a Transformer's attention to a cheaper one (--attention),
    /// or a model's matrices to fewer bytes (--dtype).
    #[command(
        after_help = "Examples:\n  crocuta models convert weights.ckpt -o model\n  \
crocuta models convert hyenadna-small-32k --distil 16 --check genome.fa -o small\n  \
crocuta models convert transformer --attention sliding:512 --check genome.fa -o sliding\n  \
crocuta models convert trained --dtype int8 -o model"
    )]
    Convert {
        /// The checkpoint: it is read by a child process with limits, and nothing in it is run.
        /// With --distil, --attention or --dtype, the model's directory.
        file: PathBuf,
        /// The directory to make.
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
        /// The model's config.json, if it does not lie beside the checkpoint.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Replace each filter by this many exponentials: constant state, but an approximation.
        /// Prints its errors, and stores them in distillation.json.
        #[arg(
            long,
            value_name = "MODES",
            conflicts_with = "config",
            group = "approximation"
        )]
        distil: Option<usize>,
        /// Put a cheaper attention into a crocuta-transformer, with the same weights: sliding[:W], the
        /// W last tokens [256]; performer[:F], F random features [256]; nystrom[:M], M landmarks of
        /// a bidirectional one [64]. Prints its errors, and stores them in attention.json.
        #[arg(
            long,
            value_name = "KIND",
            conflicts_with = "config",
            group = "approximation"
        )]
        attention: Option<Cheaper>,
        /// FASTA on whose first 262,144 bases the two models are compared; else random bases.
        #[arg(long, value_name = "FASTA", requires = "approximation")]
        check: Option<PathBuf>,
        /// Store the matrices as this type; all else keeps its own.
        #[arg(long, value_enum, conflicts_with_all = ["config", "approximation"])]
        dtype: Option<Stored>,
    },
    /// Compare a model with one that stands for it: converted, or trained again. Prints the error of
    /// its hidden vectors and, if both read in one direction, the bits a base of each.
    #[command(
        after_help = "Example:\n  crocuta models compare model sliding --adapter lora \
--check genome.fa"
    )]
    Compare {
        /// The original's directory.
        original: PathBuf,
        /// The other's.
        model: PathBuf,
        #[command(flatten)]
        adapters: Adapters,
        /// FASTA on whose first 262,144 bases the two models are compared; else random bases.
        #[arg(long, value_name = "FASTA")]
        check: Option<PathBuf>,
    },
    /// Make a model of a base model and a LoRA adapter: PEFT's, or one of `crocuta fit --lora`.
    #[command(after_help = "Example:\n  crocuta models merge model adapter -o merged")]
    Merge {
        /// The base model's directory.
        model: PathBuf,
        /// The adapter's: adapter_config.json and adapter_model.safetensors.
        adapter: PathBuf,
        /// The directory to make.
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
    },
    /// The child process of `convert`.
    #[command(hide = true)]
    ConvertChild {
        /// The checkpoint.
        file: PathBuf,
        /// The directory to make.
        output: PathBuf,
        /// The model's config.json.
        config: PathBuf,
    },
}

/// How matrices are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stored {
    /// 4 bytes a value.
    F32,
    /// 2 bytes a value, 11 bits of it significant, up to 65,504.
    F16,
    /// 2 bytes a value, 8 bits of it significant.
    Bf16,
    /// 1 byte a value, and a scale for each row; rows of less than 64 values as f16.
    Int8,
}

impl Models {
    /// Runs the command.
    pub fn run(&self, progress: stream::Style) -> Result<()> {
        // What computes: an error if no thread can be started.
        if let Self::Show { .. } | Self::Verify { .. } | Self::Convert { .. } | Self::Merge { .. } =
            self
        {
            Workers::default().start()?;
        }
        match self {
            Self::Pull(pull) => pull.run(progress),
            Self::List { published: true } => print(&list::published()),
            Self::List { published: false } => print(&list::known()?),
            Self::Show { model, adapters } => show(model, &adapters.adapter),
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
                // What no command would open is not made.
                Model::describe(&config, &Tokenizer::default())
                    .map_err(|error| error.file(output.display()))?;
                let created = checkpoint::create(&config, *seed, output, *max_size)?;
                print(&format!(
                    "{}  {}\n",
                    created.digest,
                    output.join("model.safetensors").display()
                ))
            }
            Self::Verify { model, digests } => verify(model, digests.as_deref()),
            Self::Convert {
                file,
                output,
                distil: Some(modes),
                check,
                ..
            } => distilled(file, *modes, check.as_deref(), output),
            Self::Convert {
                file,
                output,
                attention: Some(attention),
                check,
                ..
            } => with_attention(file, *attention, check.as_deref(), output),
            Self::Convert {
                file,
                output,
                dtype: Some(dtype),
                ..
            } => stored_as(file, *dtype, output),
            Self::Convert {
                file,
                output,
                config,
                ..
            } => {
                let config = config.as_deref();
                let digest = checkpoint::convert_in_child(child()?, file, output, config)?;
                print(&format!(
                    "{digest}  {}\n",
                    output.join("model.safetensors").display()
                ))
            }
            Self::Compare {
                original,
                model,
                adapters,
                check,
            } => compared([original, model], &adapters.adapter, check.as_deref()),
            Self::Merge {
                model,
                adapter,
                output,
            } => merge(model, adapter, output),
            Self::ConvertChild {
                file,
                output,
                config,
            } => checkpoint::convert_as_child(file, output, config),
        }
    }
}

/// The child process that converts, without its arguments.
fn child() -> Result<Command> {
    let own = std::env::current_exe().map_err(|e| Error::io(Path::new("crocuta"), &e))?;
    let mut child = Command::new(own);
    child.args(["--quiet", "models", "convert-child"]);
    Ok(child)
}

fn verify(path: &Path, digests: Option<&Path>) -> Result<()> {
    let verified = checkpoint::verify(path, digests)?;
    // The configuration must describe the tensors: building the encoder asks for each by shape.
    let checkpoint = Checkpoint::open(path)?;
    Model::load(&checkpoint)?;
    let unused = checkpoint.unused();
    if !unused.is_empty() {
        return Err(Error::model(format!(
            "{} tensors are not used by the encoder: {}",
            unused.len(),
            unused[..unused.len().min(10)].join(", ")
        ))
        .file(path.display())
        .todo("is config.json of another model?"));
    }
    let mut lines = String::new();
    for (file, digest) in &verified.files {
        lines.push_str(&format!("{digest}  {}\n", crate::error::printable(file)));
    }
    print(&lines)?;
    tracing::info!(
        "{} tensors, {} parameters",
        verified.tensors,
        verified.values
    );
    Ok(())
}

fn merge(model: &Path, adapter: &Path, output: &Path) -> Result<()> {
    let base = Checkpoint::open(model)?;
    let staging = Staging::begin(output)?;
    let merged = adapter::with_adapters(base, &[adapter.to_path_buf()])?;
    let digest = checkpoint::write_model(staging, &merged, Changes::default(), is_a_model)?;
    let path = output.join("model.safetensors");
    print(&format!("{digest}  {}\n", path.display()))
}

/// What was written must be a model.
fn is_a_model(directory: &Path) -> Result<()> {
    Model::load(&Checkpoint::open(directory)?).map(drop)
}

/// The same model, its matrices stored as `dtype`, with its card.
fn stored_as(model: &Path, dtype: Stored, output: &Path) -> Result<()> {
    let source = Checkpoint::open(model)?;
    let (float, name) = match dtype {
        Stored::F32 => (DType::F32, "float32"),
        Stored::F16 | Stored::Int8 => (DType::F16, "float16"),
        Stored::Bf16 => (DType::BF16, "bfloat16"),
    };
    let int8 = dtype == Stored::Int8;
    let staging = Staging::begin(output)?;
    let matrices = source.weights.stored().iter().filter(|(name, tensor)| {
        let matrix = name.ends_with(".weight") && tensor.rank() == 2;
        let filter = int8 && name.ends_with(".filter.h");
        (matrix || filter) && tensor.dtype().is_float()
    });
    let mut tensors = BTreeMap::new();
    for (name, tensor) in matrices {
        if int8 {
            tensors.extend(checkpoint::int8(name, tensor)?);
        } else {
            tensors.insert(name.clone(), tensor.to_dtype(float)?);
        }
    }
    let mut config = Map::new();
    if source.config.has("torch_dtype") {
        config.insert("torch_dtype".into(), json!(name));
    }
    let mut files = Vec::new();
    for name in ["README.md", "metrics.json", "loss.svg"] {
        let path = source.dir.join(name);
        if source::is_file(&path)? {
            let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, &e))?;
            files.push((name, text));
        }
    }
    let changes = Changes {
        config,
        tensors,
        files,
    };
    let digest = checkpoint::write_model(staging, &source, changes, is_a_model).map_err(
        |error| match error.kind() {
            Kind::Model => error.todo(format!(
                "is it more than {name} can hold? see models verify"
            )),
            _ => error,
        },
    )?;
    let path = output.join("model.safetensors");
    print(&format!("{digest}  {}\n", path.display()))
}

/// Bases that `--check` reads at most.
const CHECK_BASES: usize = 1 << 18;

fn distilled(model: &Path, modes: usize, check: Option<&Path>, output: &Path) -> Result<()> {
    let source = Checkpoint::open(model)?;
    let check = check.map(check_sequences).transpose()?;
    let (report, digest) = distil::distil(&source, modes, check, output)?;
    let path = output.join("model.safetensors");
    print(&format!("{report}{digest}  {}\n", path.display()))
}

fn with_attention(
    model: &Path,
    attention: Cheaper,
    check: Option<&Path>,
    output: &Path,
) -> Result<()> {
    let source = Checkpoint::open(model)?;
    let check = check.map(check_sequences).transpose()?;
    let (report, digest) = distil::cheaper_attention(&source, attention, check, output)?;
    let path = output.join("model.safetensors");
    print(&format!("{report}{digest}  {}\n", path.display()))
}

fn compared(models: [&Path; 2], adapters: &[PathBuf], check: Option<&Path>) -> Result<()> {
    let other = adapter::with_adapters(Checkpoint::open(models[1])?, adapters)?;
    let models = [Checkpoint::open(models[0])?, other];
    let models = [Compared::load(&models[0])?, Compared::load(&models[1])?];
    let models = [&models[0], &models[1]];
    let check = check.map(check_sequences).transpose()?;
    let check = check.unwrap_or_else(|| Check::random(distil::CHECK_BASES));
    let (output, bits) = distil::compare(models, &check.cut(distil::trained(models)))?;
    let mut lines = format!("{output}\n");
    if let Some([original, other]) = bits {
        lines.push_str(&format!("bits a base: {original:.4} and {other:.4}\n"));
    }
    print(&lines)
}

fn check_sequences(path: &Path) -> Result<Check> {
    let mut genome = Genome::open(path, genome::Options::default())?;
    let (mut sequences, mut left) = (Vec::new(), CHECK_BASES);
    while left > 0 && genome.next_sequence()?.is_some() {
        let mut codes = Vec::new();
        while codes.len() < left {
            let room = left - codes.len();
            if genome.read_bases(&mut codes, room)? == 0 {
                break;
            }
        }
        left -= codes.len();
        sequences.push(codes);
    }
    Ok(Check {
        name: path.display().to_string(),
        sequences,
    })
}

fn show(path: &Path, adapters: &[PathBuf]) -> Result<()> {
    let checkpoint = adapter::with_adapters(Checkpoint::open(path)?, adapters)?;
    let (model, facts) = Model::load(&checkpoint)?;
    let tokens = match model.pretrained() {
        Some(model) => {
            let words = model.words();
            let tokens = model.embedding().dim(0)?;
            format!("{tokens}, of up to {} bases", words.longest())
        }
        None => facts.vocabulary.size.to_string(),
    };
    let unused = checkpoint.weights.unused();
    let unused = if unused.is_empty() {
        "none".to_string()
    } else {
        unused.join(", ")
    };
    let mut note = String::new();
    if facts.token_bytes > 0 {
        let growth = readable(facts.token_bytes as u64);
        note.push_str(&format!(
            "state grows by: {growth} a base (see --attention-window)\n"
        ));
    }
    if let Some(text) = &facts.note {
        note.push_str(&format!("note: {text}\n"));
    }
    print(&format!(
        "name: {}\narchitecture: {}\nsha256: {}\nparameters: {}\nlayers: {}\nwidth: {}\ncontext: {}\n\
         tokens: {tokens}\nstate of a lane: {}\nkept besides weights and state: {}\n\
         matrix products: {:.2} MFLOP a base\ntensors not used by the encoder: {unused}\n{note}{}",
        checkpoint.name,
        checkpoint.architecture,
        checkpoint.digest.get(),
        checkpoint.weights.parameters(facts.fixed),
        facts.layers,
        facts.width,
        facts
            .context
            .map_or("not stated".to_string(), |n| format!("{n} bases")),
        readable(facts.state_bytes as u64),
        readable(facts.kept_bytes as u64),
        facts.flops as f64 / 1e6,
        layers(&facts) + &heads(&checkpoint)?,
    ))
}

/// The heads that `--head` takes: what each describes, and its classes or values.
fn heads(checkpoint: &Checkpoint) -> Result<String> {
    let own = Task::list(&checkpoint.config)?;
    let mut lines = String::new();
    if !own.is_empty() {
        lines.push_str("heads for --head: name, what it describes, classes or values\n");
    }
    for task in own {
        lines.push_str(&format!("  {}\n", described(&task)));
    }
    Ok(lines)
}

/// The layers that `--layer` takes: name, number of the residual stream, width.
fn layers(facts: &Facts) -> String {
    let mut lines = "layers for --layer: name, number, width\n".to_string();
    for layer in facts.all_layers() {
        let number = match layer {
            Layer::After(blocks) => blocks.to_string(),
            Layer::Within(..) | Layer::Norm | Layer::Bases => "-".to_string(),
        };
        let mut about = String::new();
        if layer == Layer::Norm {
            about.push_str("  default");
        }
        if let Some(advice) = facts
            .recommended
            .as_ref()
            .filter(|advice| advice.layer == layer)
        {
            about.push_str(&format!("  recommended: {}", advice.source));
        }
        let name = facts.layer_name(layer);
        lines.push_str(&format!("  {name}  {number}  {}{about}\n", facts.width));
    }
    lines
}
