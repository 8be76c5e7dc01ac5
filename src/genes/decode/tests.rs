use super::super::{MIRROR, START, labels};
use super::*;
use crate::io::gff::Feature;
use crate::sequence::region::Region;
use crate::sequence::{A, C, G, T, reverse_complement};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Random codons without stops of code 11, from ATG to TAA.
fn gene(codons: usize, rng: &mut StdRng) -> Vec<u8> {
    let mut bases = vec![A, T, G];
    while bases.len() < 3 * (codons - 1) {
        let codon = [0; 3].map(|_| rng.random_range(0..4));
        if !GeneticCode::Bacterial.is_stop(codon) {
            bases.extend(codon);
        }
    }
    bases.extend([T, A, A]);
    bases
}

/// Probabilities that give `certain` to each base's class and share the rest.
fn probabilities(labels: &[u8], certain: f32) -> Vec<[f32; 11]> {
    let row = |class: &u8| {
        let mut row = [(1.0 - certain) / 10.0; 11];
        row[*class as usize] = certain;
        row
    };
    labels.iter().map(row).collect()
}

/// Start, end, on the reverse strand.
type Place = (u64, u64, bool);

/// Bases with genes at known places, and their labels.
fn sequence(genes: &[(usize, bool)], between: usize, seed: u64) -> (Vec<u8>, Vec<Place>, Vec<u8>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut bases, mut places, mut features) = (Vec::new(), Vec::new(), Vec::new());
    for (codons, reverse) in genes {
        bases.extend((0..between).map(|_| rng.random_range(0..4u8)));
        let mut gene = gene(*codons, &mut rng);
        if *reverse {
            reverse_complement(&mut gene);
        }
        let (start, end) = (bases.len() as u64, (bases.len() + gene.len()) as u64);
        bases.extend(gene);
        places.push((start, end, *reverse));
        features.push(Feature {
            region: Region {
                contig: "c".into(),
                start,
                end,
            },
            kind: "CDS".into(),
            reverse: *reverse,
            phase: Some(0),
            attributes: vec![("ID".into(), start.to_string())],
            parents: Vec::new(),
            line: 1,
        });
    }
    bases.extend((0..between).map(|_| rng.random_range(0..4u8)));
    let labels = labels(&features, &[("c", &bases)]).remove(0);
    (bases, places, labels)
}

fn decode(code: GeneticCode, bases: &[u8], rows: &[[f32; 11]]) -> Vec<Gene> {
    let mut decoder = Decoder::new(code, 0, None);
    let mut genes = Vec::new();
    for (base, row) in bases.iter().zip(rows) {
        genes.extend(decoder.push(Evidence::new(*base, row)));
    }
    genes.extend(decoder.finish());
    genes
}

fn places(genes: &[Gene]) -> Vec<Place> {
    genes
        .iter()
        .map(|gene| (gene.start, gene.end, gene.reverse))
        .collect()
}

#[test]
fn genes_of_both_strands_and_all_frames_are_found_exactly() {
    let many: Vec<(usize, bool)> = (0..60).map(|i| (40 + 17 * i, i % 3 == 1)).collect();
    for between in [0, 1, 50, 301] {
        let (bases, expected, labels) = sequence(&many, between, between as u64);
        let found = decode(
            GeneticCode::Bacterial,
            &bases,
            &probabilities(&labels, 0.99),
        );
        assert_eq!(places(&found), expected);
        assert!(
            found
                .iter()
                .all(|gene| gene.stops && gene.first_codon.as_deref() == Some("ATG"))
        );
    }
}

#[test]
fn noncoding_sequence_has_no_genes() {
    let (bases, _, _) = sequence(&[], 20_000, 1);
    let rows = probabilities(&vec![0; bases.len()], 0.9);
    assert_eq!(decode(GeneticCode::Bacterial, &bases, &rows), []);
}

#[test]
fn tga_goes_on_in_code_4() {
    let (mut bases, expected, labels) = sequence(&[(100, false)], 50, 3);
    bases[50 + 150..50 + 153].copy_from_slice(&[T, G, A]);
    let rows = probabilities(&labels, 0.9);
    assert_eq!(
        places(&decode(GeneticCode::Mycoplasma, &bases, &rows)),
        expected
    );
    let found = places(&decode(GeneticCode::Bacterial, &bases, &rows));
    assert!(found.iter().all(|gene| *gene != expected[0]) && !found.is_empty());
}

#[test]
fn genes_that_the_ends_cut_are_partial() {
    for cut in [0, 1, 2] {
        for reverse in [false, true] {
            let (bases, places, labels) = sequence(&[(100, reverse)], 0, 4);
            let rows = probabilities(&labels, 0.9);
            let (from, to) = (30 + cut, places[0].1 as usize - 30 - cut);
            let found = decode(GeneticCode::Bacterial, &bases[from..to], &rows[from..to]);
            assert_eq!(found.len(), 1, "{found:?}");
            let gene = &found[0];
            assert_eq!(
                (gene.reverse, gene.stops, gene.first_codon.is_none()),
                (reverse, false, true)
            );
            let missing = (gene.start as usize, to - from - gene.end as usize);
            assert!(missing.0 < 3 && missing.1 < 3, "{missing:?}");
            assert!((from as u64 + gene.start).is_multiple_of(3));
        }
    }
}

#[test]
fn genes_may_share_a_few_bases_and_no_more() {
    // ATGA: the second gene's start within the first one's stop.
    let mut rng = StdRng::seed_from_u64(5);
    let (mut first, second) = (gene(60, &mut rng), gene(60, &mut rng));
    first.truncate(first.len() - 4);
    let feature = |start: usize, end: usize| Feature {
        region: Region {
            contig: "c".into(),
            start: start as u64,
            end: end as u64,
        },
        kind: "CDS".into(),
        reverse: false,
        phase: Some(0),
        attributes: vec![("ID".into(), start.to_string())],
        parents: Vec::new(),
        line: 1,
    };
    let overlap = first.len();
    let mut bases = first;
    bases.extend(second);
    bases[overlap + 3] = A;
    let features = [feature(0, overlap + 4), feature(overlap, overlap + 180)];
    let labels = labels(&features, &[("c", &bases)]).remove(0);
    let found = decode(GeneticCode::Bacterial, &bases, &probabilities(&labels, 0.9));
    let expected = [
        (0, overlap as u64 + 4, false),
        (overlap as u64, overlap as u64 + 180, false),
    ];
    assert_eq!(places(&found), expected);
    // Whatever the probabilities say.
    let rows: Vec<[f32; 11]> = (0..30_000)
        .map(|_| {
            let row = [0; 11].map(|_| rng.random::<f32>().powi(4));
            row.map(|x| x / row.iter().sum::<f32>())
        })
        .collect();
    let bases: Vec<u8> = rows.iter().map(|_| rng.random_range(0..4)).collect();
    let mut found = places(&decode(GeneticCode::Bacterial, &bases, &rows));
    assert!(found.len() > 20);
    found.sort_unstable();
    assert!(
        found
            .windows(2)
            .all(|pair| pair[1].0 + OVERLAP >= pair[0].1)
    );
}

#[test]
fn genes_are_decided_along_the_way_and_little_is_held() {
    let many: Vec<(usize, bool)> = (0..400).map(|i| (50 + i % 90, i % 2 == 1)).collect();
    let (bases, expected, labels) = sequence(&many, 80, 6);
    let rows = probabilities(&labels, 0.99);
    let mut decoder = Decoder::new(GeneticCode::Bacterial, 0, None);
    let (mut genes, mut most) = (Vec::new(), 0);
    for (base, row) in bases.iter().zip(&rows) {
        genes.extend(decoder.push(Evidence::new(*base, row)));
        most = most.max(decoder.nodes.len());
    }
    assert!(genes.len() > 350, "{}", genes.len());
    assert!(most < 200, "{most}");
    genes.extend(decoder.finish());
    assert_eq!(places(&genes), expected);
}

#[test]
fn positions_count_from_the_sequence_s_first_base() {
    let (bases, expected, labels) = sequence(&[(100, false), (80, true)], 31, 7);
    let rows = probabilities(&labels, 0.9);
    for first in [1, 2, 1000] {
        let mut decoder = Decoder::new(GeneticCode::Bacterial, first, None);
        let mut genes = Vec::new();
        for (base, row) in bases.iter().zip(&rows) {
            genes.extend(decoder.push(Evidence::new(*base, row)));
        }
        genes.extend(decoder.finish());
        let moved = expected
            .iter()
            .map(|(a, b, reverse)| (a + first, b + first, *reverse));
        assert_eq!(places(&genes), moved.collect::<Vec<_>>());
    }
}

#[test]
fn unknown_bases_neither_start_nor_stop_a_gene() {
    let bases = [4u8; 500];
    assert_eq!(
        decode(GeneticCode::Bacterial, &bases, &vec![[1.0 / 11.0; 11]; 500]),
        []
    );
}

#[test]
fn no_gene_goes_on_over_a_gap_between_contigs() {
    let (mut bases, places, labels) = sequence(&[(300, false)], 200, 5);
    let rows = probabilities(&labels, 0.99);
    let found = decode(GeneticCode::Bacterial, &bases, &rows);
    assert!(found.iter().any(|gene| gene.end == places[0].1));
    let gap = 600..700;
    bases[gap.clone()].fill(N);
    let found = decode(GeneticCode::Bacterial, &bases, &rows);
    let over = |gene: &Gene| gene.start < gap.start as u64 && gene.end > gap.end as u64;
    assert!(!found.iter().any(over), "{found:?}");
}

#[test]
fn a_binding_site_decides_between_starts_on_both_strands() {
    let mut rng = StdRng::seed_from_u64(8);
    for (site, first) in [([A, G, G, A, G, G], 40), ([A, C, G, T, G, C], 70)] {
        // 40 bases, a start that is less probable, 30 bases on one that is more.
        let mut bases = vec![C; 40];
        bases[27..33].copy_from_slice(&site);
        bases.extend([A, T, G]);
        bases.extend([C; 27]);
        bases.extend(gene(60, &mut rng));
        bases.extend([C; 40]);
        let mut labels = vec![0; 40];
        labels.extend((0..210).map(|i| 1 + i % 3));
        labels.extend([0; 40]);
        let mut rows = probabilities(&labels, 0.9);
        rows[40..70].fill([1.0 / 11.0; 11]);
        rows[40][START[0]] = 0.05;
        rows[70] = [0.01; 11];
        rows[70][START[0]] = 0.9;
        let found = places(&decode(GeneticCode::Bacterial, &bases, &rows));
        assert_eq!(found, [(first, 250, false)]);
        reverse_complement(&mut bases);
        rows.reverse();
        let rows: Vec<[f32; 11]> = rows.iter().map(|row| MIRROR.map(|i| row[i])).collect();
        let found = places(&decode(GeneticCode::Bacterial, &bases, &rows));
        assert_eq!(found, [(40, 290 - first, true)]);
    }
}
