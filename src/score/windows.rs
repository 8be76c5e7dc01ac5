//! Whole windows around each site, each read with an empty state: what published protocols do,
//! and what a bidirectional model needs.

use super::contig::ContigStrand;
use super::kept::Sums;
use super::line::{Haplotype, Line, Reading, Sum};
use super::scores::{Measure, RUNS, masked as without_likelihoods};
use super::{Job, Scorer, Settings, Watch, Window};
use crate::encoder::{Encoder, Segment};
use crate::error::Result;
use crate::head::PREDICTIONS;
use crate::ops::Later;
use crate::sequence::N;
use crate::sequence::allele::Variant;
use crate::stream::check_finite;
use crate::table::{Known, Scores};
use rayon::prelude::*;
use std::iter::once;
use std::ops::Range;

/// Runs of an alternate's vectors that a comparison takes: its last base, those before the variant,
/// and from it on.
const OWN: usize = 3;

/// One strand of one contig.
///
/// Memory: a step of `chunk` tokens, or of the windows of one site, and its logits, on the device;
/// and what was read of two.
pub(super) struct WindowPass<'a> {
    scorer: Scorer<'a>,
    settings: &'a Settings,
    window: Window,
    strand: ContigStrand,
    /// Sites that are to run.
    sites: Vec<Site>,
    tokens: usize,
    running: Option<Running>,
    /// What was said of the reference: of a bidirectional model, where it was masked.
    pub known: Known,
    /// Jobs that are done.
    pub finished: Vec<(Job, Scores)>,
}

/// One stretch of the reference, and the jobs that it is the window of.
struct Site {
    start: u64,
    reference: Vec<u8>,
    jobs: Vec<(Job, Vec<u8>)>,
}

/// A step that the device is at work on.
struct Running {
    sites: Vec<Site>,
    tokens: u64,
    predictions: Later, // (asked, PREDICTIONS)
    /// Of each job, the runs of the reference, then its own.
    sums: Sums,
}

/// The windows of a step, one behind the other.
#[derive(Default)]
struct Rows {
    tokens: Vec<u32>,
    segments: Vec<Segment>,
    /// Rows, and the bases that they predict.
    asked: Vec<(usize, u8)>,
    runs: Vec<Range<usize>>,
}

impl Rows {
    /// Appends a window; gives its first row.
    fn push(&mut self, tokens: Vec<u32>) -> usize {
        let first = self.tokens.len();
        self.segments.push(Segment {
            lane: 0,
            len: tokens.len(),
            starts: true,
            ends: true,
        });
        self.tokens.extend(tokens);
        first
    }

    /// Asks each token of a window for the base that it predicts: the next one, or its own. What
    /// comes after the last base is of no interest, but that it is finite is.
    fn ask(&mut self, first: usize, codes: &[u8], causal: bool) {
        let bases = codes.iter().copied().chain(once(N));
        let bases = bases.skip(usize::from(causal)).take(codes.len());
        self.asked.extend((first..).zip(bases));
    }
}

impl<'a> WindowPass<'a> {
    pub fn new(
        scorer: Scorer<'a>,
        settings: &'a Settings,
        window: Window,
        strand: ContigStrand,
    ) -> Self {
        Self {
            scorer,
            settings,
            window,
            strand,
            sites: Vec::new(),
            tokens: 0,
            running: None,
            known: Known::default(),
            finished: Vec::new(),
        }
    }

    /// The jobs of the next site, all with the same start.
    pub fn site(&mut self, jobs: Vec<Job>, watch: &mut Watch) -> Result<()> {
        let mut jobs = jobs.into_iter().peekable();
        // On the reverse strand the window is the same bases, so what lies left depends on how
        // many bases the variant has.
        while let Some(first) = jobs.peek().map(|job| job.variant.clone()) {
            let (start, end) = self.bounds(&first);
            let mut site = Site {
                start,
                reference: self.strand.read(start..end)?,
                jobs: Vec::new(),
            };
            let mut tokens = site.reference.len();
            while let Some(job) = jobs.next_if(|job| self.bounds(&job.variant) == (start, end)) {
                let codes = self.alternate(&job.variant, start)?;
                tokens += codes.len()
                    * if self.scorer.engine.facts.causal {
                        1
                    } else {
                        2
                    };
                site.jobs.push((job, codes));
            }
            if self.tokens > 0 && self.tokens + tokens > self.settings.chunk {
                self.run(watch)?;
            }
            self.tokens += tokens;
            self.sites.push(site);
        }
        Ok(())
    }

    /// Runs what is left.
    pub fn finish(&mut self, watch: &mut Watch) -> Result<()> {
        self.run(watch)?;
        match self.running.take() {
            Some(step) => self.read(step, watch),
            None => Ok(()),
        }
    }

    /// Bases of the window before a variant.
    fn left(&self, variant: &Variant) -> usize {
        self.window.left_of(variant, self.strand.reverse)
    }

    /// The window of a variant.
    fn bounds(&self, variant: &Variant) -> (u64, u64) {
        let size = self.window.size;
        let left = self.left(variant) as u64;
        let end = (variant.start + size as u64 - left).min(self.strand.length());
        (variant.start.saturating_sub(left), end)
    }

    /// The window with the alternate in it, of the same length where there are bases enough.
    fn alternate(&self, variant: &Variant, start: u64) -> Result<Vec<u8>> {
        let room =
            (self.window.size - self.left(variant)).saturating_sub(variant.alternate.len()) as u64;
        let mut codes = self.strand.read(start..variant.start)?;
        codes.extend(&variant.alternate);
        let end = variant.end().min(self.strand.length());
        codes.extend(
            self.strand
                .read(end..(end + room).min(self.strand.length()))?,
        );
        Ok(codes)
    }

    /// A step of the windows that wait. While the device is at work on it, the step before is read
    /// and compared.
    fn run(&mut self, watch: &mut Watch) -> Result<()> {
        let sites = std::mem::take(&mut self.sites);
        self.tokens = 0;
        if sites.is_empty() {
            return Ok(());
        }
        let next = self.start(sites)?;
        match self.running.replace(next) {
            Some(before) => self.read(before, watch),
            None => Ok(()),
        }
    }

    fn start(&self, sites: Vec<Site>) -> Result<Running> {
        let Scorer { engine, head } = self.scorer;
        let causal = engine.facts.causal;
        let mut rows = Rows::default();
        for site in &sites {
            let first = rows.push(engine.tokens(&site.reference));
            rows.ask(first, &site.reference, causal);
            for (job, codes) in &site.jobs {
                let own = rows.push(engine.tokens(codes));
                rows.ask(own, codes, causal);
                self.take_runs(&mut rows.runs, site, (job, codes), [first, own]);
                let Some(bases) = masked(&job.variant, site.start, causal) else {
                    continue;
                };
                let mut tokens = engine.tokens(&site.reference);
                tokens[bases.clone()].fill(engine.mask()?);
                let first = rows.push(tokens);
                let Variant {
                    reference,
                    alternate,
                    ..
                } = &job.variant;
                for (base, alleles) in bases.zip(reference.iter().zip(alternate)) {
                    let asked = [alleles.0, alleles.1].map(|&code| (first + base, code));
                    rows.asked.extend(asked);
                }
            }
        }
        let total = rows.tokens.len() as u64;
        let mut state = engine.model.start(1)?;
        let (hidden, given) = engine.hidden(rows.tokens, &rows.segments, &mut state)?;
        let predictions = head.predictions(&head.forward(&hidden)?, &rows.asked)?;
        let vectors = given.unwrap_or(hidden);
        Ok(Running {
            sites,
            tokens: total,
            predictions: predictions.later()?,
            sums: Sums::of(Some(&vectors), engine.facts.width, &rows.runs)?,
        })
    }

    /// Appends the rows whose vectors a job is compared by; `first`: those of the windows of the
    /// reference and of the alternate.
    fn take_runs(
        &self,
        runs: &mut Vec<Range<usize>>,
        site: &Site,
        (job, codes): (&Job, &[u8]),
        [first, own]: [usize; 2],
    ) {
        let (variant, around) = (&job.variant, self.settings.around);
        let measure = self.measure(site, variant, codes);
        let row = |position: u64| {
            let offset = position.saturating_sub(site.start) as usize;
            first + offset.min(site.reference.len())
        };
        let of_reference = measure
            .runs(variant)
            .map(|run| row(run.start)..row(run.end));
        runs.extend(of_reference);
        let left = own + (variant.start - site.start) as usize;
        let end = left + variant.alternate.len();
        runs.extend([
            end.saturating_sub(1).max(own)..end,
            left.saturating_sub(around).max(own)..left,
            left..end + (measure.shared as usize).min(around),
        ]);
    }

    fn measure(&self, site: &Site, variant: &Variant, codes: &[u8]) -> Measure {
        let left = (variant.start - site.start) as usize;
        let to = site.start + site.reference.len() as u64;
        let behind = (codes.len() - left - variant.alternate.len()) as u64;
        Measure {
            from: site.start,
            to,
            around: self.settings.around as u64,
            shared: behind.min(to.saturating_sub(variant.end())),
            embeddings: self.settings.embeddings,
        }
    }

    /// Waits for a step, and compares its jobs.
    ///
    /// # Errors
    /// Model: a number of it is not finite.
    fn read(&mut self, step: Running, watch: &mut Watch) -> Result<()> {
        let predictions = step.predictions.read()?;
        let mut rest = predictions.as_chunks::<PREDICTIONS>().0;
        // P(all other tokens), which every logit has a part in.
        let others: Vec<f32> = rest.iter().map(|of| of[5]).collect();
        let place = |_| format!("a window of {}", self.strand.name());
        check_finite(&others, 1, place)?;
        let sums = step.sums.read()?;
        watch(step.tokens, self.strand.name())?;
        let causal = self.scorer.engine.facts.causal;
        let mut sums = &sums[..];
        let parts = step.sites.into_iter().map(|site| {
            let (own, others) = rest.split_at(site.asked(causal).min(rest.len()));
            rest = others;
            let (of_site, others) = sums.split_at(site.jobs.len() * (RUNS + OWN));
            sums = others;
            (site, own, of_site)
        });
        let parts: Vec<_> = parts.collect();
        let compared = parts.into_par_iter();
        let compared = compared.map(|(site, predictions, sums)| {
            let mut predictions = Readings {
                rest: predictions,
                causal,
            };
            self.compare(site, &mut predictions, sums)
        });
        let compared: Vec<_> = compared.collect();
        for (scores, logps) in compared {
            self.finished.extend(scores);
            self.known.read(logps);
        }
        Ok(())
    }

    /// The scores of a site's jobs, and what was said of the reference's bases.
    fn compare(
        &self,
        site: Site,
        predictions: &mut Readings,
        sums: &[Sum],
    ) -> (Vec<(Job, Scores)>, Vec<f32>) {
        let causal = self.scorer.engine.facts.causal;
        let of_reference = predictions.of_window(site.reference.len());
        let mut logps = Vec::new();
        if causal {
            logps.extend(of_reference.iter().map(|reading| reading.logp));
        }
        // Vectors stayed on the device.
        let mut line = Line::new(site.start, 0);
        line.push(of_reference, &[]);
        let each = site.jobs.iter().zip(sums.chunks_exact(RUNS + OWN));
        let compared = each.map(|((job, codes), sums)| {
            let variant = &job.variant;
            let measure = self.measure(&site, variant, codes);
            let (of_reference, own) = sums.split_at(RUNS);
            let of_reference: [Sum; RUNS] = std::array::from_fn(|at| of_reference[at].clone());
            let left = (variant.start - site.start) as usize;
            let haplotype = Haplotype {
                readings: predictions.of_window(codes.len()).split_off(left),
                site: own[0].mean(),
                around: own[2].clone(),
                left: Some(own[1].clone()),
            };
            let changes = variant.reference != variant.alternate;
            let alternate = changes.then_some(&haplotype);
            let mut scores = measure.compare(&line, &of_reference, variant, alternate);
            if !causal {
                let bases = masked(variant, site.start, causal);
                let llr = bases.map(|bases| predictions.masked(bases.len(), &mut logps));
                without_likelihoods(&mut scores, llr.unwrap_or(f64::NAN));
            }
            scores
        });
        let compared: Vec<Scores> = compared.collect();
        let jobs = site.jobs.into_iter().map(|(job, _)| job);
        (jobs.zip(compared).collect(), logps)
    }
}

impl Site {
    /// Predictions that were asked for.
    fn asked(&self, causal: bool) -> usize {
        let of_jobs = self.jobs.iter().map(|(job, codes)| {
            let bases = masked(&job.variant, self.start, causal);
            codes.len() + 2 * bases.map_or(0, |bases| bases.len())
        });
        self.reference.len() + of_jobs.sum::<usize>()
    }
}

/// The predictions of a site's windows that were not taken yet.
struct Readings<'a> {
    rest: &'a [[f32; PREDICTIONS]],
    causal: bool,
}

impl Readings<'_> {
    fn take(&mut self, count: usize) -> &[[f32; PREDICTIONS]] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// Of the bases of a window.
    fn of_window(&mut self, bases: usize) -> Vec<Reading> {
        let first = self.causal.then_some(Reading::NONE);
        let rest = self.take(bases).iter().map(Reading::of);
        first.into_iter().chain(rest).take(bases).collect()
    }

    /// log P(ALT) − log P(REF) of so many masked bases; log P(REF) of each goes to `logps`.
    fn masked(&mut self, bases: usize, logps: &mut Vec<f32>) -> f64 {
        let alleles = self.take(2 * bases).chunks_exact(2);
        let each = alleles.map(|of| {
            let [reference, alternate] = [of[0][0], of[1][0]];
            logps.push(reference);
            f64::from(alternate) - f64::from(reference)
        });
        each.sum()
    }
}

/// The bases of the window that are masked for a bidirectional model, to ask it for the alleles:
/// those of a variant that replaces bases by as many others.
fn masked(variant: &Variant, start: u64, causal: bool) -> Option<Range<usize>> {
    let len = variant.reference.len();
    let fits = !causal && len > 0 && len == variant.alternate.len();
    let from = (variant.start - start) as usize;
    fits.then(|| from..from + len)
}
