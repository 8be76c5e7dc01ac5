//! One strand of one contig, from its first site to its last.

use super::contig::ContigStrand;
use super::scores::mirror;
use super::{Job, Mode, Scorer, Settings, Watch, branches, forks, windows};
use crate::error::Result;
use crate::ops::Device;
use crate::table::{Known, Scores};
use std::io::{Read, Write};

/// A pass over a strand: by forks of a stream on the CPU and by branches off it on a GPU, or by
/// windows.
pub(super) enum Pass<'a> {
    Forks(Box<forks::ForkPass<'a>>),
    Branches(Box<branches::BranchPass<'a>>),
    Windows(Box<windows::WindowPass<'a>>),
}

impl<'a> Pass<'a> {
    pub fn new(scorer: Scorer<'a>, settings: &'a Settings, strand: ContigStrand) -> Result<Self> {
        Ok(match (settings.mode, &scorer.engine.device) {
            (Mode::Stream, Device::Cpu) => {
                Self::Forks(Box::new(forks::ForkPass::new(scorer, settings, strand)?))
            }
            (Mode::Stream, Device::Cuda(_)) => Self::Branches(Box::new(branches::BranchPass::new(
                scorer, settings, strand,
            )?)),
            (Mode::Window(window), _) => {
                let pass = windows::WindowPass::new(scorer, settings, window, strand);
                Self::Windows(Box::new(pass))
            }
        })
    }

    /// Runs one step towards the next site, which starts there, if it is further than a step;
    /// whether it is not.
    pub fn approach(&mut self, start: u64, watch: &mut Watch) -> Result<bool> {
        match self {
            Self::Forks(pass) => pass.approach(start, watch),
            Self::Branches(pass) => pass.approach(start, watch),
            Self::Windows(_) => Ok(true),
        }
    }

    /// The jobs of the next site, all with the same start.
    pub fn site(&mut self, jobs: Vec<Job>, watch: &mut Watch) -> Result<()> {
        match self {
            Self::Forks(pass) => pass.site(jobs, watch),
            Self::Branches(pass) => pass.site(jobs, watch),
            Self::Windows(pass) => pass.site(jobs, watch),
        }
    }

    /// Runs what is left.
    pub fn finish(&mut self, watch: &mut Watch) -> Result<()> {
        match self {
            Self::Forks(pass) => pass.finish(watch),
            Self::Branches(pass) => pass.finish(watch),
            Self::Windows(pass) => pass.finish(watch),
        }
    }

    /// Comes to a place between two sites at which what it carries can be stored.
    pub fn rest(&mut self, watch: &mut Watch) -> Result<()> {
        match self {
            Self::Forks(pass) => pass.rest(watch),
            Self::Branches(pass) => pass.rest(watch),
            Self::Windows(pass) => pass.finish(watch),
        }
    }

    /// Stores what is carried after [`Self::rest`].
    pub fn save(&self, file: &mut dyn Write) -> Result<()> {
        match self {
            Self::Forks(pass) => pass.save(file),
            Self::Branches(pass) => pass.save(file),
            // Each begins anew.
            Self::Windows(_) => Ok(()),
        }
    }

    /// Takes up what [`Self::save`] stored.
    pub fn restore(&mut self, file: &mut dyn Read) -> Result<()> {
        match self {
            Self::Forks(pass) => pass.restore(file),
            Self::Branches(pass) => pass.restore(file),
            Self::Windows(_) => Ok(()),
        }
    }

    /// What was said of the reference since the last call.
    pub fn take_known(&mut self) -> Known {
        match self {
            Self::Forks(pass) => pass.take_known(),
            Self::Branches(pass) => std::mem::take(&mut pass.known),
            Self::Windows(pass) => std::mem::take(&mut pass.known),
        }
    }

    /// The jobs that are done, on the forward strand's positions of `strand`.
    pub fn take(&mut self, strand: &ContigStrand) -> Vec<(Job, Scores)> {
        let finished = match self {
            Self::Forks(pass) => &mut pass.finished,
            Self::Branches(pass) => &mut pass.finished,
            Self::Windows(pass) => &mut pass.finished,
        };
        let mut finished = std::mem::take(finished);
        if strand.reverse {
            for (_, scores) in &mut finished {
                mirror(scores, strand.length());
            }
        }
        finished
    }
}

/// Jobs of one site, of which equal changes are one job.
pub(super) fn merged(jobs: impl IntoIterator<Item = Job>) -> Vec<Job> {
    let mut site: Vec<Job> = Vec::new();
    for job in jobs {
        match site.iter_mut().find(|known| known.variant == job.variant) {
            Some(known) => known.entries.extend(job.entries),
            None => site.push(job),
        }
    }
    site
}

/// Scores jobs of one strand, in the order of their starts; `done` takes each with its scores.
///
/// Jobs need variants that lie within the strand, with a reference that is the strand's.
///
/// # Errors
/// Those of the encoder, the jobs, `watch` and `done`.
pub fn score(
    scorer: Scorer,
    settings: &Settings,
    strand: &ContigStrand,
    jobs: impl IntoIterator<Item = Result<Job>>,
    watch: &mut Watch,
    done: &mut dyn FnMut(Job, Scores) -> Result<()>,
) -> Result<()> {
    let mut jobs = jobs.into_iter().peekable();
    let mut pass = Pass::new(scorer, settings, strand.clone())?;
    while let Some(first) = jobs.next().transpose()? {
        let start = first.variant.start;
        let same = |job: &Result<Job>| matches!(job, Ok(job) if job.variant.start == start);
        let mut site = vec![first];
        while let Some(job) = jobs.next_if(same).transpose()? {
            site.push(job);
        }
        pass.site(merged(site), watch)?;
        for (job, scores) in pass.take(strand) {
            done(job, scores)?;
        }
    }
    pass.finish(watch)?;
    for (job, scores) in pass.take(strand) {
        done(job, scores)?;
    }
    Ok(())
}
