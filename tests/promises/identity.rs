//! A run goes on with another's checkpoint only if all that decides its numbers is the same.

use crate::given;
use crate::harness::{Case, bases, fai, model_file, record};
use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

const LENGTH: usize = 120_000;

fn letters(seed: u64) -> String {
    record("c", &bases(seed, LENGTH), 60)
}

/// A change to a directory, or to the command line, and words of which one must be said of it.
struct Change {
    what: &'static str,
    files: &'static dyn Fn(&Case),
    args: (&'static str, &'static str),
    said: &'static [&'static str],
}

fn file(
    what: &'static str,
    files: &'static dyn Fn(&Case),
    said: &'static [&'static str],
) -> Change {
    let args = ("", "");
    Change {
        what,
        files,
        args,
        said,
    }
}

/// One part of the command line becomes another.
fn option(old: &'static str, new: &'static str, said: &'static [&'static str]) -> Change {
    Change {
        what: new,
        files: &|_| {},
        args: (old, new),
        said,
    }
}

/// Other bytes in a file, whose size and time of change stay as they were.
fn swap(case: &Case, name: &str, change: impl Fn(&mut Vec<u8>)) {
    let path = case.path(name);
    let time = path.metadata().unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let (length, before) = (bytes.len(), bytes.clone());
    change(&mut bytes);
    assert!(bytes.len() == length && bytes != before, "{name}");
    std::fs::write(&path, bytes).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.set_modified(time).unwrap();
}

/// Another base for one in the middle of the file.
fn point(bytes: &mut [u8]) {
    let at = bytes.len() / 2;
    let at = at
        + bytes[at..]
            .iter()
            .position(|b| b"ACGT".contains(b))
            .unwrap();
    bytes[at] = if bytes[at] == b'A' { b'C' } else { b'A' };
}

/// Replaces text of a file.
fn reword(case: &Case, name: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(case.path(name)).unwrap();
    assert!(text.contains(from), "{name}: no {from} in {text}");
    std::fs::write(case.path(name), text.replacen(from, to, 1)).unwrap();
}

/// Runs the command until a checkpoint stands, and kills it.
fn killed(case: &Case) {
    let mut command = case.command();
    // So that it is not over when it is killed.
    command.env("CROCUTA_PAUSE", "50");
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let journal = case.path(".out.parquet.journal/journal.json");
    while !journal.exists() {
        if child.try_wait().unwrap().is_some() {
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            panic!("over without a checkpoint: {:?}\n{said}", output.status);
        }
        assert!(start.elapsed() < Duration::from_secs(60), "no checkpoint");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !case.path("out.parquet").exists(),
        "over before it was killed"
    );
    // The next run removes what a killed one left under a temporary name, refused or not.
    let left = case.path(&format!(".out.parquet.tmp-{}-", child.id()));
    for entry in left.parent().unwrap().read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().starts_with(&*left.to_string_lossy()) {
            std::fs::remove_file(path).unwrap();
        }
    }
}

/// Kills the command in its middle; every change is refused and named; without one it goes on to
/// the bytes of a run that was not killed, with another number of threads too.
fn held(line: &str, make: impl Fn(&str) -> Case, changes: &[Change]) {
    let resumed = format!("{line} --resume --checkpoint-every 0 -o out.parquet");
    let case = make(&resumed);
    killed(&case);
    for Change {
        what,
        files,
        args,
        said,
    } in changes
    {
        let (old, new) = args;
        assert!(resumed.contains(old), "{resumed}: no {old}");
        let other = case.copy().args(&resumed.replacen(old, new, 1));
        files(&other);
        let outcome = { other }.run().fails(2, &[]);
        let stderr = outcome.stderr.to_lowercase();
        let named = said
            .iter()
            .any(|word| stderr.contains(&word.to_lowercase()));
        assert!(named, "{line}: {what}: none of {said:?} is said: {stderr}");
    }
    let on = case.copy().args(&resumed.replacen("-t 2", "-t 1", 1));
    let status = on.command().stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{line} does not go on");
    let found = std::fs::read(on.path("out.parquet")).unwrap();
    let mut whole = make(&format!("{line} -o out.parquet"));
    assert!(
        whole.run().file("out.parquet") == found,
        "{line}: other bytes"
    );
    assert!(!on.path(".out.parquet.journal").exists());
}

/// Regions of the long sequence, a tokenizer, and an adapter.
fn genome(args: &str) -> Case {
    let vocabulary = r#"{"[CLS]": 0, "[SEP]": 1, "[BOS]": 2, "[MASK]": 3, "[PAD]": 4,
        "[RESERVED]": 5, "[UNK]": 6, "A": 7, "C": 8, "G": 9, "T": 10, "N": 11}"#;
    given::case(args)
        .file("a.fa", letters(1))
        .file("a.fa.fai", fai(&letters(1)))
        .file("r.bed", format!("c\t1000\t50000\nc\t49000\t{LENGTH}\n"))
        .file("model/vocab.json", vocabulary)
        .seconds(60)
}

fn inputs() -> Vec<Change> {
    vec![
        file(
            "the sequence",
            &|case| swap(case, "a.fa", |x| point(x)),
            &["a.fa", "input"],
        ),
        file(
            "the regions",
            &|case| reword(case, "r.bed", "50000", "50001"),
            &["r.bed", "region"],
        ),
        file(
            "the weights",
            &|case| {
                std::fs::write(
                    case.path("model/model.safetensors"),
                    given::broken("ln_f.bias", 0.5),
                )
                .unwrap()
            },
            &["model"],
        ),
        file(
            "the configuration",
            &|case| {
                let text = String::from_utf8(model_file("config.json")).unwrap();
                let mut config: serde_json::Value = serde_json::from_str(&text).unwrap();
                config["layer_norm_epsilon"] = 1e-3.into();
                std::fs::write(case.path("model/config.json"), config.to_string()).unwrap();
            },
            &["model", "config"],
        ),
        file(
            "the tokenizer",
            &|case| {
                reword(case, "model/vocab.json", "\"A\": 7", "\"A\": 6");
                reword(case, "model/vocab.json", "\"[UNK]\": 6", "\"[UNK]\": 7");
            },
            &["model", "vocab", "token"],
        ),
        file(
            "the adapter",
            &|case| {
                reword(
                    case,
                    "adapter/adapter_config.json",
                    "\"lora_alpha\": 4",
                    "\"lora_alpha\": 5",
                )
            },
            &["adapter", "model"],
        ),
    ]
}

#[test]
fn embeddings_go_on_only_with_the_same_inputs_and_options() {
    let line = "embed a.fa -m model --adapter adapter -t 2 --chunk 2048 --regions-file r.bed \
                --context 100 --bin 4 --pool mean --dtype f16";
    let mut changes = inputs();
    changes.extend([
        option("--context 100", "--context 101", &["context"]),
        option("--bin 4", "--bin 5", &["bin"]),
        option("--pool mean", "--pool max", &["pool"]),
        option("--dtype f16", "--dtype f32", &["dtype"]),
        option("-t 2", "-t 2 --layer 1", &["layer"]),
        option("-t 2", "-t 2 --strand both", &["strand"]),
        option("-t 2", "-t 2 --window 100", &["window"]),
        option("-t 2", "-t 2 --keep-overlaps", &["keep-overlaps"]),
        option("--adapter adapter", "", &["adapter", "model"]),
        option("--regions-file r.bed", "--region c:1001-50000", &["region"]),
    ]);
    held(line, genome, &changes);
}

#[test]
fn intervals_go_on_only_with_the_same_file_and_options() {
    let line = "embed a.fa -m model -t 2 --chunk 2048 --intervals r.bed --context 100 --pool mean";
    let changes = [
        file(
            "the intervals",
            &|case| reword(case, "r.bed", "c\t1000\t", "c\t1001\t"),
            &["intervals"],
        ),
        option("--pool mean", "--pool max", &["pool"]),
        option("-t 2", "-t 2 --upstream 5", &["upstream"]),
        option("-t 2", "-t 2 --around start 500", &["around"]),
    ];
    held(line, genome, &changes);
}

#[test]
fn predictions_go_on_only_with_the_same_inputs_and_options() {
    let line = "predict a.fa -m model --adapter adapter --head lm -t 2 --chunk 2048 \
                --regions-file r.bed --context 100 --window 200 --overlap 50";
    let mut changes = inputs();
    changes.extend([
        option("--context 100", "--context 101", &["context"]),
        option("--window 200", "--window 201", &["window"]),
        option("--overlap 50", "--overlap 51", &["overlap"]),
        option("-t 2", "-t 2 --logits", &["logits"]),
        option("-t 2", "-t 2 --compression lz4", &["compression"]),
        option("-t 2", "-t 2 --strand reverse", &["strand"]),
    ]);
    held(line, genome, &changes);
}

#[test]
fn reads_go_on_only_with_the_same_inputs_and_options() {
    let make = |args: &str| {
        given::case(args)
            .file("a.fq", given::fastq(3000))
            .seconds(60)
    };
    let line =
        "reads a.fq -m model -t 2 --chunk 2048 --pool mean --dtype f16 --orientation sequenced";
    let mut changes = vec![
        file(
            "the reads",
            &|case| swap(case, "a.fq", |x| point(x)),
            &["a.fq", "reads differs"],
        ),
        option("--pool mean", "--pool last", &["pool"]),
        option("--dtype f16", "--dtype f32", &["dtype"]),
        option(
            "--orientation sequenced",
            "--orientation reference",
            &["orientation"],
        ),
        option("-t 2", "-t 2 --layer 1", &["layer"]),
        option("-t 2", "-t 2 --all-alignments", &["all-alignments"]),
        option("--pool mean", "--no-embedding", &["embedding", "pool"]),
        option("-t 2", "-t 2 --per-base bases.parquet", &["per-base"]),
        option("-t 2", "-t 2 --compression none", &["compression"]),
        option("-t 2", "-t 2 --window 20", &["window"]),
    ];
    changes.extend(
        inputs()
            .into_iter()
            .filter(|change| change.what == "the weights"),
    );
    held(line, make, &changes);
}

#[test]
fn scores_go_on_only_with_the_same_inputs_and_options() {
    let make = |args: &str| {
        let genome = bases(1, LENGTH);
        let mut text = given::vcf(0).replace("300", &LENGTH.to_string());
        for at in (1000..LENGTH - 1000).step_by(97) {
            let letter = &genome[at..=at];
            let other = if letter == "A" { "C" } else { "A" };
            text += &format!("c\t{}\t.\t{letter}\t{other}\t.\t.\t.\n", at + 1);
        }
        genome_and(args, text)
    };
    let line = "score v.vcf -r a.fa -m model -t 2 --chunk 2048 --after 50 --max-allele 100";
    let mut changes = vec![
        file(
            "the reference",
            &|case| swap(case, "a.fa", |x| point(x)),
            &["a.fa", "reference"],
        ),
        file(
            "the variants",
            &|case| reword(case, "v.vcf", "\t.\t.\t.\n", "\t1\t.\t.\n"),
            &["v.vcf", "variants", "input"],
        ),
        option("--after 50", "--after 51", &["after"]),
        option("--max-allele 100", "--max-allele 101", &["max-allele"]),
        option("-t 2", "-t 2 --context 100", &["context"]),
        option("-t 2", "-t 2 --strand both", &["strand"]),
        option("-t 2", "-t 2 --embeddings site", &["embeddings"]),
        option("-t 2", "-t 2 --layer 1", &["layer"]),
        option("-t 2", "-t 2 --flank 10", &["flank"]),
        option(
            "--after 50",
            "--mode window --window 100",
            &["mode", "window", "after"],
        ),
    ];
    let model = ["the weights", "the configuration", "the tokenizer"];
    changes.extend(
        inputs()
            .into_iter()
            .filter(|change| model.contains(&change.what)),
    );
    held(line, make, &changes);
}

fn genome_and(args: &str, variants: String) -> Case {
    genome(args).file("v.vcf", variants)
}

#[test]
fn training_goes_on_only_with_the_same_inputs() {
    let line = "fit a.fa -m model -o out --objective tracks --labels l.bed --validate-file held.bed \
                --batch 4 --length 500 --chunk 250 --steps 2000 --checkpoint-every 0 --resume -t 2";
    let labels: String = (0..100)
        .map(|i| format!("c\t{}\t{}\tx\n", i * 100, i * 100 + 40))
        .collect();
    let case = given::case(line)
        .file("a.fa", record("c", &bases(1, 20_000), 60))
        .file("l.bed", labels)
        .file("held.bed", "c\t15000\t20000\n");
    std::fs::remove_file(case.path("a.fa.fai")).unwrap();
    let mut child = case
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while !case.path(".out.fit").exists() {
        assert!(child.try_wait().unwrap().is_none() && start.elapsed().as_secs() < 60);
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let changes = [
        file(
            "the sequence",
            &|case| swap(case, "a.fa", |x| point(x)),
            &["a.fa", "data", "sequence"],
        ),
        file(
            "the labels",
            &|case| reword(case, "l.bed", "\t40\t", "\t41\t"),
            &["l.bed", "data", "label"],
        ),
        file(
            "what is held out",
            &|case| reword(case, "held.bed", "15000", "15001"),
            &["held.bed", "validat", "held"],
        ),
        file(
            "the configuration",
            &|case| {
                reword(
                    case,
                    "model/config.json",
                    "\"emb_dim\"",
                    "\"layer_norm_epsilon\": 1e-3, \"emb_dim\"",
                )
            },
            &["model", "config"],
        ),
    ];
    for Change {
        what, files, said, ..
    } in changes
    {
        let other = case.copy();
        files(&other);
        let outcome = { other }.run().fails(2, &[]);
        let named = said.iter().any(|word| outcome.stderr.contains(word));
        assert!(
            named,
            "{what}: none of {said:?} is said: {}",
            outcome.stderr
        );
    }
}
