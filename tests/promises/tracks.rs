//! Bins of predictions, and tracks for genome browsers.

use crate::given;
use crate::harness::table::Table;
use crate::harness::{Case, GENE_CLASSES, bases, record};
use std::process::Command;

/// Two contigs; the second is longer than a zoom window of the finest levels.
fn text() -> String {
    record("a", &bases(1, 90), 60) + &record("b", &(bases(2, 3000) + "NN" + &bases(3, 20)), 60)
}

fn case(args: &str) -> Case {
    given::case(&format!("predict a.fa {args}"))
        .file("a.fa", text())
        .file("a.fa.fai", "a\t90\t3\t60\t61\nb\t3022\t98\t60\t61\n")
}

fn table(args: &str) -> Table {
    case(&format!("{args} -o out.parquet"))
        .run()
        .succeeds(&["out.parquet"])
        .table()
}

fn near(found: Option<f32>, expected: Option<f64>) -> bool {
    match (found, expected) {
        (Some(found), Some(expected)) => (f64::from(found) - expected).abs() < 1e-5,
        (None, None) => true,
        _ => false,
    }
}

/// The means of a column over bins of 64 bases.
fn means(of: &Table, column: &str) -> Vec<Option<f64>> {
    let (chroms, starts) = (of.words("chrom"), of.integers("start"));
    let values = of.numbers(column);
    let mut bins: Vec<((String, i64), Vec<f64>)> = Vec::new();
    for i in 0..of.rows() {
        let bin = (chroms[i].clone(), starts[i] / 64);
        if bins.last().is_none_or(|(last, _)| *last != bin) {
            bins.push((bin, Vec::new()));
        }
        let (_, known) = bins.last_mut().unwrap();
        known.extend(values[i].map(f64::from));
    }
    let mean = |of: Vec<f64>| (!of.is_empty()).then(|| of.iter().sum::<f64>() / of.len() as f64);
    bins.into_iter().map(|(_, of)| mean(of)).collect()
}

#[test]
fn bins_of_predictions_are_means_of_their_bases() {
    for strand in ["forward", "reverse"] {
        let bases = table(&format!("-m model --strand {strand}"));
        let bins = table(&format!("-m model --strand {strand} --bin 64"));
        assert!(!bins.columns.contains(&"base".to_string()));
        for (bin, base) in [("mean_logp", "logp_base"), ("mean_entropy", "entropy")] {
            let (found, expected) = (bins.numbers(bin), means(&bases, base));
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.into_iter().zip(expected) {
                assert!(
                    near(found, expected),
                    "{strand} {bin}: {found:?}, {expected:?}"
                );
            }
        }
        let logp = bins.numbers("mean_logp").into_iter();
        for (logp, perplexity) in logp.zip(bins.numbers("perplexity")) {
            assert!(near(perplexity, logp.map(|logp| f64::from(-logp).exp())));
        }
    }
}

#[test]
fn bins_of_a_head_are_means_of_what_it_says() {
    let (bases, bins) = (table("-m genes"), table("-m genes --bin 64"));
    let mut classes = bins
        .columns
        .iter()
        .filter(|name| name.starts_with("prob_"))
        .peekable();
    assert!(classes.peek().is_some());
    for class in classes {
        for (found, expected) in bins.numbers(class).into_iter().zip(means(&bases, class)) {
            assert!(near(found, expected), "{class}: {found:?}, {expected:?}");
        }
    }
}

#[test]
fn bins_do_not_depend_on_the_chunk() {
    let whole = table("-m model --strand mean --bin 64");
    let cut = table("-m model --strand mean --bin 64 --chunk 70");
    let pairs = |column: &str| whole.numbers(column).into_iter().zip(cut.numbers(column));
    for (a, b) in pairs("mean_logp").chain(pairs("mean_entropy")) {
        assert!(near(a, b.map(f64::from)), "{a:?} {b:?}");
    }
}

/// A track's name, the table's column that it holds, and on which strand if on one.
type Track<'a> = (&'a str, &'a str, Option<&'a str>);

#[test]
fn other_programs_read_tracks_that_are_the_table_s_columns() {
    let Some(python) = std::env::var_os("CROCUTA_PYTHON") else {
        crate::harness::skipped(
            "set CROCUTA_PYTHON to a Python with pyarrow, pyBigWig, pybigtools",
        );
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/read_tracks.py");
    let both = [
        ("w.p_A.plus", "p_A", Some("+")),
        ("w.p_A.minus", "p_A", Some("-")),
    ];
    let class = GENE_CLASSES[1];
    let (name, column) = (format!("w.{class}"), format!("prob_{class}"));
    let of_genes = [(name.as_str(), column.as_str(), None)];
    let bins = [
        ("w.logp", "mean_logp", None),
        ("w.entropy", "mean_entropy", None),
    ];
    let plain = [("w.logp", "logp_base", None), ("w.p_T", "p_T", None)];
    let genes = format!("-m genes --tracks {class}");
    let lines: [(&str, &[Track]); 5] = [
        ("-m model --tracks p_T,logp", &plain),
        ("-m model --strand both --tracks p_A", &both),
        ("-m model --bin 50 --tracks logp,entropy", &bins),
        ("-m model --region b:100-1900 --tracks logp,p_T", &plain),
        (&genes, &of_genes),
    ];
    for (line, tracks) in lines {
        let case_line = format!("{line} -o out.parquet --bigwig w --bedgraph w");
        let mut case = case(&case_line);
        let tracks = tracks.iter();
        let files = tracks
            .clone()
            .flat_map(|(name, ..)| [format!("{name}.bw"), format!("{name}.bedGraph")]);
        let files: Vec<String> = files.chain(["out.parquet".to_string()]).collect();
        case.run()
            .succeeds(&files.iter().map(String::as_str).collect::<Vec<_>>());
        for (name, column, strand) in tracks {
            let mut python = Command::new(&python);
            python.arg(script).arg(case.path("out.parquet")).arg(column);
            python.arg(case.path(&format!("{name}.bw")));
            python
                .arg(case.path(&format!("{name}.bedGraph")))
                .args(*strand);
            let out = python.output().unwrap();
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{line} {name}\n{said}");
        }
    }
}

#[test]
fn all_tracks_are_written_unless_some_are_chosen() {
    let names = ["logp", "entropy", "p_A", "p_C", "p_G", "p_T"];
    let files = names.map(|name| format!("w.{name}.bw"));
    let files = files.each_ref().map(String::as_str);
    case("-m model --bigwig w").run().succeeds(&files);
}

#[test]
fn tracks_that_cannot_be_are_refused() {
    for (line, words) in [
        ("--tracks logp -o x.parquet", "--tracks is for --bigwig"),
        ("--tracks logits --bigwig w", "there are logp, entropy, p_A"),
        ("--bigwig w --intervals r.bed", "--intervals"),
        (
            "--bin 10 --logits -o x.parquet",
            "--logits does not go with --bin",
        ),
        ("--bin 10 --intervals r.bed -o x.parquet", "--bin"),
        ("--bed b.bed", "--bed is for heads"),
    ] {
        let mut case = case(&format!("-m model {line}")).file("r.bed", "a\t1\t5\n");
        case.run().fails(2, &[words]);
    }
    let mut genes = case("-m genes --bin 10 --genes g.gff3");
    genes.run().fails(2, &["do not go with --bin"]);
}
