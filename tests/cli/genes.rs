//! Heads of bases: they learn, and genes come out of them.

use crate::harness::{Case, GENE_CLASSES, Outcome, bases, compare, record};

/// Genes of so many codons GCT and more, between bases A and T, on both strands, and their places.
fn genome(codons: usize) -> (String, String) {
    let (mut text, mut lines) = (String::new(), String::from("##gff-version 3\n"));
    for i in 0..40u64 {
        let between = bases(100 + i, 120 + i as usize % 7);
        let between = between.replace('G', "A").replace('C', "T");
        text.push_str(&between);
        let gene = format!("ATG{}TAA", "GCT".repeat(codons + i as usize % 11));
        let (gene, strand) = match i % 2 {
            0 => (gene, '+'),
            _ => (reverse_complement(&gene), '-'),
        };
        let (start, end) = (text.len() + 1, text.len() + gene.len());
        text.push_str(&gene);
        lines.push_str(&format!(
            "c\tx\tCDS\t{start}\t{end}\t.\t{strand}\t0\tID=g{i}\n"
        ));
    }
    (record("c", &text, 60), lines)
}

fn reverse_complement(text: &str) -> String {
    let other = |c| match c {
        'A' => 'T',
        'C' => 'G',
        'G' => 'C',
        _ => 'A',
    };
    text.chars().rev().map(other).collect()
}

const MADE: [&str; 6] = [
    "out",
    "out/README.md",
    "out/config.json",
    "out/loss.svg",
    "out/metrics.json",
    "out/model.safetensors",
];

const FIT: &str = "fit a.fa --labels a.gff3 -m model -o out --head-only \
                   --length 500 --batch 4 --learning-rate 3e-2 --validate c:8001-9500";

/// A head trained on genes of so many codons.
fn trained(objective: &str, codons: usize, args: &str) -> Case {
    let (fasta, annotation) = genome(codons);
    let mut case = Case::new(&format!("{FIT} --objective {objective} {args}"))
        .file("a.fa", fasta)
        .file("a.gff3", annotation)
        .seconds(300);
    let outcome = case.run().succeeds(&MADE);
    let metrics: serde_json::Value =
        serde_json::from_slice(outcome.file("out/metrics.json")).unwrap();
    assert_eq!(metrics["held_out"], serde_json::json!(["c:8001-9500"]));
    case.file("metrics.json", outcome.file("out/metrics.json"))
}

fn metrics(case: &Case) -> serde_json::Value {
    let bytes = std::fs::read(case.path("metrics.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["evaluation"].clone()
}

#[test]
fn heads_of_every_kind_learn_and_say_the_same_at_any_chunk() {
    for args in [
        "",
        "--both-strands --class-weights balanced",
        "--head-shape mlp --head-width 7",
        "--head-shape mlp --both-strands",
        "--head-shape local-attention --head-window 5",
        "--both-strands --head-shape local-attention",
    ] {
        let mut case = trained("tracks", 40, &format!("{args} --steps 60"));
        let auroc = metrics(&case)["auroc_CDS"].as_f64().unwrap();
        assert!(auroc > 0.9, "{args}: {auroc}");
        let mut tables = Vec::new();
        for run in ["", "--chunk 37", "--chunk 4000"] {
            case = case.args(&format!("predict a.fa -m out -o out.parquet --force {run}"));
            tables.push(case.run().succeeds(&["out.parquet"]).table());
        }
        let whole = tables.remove(0);
        assert_eq!(whole.columns.last().unwrap(), "prob_CDS");
        assert_eq!(whole.footer["columns"]["prob_CDS"]["layer"], "tracks");
        for table in &tables {
            assert_eq!(table.integers("start"), whole.integers("start"));
            let [x, y] = [table, &whole].map(|table| {
                let numbers = table.numbers("prob_CDS").into_iter();
                numbers.map(Option::unwrap).collect::<Vec<f32>>()
            });
            assert!(compare::apart(&x, &y) < 1e-4, "{args}");
        }
    }
}

/// Lines of features.
fn features(outcome: &Outcome, name: &str) -> Vec<String> {
    let text = String::from_utf8(outcome.file(name).to_vec()).unwrap();
    assert!(
        text.starts_with("##gff-version 3\n#!processor crocuta ")
            && text.contains("\n##sequence-region c 1 "),
        "{text}"
    );
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::to_string).collect()
}

#[test]
fn genes_are_learned_and_found_again() {
    // Long ones: this head is unsure of each base.
    let case = trained("genes", 120, "--both-strands --steps 200");
    let args = "predict a.fa -m out --genes g.gff3 --bed g.bed --threshold 0.4 --bigwig w -t 2";
    let mut case = case.args(args);
    let wigs = GENE_CLASSES.map(|class| format!("w.{class}.bw"));
    let mut files = vec!["g.gff3", "g.bed"];
    files.extend(wigs.iter().map(String::as_str));
    let outcome = case.run().succeeds(&files);
    assert!(outcome.stdout.is_empty());
    let place = |line: &String| {
        let columns: Vec<&str> = line.split('\t').collect();
        [columns[3], columns[4], columns[6]].join(" ")
    };
    let known: Vec<String> = genome(120)
        .1
        .lines()
        .skip(1)
        .map(|line| place(&line.to_string()))
        .collect();
    let found: Vec<String> = features(&outcome, "g.gff3").iter().map(place).collect();
    let right = found.iter().filter(|gene| known.contains(gene)).count();
    assert!(
        right >= 30 && found.len() - right <= 5,
        "{right} of {}: {found:?}",
        found.len()
    );
    let bed = String::from_utf8(outcome.file("g.bed").to_vec()).unwrap();
    assert!(bed.lines().any(|line| line.contains("\tplus_2\t")), "{bed}");
    // Labels may be what an earlier model said.
    let args = "fit a.fa --objective tracks --labels w.noncoding.bw -m model -o again --head-only \
                --steps 5 --length 500 --validate c:8001-9500";
    let again = MADE.map(|name| name.replace("out", "again"));
    let again: Vec<&str> = again.iter().map(String::as_str).collect();
    let outcome = case.args(args).run().succeeds(&again);
    let found: serde_json::Value =
        serde_json::from_slice(outcome.file("again/metrics.json")).unwrap();
    assert!(found["evaluation"]["spearman_w"].is_number(), "{found}");
}

#[test]
fn only_contigs_that_no_file_annotates_are_warned_of() {
    let (fasta, annotation) = genome(40);
    let other = |text: &str| text.replace(">c", ">d").replace("c\t", "d\t");
    let args = "--labels d.gff3 --objective genes --steps 1";
    let fit = FIT.replace("a.fa", "a.fa d.fa");
    let outcome = Case::new(&format!("{fit} {args}"))
        .file("d.fa", other(&fasta) + ">bare\nACGTACGTACGT\n")
        .file("d.gff3", other(&annotation))
        .file("a.fa", fasta)
        .file("a.gff3", annotation)
        .seconds(300)
        .run()
        .succeeds(&MADE);
    let warned = outcome.stderr.lines();
    let warned: Vec<&str> = warned.filter(|line| line.contains("annotated")).collect();
    assert_eq!(warned.len(), 1, "{}", outcome.stderr);
    assert!(
        warned[0].contains("bare: no coding sequences"),
        "{warned:?}"
    );
}

#[test]
fn the_language_model_is_still_there() {
    let mut case =
        trained("tracks", 40, "--steps 2").args("predict a.fa -m out -o out.parquet --head lm");
    let with = case.run().succeeds(&["out.parquet"]).table();
    let mut case = Case::new("predict a.fa -m model -o out.parquet").file("a.fa", genome(40).0);
    let without = case.run().succeeds(&["out.parquet"]).table();
    assert_eq!(with.columns, without.columns);
    assert_eq!(with.numbers("logp_base"), without.numbers("logp_base"));
}

#[test]
fn what_cannot_be_is_refused() {
    let (fasta, annotation) = genome(40);
    let fit = |args: &str| {
        let fixed = "fit a.fa -m model -o out --steps 1 --objective";
        Case::new(&format!("{fixed} {args}"))
            .file("a.fa", &fasta)
            .file("a.gff3", &annotation)
            .file(
                "broken.gff3",
                annotation.replace("\t-\t0\tID=g3\n", "\t-\t0\n"),
            )
            .file("other.gff3", annotation.replace("c\tx", "chrC\tx"))
            .file("a.bed", "c\t0\t9\n")
            .file(
                "far.gff3",
                annotation.clone() + "c\tx\tCDS\t99991\t99999\t.\t+\t0\tID=far\n",
            )
    };
    fit("tracks --labels broken.gff3")
        .run()
        .fails(3, &["broken.gff3: line 5: ", "9 columns"]);
    fit("tracks --labels other.gff3")
        .run()
        .fails(3, &["other.gff3", "\"chrC\" (\"c\"?)"]);
    fit("genes --labels far.gff3")
        .run()
        .fails(3, &["far.gff3: line 42: ", "99999"]);
    fit("tracks --labels a.gff3 --feature exon")
        .run()
        .fails(3, &["exon"]);
    fit("genes --labels a.bed").run().fails(2, &["GFF3 or GTF"]);
    fit("genes --labels a.gff3 --feature exon")
        .run()
        .fails(2, &["CDS"]);
    fit("tracks --labels a.fa")
        .run()
        .fails(2, &["a.fa", ".gff3"]);
    fit("tracks").run().fails(2, &["--labels"]);
    let predict = |args: &str| {
        Case::new(&format!("predict a.fa -m model {args}"))
            .file("a.fa", &fasta)
            .run()
    };
    predict("--genes g.gff3").fails(2, &["a gene head"]);
    predict("--bed g.bed").fails(2, &["heads of tasks"]);
    predict("--head genes -o o.parquet").fails(2, &["the model has no head \"genes\""]);
    predict("--genes g.gff3 --genetic-code 1").fails(2, &["expected 11 or 4"]);
}

#[test]
fn what_is_advised_about_genes_can_be_followed() {
    let predict = |args: &str| {
        Case::new(&format!("predict a.fa --genes g.gff3 {args}"))
            .file("a.fa", genome(40).0)
            .file("a.bed", "c\t0\t9\n")
            .run()
    };
    for (args, words) in [
        ("--strand both", "leave out --strand\n"),
        ("--intervals a.bed", "leave out --intervals\n"),
        ("--logits", "leave out these\n"),
        ("--head lm", "leave out --head\n"),
        ("-m model", "leave out -m"),
        ("--time-limit 1s", "cannot be used with"),
    ] {
        let outcome = predict(args);
        assert!(!outcome.stderr.contains("add --head lm"), "{args}");
        outcome.fails(2, &[words]);
    }
    let check = "check predict a.fa --genes g.gff3";
    let mut case = Case::new(check).file("a.fa", genome(40).0);
    let said = String::from_utf8(case.run().succeeds(&[]).stdout).unwrap();
    assert!(said.contains("\noutput: no table\n"), "{said}");
    let bed = "predict a.fa --bed g.bed --head lm";
    let mut case = Case::new(bed).file("a.fa", genome(40).0);
    case.run().fails(2, &["choose one with --head"]);
}

/// The genome of phage lambda, which no bundled model was trained on.
const LAMBDA: &[u8] = include_bytes!("../../data/lambda.fa.gz");

#[test]
fn the_bundled_models_know_a_phage_that_they_have_not_seen() {
    let region = "--region NC_001416.1:1-8000";
    let mut case = Case::new(&format!("predict a.fa.gz -o out.parquet {region}"))
        .file("a.fa.gz", LAMBDA)
        .seconds(120);
    let table = case.run().succeeds(&["out.parquet"]).table();
    assert_eq!(table.footer["model"]["name"], "crocuta-bacteria");
    let nats: Vec<f32> = table.numbers("logp_base").into_iter().flatten().collect();
    let bits = -nats.iter().sum::<f32>() / nats.len() as f32 / std::f32::consts::LN_2;
    assert!(bits < 1.9, "{bits} bits a base; of order 0 it is 1.99");
    let mut case = case.args(&format!("predict a.fa.gz --genes genes.gff3 {region}"));
    let outcome = case.run();
    let text = String::from_utf8(outcome.file("genes.gff3").to_vec()).unwrap();
    // nu1, A, W, B and C of NC_001416.1.
    for place in [
        "191\t736",
        "711\t2636",
        "2633\t2839",
        "2836\t4437",
        "4418\t5737",
    ] {
        assert!(
            text.contains(&format!("\tCDS\t{place}\t")),
            "{place}: {text}"
        );
    }
}

#[test]
fn an_adapter_is_applied_to_the_bundled_model_that_it_was_trained_on() {
    let (fasta, annotation) = genome(40);
    let fit = FIT
        .replace("-m model", "-m crocuta-bacteria")
        .replace("--head-only", "--lora 1");
    let mut case = Case::new(&format!("{fit} --objective genes --steps 1"))
        .file("a.fa", fasta)
        .file("a.gff3", annotation)
        .seconds(120);
    case.run();
    let of_another = "trained on crocuta-bacteria, and is applied to crocuta-";
    for line in [
        "predict a.fa --adapter out --genes g.gff3 -o out.parquet",
        "embed a.fa --adapter out --bin 500 -o out.parquet",
    ] {
        let mut next = case.copy().args(line);
        let outcome = next.run();
        let model = &outcome.table().footer["model"]["name"];
        assert_eq!(model, "crocuta-bacteria+out", "{line}");
        assert!(!outcome.stderr.contains(of_another), "{}", outcome.stderr);
    }
    let warned = format!("{of_another}human");
    for (line, files) in [
        (
            "embed a.fa -m crocuta-human --adapter out --bin 500 -o out.parquet",
            &["out.parquet"][..],
        ),
        ("models show crocuta-human --adapter out", &[]),
        (
            "models merge crocuta-human out -o merged",
            &["merged", "merged/config.json", "merged/model.safetensors"],
        ),
    ] {
        case.copy().args(line).run().ends(0, &[&warned], files);
    }
}
