//! Variant effects: what the model says of the reference, against what it says of each alternate.
//!
//! The reference streams once, with all that lies to its left. At each site the state is forked,
//! and each alternate runs from there over the bases after the site: left of it both haplotypes
//! are the same, and cancel. What the reference's own suffix says comes from the reference's pass,
//! a little later. So S sites with A bases after each cost the encoder the reference's length and
//! A bases an alternate, whatever the context: windows of W bases on either side cost 4 W a site.
//!
//! A variant is scored as [`Variant`] has it: without the bases that REF and ALT share, as far
//! left as it goes on the strand that is read. Equal changes have equal scores, however they were
//! spelled.

mod contig;
mod forks;
mod ledger;
mod line;
mod prepare;
mod reference;
mod scores;
mod windows;

pub use contig::{Contig, Strand};
pub use ledger::{Allele, Carried, Change, Ledger};
pub use prepare::{Checked, prepare};
pub use reference::Reference;
pub use scores::{Embeddings, NAMES, Scores};

use crate::encoder::{Facts, Model};
use crate::error::Result;
use crate::head::LanguageModel;
use crate::ops::{Device, Tensor};
use crate::sequence::allele::{Status, Variant};
use std::path::PathBuf;

/// What computes the numbers.
pub struct Scorer {
    /// The encoder.
    pub model: Model,
    /// Its sizes and tokens.
    pub facts: Facts,
    /// Hidden vectors to logits.
    pub head: LanguageModel,
}

/// How variants are scored.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Forks of a stream, or windows.
    pub mode: Mode,
    /// Bases after a variant that are scored, in a stream.
    pub after: usize,
    /// Bases before a site that the model must have read, in a stream; none: all of the contig.
    pub context: Option<u64>,
    /// Bases on either side of a variant in the mean vectors.
    pub around: usize,
    /// The longest allele that is scored.
    pub longest: usize,
    /// Score the reverse strand too.
    pub both_strands: bool,
    /// Vectors to keep.
    pub embeddings: Option<Embeddings>,
    /// Tokens of a step.
    pub chunk: usize,
    /// Where scratch files lie.
    pub scratch: PathBuf,
}

/// What the model has read before a variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of the contig.
    Stream,
    /// A window's bases, from an empty state.
    Window(Window),
}

/// A window around each site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its length.
    pub size: usize,
    /// Bases before the variant; less than `size`.
    pub left: usize,
}

/// One change of one contig, and the alleles of the ledger that are this change.
#[derive(Clone, Debug)]
pub struct Job {
    /// The change, on the strand that is read.
    pub variant: Variant,
    /// Its alleles' places.
    pub entries: Vec<usize>,
}

/// Is told after each step how many bases went through the encoder, and the contig's name; may
/// stop the run.
pub type Watch<'a> = dyn FnMut(u64, &str) -> Result<()> + 'a;

impl Scorer {
    fn tokens(&self, codes: &[u8]) -> Result<Tensor> {
        let tokens: Vec<u32> = codes
            .iter()
            .map(|&code| self.facts.vocabulary.token(code))
            .collect();
        Tensor::new(tokens, &Device::Cpu)
    }
}

/// Scores jobs of one strand, in the order of their starts; `done` takes each with its scores.
///
/// Jobs need variants that lie within the strand, with a reference that is the strand's.
pub fn score(
    scorer: &Scorer,
    settings: &Settings,
    strand: Strand,
    jobs: impl IntoIterator<Item = Result<Job>>,
    watch: &mut Watch,
    done: &mut dyn FnMut(Job, Scores) -> Result<()>,
) -> Result<()> {
    let mut jobs = jobs.into_iter().peekable();
    let mut site = || -> Result<Option<Vec<Job>>> {
        let Some(first) = jobs.next().transpose()? else {
            return Ok(None);
        };
        let start = first.variant.start;
        let mut site = vec![first];
        let same = |job: &Result<Job>| matches!(job, Ok(job) if job.variant.start == start);
        while let Some(job) = jobs.next_if(same).transpose()? {
            match site.iter_mut().find(|known| known.variant == job.variant) {
                Some(known) => known.entries.extend(job.entries),
                None => site.push(job),
            }
        }
        Ok(Some(site))
    };
    let mut finish = |finished: &mut Vec<(Job, Scores)>| -> Result<()> {
        for (job, mut scores) in finished.drain(..) {
            if strand.reverse {
                scores.mirror(strand.length());
            }
            done(job, scores)?;
        }
        Ok(())
    };
    let mut watch = |bases: u64, name: &str| watch(bases, name);
    match settings.mode {
        Mode::Stream => {
            let mut pass = forks::Pass::new(scorer, settings, strand, &mut watch)?;
            while let Some(jobs) = site()? {
                pass.site(jobs)?;
                finish(&mut pass.finished)?;
            }
            pass.finish()?;
            finish(&mut pass.finished)
        }
        Mode::Window(window) => {
            let mut pass = windows::Pass::new(scorer, settings, window, strand, &mut watch);
            while let Some(jobs) = site()? {
                pass.site(jobs)?;
                finish(&mut pass.finished)?;
            }
            pass.finish()?;
            finish(&mut pass.finished)
        }
    }
}

/// Scores all alleles of a prepared ledger, contig by contig.
///
/// Memory: besides the model's and the ledger's, 16 bytes for each allele of a contig. Scratch
/// files: a byte for each base of the contig at work.
pub fn run(
    scorer: &Scorer,
    settings: &Settings,
    reference: &Reference,
    ledger: &mut Ledger,
    watch: &mut Watch,
) -> Result<()> {
    let mut of_contig: Vec<Vec<usize>> = vec![Vec::new(); reference.contigs().len()];
    for i in (0..ledger.len()).filter(|&i| ledger.is_scored(i)) {
        if let Some(contig) = ledger.contig(i) {
            of_contig[contig].push(i);
        }
    }
    reference.each(&of_contig, &settings.scratch, |contig, entries| {
        for reverse in [false, true] {
            if reverse && !settings.both_strands {
                continue;
            }
            let strand = contig.strand(reverse);
            let mut order = Vec::with_capacity(entries.len());
            for &i in entries {
                if let Some(change) = ledger.change(i)? {
                    order.push((strand.variant(change.variant).start, i));
                }
            }
            strand.check()?;
            order.sort_unstable();
            // Scores are stored between the sites, since the jobs are read from the same ledger.
            let ledger = std::cell::RefCell::new(&mut *ledger);
            let jobs = order.iter().filter_map(|&(_, i)| {
                let change = ledger.borrow().change(i).transpose()?;
                Some(change.map(|change| Job {
                    variant: strand.variant(change.variant),
                    entries: vec![i],
                }))
            });
            score(
                scorer,
                settings,
                strand,
                jobs,
                watch,
                &mut |mut job, scores| {
                    let mut ledger = ledger.borrow_mut();
                    job.entries.sort_unstable();
                    for &i in &job.entries[1..] {
                        if ledger.status(i) == Status::Ok {
                            ledger.set_status(i, Status::Duplicate);
                        }
                    }
                    ledger.set_scores(&job.entries, reverse, &scores)
                },
            )?;
        }
        Ok(())
    })
}
