//! Jobs in the order of their sites, while the reference or their alternate is still to run.

use super::contig::ContigStrand;
use super::line::{Haplotype, Line, Reading, Sum, readings};
use super::scores::{Measure, RUNS};
use super::{Job, Settings};
use crate::error::Result;
use crate::head::LanguageModel;
use crate::table::Scores;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Jobs whose scores are to come.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    /// How many of the first ones were asked for by [`Queue::ask`].
    asked: usize,
    /// The greatest end of all that ever waited: of those that wait still, for a job leaves only
    /// when the reference has passed its end.
    furthest: u64,
}

/// A job whose alternate or whose reference has not run.
#[derive(Serialize, Deserialize)]
pub(super) struct Waiting {
    pub job: Job,
    pub measure: Measure,
    alternate: Side,
}

/// What is known of a job's alternate.
#[derive(Serialize, Deserialize)]
enum Side {
    /// The variant changes nothing: it is the reference.
    Same,
    /// It is to run.
    Ahead,
    Ran(Box<Haplotype>),
}

/// An alternate that is to run, from the variant on.
#[derive(Serialize, Deserialize)]
pub(super) struct Alternate {
    /// The alternate's bases, then the reference's.
    pub codes: Vec<u8>,
    /// How many of them are run.
    pub tokens: usize,
    /// How many of them are the alternate's.
    pub own: usize,
}

impl Alternate {
    /// How a job is measured in a stream, and its alternate; none if it changes nothing.
    pub fn of(
        job: &Job,
        settings: &Settings,
        strand: &ContigStrand,
    ) -> Result<(Measure, Option<Self>)> {
        let end = job.variant.end();
        let to = strand.length().min(end + settings.after as u64);
        let own = job.variant.alternate.len();
        // The last base is scored by what comes before it; but the alternate itself is read.
        let tokens = (own + (to - end) as usize).saturating_sub(1).max(own);
        let measure = Measure {
            from: job.variant.start,
            to,
            around: settings.around as u64,
            shared: (tokens - own) as u64,
            embeddings: settings.embeddings,
        };
        if job.variant.reference == job.variant.alternate {
            return Ok((measure, None));
        }
        let mut codes = job.variant.alternate.clone();
        codes.extend(strand.read(end..to)?);
        Ok((measure, Some(Self { codes, tokens, own })))
    }

    /// Of its tokens, those whose vectors count as around the variant.
    pub fn around(&self, settings: &Settings) -> usize {
        self.tokens.min(self.own + settings.around)
    }

    /// What the model said, by the logits of the token before the first and of its tokens.
    pub fn readings(&self, head: &LanguageModel, before: &[f32], logits: &[f32]) -> Vec<Reading> {
        readings(head, true, before, logits, &self.codes)
    }
}

impl Queue {
    /// Adds the next job; its alternate is to run if it `changes` anything.
    pub fn push(&mut self, job: Job, measure: Measure, changes: bool) {
        self.furthest = self.furthest.max(measure.to);
        self.waiting.push_back(Waiting {
            job,
            measure,
            alternate: if changes { Side::Ahead } else { Side::Same },
        });
    }

    /// Takes what was read of all alternates that were to run, in order.
    pub fn ran(&mut self, haplotypes: Vec<Haplotype>) {
        let ahead = self.waiting.iter_mut();
        let ahead = ahead.filter(|job| matches!(job.alternate, Side::Ahead));
        for (job, haplotype) in ahead.zip(haplotypes) {
            job.alternate = Side::Ran(Box::new(haplotype));
        }
    }

    /// The first position that matters to a job.
    pub fn from(&self) -> Option<u64> {
        self.waiting.front().map(|job| job.measure.from)
    }

    /// The same of the jobs that were not asked for.
    pub fn unasked_from(&self) -> Option<u64> {
        self.waiting.get(self.asked).map(|job| job.measure.from)
    }

    /// One past the last.
    pub fn to(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.furthest)
    }

    /// Where the model reads anew for a site, if no job asks for what lies before.
    pub fn restart(&self, settings: &Settings, site: u64, position: u64) -> Option<u64> {
        let restart = site.saturating_sub(settings.context?);
        (restart > self.to().unwrap_or(0).max(position)).then_some(restart)
    }

    /// The next jobs whose alternates have run, as has the reference up to `position`.
    pub fn ready(&mut self, position: u64) -> Vec<Waiting> {
        let ready = self
            .waiting
            .iter()
            .take_while(|job| job.measure.to <= position && !matches!(job.alternate, Side::Ahead));
        let ready = ready.count();
        self.waiting.drain(..ready).collect()
    }

    /// The jobs that will be ready when the device has run the reference up to `position` and all
    /// alternates: those that no earlier call gave.
    pub fn ask(&mut self, position: u64) -> impl ExactSizeIterator<Item = &Waiting> {
        let first = self.asked;
        let ready = self.waiting.range(first..);
        self.asked += ready.take_while(|job| job.measure.to <= position).count();
        self.waiting.range(first..self.asked)
    }

    /// The first so many of the jobs that were asked for.
    pub fn take(&mut self, count: usize) -> Vec<Waiting> {
        self.asked -= count;
        self.waiting.drain(..count).collect()
    }
}

impl Waiting {
    /// The scores, by what is known of the reference: its line, and the sums of
    /// [`Measure::runs`].
    pub fn compare(self, line: &Line, sums: &[Sum; RUNS]) -> (Job, Scores) {
        let alternate = match &self.alternate {
            Side::Ran(haplotype) => Some(&**haplotype),
            Side::Same | Side::Ahead => None,
        };
        let variant = &self.job.variant;
        let scores = self.measure.compare(line, sums, variant, alternate);
        (self.job, scores)
    }
}
