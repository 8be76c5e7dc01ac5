//! Before anything is computed: which alleles can be scored, and what each of them changes.

use super::contig::{Contig, ContigStrand};
use super::ledger::{Change, Ledger};
use super::part::Shares;
use super::reference::Reference;
use super::{Mode, Settings, Watch};
use crate::error::{Error, Result};
use crate::sequence::allele::{Status, Variant};
use crate::sequence::{N, base};
use crate::table::{Allele, Spelled};
use std::collections::BTreeMap;
use std::iter::Sum;
use std::sync::Arc;

/// The part of records whose REF may differ before the reference must be another one.
const MISMATCHES: f64 = 0.3;

/// In the place of a shard: what each of them scores.
pub const EVERY: u64 = 0;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Alleles that will be scored.
    pub scored: u64,
    /// Bases of the reference that will go through the encoder, about.
    pub reference: u64,
    /// The same of alternates.
    pub alternates: u64,
}

impl Checked {
    /// Bases that will go through the encoder, about: equal changes of the same contig are run
    /// once, and counted each.
    pub fn bases(&self) -> u64 {
        self.reference + self.alternates
    }
}

impl Sum for Checked {
    fn sum<I: Iterator<Item = Self>>(each: I) -> Self {
        each.fold(Self::default(), |sum, one| Self {
            scored: sum.scored + one.scored,
            reference: sum.reference + one.reference,
            alternates: sum.alternates + one.alternates,
        })
    }
}

/// Compares every allele with the reference, normalises it, and gives it a status; tells what was
/// found of each shard, or of all as of the first; of the background, as of [`EVERY`]. `causal`: of the model.
///
/// Memory: besides the ledger's, 32 bytes for each allele of a contig.
///
/// # Errors
/// Input, if REF differs in more than 30 % of the records that could be compared.
pub fn prepare(
    settings: &Settings,
    causal: bool,
    reference: &Reference,
    ledger: &mut Ledger,
    shares: Option<&Shares>,
    watch: &mut Watch,
) -> Result<BTreeMap<u64, Checked>> {
    let mut of_contig: Vec<Vec<usize>> = vec![Vec::new(); reference.contigs().len()];
    for i in 0..ledger.len() {
        match ledger.contig(i) {
            Some(contig) if reference.contigs()[contig].length > 0 => of_contig[contig].push(i),
            Some(_) => ledger.set_status(i, Status::OutOfRange),
            None => {}
        }
    }
    let mut preparation = Preparation {
        settings,
        causal,
        ledger,
        shares,
        of_shards: BTreeMap::new(),
        four_at: None,
    };
    reference.each(&of_contig, &settings.scratch, |contig, entries| {
        preparation.contig(contig, entries, watch)
    })?;
    let of_shards = preparation.of_shards;
    compare_records(ledger, ledger.rows(), settings.shard)?;
    let background = compare_records(ledger, ledger.background(), false);
    background.map_err(|error| error.place("--background"))?;
    Ok(of_shards)
}

/// What was found so far.
struct Preparation<'a> {
    settings: &'a Settings,
    causal: bool,
    ledger: &'a mut Ledger,
    shares: Option<&'a Shares>,
    of_shards: BTreeMap<u64, Checked>,
    /// The last site whose four bases are scored, on the contig at work.
    four_at: Option<u64>,
}

impl Preparation<'_> {
    /// The alleles of one contig.
    fn contig(&mut self, contig: &Arc<Contig>, entries: &[usize], watch: &mut Watch) -> Result<()> {
        let strand = contig.strand(false);
        let strands = 1 + usize::from(self.settings.both_strands);
        let strands = &[strand.clone(), contig.strand(true)][..strands];
        // Neighbours share pages of the contig.
        let mut order = Vec::with_capacity(entries.len());
        for &i in entries {
            order.push((self.ledger.allele(i)?.pos, i));
        }
        order.sort_unstable();
        let mut changed: BTreeMap<u64, Vec<(u64, u64)>> = BTreeMap::new();
        self.four_at = None;
        for (_, i) in order {
            watch(0, &contig.name)?;
            let allele = self.ledger.allele(i)?;
            let found = change(self.settings, &strand, &allele);
            strand.check()?;
            match found {
                Ok(found) => {
                    let shard = self.shard(i, allele.record);
                    let bounds = self.scored(i, found, strands, shard)?;
                    changed.entry(shard).or_default().push(bounds);
                }
                Err(status) => self.ledger.set_status(i, status),
            }
        }
        for (shard, mut sites) in changed {
            sites.sort_unstable();
            let mut bases = passed(self.settings, contig.length, &sites);
            if self.settings.both_strands {
                for (start, end) in &mut sites {
                    (*start, *end) = (contig.length - *end, contig.length - *start);
                }
                sites.sort_unstable();
                bases += passed(self.settings, contig.length, &sites);
            }
            self.of_shards.entry(shard).or_default().reference += bases;
        }
        Ok(())
    }

    /// The shard of an allele; of the background, [`EVERY`].
    fn shard(&self, i: usize, record: u64) -> u64 {
        match self.shares {
            None => 1,
            Some(_) if self.ledger.background().contains(&i) => EVERY,
            Some(shares) => shares.shard(record, self.ledger.contig(i)),
        }
    }

    /// Enters an allele that will be scored, of this shard; gives its start and end.
    fn scored(
        &mut self,
        i: usize,
        found: ScoredAllele,
        strands: &[ContigStrand],
        shard: u64,
    ) -> Result<(u64, u64)> {
        let ScoredAllele { change, mut status } = found;
        if status == Status::Ok {
            status = self.status(&change.variant, strands)?;
        }
        let (start, end) = (change.variant.start, change.variant.end());
        let length = strands.first().map_or(0, ContigStrand::length);
        let times = self.times(&change.variant);
        let checked = self.of_shards.entry(shard).or_default();
        checked.scored += 1;
        for behind in [length - end, start].into_iter().take(strands.len()) {
            let once = work(self.settings, self.causal, behind, &change.variant);
            checked.alternates += times * once;
        }
        self.ledger.set_status(i, status);
        self.ledger.set_change(i, &change)?;
        Ok((start, end))
    }
}

impl Preparation<'_> {
    /// Whether all that should be scored is there, and no N, on each of the strands that are read.
    fn status(&self, variant: &Variant, strands: &[ContigStrand]) -> Result<Status> {
        let mut status = Status::Ok;
        for strand in strands {
            let variant = strand.variant(variant.clone());
            let (left, right) = match self.settings.mode {
                Mode::Stream => (0, self.settings.after + variant.reference.len()),
                Mode::Window(window) => {
                    let left = window.left_of(&variant, strand.reverse);
                    (left, window.size - left)
                }
            };
            let end = variant.start + right as u64;
            if variant.start < left as u64 || end > strand.length() {
                status = Status::EdgeTruncated;
            }
            let scored = variant.start.saturating_sub(left as u64)..end.min(strand.length());
            if strand.read(scored)?.into_iter().any(|code| base(code) == N) {
                return Ok(Status::NInWindow);
            }
            strand.check()?;
        }
        Ok(status)
    }

    /// How many alternates are run for an allele: if all four bases are scored, three for the first
    /// one of its site.
    fn times(&mut self, variant: &Variant) -> u64 {
        let single = variant.reference.len() == 1 && variant.alternate.len() == 1;
        if !self.settings.four || !single {
            return 1;
        }
        let known = self.four_at.replace(variant.start) == Some(variant.start);
        if known { 0 } else { 3 }
    }
}

/// Bases of the reference that a strand's sites take, which are sorted by their starts.
fn passed(settings: &Settings, length: u64, sites: &[(u64, u64)]) -> u64 {
    let (mut bases, mut position, mut last) = (0, 0, None);
    for (start, end) in sites {
        match settings.mode {
            Mode::Stream => {
                let context = settings.context.unwrap_or(*start);
                position = position.max(start.saturating_sub(context));
                let to = (end + settings.after as u64).min(length);
                bases += to.saturating_sub(position);
                position = position.max(to);
            }
            Mode::Window(window) => {
                let known = last.replace(start) == Some(start);
                bases += if known { 0 } else { window.size as u64 };
            }
        }
    }
    bases
}

/// Tokens that an alternate takes, of which the contig has `behind` after the variant.
fn work(settings: &Settings, causal: bool, behind: u64, variant: &Variant) -> u64 {
    let (reference, alternate) = (&variant.reference, &variant.alternate);
    match settings.mode {
        Mode::Stream if reference == alternate => 0,
        Mode::Stream => {
            let own = alternate.len() as u64;
            let shared = (settings.after as u64).min(behind);
            (own + shared).saturating_sub(1).max(own)
        }
        Mode::Window(window) => {
            // Once more with the bases masked.
            let masked = !causal && !reference.is_empty() && reference.len() == alternate.len();
            window.size as u64 * (1 + u64::from(masked))
        }
    }
}

/// An allele that can be scored.
struct ScoredAllele {
    change: Change,
    /// That of an allele that is none, else [`Status::Ok`].
    status: Status,
}

/// What an allele changes.
fn change(
    settings: &Settings,
    strand: &ContigStrand,
    allele: &Allele,
) -> Result<ScoredAllele, Status> {
    let at = |position| strand.at(position);
    let written = match Variant::new(allele.pos, &allele.reference, &allele.alternate) {
        Err(Status::SameAllele) => {
            // REF is compared as if bases were inserted after it; then nothing is changed.
            let longer = format!("{}A", allele.reference);
            Variant::new(allele.pos, &allele.reference, &longer)?.check(at)?;
            let start = allele.pos - 1;
            let variant = Variant {
                start,
                reference: Vec::new(),
                alternate: Vec::new(),
            };
            return Ok(ScoredAllele {
                change: Change {
                    variant,
                    spelled: None,
                },
                status: Status::SameAllele,
            });
        }
        written => written?,
    };
    written.check(at)?;
    let variant = written.normalise(at);
    let longest = variant.reference.len().max(variant.alternate.len());
    let fits = match settings.mode {
        Mode::Stream => longest <= settings.longest,
        Mode::Window(window) => longest <= (window.size - window.left).min(settings.longest),
    };
    if !fits {
        return Err(Status::TooLong);
    }
    let spelled = variant.spell(at).map(Spelled::from);
    Ok(ScoredAllele {
        change: Change { variant, spelled },
        status: Status::Ok,
    })
}

/// Fails if too many records name a REF that is not the reference's; of a part of the records,
/// which may differ from the whole, it warns.
fn compare_records(
    ledger: &Ledger,
    alleles: impl Iterator<Item = usize>,
    is_part: bool,
) -> Result<()> {
    let (mut records, mut wrong, mut last) = (0u64, 0u64, None);
    for i in alleles {
        let status = ledger.status(i);
        if !ledger.is_scored(i) && status != Status::RefMismatch {
            continue;
        }
        let record = ledger.allele(i)?.record;
        if last.replace(record) != Some(record) {
            records += 1;
            wrong += u64::from(status == Status::RefMismatch);
        }
    }
    if wrong as f64 > MISMATCHES * records as f64 {
        let what = format!(
            "REF is not what the reference has in {wrong} of {records} records: wrong assembly?"
        );
        if is_part {
            tracing::warn!("{what}");
            return Ok(());
        }
        return Err(Error::input(what).todo("give the reference that the variants were called on"));
    }
    Ok(())
}
