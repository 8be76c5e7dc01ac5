//! The model, and how and where it runs.

use super::CONTEXT;
use crate::checkpoint;
use crate::encoder::{Facts, Model};
use crate::error::{Error, Result};
use crate::io::spill::Spill;
use crate::io::threads;
use crate::run::units::size;
use crate::stream::{Strand, Windows};
use serde::Serialize;
use std::error::Error as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// `auto`, `cpu`, `cuda`, `cuda:N[,N…]` or `cuda:all`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The first GPU, if there is one that the model can run on.
    Auto,
    /// The processor.
    Cpu,
    /// The GPUs of these numbers, of which there is one at least.
    Cuda(Vec<usize>),
    /// All GPUs of this machine.
    AllGpus,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = match text {
            "auto" => return Ok(Self::Auto),
            "cpu" => return Ok(Self::Cpu),
            "cuda:all" => return Ok(Self::AllGpus),
            "cuda" => "0",
            _ => text
                .strip_prefix("cuda:")
                .ok_or("expected auto, cpu, cuda, cuda:N, several as cuda:0,1, or cuda:all")?,
        };
        let numbers: Result<Vec<usize>, _> = numbers.split(',').map(str::parse).collect();
        let numbers = numbers.map_err(|_| "expected numbers of GPUs, from 0, as in cuda:0,1")?;
        if let Some(twice) = (1..numbers.len()).find(|&i| numbers[..i].contains(&numbers[i])) {
            return Err(format!("GPU {} is named twice", numbers[twice]));
        }
        Ok(Self::Cuda(numbers))
    }
}

/// The numbers that matrix products multiply; they sum in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
pub enum Precision {
    /// Single precision: the reference.
    F32,
    /// bfloat16, 8 bits: several times faster on a GPU; on a processor with AVX-512 BF16 too.
    Bf16,
}

/// How many work.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct Workers {
    /// Worker threads [default: all processors that the process may use]. Changes no number.
    #[arg(short, long, visible_short_alias = '@', value_name = "N", help_heading = "Run",
          env = "CROCUTA_THREADS", hide_env_values = true,
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl Workers {
    /// Works with so many threads from now on, or with as many as there are processors.
    ///
    /// # Errors
    /// Memory: they cannot be started; Usage: others were started before.
    pub fn start(self) -> Result<()> {
        let threads = self.threads;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.map_or(0, usize::from));
        match pool.build_global() {
            // Without a cause there is a pool already.
            Err(e) if e.source().is_some() => Err(threads::none(e)),
            Err(e) if threads.is_some() => Err(Error::usage(format!("--threads: {e}"))),
            _ => Ok(()),
        }
    }
}

/// The model and how it runs.
#[derive(clap::Args, Clone, Debug, Serialize)]
pub struct Compute {
    /// The model: a bundled one by its name, a directory with config.json and model.safetensors,
    /// or hf:owner/name[@revision] out of Hugging Face's cache [default: the bundled one that the
    /// --adapter was trained on; or crocuta-bacteria, and for genes crocuta-bacteria-genes].
    #[arg(
        short,
        long,
        value_name = "MODEL",
        env = "CROCUTA_MODEL",
        hide_env_values = true
    )]
    #[serde(skip)]
    pub model: Option<PathBuf>,
    /// Apply an adapter to the model: a directory in PEFT's layout, as `crocuta fit --lora` makes
    /// them. Repeatable: several add up, and each brings its heads.
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    #[serde(skip)]
    pub adapter: Vec<PathBuf>,
    /// Bases that the model reads at a time. Changes speed and memory, not the numbers [default:
    /// 8192, or 32768 for HyenaDNA with filters of 65,536 taps or more; on a GPU, as many as fit].
    #[arg(long, value_name = "BASES", help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(1..=1 << 26))]
    #[serde(skip)]
    pub chunk: Option<u32>,
    /// Strands to read; - rows have their context on the right.
    #[arg(long, value_enum, default_value = "forward")]
    pub strand: Strand,
    /// Read windows of so many bases, each with an empty state, instead of carrying it.
    /// Bidirectional models and published Transformers always do [default for them: the trained
    /// length, or 65,536 if the model's files do not state it].
    #[arg(long, value_name = "BASES", help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(2..=1 << 26))]
    pub window: Option<u32>,
    /// Bases that neighbouring windows share; rows come from the centre of a window, or from its
    /// end if the model is causal [default: half a window].
    #[arg(long, value_name = "BASES", help_heading = "Run")]
    pub overlap: Option<u32>,
    /// For bidirectional models: run each sequence whole, however long it is, layer by layer over
    /// scratch files, instead of windows. The forward strand only.
    #[arg(long, conflicts_with_all = ["window", "overlap", "resume", "time_limit"],
          help_heading = "Run")]
    pub exact: bool,
    /// Let attention look back only so many bases, which bounds its memory [default: all].
    #[arg(long, value_name = "BASES", help_heading = "Run",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub attention_window: Option<u32>,
    /// Where to compute: auto, cpu, cuda, cuda:N, several GPUs as cuda:0,1 or cuda:all. Each
    /// of them takes whole strands of contigs, windows or reads: one strand of one long contig gains
    /// nothing. CUDA's libraries are opened at run time.
    #[arg(long, default_value = "auto", help_heading = "Run")]
    #[serde(skip)]
    pub device: Target,
    /// What matrix products multiply; they sum in f32.
    #[arg(long, value_enum, default_value = "f32", help_heading = "Run")]
    pub precision: Precision,
    /// The GPU's memory that values may take, such as 20G [default: what is free]. Less of it means
    /// shorter steps, or filter spectra that are computed at each use.
    #[arg(long, value_name = "SIZE", value_parser = size, help_heading = "Run")]
    #[serde(skip)]
    pub device_memory: Option<u64>,
    #[command(flatten)]
    #[serde(skip)]
    pub workers: Workers,
    /// Directory for scratch files, which strands other than forward, whole sequences of
    /// bidirectional models and several GPUs need [default: $TMPDIR, or the output's].
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    #[serde(skip)]
    pub scratch: Option<PathBuf>,
}

impl Compute {
    /// The files of the model and the adapters.
    ///
    /// # Errors
    /// Usage: not the name of a model; Io.
    pub fn files(&self) -> Result<Vec<PathBuf>> {
        let mut files = Vec::new();
        for path in self.model.iter().chain(&self.adapter) {
            files.extend(checkpoint::files(path)?);
        }
        Ok(files)
    }

    /// Bytes of scratch files for a base of a sequence; 0 without --exact. A usage error if
    /// --exact does not fit the model or the strand.
    pub fn exact_bytes(&self, model: &Model) -> Result<u64> {
        match (self.exact, model.layered(), self.strand) {
            (false, ..) => Ok(0),
            (true, Some(model), Strand::Forward) => {
                let values = model.stored() * size_of::<f32>();
                Ok(values as u64 + 1) // and the base itself
            }
            (true, Some(_), _) => Err(Error::usage("--exact reads the forward strand only")),
            (true, None, _) if model.pretrained().is_some() => Err(Error::usage(
                "--exact is not for published Transformers, which read windows alone",
            )),
            (true, None, _) => Err(Error::usage(
                "--exact is for bidirectional models; causal ones are exact without it",
            )),
        }
    }

    /// The windows to read, if any, and what a user should know of them.
    ///
    /// # Errors
    /// Usage: an overlap that does not fit.
    pub fn windows(&self, facts: &Facts) -> Result<(Option<Windows>, Vec<String>)> {
        let mut notes = Vec::new();
        if self.exact {
            return Ok((None, notes));
        }
        if facts.pretrained && self.chunk.is_some() {
            let error = Error::usage("--chunk is for models that carry a state from step to step");
            return Err(error.todo("a published Transformer reads windows: give --window"));
        }
        let size = match (self.window, facts.streams(), facts.context) {
            (Some(size), ..) => size as usize,
            (None, true, _) if self.overlap.is_some() => {
                return Err(Error::usage("--overlap needs --window"));
            }
            (None, true, _) => return Ok((None, notes)),
            (None, false, Some(trained)) => trained,
            (None, false, None) => {
                notes.push(format!(
                    "the model's files do not state its trained length: it reads windows of \
                     {CONTEXT} bases (--window)"
                ));
                CONTEXT
            }
        };
        // Tokens of several bases stand at the same places in all windows.
        let half = size / 2 / facts.token_step * facts.token_step;
        let overlap = self.overlap.map_or(half, |overlap| overlap as usize);
        if overlap >= size {
            return Err(Error::usage("--overlap must be less than --window"));
        }
        let windows = Windows {
            size,
            overlap,
            centred: !facts.causal,
        };
        Ok((Some(windows), notes))
    }

    /// Where scratch files lie.
    pub fn scratch(&self, output: &Path) -> PathBuf {
        Spill::directory(self.scratch.as_deref(), output)
    }
}
