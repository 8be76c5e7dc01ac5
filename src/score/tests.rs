//! Scores by branches on a GPU against those by forks on the CPU.

use super::pass::Pass;
use super::*;
use crate::checkpoint::{self, Checkpoint, Config};
use crate::encoder::{Encoder, Layer, Model, Segment};
use crate::error::Kind;
use crate::ops::Device;
use crate::ops::cuda::Gpu;
use crate::ops::testing::{largest, within};
use crate::sequence::LETTERS;
use crate::table::{SCORES, Scores};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Models that branch, at sizes for tests: filters shorter than the contig.
const MODELS: [(&str, &str); 3] = [
    (
        "hyenadna-tiny-1k",
        r#"{"d_model": 12, "d_inner": 20, "filter_order": 8, "max_seq_len": 130,
            "initializer_range": 0.2}"#,
    ),
    (
        "crocuta-bacteria",
        r#"{"hidden_size": 16, "num_filters": 16, "num_attention_heads": 2, "inner_mlp_size": 20,
            "hcl_filter_groups": 16, "hcm_filter_groups": 4, "hcs_filter_groups": 16,
            "hcm_filter_length": 24, "attention_window": 30, "state_size": 4, "num_layers": 4,
            "hcs_layer_idxs": [0], "hcm_layer_idxs": [1], "hcl_layer_idxs": [2],
            "attn_layer_idxs": [3]}"#,
    ),
    (
        "evo-1-131k",
        r#"{"hidden_size": 16, "num_filters": 16, "num_attention_heads": 2, "num_layers": 4,
            "inner_mlp_size": 20, "attn_layer_idxs": [2], "hyena_layer_idxs": [0, 1, 3]}"#,
    ),
];

fn load(model: (&str, &str), device: Device) -> (Engine, LanguageModel) {
    let directory = tempfile::tempdir().unwrap();
    open(&create(model, directory.path()), device)
}

fn create((preset, changes): (&str, &str), directory: &Path) -> PathBuf {
    let target = directory.join("model");
    let mut sizes = checkpoint::preset(preset).unwrap();
    sizes.extend(serde_json::from_str::<Map<String, Value>>(changes).unwrap());
    checkpoint::create(&Config::new(preset, sizes), 3, &target, 1 << 30).unwrap();
    target
}

fn open(model: &Path, device: Device) -> (Engine, LanguageModel) {
    let checkpoint = Checkpoint::open(model).unwrap();
    let (model, facts) = Model::load(&checkpoint).unwrap();
    let head = LanguageModel::load(&checkpoint, &model, &facts).unwrap();
    let engine = Engine {
        model,
        facts,
        device,
        layers: vec![Layer::Norm],
    };
    (engine, head)
}

/// A contig with a base that is not known.
fn contig() -> Vec<u8> {
    let base = |i: usize| ((i * i + 3 * i + i / 3 + i / 7) % 4) as u8;
    let mut codes: Vec<u8> = (0..330).map(base).collect();
    codes[150] = 4;
    codes
}

/// All kinds of changes, at both ends and between, several within one suffix, and one that changes
/// nothing.
fn changes(codes: &[u8]) -> Vec<Variant> {
    let other = |i: usize| (codes[i] + 1) % 4;
    let last = codes.len() - 1;
    let change = |start: usize, removed: usize, alternate: &[u8]| Variant {
        start: start as u64,
        reference: codes[start..start + removed].to_vec(),
        alternate: alternate.to_vec(),
    };
    let long: Vec<u8> = (0..37).map(|i| (i % 3) as u8).collect();
    vec![
        change(0, 1, &[other(0)]),
        change(0, 2, &[]),
        change(0, 0, &[1, 2, 3]),
        change(1, 1, &[other(1)]),
        change(2, 1, &[other(2)]),
        change(40, 1, &[other(40)]),
        change(40, 1, &[(codes[40] + 2) % 4]),
        change(41, 3, &[other(41), other(42), other(43)]),
        change(42, 1, &codes[42..43]),
        change(43, 30, &[]),
        change(44, 0, &long),
        change(47, 2, &[other(47), 0, 3, 1]),
        change(129, 1, &[other(129)]),
        change(131, 1, &[]),
        change(257, 4, &[2]),
        change(last - 1, 2, &[]),
        change(last, 1, &[]),
        change(last, 1, &[other(last)]),
        change(last + 1, 0, &[0, 1]),
    ]
}

fn run(scorer: Scorer, settings: &Settings, reverse: bool) -> Vec<Scores> {
    try_run(scorer, settings, reverse).unwrap()
}

fn try_run(scorer: Scorer, settings: &Settings, reverse: bool) -> Result<Vec<Scores>> {
    let mut found = vec![None; changes(&contig()).len()];
    on_strand(reverse, |strand, jobs| {
        let (watch, take) = (&mut |_, _: &str| Ok(()), &mut |job: Job, scores: Scores| {
            for i in job.entries {
                found[i] = Some(scores.clone());
            }
            Ok(())
        });
        let jobs = jobs.into_iter().map(Ok);
        score(scorer, settings, strand, jobs, watch, take)
    })?;
    Ok(found.into_iter().map(Option::unwrap).collect())
}

/// The changes, in the order of a strand of the contig.
fn on_strand(
    reverse: bool,
    mut run: impl FnMut(&ContigStrand, Vec<Job>) -> Result<()>,
) -> Result<()> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.fa");
    let codes = contig();
    let letters = codes.iter().map(|&code| LETTERS[usize::from(code)]);
    std::fs::write(&path, format!(">a\n{}\n", letters.collect::<String>())).unwrap();
    let reference = Reference::open(&path, false).unwrap();
    let variants = changes(&codes);
    reference.each(&[vec![0]], directory.path(), |contig, _| {
        let strand = contig.strand(reverse);
        let jobs = variants.iter().enumerate().map(|(i, variant)| Job {
            variant: strand.variant(variant.clone()),
            entries: vec![i],
        });
        let mut jobs: Vec<_> = jobs.collect();
        jobs.sort_by_key(|job| job.variant.start);
        run(&strand, jobs)
    })
}

/// Scores by one pass, or by one that is stopped wherever it can be, each time with another that
/// goes on with what it stored; the scores in words, which tell every bit.
fn passes(scorer: Scorer, settings: &Settings, reverse: bool, stopped: bool) -> Vec<String> {
    let mut found = Vec::new();
    let watch = &mut |_: u64, _: &str| Ok(());
    on_strand(reverse, |strand, jobs| {
        let mut pass = Pass::new(scorer, settings, strand.clone())?;
        for jobs in jobs.chunk_by(|one, next| one.variant.start == next.variant.start) {
            loop {
                let is_near = pass.approach(jobs[0].variant.start, watch)?;
                if stopped {
                    pass.rest(watch)?;
                    found.extend(pass.take(strand));
                    let mut file = Vec::new();
                    pass.save(&mut file)?;
                    pass = Pass::new(scorer, settings, strand.clone())?;
                    pass.restore(&mut &file[..])?;
                }
                if is_near {
                    break;
                }
            }
            pass.site(jobs.to_vec(), watch)?;
        }
        pass.finish(watch)?;
        found.extend(pass.take(strand));
        Ok(())
    })
    .unwrap();
    found.sort_by_key(|(job, _)| job.entries.clone());
    let words = found.into_iter().map(|found| format!("{found:?}"));
    words.collect()
}

/// Passes of a model over both strands that are stopped have the scores of passes that are not.
fn resumes((engine, head): &(Engine, LanguageModel)) {
    for (chunk, context) in [(20, None), (64, Some(30)), (1000, None)] {
        let settings = Settings {
            chunk,
            context,
            ..settings()
        };
        for reverse in [false, true] {
            let passes = |stopped| passes(Scorer { engine, head }, &settings, reverse, stopped);
            assert_eq!(passes(true), passes(false), "{settings:?}");
        }
    }
}

#[test]
fn forks_that_go_on_after_a_checkpoint_score_the_same_bits() {
    for model in MODELS {
        resumes(&load(model, Device::Cpu));
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn branches_that_go_on_after_a_checkpoint_score_the_same_bits() {
    for rounded in [false, true] {
        let gpu = Gpu::open(0, rounded).unwrap();
        for model in MODELS {
            resumes(&load(model, Device::Cuda(gpu.clone())));
        }
    }
}

fn same(name: &str, found: &Scores, expected: &Scores) {
    assert_eq!(found.window, expected.window, "{name}");
    assert_eq!(
        (found.n_ref, found.n_alt),
        (expected.n_ref, expected.n_alt),
        "{name}"
    );
    let all = |scores: &Scores| {
        let mut all = vec![scores.ll_ref, scores.ll_alt];
        let largest = scores.values.iter().zip(&SCORES);
        all.extend(
            largest
                .filter(|(_, of)| of.name != "jsd_max_offset")
                .map(|(x, _)| *x),
        );
        for vector in [&scores.ref_emb, &scores.alt_emb] {
            let vector = vector.iter().flatten();
            all.extend(vector.map(|x| f64::from(*x)));
        }
        all
    };
    let (found, expected) = (all(found), all(expected));
    let missing = |all: &[f64]| all.iter().map(|x| x.is_nan()).collect::<Vec<_>>();
    assert_eq!(missing(&found), missing(&expected), "{name}");
    let there = |all: Vec<f64>| all.into_iter().filter(|x| !x.is_nan()).collect::<Vec<_>>();
    let expected = there(expected);
    // Hundreds of nats have no more digits in float32.
    let scale = largest(&expected[..2]) / 300.0;
    within(name, &there(found), &expected, 1e-4 * scale.max(1.0));
}

fn settings() -> Settings {
    Settings {
        mode: Mode::Stream,
        after: 20,
        context: None,
        around: 9,
        longest: 50,
        both_strands: false,
        four: false,
        embeddings: Some(Embeddings::Site),
        shard: false,
        chunk: 100,
        scratch: std::env::temp_dir(),
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn branches_score_as_forks_do() {
    let gpu = Gpu::open(0, false).unwrap();
    for model in MODELS {
        let (cpu, on_gpu) = (
            load(model, Device::Cpu),
            load(model, Device::Cuda(gpu.clone())),
        );
        for (after, chunk, context, around) in [
            (64, 1000, None, 9),
            (1, 7, None, 0),
            (17, 128, None, 30),
            (1000, 128, None, 9),
            (20, 100, Some(25), 9),
            (5, 60, Some(0), 40),
        ] {
            let settings = Settings {
                after,
                chunk,
                context,
                around,
                ..settings()
            };
            compare(&format!("{model:?}"), &cpu, &on_gpu, &settings);
        }
        // Vectors of an inner layer, beside the last one's logits.
        let inner = [cpu, on_gpu].map(|(engine, head)| {
            let layers = vec![Layer::After(1), Layer::Norm];
            (Engine { layers, ..engine }, head)
        });
        compare(
            &format!("{model:?}, inner"),
            &inner[0],
            &inner[1],
            &settings(),
        );
    }
}

/// Forks on the CPU and branches on the GPU, of both strands.
fn compare(
    name: &str,
    cpu: &(Engine, LanguageModel),
    on_gpu: &(Engine, LanguageModel),
    settings: &Settings,
) {
    let [forks, branches] = [cpu, on_gpu].map(|(engine, head)| Scorer { engine, head });
    for reverse in [false, true] {
        let expected = run(forks, settings, reverse);
        let found = run(branches, settings, reverse);
        for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let name = format!("{name}, change {i}, {settings:?}, reverse {reverse}");
            same(&name, found, expected);
        }
        let largest = expected
            .iter()
            .map(|scores| (scores.ll_alt - scores.ll_ref).abs());
        assert!(largest.fold(0.0, f64::max) > 0.1, "the model says nothing");
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn numbers_that_are_none_end_branches_too() {
    let directory = tempfile::tempdir().unwrap();
    let model = create(MODELS[0], directory.path());
    let weights = model.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: Map<String, Value> = serde_json::from_slice(&bytes[8..header]).unwrap();
    let norm = tensors
        .iter()
        .find(|(name, _)| name.ends_with("ln_f.weight"));
    let at = header + norm.unwrap().1["data_offsets"][0].as_u64().unwrap() as usize;
    // Finite itself, so that the model opens.
    bytes[at..at + 4].copy_from_slice(&3e38f32.to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    let gpu = Gpu::open(0, false).unwrap();
    let (engine, head) = open(&model, Device::Cuda(gpu));
    let scorer = Scorer {
        engine: &engine,
        head: &head,
    };
    let error = try_run(scorer, &settings(), false).unwrap_err();
    assert_eq!(error.exit_code(), 4, "{error}");
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_state_on_a_gpu_is_never_forked_into_an_empty_one() {
    let gpu = Gpu::open(0, false).unwrap();
    for model in MODELS {
        let (engine, _) = load(model, Device::Cuda(gpu.clone()));
        let mut state = engine.model.start(1).unwrap();
        let segment = Segment {
            lane: 0,
            len: 4,
            starts: true,
            ends: false,
        };
        engine.forward(vec![7; 4], &[segment], &mut state).unwrap();
        let error = engine
            .model
            .fork(&[(&state, 0)], 4)
            .map(|_| ())
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Internal, "{error}");
    }
}
