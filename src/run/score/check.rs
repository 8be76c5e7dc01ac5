//! What a run would take: alleles, the encoder's work, time.

use super::OpenScore;
use super::options::Score;
use super::settings::trained;
use crate::encoder::{Branch, Encoder, Segment};
use crate::error::Result;
use crate::ops::Device;
use crate::run::device::tokens;
use crate::run::estimate::Estimate;
use crate::run::plan;
use crate::run::session::Session;
use crate::run::units::readable;
use crate::score::{Checked, EVERY, Mode, Settings, Shares, prepare};
use crate::sequence::shard::Shard;
use crate::stream::{Engine, go_on};
use crate::table::{self, VariantColumns};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;
use std::time::Instant;

/// Bytes of scratch files for an allele.
const ALLELE: u64 = 400;

/// What a run takes, but for what its alleles take.
pub(super) fn estimate(
    session: &Session,
    settings: &Settings,
    columns: &VariantColumns,
) -> Estimate {
    let facts = &session.engine.facts;
    let chunk = match settings.mode {
        Mode::Stream => settings.chunk,
        Mode::Window(window) => settings.chunk.max(3 * window.size),
    } as u64;
    let width = facts.width as u64;
    let (after, longest) = (settings.after as u64, settings.longest as u64);
    // There are as many forks as a step holds, and one more of the longest allele; run side by
    // side they are copied once, while those of the next step are made, and the reference's step.
    let fork = |bases| facts.fork_bytes(bases);
    let values = chunk * width * 16 * 4;
    let branches = settings.mode == Mode::Stream && session.device().1 == "cuda";
    let forks = match settings.mode {
        // The logits, as they come and as they are read.
        Mode::Stream if branches => 2 * chunk * facts.vocabulary.size as u64 * 4,
        Mode::Stream => {
            3 * (fork(after + 1) * (chunk / after + 1) + fork(after + longest)) + values
        }
        Mode::Window(_) => 0,
    };
    // Vectors of alternates, of which branches bring one or two each.
    let bin = if branches { after } else { 1 };
    // The bases that wait for comparison keep their vectors.
    let waiting = (after + settings.around as u64 + longest) * (width + 5) * 4;
    let mut estimate = Estimate::new(
        &session.engine,
        session.tokens(),
        &table::variants(columns),
        None,
        0,
        bin,
    );
    estimate.chunk = chunk;
    estimate.fixed += forks + waiting + (chunk - session.chunk as u64) * width * 16 * 4;
    estimate
}

/// The estimate in lines of `name: value`.
pub(super) fn describe(options: &Score, opened: &mut OpenScore) -> Result<String> {
    let speed = Speed::measure(opened)?;
    if let (Some(shards), Some(shares)) = (options.sharding.all(), opened.shares.clone()) {
        return describe_shards(opened, shards, &shares, speed);
    }
    let other = with_other_context(opened, speed)?;
    opened.session.estimate.speed = Some(speed.of(&opened.checked));
    let OpenScore {
        session,
        reference,
        ledger,
        checked,
        ..
    } = &*opened;
    let ledger = ledger.read().unwrap_or_else(PoisonError::into_inner);
    let statuses = ledger.statuses().into_iter();
    let each = statuses.map(|(name, n)| format!("{name} {n}"));
    let contigs = (0..ledger.len()).filter_map(|i| ledger.contig(i));
    let longest = contigs.map(|i| reference.contigs()[i].length).max();
    Ok(format!(
        "alleles: {} ({})\nto be scored: {}\nbases of the reference: {}\nbases of alternates: {}\n{}{other}scratch files: {}\n",
        ledger.rows().count(),
        each.collect::<Vec<_>>().join(", "),
        checked.scored,
        checked.reference,
        checked.alternates,
        session.estimate.describe(speed.of(checked)),
        readable(longest.unwrap_or_default() + ledger.len() as u64 * ALLELE),
    ))
}

/// Bases a second.
#[derive(Clone, Copy)]
struct Speed {
    reference: f64,
    alternates: f64,
}

impl Speed {
    fn measure(opened: &OpenScore) -> Result<Self> {
        let OpenScore {
            session, settings, ..
        } = opened;
        let reference = session.estimate.measure(session.engines())?;
        let alternates = match settings.mode {
            Mode::Window(_) => reference,
            Mode::Stream => {
                let engines = session.engines();
                engines
                    .map(|engine| alternates(engine, settings))
                    .sum::<Result<_>>()?
            }
        };
        Ok(Self {
            reference,
            alternates,
        })
    }

    fn seconds(self, found: &Checked) -> f64 {
        found.reference as f64 / self.reference + found.alternates as f64 / self.alternates
    }

    /// Of all that was found together.
    fn of(self, found: &Checked) -> f64 {
        let seconds = self.seconds(found);
        if seconds > 0.0 {
            found.bases() as f64 / seconds
        } else {
            self.reference
        }
    }
}

/// What the run would take with the other context, in a line: all of the contig, or the trained
/// length if the run reads all. Empty for windows.
fn with_other_context(opened: &mut OpenScore, speed: Speed) -> Result<String> {
    let facts = &opened.session.engine.facts;
    let settings = Settings {
        context: match opened.settings.context {
            Some(_) => None,
            None => Some(trained(facts)),
        },
        ..opened.settings.clone()
    };
    if settings.mode != Mode::Stream {
        return Ok(String::new());
    }
    let ledger = opened.ledger.get_mut();
    let ledger = ledger.unwrap_or_else(PoisonError::into_inner);
    let (causal, reference) = (facts.causal, &opened.reference);
    let watch = &mut |_: u64, _: &str| go_on();
    let found = prepare(&settings, causal, reference, ledger, None, watch)?;
    let checked: Checked = found.into_values().sum();
    Ok(format!(
        "with --context {}: {} bases of the reference, {:.0} s\n",
        settings
            .context
            .map_or("all".to_string(), |n| n.to_string()),
        checked.reference,
        speed.seconds(&checked),
    ))
}

/// A line for each of these shards.
fn describe_shards(
    opened: &mut OpenScore,
    shards: impl Iterator<Item = Shard>,
    shares: &Shares,
    speed: Speed,
) -> Result<String> {
    let ledger = opened.ledger.get_mut();
    let ledger = ledger.unwrap_or_else(PoisonError::into_inner);
    // Alleles of each shard, and the contigs that they lie on.
    let mut alleles: BTreeMap<u64, (u64, BTreeSet<usize>)> = BTreeMap::new();
    for i in ledger.rows() {
        let contig = ledger.contig(i);
        let shard = shares.shard(ledger.allele(i)?.record, contig);
        let (count, contigs) = alleles.entry(shard).or_default();
        *count += 1;
        contigs.extend(contig);
    }
    let of = |shard: u64| opened.of_shards.get(&shard).copied().unwrap_or_default();
    let estimate = &mut opened.session.estimate;
    let fixed = estimate.fixed - ledger.rows().count() as u64 * ALLELE;
    let mut lines = plan::header();
    for shard in shards {
        let (count, contigs) = alleles.remove(&shard.index).unwrap_or_default();
        let found: Checked = [of(shard.index), of(EVERY)].into_iter().sum();
        (estimate.rows, estimate.bases) = (Some(count), Some(found.bases()));
        estimate.fixed = fixed + count * ALLELE;
        let all = opened.reference.contigs();
        let names = contigs.into_iter().map(|contig| all[contig].name.clone());
        let names: Vec<String> = names.collect();
        lines += &plan::line(shard, &names, estimate, speed.of(&found));
    }
    Ok(lines)
}

/// Bases of alternates a second, by as many as a step holds.
fn alternates(engine: &Engine, settings: &Settings) -> Result<f64> {
    match engine.device {
        Device::Cpu => forks(engine, settings),
        Device::Cuda(_) => branches(engine, settings),
    }
}

/// The same of branches: twice, since the first ones compute what is kept for later ones.
fn branches(engine: &Engine, settings: &Settings) -> Result<f64> {
    let len = settings.after.min(settings.chunk.div_ceil(2));
    let count = (settings.chunk / len).saturating_sub(1).max(1);
    let all = tokens((count + 1) * len, &engine.facts);
    let segment = Segment {
        lane: 0,
        len,
        starts: true,
        ends: false,
    };
    let branch = |i| Branch {
        after: i * len / count,
        len,
    };
    let branches: Vec<_> = (0..count).map(branch).collect();
    let mut state = engine.model.start(1)?;
    let mut seconds = 0.0;
    for _ in 0..2 {
        let start = Instant::now();
        engine.hidden_branched(all.clone(), &[segment], &branches, &mut state)?;
        engine.device.synchronize()?;
        seconds = start.elapsed().as_secs_f64();
    }
    Ok((count * len) as f64 / seconds)
}

/// The same of forks.
fn forks(engine: &Engine, settings: &Settings) -> Result<f64> {
    let Engine { model, facts, .. } = engine;
    let len = settings.after.min(settings.chunk);
    let lanes = settings.chunk / len;
    let (before, after) = (tokens(settings.chunk, facts), tokens(lanes * len, facts));
    let mut state = model.start(1)?;
    let segment = |lane, len, starts, ends| Segment {
        lane,
        len,
        starts,
        ends,
    };
    engine.forward(
        before,
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
        engine.forward(after.clone(), &segments, &mut model.fork(&from, len)?)?;
        engine.device.synchronize()?;
        seconds = start.elapsed().as_secs_f64();
    }
    Ok((lanes * len) as f64 / seconds)
}
