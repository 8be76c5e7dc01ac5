//! How a run scores: what was asked for, what a protocol says, and the defaults.

use super::options::{Context, ModeName, Score};
use crate::encoder::Facts;
use crate::error::{Error, Result};
use crate::run::options::CONTEXT;
use crate::score::{Mode, Settings, Window};
use crate::stream::Strand;

/// The length on which the model was trained, or what stands for it.
pub(super) fn trained(facts: &Facts) -> u64 {
    facts.context.unwrap_or(CONTEXT) as u64
}

impl Score {
    /// How a run scores, from the options and the protocol.
    ///
    /// # Errors
    /// Usage: a bidirectional model is asked for a stream.
    pub(super) fn settings(&self, facts: &Facts) -> Result<Settings> {
        let protocol = self
            .protocol
            .map(|protocol| protocol.options(facts))
            .transpose()?;
        let protocol = protocol.unwrap_or_default();
        let asked = self.compute.window.map(|size| size as usize);
        let windowed = match self.mode {
            Some(mode) => mode == ModeName::Window,
            None => !facts.streams() || asked.or(protocol.window).is_some(),
        };
        if !windowed && !facts.streams() {
            let kind = if facts.pretrained {
                "published Transformer"
            } else {
                "bidirectional model"
            };
            let error = Error::usage(format!("a {kind} has no stream to fork"));
            return Err(error.todo("use --mode window"));
        }
        let mode = if windowed {
            let size = asked.or(protocol.window).or(facts.context).unwrap_or(8192);
            let left = match asked {
                None => protocol.left,
                Some(_) => None,
            };
            Mode::Window(Window {
                size,
                left: left.unwrap_or(size / 2),
            })
        } else {
            Mode::Stream
        };
        let around = self.flank.map(|bases| bases as usize);
        Ok(Settings {
            mode,
            after: self.after as usize,
            context: self.context(facts),
            around: around.or(protocol.around).unwrap_or(768),
            longest: self.max_allele as usize,
            both_strands: self.strand() != Strand::Forward,
            four: protocol.four,
            embeddings: self.embeddings.or(protocol.embeddings),
            shard: self.sharding.one().is_some_and(|shard| shard.of > 1),
            chunk: 0,
            scratch: self.compute.scratch(self.output.path()),
        })
    }

    /// The bases before a site that the model has read at least; none: all of the contig.
    fn context(&self, facts: &Facts) -> Option<u64> {
        match self.context {
            None => Some(trained(facts)),
            Some(Context::All) => None,
            Some(Context::Bases(bases)) => Some(bases),
        }
    }

    /// What a user should know of the context, in a stream.
    pub(super) fn context_note(&self, facts: &Facts, settings: &Settings) -> Option<String> {
        if settings.mode != Mode::Stream {
            return None;
        }
        match (self.context, facts.context) {
            (None, Some(bases)) => Some(format!(
                "the model reads at least {bases} bases before each variant, the length on which \
                 it was trained (--context)"
            )),
            (None, None) => Some(format!(
                "the model's files do not state its trained length: it reads at least {CONTEXT} \
                 bases before each variant (--context)"
            )),
            (Some(Context::All), Some(trained)) => Some(format!(
                "contigs are read from their start, and the model was trained on {trained} bases: \
                 beyond them it may know less"
            )),
            (Some(Context::Bases(bases)), Some(trained)) if bases > trained as u64 => {
                Some(format!(
                    "the model was trained on {trained} bases, fewer than --context: beyond them it \
                 may know less"
                ))
            }
            (Some(_), _) => None,
        }
    }

    /// The strand asked for, or the protocol's.
    pub(super) fn strand(&self) -> Strand {
        match (self.compute.strand, self.protocol) {
            (Strand::Forward, Some(protocol)) => protocol.strand(),
            (strand, _) => strand,
        }
    }
}
