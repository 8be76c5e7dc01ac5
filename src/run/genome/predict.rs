//! `predict`: of bases, or of sequences, as the head that predicts describes the one or the other.

use super::sequences::{OpenSequences, SequenceJob};
use super::{GenomeJob, GenomeTargets, OpenGenome, Predict};
use crate::error::Result;
use crate::head::Unit;
use crate::io::atomic::AtomicFile;
use crate::run::options::{Compute, Output, Sharding};
use crate::run::outputs::{Format, Outputs};
use crate::run::session::Session;
use crate::run::summary::Summary;
use crate::run::{Job, identity};
use crate::stream::{Journal, Progress};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Everything that a run reads, open.
pub enum OpenPredict {
    /// A row a base, bin or interval.
    Bases(Box<OpenGenome>),
    /// A row a sequence.
    Sequences(Box<OpenSequences>),
}

/// The files that a run writes.
#[expect(clippy::large_enum_variant, reason = "there is one of it in a run")]
pub enum PredictTargets {
    /// Of bases.
    Bases(GenomeTargets),
    /// Of sequences.
    Sequences(AtomicFile),
}

impl Predict {
    fn of_sequences(&self) -> SequenceJob<'_> {
        SequenceJob(self)
    }

    /// Of bases, for what does not depend on the head.
    fn of_bases(&self) -> GenomeJob<'_> {
        self.job()
    }
}

impl Job for Predict {
    type Opened = OpenPredict;
    type Targets = PredictTargets;

    fn shared(&self) -> (&Compute, &Output) {
        (&self.inputs.compute, &self.inputs.output)
    }

    fn sharding(&self) -> &Sharding {
        &self.inputs.source.sharding
    }

    fn check_options(&self) -> Result<()> {
        self.of_bases().check_options()
    }

    fn inputs(&self) -> Vec<(&'static str, PathBuf)> {
        self.of_bases().inputs()
    }

    fn outputs(&self) -> Vec<(PathBuf, Format)> {
        self.of_bases().outputs()
    }

    fn open(&self) -> Result<OpenPredict> {
        let bases = self.of_bases();
        let loaded = self.inputs.load(bases.bundled())?;
        Ok(match self.heads.task(&loaded.checkpoint)? {
            Some(task) if task.unit == Unit::Sequence => {
                let opened = self.of_sequences().open(loaded, task)?;
                OpenPredict::Sequences(Box::new(opened))
            }
            task => OpenPredict::Bases(Box::new(bases.open_with(loaded, task)?)),
        })
    }

    fn session(opened: &OpenPredict) -> &Session {
        match opened {
            OpenPredict::Bases(opened) => GenomeJob::session(opened),
            OpenPredict::Sequences(opened) => &opened.session,
        }
    }

    fn options(&self) -> Result<Map<String, Value>> {
        identity::options(self)
    }

    fn declare(&self, opened: &OpenPredict, outputs: &mut Outputs) -> Result<PredictTargets> {
        Ok(match opened {
            OpenPredict::Bases(opened) => {
                PredictTargets::Bases(self.of_bases().declare(opened, outputs)?)
            }
            OpenPredict::Sequences(_) => {
                let path = self.inputs.output.path();
                PredictTargets::Sequences(outputs.create(path, Format::Parquet)?)
            }
        })
    }

    fn process(
        &self,
        opened: &mut OpenPredict,
        targets: PredictTargets,
        journal: Option<&mut Journal>,
        progress: &mut Progress,
    ) -> Result<Summary> {
        match (opened, targets) {
            (OpenPredict::Bases(opened), PredictTargets::Bases(targets)) => {
                self.of_bases().process(opened, targets, journal, progress)
            }
            (OpenPredict::Sequences(opened), PredictTargets::Sequences(file)) => {
                self.of_sequences().process(opened, file, journal, progress)
            }
            _ => Err(crate::error::Error::new(
                crate::error::Kind::Internal,
                "the outputs are of another run",
            )),
        }
    }

    fn describe(&self, opened: &mut OpenPredict) -> Result<String> {
        match opened {
            OpenPredict::Bases(opened) => self.of_bases().describe(opened),
            OpenPredict::Sequences(opened) => opened.describe(),
        }
    }
}
