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
use std::mem::take;
use std::sync::Arc;

/// One strand of one contig, from its start to the last site.
///
/// While the alternates of some sites run, the reference goes on to the next sites: from one to
/// the next it is too short for many threads.
///
/// Memory: one state, a fork for each site of two steps, and of the line as many positions as a
/// variant's bases, those after it and those around it.
pub(super) struct ForkPass<'a> {
    reference: ReferencePass<'a>,
    queue: Queue,
    /// Alternates for which the reference is to fork.
    ahead: Vec<Ahead>,
    /// Tokens of `ahead`.
    tokens: usize,
    /// Alternates that are to run.
    forks: Vec<Fork>,
    /// Jobs that are done.
    pub finished: Vec<(Job, Scores)>,
}

/// What reads the reference.
struct ReferencePass<'a> {
    scorer: Scorer<'a>,
    settings: &'a Settings,
    strand: ContigStrand,
    state: State,
    /// Where the state was empty.
    start: u64,
    /// The next base that the state reads.
    position: u64,
    /// The logits after the last base read.
    before: Arc<Vec<f32>>,
    line: Line,
    /// What was said of the reference.
    known: Known,
}

/// An alternate whose site is not reached.
struct Ahead {
    site: u64,
    /// As many bases as any alternate of the site has.
    room: usize,
    alternate: Alternate,
}

/// An alternate that is to run.
struct Fork {
    state: Arc<State>,
    /// The state is empty: the site is where it starts.
    starts: bool,
    before: Arc<Vec<f32>>,
    alternate: Alternate,
}

impl<'a> ForkPass<'a> {
    pub fn new(scorer: Scorer<'a>, settings: &'a Settings, strand: ContigStrand) -> Result<Self> {
        Ok(Self {
            reference: ReferencePass {
                scorer,
                settings,
                strand,
                state: scorer.engine.model.start(1)?,
                start: 0,
                position: 0,
                before: Arc::default(),
                line: Line::new(0, scorer.engine.facts.width),
                known: Known::default(),
            },
            queue: Queue::default(),
            ahead: Vec::new(),
            tokens: 0,
            forks: Vec::new(),
            finished: Vec::new(),
        })
    }

    /// Runs one step towards the next site, if it is further than a step; whether it is not.
    pub fn approach(&mut self, site: u64, watch: &mut Watch) -> Result<bool> {
        let (settings, reached) = (self.reference.settings, self.reached());
        if let Some(restart) = self.queue.restart(settings, site, reached) {
            self.finish(watch)?;
            self.reference.restart(restart);
        }
        let next = self.reached() + settings.chunk as u64;
        if next < site {
            if self.is_at_rest() {
                self.advance(next, watch)?;
            } else {
                self.step(watch)?;
            }
        }
        Ok(next >= site)
    }

    /// Where the reference is when it has forked for the alternates that wait.
    fn reached(&self) -> u64 {
        let last = self.ahead.last().map(|ahead| ahead.site);
        last.unwrap_or(self.reference.position)
    }

    /// The jobs of the next site, all with the same start.
    pub fn site(&mut self, jobs: Vec<Job>, watch: &mut Watch) -> Result<()> {
        let Some(site) = jobs.first().map(|job| job.variant.start) else {
            return Ok(());
        };
        while !self.approach(site, watch)? {}
        let settings = self.reference.settings;
        let longest = jobs.iter().map(|job| job.variant.alternate.len()).max();
        let room = settings.after + longest.unwrap_or_default();
        for job in jobs {
            let (measure, alternate) = Alternate::of(&job, settings, &self.reference.strand)?;
            let tokens = alternate.as_ref().map_or(0, |alternate| alternate.tokens);
            if self.tokens > 0 && self.tokens + tokens > settings.chunk {
                self.step(watch)?;
            }
            self.tokens += tokens;
            self.queue.push(job, measure, alternate.is_some());
            self.ahead.extend(alternate.map(|alternate| Ahead {
                site,
                room,
                alternate,
            }));
        }
        Ok(())
    }

    /// Runs the alternates that wait. The reference is read to the last of their sites and not
    /// further, for the sites to come need its state: jobs may wait for that.
    pub fn rest(&mut self, watch: &mut Watch) -> Result<()> {
        while !self.is_at_rest() {
            self.step(watch)?;
        }
        Ok(())
    }

    /// Whether no alternate waits. Else the line would keep all that the reference goes on for.
    fn is_at_rest(&self) -> bool {
        self.ahead.is_empty() && self.forks.is_empty()
    }

    /// Stores what the pass carries after [`Self::rest`].
    pub fn save(&self, file: &mut dyn Write) -> Result<()> {
        let reference = &self.reference;
        let carried = (&reference.state, reference.start, reference.position);
        store(&(carried, &*reference.before), file)?;
        store(&(&reference.line, &self.queue), file)
    }

    /// Takes up what [`Self::save`] stored.
    pub fn restore(&mut self, file: &mut dyn Read) -> Result<()> {
        let reference = &mut self.reference;
        let before: Vec<f32>;
        (
            (reference.state, reference.start, reference.position),
            before,
        ) = load(file)?;
        reference.before = Arc::new(before);
        (reference.line, self.queue) = load(file)?;
        Ok(())
    }

    /// Runs what is left.
    pub fn finish(&mut self, watch: &mut Watch) -> Result<()> {
        self.rest(watch)?;
        if let Some(to) = self.queue.to() {
            self.advance(to, watch)?;
            self.settle();
        }
        Ok(())
    }

    /// What was said of the reference since the last call.
    pub fn take_known(&mut self) -> Known {
        std::mem::take(&mut self.reference.known)
    }

    /// Reads the reference up to a position, step by step.
    fn advance(&mut self, to: u64, watch: &mut Watch) -> Result<()> {
        while self.reference.position < to {
            let read = self.reference.advance(to)?;
            watch(read, self.reference.strand.name())?;
            self.settle();
        }
        Ok(())
    }

    /// Runs the alternates that have forks, side by side, and forks for those that wait.
    fn step(&mut self, watch: &mut Watch) -> Result<()> {
        let (forks, ahead) = (take(&mut self.forks), take(&mut self.ahead));
        self.tokens = 0;
        let before = self.reference.position;
        let (scorer, settings) = (self.reference.scorer, self.reference.settings);
        let strand = self.reference.strand.clone();
        let (ran, forked) = rayon::join(
            || run_forks(scorer, settings, &strand, &forks),
            || self.reference.fork(ahead),
        );
        let tokens: usize = forks.iter().map(|fork| fork.alternate.tokens).sum();
        self.queue.ran(ran?);
        self.forks = forked?;
        let read = self.reference.position - before + tokens as u64;
        watch(read, strand.name())?;
        self.settle();
        Ok(())
    }

    /// Compares the jobs whose reference and alternate both have run.
    fn settle(&mut self) {
        let around = self.reference.settings.around as u64;
        let ReferencePass { line, position, .. } = &mut self.reference;
        let ready = self.queue.ready(*position).into_par_iter();
        let compared = ready.map(|job| {
            let sums = job.measure.sums(line, &job.job.variant);
            job.compare(line, &sums)
        });
        self.finished.par_extend(compared);
        let first = self.queue.from().unwrap_or(*position);
        let needed = first.min(*position);
        // One base more: the state before a deletion.
        line.forget(needed.saturating_sub(around + 1));
    }
}

impl ReferencePass<'_> {
    /// Begins anew at a position.
    fn restart(&mut self, position: u64) {
        (self.start, self.position) = (position, position);
        self.before = Arc::default();
        self.line = Line::new(position, self.scorer.engine.facts.width);
    }

    /// Reads a step's bases at most, up to a position; how many.
    fn advance(&mut self, to: u64) -> Result<u64> {
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
        self.before = Arc::new(logits[logits.len() - head.width()..].to_vec());
        self.position = next;
        Ok(codes.len() as u64)
    }

    /// Forks for alternates at their sites, which ascend.
    fn fork(&mut self, ahead: Vec<Ahead>) -> Result<Vec<Fork>> {
        let mut forks: Vec<Fork> = Vec::with_capacity(ahead.len());
        let mut of_site = None;
        for Ahead {
            site,
            room,
            alternate,
        } in ahead
        {
            while self.position < site {
                self.advance(site)?;
                of_site = None;
            }
            let state = match &of_site {
                Some(state) => Arc::clone(state),
                None => {
                    let state = self.scorer.engine.model.fork(&[(&self.state, 0)], room)?;
                    Arc::clone(of_site.insert(Arc::new(state)))
                }
            };
            forks.push(Fork {
                state,
                starts: site == self.start,
                before: Arc::clone(&self.before),
                alternate,
            });
        }
        Ok(forks)
    }
}

/// Runs the alternates that were gathered, side by side.
fn run_forks(
    scorer: Scorer,
    settings: &Settings,
    strand: &ContigStrand,
    forks: &[Fork],
) -> Result<Vec<Haplotype>> {
    let Some(longest) = forks.iter().map(|fork| fork.alternate.tokens).max() else {
        return Ok(Vec::new());
    };
    let (engine, head) = (scorer.engine, scorer.head);
    let from: Vec<(&State, usize)> = forks.iter().map(|fork| (&*fork.state, 0)).collect();
    let mut state = engine.model.fork(&from, longest)?;
    let width = engine.facts.width;
    let mut rows = vec![(Vec::new(), Vec::new()); forks.len()];
    // More than once only for a fork that is longer than a chunk, which is alone.
    for begin in (0..longest).step_by(settings.chunk) {
        let (mut codes, mut segments) = (Vec::new(), Vec::new());
        for (lane, fork) in forks.iter().enumerate() {
            let alternate = &fork.alternate;
            let end = alternate.tokens.min(begin + settings.chunk);
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
        let place = |_| format!("an alternate of {}", strand.name());
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
            around.add(&hidden[..alternate.around(settings) * width]);
            let site = alternate.own.checked_sub(1);
            Haplotype {
                readings: alternate.readings(head, before, logits),
                site: site.map(|row| hidden[row * width..][..width].to_vec()),
                around,
                left: None,
            }
        },
    );
    Ok(read.collect())
}
