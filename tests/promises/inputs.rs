//! No output may be anything that the run reads, by whatever name, and none is replaced unasked.

use crate::given::{self, Output};
use crate::harness::bytes::{bgzf, gzi, words};
use crate::harness::{Case, fai, sha256};
use std::os::unix::fs::symlink;
use std::path::Path;

/// How an output comes to be an input.
const WAYS: [&str; 3] = ["the path itself", "a symbolic link", "a hard link"];

/// Runs the command with the option pointed at one of its inputs, in every way.
fn refuses(make: &dyn Fn(&str) -> Case, line: &str, inputs: &[&str], option: &'static str) {
    for input in inputs {
        for way in WAYS {
            let output = Output::new(option, OTHER[usize::from(option != "-o")]);
            // The last of an output's files is its index, or a class's track.
            for file in output.files.iter().rev().take(2) {
                let path = match way {
                    "the path itself" if output.files.len() > 1 => continue,
                    "the path itself" => input,
                    _ => output.path,
                };
                let case = make(&format!("{line} --force {option} {path}"));
                let link = case.path(file);
                let target = case.path(input);
                match way {
                    "a symbolic link" => symlink(Path::new(input), link).unwrap(),
                    "a hard link" => std::fs::hard_link(target, link).unwrap(),
                    _ => {}
                }
                let said = { case }.run().fails(2, &[]).stderr;
                // The path itself may be refused for its name's end.
                assert!(
                    way == "the path itself" || said.contains("input"),
                    "{line}, {option} is {input} by {way}: {said}"
                );
            }
        }
    }
}

/// Names of the table, and of other outputs: their ends fit all options here.
const OTHER: [&str; 2] = ["x.parquet", "x"];

fn options(of: &str) -> Vec<&'static str> {
    let more: &[&str] = match of {
        "predict" => &["--genes", "--bed", "--bigwig"],
        "reads" => &["--per-base", "--bam-out"],
        "score" => &["--vcf-out", "--tsv"],
        _ => &[],
    };
    ["-o", "--summary"].iter().chain(more).copied().collect()
}

const MODEL: [&str; 2] = ["model/config.json", "model/model.safetensors"];

#[test]
fn no_output_is_a_sequence_an_index_or_a_region_file() {
    let zipped = |args: &str| {
        let text = given::fasta();
        let file = bgzf(text.as_bytes(), 100);
        given::case(args)
            .file("a.fa.gz.gzi", words(&gzi(text.len(), 100, &file)))
            .file("a.fa.gz.fai", fai(&text))
            .file("a.fa.gz", file)
    };
    for option in options("embed") {
        let line = "embed a.fa -m model --regions-file r.bed";
        let inputs = ["a.fa", "a.fa.fai", "r.bed"];
        refuses(&given::case, line, &inputs, option);
        let line = "embed a.fa -m model --intervals r.bed";
        refuses(&given::case, line, &inputs, option);
        let line = "embed a.fa.gz -m model --region c:1-50";
        let inputs = ["a.fa.gz", "a.fa.gz.fai", "a.fa.gz.gzi"];
        refuses(&zipped, line, &inputs, option);
        let line = "embed small.bam -r ref.fa -m model --region 17:1-50";
        let inputs = ["small.bam", "small.bam.bai", "ref.fa", "ref.fa.fai"];
        refuses(&given::case, line, &inputs, option);
    }
    for option in options("predict") {
        let line = "predict a.fa -m genes --regions-file r.bed";
        refuses(&given::case, line, &["a.fa", "a.fa.fai", "r.bed"], option);
    }
}

#[test]
fn no_output_is_a_file_of_reads_or_variants_or_their_index() {
    for option in options("reads") {
        let line = "reads small.bam -m model --regions-file 17.bed";
        let inputs = ["small.bam", "small.bam.bai", "17.bed"];
        refuses(&given::case, line, &inputs, option);
        let cram = |args: &str| {
            let case = given::case(args).file("small.cram", given::aligned("small.cram"));
            case.file("small.cram.crai", given::aligned("small.cram.crai"))
        };
        let line = "reads small.cram -r ref.fa -m model --region 17:1-300";
        let inputs = ["small.cram", "small.cram.crai", "ref.fa", "ref.fa.fai"];
        refuses(&cram, line, &inputs, option);
    }
    for option in options("score") {
        let line = "score v.vcf -r a.fa -m model --after 20";
        refuses(&given::case, line, &["v.vcf", "a.fa", "a.fa.fai"], option);
    }
    let line = "score --saturate c:101-104 -r a.fa -m model --after 20";
    refuses(&given::case, line, &["a.fa", "a.fa.fai"], "--plot");
}

#[test]
fn no_output_is_a_file_of_the_model_or_an_adapter() {
    let adapter = [
        "adapter/adapter_config.json",
        "adapter/adapter_model.safetensors",
    ];
    for (of, line) in [
        ("embed", "embed a.fa -m model"),
        ("predict", "predict a.fa -m model --head lm"),
        ("reads", "reads a.fq -m model"),
        ("score", "score v.vcf -r a.fa -m model --after 20"),
    ] {
        for option in options(of) {
            if ["--genes", "--bed", "--bigwig"].contains(&option) {
                let inputs = ["genes/config.json", "genes/model.safetensors"];
                refuses(&given::case, "predict a.fa -m genes", &inputs, option);
                continue;
            }
            let line = format!("{line} --adapter adapter");
            refuses(&given::case, &line, &[MODEL, adapter].concat(), option);
        }
    }
}

#[test]
fn no_output_is_a_tokenizer_a_shard_or_a_list_of_digests() {
    let vocabulary = r#"{"[CLS]": 0, "[SEP]": 1, "[BOS]": 2, "[MASK]": 3, "[PAD]": 4,
        "[RESERVED]": 5, "[UNK]": 6, "A": 7, "C": 8, "G": 9, "T": 10, "N": 11}"#;
    let made = |args: &str| {
        let mut case = given::case(args).file("model/vocab.json", vocabulary);
        let mut digests = String::new();
        for name in ["config.json", "model.safetensors", "vocab.json"] {
            let digest = sha256(std::fs::read(case.path("model").join(name)).unwrap());
            digests += &format!("{digest}  {name}\n");
        }
        case = case.file("model/SHA256SUMS", digests);
        case
    };
    let inputs = ["model/vocab.json", "model/SHA256SUMS"];
    let sharded = |args: &str| {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/mamba2-groups");
        let mut case = given::case(args);
        for entry in std::fs::read_dir(goldens).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            case = case.file(&format!("shards/{name}"), std::fs::read(path).unwrap());
        }
        case
    };
    let shards = [
        "shards/model.safetensors.index.json",
        "shards/model-00002-of-00004.safetensors",
    ];
    for option in options("embed") {
        refuses(&made, "embed a.fa -m model", &inputs, option);
        refuses(&sharded, "embed a.fa -m shards", &shards, option);
    }
}

#[test]
fn two_outputs_are_not_one_file() {
    for command in given::commands() {
        for one in &command.outputs {
            for other in command
                .outputs
                .iter()
                .filter(|other| other.option != one.option)
            {
                let others = command.outputs.iter();
                let others = others.filter(|x| x.option != one.option && x.option != other.option);
                let others: String = others.map(Output::args).collect();
                let line = format!(
                    "{}{others}{}{} --force",
                    command.line,
                    one.args(),
                    other.args()
                );
                for hard in [false, true] {
                    let case = given::case(&line).file(&one.files[0], "old");
                    let (here, there) = (case.path(&one.files[0]), case.path(&other.files[0]));
                    if hard {
                        std::fs::hard_link(here, there).unwrap()
                    } else {
                        symlink(Path::new(&one.files[0]), there).unwrap()
                    }
                    { case }.run().fails(2, &["output"]);
                }
            }
        }
    }
}

#[test]
fn a_summary_replaces_a_file_only_if_asked_to() {
    for command in given::commands() {
        let line = format!("{} -o out.parquet --summary s.json", command.line);
        let mut case = given::case(&line).file("s.json", "old");
        case.run().fails(2, &["s.json", "exists", "--force"]);
        let mut case = given::case(&format!("{line} --force")).file("s.json", "old");
        let outcome = case.run().succeeds(&["out.parquet", "s.json"]);
        assert!(outcome.file("s.json") != b"old");
    }
}

#[test]
fn a_table_is_not_written_under_another_format_s_name() {
    let table = |line: &str, name: &str| given::case(&format!("{line} -o {name}"));
    for command in given::commands() {
        for name in [
            "a.tsv", "a.csv", "a.txt", "a.json", "a.bed", "a.vcf.gz", "a.bam", "a.bw",
        ] {
            table(command.line, name).run().fails(2, &[name, "parquet"]);
        }
    }
    for name in ["a.parquet", "a.pq", "a", "a.b.parquet"] {
        table("embed a.fa -m model", name).run().succeeds(&[name]);
    }
}
