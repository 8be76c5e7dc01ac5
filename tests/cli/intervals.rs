//! `--intervals`: a row for each gene, peak or window, pooled over its bases.

use crate::harness::table::{Table, difference};
use crate::harness::{Case, bases, fai, record};
use std::ops::Range;

const LENGTHS: [usize; 2] = [6_000, 900];

fn text() -> String {
    record("c", &bases(1, LENGTHS[0]), 60) + &record("d", &bases(2, LENGTHS[1]), 60)
}

/// Some random intervals with their strands, which overlap and contain each other.
fn intervals() -> Vec<(&'static str, Range<i64>, &'static str)> {
    let mut state = 7u64;
    let mut next = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33) as usize % below
    };
    (0..20)
        .map(|i| {
            let (name, length) = (["c", "d"][i % 3 / 2], LENGTHS[i % 3 / 2]);
            let start = next(length - 1);
            let len = 1 + next([3000, 40][i % 2]).min(length - start - 1);
            let strand = ["+", "-", "."][next(3)];
            (name, start as i64..(start + len) as i64, strand)
        })
        .collect()
}

fn bed() -> String {
    let lines = intervals().into_iter().enumerate();
    lines
        .map(|(i, (name, range, strand))| {
            format!(
                "{name}\t{}\t{}\tg{i}\t{i}\t{strand}\n",
                range.start, range.end
            )
        })
        .collect()
}

/// With so much context each interval knows all of its contig.
fn run(line: &str, files: &[(&str, String)]) -> Table {
    let line = format!("{line} -m model -o out.parquet --context 6000");
    let case = Case::new(&line)
        .file("a.fa", text())
        .file("a.fa.fai", fai(&text()));
    let mut case = files
        .iter()
        .fold(case, |case, (name, text)| case.file(name, text));
    case.run().succeeds(&["out.parquet"]).table()
}

/// The rows of a table of bases that blocks hold, in reading order, of one strand.
fn held(table: &Table, chrom: &str, blocks: &[Range<i64>], strand: &str) -> Vec<usize> {
    let keys = table.keys().into_iter().enumerate();
    let here = |(row, (name, start, read)): (usize, (String, i64, String))| {
        let within = name == chrom && blocks.iter().any(|block| block.contains(&start));
        (within && read == strand).then_some(row)
    };
    let mut rows: Vec<_> = keys.filter_map(here).collect();
    if strand == "-" {
        rows.reverse();
    }
    rows
}

fn pooled(rows: &[&Vec<f32>], pool: &str) -> Vec<f32> {
    let column = |i: usize| rows.iter().map(move |row| f64::from(row[i]));
    let value = |i| match pool {
        "mean" => column(i).sum::<f64>() / rows.len() as f64,
        "max" => column(i).fold(f64::NEG_INFINITY, f64::max),
        _ => f64::from(rows[rows.len() - 1][i]),
    };
    (0..rows[0].len()).map(|i| value(i) as f32).collect()
}

/// Whether the rows of a table of intervals are those of the table of bases, pooled.
fn equal_pooled(found: &Table, whole: &Table, blocks: &[Vec<Range<i64>>], pool: &str) {
    let vectors = whole.vectors("embedding");
    let (chroms, reads) = (found.words("chrom"), found.words("read_strand"));
    let expected: Vec<Vec<f32>> = found
        .integers("record_index")
        .into_iter()
        .enumerate()
        .map(|(row, record)| {
            let blocks = &blocks[record as usize];
            let rows = held(whole, &chroms[row], blocks, &reads[row]);
            assert_eq!(found.integers("bases")[row], rows.len() as i64);
            let rows: Vec<_> = rows.into_iter().map(|row| &vectors[row]).collect();
            pooled(&rows, pool)
        })
        .collect();
    let apart = difference(&found.vectors("embedding"), &expected);
    assert!(apart < 1e-6, "{pool}: {apart:e}");
}

fn blocks() -> Vec<Vec<Range<i64>>> {
    let all = intervals().into_iter();
    all.map(|(_, range, _)| vec![range]).collect()
}

#[test]
fn intervals_equal_the_pooled_rows_of_their_bases() {
    for (strand, pool, chunk) in [
        ("forward", "mean", 8192),
        ("forward", "max", 64),
        ("reverse", "last", 700),
        ("both", "last", 700),
        ("mean", "mean", 8192),
    ] {
        let args = format!("--dtype f32 --strand {strand} --chunk {chunk}");
        let whole = run(&format!("embed a.fa {args}"), &[]);
        let line = format!("embed a.fa {args} --intervals r.bed --pool {pool}");
        let found = run(&line, &[("r.bed", bed())]);
        assert_eq!(found.rows(), if strand == "both" { 40 } else { 20 });
        equal_pooled(&found, &whole, &blocks(), pool);
        let places: Vec<_> = found
            .words("chrom")
            .into_iter()
            .zip(found.integers("start"))
            .zip(found.integers("end"))
            .collect();
        assert!(places.is_sorted());
        let records = found.integers("record_index");
        for (row, record) in records.into_iter().enumerate() {
            let (name, range, strand) = &intervals()[record as usize];
            assert_eq!(found.words("chrom")[row], *name);
            assert_eq!(found.integers("start")[row], range.start);
            assert_eq!(found.integers("end")[row], range.end);
            assert_eq!(found.words("strand")[row], *strand);
            assert_eq!(found.texts("name")[row], Some(format!("g{record}")));
            assert_eq!(found.numbers("score")[row], Some(record as f32));
        }
    }
}

#[test]
fn every_interval_can_be_read_along_its_own_strand() {
    let both = run("embed a.fa --dtype f32 --strand both", &[]);
    let line = "embed a.fa --dtype f32 --strand own --intervals r.bed --chunk 500";
    let found = run(line, &[("r.bed", bed())]);
    assert_eq!(found.rows(), 20);
    let pairs = found.words("strand").into_iter();
    for (own, read) in pairs.zip(found.words("read_strand")) {
        assert_eq!(read, if own == "-" { "-" } else { "+" });
    }
    equal_pooled(&found, &both, &blocks(), "mean");
}

#[test]
fn files_without_an_index_give_the_same_rows() {
    let line = "embed a.fa -m model -o out.parquet --context 6000 --dtype f32 --intervals r.bed";
    let with = Case::new(line)
        .file("a.fa", text())
        .file("a.fa.fai", fai(&text()))
        .file("r.bed", bed())
        .run()
        .succeeds(&["out.parquet"])
        .table();
    let without = Case::new(line)
        .file("a.fa", text())
        .file("r.bed", bed())
        .run()
        .succeeds(&["out.parquet"])
        .table();
    assert_eq!(
        with.integers("record_index"),
        without.integers("record_index")
    );
    let apart = difference(&with.vectors("embedding"), &without.vectors("embedding"));
    assert!(apart < 1e-5, "{apart:e}");
}

#[test]
fn transcripts_are_pooled_over_their_exons() {
    let exons = [
        vec![100..200, 1000..1001, 3000..3100],
        vec![150..160, 170..400],
    ];
    let lines = exons.iter().map(|exons| {
        let (start, end) = (exons[0].start, exons[exons.len() - 1].end);
        let join = |of: &dyn Fn(&Range<i64>) -> i64| -> String {
            exons.iter().map(|exon| format!("{},", of(exon))).collect()
        };
        let sizes = join(&|exon| exon.end - exon.start);
        let starts = join(&|exon| exon.start - start);
        let n = exons.len();
        format!("c\t{start}\t{end}\tt\t0\t-\t{start}\t{end}\t0\t{n}\t{sizes}\t{starts}\n")
    });
    let bed: String = lines.collect();
    for (strand, pool) in [("forward", "mean"), ("both", "last")] {
        let args = format!("--dtype f32 --strand {strand}");
        let whole = run(&format!("embed a.fa {args}"), &[]);
        let line = format!("embed a.fa {args} --intervals r.bed --pool {pool} --chunk 130");
        let found = run(&line, &[("r.bed", bed.clone())]);
        equal_pooled(&found, &whole, &exons, pool);
    }
}

#[test]
fn genes_of_an_annotation_and_windows_around_them_are_named_and_placed() {
    let gff = "##gff-version 3\nc\ts\tregion\t1\t6000\t.\t+\t.\tID=c\n\
        c\ts\tgene\t1001\t1500\t.\t+\t.\tID=gene-1;Name=one\n\
        c\ts\tCDS\t1001\t1500\t.\t+\t0\tID=cds-1;Parent=gene-1\n\
        c\ts\tgene\t1401\t2000\t7\t-\t.\tlocus_tag=two\n\
        d\ts\tgene\t801\t900\t.\t-\t.\tName=three\n";
    for (args, expected) in [
        ("", [(1000, 1500), (1400, 2000), (800, 900)]),
        (
            "--upstream 50 --downstream 10",
            [(950, 1510), (1390, 2050), (790, 900)],
        ),
        (
            "--around start 100",
            [(900, 1100), (1900, 2100), (800, 900)],
        ),
        ("--around end 100", [(1400, 1600), (1300, 1500), (700, 900)]),
        (
            "--around center 10",
            [(1240, 1260), (1690, 1710), (840, 860)],
        ),
        (
            "--around start 0 --upstream 30 --downstream 5",
            [(970, 1005), (1995, 2030), (895, 900)],
        ),
    ] {
        let line = format!("embed a.fa --intervals g.gff {args}");
        let found = run(&line, &[("g.gff", gff.to_string())]);
        let mut places: Vec<_> = found
            .integers("record_index")
            .into_iter()
            .zip(
                found
                    .integers("start")
                    .into_iter()
                    .zip(found.integers("end")),
            )
            .collect();
        places.sort_unstable();
        let places: Vec<_> = places.into_iter().map(|(_, place)| place).collect();
        assert_eq!(places, expected, "{args}");
        let named = found
            .texts("name")
            .into_iter()
            .zip(found.integers("record_index"));
        for (name, record) in named {
            assert_eq!(name.unwrap(), ["gene-1", "two", "three"][record as usize]);
        }
        assert_eq!(found.footer["table"], "interval_embeddings");
        assert_eq!(found.footer["params"]["intervals"], "g.gff");
        assert_eq!(found.footer["selection"]["count"], 3);
    }
    let line = "embed a.fa --intervals g.gff --feature CDS";
    let found = run(line, &[("g.gff", gff.to_string())]);
    assert_eq!(found.texts("name"), [Some("cds-1".to_string())]);
}

#[test]
fn predictions_of_an_interval_are_the_means_of_its_bases() {
    for args in ["", "--strand reverse --chunk 300"] {
        let whole = run(&format!("predict a.fa {args}"), &[]);
        let line = format!("predict a.fa --intervals r.bed {args}");
        let found = run(&line, &[("r.bed", bed())]);
        let strand = if args.is_empty() { "+" } else { "-" };
        let records = found.integers("record_index");
        for (row, record) in records.into_iter().enumerate() {
            let (name, range, _) = &intervals()[record as usize];
            let rows = held(&whole, name, std::slice::from_ref(range), strand);
            let mean = |column: &str| {
                let all = whole.numbers(column);
                let known: Vec<f64> = rows
                    .iter()
                    .filter_map(|&row| all[row].map(f64::from))
                    .collect();
                (known.iter().sum::<f64>() / known.len() as f64) as f32
            };
            let value = |column: &str| found.numbers(column)[row].unwrap();
            assert!(
                (value("mean_logp") - mean("logp_base")).abs() < 1e-6,
                "{row}"
            );
            assert!(
                (value("mean_entropy") - mean("entropy")).abs() < 1e-6,
                "{row}"
            );
            let perplexity = (-value("mean_logp")).exp();
            assert!((value("perplexity") - perplexity).abs() < 1e-6, "{row}");
        }
    }
}

#[test]
fn several_layers_of_an_interval_equal_single_runs() {
    let args = "embed a.fa --dtype f32 --intervals r.bed --strand own";
    let files = [("r.bed", bed())];
    let all = run(&format!("{args} --layer 1 --layer ln_f"), &files);
    for (layer, column) in [("1", "embedding_1"), ("ln_f", "embedding_ln_f")] {
        let single = run(&format!("{args} --layer {layer}"), &files);
        assert!(
            single.vectors("embedding") == all.vectors(column),
            "{layer}"
        );
    }
}

#[test]
fn intervals_without_a_base_have_no_row_and_are_failures() {
    let line = "embed a.fa -m model -o out.parquet --intervals r.bed --summary s.json";
    let given = |args: &str| {
        let case = Case::new(&format!("{line} {args}")).file("a.fa", text());
        case.file("r.bed", "c\t5\t5\nc\t5\t9\n").run()
    };
    let said = ["1 intervals have no base, and no row"];
    let written = ["out.parquet", "s.json"];
    assert_eq!(given("").ends(0, &said, &written).table().rows(), 1);
    given("--strict").ends(6, &said, &written);
    given("--feature gene").fails(2, &["--feature is for GFF3 and GTF"]);
}

#[test]
fn what_does_not_go_with_intervals_is_refused() {
    for (args, said) in [
        ("--bin 10", "--bin"),
        ("--region c:1-10", "--region"),
        ("--around middle 5", "start, end or center"),
        ("--around start 0", "--upstream"),
        ("--feature exon --keep-overlaps", "--keep-overlaps"),
    ] {
        let line = format!("embed a.fa -m model -o out.parquet --intervals r.bed {args}");
        let mut case = Case::new(&line).file("a.fa", text()).file("r.bed", bed());
        case.run().fails(2, &[said]);
    }
    for line in [
        "embed a.fa --strand own",
        "predict a.fa --intervals r.bed --logits",
    ] {
        let line = format!("{line} -m model -o out.parquet");
        let mut case = Case::new(&line).file("a.fa", text()).file("r.bed", bed());
        case.run().fails(2, &["--intervals"]);
    }
    let line = "embed a.fa -m model -o out.parquet --intervals r.bed";
    for (bed, code, said) in [
        (
            "e\t1\t5\n",
            3,
            "r.bed: line 1: region \"e:2-5\": no such contig",
        ),
        (
            "c\t7000\t7001\n",
            3,
            "r.bed: line 1: region \"c:7001-7001\"",
        ),
        ("", 3, "no intervals"),
        ("c\t9\t5\n", 3, "line 1"),
    ] {
        let mut case = Case::new(line).file("a.fa", text()).file("r.bed", bed);
        let outcome = case.run();
        outcome.fails(code, &[said]);
    }
}

#[test]
fn a_feature_over_the_origin_of_a_circular_contig_goes_on_at_its_start() {
    let circle = "c\ts\tregion\t1\t6000\t.\t+\t.\tID=c;Is_circular=true\n";
    let gene = |start: i64, end: i64| format!("c\ts\tgene\t{start}\t{end}\t.\t-\t.\tID=g\n");
    let pooled = |gff: String| {
        run(
            "embed a.fa --dtype f32 --intervals g.gff3",
            &[("g.gff3", gff)],
        )
    };
    let whole = run("embed a.fa --dtype f32", &[]);
    let found = pooled(circle.to_string() + &gene(5_951, 6_030));
    assert_eq!((found.rows(), found.integers("bases")[0]), (1, 80));
    equal_pooled(&found, &whole, &[vec![0..30, 5_950..6_000]], "mean");
    // Of a contig that is no circle only what there is of it.
    let clipped = pooled(gene(5_951, 6_030));
    assert_eq!(clipped.integers("bases")[0], 50);
}

#[test]
fn an_annotation_of_a_circle_of_another_length_is_refused() {
    let gff = "c\ts\tgene\t5951\t5960\t.\t-\t.\tID=g\n\
        c\ts\tregion\t1\t6001\t.\t+\t.\tID=c;Is_circular=true\n";
    let said = "g.gff3: line 1: c is a circle of 6001 bases here, but the sequence has 6000";
    let index = fai(&text());
    for (line, indexed) in [
        (
            "embed a.fa -m model --intervals g.gff3 -o out.parquet",
            false,
        ),
        (
            "embed a.fa -m model --intervals g.gff3 -o out.parquet",
            true,
        ),
        (
            "predict a.fa -m model --intervals g.gff3 -o out.parquet",
            true,
        ),
    ] {
        let mut case = Case::new(line).file("a.fa", text()).file("g.gff3", gff);
        if indexed {
            case = case.file("a.fa.fai", &index);
        }
        case.run().fails(3, &[said, "of this very sequence"]);
    }
}

#[test]
#[allow(clippy::single_range_in_vec_init, reason = "blocks")]
fn windows_around_the_ends_of_a_feature_go_over_the_origin_too() {
    let gff = "c\ts\tregion\t1\t6000\t.\t+\t.\tID=c;Is_circular=true\n\
        c\ts\tgene\t5951\t6030\t.\t+\t.\tID=over\n\
        c\ts\tgene\t1\t80\t.\t-\t.\tID=first\n\
        c\ts\tgene\t5991\t6000\t.\t.\t.\tID=last\n";
    let whole = run("embed a.fa --dtype f32", &[]);
    for (shape, blocks) in [
        (
            "--around end 5",
            [
                vec![25..35],
                vec![0..5, 5_995..6_000],
                vec![0..5, 5_995..6_000],
            ],
        ),
        (
            "--around start 15",
            [vec![5_935..5_965], vec![65..95], vec![0..5, 5_975..6_000]],
        ),
        (
            "--around center 20",
            [
                vec![0..10, 5_970..6_000],
                vec![20..60],
                vec![0..15, 5_975..6_000],
            ],
        ),
        (
            "--downstream 7",
            [
                vec![0..37, 5_950..6_000],
                vec![0..80, 5_993..6_000],
                vec![0..7, 5_990..6_000],
            ],
        ),
    ] {
        let line = format!("embed a.fa --dtype f32 --intervals g.gff3 {shape}");
        let found = run(&line, &[("g.gff3", gff.to_string())]);
        assert_eq!(found.rows(), 3, "{shape}");
        equal_pooled(&found, &whole, &blocks, "mean");
    }
}

#[test]
fn the_last_base_of_a_feature_over_the_origin_is_its_own_and_not_the_contig_s() {
    let gff = "c\ts\tregion\t1\t6000\t.\t+\t.\tID=c;Is_circular=true\n\
        c\ts\tgene\t5951\t6030\t.\t+\t.\tID=f\n\
        c\ts\tgene\t5951\t6030\t.\t-\t.\tID=r\n";
    let whole = run("embed a.fa --dtype f32 --strand both", &[]);
    let rows = whole.keys();
    for chunk in [700, 8192] {
        let line = format!(
            "embed a.fa --dtype f32 --intervals g.gff3 --strand own --pool last --chunk {chunk}"
        );
        let found = run(&line, &[("g.gff3", gff.to_string())]);
        assert_eq!(found.words("read_strand"), ["+", "-"]);
        let last = [(29, "+"), (5_950, "-")].map(|(base, strand)| {
            let key = ("c".to_string(), base, strand.to_string());
            let row = rows.iter().position(|row| *row == key).unwrap();
            whole.vectors("embedding")[row].clone()
        });
        let apart = difference(&found.vectors("embedding"), &last);
        assert!(apart < 1e-6, "{apart:e}");
    }
}

#[test]
fn an_interval_beyond_its_contig_is_an_error_of_its_own_file() {
    for index in [true, false] {
        let case = Case::new("embed a.fa -m model -o out.parquet --intervals r.bed")
            .file("a.fa", text())
            .file("r.bed", "d\t10\t20\nd\t900\t950\n");
        let case = if index {
            case.file("a.fa.fai", fai(&text()))
        } else {
            case
        };
        let outcome = { case }.run();
        let outcome = outcome.fails(3, &["r.bed: line 2: ", "begins at 901 of a contig of 900"]);
        assert!(!outcome.stderr.contains("start"), "{}", outcome.stderr);
    }
}

#[test]
fn a_file_without_intervals_or_regions_is_an_error_or_an_empty_table() {
    let sam = "@SQ\tSN:c\tLN:9\nr\t0\tc\t1\t9\t4M\t*\t0\t0\tACGT\t*\n";
    let case = |line: &str| {
        Case::new(&format!("{line} -m model -o out.parquet"))
            .file("a.fa", text())
            .file("i.fa", text())
            .file("i.fa.fai", fai(&text()))
            .file("a.sam", sam)
            .file("none.bed", "# peaks\n")
            .file("cds.gff3", "c\tx\tCDS\t1\t9\t.\t+\t0\tID=a\n")
    };
    for (line, what) in [
        ("embed a.fa --intervals none.bed", "no intervals"),
        ("predict i.fa --intervals none.bed", "no intervals"),
        (
            "embed i.fa --intervals cds.gff3",
            "no features of type gene",
        ),
        ("predict a.fa -R none.bed", "no regions"),
        ("embed i.fa -R none.bed --bin 100", "no regions"),
        ("predict i.fa -R none.bed --shard 1/2", "no regions"),
        ("reads a.sam -R none.bed", "no regions"),
    ] {
        case(line).run().fails(3, &[what]);
        let mut allowed = case(&format!("{line} --allow-empty"));
        let table = allowed.run().succeeds(&["out.parquet"]).table();
        assert_eq!(table.rows(), 0, "{line}");
        assert_eq!(table.footer["selection"]["count"], 0, "{line}");
    }
    let mut piped = case("predict - -R none.bed --allow-empty").stdin(text());
    assert_eq!(piped.run().succeeds(&["out.parquet"]).table().rows(), 0);
}

#[test]
fn an_interval_without_a_base_keeps_its_place() {
    let found = run(
        "embed a.fa --intervals r.bed",
        &[("r.bed", "c\t5\t5\nc\t5\t9\n".to_string())],
    );
    assert_eq!(found.integers("record_index"), [1]);
}
