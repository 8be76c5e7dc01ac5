//! The models, the changes, and a run of them.

use crate::folder;
use crocuta::checkpoint::{Checkpoint, Config, create};
use crocuta::encoder::{Layer, Model};
use crocuta::head::LanguageModel;
use crocuta::ops::Device;
use crocuta::score::{self, Job, Mode, Reference, Settings};
use crocuta::sequence::LETTERS;
use crocuta::sequence::allele::Variant;
use crocuta::stream::Engine;
use crocuta::table::Scores;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::LazyLock;

/// A model and its head.
pub(super) struct Scorer {
    pub engine: Engine,
    pub head: LanguageModel,
}

pub(super) static CAUSAL: LazyLock<Vec<(&str, Scorer)>> = LazyLock::new(|| {
    let published = ["hyenadna", "mamba1", "mamba2", "evo1", "evo2"];
    let published = published.iter().filter(|name| folder(name).exists());
    let mut scorers: Vec<_> = published.map(|name| (*name, load(&folder(name)))).collect();
    for (name, config) in [
        (
            "s4d",
            json!({"model_type": "s4d", "d_model": 24, "n_layer": 2, "vocab_size": 16,
                "d_state": 8, "initializer_range": 0.5}),
        ),
        ("transformer", transformer(&json!({"attention": "causal"}))),
        (
            "transformer with a window",
            transformer(&json!({"attention": "sliding", "window": 30})),
        ),
        (
            "performer",
            transformer(&json!({"attention": "performer", "features": 20})),
        ),
    ] {
        scorers.push((name, made(&config)));
    }
    scorers
});

pub(super) fn transformer(attention: &Value) -> Value {
    let mut config = json!({"model_type": "crocuta-transformer", "hidden_size": 24,
        "num_layers": 2, "num_heads": 3, "initializer_range": 0.5});
    let changes = attention.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(changes);
    config
}

pub(super) fn load(folder: &Path) -> Scorer {
    let checkpoint = Checkpoint::open(folder).unwrap();
    let (model, facts) = Model::load(&checkpoint).unwrap();
    let head = LanguageModel::load(&checkpoint, &model, &facts).unwrap();
    let engine = Engine {
        model,
        facts,
        device: Device::Cpu,
        layers: vec![Layer::Norm],
    };
    Scorer { engine, head }
}

pub(super) fn made(config: &Value) -> Scorer {
    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("model");
    let config = Config::parse("config.json", &config.to_string()).unwrap();
    create(&config, 7, &target, u64::MAX).unwrap();
    load(&target)
}

pub(super) fn settings(mode: Mode, after: usize, chunk: usize) -> Settings {
    Settings {
        mode,
        after,
        context: None,
        around: 9,
        longest: 50,
        both_strands: false,
        four: false,
        embeddings: None,
        shard: false,
        chunk,
        scratch: std::env::temp_dir(),
    }
}

pub(super) fn bases(length: usize, seed: usize) -> Vec<u8> {
    let base = |i: usize| ((i * i + seed * i * 3 + i / 3 + i / 7) % 4) as u8;
    (0..length).map(base).collect()
}

pub(super) fn change(codes: &[u8], start: usize, removed: usize, alternate: &[u8]) -> Variant {
    Variant {
        start: start as u64,
        reference: codes[start..start + removed].to_vec(),
        alternate: alternate.to_vec(),
    }
}

/// All kinds of changes, at both ends and between, several within one suffix.
pub(super) fn changes(codes: &[u8]) -> Vec<Variant> {
    let other = |i: usize| (codes[i] + 1) % 4;
    let last = codes.len() - 1;
    let mut changes = vec![
        change(codes, 0, 1, &[other(0)]),
        change(codes, 0, 2, &[]),
        change(codes, 0, 0, &[1, 2, 3]),
        change(codes, 1, 1, &[other(1)]),
        change(codes, 40, 1, &[other(40)]),
        change(codes, 40, 1, &[(codes[40] + 2) % 4]),
        change(codes, 41, 3, &[other(41), other(42), other(43)]),
        change(codes, 43, 30, &[]),
        change(codes, 44, 0, &bases(37, 9)),
        change(codes, 47, 2, &[other(47), 0, 3, 1]),
        change(codes, 129, 1, &[other(129)]),
        change(codes, 131, 1, &[]),
        change(codes, 257, 4, &[2]),
        change(codes, last - 1, 2, &[]),
        change(codes, last, 1, &[other(last)]),
        change(codes, last + 1, 0, &[0, 1]),
    ];
    changes.sort_by_key(|variant| variant.start);
    changes
}

/// The scores of variants in order, and how many bases went through the encoder.
pub(super) fn run(
    scorer: &Scorer,
    settings: &Settings,
    codes: &[u8],
    reverse: bool,
    variants: &[Variant],
) -> (Vec<Scores>, u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.fa");
    let text: String = codes
        .iter()
        .map(|&code| LETTERS[usize::from(code)])
        .collect();
    std::fs::write(&path, format!(">a\n{text}\n")).unwrap();
    let reference = Reference::open(&path, false).unwrap();
    let mut found = vec![None; variants.len()];
    let mut work = 0;
    let scratch = directory.path().to_path_buf();
    let settings = Settings {
        scratch: scratch.clone(),
        ..settings.clone()
    };
    reference
        .each(&[vec![0]], &scratch, |contig, _| {
            let jobs = variants.iter().enumerate().map(|(i, variant)| {
                Ok(Job {
                    variant: variant.clone(),
                    entries: vec![i],
                })
            });
            let mut watch = |bases: u64, _: &str| {
                work += bases;
                Ok(())
            };
            let scorer = score::Scorer {
                engine: &scorer.engine,
                head: &scorer.head,
            };
            score::score(
                scorer,
                &settings,
                &contig.strand(reverse),
                jobs,
                &mut watch,
                &mut |job, scores| {
                    for i in job.entries {
                        found[i] = Some(scores.clone());
                    }
                    Ok(())
                },
            )
        })
        .unwrap();
    (found.into_iter().map(Option::unwrap).collect(), work)
}
