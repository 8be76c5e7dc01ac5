//! Caduceus and Mamba by plain loops in f64, for what published models with outputs do not cover:
//! PlantCaduceus' layout, multiplied directions, layer norms, norms that are not fused.

use super::folder;
use candle_core::{Device, Tensor};
use crocuta::checkpoint::Checkpoint;
use crocuta::encoder::{Encoder, Model, Segment};
use crocuta::head::LanguageModel;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Values (T, D).
type Rows = Vec<Vec<f64>>;

const WIDTH: usize = 12;
const INNER: usize = 24;
const STATES: usize = 5;
const RANK: usize = 3;
const TAPS: usize = 4;
const LAYERS: usize = 3;
const LETTERS: usize = 8;

/// The tensors of a model by name: values that look random, and their shapes.
#[derive(Default)]
struct Tensors(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Tensors {
    /// Adds values around `centre`.
    fn add(&mut self, name: String, shape: &[usize], scale: f64, centre: f64) {
        let seed = self.0.len() as f64;
        let n = shape.iter().product::<usize>();
        let value = |i: usize| {
            f64::from(
                (((i * i) as f64 * 0.37 + i as f64 * 1.7 + seed).sin() * scale + centre) as f32,
            )
        };
        self.0
            .insert(name, (shape.to_vec(), (0..n).map(value).collect()));
    }

    fn norm(&mut self, at: String, rms: bool) {
        self.add(format!("{at}.weight"), &[WIDTH], 0.3, 1.0);
        if !rms {
            self.add(format!("{at}.bias"), &[WIDTH], 0.3, 0.0);
        }
    }

    /// A mixer; the projections in and out unless they are `tied` to another's.
    fn mixer(&mut self, at: &str, tied: bool) {
        self.add(format!("{at}.A_log"), &[INNER, STATES], 1.0, 0.0);
        self.add(format!("{at}.D"), &[INNER], 1.0, 0.0);
        self.add(format!("{at}.conv1d.weight"), &[INNER, 1, TAPS], 0.5, 0.0);
        self.add(format!("{at}.conv1d.bias"), &[INNER], 0.5, 0.0);
        let rows = RANK + 2 * STATES;
        self.add(format!("{at}.x_proj.weight"), &[rows, INNER], 0.3, 0.0);
        self.add(format!("{at}.dt_proj.weight"), &[INNER, RANK], 0.5, 0.0);
        self.add(format!("{at}.dt_proj.bias"), &[INNER], 1.0, -1.0);
        if !tied {
            self.add(
                format!("{at}.in_proj.weight"),
                &[2 * INNER, WIDTH],
                0.5,
                0.0,
            );
            self.add(format!("{at}.out_proj.weight"), &[WIDTH, INNER], 0.5, 0.0);
        }
    }

    fn get(&self, name: &str) -> &[f64] {
        &self.0.get(name).unwrap_or_else(|| panic!("{name}")).1
    }

    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Hidden vectors and logits of the program for these tokens.
    fn run(&self, config: &Value, tokens: &[u32]) -> (Rows, Rows) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
        let tensors = self.0.iter().map(|(name, (shape, values))| {
            let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
            let tensor = Tensor::from_vec(values, &shape[..], &Device::Cpu).unwrap();
            (name.clone(), tensor)
        });
        let tensors: HashMap<_, _> = tensors.collect();
        let path = dir.path().join("model.safetensors");
        candle_core::safetensors::save(&tensors, path).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        let (model, facts) = Model::load(&checkpoint).unwrap();
        let head = LanguageModel::load(&checkpoint, &model, &facts).unwrap();
        assert_eq!(checkpoint.unused(), Vec::<String>::new());
        let segment = Segment {
            lane: 0,
            len: tokens.len(),
            starts: true,
            ends: true,
        };
        let tokens = Tensor::new(tokens, &Device::Cpu).unwrap();
        let mut state = model.start(1).unwrap();
        let hidden = model
            .forward(&tokens.into(), &[segment], &mut state)
            .unwrap();
        let logits = head.forward(&hidden).unwrap();
        let rows = |x: &Tensor| -> Rows {
            let rows = x.to_vec2::<f32>().unwrap().into_iter();
            rows.map(|row| row.into_iter().map(f64::from).collect())
                .collect()
        };
        (
            rows(&hidden.stored().unwrap()),
            rows(&logits.stored().unwrap()),
        )
    }
}

fn close(found: &Rows, expected: &Rows, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    crate::compare::close(what, &found.concat(), &expected.concat(), 1e-5);
}

/// `weight` (rows, columns) times x.
fn product(weight: &[f64], x: &[f64]) -> Vec<f64> {
    let dot = |row: &[f64]| row.iter().zip(x).map(|(a, b)| a * b).sum();
    weight.chunks_exact(x.len()).map(dot).collect()
}

fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

fn norm(t: &Tensors, at: &str, rows: &Rows) -> Rows {
    let (weight, bias) = (format!("{at}.weight"), format!("{at}.bias"));
    let layer = t.has(&bias);
    let normal = |row: &Vec<f64>| -> Vec<f64> {
        let n = row.len() as f64;
        let mean = if layer {
            row.iter().sum::<f64>() / n
        } else {
            0.0
        };
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
        let scaled = row.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt());
        let weighted = scaled.zip(t.get(&weight)).map(|(x, w)| x * w);
        if layer {
            weighted.zip(t.get(&bias)).map(|(x, b)| x + b).collect()
        } else {
            weighted.collect()
        }
    };
    rows.iter().map(normal).collect()
}

/// One mixer from the first row to the last: notes of Gu & Dao, section 3.
fn mixer(t: &Tensors, at: &str, projections: &str, x: &Rows) -> Rows {
    let get = |name: &str| t.get(&format!("{at}.{name}"));
    let into = t.get(&format!("{projections}.in_proj.weight"));
    let projected: Rows = x.iter().map(|x| product(into, x)).collect();
    let mut h = vec![[0.0; STATES]; INNER];
    let mut out = Vec::new();
    for now in 0..x.len() {
        let convolved = (0..INNER).map(|c| {
            let taps = get("conv1d.weight")[c * TAPS..][..TAPS].iter().enumerate();
            let past = taps.filter(|(j, _)| now + j + 1 >= TAPS);
            let sum: f64 = past
                .map(|(j, w)| w * projected[now + j + 1 - TAPS][c])
                .sum();
            silu(sum + get("conv1d.bias")[c])
        });
        let u: Vec<f64> = convolved.collect();
        let selected = product(get("x_proj.weight"), &u);
        let (dt, bc) = selected.split_at(RANK);
        let (b, c) = bc.split_at(STATES);
        let steps = product(get("dt_proj.weight"), dt);
        let mut y = Vec::new();
        for i in 0..INNER {
            let step = (steps[i] + get("dt_proj.bias")[i]).exp().ln_1p();
            let mut sum = get("D")[i] * u[i];
            for n in 0..STATES {
                let decay = (-step * get("A_log")[i * STATES + n].exp()).exp();
                h[i][n] = decay * h[i][n] + step * u[i] * b[n];
                sum += h[i][n] * c[n];
            }
            y.push(sum * silu(projected[now][INNER + i]));
        }
        out.push(product(
            t.get(&format!("{projections}.out_proj.weight")),
            &y,
        ));
    }
    out
}

fn added(a: &Rows, b: &Rows, multiply: bool) -> Rows {
    let both = |a: &f64, b: &f64| if multiply { a * b } else { a + b };
    let rows = a.iter().zip(b);
    rows.map(|(a, b)| a.iter().zip(b).map(|(a, b)| both(a, b)).collect())
        .collect()
}

fn flipped(x: &Rows) -> Rows {
    x.iter().rev().cloned().collect()
}

/// Rows and channels in reverse order.
fn turned(x: &Rows) -> Rows {
    let row = |row: &Vec<f64>| row.iter().rev().copied().collect();
    x.iter().rev().map(row).collect()
}

/// A Caduceus model and how it is saved.
struct Caduceus {
    prefix: &'static str,
    per_strand: bool,
    fused: bool,
    rms: bool,
    multiply: bool,
}

/// PlantCaduceus' letters: 3 with 6, 4 with 5.
fn complement(token: usize) -> usize {
    if (3..7).contains(&token) {
        9 - token
    } else {
        token
    }
}

impl Caduceus {
    fn config(&self) -> Value {
        let complements = (0..LETTERS).map(|token| (token.to_string(), json!(complement(token))));
        json!({
            "model_type": "caduceus", "d_model": WIDTH, "n_layer": LAYERS, "vocab_size": LETTERS,
            "rcps": self.per_strand, "fused_add_norm": self.fused, "rms_norm": self.rms,
            "bidirectional_strategy": if self.multiply { "ew_multiply" } else { "add" },
            "residual_in_fp32": true, "initializer_cfg": null,
            "complement_map": Value::Object(complements.collect()),
            "ssm_cfg": {"d_state": STATES, "dt_rank": RANK, "expand": 2},
        })
    }

    /// Where a layer's mixer is, and its norm.
    fn names(&self, layer: usize) -> (String, String) {
        let at = format!("{}layers.{layer}", self.prefix);
        let (inside, norm) = match (self.per_strand, self.fused) {
            (true, true) => (".submodule", ""),
            (true, false) => (".submodule", ".submodule"),
            (false, _) => ("", ""),
        };
        (format!("{at}.mixer{inside}"), format!("{at}.norm{norm}"))
    }

    fn words(&self) -> String {
        let inside = if self.per_strand { ".embedding" } else { "" };
        format!("{}embeddings.word_embeddings{inside}.weight", self.prefix)
    }

    fn last(&self) -> String {
        let norm = if self.per_strand && !self.fused {
            ".submodule"
        } else {
            ""
        };
        format!("{}norm_f{norm}", self.prefix)
    }

    fn tensors(&self) -> Tensors {
        let mut t = Tensors::default();
        t.add(self.words(), &[LETTERS, WIDTH], 1.0, 0.0);
        for layer in 0..LAYERS {
            let (mixer, norm) = self.names(layer);
            t.norm(norm, self.rms);
            t.mixer(&format!("{mixer}.mamba_fwd"), false);
            t.mixer(&format!("{mixer}.mamba_rev"), true);
        }
        t.norm(self.last(), self.rms);
        t
    }

    /// Hidden vectors and logits.
    fn expected(&self, t: &Tensors, tokens: &[u32]) -> (Rows, Rows) {
        let words = t.get(&self.words());
        let word = |token: usize| words[token * WIDTH..][..WIDTH].to_vec();
        let f: Rows = tokens.iter().map(|&id| word(id as usize)).collect();
        let other = tokens.iter().rev();
        let g: Rows = other.map(|&id| word(complement(id as usize))).collect();
        let mut strands = if self.per_strand { vec![f, g] } else { vec![f] };
        for layer in 0..LAYERS {
            let (mixers, normed) = self.names(layer);
            if self.per_strand && self.fused {
                // The fused norm reads, and keeps, the other strand.
                strands = vec![turned(&strands[1]), turned(&strands[0])];
            }
            let both = |x: &Rows| {
                let y = norm(t, &normed, x);
                let (fwd, rev) = (format!("{mixers}.mamba_fwd"), format!("{mixers}.mamba_rev"));
                let right = mixer(t, &fwd, &fwd, &y);
                let left = flipped(&mixer(t, &rev, &fwd, &flipped(&y)));
                added(x, &added(&right, &left, self.multiply), false)
            };
            strands = strands.iter().map(both).collect();
        }
        let last: Vec<Rows> = strands.iter().map(|x| norm(t, &self.last(), x)).collect();
        let logits = |x: &Rows| -> Rows { x.iter().map(|x| product(words, x)).collect() };
        let [f, g] = &last[..] else {
            return (last[0].clone(), logits(&last[0]));
        };
        let pairs = f.iter().zip(turned(g));
        let hidden = pairs.map(|(f, g)| [f.as_slice(), &g].concat()).collect();
        let other = logits(&flipped(g)).into_iter().map(|row| {
            let row = (0..LETTERS).map(|token| row[complement(token)]);
            row.collect()
        });
        (hidden, added(&logits(f), &other.collect(), false))
    }
}

fn letters() -> Vec<u32> {
    (0..40).map(|i| 3 + (i * i / 3 % 4) as u32).collect()
}

#[test]
fn caduceus_in_unpublished_combinations_equals_plain_loops() {
    for (prefix, per_strand, fused, rms, multiply) in [
        // PlantCaduceus.
        ("backbone.", true, true, true, false),
        ("caduceus.backbone.", true, true, false, true),
        ("caduceus.backbone.", true, false, true, true),
        ("backbone.", true, false, false, false),
        ("model.caduceus.backbone.", false, true, true, true),
        ("", false, true, false, false),
    ] {
        let model = Caduceus {
            prefix,
            per_strand,
            fused,
            rms,
            multiply,
        };
        let tensors = model.tensors();
        let (hidden, logits) = tensors.run(&model.config(), &letters());
        let (expected, expected_logits) = model.expected(&tensors, &letters());
        close(&hidden, &expected, &format!("hidden {:?}", model.config()));
        close(
            &logits,
            &expected_logits,
            &format!("logits {:?}", model.config()),
        );
    }
}

#[test]
fn mamba_ssm_with_layer_norms_below_a_prefix_equals_plain_loops() {
    let config = json!({
        "d_model": WIDTH, "n_layer": LAYERS, "vocab_size": 7, "pad_vocab_size_multiple": 8,
        "rms_norm": false, "fused_add_norm": false, "residual_in_fp32": false,
        "tie_embeddings": true, "ssm_cfg": {"layer": "Mamba1", "d_state": STATES, "dt_rank": RANK},
    });
    let mut t = Tensors::default();
    let backbone = "model.backbone";
    t.add(
        format!("{backbone}.embedding.weight"),
        &[LETTERS, WIDTH],
        1.0,
        0.0,
    );
    for layer in 0..LAYERS {
        t.norm(format!("{backbone}.layers.{layer}.norm"), false);
        t.mixer(&format!("{backbone}.layers.{layer}.mixer"), false);
    }
    t.norm(format!("{backbone}.norm_f"), false);
    t.add("model.lm_head.weight".into(), &[LETTERS, WIDTH], 0.7, 0.1);
    let words = t.get("model.backbone.embedding.weight");
    let word = |id: &u32| words[*id as usize * WIDTH..][..WIDTH].to_vec();
    let mut x: Rows = letters().iter().map(word).collect();
    for layer in 0..LAYERS {
        let at = format!("{backbone}.layers.{layer}");
        let at_mixer = format!("{at}.mixer");
        let y = mixer(
            &t,
            &at_mixer,
            &at_mixer,
            &norm(&t, &format!("{at}.norm"), &x),
        );
        x = added(&x, &y, false);
    }
    let expected = norm(&t, &format!("{backbone}.norm_f"), &x);
    let head = t.get("model.lm_head.weight");
    let expected_logits = expected.iter().map(|x| product(head, x)).collect();
    let (hidden, logits) = t.run(&config, &letters());
    close(&hidden, &expected, "hidden");
    close(&logits, &expected_logits, "logits");
}

#[test]
fn a_head_that_is_not_tied_must_be_stored() {
    let checkpoint = Checkpoint::open(&folder("mamba1-untied")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(checkpoint.dir.join(name), dir.path().join(name)).unwrap();
    }
    let path = dir.path().join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    tensors.remove("lm_head.weight").unwrap();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let (model, facts) = Model::load(&checkpoint).unwrap();
    let error = LanguageModel::load(&checkpoint, &model, &facts)
        .err()
        .unwrap();
    assert_eq!(error.exit_code(), 4);
    assert!(error.to_string().contains("lm_head.weight"), "{error}");
}
