use super::*;
use crate::io::testing::logged;
use crate::sequence::{A, C, G, SOFT_MASKED, T};

const REFERENCE: &str = "ACGTACGTACGTACGTACGTAAAAAAAAAA";

fn choice() -> Choice {
    Choice {
        min_depth: 2,
        min_fraction: 0.6,
        min_mapping_quality: 10,
        min_base_quality: 13,
        undecided_n: false,
    }
}

/// SAM of alignments on the contigs `c` and `d`, and the reference, in a directory.
fn files(lines: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let header = "@HD\tVN:1.6\tSO:coordinate\n@SQ\tSN:c\tLN:30\n@SQ\tSN:d\tLN:8\n";
    let lines: String = lines
        .iter()
        .map(|line| line.replace(' ', "\t") + "\n")
        .collect();
    std::fs::write(dir.path().join("a.sam"), header.to_string() + &lines).unwrap();
    let fasta = format!(">c\n{REFERENCE}\n>d\nccccGGGG\n");
    std::fs::write(dir.path().join("r.fa"), fasta).unwrap();
    std::fs::write(
        dir.path().join("r.fa.fai"),
        "c\t30\t3\t30\t31\nd\t8\t37\t8\t9\n",
    )
    .unwrap();
    dir
}

/// Codes and depths of each contig, and how many were chosen.
type Called = (Vec<Vec<u8>>, Vec<Vec<u32>>, Chosen);

/// Each sequence's codes, and the depth at each of its positions.
fn run(lines: &[&str], choice: Choice, max: usize) -> Result<Called> {
    let dir = files(lines);
    let path = |name: &str| dir.path().join(name);
    read(&path("a.sam"), &path("r.fa"), choice, max)
}

fn read(alignments: &Path, reference: &Path, choice: Choice, max: usize) -> Result<Called> {
    let mut consensus = Consensus::open(alignments, reference, (&[], None), [0, 0], choice, false)?;
    let (mut codes, mut depths) = (Vec::new(), Vec::new());
    while let Some(sequence) = consensus.next_sequence()? {
        let mut own = Vec::new();
        while consensus.read_bases(&mut own, max)? > 0 {}
        let depth = |i| consensus.depths().at(&sequence.name, i).unwrap();
        depths.push((0..own.len() as u64).map(depth).collect());
        codes.push(own);
    }
    Ok((codes, depths, consensus.chosen()))
}

const LINES: [&str; 9] = [
    "r1 0 c 1 60 8M * 0 0 ACGTTCGT IIIIIIII",
    "r2 16 c 3 60 6M * 0 0 GTTCGT IIIIII",
    "r3 0 c 5 60 2S4M2I2M * 0 0 AATCGTGGAC IIIIIIIIII",
    "dup 1024 c 5 60 4M * 0 0 GGGG IIII",
    "poor 0 c 5 5 4M * 0 0 GGGG IIII",
    "low 0 c 5 60 4M * 0 0 GGGG !!!!",
    "del1 0 c 13 60 2M3D2M * 0 0 ACGT IIII",
    "del2 0 c 13 60 2M3D2M * 0 0 ACGT IIII",
    "far 0 d 3 60 2M * 0 0 CC II",
];

#[test]
fn most_reads_decide_and_coordinates_stay() {
    for max in [1, 3, 100] {
        let (codes, depths, chosen) = run(&LINES, choice(), max).unwrap();
        let mut expected: Vec<u8> = REFERENCE
            .bytes()
            .map(|base| b"ACGT".iter().position(|b| *b == base).unwrap() as u8)
            .collect();
        expected[4] = T;
        expected[14..17].fill(N);
        // Behind their deletion both reads say GT.
        expected[17..19].copy_from_slice(&[G, T]);
        assert_eq!(codes[0], expected, "{max}");
        let soft = |code| code | SOFT_MASKED;
        assert_eq!(codes[1], [soft(C), soft(C), soft(C), soft(C), G, G, G, G]);
        assert_eq!(depths[0][..10], [1, 1, 2, 2, 3, 3, 3, 3, 1, 1]);
        assert_eq!(depths[0][12..19], [2; 7]);
        assert_eq!(depths[1], [0, 0, 1, 1, 0, 0, 0, 0]);
        let found = (
            chosen.changed,
            chosen.deleted,
            chosen.positions,
            chosen.alignments,
        );
        assert_eq!(found, (3, 3, 38, 7));
        assert_eq!(chosen.undecided, 38 - 13);
    }
}

#[test]
fn reads_that_disagree_decide_nothing() {
    let lines = ["r1 0 c 1 60 2M * 0 0 GG II", "r2 0 c 1 60 2M * 0 0 TC II"];
    let (codes, ..) = run(&lines, choice(), 100).unwrap();
    assert_eq!(codes[0][..3], [A, C, G]);
    let with_n = Choice {
        undecided_n: true,
        ..choice()
    };
    assert_eq!(run(&lines, with_n, 100).unwrap().0[0][..3], [N; 3]);
    let one = Choice {
        min_depth: 0,
        ..choice()
    };
    assert_eq!(run(&lines[..1], one, 100).unwrap().0[0][..3], [G, G, G]);
}

#[test]
fn unsorted_alignments_and_another_reference_are_refused() {
    let message = |lines: &[&str]| run(lines, choice(), 100).unwrap_err().to_string();
    let (one, two) = ("r1 0 c 9 60 2M * 0 0 GG II", "r2 0 c 1 60 2M * 0 0 TC II");
    assert!(message(&[one, two]).contains("order of coordinates"));
    let contig = |name: &str, length| Contig {
        name: name.to_string(),
        length,
    };
    let own = [contig("1", 5), contig("2", 6)];
    let error = matched(&own, &[contig("chr1", 5)]).unwrap_err().to_string();
    assert!(error.contains("1, 2") && error.contains("chr1"), "{error}");
    let error = matched(&own, &[contig("2", 7)]).unwrap_err().to_string();
    assert!(error.contains("2 has 7 bases, not 6"), "{error}");
    assert_eq!(matched(&own, &[contig("2", 6)]).unwrap(), [None, Some(0)]);
}

#[test]
fn alignments_on_a_contig_that_the_reference_lacks_are_left_out_with_one_warning() {
    let dir = files(&LINES);
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("r.fa"), format!(">c\n{REFERENCE}\n")).unwrap();
    std::fs::write(path("r.fa.fai"), "c\t30\t3\t30\t31\n").unwrap();
    let (called, log) = logged(|| read(&path("a.sam"), &path("r.fa"), choice(), 100).unwrap());
    let whole = run(&LINES, choice(), 100).unwrap();
    assert_eq!(
        (&called.0[..], &called.1[..]),
        (&whole.0[..1], &whole.1[..1])
    );
    assert_eq!(log.matches("the reference lacks d").count(), 1, "{log}");
}
