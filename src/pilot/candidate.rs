//! What is compared: models that are made from a configuration, or that stand in a directory.

use crate::checkpoint::{self, Architecture, Checkpoint, Config, Tokenizer};
use crate::encoder::{Facts, Model};
use crate::error::Result;
use crate::ops::long_conv_flops;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Bytes of weights that a candidate may have.
const LARGEST: u64 = 4 << 30;

/// The sizes of a candidate that is known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Of its blocks.
    pub width: usize,
    /// Blocks.
    pub layers: usize,
    /// Of its feed-forward layers, if it has any.
    pub inner: usize,
}

/// What the weights are before training.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// Random ones, of a size that was made to fit.
    Sized(Size),
    /// Random ones.
    Random,
    /// Those of a model's directory.
    Model(PathBuf),
}

/// A model that is compared with others.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name in the report.
    pub name: String,
    /// What it is in a few words.
    pub about: String,
    /// How it is made: its config.json.
    pub config: Config,
    /// Where a tokenizer may lie beside it.
    dir: PathBuf,
    /// What the weights are before training.
    pub start: Start,
    /// What is known of it besides its weights.
    pub facts: Facts,
    /// Values that training changes.
    pub parameters: u64,
}

impl Candidate {
    /// Random weights of a configuration; `dir` is where a tokenizer may lie.
    ///
    /// # Errors
    /// Model: no model can have this configuration.
    pub fn random(name: &str, about: &str, config: Config, dir: &Path) -> Result<Self> {
        let tokenizer = Tokenizer::read(dir, Architecture::of(&config)?)?;
        let facts = Model::describe(&config, &tokenizer)?;
        let parameters = checkpoint::weighed(&config, facts.fixed)?.parameters;
        Ok(Self {
            name: name.to_string(),
            about: about.to_string(),
            config,
            dir: dir.to_path_buf(),
            start: Start::Random,
            facts,
            parameters,
        })
    }

    /// A user's own: a config.json, whose weights begin at random, or a model's directory.
    ///
    /// # Errors
    /// Those of the files; Model: no model can have this configuration.
    pub fn own(path: &Path) -> Result<Self> {
        if !path.is_dir() {
            let name = path.file_stem().unwrap_or(path.as_os_str());
            let name = crate::error::printable(&name.to_string_lossy());
            let about = format!("random weights of {}", path.display());
            let dir = path.parent().unwrap_or(Path::new(""));
            return Self::random(&name, &about, Config::read(path)?, dir);
        }
        let opened = Checkpoint::open(path)?;
        let (_, facts) = Model::load(&opened)?;
        Ok(Self {
            name: opened.name.clone(),
            about: format!("the model in {}", path.display()),
            parameters: opened.weights.values() as u64,
            config: opened.config,
            dir: path.to_path_buf(),
            start: Start::Model(path.to_path_buf()),
            facts,
        })
    }

    /// Where a tokenizer may lie beside it.
    pub fn directory(&self) -> &Path {
        &self.dir
    }

    /// Its configuration and its weights before training.
    ///
    /// # Errors
    /// Those of the files; Usage: the weights are larger than 4 GiB.
    pub fn checkpoint(&self, seed: u64) -> Result<Checkpoint> {
        match &self.start {
            Start::Sized(_) | Start::Random => {
                checkpoint::untrained(self.config.clone(), seed, &self.dir, LARGEST)
            }
            Start::Model(path) => Checkpoint::open(path),
        }
    }

    /// Floating-point operations a base, forward, of a sequence of so many bases that is read at once:
    /// those of matrix products and scans, of attention to what each base sees on average, and of long
    /// convolutions.
    pub fn operations(&self, bases: u64) -> f64 {
        let facts = &self.facts;
        let length = bases as f64;
        let before = if facts.causal { length / 2.0 } else { length };
        let seen = facts.seen.map_or(before, |seen| before.min(seen as f64));
        let reach = facts
            .context
            .map_or(bases, |context| bases.min(context as u64));
        facts.flops as f64
            + facts.pair_flops as f64 * seen
            + facts.fft_channels as f64 * long_conv_flops(reach)
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::named;

    #[test]
    fn operations_count_the_transforms_of_long_convolutions_and_what_attention_sees() {
        let at = |name: &str, bases| named(name, 250_000, 4096).unwrap().operations(bases);
        let hyena = named("hyena", 250_000, 4096).unwrap();
        let (channels, products) = (hyena.facts.fft_channels as f64, hyena.facts.flops as f64);
        assert_eq!(channels, (hyena.facts.width * hyena.facts.layers) as f64);
        // 2,048 bases: transforms of 4,096 numbers, two for two channels.
        assert_eq!(hyena.operations(2048), products + channels * 10.0 * 12.0);
        // Filters reach no farther than 4,098 bases.
        assert_eq!(at("hyena", 1 << 20), at("hyena", 4098));
        assert_eq!(at("s4d", 64), at("s4d", 1 << 20));
        assert_eq!(at("sliding-window", 1 << 12), at("sliding-window", 1 << 20));
        assert!(at("transformer", 1 << 12) > 2.0 * at("transformer", 1 << 8));
    }
}
