//! Alleles that one haplotype of a sample carries together.

use super::Opened;
use crate::error::Result;
use crate::score::{Allele, Carried as Joined, Change};
use crate::sequence::allele::Variant;

/// An allele on a haplotype of the sample.
pub(super) struct Carried {
    /// The contig's place in the reference.
    pub contig: usize,
    /// The haplotype's number in the genotype, from 1.
    pub number: u32,
    /// Haplotypes keep their numbers within this.
    pub phase_set: Option<String>,
    /// The allele's place in the ledger.
    pub entry: usize,
}

/// Adds to the ledger an allele for each group of at least two changes of a haplotype of which
/// each begins at most `after` bases behind the end of the one before; returns how many.
///
/// A group ends where the bases that it replaces would be more than the longest allele, and at a
/// change that overlaps the one before.
pub(super) fn join(opened: &mut Opened, carried: &[Carried]) -> Result<u64> {
    let mut members = Vec::new();
    for allele in carried {
        if let Some(change) = opened.ledger.change(allele.entry)?
            && change.variant.reference != change.variant.alternate
        {
            let haplotype = (allele.contig, allele.number, &allele.phase_set);
            members.push((haplotype, change.variant.start, allele.entry, change));
        }
    }
    members.sort_by(|a, b| (a.0, a.1, a.2).cmp(&(b.0, b.1, b.2)));
    let (after, longest) = (opened.settings.after as u64, opened.settings.longest as u64);
    let mut groups: Vec<Vec<(usize, u32, usize, Change)>> = Vec::new();
    let mut last = None;
    for (haplotype, start, entry, change) in members {
        let group = groups.last_mut().filter(|group| {
            let variants = || group.iter().map(|(_, _, _, change)| &change.variant);
            let end = variants().map(Variant::end).max().unwrap_or_default();
            let first = variants()
                .map(|variant| variant.start)
                .min()
                .unwrap_or(start);
            let shared = variants()
                .next_back()
                .is_some_and(|before| before.start == start);
            last == Some(haplotype)
                && start >= end
                && !shared
                && start - end <= after
                && change.variant.end() - first <= longest
        });
        let member = (haplotype.0, haplotype.1, entry, change);
        match group {
            Some(group) => group.push(member),
            None => groups.push(vec![member]),
        }
        last = Some(haplotype);
    }
    groups.retain(|group| group.len() > 1);
    let mut of_contig = vec![Vec::new(); opened.reference.contigs().len()];
    for (i, group) in groups.iter().enumerate() {
        of_contig[group[0].0].push(i);
    }
    let (ledger, mut joined) = (&mut opened.ledger, 0);
    let scratch = &opened.settings.scratch;
    opened.reference.each(&of_contig, scratch, |contig, of| {
        for &i in of {
            let group = &groups[i];
            let strand = contig.strand(false);
            let start = group[0].3.variant.start;
            let end = group[group.len() - 1].3.variant.end();
            let (mut alternate, mut from) = (Vec::new(), start);
            for (.., change) in group {
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
            let mut alleles = Vec::new();
            for (_, _, entry, _) in group {
                let allele = ledger.allele(*entry)?;
                alleles.push(format!("{}:{}", allele.record, allele.alternate_index));
            }
            // One allele may lack bases: both then get the one before, as in a VCF.
            let Some((pos, reference, alternate)) = whole.spell(|position| strand.at(position))
            else {
                continue;
            };
            let first = ledger.allele(group[0].2)?;
            let allele = Allele {
                record: first.record,
                alternate_index: first.alternate_index,
                chrom: contig.name.clone(),
                pos,
                id: None,
                reference,
                alternate,
                haplotype: Some(Joined {
                    number: group[0].1,
                    alleles: alleles.join(","),
                }),
            };
            ledger.push(Some(group[0].0), &allele)?;
            joined += 1;
        }
        Ok(())
    })?;
    Ok(joined)
}
