//! Variants by both readers: contigs, the first five columns, filters and genotypes.

use super::Outcome;
use super::judge::{self, Refused};
use crocuta::io::variants::{Genotype, Options, Reader};
use std::fs;
use std::path::Path;

/// Samples whose genotypes are compared: each needs the file to be read once more.
const SAMPLES: usize = 3;

/// A file by both readers. `scratch` is a directory for what stands between them.
pub fn compare(path: &Path, scratch: &Path) -> Outcome {
    let text = scratch.join("theirs.vcf");
    let theirs = judge::copy_variants(path, &text).map(|_| of_text(&text));
    match (read(path), theirs) {
        (Err(_), Err(_)) => Outcome::RefusedByBoth,
        (Err(why), Ok(_)) => Outcome::RefusedByOurs(why),
        (Ok(_), Err(why)) => Outcome::ReadByOurs(why),
        (Ok(ours), Ok(theirs)) => Outcome::of(&ours, &theirs, |ours, theirs| {
            let columns = ["CHROM", "POS", "ID", "REF", "ALT", "FILTER"];
            let pairs = ours.split('\t').zip(theirs.split('\t')).enumerate();
            let differing = pairs.filter(|(_, (ours, theirs))| ours != theirs);
            let mut names: Vec<&str> = differing
                .map(|(column, _)| columns.get(column).copied().unwrap_or("genotypes"))
                .collect();
            names.dedup();
            names.join(", ")
        }),
    }
}

/// What we read: a line of the contigs, and one a record.
fn read(path: &Path) -> Result<Vec<String>, Refused> {
    let mut found = records(path, None)?;
    let samples = {
        let reader = Reader::open(path, &Options::default()).map_err(|error| error.to_string())?;
        reader.header().samples.clone()
    };
    for sample in samples.into_iter().take(SAMPLES) {
        let with = records(path, Some(sample))?;
        for (line, with) in found.iter_mut().zip(with).skip(1) {
            let genotype = with.rsplit('\t').next().unwrap_or_default();
            line.push('\t');
            line.push_str(genotype);
        }
    }
    Ok(found)
}

fn records(path: &Path, sample: Option<String>) -> Result<Vec<String>, Refused> {
    let asked = sample.is_some();
    let options = Options {
        sample,
        ..Options::default()
    };
    let read = || {
        let mut reader = Reader::open(path, &options)?;
        let contigs = reader.header().contigs.iter();
        let contigs: Vec<&str> = contigs.map(|(name, _)| name.as_str()).collect();
        let mut lines = vec![contigs.join(" ")];
        while let Some(record) = reader.next_record()? {
            let line = String::from_utf8_lossy(reader.line()).into_owned();
            let filter = line.trim_end().split('\t').nth(6).unwrap_or_default();
            let mut line = format!(
                "{}\t{}\t{}\t{}\t{}\t{filter}",
                record.chrom,
                record.pos,
                record.id.as_deref().unwrap_or("."),
                record.reference,
                record.alternates.join(","),
            );
            if asked {
                line += "\t";
                line += &record.genotype.as_ref().map_or(String::new(), genotype);
            }
            lines.push(line);
        }
        Ok(lines)
    };
    read().map_err(|error: crocuta::Error| error.to_string())
}

fn genotype(genotype: &Genotype) -> String {
    let alleles = genotype.alleles.iter();
    let alleles = alleles.map(|allele| allele.map_or(".".to_string(), |allele| allele.to_string()));
    let between = if genotype.phased { "|" } else { "/" };
    alleles.collect::<Vec<_>>().join(between)
}

/// The same of the VCF that htslib wrote.
fn of_text(path: &Path) -> Vec<String> {
    let text = fs::read(path).unwrap();
    let text = String::from_utf8_lossy(&text);
    let mut contigs = Vec::new();
    let mut lines = Vec::new();
    for line in text.lines() {
        if let Some(contig) = line.strip_prefix("##contig=<") {
            let id = contig
                .split([',', '>'])
                .find_map(|field| field.strip_prefix("ID="));
            contigs.extend(id);
        }
        if line.starts_with('#') {
            continue;
        }
        let columns: Vec<&str> = line.split('\t').collect();
        let mut chosen: Vec<String> = [0, 1, 2, 3, 4, 6]
            .map(|column| columns.get(column).copied().unwrap_or_default().to_string())
            .into();
        let format = columns
            .get(8)
            .map(|keys| keys.split(':').position(|key| key == "GT"));
        for sample in columns.iter().skip(9).take(SAMPLES) {
            let text = format
                .flatten()
                .and_then(|place| sample.split(':').nth(place));
            // What phased means is one answer for all alleles.
            let text = text.unwrap_or_default();
            let bare = text.strip_prefix(['|', '/']).unwrap_or(text);
            let phased = !bare.contains('/') && !text.starts_with('/');
            let between = if phased { "|" } else { "/" };
            chosen.push(bare.replace(['|', '/'], between));
        }
        lines.push(chosen.join("\t"));
    }
    lines.insert(0, contigs.join(" "));
    lines
}
