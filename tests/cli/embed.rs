//! Embeddings: chunks, strands, bins, types, threads, the summary and limits.

use crate::harness::table::{Table, difference};
use crate::harness::{Case, Outcome, bases, record, sha256};
use crocuta::ops::rounds_on_cpu;

fn text() -> String {
    record("a", &bases(1, 1500), 60)
        + &record("b", "ACGTNNacgtRYK", 60)
        + &record("c", &bases(2, 300), 60)
}

fn run(args: &str) -> Outcome {
    Case::embed(text(), args).run().succeeds(&["out.parquet"])
}

fn table(args: &str) -> Table {
    run(args).table()
}

#[test]
fn the_chunk_changes_no_number() {
    let whole = table("--dtype f32 --chunk 4096").vectors("embedding");
    for chunk in [1, 7, 64] {
        let parts = table(&format!("--dtype f32 --chunk {chunk}"));
        assert!(
            difference(&parts.vectors("embedding"), &whole) < 1e-5,
            "{chunk}"
        );
    }
}

#[test]
fn threads_change_no_byte() {
    let [one, two] = ["-t 1", "-t 2"].map(run);
    assert!(one.file("out.parquet") == two.file("out.parquet"));
    let again = run("-t 2");
    assert!(again.file("out.parquet") == two.file("out.parquet"));
}

#[test]
fn threads_change_no_byte_however_the_table_is_compressed() {
    for method in ["lz4", "none", "zstd:5"] {
        let [one, two, seven] =
            [1, 2, 7].map(|threads| run(&format!("-t {threads} --compression {method}")));
        assert!(
            one.file("out.parquet") == two.file("out.parquet"),
            "{method}"
        );
        assert!(
            one.file("out.parquet") == seven.file("out.parquet"),
            "{method}"
        );
    }
    Case::embed(text(), "--compression gzip")
        .run()
        .fails(2, &["--compression", "zstd"]);
}

#[test]
fn bf16_on_the_cpu_rounds_the_same_on_any_number_of_threads_or_says_what_it_lacks() {
    let args = "--dtype f32 --precision bf16 --device cpu";
    if !rounds_on_cpu() {
        Case::embed(text(), args).run().fails(2, &["avx512_bf16"]);
        return;
    }
    let [one, two] = [1, 2].map(|threads| run(&format!("{args} -t {threads}")));
    assert!(one.file("out.parquet") == two.file("out.parquet"));
    let exact = table("--dtype f32").vectors("embedding");
    let far = difference(&one.table().vectors("embedding"), &exact);
    assert!(far > 1e-6 && far < 5e-2, "{far}");
}

#[test]
fn keys_say_what_a_row_is() {
    let table = table("");
    assert_eq!(table.rows(), 1813);
    assert_eq!(table.words("base")[1500..1513].concat(), "ACGTNNACGTNNN");
    let flags = &table.integers("flags")[1500..1513];
    assert_eq!(flags, [8, 0, 0, 0, 1, 1, 2, 2, 2, 2, 1, 1, 1]);
    assert_eq!(table.integers("end")[0], 1);
    assert_eq!(table.integers("context_left")[1500..1503], [0, 1, 2]);
    let contigs = &table.footer["reference"]["contigs"];
    assert_eq!(contigs[1]["name"], "b");
    assert_eq!(contigs[1]["length"], 13);
    assert_eq!(table.footer["complete"], true);
}

fn complement(sequence: &str) -> String {
    let pair = |c: char| {
        "TGCAtgcaYRM"["ACGTacgtRYK".find(c).unwrap()..]
            .chars()
            .next()
            .unwrap()
    };
    sequence
        .chars()
        .rev()
        .map(|c| if c == 'N' { 'N' } else { pair(c) })
        .collect()
}

#[test]
fn strands_are_the_sequence_and_its_reverse_complement() {
    let sequence = bases(5, 700);
    let embed = |sequence: &str, args: &str| {
        let args = format!("--dtype f32 --chunk 64 {args}");
        Case::embed(record("a", sequence, 60), &args)
            .run()
            .succeeds(&["out.parquet"])
            .table()
    };
    let forward = embed(&sequence, "").vectors("embedding");
    let mut reverse = embed(&complement(&sequence), "").vectors("embedding");
    reverse.reverse();

    let minus = embed(&sequence, "--strand reverse");
    assert!(minus.words("strand").iter().all(|strand| strand == "-"));
    assert_eq!(minus.words("base").concat(), sequence);
    assert_eq!(minus.integers("context_left")[..2], [699, 698]);
    assert!(difference(&minus.vectors("embedding"), &reverse) < 1e-5);

    let both = embed(&sequence, "--strand both");
    let key = |i: i64, strand: &str| ("a".to_string(), i, strand.to_string());
    let keys: Vec<_> = (0..700).flat_map(|i| [key(i, "+"), key(i, "-")]).collect();
    assert_eq!(both.keys(), keys);
    let pairs = |i: usize| [forward[i].clone(), reverse[i].clone()];
    let expected: Vec<_> = (0..700).flat_map(pairs).collect();
    assert!(difference(&both.vectors("embedding"), &expected) < 1e-5);

    let mean = embed(&sequence, "--strand mean");
    assert_eq!(mean.words("strand")[0], ".");
    let middle =
        |(a, b): (&Vec<f32>, &Vec<f32>)| a.iter().zip(b).map(|(x, y)| (x + y) / 2.0).collect();
    let expected: Vec<_> = forward.iter().zip(&reverse).map(middle).collect();
    assert!(difference(&mean.vectors("embedding"), &expected) < 1e-5);
}

#[test]
fn bins_pool_their_bases() {
    let rows = table("--dtype f32").vectors("embedding");
    for (pool, fold) in [
        (
            "mean",
            (|x: &[f32]| x.iter().sum::<f32>() / x.len() as f32) as fn(&[f32]) -> f32,
        ),
        ("max", |x| x.iter().copied().fold(f32::MIN, f32::max)),
        ("last", |x| x[x.len() - 1]),
    ] {
        let binned = table(&format!("--dtype f32 --bin 128 --pool {pool}"));
        assert!(!binned.columns.contains(&"base".to_string()));
        assert_eq!(binned.integers("start")[..3], [0, 128, 256]);
        assert_eq!(binned.integers("end")[11], 1500);
        assert_eq!(binned.rows(), 12 + 1 + 3);
        let mut expected = Vec::new();
        for contig in [&rows[..1500], &rows[1500..1513], &rows[1513..]] {
            for bin in contig.chunks(128) {
                let column = |i: usize| bin.iter().map(|row| row[i]).collect::<Vec<_>>();
                expected.push((0..16).map(|i| fold(&column(i))).collect::<Vec<f32>>());
            }
        }
        assert!(
            difference(&binned.vectors("embedding"), &expected) < 1e-5,
            "{pool}"
        );
    }
}

#[test]
fn half_precision_is_the_same_to_eleven_bits() {
    let [half, single] =
        ["--dtype f16", "--dtype f32"].map(|args| table(args).vectors("embedding"));
    assert!(half != single);
    for (x, y) in half.iter().flatten().zip(single.iter().flatten()) {
        assert!((x - y).abs() <= y.abs() / 2048.0 + 1e-7);
    }
}

#[test]
fn the_summary_counts() {
    let out = Case::embed(text(), "--summary s.json --strand both").run();
    let out = out.succeeds(&["out.parquet", "s.json"]);
    let summary: serde_json::Value = serde_json::from_slice(out.file("s.json")).unwrap();
    for (key, expected) in [
        ("rows", 3626),
        ("sequences", 3),
        ("empty_sequences", 0),
        ("bases_read", 1813),
        ("n", 2),
        ("soft_masked", 4),
        ("encoder_bases", 3626),
        ("clipped_rows", 0),
        ("output_bytes", out.file("out.parquet").len() as u64),
    ] {
        assert_eq!(summary[key], expected, "{key}");
    }
    for key in [
        "encoder_steps",
        "seconds",
        "bases_per_second",
        "peak_memory_bytes",
        "threads",
    ] {
        assert!(summary[key].as_f64().unwrap() > 0.0, "{key}");
    }
    assert_eq!(summary["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(summary["model"], "model");
    assert_eq!(
        summary["model_sha256"],
        out.table().footer["model"]["sha256"]
    );
    assert_eq!(summary["output_sha256"], sha256(out.file("out.parquet")));
}

#[test]
fn a_table_larger_than_allowed_is_refused() {
    Case::embed(text(), "--max-output 10k")
        .run()
        .fails(2, &["--max-output"]);
    run("--max-output 10M");
    // Where the input does not tell its size, the table is stopped as it grows.
    let mut case = Case::new("embed - -m model -o out.parquet --max-output 10k").stdin(text());
    case.run().fails(2, &["--max-output"]);
}

#[test]
fn json_logs_are_json() {
    let out = run("--log-format json");
    for line in out.stderr.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(event["fields"]["message"].is_string(), "{line}");
    }
    let quiet = Case::embed(">a\nACGT\n", "--quiet")
        .run()
        .succeeds(&["out.parquet"]);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn check_says_what_a_run_would_take() {
    let out = Case::new("check embed a.fa -m model --strand both")
        .file("a.fa", text())
        .run();
    let said = String::from_utf8(out.succeeds(&[]).stdout).unwrap();
    for name in [
        "bases through the encoder: ",
        "rows: ",
        "output: ",
        "memory besides the weights: ",
        "speed: ",
        "time: ",
    ] {
        assert!(
            said.lines().any(|line| line.starts_with(name)),
            "{name}\n{said}"
        );
    }
    let out = Case::new("check predict a.fa -m model --max-output 1k")
        .file("a.fa", text())
        .run();
    out.fails(2, &["--max-output"]);
    Case::new("check embed none.fa -m model")
        .run()
        .fails(5, &["none.fa"]);
    let case = |args: &str| {
        let case = Case::new(&format!("check {args}"));
        case.file("a.fa", text()).file("there/x.parquet", "")
    };
    for args in [
        "embed a.fa -m model -o there/x.parquet",
        "predict a.fa -m model -o there/x.parquet",
        "predict a.fa -m model --genes there/x.parquet --force",
        "embed a.fa -m model -o there/y.parquet --summary there/y.parquet",
        "fit a.fa -m model -o there",
    ] {
        case(args).run().fails(2, &["there"]);
    }
    let forced = case("embed a.fa -m model -o there/x.parquet --force");
    { forced }.run().succeeds(&[]);
    case("embed a.fa -m model -o none/x.parquet")
        .run()
        .fails(5, &["no such directory"]);
}
