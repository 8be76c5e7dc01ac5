//! Numbers that are none, or infinite, end every command with code 4, and nothing is written.

use crate::given;
use crate::harness::Case;
use std::path::Path;

/// A weight that is a number: what it is multiplied with, or added to, overflows in the run. Those
/// that are none themselves are refused when a model is opened.
const LARGE: f32 = 3e38;

/// Weights of which hidden vectors become infinite, and others of which they are not numbers.
fn overflowing() -> [Vec<u8>; 2] {
    let infinite = given::broken("ln_f.weight", LARGE);
    // Their sum is infinite, and the next norm subtracts infinity from it.
    let residual = given::broken("layers.0.mixer.out_proj.bias", LARGE);
    let none = given::patched(&residual, "layers.0.mlp.fc2.bias", LARGE);
    [infinite, none]
}

fn fails(case: Case) {
    { case }.run().fails(4, &["the model's output"]);
}

#[test]
fn hidden_vectors_of_every_command_strand_pool_and_type() {
    for weights in overflowing() {
        let run = |line: &str| {
            let case = given::case(&format!("{line} -o out.parquet -t 1"));
            fails(case.file("model/model.safetensors", &weights));
        };
        for dtype in ["f16", "f32"] {
            run(&format!("embed a.fa -m model --dtype {dtype}"));
            for pool in ["mean", "max", "last"] {
                run(&format!(
                    "embed a.fa -m model --dtype {dtype} --bin 7 --pool {pool}"
                ));
                run(&format!(
                    "reads a.fq -m model --dtype {dtype} --pool {pool}"
                ));
            }
        }
        for strand in ["reverse", "both", "mean"] {
            run(&format!("embed a.fa -m model --strand {strand}"));
            run(&format!("embed a.fa -m model --strand {strand} --bin 7"));
            run(&format!("predict a.fa -m model --strand {strand}"));
        }
        for more in ["", "--logits", "--window 50", "--region c:5-50"] {
            run(&format!("predict a.fa -m model {more}"));
        }
        for more in ["--no-embedding", "--per-base b.parquet", "--bam-out t.bam"] {
            run(&format!("reads a.fq -m model {more}"));
        }
        for more in [
            "",
            "--strand both",
            "--window 60",
            "--embeddings site",
            "--vcf-out s.vcf.gz",
        ] {
            run(&format!("score v.vcf -r a.fa -m model --after 20 {more}"));
        }
        run("score --saturate c:101-104 -r a.fa -m model --after 20 --plot p.svg");
    }
}

#[test]
fn logits_of_a_language_model() {
    let weights = given::broken("lm_head.weight", LARGE);
    for line in [
        "predict a.fa -m model",
        "predict a.fa -m model --logits",
        "reads a.fq -m model --no-embedding",
        "reads a.fq -m model --per-base b.parquet",
        "score v.vcf -r a.fa -m model --after 20",
    ] {
        let case = given::case(&format!("{line} -o out.parquet -t 1"));
        fails(case.file("model/model.safetensors", &weights));
    }
}

#[test]
fn probabilities_of_a_head() {
    let model = given::case("");
    let model = std::fs::read(model.path("genes/model.safetensors")).unwrap();
    for tensor in ["ln_f.weight", HEAD] {
        let weights = given::patched(&model, tensor, LARGE);
        for outputs in ["-o out.parquet", "--genes g.gff3", "--bed b.bed --bigwig w"] {
            let case = given::case(&format!("predict a.fa -m genes {outputs} -t 1"));
            { case.file("genes/model.safetensors", &weights) }
                .run()
                .fails(4, &["the model's output"]);
        }
    }
}

/// The weights of the head of genes.
const HEAD: &str = "crocuta_heads.genes.weight";

#[test]
fn models_that_read_in_both_directions_in_windows_and_whole() {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/caduceus-ph");
    let read = |name: &str| std::fs::read(goldens.join(name)).unwrap();
    let model = read("model.safetensors");
    let weights = given::patched(&model, "norm_f.weight", LARGE);
    for line in [
        "embed a.fa -m cph --window 100",
        "embed a.fa -m cph --window 100 --bin 9 --pool max",
        "embed a.fa -m cph --exact",
        "predict a.fa -m cph --exact --logits",
        "predict a.fa -m cph --window 100 --mask-every 4",
        "reads a.fq -m cph --mask-every 4",
        "score v.vcf -r a.fa -m cph --window 60",
    ] {
        let case = given::case(&format!("{line} -o out.parquet -t 1"))
            .file("cph/config.json", read("config.json"))
            .file("cph/model.safetensors", &weights);
        fails(case);
    }
}
