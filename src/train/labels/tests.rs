use super::*;
use crate::error::Result;
use crate::train::Genomes;
use std::path::PathBuf;

/// A genome of contigs c (20 bases) and d (4), and label files.
fn read(files: &[(&str, &str)], wanted: &[&str]) -> Result<Labels> {
    let dir = tempfile::tempdir().unwrap();
    let fasta = dir.path().join("g.fa");
    std::fs::write(&fasta, ">c\nACGTACGTACGTACGTACGT\n>d\nACGT\n").unwrap();
    let genomes = Genomes::read(&[fasta]).unwrap();
    let paths: Vec<PathBuf> = files
        .iter()
        .map(|(name, _)| dir.path().join(name))
        .collect();
    for (path, (_, text)) in paths.iter().zip(files) {
        std::fs::write(path, text).unwrap();
    }
    let wanted: Vec<String> = wanted.iter().map(|x| x.to_string()).collect();
    Labels::read(&paths, &wanted, &genomes)
}

fn targets(labels: &Labels, contig: usize, bases: std::ops::Range<u64>) -> Vec<f32> {
    let mut out = Vec::new();
    bases.for_each(|i| labels.target(contig, i, false, &mut out));
    out
}

const FEATURES: &str = "c\ts\tgene\t3\t5\t.\t+\t.\tID=a\nc\ts\texon\t5\t20\t.\t+\t.\tID=b\n";

#[test]
fn types_of_features_and_names_of_regions_are_classes_that_may_overlap() {
    let labels = read(
        &[("a.gff3", FEATURES), ("b.bed", "d\t0\t1\tgene\nd\t1\t2\n")],
        &[],
    )
    .unwrap();
    assert_eq!(labels.outputs, ["b", "exon", "gene"]);
    assert_eq!(
        targets(&labels, 0, 3..6),
        [0., 0., 1., 0., 1., 1., 0., 1., 0.]
    );
    assert_eq!(targets(&labels, 1, 0..2), [0., 0., 1., 1., 0., 0.]);
    let one = read(&[("a.gtf", FEATURES)], &["exon"]).unwrap();
    assert_eq!(one.outputs, ["exon"]);
    assert_eq!(
        one.balance(&[Span {
            contig: 0,
            start: 0,
            end: 20
        }]),
        [[0.625, 2.5]]
    );
    assert!(read(&[("a.gtf", FEATURES)], &["intron"]).is_err());
    assert!(read(&[("a.txt", FEATURES)], &[]).is_err());
}

#[test]
fn tracks_have_values_and_gaps() {
    let labels = read(
        &[
            ("x.bedgraph", "c 0 2 1.5\nc 3 4 -1\n"),
            ("y.bg", "c\t1\t2\t9\n"),
        ],
        &[],
    )
    .unwrap();
    assert_eq!(labels.outputs, ["x", "y"]);
    let found = targets(&labels, 0, 0..4);
    let known = found.iter().map(|x| if x.is_nan() { 0.0 } else { *x });
    let expected = [1.5, 0.0, 1.5, 9.0, 0.0, 0.0, -1.0, 0.0];
    assert_eq!(known.collect::<Vec<_>>(), expected);
    assert_eq!(found.iter().filter(|x| x.is_nan()).count(), 4);
    assert!(read(&[("x.bg", "c 0 2 1\n"), ("a.gff", FEATURES)], &[]).is_err());
    assert!(read(&[("x.bg", "c 0 2 1\n"), ("x.bedgraph", "c 0 2 1\n")], &[]).is_err());
}

#[test]
fn contigs_that_the_genome_lacks_are_an_error_that_names_the_nearest() {
    let error = read(&[("b.bed", "chrC\t0\t1\tgene\n")], &[])
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("\"chrC\" (\"c\"?)") && error.contains("b.bed"),
        "{error}"
    );
}

#[test]
fn labels_beyond_a_contigs_end_are_an_error_with_their_file_and_line() {
    let gene = "c\ts\tgene\t3\t5\t.\t+\t.\tID=a\n";
    for (name, text, place) in [
        ("b.bed", "c\t0\t5\nc\t18\t21\n".to_string(), "b.bed: line 2"),
        ("b.bed", "#\nd\t100\t200\n".to_string(), "b.bed: line 2"),
        (
            "b.bedgraph",
            "c 0 5 1\n\nc 20 30 2\n".to_string(),
            "b.bedgraph: line 3",
        ),
        (
            "b.gff3",
            format!("{gene}c\ts\tgene\t16\t24\t.\t+\t.\tID=b\n"),
            "b.gff3: line 2",
        ),
        (
            "b.gtf",
            format!("{gene}d\ts\tgene\t5\t6\t.\t+\t.\tID=b\n"),
            "b.gtf: line 2",
        ),
    ] {
        let error = read(&[(name, &text)], &[]).err().unwrap();
        assert_eq!(error.kind(), crate::error::Kind::Input);
        assert!(error.to_string().contains(place), "{error}");
        assert!(error.to_string().contains("bases"), "{error}");
    }
}

#[test]
fn a_feature_over_the_origin_of_a_circular_contig_goes_on_at_its_start() {
    let circle = "c\ts\tregion\t1\t20\t.\t+\t.\tID=c;Is_circular=true\n";
    let trna = |from: u64, to: u64| format!("c\ts\ttRNA\t{from}\t{to}\t.\t+\t.\tID=t\n");
    let one = read(
        &[("a.gff3", &format!("{circle}{}", trna(16, 24)))],
        &["tRNA"],
    )
    .unwrap();
    let text = format!("{circle}{}{}", trna(16, 20), trna(1, 4));
    let two = read(&[("a.gff3", &text)], &["tRNA"]).unwrap();
    assert_eq!(targets(&one, 0, 0..20), targets(&two, 0, 0..20));
    assert_eq!(targets(&one, 0, 0..20).iter().sum::<f32>(), 9.0);
    // More than once around is no feature of a circle.
    for (from, to) in [(16, 36), (21, 22), (1, 41)] {
        let text = format!("{circle}{}", trna(from, to));
        let error = read(&[("a.gff3", &text)], &["tRNA"]).err().unwrap();
        assert!(error.to_string().contains("line 2"), "{error}");
    }
}

#[test]
fn genes_beyond_a_contigs_end_are_an_error_unless_it_is_a_circle() {
    let genes = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let [fasta, path] = ["g.fa", "a.gff3"].map(|name| dir.path().join(name));
        std::fs::write(&fasta, ">c\nACGTACGTACGTACGTACGT\n").unwrap();
        std::fs::write(&path, text).unwrap();
        Labels::genes(&[path], &Genomes::read(&[fasta]).unwrap())
    };
    let gene = "c\ts\tCDS\t16\t24\t.\t+\t0\tID=a\n";
    let error = genes(gene).err().unwrap().to_string();
    assert!(
        error.contains("a.gff3: line 1") && error.contains("24"),
        "{error}"
    );
    let circle = "c\ts\tregion\t1\t20\t.\t+\t.\tID=c;Is_circular=true\n";
    assert!(genes(&format!("{circle}{gene}")).is_ok());
    let other = circle.replace("\t20\t", "\t21\t");
    let error = genes(&format!("{other}{gene}")).err().unwrap().to_string();
    let said = "a.gff3: c is a circle of 21 bases here, but the sequence has 20";
    assert!(error.contains(said), "{error}");
    // Other features of an annotation are not learned from.
    assert!(genes("c\ts\texon\t16\t24\t.\t+\t0\tID=a\n").is_ok());
}

#[test]
fn nothing_is_known_where_no_label_is() {
    let labels = read(&[("x.bedgraph", "c 5 6 1\n")], &[]).unwrap();
    let span = |start, end| {
        [Span {
            contig: 0,
            start,
            end,
        }]
    };
    assert!(labels.know(&span(0, 20)) && labels.know(&span(5, 6)));
    assert!(!labels.know(&span(6, 20)) && !labels.know(&[]));
}
