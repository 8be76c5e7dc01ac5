//! What the options of `fit` ask for.

use super::options::{ClassWeights, HeadShape, Schedules, Split, Start, Task};
use crate::adapter::Scale;
use crate::checkpoint::{self, Checkpoint, Config};
use crate::error::{Error, Result};
use crate::head::Shape;
use crate::io::bed::{self, Record};
use crate::ops::Device;
use crate::run::device;
use crate::sequence::region::Query;
use crate::train::{Lesson, Reading, Select, Steps, Tracking, Trained};
use std::path::{Path, PathBuf};
use std::sync::Arc;

impl Start {
    /// The model, read or made.
    pub fn open(&self, seed: u64, max_size: u64) -> Result<Checkpoint> {
        let (config, dir) = match (&self.model, &self.preset, &self.config) {
            (Some(dir), ..) => return Checkpoint::open(dir),
            (_, Some(name), _) => (
                Config::new(name, checkpoint::preset(name)?),
                Path::new(name),
            ),
            (_, _, Some(path)) => (Config::read(path)?, path.parent().unwrap_or(Path::new(""))),
            _ => return Err(Error::usage("give --model, --preset or --config")),
        };
        checkpoint::untrained(config, seed, dir, max_size)
    }
}

impl Split {
    /// Whether a model is brought closer to a genome, with nothing named that is held out.
    pub fn adapts(&self, task: Task, start: &Start) -> bool {
        let files = [&self.validate_file, &self.test_file];
        let held_out = !self.validate.is_empty() || !self.test.is_empty();
        let held_out = held_out || files.iter().any(|file| file.is_some());
        task == Task::NextBase && start.model.is_some() && !held_out
    }

    /// The regions that choose the weights, and those that test them.
    pub fn queries(&self) -> Result<[Vec<Query>; 2]> {
        let read = |regions: &[String], file: &Option<PathBuf>| -> Result<Vec<Query>> {
            let queries = regions.iter().map(|text| Query::parse(text));
            let mut queries = queries.collect::<Result<Vec<_>>>()?;
            if let Some(path) = file {
                let file = Arc::from(path.display().to_string());
                let query =
                    |record: Record| Query::exact(record.region).of_line(&file, record.line);
                queries.extend(bed::read(path, false)?.warned().into_iter().map(query));
            }
            Ok(queries)
        };
        Ok([
            read(&self.validate, &self.validate_file)?,
            read(&self.test, &self.test_file)?,
        ])
    }

    /// The fraction of the bases that are read wrongly.
    fn corrupted(&self) -> Result<f64> {
        if (0.0..1.0).contains(&self.corrupt) {
            Ok(self.corrupt)
        } else {
            Err(Error::usage("--corrupt must be at least 0 and below 1"))
        }
    }

    /// How a head of bases computes.
    fn shape(&self) -> Result<Shape> {
        match self.head_shape {
            HeadShape::Linear => Ok(Shape::Linear),
            HeadShape::Mlp => Ok(Shape::Mlp {
                hidden: usize::from(self.head_width),
            }),
            HeadShape::LocalAttention => Ok(Shape::LocalAttention {
                heads: 4,
                window: usize::from(self.head_window),
            }),
            HeadShape::Attention => Err(Error::usage("--head-shape attention is for sequences")
                .todo("of bases give local-attention")),
        }
    }

    /// What is left out of a step of what goes into the head's layers.
    pub fn head_dropout(&self) -> Result<f64> {
        let usual = if self.head_shape == HeadShape::Attention {
            0.5
        } else {
            0.0
        };
        let dropout = self.head_dropout.unwrap_or(usual);
        if (0.0..1.0).contains(&dropout) {
            Ok(dropout)
        } else {
            let what = "--head-dropout must be at least 0 and below 1";
            Err(Error::usage(what))
        }
    }

    /// How a head of sequences reads them.
    fn reading(&self) -> Result<Reading> {
        let hidden = usize::from(self.head_width);
        match self.head_shape {
            HeadShape::Linear => Ok(Reading::Mean(None)),
            HeadShape::Mlp => Ok(Reading::Mean(Some(hidden))),
            HeadShape::Attention => Ok(Reading::Attention {
                window: usize::from(self.head_window),
                hidden,
            }),
            HeadShape::LocalAttention => {
                Err(Error::usage("--head-shape local-attention is for bases")
                    .todo("of sequences give attention"))
            }
        }
    }

    /// Which values change.
    pub fn trained(&self) -> Result<Trained> {
        let Some(rank) = self.lora else {
            return Ok(if self.head_only {
                Trained::Head
            } else {
                Trained::All
            });
        };
        let rank = usize::from(rank);
        let alpha = self.lora_alpha.unwrap_or(2.0 * rank as f64);
        if alpha > 0.0 && alpha <= 1e6 {
            let dropout = self.lora_dropout;
            if !(0.0..1.0).contains(&dropout) {
                let what = "--lora-dropout must be at least 0 and below 1";
                return Err(Error::usage(what));
            }
            let scale = Scale { rank, alpha };
            Ok(Trained::Adapter { scale, dropout })
        } else {
            Err(Error::usage(
                "--lora-alpha must be above 0 and at most 1000000",
            ))
        }
    }
}

impl Split {
    /// What is learned, and from which files.
    ///
    /// # Errors
    /// Usage: files or options of another objective.
    pub fn lesson(&self, task: Task, fasta: &[PathBuf]) -> Result<Lesson> {
        if self.corrupt != 0.0 && task != Task::NextBase {
            return Err(Error::usage("--corrupt is for --objective next-base"));
        }
        match task {
            Task::NextBase => self.next_base(fasta),
            Task::Sequences => self.sequences(fasta),
            Task::Tracks => self.tracks(fasta, false),
            Task::Genes if self.feature.is_empty() => self.tracks(fasta, true),
            Task::Genes => Err(Error::usage(
                "genes are learned from CDS, not from --feature",
            )),
        }
    }

    fn next_base(&self, fasta: &[PathBuf]) -> Result<Lesson> {
        if fasta.is_empty() || self.table.is_some() {
            let what = "next-base learns from FASTA files";
            return Err(Error::usage(what).todo("give them, or --objective sequences"));
        }
        if self.head_only {
            return Err(Error::usage("--head-only is for the heads of tasks"));
        }
        Ok(Lesson::NextBase {
            fasta: fasta.to_vec(),
            corrupt: self.corrupted()?,
        })
    }

    fn sequences(&self, fasta: &[PathBuf]) -> Result<Lesson> {
        let (Some(table), true) = (&self.table, fasta.is_empty()) else {
            let what = "sequences are learned from a table";
            return Err(Error::usage(what).todo("give --table, and no FASTA file"));
        };
        let regions = [&self.validate, &self.test];
        let files = [&self.validate_file, &self.test_file];
        if regions.iter().any(|all| !all.is_empty()) || files.iter().any(|file| file.is_some()) {
            let what = "--validate and --test, and their files, are for regions";
            return Err(Error::usage(what).todo("give --validate-table and --test-table"));
        }
        Ok(Lesson::Sequences {
            table: table.clone(),
            validate: self.validate_table.clone(),
            test: self.test_table.clone(),
            values: self.values,
            reading: self.reading()?,
            select: match (self.select, self.values) {
                (None, false) => Select::Mcc,
                (None | Some(Select::Loss), _) => Select::Loss,
                (Some(select), false) => select,
                (Some(_), true) => {
                    return Err(Error::usage("--select mcc and auroc are for classes"));
                }
            },
        })
    }

    fn tracks(&self, fasta: &[PathBuf], genes: bool) -> Result<Lesson> {
        if fasta.is_empty() || self.labels.is_empty() || self.table.is_some() {
            let what = "tracks are learned from FASTA files and labels of their bases";
            return Err(Error::usage(what).todo("give the files and --labels"));
        }
        Ok(Lesson::Tracks(Tracking {
            fasta: fasta.to_vec(),
            labels: self.labels.clone(),
            features: self.feature.clone(),
            genes,
            shape: self.shape()?,
            both_strands: self.both_strands,
            balanced: self.class_weights == ClassWeights::Balanced,
        }))
    }
}

impl Schedules {
    /// Opens the devices, if the work can be done there; with the first one in words and the
    /// precision.
    pub fn open(&self, without_gpu: Option<&'static str>) -> Result<(Vec<Device>, [String; 2])> {
        let opened = device::open_with_names(without_gpu, &self.device, self.precision)?;
        tracing::info!("on {}", device::describe(&opened.0).0);
        Ok(opened)
    }

    /// The steps, as they are asked for; what is not asked for, as adapting a model needs it, if that
    /// is what is done.
    pub fn steps(&self, adapts: bool) -> Steps {
        let usual = adapts.then(Steps::adapting);
        let usual = usual.as_ref();
        let free = self.epochs.is_none();
        Steps {
            length: self.length,
            chunk: self.chunk,
            batch: self
                .batch
                .map(usize::from)
                .or(usual.and_then(|usual| usual.batch)),
            parts: usize::from(self.accumulate),
            epochs: self
                .epochs
                .unwrap_or(usual.map_or(1.0, |usual| usual.epochs)),
            count: self.steps,
            most: usual.filter(|_| free).and_then(|usual| usual.most),
            peak: self
                .learning_rate
                .unwrap_or(usual.map_or(1e-3, |usual| usual.peak)),
            warm_up: self.warm_up,
            last: self.last_rate,
            decay: self.weight_decay,
            clip: self.clip,
            evaluate_every: self.evaluate_every,
            patience: self.patience.or(usual.and_then(|usual| usual.patience)),
        }
    }
}
