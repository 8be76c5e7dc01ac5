//! The sites of a ledger in the order in which a strand meets them: what the pipeline reads.

use super::contig::ContigStrand;
use super::ledger::Ledger;
use super::pass::merged;
use super::quartets::missing;
use super::reference::{Reference, WantedContigs};
use super::{Job, Settings};
use crate::error::Result;
use crate::stream::Position;
use crate::stream::pipeline::{Batched, Source};
use std::sync::{PoisonError, RwLock};

/// Sites that are handed on together.
const TOGETHER: usize = 64;

/// About the bytes of a job.
const JOB: usize = 256;

/// Sites of one strand of one contig.
pub(super) struct SiteStep {
    pub strand: ContigStrand,
    pub sites: Vec<Site>,
    /// After these the strand ends.
    pub ends: bool,
}

/// The jobs of a site, all with the same start.
pub(super) struct Site {
    /// Where a run goes on that was stopped before it.
    pub position: Position,
    pub start: u64,
    pub jobs: Vec<Job>,
}

/// Reads contigs, and makes steps of their sites.
pub(super) struct Sites<'a> {
    settings: &'a Settings,
    ledger: &'a RwLock<Ledger>,
    /// The alleles of each contig that are scored.
    of_contig: Vec<Vec<usize>>,
    contigs: WantedContigs,
    /// Strands that are to come of the contig at work, the next one last.
    strands: Vec<(ContigStrand, usize)>,
    current: Option<StrandSites>,
    /// Strands that were read to their end.
    finished: u64,
}

/// A strand's sites.
struct StrandSites {
    strand: ContigStrand,
    /// Where each allele starts, and its place in the ledger, in order.
    order: Vec<(u64, usize)>,
    /// Alleles that were handed on.
    done: usize,
}

impl<'a> Sites<'a> {
    /// The sites of a prepared ledger from `position` on.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn new(
        settings: &'a Settings,
        reference: &'a Reference,
        ledger: &'a RwLock<Ledger>,
        position: Position,
    ) -> Result<Self> {
        let of_contig = {
            let ledger = ledger.read().unwrap_or_else(PoisonError::into_inner);
            let mut of_contig = vec![Vec::new(); reference.contigs().len()];
            for i in (0..ledger.len()).filter(|&i| ledger.is_scored(i)) {
                if let Some(contig) = ledger.contig(i) {
                    of_contig[contig].push(i);
                }
            }
            of_contig
        };
        let strands = 1 + u64::from(settings.both_strands);
        let skipped = (position.sequences / strands) as usize;
        let contigs = reference.wanted(&of_contig, &settings.scratch, skipped)?;
        let mut sites = Self {
            settings,
            ledger,
            of_contig,
            contigs,
            strands: Vec::new(),
            current: None,
            finished: skipped as u64 * strands,
        };
        while sites.finished < position.sequences && sites.next_strand()? {
            sites.current = None;
            sites.finished += 1;
        }
        if position.bases > 0
            && sites.next_strand()?
            && let Some(current) = &mut sites.current
        {
            current.done = position.bases as usize;
        }
        Ok(sites)
    }

    /// Goes to the next strand; whether there is one.
    fn next_strand(&mut self) -> Result<bool> {
        if self.strands.is_empty() {
            let Some((contig, place)) = self.contigs.next_contig()? else {
                return Ok(false);
            };
            if self.settings.both_strands {
                self.strands.push((contig.strand(true), place));
            }
            self.strands.push((contig.strand(false), place));
        }
        if let Some((strand, place)) = self.strands.pop() {
            let order = self.order_of(&strand, place)?;
            self.current = Some(StrandSites {
                strand,
                order,
                done: 0,
            });
        }
        Ok(true)
    }

    /// The alleles of a strand, in its order.
    fn order_of(&self, strand: &ContigStrand, place: usize) -> Result<Vec<(u64, usize)>> {
        let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
        let mut order = Vec::with_capacity(self.of_contig[place].len());
        for &i in &self.of_contig[place] {
            if let Some(change) = ledger.change(i)? {
                order.push((strand.variant(change.variant).start, i));
            }
        }
        strand.check()?;
        order.sort_unstable();
        Ok(order)
    }

    /// A strand's next site; none after the last.
    fn next_site(&self, current: &mut StrandSites) -> Result<Option<Site>> {
        let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
        let left = &current.order[current.done..];
        let Some(&(start, _)) = left.first() else {
            return Ok(None);
        };
        let position = Position {
            sequences: self.finished,
            bases: current.done as u64,
        };
        let mut jobs = Vec::new();
        for (_, i) in left.iter().take_while(|(of, _)| *of == start) {
            current.done += 1;
            if let Some(change) = ledger.change(*i)? {
                jobs.push(Job {
                    variant: current.strand.variant(change.variant),
                    entries: vec![*i],
                });
            }
        }
        current.strand.check()?;
        let mut jobs = merged(jobs);
        if self.settings.four {
            jobs.extend(missing(&jobs));
        }
        Ok(Some(Site {
            position,
            start,
            jobs,
        }))
    }
}

impl Source for Sites<'_> {
    type Work = SiteStep;

    fn next_batch(&mut self) -> Result<Option<Batched<SiteStep>>> {
        if self.current.is_none() && !self.next_strand()? {
            return Ok(None);
        }
        let Some(mut current) = self.current.take() else {
            return Ok(None);
        };
        let mut sites = Vec::new();
        while sites.len() < TOGETHER
            && let Some(site) = self.next_site(&mut current)?
        {
            sites.push(site);
        }
        let ends = current.done == current.order.len();
        let work = SiteStep {
            strand: current.strand.clone(),
            sites,
            ends,
        };
        if ends {
            self.finished += 1;
        } else {
            self.current = Some(current);
        }
        // Within a strand it is the sites that say where.
        let next = ends.then_some(Position {
            sequences: self.finished,
            bases: 0,
        });
        let jobs = work.sites.iter().map(|site| site.jobs.len());
        let bytes = jobs.sum::<usize>() * JOB;
        Ok(Some(Batched {
            work,
            next,
            ends,
            bytes,
        }))
    }
}
