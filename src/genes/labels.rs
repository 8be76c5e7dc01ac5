//! From the coding sequences of an annotation to a class for each base.

use super::code::GeneticCode;
use super::{CODON, NONCODING, START, STOP, UNKNOWN};
use crate::error::{Error, Result};
use crate::io::gff::Feature;
use std::collections::{BTreeMap, BTreeSet};

/// A coding sequence: its lines in the order in which it is read.
struct Coding<'a> {
    parts: Vec<&'a Feature>,
    contig: usize,
    /// No frame to learn: a pseudogene, or a length that is no multiple of three.
    broken: bool,
    partial: bool,
}

/// The class of each base of each contig, of [`super::CLASSES`], or [`UNKNOWN`].
///
/// `contigs`: names and bases. Lines of one ID are one coding sequence, each in the frame of its
/// own phase, as with programmed frameshifts. Where genes overlap, the longer one's classes stand,
/// but for the first base of the shorter one. Pseudogenes, and genes whose length is no multiple of
/// three, are unknown where nothing else is coded, and so are contigs without a coding sequence.
/// The stop codon may be part of the coding sequence, as in GFF3, or follow it, as in GTF.
///
/// # Errors
/// Input: a coding sequence beyond its contig's end, or one whose lines contradict each other. The
/// features' contigs are among `contigs`: others are passed over.
pub fn labels(features: &[Feature], contigs: &[(&str, &[u8])]) -> Result<Vec<Vec<u8>>> {
    let places: BTreeMap<&str, usize> = (0..)
        .zip(contigs)
        .map(|(i, (name, _))| (*name, i))
        .collect();
    let circular: BTreeSet<&str> = features
        .iter()
        .filter(|feature| feature.says("Is_circular"))
        .map(|feature| feature.region.contig.as_str())
        .collect();
    let mut all: Vec<Vec<u8>> = contigs
        .iter()
        .map(|(_, bases)| vec![NONCODING as u8; bases.len()])
        .collect();
    let coding = coding(features, &places)?;
    for (i, all) in all.iter_mut().enumerate() {
        if coding.iter().all(|coding| coding.contig != i) {
            all.fill(UNKNOWN);
        }
    }
    let paint = |part: &Feature, contig: usize| -> Result<Vec<usize>> {
        let (length, end) = (contigs[contig].1.len() as u64, part.region.end);
        let wraps = circular.contains(part.region.contig.as_str()) && end <= 2 * length;
        if end > length && !wraps {
            let what = format!("ends at {end} of a contig of {length} bases");
            return Err(Error::input(what)
                .place(format!("line {}", part.line))
                .todo("give the annotation of this very sequence"));
        }
        let places = (part.region.start..end).map(|i| (i % length) as usize);
        Ok(match part.reverse {
            false => places.collect(),
            true => places.rev().collect(),
        })
    };
    for feature in features
        .iter()
        .filter(|feature| feature.kind == "pseudogene")
    {
        if let Some(&contig) = places.get(feature.region.contig.as_str()) {
            paint(feature, contig)?
                .into_iter()
                .for_each(|i| all[contig][i] = UNKNOWN);
        }
    }
    let mut marks = Vec::new();
    for coding in &coding {
        let (strand, bases) = (
            usize::from(coding.parts[0].reverse),
            contigs[coding.contig].1,
        );
        let (mut read, mut places) = (0, Vec::new());
        for part in &coding.parts {
            let here = paint(part, coding.contig)?;
            let phase = part.phase.map_or((3 - read % 3) % 3, usize::from);
            for (i, &place) in here.iter().enumerate() {
                let class = match coding.broken {
                    true => UNKNOWN,
                    false => (CODON[strand] + (i + 3 - phase) % 3) as u8,
                };
                all[coding.contig][place] = class;
            }
            read = here.len() - phase.min(here.len());
            places.extend(here);
        }
        if coding.broken {
            continue;
        }
        let begins = coding.parts[0].phase.is_none_or(|phase| phase == 0) && !coding.partial;
        if let (true, Some(&first)) = (begins, places.first()) {
            marks.push((coding.contig, first, START[strand]));
        }
        let codon = |at: &[usize]| {
            let codon = [at[0], at[1], at[2]].map(|i| bases[i]);
            if strand == 1 {
                codon.map(crate::sequence::complement)
            } else {
                codon
            }
        };
        let stops = |at: &[usize]| GeneticCode::Bacterial.is_stop(codon(at));
        if let Some(&[a, b, c]) = places.last_chunk::<3>() {
            let step = |n: usize| match strand {
                0 => c.checked_add(n).filter(|i| *i < bases.len()),
                _ => c.checked_sub(n),
            };
            let after = [step(1), step(2), step(3)];
            match after {
                _ if stops(&[a, b, c]) => marks.push((coding.contig, c, STOP[strand])),
                [Some(a), Some(b), Some(c)] if stops(&[a, b, c]) => {
                    for (i, place) in [a, b, c].into_iter().enumerate() {
                        all[coding.contig][place] = (CODON[strand] + i) as u8;
                    }
                    marks.push((coding.contig, c, STOP[strand]));
                }
                _ => {}
            }
        }
    }
    // A gene often begins within the last bases of the one before: beginnings come last.
    marks.sort_by_key(|(_, _, class)| START.contains(class));
    for (contig, place, class) in marks {
        all[contig][place] = class as u8;
    }
    Ok(all)
}

/// The coding sequences, the longest last.
fn coding<'a>(features: &'a [Feature], places: &BTreeMap<&str, usize>) -> Result<Vec<Coding<'a>>> {
    let named = features
        .iter()
        .filter_map(|feature| Some((feature.attribute("ID")?, feature)));
    let by_id: BTreeMap<&str, &Feature> = named.filter(|(_, f)| f.kind != "CDS").collect();
    let mut groups: BTreeMap<(&str, String), Vec<&Feature>> = BTreeMap::new();
    for feature in features.iter().filter(|feature| feature.kind == "CDS") {
        let keys = ["ID", "Parent", "transcript_id", "protein_id"];
        let key = keys.iter().find_map(|key| feature.attribute(key));
        let key = key.map_or_else(|| format!("line {}", feature.line), str::to_string);
        let contig = feature.region.contig.as_str();
        groups.entry((contig, key)).or_default().push(feature);
    }
    let mut all = Vec::new();
    for ((contig, _), mut parts) in groups {
        let Some(&contig) = places.get(contig) else {
            continue;
        };
        let reverse = parts[0].reverse;
        if let Some(other) = parts.iter().find(|part| part.reverse != reverse) {
            return Err(Error::input("a coding sequence on both strands")
                .place(format!("line {}", other.line)));
        }
        parts.sort_by_key(|part| part.region.start);
        if reverse {
            parts.reverse();
        }
        let mut owners = vec![parts[0]];
        while let Some(parent) = owners.last().and_then(|f| f.attribute("Parent")) {
            match by_id.get(parent) {
                Some(owner) if owners.len() < 4 => owners.push(owner),
                _ => break,
            }
        }
        let partial = owners.iter().any(|f| f.says("partial"));
        let length: u64 = parts
            .iter()
            .map(|part| part.region.end - part.region.start)
            .sum();
        let odd = parts.len() == 1 && !partial && !length.is_multiple_of(3);
        all.push(Coding {
            broken: odd || owners.iter().any(|f| is_pseudo(f)),
            parts,
            contig,
            partial,
        });
    }
    let length = |coding: &Coding| -> u64 {
        let parts = coding.parts.iter();
        parts.map(|part| part.region.end - part.region.start).sum()
    };
    all.sort_by_key(|coding| (!coding.broken, length(coding)));
    Ok(all)
}

fn is_pseudo(feature: &Feature) -> bool {
    let biotype = ["biotype", "gene_biotype", "transcript_biotype"];
    feature.kind.starts_with("pseudogen")
        || feature.says("pseudo")
        || feature.attribute("pseudogene").is_some()
        || biotype
            .iter()
            .filter_map(|key| feature.attribute(key))
            .any(|value| value.contains("pseudogene"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::gff;
    use crate::sequence::reverse_complement;

    /// A sequence with ATG GTG CCC TAA from base 3 on: length 20.
    const BASES: [u8; 20] = [1, 1, 1, 0, 3, 2, 2, 3, 2, 1, 1, 1, 3, 0, 0, 1, 1, 1, 1, 1];

    fn labelled(lines: &[&str], bases: &[u8]) -> Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gff3");
        std::fs::write(&path, lines.join("\n")).unwrap();
        let features = gff::read(&path).unwrap();
        Ok(labels(&features, &[("c", bases)])?.remove(0))
    }

    const U: u8 = UNKNOWN;

    #[test]
    fn frames_starts_and_stops_are_labelled_on_both_strands() {
        let found = labelled(&["c\ts\tCDS\t4\t15\t.\t+\t0\tID=a"], &BASES).unwrap();
        let expected = [0, 0, 0, 7, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 8, 0, 0, 0, 0, 0];
        assert_eq!(found, expected);
        let mut bases = BASES;
        reverse_complement(&mut bases);
        let found = labelled(&["c\ts\tCDS\t6\t17\t.\t-\t0\tID=a"], &bases).unwrap();
        let mirrored: Vec<u8> = expected
            .iter()
            .rev()
            .map(|c| super::super::MIRROR[*c as usize] as u8)
            .collect();
        assert_eq!(found, mirrored);
        assert_eq!(found[16], 9);
        assert_eq!(found[5], 10);
    }

    #[test]
    fn a_stop_codon_after_the_coding_sequence_belongs_to_it() {
        let whole = labelled(&["c\ts\tCDS\t4\t15\t.\t+\t0\tID=a"], &BASES).unwrap();
        let without = ["c\ts\tCDS\t4\t12\t.\t+\t0\tgene_id \"a\"; transcript_id \"a\";"];
        assert_eq!(labelled(&without, &BASES).unwrap(), whole);
    }

    #[test]
    fn joined_sequences_have_the_frame_of_each_part() {
        // One base is passed over after base 6: the second part's phase says where its codons begin.
        let lines = [
            "c\ts\tCDS\t1\t6\t.\t+\t0\tID=a",
            "c\ts\tCDS\t8\t14\t.\t+\t1\tID=a",
        ];
        let found = labelled(&lines, &[1; 20]).unwrap();
        assert_eq!(found[..15], [7, 2, 3, 1, 2, 3, 0, 3, 1, 2, 3, 1, 2, 3, 0]);
    }

    #[test]
    fn pseudogenes_and_broken_frames_are_unknown_but_not_where_a_gene_is() {
        let pseudo = [
            "c\ts\tCDS\t1\t9\t.\t-\t0\tID=p;pseudo=true",
            "c\ts\tCDS\t4\t15\t.\t+\t0\tID=a",
        ];
        let found = labelled(&pseudo, &BASES).unwrap();
        assert_eq!(found[..5], [U, U, U, 7, 2]);
        let odd = labelled(&["c\ts\tCDS\t4\t14\t.\t+\t0\tID=a"], &BASES).unwrap();
        assert_eq!(odd[2..15], [0, U, U, U, U, U, U, U, U, U, U, U, 0]);
        let biotype = [
            "c\ts\tgene\t4\t15\t.\t+\t.\tID=g;biotype=pseudogene",
            "c\ts\tmRNA\t4\t15\t.\t+\t.\tID=t;Parent=g",
            "c\ts\tCDS\t4\t15\t.\t+\t0\tID=a;Parent=t",
        ];
        assert_eq!(labelled(&biotype, &BASES).unwrap()[3..6], [U, U, U]);
        assert_eq!(
            labelled(&["c\ts\tgene\t4\t15\t.\t+\t.\tID=g"], &BASES).unwrap(),
            [U; 20]
        );
    }

    #[test]
    fn of_two_genes_the_longer_one_is_labelled_but_both_begin() {
        let lines = [
            "c\ts\tCDS\t1\t12\t.\t+\t0\tID=a",
            "c\ts\tCDS\t11\t16\t.\t+\t0\tID=b",
        ];
        let found = labelled(&lines, &[1; 20]).unwrap();
        assert_eq!(found[8..17], [3, 1, 7, 3, 3, 1, 2, 3, 0]);
    }

    #[test]
    fn a_gene_beyond_the_contig_is_an_error_unless_the_contig_is_a_circle() {
        let gene = "c\ts\tCDS\t16\t24\t.\t+\t0\tID=a";
        let error = labelled(&[gene], &[1; 20]).unwrap_err();
        assert_eq!(error.kind(), crate::error::Kind::Input, "{error}");
        let error = error.to_string();
        assert!(error.contains("line 1") && error.contains("24"), "{error}");
        let circle = "c\ts\tregion\t1\t20\t.\t+\t.\tID=c;Is_circular=true";
        let found = labelled(&[circle, gene], &[1; 20]).unwrap();
        assert_eq!(found[15..], [7, 2, 3, 1, 2]);
        assert_eq!(found[..5], [3, 1, 2, 3, 0]);
    }
}
