//! How a run scores: what was asked for, what a preset says, and the defaults.

use super::{ModeName, Score};
use crate::encoder::Facts;
use crate::error::{Error, Result};
use crate::score::{Mode, Settings, Window};
use crate::stream::Strand;

impl Score {
    /// How a run scores, from the options and the preset.
    ///
    /// # Errors
    /// Usage: a bidirectional model is asked for a stream.
    pub(super) fn settings(&self, facts: &Facts) -> Result<Settings> {
        let preset = self
            .preset
            .map(|preset| preset.options(facts))
            .transpose()?;
        let preset = preset.unwrap_or_default();
        let asked = self.compute.window.map(|size| size as usize);
        let windowed = match self.mode {
            Some(mode) => mode == ModeName::Window,
            None => !facts.causal || asked.or(preset.window).is_some(),
        };
        if !windowed && !facts.causal {
            let error = Error::usage("a bidirectional model has no stream to fork");
            return Err(error.todo("use --mode window"));
        }
        let mode = if windowed {
            let size = asked.or(preset.window).or(facts.context).unwrap_or(8192);
            let left = match asked {
                None => preset.left,
                Some(_) => None,
            };
            Mode::Window(Window {
                size,
                left: left.unwrap_or(size / 2),
            })
        } else {
            Mode::Stream
        };
        let around = self.around.map(|bases| bases as usize);
        Ok(Settings {
            mode,
            after: self.after as usize,
            context: self.context,
            around: around.or(preset.around).unwrap_or(768),
            longest: self.max_allele as usize,
            both_strands: self.strand() != Strand::Forward,
            embeddings: self.embeddings.or(preset.embeddings),
            shard: self.sharding.one().is_some_and(|shard| shard.of > 1),
            chunk: 0,
            scratch: self.compute.scratch(&self.output.output),
        })
    }

    /// The strand asked for, or the preset's.
    pub(super) fn strand(&self) -> Strand {
        match (self.compute.strand, self.preset) {
            (Strand::Forward, Some(preset)) => preset.strand(),
            (strand, _) => strand,
        }
    }
}
