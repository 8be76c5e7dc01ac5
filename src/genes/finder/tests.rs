use super::super::{CODON, MIRROR, NONCODING, START, STOP};
use super::*;
use crate::sequence::{A, C, G, T, reverse_complement};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// What ribosomes of this genome bind, six bases before a start: nothing like AGGAGG.
const SITE: [u8; 6] = [T, T, C, A, C, T];

/// Start, end, on the reverse strand.
type Place = (u64, u64, bool);

/// Bases, and what a head says of them.
#[derive(Default)]
struct Genome {
    bases: Vec<u8>,
    rows: Vec<[f32; 11]>,
}

fn row(classes: &[(usize, f32)]) -> [f32; 11] {
    let said: f32 = classes.iter().map(|(_, p)| p).sum();
    let mut row = [(1.0 - said) / (11 - classes.len()) as f32; 11];
    for (class, p) in classes {
        row[*class] = *p;
    }
    row
}

impl Genome {
    /// So many genes, on both strands in turn, each with another start codon five codons before its
    /// own; the head takes that for the start in every fourth gene.
    fn new(genes: usize) -> Self {
        let (mut genome, mut rng) = (Self::default(), StdRng::seed_from_u64(9));
        for number in 0..genes {
            genome.add(number, &mut rng);
        }
        genome
    }

    fn add(&mut self, number: usize, rng: &mut StdRng) {
        let mut bases: Vec<u8> = (0..60).map(|_| rng.random_range(0..4)).collect();
        let mut rows = vec![row(&[(NONCODING, 0.9)]); bases.len()];
        let marks = if number.is_multiple_of(4) {
            [0.3, 0.06]
        } else {
            [0.02, 0.6]
        };
        for codon in 0..90 {
            let [coding, none] = if codon < 5 { [0.2, 0.6] } else { [0.9, 0.01] };
            for position in 0..3 {
                rows.push(row(&[(CODON[0] + position, coding), (NONCODING, none)]));
            }
            let first = rows.len() - 3;
            let letters = match codon {
                0 | 5 => [A, T, G],
                89 => [T, A, A],
                _ => [C, rng.random_range(0..4), rng.random_range(0..4)],
            };
            bases.extend(letters);
            match codon {
                0 => rows[first] = row(&[(START[0], marks[0]), (CODON[0], 0.3)]),
                5 => rows[first] = row(&[(START[0], marks[1]), (CODON[0], 0.3)]),
                89 => rows[first + 2] = row(&[(STOP[0], 0.9)]),
                _ => {}
            }
        }
        bases[63..69].copy_from_slice(&SITE);
        let reverse = number % 2 == 1;
        if reverse {
            reverse_complement(&mut bases);
            rows.reverse();
            rows.iter_mut()
                .for_each(|row| *row = MIRROR.map(|i| row[i]));
        }
        self.bases.extend(bases);
        self.rows.extend(rows);
    }

    /// What a finder writes that holds so many bases, of contigs of so many bases.
    fn find(&self, held: usize, contig: usize) -> String {
        let mut finder = Finder::new(Vec::new(), GeneticCode::Bacterial, "test", None).unwrap();
        finder.hold = held;
        let parts = self.bases.chunks(contig).zip(self.rows.chunks(contig));
        for (number, (bases, rows)) in parts.enumerate() {
            let name = format!("c{number}");
            finder.begin(&name, 0);
            for (base, row) in bases.iter().zip(rows) {
                finder.push(&name, *base, row).unwrap();
            }
            finder.end(&name, 0, bases.len() as u64).unwrap();
        }
        String::from_utf8(finder.finish().unwrap().0).unwrap()
    }

    /// What is found without anything that was learned.
    fn fixed(&self) -> Vec<Place> {
        let mut decoder = Decoder::new(GeneticCode::Bacterial, 0, None);
        let mut genes = Vec::new();
        for (base, row) in self.bases.iter().zip(&self.rows) {
            genes.extend(decoder.push(Evidence::new(*base, row)));
        }
        genes.extend(decoder.finish());
        let place = |gene: &Gene| (gene.start, gene.end, gene.reverse);
        genes.iter().map(place).collect()
    }
}

/// The genes of a file's lines.
fn places(text: &str) -> Vec<Place> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let place = |line: &str| {
        let columns: Vec<&str> = line.split('\t').collect();
        let [start, end] = [columns[3], columns[4]].map(|column| column.parse::<u64>().unwrap());
        (start - 1, end, columns[6] == "-")
    };
    lines.map(place).collect()
}

#[test]
fn from_a_few_genes_nothing_is_learned() {
    let genome = Genome::new(150);
    assert_eq!(places(&genome.find(HELD, usize::MAX)), genome.fixed());
}

#[test]
fn contigs_have_their_genes_wherever_the_bases_that_are_held_end() {
    let genome = Genome::new(600);
    // 50 genes on each contig; held are whole contigs, or a part of one.
    let contig = 50 * 330;
    let names = |text: &str| {
        let lines = text.lines().filter(|line| line.starts_with("##sequence"));
        lines.map(str::to_string).collect::<Vec<_>>()
    };
    let all = genome.find(HELD, contig);
    assert_eq!(names(&all).len(), 12);
    for held in [8 * contig, 8 * contig + 1, 9 * contig - 1, 12 * contig] {
        let some = genome.find(held, contig);
        assert_eq!(names(&some), names(&all), "{held}");
        let found = places(&some);
        let both = places(&all)
            .iter()
            .filter(|gene| found.contains(gene))
            .count();
        assert!(
            found.len() > 540 && found.len() < 610 && both > 540,
            "{held}: {both}"
        );
    }
}
