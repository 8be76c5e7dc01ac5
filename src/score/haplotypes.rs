//! Alleles that one haplotype of a sample carries together.

use super::{Change, ContigStrand, Ledger, Reference, Settings};
use crate::error::Result;
use crate::sequence::allele::Variant;
use crate::table::{Allele, HaplotypeOf};

/// An allele on a haplotype of the sample.
pub struct Carried {
    /// The contig's place in the reference.
    pub contig: usize,
    /// The haplotype's number in the genotype, from 1.
    pub number: u32,
    /// Haplotypes keep their numbers within this.
    pub phase_set: Option<String>,
    /// The allele's place in the ledger.
    pub entry: usize,
}

/// A change that a haplotype carries.
struct Member {
    contig: usize,
    number: u32,
    entry: usize,
    change: Change,
}

/// Adds to the ledger an allele for each group of at least two changes of a haplotype of which
/// each begins at most `after` bases downstream of the end of the one before; returns how many.
///
/// A group ends where the bases that it replaces would be more than the longest allele, and at a
/// change that overlaps the one before.
///
/// # Errors
/// Those of the reader.
pub fn join(
    settings: &Settings,
    reference: &Reference,
    ledger: &mut Ledger,
    carried: &[Carried],
) -> Result<u64> {
    let groups = groups(settings, ledger, carried)?;
    let mut of_contig = vec![Vec::new(); reference.contigs().len()];
    for (i, group) in groups.iter().enumerate() {
        of_contig[group[0].contig].push(i);
    }
    let mut joined = 0;
    reference.each(&of_contig, &settings.scratch, |contig, of| {
        for &i in of {
            let group = &groups[i];
            if let Some(allele) = whole(&contig.strand(false), ledger, group)? {
                ledger.push(Some(group[0].contig), &allele)?;
                joined += 1;
            }
        }
        Ok(())
    })?;
    Ok(joined)
}

/// The changes of each haplotype that are scored together.
fn groups(settings: &Settings, ledger: &Ledger, carried: &[Carried]) -> Result<Vec<Vec<Member>>> {
    let mut members = Vec::new();
    for allele in carried {
        if let Some(change) = ledger.change(allele.entry)?
            && change.variant.reference != change.variant.alternate
        {
            let haplotype = (allele.contig, allele.number, &allele.phase_set);
            members.push((haplotype, change.variant.start, allele.entry, change));
        }
    }
    members.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
    let mut groups: Vec<Vec<Member>> = Vec::new();
    let mut last = None;
    for (haplotype, _, entry, change) in members {
        let group = groups.last_mut();
        let group = group
            .filter(|group| last == Some(haplotype) && goes_on(settings, group, &change.variant));
        let member = Member {
            contig: haplotype.0,
            number: haplotype.1,
            entry,
            change,
        };
        match group {
            Some(group) => group.push(member),
            None => groups.push(vec![member]),
        }
        last = Some(haplotype);
    }
    groups.retain(|group| group.len() > 1);
    Ok(groups)
}

/// Whether a change belongs to the group before it on the same haplotype.
fn goes_on(settings: &Settings, group: &[Member], change: &Variant) -> bool {
    let variants = || group.iter().map(|member| &member.change.variant);
    let end = variants().map(Variant::end).max().unwrap_or_default();
    let first = variants().map(|variant| variant.start).min();
    let first = first.unwrap_or(change.start);
    let last = variants().next_back();
    let shared = last.is_some_and(|before| before.start == change.start);
    change.start >= end
        && !shared
        && change.start - end <= settings.after as u64
        && change.end() - first <= settings.longest as u64
}

/// The allele that joins a group; none if it cannot be spelled.
fn whole(strand: &ContigStrand, ledger: &Ledger, group: &[Member]) -> Result<Option<Allele>> {
    let start = group[0].change.variant.start;
    let end = group[group.len() - 1].change.variant.end();
    let (mut alternate, mut from) = (Vec::new(), start);
    for Member { change, .. } in group {
        alternate.extend(strand.read(from..change.variant.start)?);
        alternate.extend(&change.variant.alternate);
        from = change.variant.end();
    }
    let plain = |codes: Vec<u8>| codes.into_iter().map(crate::sequence::base).collect();
    let whole = Variant {
        start,
        reference: plain(strand.read(start..end)?),
        alternate: plain(alternate),
    };
    // One allele may lack bases: both then get the one before, as in a VCF.
    let Some((pos, reference, alternate)) = whole.spell(|position| strand.at(position)) else {
        return Ok(None);
    };
    let mut alleles = Vec::new();
    for member in group {
        let allele = ledger.allele(member.entry)?;
        alleles.push(format!("{}:{}", allele.record, allele.alternate_index));
    }
    let first = ledger.allele(group[0].entry)?;
    Ok(Some(Allele {
        record: first.record,
        alternate_index: first.alternate_index,
        chrom: strand.name().to_string(),
        pos,
        id: None,
        info: Vec::new(),
        reference,
        alternate,
        haplotype: Some(HaplotypeOf {
            number: group[0].number,
            alleles: alleles.join(","),
        }),
    }))
}
