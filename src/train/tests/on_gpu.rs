//! Training on a GPU against training on the CPU.

use crate::checkpoint::{self, Config};
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::ops::cuda::Gpu;
use crate::ops::testing::{apart, close};
use crate::ops::{Device, Tensor};
use crate::sequence::Segment;
use crate::sequence::region::Query;
use crate::train::*;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const STEPS: u64 = 6;

/// Rows of a lane in a step: sequences are longer.
const CHUNK: u64 = 40;

/// Architectures that train on a GPU, at sizes for tests.
const MODELS: [(&str, &str); 6] = [
    (
        "crocuta-bacteria",
        r#"{"hidden_size": 16, "num_filters": 16, "num_attention_heads": 2, "inner_mlp_size": 20,
            "hcl_filter_groups": 16, "hcm_filter_groups": 4, "hcs_filter_groups": 16,
            "hcm_filter_length": 24, "attention_window": 30, "state_size": 4, "num_layers": 4,
            "hcs_layer_idxs": [0], "hcm_layer_idxs": [1], "hcl_layer_idxs": [2],
            "attn_layer_idxs": [3]}"#,
    ),
    (
        "s4d-d256-l8",
        r#"{"d_model": 16, "d_state": 8, "n_layer": 2}"#,
    ),
    // Its head is the embedding, divided by a temperature.
    (
        "s4d-d256-l8",
        r#"{"d_model": 16, "d_state": 8, "n_layer": 1, "_crocuta_temperature": 1.25}"#,
    ),
    (
        "transformer-d256-l8",
        r#"{"hidden_size": 16, "inner_size": 24, "num_heads": 2, "num_layers": 2}"#,
    ),
    (
        "mamba-d256-l16",
        r#"{"hidden_size": 8, "intermediate_size": 12, "state_size": 4, "time_step_rank": 4,
            "num_hidden_layers": 2}"#,
    ),
    (
        "mamba2-d256-l16",
        r#"{"hidden_size": 8, "num_heads": 4, "head_dim": 4, "n_groups": 2, "state_size": 4,
            "num_hidden_layers": 2}"#,
    ),
];

/// Another one. On the CPU it carries sums of convolutions with the filters of the steps before, on a
/// GPU the inputs themselves: in training they agree where no sequence goes on in a later step.
const HYENADNA: (&str, &str) = (
    "hyenadna-tiny-1k",
    r#"{"d_model": 8, "d_inner": 16, "filter_order": 4, "max_seq_len": 120, "n_layer": 1}"#,
);

fn trainee((preset, changes): (&str, &str)) -> Trainee {
    let mut config = checkpoint::preset(preset).unwrap();
    config.extend(serde_json::from_str::<Map<String, Value>>(changes).unwrap());
    let config = Config::new("test", config);
    let start = checkpoint::untrained(config, 1, Path::new("test"), 1 << 30).unwrap();
    Trainee::new(start, None, Trained::All, 1).unwrap()
}

fn objective(dir: &Path, chunk: u64) -> NextBase {
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
        chunk,
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
fn train(model: (&str, &str), chunk: u64, device: &Device, stop: Option<u64>) -> Result<Left> {
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
        let mut trainee = trainee(model);
        trainee.run_on(vec![device.clone()]);
        let mut objective = objective(dir.path(), chunk);
        let mut saving = Saving::open(&out, Map::new(), Duration::from_secs(999), true)?;
        let outcome = crate::train::run(
            &mut trainee,
            &mut objective,
            &plan,
            Some(&mut saving),
            &mut |report| {
                losses.extend(report.loss);
                if stop == Some(report.step) {
                    Err(Error::usage("stopped"))
                } else {
                    Ok(())
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
    assert!(a.values.keys().eq(b.values.keys()));
    let values = |left: &Left| -> Vec<f32> { left.values.values().flatten().copied().collect() };
    [
        apart(&a.losses, &b.losses),
        apart(&values(a), &values(b)),
        apart(&a.scores, &b.scores),
    ]
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_gpu_trains_to_the_cpu_s_weights_and_always_to_the_same() {
    let device = |rounded| Device::Cuda(Gpu::open(0, rounded).unwrap());
    let models = MODELS.map(|model| (model, CHUNK));
    for (model, chunk) in models.into_iter().chain([(HYENADNA, 200)]) {
        let cpu = train(model, chunk, &Device::Cpu, None).unwrap();
        assert!(cpu.losses[STEPS as usize - 1] < cpu.losses[0] - 0.1);
        for (rounded, bounds) in [(false, [2e-5, 2e-4, 2e-5]), (true, [2e-2, 3e-2, 2e-2])] {
            let whole = train(model, chunk, &device(rounded), None).unwrap();
            let found = far(&whole, &cpu);
            println!("{}, rounded {rounded}: {found:?}", model.0);
            assert!(
                found.iter().zip(bounds).all(|(x, most)| *x <= most),
                "losses, weights and scores of {} differ by {found:?}",
                model.0
            );
            let resumed = train(model, chunk, &device(rounded), Some(4)).unwrap();
            assert_eq!(far(&resumed, &whole), [0.0; 3]);
            assert_eq!(resumed.values, whole.values);
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn what_a_convolution_carries_on_a_gpu_is_resumed() {
    let device = Device::Cuda(Gpu::open(0, false).unwrap());
    let whole = train(HYENADNA, CHUNK, &device, None).unwrap();
    let resumed = train(HYENADNA, CHUNK, &device, Some(4)).unwrap();
    assert_eq!(far(&resumed, &whole), [0.0; 3]);
    assert_eq!(resumed.values, whole.values);
}

#[test]
#[ignore = "needs a CUDA device"]
fn gradients_of_a_bidirectional_encoder_equal_the_cpu_s() {
    let mamba = r#"{"d_model": 8, "n_layer": 2, "ssm_cfg": {"d_state": 3, "dt_rank": 2}}"#;
    let mamba2 = r#"{"d_model": 8, "n_layer": 2,
        "ssm_cfg": {"layer": "Mamba2", "d_state": 3, "headdim": 4}}"#;
    let whole = |len| Segment {
        lane: 0,
        len,
        starts: true,
        ends: true,
    };
    let segments = [whole(70), whole(30)];
    let [ph, ps] = ["caduceus-ph-1k", "caduceus-ps-1k"];
    for (preset, changes) in [(ph, mamba), (ps, mamba), (ps, mamba2)] {
        let gradients = |device: Device| -> BTreeMap<String, Vec<f32>> {
            let mut trainee = trainee((preset, changes));
            trainee.run_on(vec![device.clone()]);
            let network = trainee.network(true).unwrap();
            let tokens: Vec<u32> = (0..100).map(|i| 7 + (i * i + i / 7) % 4).collect();
            let tokens = Tensor::from_vec(tokens, 100, &device).unwrap();
            let mut state = network.model.start(1).unwrap();
            let out = network.model.forward(&tokens, &segments, &mut state);
            let out = out.unwrap();
            let seed = (0..out.elem_count()).map(|i| (i as f32 * 1.7).sin());
            let seed = Tensor::from_vec(seed.collect(), out.dims(), &device).unwrap();
            let found = out.backward(seed).unwrap();
            let parameters = network.parameters.iter();
            let found = parameters.filter_map(|(name, x)| Some((name, found.of(x)?)));
            found
                .map(|(name, x)| (name.clone(), x.to_vec1().unwrap()))
                .collect()
        };
        let expected = gradients(Device::Cpu);
        let found = gradients(Device::Cuda(Gpu::open(0, false).unwrap()));
        assert!(expected.len() > 20 && found.keys().eq(expected.keys()));
        for (name, expected) in &expected {
            close(&format!("{preset}, {name}"), &found[name], expected, 2e-5);
        }
    }
}

/// Where the time of a step goes: `cargo test --release --lib -- --ignored speed_of_training
/// --nocapture`.
#[test]
#[ignore = "needs a CUDA device"]
fn speed_of_training() {
    const BASES: usize = 1 << 17;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("g.fa");
    let letters = |n: usize| ["A", "C", "G", "T"][n * n % 7 % 4];
    let text: String = (0..8 * BASES).map(letters).collect();
    std::fs::write(&path, format!(">a\n{text}\n")).unwrap();
    let bacteria = ("crocuta-bacteria", "{}");
    let short = ("hyenadna-tiny-1k-d256", r#"{"n_layer": 4}"#);
    let long = ("hyenadna-small-32k", "{}");
    let mamba = ("mamba-d256-l16", r#"{"num_hidden_layers": 4}"#);
    // Passages of the first model are longer than a chunk.
    for (model, rounded, [lanes, chunk, length]) in [
        (bacteria, false, [32, BASES / 32, 1 << 16]),
        (bacteria, true, [32, BASES / 32, 1 << 16]),
        (bacteria, true, [4, BASES / 4, 1 << 16]),
        (short, false, [8, 1 << 10, 1 << 10]),
        (short, true, [8, 1 << 10, 1 << 10]),
        (long, true, [4, 1 << 15, 1 << 15]),
        (mamba, false, [8, 1 << 10, 1 << 10]),
        (mamba, true, [8, 1 << 10, 1 << 10]),
        (mamba, true, [4, 1 << 15, 1 << 15]),
    ] {
        let sizes = Sizes {
            length: length as u64,
            chunk: chunk as u64,
            batch: lanes,
            parts: 1,
        };
        let draws = Draws {
            both: true,
            corrupt: 0.05,
            seed: 1,
        };
        let genomes = Genomes::read(std::slice::from_ref(&path)).unwrap();
        let mut objective = NextBase::new(genomes, [vec![], vec![]], sizes, draws).unwrap();
        let gpu = Gpu::open(0, rounded).unwrap();
        let mut trainee = trainee(model);
        trainee.run_on(vec![Device::Cuda(gpu.clone())]);
        for step in 0..6 {
            let mut times = vec![Instant::now()];
            let network = trainee.network(true).unwrap();
            times.push(Instant::now());
            objective.draw(1).unwrap();
            let loss = objective.loss(&network, 0).unwrap();
            times.push(Instant::now());
            let gradients = loss.output.backward(loss.seed).unwrap();
            let parameters = network.parameters.values();
            let found = parameters.filter(|x| gradients.of(x).is_some()).count();
            assert_eq!(found, network.parameters.len());
            times.push(Instant::now());
            let times = times
                .windows(2)
                .map(|pair| (pair[1] - pair[0]).as_secs_f64());
            let times: Vec<f64> = times.collect();
            let rate = loss.bases as f64 / times.iter().sum::<f64>();
            println!(
                "{}, rounded {rounded}, {lanes} × {chunk}, step {step}: model {:.1} ms, forward {:.1} ms, \
                 backward {:.1} ms, {:.2} M bases a second, {:.1} GB",
                model.0,
                times[0] * 1e3,
                times[1] * 1e3,
                times[2] * 1e3,
                rate / 1e6,
                gpu.peak_memory().unwrap() as f64 / 1e9,
            );
        }
    }
}
