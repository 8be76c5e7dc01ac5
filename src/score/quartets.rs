//! What the model says of all four bases at a site: from the haplotypes that have them there.

use super::Job;
use crate::sequence::complement;
use crate::sequence::{N, base};
use crate::table::Scores;
use serde::{Deserialize, Serialize};

/// Bases of a site.
const FOUR: usize = N as usize;

/// The changes of a site's base that no allele asks for: with them all four bases are scored.
pub(super) fn missing(site: &[Job]) -> Vec<Job> {
    let Some(first) = site.iter().find(|job| is_single(job)) else {
        return Vec::new();
    };
    let changed = |to: u8| {
        let mut variant = first.variant.clone();
        variant.alternate = vec![to];
        variant
    };
    let reference = base(first.variant.reference[0]);
    let others = (0..N).filter(|&to| to != reference);
    let others = others.map(changed);
    let asked = |variant| site.iter().any(|job| job.variant == variant);
    others
        .filter(|variant| !asked(variant.clone()))
        .map(|variant| Job {
            variant,
            entries: Vec::new(),
        })
        .collect()
}

/// Whether a job changes one base to another.
fn is_single(job: &Job) -> bool {
    let plain = |codes: &[u8]| codes.len() == 1 && base(codes[0]) != N;
    let variant = &job.variant;
    plain(&variant.reference) && plain(&variant.alternate) && variant.reference != variant.alternate
}

/// Holds back what was scored of a site until nothing more comes of it.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Quartets {
    held: Vec<(Job, Scores)>,
}

impl Quartets {
    /// Takes what was scored, in the order of the sites; gives that of the sites that are complete,
    /// or all if nothing waits. `reverse`: of the reverse strand.
    pub fn pass(
        &mut self,
        scored: Vec<(Job, Scores)>,
        reverse: bool,
        nothing_waits: bool,
    ) -> Vec<(Job, Scores)> {
        let mut complete = Vec::new();
        for (job, scores) in scored {
            let held = self.held.first().map(|(job, _)| job.variant.start);
            if held.is_some_and(|start| start != job.variant.start) {
                complete.extend(self.release(reverse));
            }
            self.held.push((job, scores));
        }
        if nothing_waits {
            complete.extend(self.release(reverse));
        }
        complete
    }

    /// The jobs of the site that is held, with its four bases.
    fn release(&mut self, reverse: bool) -> Vec<(Job, Scores)> {
        let mut site = std::mem::take(&mut self.held);
        let mut four = [f64::NAN; FOUR];
        for (job, scores) in site.iter().filter(|(job, _)| is_single(job)) {
            let place = |codes: &[u8]| {
                let code = codes[0];
                usize::from(base(if reverse { complement(code) } else { code }))
            };
            four[place(&job.variant.reference)] = scores.ll_ref;
            four[place(&job.variant.alternate)] = scores.ll_alt;
        }
        let largest = four.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let all: f64 = four.iter().map(|ll| (ll - largest).exp()).sum();
        let four = four.map(|ll| ll - largest - all.ln());
        for (_, scores) in site.iter_mut().filter(|(job, _)| is_single(job)) {
            scores.four = Some(four);
        }
        site.retain(|(job, _)| !job.entries.is_empty());
        site
    }
}
