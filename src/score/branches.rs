//! The reference streams once, in pieces that have the alternates of the sites in them beside
//! them: each branches off behind the base before its site, in the same step. On a GPU a step from
//! one site to the next would be far too short, and a copied state at each site far too large.

use super::contig::ContigStrand;
use super::kept::{Kept, Sums};
use super::known::Known;
use super::line::{Haplotype, Line, Sum, readings};
use super::queue::{Alternate, Queue};
use super::scores::RUNS;
use super::{Job, Scorer, Settings, Watch};
use crate::encoder::{Branch, Encoder, Segment, State};
use crate::error::Result;
use crate::head::LanguageModel;
use crate::ops::Tensor;
use crate::stream::check_finite;
use crate::table::Scores;
use rayon::prelude::*;
use std::ops::Range;

/// One strand of one contig, from its start to the last site.
///
/// Memory: a step of `chunk` tokens, or of the alternates of one site if they are more, on the
/// device; the logits of two; and of the reference as many positions as a variant's bases, those
/// after it and those around it, their vectors on the device.
pub(super) struct BranchPass<'a> {
    scorer: Scorer<'a>,
    settings: &'a Settings,
    strand: ContigStrand,
    state: State,
    /// Where the state was empty.
    start: u64,
    /// The next base that the reference's state reads.
    position: u64,
    /// The reference's hidden vectors.
    kept: Kept,
    queue: Queue,
    /// Alternates that are to run, each with its site.
    ahead: Vec<(u64, Alternate)>,
    /// Tokens of `ahead`.
    tokens: usize,
    running: Option<Running>,
    /// Readings of the reference, but for the step that is running.
    line: Line,
    /// The logits after the last of them.
    last: Vec<f32>,
    /// What was said of the reference.
    pub known: Known,
    /// Jobs that are done.
    pub finished: Vec<(Job, Scores)>,
}

impl<'a> BranchPass<'a> {
    pub fn new(scorer: Scorer<'a>, settings: &'a Settings, strand: ContigStrand) -> Result<Self> {
        Ok(Self {
            scorer,
            settings,
            strand,
            state: scorer.engine.model.start(1)?,
            start: 0,
            position: 0,
            kept: Kept::new(0, scorer.engine.facts.width),
            queue: Queue::default(),
            ahead: Vec::new(),
            tokens: 0,
            running: None,
            line: Line::new(0, 0),
            last: Vec::new(),
            known: Known::default(),
            finished: Vec::new(),
        })
    }

    /// The jobs of the next site, all with the same start.
    pub fn site(&mut self, jobs: Vec<Job>, watch: &mut Watch) -> Result<()> {
        let Some(site) = jobs.first().map(|job| job.variant.start) else {
            return Ok(());
        };
        if let Some(restart) = self.queue.restart(self.settings, site, self.position) {
            self.finish(watch)?;
            (self.start, self.position) = (restart, restart);
            self.kept = Kept::new(restart, self.scorer.engine.facts.width);
            self.line = Line::new(restart, 0);
            self.last.clear();
        }
        let measured = |job| {
            let (measure, alternate) = Alternate::of(&job, self.settings, &self.strand)?;
            Ok((job, measure, alternate))
        };
        let jobs: Vec<_> = jobs.into_iter().map(measured).collect::<Result<_>>()?;
        let alternates = jobs
            .iter()
            .filter_map(|(_, _, alternate)| alternate.as_ref());
        let tokens: usize = alternates.map(|alternate| alternate.tokens).sum();
        self.make_room(site, tokens, watch)?;
        self.tokens += tokens;
        for (job, measure, alternate) in jobs {
            self.queue.push(job, measure, alternate.is_some());
            self.ahead
                .extend(alternate.map(|alternate| (site, alternate)));
        }
        Ok(())
    }

    /// Runs steps until the next one can reach a site with so many tokens of alternates: they go
    /// through one step with the base before the site, which nothing else can stand for.
    fn make_room(&mut self, site: u64, tokens: usize, watch: &mut Watch) -> Result<()> {
        let chunk = self.settings.chunk;
        loop {
            let reference = (site - self.position) as usize;
            let fits = reference + self.tokens + tokens <= chunk;
            if fits || (self.ahead.is_empty() && reference <= 1) {
                return Ok(());
            }
            let to = match self.ahead.last() {
                Some((last, _)) => *last,
                None => (site - 1).min(self.position + chunk as u64),
            };
            self.run(to, watch)?;
        }
    }

    /// Runs what is left.
    pub fn finish(&mut self, watch: &mut Watch) -> Result<()> {
        while let Some(to) = self.queue.to() {
            if to <= self.position && self.ahead.is_empty() {
                break;
            }
            let last = self.ahead.last().map_or(self.position, |(site, _)| *site);
            let used = self.tokens + (last - self.position) as usize;
            let least = usize::from(self.ahead.is_empty());
            let more = self.settings.chunk.saturating_sub(used).max(least);
            self.run(to.min(last + more as u64), watch)?;
        }
        match self.running.take() {
            Some(step) => self.compare(step.read(self.scorer.head, &self.strand)?, watch),
            None => Ok(()),
        }
    }

    /// A step with the reference up to a position, and the alternates that are to run. While the
    /// device is at work on it, the step before is compared.
    fn run(&mut self, to: u64, watch: &mut Watch) -> Result<()> {
        let ahead = std::mem::take(&mut self.ahead);
        self.tokens = 0;
        let piece = self.strand.read(self.position..to)?;
        let before = self.running.take();
        let before = before.map(|step| step.read(self.scorer.head, &self.strand));
        let before = before.transpose()?;
        self.running = Some(self.start(piece, ahead, to)?);
        before.map_or(Ok(()), |step| self.compare(step, watch))
    }

    /// Starts a step.
    fn start(&mut self, piece: Vec<u8>, ahead: Vec<(u64, Alternate)>, to: u64) -> Result<Running> {
        let (logits, vectors) = match self.forward(&piece, &ahead)? {
            Some((hidden, given)) => {
                let logits = self.scorer.head.forward(&hidden)?;
                (Some(logits), Some(given.unwrap_or(hidden)))
            }
            None => (None, None),
        };
        let mut row = piece.len();
        let mut runs = Vec::new();
        for (_, alternate) in &ahead {
            let own = row + alternate.own;
            runs.push(own.saturating_sub(1).max(row)..own);
            runs.push(row..row + alternate.around(self.settings));
            row += alternate.tokens;
        }
        let of_alternates = Sums::of(vectors.as_ref(), self.scorer.engine.facts.width, &runs)?;
        if let Some(vectors) = vectors.filter(|_| !piece.is_empty()) {
            self.kept.push(vectors.narrow(0, 0, piece.len())?)?;
        }
        let from = std::mem::replace(&mut self.position, to);
        let jobs = self.queue.ask(to);
        let count = jobs.len();
        let runs = jobs.flat_map(|job| job.measure.runs(&job.job.variant));
        let of_reference = self.kept.sums(runs)?;
        let needed = self.queue.unasked_from().unwrap_or(to).min(to);
        self.kept.forget(self.before(needed))?;
        Ok(Running {
            from,
            piece,
            ahead,
            logits,
            of_alternates,
            of_reference,
            jobs: count,
        })
    }

    /// What the head reads of a piece of the reference and then of alternates, and the vectors that
    /// are compared if they are others; nothing of no tokens.
    fn forward(
        &mut self,
        piece: &[u8],
        ahead: &[(u64, Alternate)],
    ) -> Result<Option<(Tensor, Option<Tensor>)>> {
        let engine = &self.scorer.engine;
        let mut codes = piece.to_vec();
        let (mut segments, mut branches) = (Vec::new(), Vec::new());
        let segment = |len, starts, ends| Segment {
            lane: 0,
            len,
            starts,
            ends,
        };
        if !piece.is_empty() {
            segments.push(segment(piece.len(), self.position == self.start, false));
        }
        let runs = ahead.iter().filter(|(_, alternate)| alternate.tokens > 0);
        for (site, alternate) in runs {
            let len = alternate.tokens;
            codes.extend(&alternate.codes[..len]);
            // With no base before it an alternate is a sequence of its own.
            if *site == self.start {
                segments.push(segment(len, true, true));
            } else {
                let after = (site - self.position) as usize - 1;
                branches.push(Branch { after, len });
            }
        }
        if codes.is_empty() {
            return Ok(None);
        }
        let tokens = engine.tokens(&codes);
        let state = &mut self.state;
        engine
            .hidden_branched(tokens, &segments, &branches, state)
            .map(Some)
    }

    /// Compares the jobs whose reference and alternate both have run after a step.
    fn compare(&mut self, step: Step, watch: &mut Watch) -> Result<()> {
        let head = self.scorer.head;
        self.queue.ran(self.haplotypes(&step));
        let rows = step.piece.len() * head.width();
        let logits = &step.logits[..rows];
        let readings = readings(head, true, &self.last, logits, &step.piece);
        self.known.read(&readings);
        self.line.push(readings, &[]);
        if rows > 0 {
            self.last = logits[rows - head.width()..].to_vec();
        }
        watch(
            (step.logits.len() / head.width()) as u64,
            self.strand.name(),
        )?;
        let (line, jobs) = (&self.line, self.queue.take(step.jobs));
        let sums = step.of_reference.as_chunks::<RUNS>().0;
        let compared = jobs.into_par_iter().zip(sums);
        let compared = compared.map(|(job, sums)| job.compare(line, sums));
        self.finished.par_extend(compared);
        let needed = self.queue.from().unwrap_or(self.position);
        self.line.forget(self.before(needed));
        Ok(())
    }

    /// What was read of a step's alternates.
    fn haplotypes(&self, step: &Step) -> Vec<Haplotype> {
        let head = self.scorer.head;
        let mut end = step.piece.len();
        let rows = step.ahead.iter().map(|(site, alternate)| {
            // Of what starts with the site, nothing comes before.
            let last = (*site > self.start).then(|| (site - step.from) as usize - 1);
            let first = end;
            end += alternate.tokens;
            (last.map_or(0..0, |last| last..last + 1), first..end)
        });
        let rows: Vec<_> = rows.collect();
        let of = |rows: &Range<usize>| {
            let width = head.width();
            &step.logits[rows.start * width..rows.end * width]
        };
        let each = step.ahead.par_iter().zip(&rows);
        let each = each.zip(step.of_alternates.par_chunks(2));
        let read = each.map(|(((_, alternate), (before, rows)), sums)| Haplotype {
            readings: alternate.readings(head, of(before), of(rows)),
            site: sums[0].mean(),
            around: sums[1].clone(),
            left: None,
        });
        read.collect()
    }

    /// The first position that is kept for the sake of another: there is the vector before a
    /// deletion, too.
    fn before(&self, position: u64) -> u64 {
        position.saturating_sub(self.settings.around as u64 + 1)
    }
}

/// A step that the device is at work on.
struct Running {
    /// The first position of its piece of the reference.
    from: u64,
    piece: Vec<u8>,
    /// The alternates beside it, each with its site.
    ahead: Vec<(u64, Alternate)>,
    logits: Option<Tensor>, // (T, V)
    /// Of each alternate, the vector at its site, and of those around it.
    of_alternates: Sums,
    /// Of each job that will be ready, those of the reference.
    of_reference: Sums,
    jobs: usize,
}

/// The same when it has run.
struct Step {
    from: u64,
    piece: Vec<u8>,
    ahead: Vec<(u64, Alternate)>,
    logits: Vec<f32>,
    of_alternates: Vec<Sum>,
    of_reference: Vec<Sum>,
    jobs: usize,
}

impl Running {
    /// Waits for the step.
    ///
    /// # Errors
    /// Model: a number of it is not finite.
    fn read(self, head: &LanguageModel, strand: &ContigStrand) -> Result<Step> {
        let logits = self.logits.map(|logits| logits.to_vec1());
        let logits: Vec<f32> = logits.transpose()?.unwrap_or_default();
        // A vector that is not finite, of whichever layer, leaves no logit that is.
        let (name, rows) = (strand.name(), self.piece.len());
        check_finite(&logits, head.width(), |row| {
            if row < rows {
                format!("{name}:{}", self.from + row as u64 + 1)
            } else {
                format!("an alternate of {name}")
            }
        })?;
        Ok(Step {
            from: self.from,
            piece: self.piece,
            ahead: self.ahead,
            logits,
            of_alternates: self.of_alternates.read()?,
            of_reference: self.of_reference.read()?,
            jobs: self.jobs,
        })
    }
}
