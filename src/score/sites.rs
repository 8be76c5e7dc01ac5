//! The sites of a ledger in the order in which a strand meets them: what the pipeline reads.

use super::contig::ContigStrand;
use super::ledger::Ledger;
use super::pass::merged;
use super::quartets::missing;
use super::reference::{Reference, WantedContigs};
use super::{Job, Settings};
use crate::error::Result;
use crate::stream::pipeline::{Batched, Source};
use crate::stream::{Position, go_on};
use std::sync::{PoisonError, RwLock};

/// Sites that are handed on together.
const TOGETHER: usize = 64;
/// Sites of a strand between two places at which a run can be resumed.
const REST: usize = 1 << 10;

/// Sites of one strand of one contig.
pub(super) struct SiteStep {
    pub strand: ContigStrand,
    /// The first ones of their strand.
    pub begins: bool,
    /// The jobs of each site.
    pub sites: Vec<Vec<Job>>,
    /// After these the strand ends.
    pub ends: bool,
    /// After these the run can be resumed.
    pub rests: bool,
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
    /// The run may be resumed.
    resumable: bool,
}

/// A strand's sites.
struct StrandSites {
    strand: ContigStrand,
    /// Where each allele starts, and its place in the ledger, in order.
    order: Vec<(u64, usize)>,
    /// Alleles that were handed on.
    done: usize,
    /// Sites since the last rest.
    sites: usize,
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
        position: Option<Position>,
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
        let resumable = position.is_some();
        let position = position.unwrap_or_default();
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
            resumable,
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
                sites: 0,
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

    /// The jobs of a strand's next site; none after the last.
    fn next_site(&self, current: &mut StrandSites) -> Result<Vec<Job>> {
        let ledger = self.ledger.read().unwrap_or_else(PoisonError::into_inner);
        let left = &current.order[current.done..];
        let same = |(start, _): &&(u64, usize)| *start == left[0].0;
        let mut jobs = Vec::new();
        for (_, i) in left.iter().take_while(same) {
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
        Ok(jobs)
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
        let begins = current.done == 0;
        let mut sites = Vec::new();
        while sites.len() < TOGETHER && current.done < current.order.len() {
            sites.push(self.next_site(&mut current)?);
        }
        current.sites += sites.len();
        let ends = current.done == current.order.len();
        let rests = ends || (self.resumable && (current.sites >= REST || go_on().is_err()));
        if rests {
            current.sites = 0;
        }
        let work = SiteStep {
            strand: current.strand.clone(),
            begins,
            sites,
            ends,
            rests,
        };
        let done = current.done as u64;
        if ends {
            self.finished += 1;
        } else {
            self.current = Some(current);
        }
        let next = Position {
            sequences: self.finished,
            bases: if ends { 0 } else { done },
        };
        Ok(Some(Batched {
            work,
            next: rests.then_some(next),
        }))
    }
}
