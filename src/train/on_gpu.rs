//! Training on a GPU against training on the CPU.

use super::*;
use crate::checkpoint::{self, Config};
use crate::error::{Error, Result};
use crate::ops::Device;
use crate::ops::cuda::Gpu;
use crate::sequence::region::Query;
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const STEPS: u64 = 6;

/// The bundled model's architecture, at a size for tests.
fn trainee() -> Trainee {
    let mut config = checkpoint::preset("crocuta-bacteria").unwrap();
    for (key, value) in [
        ("hidden_size", json!(16)),
        ("num_filters", json!(16)),
        ("hcl_filter_groups", json!(16)),
        ("hcm_filter_groups", json!(4)),
        ("hcs_filter_groups", json!(16)),
        ("hcm_filter_length", json!(24)),
        ("inner_mlp_size", json!(20)),
        ("num_attention_heads", json!(2)),
        ("attention_window", json!(30)),
        ("num_layers", json!(4)),
        ("hcs_layer_idxs", json!([0])),
        ("hcm_layer_idxs", json!([1])),
        ("hcl_layer_idxs", json!([2])),
        ("attn_layer_idxs", json!([3])),
    ] {
        config.insert(key.to_string(), value);
    }
    let config = Config::new("test", config);
    let start = checkpoint::untrained(config, 1, Path::new("test"), 1 << 30).unwrap();
    Trainee::new(start, None, Trained::All, 1).unwrap()
}

fn objective(dir: &Path) -> NextBase {
    let path = dir.join("g.fa");
    let bases = |n: u64| -> String {
        let letter = |i: u64| ['A', 'C', 'G', 'T'][(i * i % 7 % 4) as usize];
        (0..n).map(letter).collect()
    };
    std::fs::write(&path, format!(">a\n{}\n>b\n{}\n", bases(2000), bases(400))).unwrap();
    let genomes = Genomes::read(&[path]).unwrap();
    let held = ["b:1-150", "b:300-400"].map(|text| {
        let query = Query::parse(text).unwrap();
        genomes.held_out(&[query]).unwrap()
    });
    let sizes = Sizes {
        length: 150,
        chunk: 40,
        batch: 3,
        parts: 2,
    };
    let draws = Draws {
        both: true,
        corrupt: 0.1,
        seed: 7,
    };
    NextBase::new(genomes, held, sizes, draws).unwrap()
}

/// What a run leaves: the losses of its steps, its parameters, and its scores.
struct Left {
    losses: Vec<f64>,
    values: BTreeMap<String, Vec<f32>>,
    scores: [f64; 2],
}

/// Trains; stops after `stop` steps and goes on from what was saved, if told so.
fn train(device: &Device, stop: Option<u64>) -> Result<Left> {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan {
        schedule: Schedule {
            peak: 1e-2,
            warm_up: 2,
            steps: STEPS,
            last: 0.1,
        },
        parts: 2,
        decay: 0.1,
        clip: 1.0,
        evaluate_every: 3,
        patience: None,
    };
    let mut losses = Vec::new();
    let out = dir.path().join("out");
    let mut run = |stop: Option<u64>| {
        let mut trainee = trainee();
        trainee.run_on(device.clone());
        let mut objective = objective(dir.path());
        let mut saving = Saving::open(&out, Map::new(), Duration::from_secs(999), true)?;
        let outcome = super::run(
            &mut trainee,
            &mut objective,
            &plan,
            &mut saving,
            &mut |report| {
                losses.push(report.loss);
                match stop == Some(report.step) {
                    true => Err(Error::usage("stopped")),
                    false => Ok(()),
                }
            },
        )?;
        let test = objective.test(&trainee.network(false)?)?;
        let scores = [outcome.evaluation, test].map(|found| found.unwrap().score);
        Ok((trainee.values, scores))
    };
    if stop.is_some() {
        assert!(run(stop).is_err_and(|e: Error| e.to_string().contains("stopped")));
    }
    let (values, scores) = run(None)?;
    Ok(Left {
        losses,
        values,
        scores,
    })
}

fn far(a: &Left, b: &Left) -> [f64; 3] {
    let largest = |pairs: &mut dyn Iterator<Item = (f64, f64)>| {
        pairs.fold(0.0, |most, (x, y)| f64::max(most, (x - y).abs()))
    };
    assert_eq!(
        (a.losses.len(), a.values.len()),
        (b.losses.len(), b.values.len())
    );
    let values = |left: &Left| {
        let values = left.values.values().flatten();
        values.map(|x| f64::from(*x)).collect::<Vec<_>>()
    };
    [
        largest(&mut a.losses.iter().copied().zip(b.losses.iter().copied())),
        largest(&mut values(a).into_iter().zip(values(b))),
        largest(&mut a.scores.into_iter().zip(b.scores)),
    ]
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_gpu_trains_to_the_cpu_s_weights_and_always_to_the_same() {
    let cpu = train(&Device::Cpu, None).unwrap();
    assert!(cpu.losses[STEPS as usize - 1] < cpu.losses[0] - 0.1);
    let device = |rounded| Device::Cuda(Gpu::open(0, rounded).unwrap());
    for (rounded, bounds) in [(false, [2e-5, 2e-4, 2e-5]), (true, [2e-2, 3e-2, 2e-2])] {
        let whole = train(&device(rounded), None).unwrap();
        let found = far(&whole, &cpu);
        println!("rounded {rounded}: losses, weights and scores differ by {found:?}");
        assert!(
            found.iter().zip(bounds).all(|(x, most)| *x <= most),
            "{found:?}"
        );
        let resumed = train(&device(rounded), Some(4)).unwrap();
        assert_eq!(far(&resumed, &whole), [0.0; 3]);
        assert_eq!(resumed.values, whole.values);
    }
}
