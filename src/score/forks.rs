//! The reference streams once; at each site its state is forked, and each alternate runs from
//! there over the bases after the site.

use super::contig::ContigStrand;
use super::line::{Haplotype, Line, Sum, outputs, readings};
use super::queue::{Alternate, Queue};
use super::{Job, Scorer, Settings, Watch};
use crate::encoder::{Encoder, Segment, State};
use crate::error::Result;
use crate::stream::{load, store};
use crate::table::{Known, Scores};
use rayon::prelude::*;
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
    queue: Queue,
    forks: Vec<Fork>,
    /// Tokens of `forks`.
    tokens: usize,
    /// What was said of the reference.
    pub known: Known,
    /// Jobs that are done.
    pub finished: Vec<(Job, Scores)>,
}

/// An alternate that is to run.
struct Fork {
    state: Rc<State>,
    /// The state is empty: the site is where it starts.
    starts: bool,
    before: Rc<Vec<f32>>,
    alternate: Alternate,
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
            queue: Queue::default(),
            forks: Vec::new(),
            tokens: 0,
            known: Known::default(),
            finished: Vec::new(),
        })
    }

    /// Reads one step towards the next site, if it is further than a step; whether it is not.
    pub fn approach(&mut self, site: u64, watch: &mut Watch) -> Result<bool> {
        if let Some(restart) = self.queue.restart(self.settings, site, self.position) {
            self.finish(watch)?;
            (self.start, self.position) = (restart, restart);
            self.before = Rc::default();
            self.line = Line::new(restart, self.scorer.engine.facts.width);
        }
        let next = self.position + self.settings.chunk as u64;
        if next < site {
            self.advance(next, watch)?;
        }
        Ok(next >= site)
    }

    /// The jobs of the next site, all with the same start.
    pub fn site(&mut self, jobs: Vec<Job>, watch: &mut Watch) -> Result<()> {
        let Some(site) = jobs.first().map(|job| job.variant.start) else {
            return Ok(());
        };
        while !self.approach(site, watch)? {}
        self.advance(site, watch)?;
        let longest = jobs.iter().map(|job| job.variant.alternate.len()).max();
        let room = self.settings.after + longest.unwrap_or_default();
        let mut fork = None;
        for job in jobs {
            let (measure, alternate) = Alternate::of(&job, self.settings, &self.strand)?;
            let changes = alternate.is_some();
            if let Some(alternate) = alternate {
                let tokens = alternate.tokens;
                if self.tokens > 0 && self.tokens + tokens > self.settings.chunk {
                    self.run_forks(watch)?;
                }
                let state = match &fork {
                    Some(state) => Rc::clone(state),
                    None => {
                        let state = self.scorer.engine.model.fork(&[(&self.state, 0)], room)?;
                        Rc::clone(fork.insert(Rc::new(state)))
                    }
                };
                self.tokens += tokens;
                self.forks.push(Fork {
                    state,
                    starts: site == self.start,
                    before: Rc::clone(&self.before),
                    alternate,
                });
            }
            self.queue.push(job, measure, changes);
        }
        Ok(())
    }

    /// Runs the alternates that wait. The reference is not read further, for the sites to come
    /// need its state: jobs may wait for that.
    pub fn rest(&mut self, watch: &mut Watch) -> Result<()> {
        self.run_forks(watch)
    }

    /// Stores what the pass carries after [`Self::rest`].
    pub fn save(&self, file: &mut dyn Write) -> Result<()> {
        let carried = (&self.state, self.start, self.position, &*self.before);
        store(&carried, file)?;
        store(&(&self.line, &self.queue), file)
    }

    /// Takes up what [`Self::save`] stored.
    pub fn restore(&mut self, file: &mut dyn Read) -> Result<()> {
        let before: Vec<f32>;
        (self.state, self.start, self.position, before) = load(file)?;
        self.before = Rc::new(before);
        (self.line, self.queue) = load(file)?;
        Ok(())
    }

    /// Runs what is left.
    pub fn finish(&mut self, watch: &mut Watch) -> Result<()> {
        self.run_forks(watch)?;
        while let Some(to) = self.queue.to() {
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
            self.known.read(readings.iter().map(|reading| reading.logp));
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
        let line = &self.line;
        let ready = self.queue.ready(self.position).into_par_iter();
        let compared = ready.map(|job| {
            let sums = job.measure.sums(line, &job.job.variant);
            job.compare(line, &sums)
        });
        self.finished.par_extend(compared);
        let first = self.queue.from().unwrap_or(self.position);
        let needed = first.min(self.position);
        // One base more: the state before a deletion.
        self.line
            .forget(needed.saturating_sub(self.settings.around as u64 + 1));
    }

    /// Runs the alternates that were gathered, side by side.
    fn run_forks(&mut self, watch: &mut Watch) -> Result<()> {
        let forks = std::mem::take(&mut self.forks);
        self.tokens = 0;
        let Some(longest) = forks.iter().map(|fork| fork.alternate.tokens).max() else {
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
                let alternate = &fork.alternate;
                let end = alternate.tokens.min(begin + self.settings.chunk);
                if begin < end {
                    codes.extend(&alternate.codes[begin..end]);
                    segments.push(Segment {
                        lane,
                        len: end - begin,
                        starts: fork.starts && begin == 0,
                        ends: end == alternate.tokens,
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
        let read = forks.iter().zip(&rows);
        let read = read.map(
            |(
                Fork {
                    alternate, before, ..
                },
                (hidden, logits),
            )| {
                let mut around = Sum::new(width);
                around.add(&hidden[..alternate.around(self.settings) * width]);
                let site = alternate.own.checked_sub(1);
                Haplotype {
                    readings: alternate.readings(head, before, logits),
                    site: site.map(|row| hidden[row * width..][..width].to_vec()),
                    around,
                    left: None,
                }
            },
        );
        self.queue.ran(read.collect());
        self.settle();
        Ok(())
    }
}
