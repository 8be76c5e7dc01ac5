//! The reference streams once; at each site its state is forked, and each alternate runs from
//! there over the bases after the site.

use super::contig::ContigStrand;
use super::line::{Haplotype, Line, Sum, outputs, readings};
use super::scores::Measure;
use super::{Job, Scorer, Settings, Watch};
use crate::encoder::{Encoder, Segment, State};
use crate::error::Result;
use crate::sequence::allele::Variant;
use crate::stream::{load, store};
use crate::table::Scores;
use rayon::prelude::*;
use std::collections::VecDeque;
use std::io::{Read, Write};
use std::rc::Rc;

/// One strand of one contig, from its start to the last site.
///
/// Memory: one state, a fork for each site of a step, and of the line as many positions as a
/// variant's bases, those after it and those around it.
pub(super) struct ForkPass<'a> {
    scorer: Scorer<'a>,
    settings: &'a Settings,
    strand: ContigStrand,
    state: State,
    /// Where the state was empty.
    start: u64,
    /// The next base that the reference's state reads.
    position: u64,
    /// The logits after the last base read.
    before: Rc<Vec<f32>>,
    line: Line,
    /// Sites in order; of the last ones the alternate has not run yet.
    waiting: VecDeque<Waiting>,
    forks: Vec<Fork>,
    /// Tokens of `forks`.
    tokens: usize,
    /// Jobs that are done.
    pub finished: Vec<(Job, Scores)>,
}

/// A job whose alternate has run or is about to, and whose reference may lie ahead.
struct Waiting {
    job: Job,
    measure: Measure,
    /// `None` while it has not run, and of a variant that changes nothing.
    alt: Option<Haplotype>,
}

/// An alternate that is to run.
struct Fork {
    state: Rc<State>,
    /// The state is empty: the site is where it starts.
    starts: bool,
    before: Rc<Vec<f32>>,
    /// The alternate's bases, then the reference's.
    codes: Vec<u8>,
    /// How many of them are run.
    tokens: usize,
    /// How many of them are the alternate's.
    own: usize,
}

impl<'a> ForkPass<'a> {
    pub fn new(scorer: Scorer<'a>, settings: &'a Settings, strand: ContigStrand) -> Result<Self> {
        Ok(Self {
            scorer,
            settings,
            strand,
            state: scorer.engine.model.start(1)?,
            start: 0,
            position: 0,
            before: Rc::default(),
            line: Line::new(0, scorer.engine.facts.width),
            waiting: VecDeque::new(),
            forks: Vec::new(),
            tokens: 0,
            finished: Vec::new(),
        })
    }

    /// The jobs of the next site, all with the same start.
    pub fn site(&mut self, jobs: Vec<Job>, watch: &mut Watch) -> Result<()> {
        let Some(site) = jobs.first().map(|job| job.variant.start) else {
            return Ok(());
        };
        let needed = self.waiting.iter().map(|job| job.measure.to).max();
        let restart = self
            .settings
            .context
            .map_or(0, |bases| site.saturating_sub(bases));
        if restart > needed.unwrap_or(0).max(self.position) {
            self.finish(watch)?;
            (self.start, self.position) = (restart, restart);
            self.before = Rc::default();
            self.line = Line::new(restart, self.scorer.engine.facts.width);
        }
        self.advance(site, watch)?;
        let longest = jobs.iter().map(|job| job.variant.alternate.len()).max();
        let room = self.settings.after + longest.unwrap_or_default();
        let mut fork = None;
        for job in jobs {
            let end = job.variant.end();
            let to = self.strand.length().min(end + self.settings.after as u64);
            let own = job.variant.alternate.len();
            // The last base is scored by what comes before it; but the alternate itself is read.
            let tokens = (own + (to - end) as usize).saturating_sub(1).max(own);
            let measure = Measure {
                from: site,
                to,
                around: self.settings.around as u64,
                shared: (tokens - own) as u64,
                embeddings: self.settings.embeddings,
            };
            let changes = job.variant.reference != job.variant.alternate;
            // What changes nothing keeps the alternates that have not run the last ones that wait.
            if !changes || self.tokens > 0 && self.tokens + tokens > self.settings.chunk {
                self.run_forks(watch)?;
            }
            if changes {
                let state = match &fork {
                    Some(state) => Rc::clone(state),
                    None => {
                        let state = self.scorer.engine.model.fork(&[(&self.state, 0)], room)?;
                        Rc::clone(fork.insert(Rc::new(state)))
                    }
                };
                self.add_fork(state, &job.variant, to, tokens)?;
            }
            self.waiting.push_back(Waiting {
                job,
                measure,
                alt: None,
            });
        }
        Ok(())
    }

    /// A fork that will run so many tokens, for an alternate and the reference after it up to `to`.
    fn add_fork(
        &mut self,
        state: Rc<State>,
        variant: &Variant,
        to: u64,
        tokens: usize,
    ) -> Result<()> {
        let mut codes = variant.alternate.clone();
        codes.extend(self.strand.read(variant.end()..to)?);
        self.tokens += tokens;
        self.forks.push(Fork {
            state,
            starts: variant.start == self.start,
            before: Rc::clone(&self.before),
            codes,
            tokens,
            own: variant.alternate.len(),
        });
        Ok(())
    }

    /// Stores what the pass carries when nothing waits, as after [`Self::finish`].
    pub fn save(&self, file: &mut dyn Write) -> Result<()> {
        let carried = (&self.state, self.start, self.position, &*self.before);
        store(&carried, file)?;
        store(&self.line, file)
    }

    /// Takes up what [`Self::save`] stored.
    pub fn restore(&mut self, file: &mut dyn Read) -> Result<()> {
        let before: Vec<f32>;
        (self.state, self.start, self.position, before) = load(file)?;
        self.before = Rc::new(before);
        self.line = load(file)?;
        Ok(())
    }

    /// Runs what is left.
    pub fn finish(&mut self, watch: &mut Watch) -> Result<()> {
        self.run_forks(watch)?;
        while let Some(to) = self.waiting.iter().map(|job| job.measure.to).max() {
            self.advance(to, watch)?;
            self.settle();
        }
        Ok(())
    }

    /// Reads the reference up to a position.
    fn advance(&mut self, to: u64, watch: &mut Watch) -> Result<()> {
        while self.position < to {
            let next = to.min(self.position + self.settings.chunk as u64);
            let codes = self.strand.read(self.position..next)?;
            let segment = Segment {
                lane: 0,
                len: codes.len(),
                starts: self.position == self.start,
                ends: false,
            };
            let engine = &self.scorer.engine;
            let found = engine.hidden(engine.tokens(&codes), &[segment], &mut self.state)?;
            let head = &self.scorer.head;
            let (name, first) = (self.strand.name(), self.position);
            let place = |token| format!("{name}:{}", first + token as u64 + 1);
            let (hidden, logits) = outputs(head, found, place)?;
            let readings = readings(head, true, &self.before, &logits, &codes);
            self.line.push(readings, &hidden);
            self.before = Rc::new(logits[logits.len() - head.width()..].to_vec());
            self.position = next;
            watch(codes.len() as u64, self.strand.name())?;
            self.settle();
        }
        Ok(())
    }

    /// Compares the jobs whose reference and alternate both have run.
    fn settle(&mut self) {
        let run = self
            .waiting
            .iter()
            .take(self.waiting.len() - self.forks.len());
        let ready = run
            .take_while(|job| job.measure.to <= self.position)
            .count();
        let ready: Vec<Waiting> = self.waiting.drain(..ready).collect();
        let compare = |Waiting { job, measure, alt }: Waiting| {
            let scores = measure.compare(&self.line, &job.variant, alt.as_ref());
            (job, scores)
        };
        let compared: Vec<_> = ready.into_par_iter().map(compare).collect();
        self.finished.extend(compared);
        let first = self.waiting.front().map(|job| job.measure.from);
        let needed = first.unwrap_or(self.position).min(self.position);
        // One base more: the state before a deletion.
        self.line
            .forget(needed.saturating_sub(self.settings.around as u64 + 1));
    }

    /// Runs the alternates that were gathered, side by side.
    fn run_forks(&mut self, watch: &mut Watch) -> Result<()> {
        let forks = std::mem::take(&mut self.forks);
        self.tokens = 0;
        let Some(longest) = forks.iter().map(|fork| fork.tokens).max() else {
            return Ok(());
        };
        let (engine, head) = (&self.scorer.engine, &self.scorer.head);
        let from: Vec<(&State, usize)> = forks.iter().map(|fork| (&*fork.state, 0)).collect();
        let mut state = engine.model.fork(&from, longest)?;
        let width = self.scorer.engine.facts.width;
        let mut rows = vec![(Vec::new(), Vec::new()); forks.len()];
        // More than once only for a fork that is longer than a chunk, which is alone.
        for begin in (0..longest).step_by(self.settings.chunk) {
            let (mut codes, mut segments) = (Vec::new(), Vec::new());
            for (lane, fork) in forks.iter().enumerate() {
                let end = fork.tokens.min(begin + self.settings.chunk);
                if begin < end {
                    codes.extend(&fork.codes[begin..end]);
                    segments.push(Segment {
                        lane,
                        len: end - begin,
                        starts: fork.starts && begin == 0,
                        ends: end == fork.tokens,
                    });
                }
            }
            let found = engine.hidden(engine.tokens(&codes), &segments, &mut state)?;
            let place = |_| format!("an alternate of {}", self.strand.name());
            let (hidden, logits) = outputs(head, found, place)?;
            let (mut hidden, mut logits) = (&hidden[..], &logits[..]);
            for segment in &segments {
                let (own, rest) = hidden.split_at(segment.len * width);
                rows[segment.lane].0.extend_from_slice(own);
                hidden = rest;
                let (own, rest) = logits.split_at(segment.len * head.width());
                rows[segment.lane].1.extend_from_slice(own);
                logits = rest;
            }
            watch(codes.len() as u64, self.strand.name())?;
        }
        let first = self.waiting.len() - forks.len();
        let jobs = self.waiting.range_mut(first..);
        for ((waiting, fork), (hidden, logits)) in jobs.zip(&forks).zip(&rows) {
            let mut around = Sum::new(width);
            let vectors = fork.tokens.min(fork.own + self.settings.around);
            around.add(&hidden[..vectors * width]);
            let site = fork.own.checked_sub(1);
            waiting.alt = Some(Haplotype {
                readings: readings(head, true, &fork.before, logits, &fork.codes),
                site: site.map(|row| hidden[row * width..][..width].to_vec()),
                around,
                left: None,
            });
        }
        self.settle();
        Ok(())
    }
}
