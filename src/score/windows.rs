//! Whole windows around each site, each read with an empty state: what published protocols do,
//! and what a bidirectional model needs.

use super::contig::ContigStrand;
use super::line::{Haplotype, Line, Reading, Sum, outputs, readings};
use super::scores::{Measure, masked as without_likelihoods};
use super::{Job, Scorer, Settings, Watch, Window};
use crate::encoder::{Encoder, Segment};
use crate::error::Result;
use crate::sequence::allele::Variant;
use crate::table::{Known, Scores};
use std::ops::Range;

/// One strand of one contig.
///
/// Memory: hidden vectors and logits of a step of `chunk` tokens, or of the windows of one site.
pub(super) struct WindowPass<'a> {
    scorer: Scorer<'a>,
    settings: &'a Settings,
    window: Window,
    strand: ContigStrand,
    /// Sites that are to run.
    sites: Vec<Site>,
    tokens: usize,
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

/// One window's outputs.
struct Run<'a> {
    hidden: &'a [f32],
    logits: &'a [f32],
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
        self.run(watch)
    }

    /// Bases of the window before a variant: on the reverse strand those after it.
    fn left(&self, variant: &Variant) -> usize {
        let Window { size, left } = self.window;
        if self.strand.reverse {
            size.saturating_sub(left + variant.reference.len().max(1))
        } else {
            left
        }
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

    fn run(&mut self, watch: &mut Watch) -> Result<()> {
        let sites = std::mem::take(&mut self.sites);
        self.tokens = 0;
        if sites.is_empty() {
            return Ok(());
        }
        let (scorer, causal) = (self.scorer, self.scorer.engine.facts.causal);
        let engine = &scorer.engine;
        let (mut tokens, mut lengths) = (Vec::new(), Vec::new());
        let mut push = |codes: &[u8], masked: Range<usize>| -> Result<()> {
            let first = tokens.len();
            tokens.extend(engine.tokens(codes));
            for token in masked {
                tokens[first + token] = engine.mask()?;
            }
            lengths.push(codes.len());
            Ok(())
        };
        for site in &sites {
            push(&site.reference, 0..0)?;
            for (job, codes) in &site.jobs {
                push(codes, 0..0)?;
                if let Some(bases) = masked(&job.variant, site.start, causal) {
                    push(&site.reference, bases)?;
                }
            }
        }
        let segments: Vec<Segment> = lengths
            .iter()
            .map(|&len| Segment {
                lane: 0,
                len,
                starts: true,
                ends: true,
            })
            .collect();
        let total = tokens.len();
        let mut state = engine.model.start(1)?;
        let found = engine.hidden(tokens, &segments, &mut state)?;
        let place = |_| format!("a window of {}", self.strand.name());
        let (hidden, logits) = outputs(scorer.head, found, place)?;
        watch(total as u64, self.strand.name())?;
        let (width, columns) = (engine.facts.width, scorer.head.width());
        let mut from = 0;
        let runs = lengths.iter().map(|len| {
            let rows = from..from + len;
            from += len;
            Run {
                hidden: &hidden[rows.start * width..rows.end * width],
                logits: &logits[rows.start * columns..rows.end * columns],
            }
        });
        let mut runs = runs.collect::<Vec<_>>().into_iter();
        for site in sites {
            self.compare(site, &mut runs);
        }
        Ok(())
    }

    fn compare<'b>(&mut self, site: Site, runs: &mut impl Iterator<Item = Run<'b>>) {
        let (scorer, around) = (self.scorer, self.settings.around);
        let (head, facts) = (&scorer.head, &scorer.engine.facts);
        let (causal, width, columns) = (facts.causal, facts.width, head.width());
        let Some(reference) = runs.next() else {
            return;
        };
        let mut line = Line::new(site.start, width);
        let of_reference = readings(head, causal, &[], reference.logits, &site.reference);
        if causal {
            self.known
                .read(of_reference.iter().map(|reading| reading.logp));
        }
        line.push(of_reference, reference.hidden);
        for (job, codes) in site.jobs {
            let Some(alternate) = runs.next() else {
                return;
            };
            let variant = &job.variant;
            let left = (variant.start - site.start) as usize;
            let own = variant.alternate.len();
            let to = site.start + site.reference.len() as u64;
            let shared = (codes.len() - left - own).min(to.saturating_sub(variant.end()) as usize);
            let vector = |row: usize| alternate.hidden[row * width..][..width].to_vec();
            let (mut before, mut after) = (Sum::new(width), Sum::new(width));
            before.add(&alternate.hidden[left.saturating_sub(around) * width..left * width]);
            let end = left + own + shared.min(around);
            after.add(&alternate.hidden[left * width..end * width]);
            let mut of_alternate = readings(head, causal, &[], alternate.logits, &codes);
            let haplotype = Haplotype {
                readings: of_alternate.split_off(left),
                site: (left + own).checked_sub(1).map(vector),
                around: after,
                left: Some(before),
            };
            let measure = Measure {
                from: site.start,
                to,
                around: around as u64,
                shared: shared as u64,
                embeddings: self.settings.embeddings,
            };
            let changes = variant.reference != variant.alternate;
            let sums = measure.sums(&line, variant);
            let alternate = changes.then_some(&haplotype);
            let mut scores = measure.compare(&line, &sums, variant, alternate);
            if !causal {
                let llr = masked(variant, site.start, causal).and_then(|bases| {
                    let rows = &runs.next()?.logits[bases.start * columns..];
                    Some(self.masked(rows, variant))
                });
                without_likelihoods(&mut scores, llr.unwrap_or(f64::NAN));
            }
            self.finished.push((job, scores));
        }
    }

    /// log P(ALT) − log P(REF) by the logits of the variant's masked bases.
    fn masked(&mut self, logits: &[f32], variant: &Variant) -> f64 {
        let (head, vocabulary) = (&self.scorer.head, &self.scorer.engine.facts.vocabulary);
        let token = |code: u8| vocabulary.token(code) as usize;
        let alleles = variant.alternate.iter().zip(&variant.reference);
        let rows = logits.chunks_exact(head.width()).zip(alleles);
        let mut llr = 0.0;
        for (row, (alternate, reference)) in rows {
            let reading = Reading::new(head, row, *reference);
            self.known.read([reading.logp]);
            llr += f64::from(row[token(*alternate)]) - f64::from(row[token(*reference)]);
        }
        llr
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
