//! The reference streams once, in pieces that have the alternates of the sites in them beside
//! them: each branches off behind the base before its site, in the same step. On a GPU a step from
//! one site to the next would be far too short, and a copied state at each site far too large.

use super::contig::ContigStrand;
use super::kept::{Kept, Sums};
use super::line::{Haplotype, Line, Reading, Sum};
use super::queue::{Alternate, Queue};
use super::scores::RUNS;
use super::{Job, Scorer, Settings, Watch};
use crate::encoder::{Branch, Encoder, Segment, State};
use crate::error::Result;
use crate::head::PREDICTIONS;
use crate::ops::{Later, Tensor};
use crate::sequence::N;
use crate::stream::{check_finite, load, store};
use crate::table::{Known, Scores};
use rayon::prelude::*;
use std::io::{Read, Write};
use std::iter::once;

/// One strand of one contig, from its start to the last site.
///
/// Memory: a step of `chunk` tokens, or of the alternates of one site if they are more, and its
/// logits, on the device; what was read of two; and of the reference as many positions as a
/// variant's bases, those after it and those around it, their vectors on the device.
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
    /// The logits after the reference's last token: what comes after is predicted from them.
    last: Option<Tensor>, // (1, V)
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
            last: None,
            known: Known::default(),
            finished: Vec::new(),
        })
    }

    /// Runs one step towards the next site, if it is further than a step; whether it is not.
    pub fn approach(&mut self, site: u64, watch: &mut Watch) -> Result<bool> {
        if let Some(restart) = self.queue.restart(self.settings, site, self.position) {
            self.finish(watch)?;
            (self.start, self.position) = (restart, restart);
            self.kept = Kept::new(restart, self.scorer.engine.facts.width);
            self.line = Line::new(restart, 0);
            self.last = None;
        }
        let is_near = site - self.position <= self.settings.chunk as u64;
        if !is_near {
            self.step_towards(site, watch)?;
        }
        Ok(is_near)
    }

    /// The jobs of the next site, all with the same start.
    pub fn site(&mut self, jobs: Vec<Job>, watch: &mut Watch) -> Result<()> {
        let Some(site) = jobs.first().map(|job| job.variant.start) else {
            return Ok(());
        };
        while !self.approach(site, watch)? {}
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
            self.step_towards(site, watch)?;
        }
    }

    /// A step with the alternates that are to run, or else with the reference alone.
    fn step_towards(&mut self, site: u64, watch: &mut Watch) -> Result<()> {
        let to = match self.ahead.last() {
            Some((last, _)) => *last,
            None => (site - 1).min(self.position + self.settings.chunk as u64),
        };
        self.run(to, watch)
    }

    /// Waits for the step that is running. It begins none: steps must end where those of a run that
    /// nobody stops do.
    pub fn rest(&mut self, watch: &mut Watch) -> Result<()> {
        match self.running.take() {
            Some(step) => self.compare(step.read(&self.strand)?, watch),
            None => Ok(()),
        }
    }

    /// Stores what the pass carries after [`Self::rest`].
    pub fn save(&self, file: &mut dyn Write) -> Result<()> {
        store(&(&self.state, self.start, self.position), file)?;
        store(&(&self.queue, &self.ahead, self.tokens, &self.line), file)?;
        let last = self.last.as_ref().map(Tensor::to_vec1::<f32>);
        store(&last.transpose()?, file)?;
        self.kept.save(file)
    }

    /// Takes up what [`Self::save`] stored.
    pub fn restore(&mut self, file: &mut dyn Read) -> Result<()> {
        (self.state, self.start, self.position) = load(file)?;
        (self.queue, self.ahead, self.tokens, self.line) = load(file)?;
        let device = &self.scorer.engine.device;
        let last: Option<Vec<f32>> = load(file)?;
        let last = last.map(|last| {
            let shape = (1, last.len());
            Tensor::from_vec(last, shape, device)
        });
        self.last = last.transpose()?;
        self.kept.restore(device, file)
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
        self.rest(watch)
    }

    /// A step with the reference up to a position, and the alternates that are to run. While the
    /// device is at work on it, the step before is read and compared.
    fn run(&mut self, to: u64, watch: &mut Watch) -> Result<()> {
        let ahead = std::mem::take(&mut self.ahead);
        self.tokens = 0;
        let piece = self.strand.read(self.position..to)?;
        let next = self.start(piece, ahead, to)?;
        match self.running.replace(next) {
            Some(before) => self.compare(before.read(&self.strand)?, watch),
            None => Ok(()),
        }
    }

    /// Starts a step.
    fn start(&mut self, piece: Vec<u8>, ahead: Vec<(u64, Alternate)>, to: u64) -> Result<Running> {
        let stretches = self.stretches(&piece, &ahead);
        let (predictions, vectors) = match self.forward(&piece, &ahead)? {
            Some((hidden, given)) => {
                let predictions = self.predict(&hidden, &piece, &ahead, &stretches[1..])?;
                (Some(predictions.later()?), Some(given.unwrap_or(hidden)))
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
            stretches,
            predictions,
            of_alternates,
            of_reference,
            jobs: count,
        })
    }

    /// The piece, then the alternates beside it.
    fn stretches(&self, piece: &[u8], ahead: &[(u64, Alternate)]) -> Vec<Stretch> {
        let piece = Stretch {
            starts: self.last.is_none(),
            tokens: piece.len(),
            bases: piece.len(),
        };
        let alternates = ahead.iter().map(|(site, alternate)| Stretch {
            starts: *site == self.start,
            tokens: alternate.tokens,
            bases: alternate.codes.len(),
        });
        once(piece).chain(alternates).collect()
    }

    /// What the head predicts, by what it reads of a piece of the reference and then of alternates,
    /// whose `stretches` are given: of the bases of the piece, and the one after it; and the same of each alternate. A
    /// sequence's first base has none, as nothing comes before it.
    fn predict(
        &mut self,
        hidden: &Tensor,
        piece: &[u8],
        ahead: &[(u64, Alternate)],
        stretches: &[Stretch],
    ) -> Result<Tensor> {
        let head = self.scorer.head;
        let logits = head.forward(hidden)?;
        // What comes after the last base is of no interest, but that it is finite is.
        let bases = piece.iter().copied().chain(once(N));
        let mut asked: Vec<(usize, u8)> = (0..piece.len()).zip(bases.clone().skip(1)).collect();
        let first = first_rows(piece, ahead);
        let (position, each) = (self.position, first.par_iter().zip(ahead).zip(stretches));
        asked.par_extend(each.flat_map_iter(|((&row, (site, alternate)), stretch)| {
            let before = (site - position) as usize;
            let rows = (!stretch.starts).then(|| before - 1).into_iter();
            let rows = rows.chain(row..row + alternate.tokens);
            let bases = alternate.codes.iter().copied().chain(once(N));
            rows.zip(bases.skip(usize::from(stretch.starts)))
        }));
        let predictions = head.predictions(&logits, &asked)?;
        let predictions = match &self.last {
            Some(last) => {
                let first: Vec<_> = bases.take(1).map(|code| (0, code)).collect();
                Tensor::cat(&[head.predictions(last, &first)?, predictions], 0)?
            }
            None => predictions,
        };
        if !piece.is_empty() {
            self.last = Some(logits.narrow(0, piece.len() - 1, 1)?);
        }
        Ok(predictions)
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
        self.queue.ran(step.alternates);
        let logps = step.reference.iter().map(|reading| reading.logp);
        self.known.read(logps);
        self.line.push(step.reference, &[]);
        watch(step.tokens, self.strand.name())?;
        let (line, jobs) = (&self.line, self.queue.take(step.jobs));
        let sums = step.of_reference.as_chunks::<RUNS>().0;
        let compared = jobs.into_par_iter().zip(sums);
        let compared = compared.map(|(job, sums)| job.compare(line, sums));
        self.finished.par_extend(compared);
        let needed = self.queue.from().unwrap_or(self.position);
        self.line.forget(self.before(needed));
        Ok(())
    }

    /// The first position that is kept for the sake of another: there is the vector before a
    /// deletion, too.
    fn before(&self, position: u64) -> u64 {
        position.saturating_sub(self.settings.around as u64 + 1)
    }
}

/// The first row of each alternate: they lie behind the piece of the reference.
fn first_rows(piece: &[u8], ahead: &[(u64, Alternate)]) -> Vec<usize> {
    let rows = ahead.iter().scan(piece.len(), |row, (_, alternate)| {
        let first = *row;
        *row += alternate.tokens;
        Some(first)
    });
    rows.collect()
}

/// A step that the device is at work on.
struct Running {
    /// The first position of its piece of the reference.
    from: u64,
    /// The piece, then the alternates beside it.
    stretches: Vec<Stretch>,
    predictions: Option<Later>, // (asked, PREDICTIONS)
    /// Of each alternate, the vector at its site, and of those around it.
    of_alternates: Sums,
    /// Of each job that will be ready, those of the reference.
    of_reference: Sums,
    jobs: usize,
}

/// Bases in a row, of which predictions were asked for.
struct Stretch {
    /// Nothing comes before the first.
    starts: bool,
    /// How many of them are run.
    tokens: usize,
    bases: usize,
}

/// What was read of a step.
struct Step {
    tokens: u64,
    reference: Vec<Reading>,
    alternates: Vec<Haplotype>,
    of_reference: Vec<Sum>,
    jobs: usize,
}

impl Stretch {
    /// Predictions that were asked for: by each token, and by the one before the first.
    fn asked(&self) -> usize {
        self.tokens + usize::from(!self.starts)
    }

    /// The readings of its bases.
    fn read(&self, predictions: &[[f32; PREDICTIONS]]) -> Vec<Reading> {
        let first = self.starts.then_some(Reading::NONE);
        let rest = predictions.iter().map(Reading::of);
        first.into_iter().chain(rest).take(self.bases).collect()
    }
}

impl Running {
    /// Waits for the step.
    ///
    /// # Errors
    /// Model: a number of it is not finite.
    fn read(self, strand: &ContigStrand) -> Result<Step> {
        let predictions = self.predictions.as_ref().map(Later::read);
        let predictions = predictions.transpose()?.unwrap_or_default();
        let mut rest = predictions.as_chunks().0;
        self.check(rest, strand)?;
        let parts = self.stretches.iter().map(|stretch| {
            let (own, others) = rest.split_at(stretch.asked().min(rest.len()));
            rest = others;
            (stretch, own)
        });
        let parts: Vec<_> = parts.collect();
        let readings = parts
            .into_par_iter()
            .map(|(stretch, own)| stretch.read(own));
        let mut readings = readings.collect::<Vec<_>>().into_iter();
        let reference = readings.next().unwrap_or_default();
        let sums = self.of_alternates.read()?;
        let alternates = readings.zip(sums.chunks_exact(2));
        let alternates = alternates.map(|(readings, sums)| Haplotype {
            readings,
            site: sums[0].mean(),
            around: sums[1].clone(),
            left: None,
        });
        let tokens = self.stretches.iter().map(|stretch| stretch.tokens as u64);
        Ok(Step {
            tokens: tokens.sum(),
            reference,
            alternates: alternates.collect(),
            of_reference: self.of_reference.read()?,
            jobs: self.jobs,
        })
    }

    /// A vector that is not finite, of whichever layer, leaves no logit that is; and such a logit
    /// no prediction.
    fn check(&self, predictions: &[[f32; PREDICTIONS]], strand: &ContigStrand) -> Result<()> {
        // P(all other tokens), which every logit has a part in.
        let others: Vec<f32> = predictions.par_iter().map(|of| of[5]).collect();
        let goes_on = self.stretches.first().is_some_and(|piece| !piece.starts);
        let rows = self.stretches.first().map_or(0, Stretch::asked);
        check_finite(&others, 1, |row| {
            if row < rows {
                let position = self.from + (row + usize::from(!goes_on)) as u64;
                format!("{}:{position}", strand.name())
            } else {
                format!("an alternate of {}", strand.name())
            }
        })
    }
}
