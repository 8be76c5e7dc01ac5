//! The folded exchange of strands, and what loading accepts.

use super::*;
use crate::checkpoint::Checkpoint;
use crate::ops::Device;
use crate::ops::testing::{apart, close};

fn checkpoint(name: &str) -> Checkpoint {
    let goldens = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens");
    Checkpoint::open(format!("{goldens}/{name}").as_ref()).unwrap()
}

/// The reverse complement: rows and channels in reverse order.
fn turned(x: &Tensor) -> Tensor {
    x.flip(0).unwrap().flip(1).unwrap()
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.to_vec1().unwrap()
}

#[test]
fn any_number_of_layers_equals_exchanging_the_strands_before_each() {
    let caduceus = ["caduceus-ps", "caduceus-ps-mamba2"];
    for (name, layers) in caduceus
        .into_iter()
        .flat_map(|name| (1..=3).map(move |n| (name, n)))
    {
        let checkpoint = checkpoint(name);
        let mut sizes = Hyperparameters::read(&checkpoint.config).unwrap();
        sizes.layers = layers;
        let folded = Model::load(&sizes, &checkpoint.weights).unwrap();
        sizes.exchange = false;
        let plain = Model::load(&sizes, &checkpoint.weights).unwrap();
        let ids: Vec<u32> = (0..50).map(|i| 7 + i * i % 5).collect();
        let segment = Segment {
            lane: 0,
            len: ids.len(),
            starts: true,
            ends: true,
        };
        let tokens = Tensor::new(&ids[..], &Device::Cpu).unwrap();
        let found = folded.forward(&tokens, &[segment], &mut State).unwrap();

        let complement = plain.complement().unwrap();
        let other: Vec<u32> = ids.iter().rev().map(|&i| complement[i as usize]).collect();
        let other = Tensor::new(other, &Device::Cpu).unwrap();
        let mut f = plain.embedding.index_select(&tokens, 0).unwrap();
        let mut g = plain.embedding.index_select(&other, 0).unwrap();
        for block in &plain.blocks {
            (f, g) = (turned(&g), turned(&f));
            let run = |x: &Tensor| block.forward(x, &[segment]).unwrap();
            (f, g) = (run(&f), run(&g));
        }
        let (f, g) = (plain.norm.forward(&f), plain.norm.forward(&g));
        let expected = Tensor::cat(&[f.unwrap(), turned(&g.unwrap())], 1).unwrap();
        assert!(
            apart(&flat(&found), &flat(&expected)) < 2e-5,
            "{name}, {layers} layers"
        );
    }
}

#[test]
fn tiles_give_the_same_with_odd_layers_multiplied_directions_and_biases() {
    for (name, layers, multiply) in [
        ("caduceus-ps", 1, false),
        ("caduceus-ps", 3, true),
        ("caduceus-ph", 2, true),
        ("caduceus-ph", 2, false),
        ("caduceus-ps-mamba2", 3, false),
        ("caduceus-ps-mamba2", 2, true),
    ] {
        let checkpoint = checkpoint(name);
        let mut sizes = Hyperparameters::read(&checkpoint.config).unwrap();
        (sizes.layers, sizes.multiply) = (layers, multiply);
        match &mut sizes.mixer {
            MixerSizes::Mamba(mixer) => mixer.bias = true,
            MixerSizes::Mamba2(mixer) => mixer.bias = true,
        }
        let mut tensors = checkpoint.weights.stored().clone();
        for name in checkpoint
            .weights
            .names()
            .filter(|name| !name.ends_with("_map"))
        {
            let shape = checkpoint.weights.shape(name).unwrap();
            let tensor = checkpoint.weights.tensor(name, shape).unwrap();
            if name.ends_with("in_proj.weight") || name.ends_with("out_proj.weight") {
                let bias = tensor.narrow(1, 0, 1).unwrap().flatten_all().unwrap();
                tensors.insert(name.replace("weight", "bias"), bias.stored().unwrap());
            }
            tensors.insert(name.to_string(), tensor.stored().unwrap());
        }
        let model = Model::load(&sizes, &Weights::new("copy", tensors)).unwrap();
        let ids: Vec<u32> = (0..50).map(|i| 7 + i * i % 5).collect();
        let segment = Segment {
            lane: 0,
            len: ids.len(),
            starts: true,
            ends: true,
        };
        let tokens = Tensor::new(&ids[..], &Device::Cpu).unwrap();
        let expected = model.forward(&tokens, &[segment], &mut State).unwrap();

        let values = std::cell::RefCell::new(vec![f32::NAN; model.stored() * ids.len()]);
        let exact = Exact {
            model: &model,
            store: Store {
                read: &|from, out: &mut [f32]| {
                    out.copy_from_slice(&values.borrow()[from as usize..][..out.len()]);
                    Ok(())
                },
                write: &|from, new: &[f32]| {
                    values.borrow_mut()[from as usize..][..new.len()].copy_from_slice(new);
                    Ok(())
                },
            },
            length: ids.len() as u64,
            tile: 7,
            layer: Layer::Norm,
        };
        let mut read = |range: std::ops::Range<u64>| {
            Ok(ids[range.start as usize..range.end as usize].to_vec())
        };
        exact.layers(&mut read, &mut |_| Ok(())).unwrap();
        let rows = |from: u64, to: u64| exact.rows(from..to).unwrap();
        let found = Tensor::cat(&[rows(0, 13), rows(13, 50)], 0).unwrap();
        let what = format!("{name}, {layers} layers");
        close(&what, &flat(&found), &flat(&expected), 1e-5);
    }
}

#[test]
fn shared_projections_may_be_stored_with_either_direction_but_not_differ() {
    let weights = checkpoint("caduceus-ph").weights;
    let sizes = Hyperparameters::read(&checkpoint("caduceus-ph").config).unwrap();
    // Each projection in is stored, times `scale`, with the other direction too; `moved`:
    // with the other direction only.
    let load = |scale: f64, moved: bool| {
        let mut tensors = std::collections::BTreeMap::new();
        for name in weights.names() {
            let tensor = weights.tensor(name, weights.shape(name).unwrap()).unwrap();
            if name.ends_with("mamba_fwd.in_proj.weight") {
                let copy = tensor.affine(scale, 0.0).unwrap().stored().unwrap();
                tensors.insert(name.replace("mamba_fwd", "mamba_rev"), copy);
                if moved {
                    continue;
                }
            }
            tensors.insert(name.to_string(), tensor.stored().unwrap());
        }
        let weights = Weights::new("copy", tensors);
        let model = Model::load(&sizes, &weights)?;
        assert_eq!(weights.unused(), Vec::<String>::new());
        let tokens = Tensor::new(&[7u32, 8, 9], &Device::Cpu)?;
        let segment = Segment {
            lane: 0,
            len: 3,
            starts: true,
            ends: true,
        };
        let hidden = model.forward(&tokens, &[segment], &mut State)?;
        hidden.to_vec2::<f32>()
    };
    assert_eq!(load(1.0, true).unwrap(), load(1.0, false).unwrap());
    let error = load(1.5, false).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
    let error = error.to_string();
    assert!(
        error.contains("layers.0.mixer.mamba_rev.in_proj.weight"),
        "{error}"
    );
}

#[test]
fn a_map_that_is_not_its_own_inverse_is_an_error() {
    for map in [
        r#"{"7": 10, "10": 8}"#,
        r#"{"7": 99}"#,
        r#"{"x": 7}"#,
        r#"{"99": 7}"#,
    ] {
        let map = Config::parse("config.json", map).unwrap();
        assert!(complement(&map, 16).is_err());
    }
    let map = Config::parse("config.json", r#"{"3": 6, "6": 3}"#).unwrap();
    assert_eq!(complement(&map, 8).unwrap(), [0, 1, 2, 6, 4, 5, 3, 7]);
}
