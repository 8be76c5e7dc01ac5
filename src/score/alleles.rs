//! Where the alleles come from: a VCF or BCF, or all single changes of a region.

use super::{Carried, Chosen, Ledger, Part, Reference};
use crate::error::{Error, Result};
use crate::io::source::shown;
use crate::io::variants::{InfoFields, Options, Reader};
use crate::sequence::region::{Query, Span};
use crate::sequence::{LETTERS, N, base, contigs};
use crate::table::Allele;
use std::collections::{HashMap, HashSet};
use std::path::Path;

/// Every allele of these records of a file, in its order, with these fields of INFO; and which the
/// sample carries, if one was asked for.
///
/// # Errors
/// As the reader; Input, if the reference has none of the contigs; Usage, if the header declares
/// no such field.
pub fn read_alleles(
    path: &Path,
    (options, info): (&Options, &[String]),
    reference: &Reference,
    chosen: &Chosen,
    ledger: &mut Ledger,
) -> Result<Vec<Carried>> {
    let places = reference.contigs().iter().zip(0..);
    let places: HashMap<&str, usize> = places.map(|(c, i)| (c.name.as_str(), i)).collect();
    let mut reader = Reader::open(path, options)?;
    let info = InfoFields::find(reader.header(), info);
    let info = info.map_err(|error| error.file(shown(path)))?;
    let (mut names, mut seen) = (Vec::<String>::new(), HashSet::new());
    let mut carried = Vec::new();
    while let Some(record) = reader.next_record()? {
        if names.last() != Some(&record.chrom) && seen.insert(record.chrom.clone()) {
            names.push(record.chrom.clone());
        }
        let contig = places.get(record.chrom.as_str()).copied();
        let start = record.pos.saturating_sub(1);
        let end = start + record.reference.len().max(1) as u64;
        if !chosen.has(record.index, contig, start..end) {
            continue;
        }
        let first = ledger.len();
        for (index, alternate) in (0..).zip(&record.alternates) {
            ledger.push(
                contig,
                &Allele {
                    record: record.index,
                    alternate_index: index,
                    chrom: record.chrom.clone(),
                    pos: record.pos,
                    id: record.id.clone(),
                    info: info.of(reader.line(), index as usize),
                    reference: record.reference.clone(),
                    alternate: alternate.clone(),
                    haplotype: None,
                },
            )?;
        }
        let genotype = record.genotype.filter(|genotype| genotype.phased);
        if let (Some(genotype), Some(contig)) = (genotype, contig) {
            for (number, allele) in (1..).zip(&genotype.alleles) {
                if let Some(allele) = allele.filter(|&allele| allele > 0) {
                    carried.push(Carried {
                        contig,
                        number,
                        phase_set: genotype.phase_set.clone(),
                        entry: first + allele as usize - 1,
                    });
                }
            }
        }
    }
    let names = contigs::compare(names.iter().map(String::as_str), reference.contigs());
    names.check().map_err(|error| error.file(shown(path)))?;
    if let Some(report) = names.report() {
        tracing::warn!("{}: {report}", shown(path));
    }
    Ok(carried)
}

/// Every change of one base of a region to another, of this part of its positions; those without a
/// base have none.
///
/// # Errors
/// Those of the reader; Usage: the region is a whole contig, and `whole` is not given.
pub fn saturate(
    (region, whole): (&str, bool),
    reference: &Reference,
    scratch: &Path,
    part: &Part,
    ledger: &mut Ledger,
) -> Result<()> {
    let span = region_of(region, reference)?;
    let contig = &reference.contigs()[span.contig];
    if !whole && span.start == 0 && span.end >= contig.length {
        let what = format!("all {} bases of {}", contig.length, contig.name);
        let error = Error::usage(format!("--saturate {region} is {what}"));
        return Err(error.todo("give a part of it, as chr:beg-end, or --force"));
    }
    let mut wanted = vec![Vec::new(); reference.contigs().len()];
    wanted[span.contig].push(0);
    reference.each(&wanted, scratch, |contig, _| {
        let codes = contig.strand(false).read(span.start..span.end)?;
        for (record, &code) in (0u64..).zip(&codes) {
            if !part.has(record, Some(span.contig)) {
                continue;
            }
            let code = base(code);
            let others = (0..N).filter(|&other| code != N && other != code);
            for (index, other) in (0..).zip(others) {
                ledger.push(
                    Some(span.contig),
                    &Allele {
                        record,
                        alternate_index: index,
                        chrom: contig.name.clone(),
                        pos: span.start + record + 1,
                        id: None,
                        info: Vec::new(),
                        reference: LETTERS[usize::from(code)].to_string(),
                        alternate: LETTERS[usize::from(other)].to_string(),
                        haplotype: None,
                    },
                )?;
            }
        }
        Ok(())
    })
}

/// Where a region lies on the reference.
///
/// # Errors
/// Usage: it is no region, or the reference has none such.
pub fn region_of(region: &str, reference: &Reference) -> Result<Span> {
    Query::parse(region)?.resolve(reference.contigs())
}
