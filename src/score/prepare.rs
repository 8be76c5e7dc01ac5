//! Before anything is computed: which alleles can be scored, and what each of them changes.

use super::contig::Strand;
use super::ledger::{Allele, Change, Ledger};
use super::reference::Reference;
use super::{Mode, Settings, Watch};
use crate::error::{Error, Result};
use crate::sequence::allele::{Status, Variant};
use crate::sequence::{N, base};
use std::ops::Range;

/// The part of records whose REF may differ before the reference must be another one.
const MISMATCHES: f64 = 0.3;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Alleles that will be scored.
    pub scored: u64,
    /// Bases that will go through the encoder, about: those of the reference and of alternates.
    pub bases: u64,
}

/// Compares every allele with the reference, normalises it, and gives it a status.
///
/// # Errors
/// Input, if REF differs in more than 30 % of the records that could be compared.
pub fn prepare(
    settings: &Settings,
    reference: &Reference,
    ledger: &mut Ledger,
    watch: &mut Watch,
) -> Result<Checked> {
    let mut checked = Checked::default();
    let mut of_contig: Vec<Vec<usize>> = vec![Vec::new(); reference.contigs().len()];
    for i in 0..ledger.len() {
        match ledger.contig(i) {
            Some(contig) if reference.contigs()[contig].length > 0 => of_contig[contig].push(i),
            Some(_) => ledger.set_status(i, Status::OutOfRange),
            None => {}
        }
    }
    let strands = 1 + u64::from(settings.both_strands);
    reference.each(&of_contig, &settings.scratch, |contig, entries| {
        let strand = contig.strand(false);
        // Neighbours share pages of the contig.
        let mut order = Vec::with_capacity(entries.len());
        for &i in entries {
            order.push((ledger.allele(i)?.pos, i));
        }
        order.sort_unstable();
        let mut last = 0;
        for (_, i) in order {
            watch(0, &contig.name)?;
            let found = change(settings, strand, &ledger.allele(i)?);
            strand.check()?;
            match found {
                Ok(Found {
                    change,
                    mut status,
                    scored,
                }) => {
                    let codes = strand.read(scored)?;
                    if codes.into_iter().any(|code| base(code) == N) {
                        status = Status::NInWindow;
                    }
                    last = last.max(change.variant.end());
                    checked.scored += 1;
                    checked.bases += strands * work(settings, &change.variant);
                    ledger.set_status(i, status);
                    ledger.set_change(i, &change)?;
                }
                Err(status) => ledger.set_status(i, status),
            }
        }
        if settings.mode == Mode::Stream && last > 0 {
            checked.bases += strands * (last + settings.after as u64).min(contig.length);
        }
        Ok(())
    })?;
    compare_records(ledger)?;
    Ok(checked)
}

/// Tokens that an alternate takes.
fn work(settings: &Settings, variant: &Variant) -> u64 {
    let tokens = match settings.mode {
        Mode::Stream => settings.after + variant.alternate.len().saturating_sub(1),
        Mode::Window(window) => 2 * window.size,
    };
    tokens as u64
}

/// An allele that can be scored.
struct Found {
    change: Change,
    /// Whether all that should be scored lies within the contig.
    status: Status,
    /// What is scored of the reference.
    scored: Range<u64>,
}

/// What an allele changes.
fn change(settings: &Settings, strand: Strand, allele: &Allele) -> Result<Found, Status> {
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
            return Ok(Found {
                change: Change {
                    variant,
                    spelled: None,
                },
                status: Status::SameAllele,
                scored: start..start,
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
    let (left, right) = match settings.mode {
        Mode::Stream => (0, settings.after + variant.reference.len()),
        Mode::Window(window) => (window.left, window.size - window.left),
    };
    let end = variant.start + right as u64;
    let status = match variant.start < left as u64 || end > strand.length() {
        true => Status::EdgeTruncated,
        false => Status::Ok,
    };
    let scored = variant.start.saturating_sub(left as u64)..end.min(strand.length());
    let spelled = variant.spell(at);
    Ok(Found {
        change: Change { variant, spelled },
        status,
        scored,
    })
}

/// Fails if too many records name a REF that is not the reference's.
fn compare_records(ledger: &Ledger) -> Result<()> {
    let (mut records, mut wrong, mut last) = (0u64, 0u64, None);
    for i in 0..ledger.len() {
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
        return Err(Error::input(what).todo("give the reference that the variants were called on"));
    }
    Ok(())
}
