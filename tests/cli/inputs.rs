//! The same sequences give the same table, however they come.

use crate::harness::bytes::{bgzf, gzip};
use crate::harness::compare::within;
use crate::harness::table::difference;
use crate::harness::{Case, bases, record};

fn contigs() -> [(&'static str, String); 3] {
    [
        ("chr1", bases(1, 2000)),
        ("chr2", "ACGTNNacgtRY".repeat(10)),
        ("chr3", bases(3, 777)),
    ]
}

fn fasta(width: usize) -> String {
    contigs()
        .map(|(name, bases)| record(name, &bases, width))
        .concat()
}

#[test]
fn compression_line_width_and_line_ends_change_no_byte() {
    let text = fasta(60);
    let plain = Case::embed(&text, "").run().succeeds(&["out.parquet"]);
    for bytes in [
        gzip(text.as_bytes()),
        bgzf(text.as_bytes(), 700),
        zstd::encode_all(text.as_bytes(), 3).unwrap(),
        text.replace('\n', "\r\n").into_bytes(),
        fasta(1).into_bytes(),
        fasta(70).into_bytes(),
        fasta(1 << 20).into_bytes(),
        text.trim_end().as_bytes().to_vec(),
    ] {
        let other = Case::embed(bytes, "").run().succeeds(&["out.parquet"]);
        assert!(other.file("out.parquet") == plain.file("out.parquet"));
    }
}

#[test]
fn standard_input_and_output_carry_the_same_table() {
    let text = fasta(60);
    let plain = Case::embed(&text, "")
        .run()
        .succeeds(&["out.parquet"])
        .table();
    for bytes in [text.clone().into_bytes(), gzip(text.as_bytes())] {
        let out = Case::new("embed - -m model")
            .stdin(bytes)
            .run()
            .succeeds(&[]);
        let table = crate::harness::table::Table::read(&out.stdout);
        assert_eq!(table.keys(), plain.keys());
        assert_eq!(table.vectors("embedding"), plain.vectors("embedding"));
    }
}

#[test]
fn regions_equal_those_rows_of_the_whole() {
    let text = fasta(60);
    let whole = Case::embed(&text, "--dtype f32")
        .run()
        .succeeds(&["out.parquet"])
        .table();
    let fai = "chr1\t2000\t6\t60\t61\nchr2\t120\t2046\t60\t61\nchr3\t777\t2174\t60\t61\n";
    let bed = "chr3\t0\t50\nchr1\t100\t700\n";
    // The context reaches the contig's start, so that the state is the same.
    for args in [
        "--region chr3:1-50 --region chr1:101-700 --context 5000",
        "--regions-file r.bed --context 5000",
    ] {
        for indexed in [false, true] {
            let case = Case::embed(&text, &format!("--dtype f32 {args}")).file("r.bed", bed);
            let mut case = if indexed {
                case.file("a.fa.fai", fai)
            } else {
                case
            };
            let part = case.run().succeeds(&["out.parquet"]).table();
            let wanted: Vec<usize> = (100..700).chain(2120..2170).collect();
            let pick =
                |rows: &[Vec<f32>]| wanted.iter().map(|&i| rows[i].clone()).collect::<Vec<_>>();
            let keys: Vec<_> = wanted.iter().map(|&i| whole.keys()[i].clone()).collect();
            assert_eq!(part.keys(), keys);
            assert_eq!(
                part.integers("context_left")[..600],
                whole.integers("context_left")[100..700]
            );
            let expected = pick(&whole.vectors("embedding"));
            assert!(difference(&part.vectors("embedding"), &expected) < 1e-5);
        }
    }
    // A shorter context gives other numbers, and says how much there was.
    let part = Case::embed(&text, "--dtype f32 --region chr1:101-700 --context 10").run();
    assert_eq!(part.table().integers("context_left")[0], 10);
}

#[test]
fn regions_with_a_strand_are_the_same_with_an_index_and_without() {
    // The contexts of all regions reach the contig's end.
    let text = fasta(60);
    let fai = "chr1\t2000\t6\t60\t61\nchr2\t120\t2046\t60\t61\nchr3\t777\t2174\t60\t61\n";
    let args = "predict a.fa -m model -o out.parquet --region chr2:10-20 --region chr2:60-70 \
        --region chr2:110-120 --region chr3:1-5";
    for strand in ["both", "reverse", "mean"] {
        let args = format!("{args} --strand {strand}");
        let run = |case: Case| {
            let mut case = case.args(&args);
            case.run().succeeds(&["out.parquet"]).table()
        };
        let streamed = run(Case::embed(&text, ""));
        let indexed = run(Case::embed(&text, "").file("a.fa.fai", fai));
        let rows = if strand == "both" { 76 } else { 38 };
        assert_eq!((streamed.rows(), indexed.rows()), (rows, rows), "{strand}");
        assert_eq!(streamed.keys(), indexed.keys());
        let (streamed, indexed) = (streamed.numbers("logp_base"), indexed.numbers("logp_base"));
        let known = |x: &[Option<f32>]| x.iter().map(Option::is_some).collect::<Vec<_>>();
        assert_eq!(known(&streamed), known(&indexed));
        let values = |x: Vec<Option<f32>>| x.into_iter().flatten().collect::<Vec<_>>();
        within(strand, &values(streamed), &values(indexed), 1e-5);
    }
}

#[test]
fn a_byte_order_mark_changes_no_row() {
    let mark = "\u{feff}";
    let run = |mark: &str| {
        let case = Case::embed(format!("{mark}{}", fasta(60)), "--regions-file r.bed");
        let mut case = case.file("r.bed", format!("{mark}chr1\t5\t90\n"));
        case.run().succeeds(&["out.parquet"]).table()
    };
    let (marked, plain) = (run(mark), run(""));
    assert_eq!(marked.keys(), plain.keys());
    assert_eq!(marked.vectors("embedding"), plain.vectors("embedding"));
    for (name, text) in [
        ("r.fq", "@r\nACGT\n+\nIIII\n"),
        (
            "r.sam",
            "@HD\tVN:1.6\nr\t4\t*\t0\t0\t*\t*\t0\t0\tACGT\tIIII\n",
        ),
    ] {
        let args = format!("reads {name} -m model -o out.parquet");
        let mut case = Case::new(&args).file(name, format!("{mark}{text}"));
        let table = case.run().succeeds(&["out.parquet"]).table();
        assert_eq!(table.texts("read_name"), [Some("r".to_string())]);
        assert_eq!(table.integers("length"), [4]);
    }
}

#[test]
fn each_of_many_contigs_is_as_alone() {
    let lengths = (0..3000).map(|i| 1 + i * 7 % 23);
    let many: Vec<String> = lengths
        .enumerate()
        .map(|(i, n)| bases(i as u64 + 9, n))
        .collect();
    let text: String = many
        .iter()
        .enumerate()
        .map(|(i, s)| record(&format!("c{i}"), s, 60))
        .collect();
    let all = Case::embed(text, "--dtype f32")
        .run()
        .succeeds(&["out.parquet"])
        .table();
    assert_eq!(all.rows(), many.iter().map(String::len).sum::<usize>());
    let vectors = all.vectors("embedding");
    let mut at = 0;
    for (i, sequence) in many.iter().enumerate() {
        let rows = at..at + sequence.len();
        at = rows.end;
        if i % 200 != 7 {
            continue;
        }
        let alone = Case::embed(record(&format!("c{i}"), sequence, 60), "--dtype f32").run();
        let alone = alone.succeeds(&["out.parquet"]).table();
        assert_eq!(alone.keys(), all.keys()[rows.clone()]);
        assert!(difference(&vectors[rows], &alone.vectors("embedding")) < 1e-5);
    }
}

#[cfg(not(feature = "htslib"))]
#[test]
fn a_url_is_refused_by_a_build_that_reads_none_and_its_key_is_not_shown() {
    let url = "https://host/x?key=secret";
    for args in [
        format!("embed {url}"),
        format!("predict {url}"),
        format!("reads {url}"),
        format!("score v.vcf -r {url}"),
        format!("score {url} -r a.fa"),
    ] {
        let case = Case::new(&format!("{args} -m model -o out.parquet"));
        let vcf = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n";
        let mut case = case.file("a.fa", fasta(60)).file("v.vcf", vcf);
        let outcome = case.run();
        assert!(!outcome.stderr.contains("secret"), "{}", outcome.stderr);
        outcome.fails(2, &["https://host/x: ", "--features htslib"]);
    }
}
