//! From the coding sequences of an annotation to a class for each base.

use super::code::GeneticCode;
use super::coding::{Coding, coding};
use super::{CODON, NONCODING, START, STOP, UNKNOWN};
use crate::io::gff::Feature;
use crate::sequence::complement;
use std::collections::BTreeMap;

/// The class of each base of each contig, of [`super::CLASSES`], or [`UNKNOWN`].
///
/// `contigs`: names and bases. Lines of one ID are one coding sequence, each in the frame of its
/// own phase, as with programmed frameshifts. What reaches beyond a contig's end goes on at its
/// start. Where genes overlap, the longer one's classes stand, but for the first base of the
/// shorter one. Pseudogenes, genes whose length is no multiple of three and genes with parts on both
/// strands are unknown where nothing else is coded, and so are contigs without a coding sequence.
/// The stop codon may be part of the coding sequence, as in GFF3, or follow it, as in GTF.
///
/// Features of other contigs are passed over.
pub fn labels(features: &[Feature], contigs: &[(&str, &[u8])]) -> Vec<Vec<u8>> {
    let names = contigs.iter().map(|(name, _)| *name);
    let places: BTreeMap<&str, usize> = names.zip(0..).collect();
    let coding = coding(features, &places);
    let mut painter = Painter::new(contigs, &coding);
    for feature in features.iter().filter(|f| f.kind == "pseudogene") {
        if let Some(&contig) = places.get(feature.region.contig.as_str()) {
            painter.forget(contig, feature);
        }
    }
    coding.iter().for_each(|coding| painter.paint(coding));
    painter.finish()
}

/// Classes of bases, while genes are painted over each other.
struct Painter<'a> {
    contigs: &'a [(&'a str, &'a [u8])],
    classes: Vec<Vec<u8>>,
    /// Starts and stops, which are not painted over: contig, base and class.
    marks: Vec<(usize, usize, usize)>,
}

impl<'a> Painter<'a> {
    /// Nothing is coded; nothing is known of contigs without a coding sequence.
    fn new(contigs: &'a [(&'a str, &'a [u8])], coding: &[Coding]) -> Self {
        let class = |contig: usize| {
            if coding.iter().any(|coding| coding.contig == contig) {
                NONCODING as u8
            } else {
                UNKNOWN
            }
        };
        let all = contigs.iter().enumerate();
        Self {
            contigs,
            classes: all
                .map(|(i, (_, bases))| vec![class(i); bases.len()])
                .collect(),
            marks: Vec::new(),
        }
    }

    /// The bases of a part, in its direction of reading.
    fn places(&self, contig: usize, part: &Feature) -> Vec<usize> {
        let length = self.contigs[contig].1.len() as u64;
        if length == 0 {
            return Vec::new();
        }
        let bases = part.region.start..part.region.end.min(part.region.start + length);
        let places = bases.map(|i| (i % length) as usize);
        if part.reverse {
            places.rev().collect()
        } else {
            places.collect()
        }
    }

    /// Nothing is known of the bases of a feature.
    fn forget(&mut self, contig: usize, feature: &Feature) {
        for place in self.places(contig, feature) {
            self.classes[contig][place] = UNKNOWN;
        }
    }

    fn paint(&mut self, coding: &Coding) {
        if coding.broken {
            coding
                .parts
                .iter()
                .for_each(|part| self.forget(coding.contig, part));
            return;
        }
        let strand = usize::from(coding.parts[0].reverse);
        let (mut read, mut places) = (0, Vec::new());
        for part in &coding.parts {
            let here = self.places(coding.contig, part);
            let phase = part.phase.map_or((3 - read % 3) % 3, usize::from);
            for (i, &place) in here.iter().enumerate() {
                let class = CODON[strand] + (i + 3 - phase) % 3;
                self.classes[coding.contig][place] = class as u8;
            }
            read = here.len() - phase.min(here.len());
            places.extend(here);
        }
        let begins = coding.parts[0].phase.is_none_or(|phase| phase == 0) && !coding.partial;
        if let (true, Some(&first)) = (begins, places.first()) {
            self.marks.push((coding.contig, first, START[strand]));
        }
        if let Some(last) = places.last_chunk::<3>() {
            self.mark_stop(coding.contig, strand, *last);
        }
    }

    /// Marks the stop codon: the last codon of a coding sequence, or the one after it, which becomes
    /// a part of it.
    fn mark_stop(&mut self, contig: usize, strand: usize, last: [usize; 3]) {
        let stop = STOP[strand];
        if self.is_stop(contig, strand, last) {
            self.marks.push((contig, last[2], stop));
            return;
        }
        let bases = self.contigs[contig].1.len();
        let step = |n: usize| match strand {
            0 => last[2].checked_add(n).filter(|i| *i < bases),
            _ => last[2].checked_sub(n),
        };
        if let [Some(a), Some(b), Some(c)] = [step(1), step(2), step(3)]
            && self.is_stop(contig, strand, [a, b, c])
        {
            for (i, place) in [a, b, c].into_iter().enumerate() {
                self.classes[contig][place] = (CODON[strand] + i) as u8;
            }
            self.marks.push((contig, c, stop));
        }
    }

    fn is_stop(&self, contig: usize, strand: usize, places: [usize; 3]) -> bool {
        let bases = self.contigs[contig].1;
        let codon = places.map(|place| match strand {
            0 => bases[place],
            _ => complement(bases[place]),
        });
        GeneticCode::Bacterial.is_stop(codon)
    }

    /// The classes, with the marks. A gene often begins within the last bases of the one before:
    /// beginnings come last.
    fn finish(mut self) -> Vec<Vec<u8>> {
        self.marks
            .sort_by_key(|(_, _, class)| START.contains(class));
        for (contig, place, class) in self.marks {
            self.classes[contig][place] = class as u8;
        }
        self.classes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::gff;
    use crate::sequence::reverse_complement;

    /// A sequence with ATG GTG CCC TAA from base 3 on: length 20.
    const BASES: [u8; 20] = [1, 1, 1, 0, 3, 2, 2, 3, 2, 1, 1, 1, 3, 0, 0, 1, 1, 1, 1, 1];

    fn labelled(lines: &[&str], bases: &[u8]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.gff3");
        std::fs::write(&path, lines.join("\n")).unwrap();
        let features = gff::read(&path).unwrap();
        labels(&features, &[("c", bases)]).remove(0)
    }

    const U: u8 = UNKNOWN;

    #[test]
    fn frames_starts_and_stops_are_labelled_on_both_strands() {
        let found = labelled(&["c\ts\tCDS\t4\t15\t.\t+\t0\tID=a"], &BASES);
        let expected = [0, 0, 0, 7, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 8, 0, 0, 0, 0, 0];
        assert_eq!(found, expected);
        let mut bases = BASES;
        reverse_complement(&mut bases);
        let found = labelled(&["c\ts\tCDS\t6\t17\t.\t-\t0\tID=a"], &bases);
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
        let whole = labelled(&["c\ts\tCDS\t4\t15\t.\t+\t0\tID=a"], &BASES);
        let without = ["c\ts\tCDS\t4\t12\t.\t+\t0\tgene_id \"a\"; transcript_id \"a\";"];
        assert_eq!(labelled(&without, &BASES), whole);
    }

    #[test]
    fn joined_sequences_have_the_frame_of_each_part() {
        // One base is passed over after base 6: the second part's phase says where its codons begin.
        let lines = [
            "c\ts\tCDS\t1\t6\t.\t+\t0\tID=a",
            "c\ts\tCDS\t8\t14\t.\t+\t1\tID=a",
        ];
        let found = labelled(&lines, &[1; 20]);
        assert_eq!(found[..15], [7, 2, 3, 1, 2, 3, 0, 3, 1, 2, 3, 1, 2, 3, 0]);
    }

    #[test]
    fn pseudogenes_and_broken_frames_are_unknown_but_not_where_a_gene_is() {
        let pseudo = [
            "c\ts\tCDS\t1\t9\t.\t-\t0\tID=p;pseudo=true",
            "c\ts\tCDS\t4\t15\t.\t+\t0\tID=a",
        ];
        let found = labelled(&pseudo, &BASES);
        assert_eq!(found[..5], [U, U, U, 7, 2]);
        let odd = labelled(&["c\ts\tCDS\t4\t14\t.\t+\t0\tID=a"], &BASES);
        assert_eq!(odd[2..15], [0, U, U, U, U, U, U, U, U, U, U, U, 0]);
        let biotype = [
            "c\ts\tgene\t4\t15\t.\t+\t.\tID=g;biotype=pseudogene",
            "c\ts\tmRNA\t4\t15\t.\t+\t.\tID=t;Parent=g",
            "c\ts\tCDS\t4\t15\t.\t+\t0\tID=a;Parent=t",
        ];
        assert_eq!(labelled(&biotype, &BASES)[3..6], [U, U, U]);
        assert_eq!(
            labelled(&["c\ts\tgene\t4\t15\t.\t+\t.\tID=g"], &BASES),
            [U; 20]
        );
    }

    #[test]
    fn of_two_genes_the_longer_one_is_labelled_but_both_begin() {
        let lines = [
            "c\ts\tCDS\t1\t12\t.\t+\t0\tID=a",
            "c\ts\tCDS\t11\t16\t.\t+\t0\tID=b",
        ];
        let found = labelled(&lines, &[1; 20]);
        assert_eq!(found[8..17], [3, 1, 7, 3, 3, 1, 2, 3, 0]);
    }

    #[test]
    fn a_gene_over_the_origin_of_a_circle_goes_on_at_its_start() {
        let circle = "c\ts\tregion\t1\t20\t.\t+\t.\tID=c;Is_circular=true";
        let found = labelled(&[circle, "c\ts\tCDS\t16\t24\t.\t+\t0\tID=a"], &[1; 20]);
        assert_eq!(found[15..], [7, 2, 3, 1, 2]);
        assert_eq!(found[..5], [3, 1, 2, 3, 0]);
        // The same in two lines, on either strand.
        for strand in ["+", "-"] {
            let line = |from: u64, to: u64, phase: u64| {
                format!("c\ts\tCDS\t{from}\t{to}\t.\t{strand}\t{phase}\tID=a")
            };
            let one = labelled(&[circle, &line(16, 24, 0)], &[1; 20]);
            let [first, second] = if strand == "+" { [0, 1] } else { [2, 0] };
            let two = [line(1, 4, second), line(16, 20, first)];
            assert_eq!(
                labelled(&[circle, &two[0], &two[1]], &[1; 20]),
                one,
                "{strand}"
            );
        }
    }

    #[test]
    fn a_part_of_several_features_is_of_a_pseudogene_if_one_of_them_is() {
        let gene = |biotype: &str| {
            let gene = format!("c\ts\tgene\t4\t15\t.\t+\t.\tID=g;gene_biotype={biotype}");
            let transcript = "c\ts\tmRNA\t4\t15\t.\t+\t.\tID=t;Parent=g";
            let coding = "c\ts\tCDS\t4\t15\t.\t+\t0\tID=a;Parent=t,g";
            labelled(&[&gene, transcript, coding], &BASES)
        };
        assert_eq!(gene("pseudogene")[3..6], [U, U, U]);
        assert_eq!(gene("protein_coding")[3..6], [7, 2, 3]);
        let circle = [
            "c\ts\tgene\t4\t15\t.\t+\t.\tID=g;Parent=t",
            "c\ts\tmRNA\t4\t15\t.\t+\t.\tID=t;Parent=g",
            "c\ts\tCDS\t4\t15\t.\t+\t0\tID=a;Parent=t",
        ];
        assert_eq!(labelled(&circle, &BASES)[3..6], [7, 2, 3]);
    }

    #[test]
    fn a_gene_with_parts_on_both_strands_is_unknown_and_the_others_are_learned() {
        let lines = [
            "c\ts\tCDS\t1\t3\t.\t-\t0\tID=t",
            "c\ts\tCDS\t18\t20\t.\t+\t0\tID=t",
            "c\ts\tCDS\t4\t15\t.\t+\t0\tID=a",
        ];
        let (found, said) = crate::io::testing::logged(|| labelled(&lines, &BASES));
        assert_eq!(found[..5], [U, U, U, 7, 2]);
        assert_eq!(found[14..], [8, 0, 0, U, U, U]);
        assert!(
            said.contains("1 coding sequences") && said.contains("line 1"),
            "{said}"
        );
    }
}
