//! What a run would take: alleles, the encoder's work, time.

use super::{Opened, statuses};
use crate::cli::estimate::tokens;
use crate::cli::options::readable;
use crate::encoder::{Encoder, Segment};
use crate::error::Result;
use crate::ops::Device;
use crate::score::{Checked, Mode};
use std::time::Instant;

/// Bytes of scratch files for an allele.
const ALLELE: u64 = 400;

/// The estimate in lines of `name: value`.
pub(super) fn describe(opened: &Opened, checked: Checked) -> Result<String> {
    let facts = &opened.scorer.facts;
    let steps = opened
        .estimate
        .measure(&opened.scorer.model, facts, &Device::Cpu)?;
    let seconds = match opened.settings.mode {
        Mode::Window(_) => checked.bases() as f64 / steps,
        Mode::Stream => {
            checked.reference as f64 / steps + checked.alternates as f64 / alternates(opened)?
        }
    };
    let speed = if seconds > 0.0 {
        checked.bases() as f64 / seconds
    } else {
        steps
    };
    let ledger = &opened.ledger;
    let each = statuses(ledger)
        .into_iter()
        .map(|(name, n)| format!("{name} {n}"));
    let contigs = (0..ledger.len()).filter_map(|i| ledger.contig(i));
    let longest = contigs.map(|i| opened.reference.contigs()[i].length).max();
    Ok(format!(
        "alleles: {} ({})\nto be scored: {}\nbases of the reference: {}\nbases of alternates: {}\n{}scratch files: {}\n",
        ledger.len(),
        each.collect::<Vec<_>>().join(", "),
        checked.scored,
        checked.reference,
        checked.alternates,
        opened.estimate.describe(speed),
        readable(longest.unwrap_or_default() + ledger.len() as u64 * ALLELE),
    ))
}

/// Bases of alternates a second: as many forks as a step holds, twice, since the first ones compute
/// what is kept for later ones.
fn alternates(opened: &Opened) -> Result<f64> {
    let (model, settings) = (&opened.scorer.model, &opened.settings);
    let len = settings.after.min(settings.chunk);
    let lanes = settings.chunk / len;
    let before = tokens(settings.chunk, &opened.scorer.facts, &Device::Cpu)?;
    let after = tokens(lanes * len, &opened.scorer.facts, &Device::Cpu)?;
    let mut state = model.start(1)?;
    let segment = |lane, len, starts, ends| Segment {
        lane,
        len,
        starts,
        ends,
    };
    model.forward(
        &before,
        &[segment(0, settings.chunk, true, false)],
        &mut state,
    )?;
    let segments: Vec<_> = (0..lanes)
        .map(|lane| segment(lane, len, false, true))
        .collect();
    let mut seconds = 0.0;
    for _ in 0..2 {
        let start = Instant::now();
        let forks = (0..lanes).map(|_| model.fork(&[(&state, 0)], len + 1));
        let forks = forks.collect::<Result<Vec<_>>>()?;
        let from: Vec<_> = forks.iter().map(|fork| (fork, 0)).collect();
        model.forward(&after, &segments, &mut model.fork(&from, len)?)?;
        seconds = start.elapsed().as_secs_f64();
    }
    Ok((lanes * len) as f64 / seconds)
}
