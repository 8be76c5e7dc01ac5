//! What lies between the blocks equals what the published code leaves there (layers.py).

use super::{difference, expected, folder};
use candle_core::{DType, Device, Tensor};
use crocuta::checkpoint::Checkpoint;
use crocuta::encoder::{Encoder, Layer, Model, Segment};

fn layers_equal_published(name: &str) {
    let file = folder(name).join("layers.safetensors");
    let published = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
    let (model, facts) = Model::load(&Checkpoint::open(&folder(name)).unwrap()).unwrap();
    let layer = |name: &String| match name.strip_prefix("after.") {
        Some(blocks) => Layer::After(blocks.parse().unwrap()),
        None => facts.find_layer(name).unwrap(),
    };
    let layers: Vec<_> = published.keys().map(layer).collect();
    assert!(layers.contains(&Layer::After(facts.layers)));
    let ids = expected(name)["input_ids"].get(0).unwrap();
    let whole = Segment {
        lane: 0,
        len: ids.dim(0).unwrap(),
        starts: true,
        ends: true,
    };
    let ids: Tensor = ids.to_dtype(DType::U32).unwrap();
    let mut state = model.start(1).unwrap();
    let found = model.forward_layers(&ids.into(), &[whole], &mut state, &layers);
    for (found, (layer, published)) in found.unwrap().iter().zip(&published) {
        let difference = difference(&found.stored().unwrap(), published);
        assert!(difference < 1e-5, "{name}, {layer}: {difference:e}");
    }
}

#[test]
fn layers_of_hyenadna_equal_the_published_model_s() {
    layers_equal_published("hyenadna");
}

#[test]
fn layers_of_mamba_equal_the_published_model_s() {
    for name in ["mamba1", "mamba1-untied", "mamba2", "mamba2-groups"] {
        layers_equal_published(name);
    }
}

/// Of both strands, the second one's rows and channels as published.
#[test]
fn layers_of_caduceus_equal_the_published_model_s() {
    for name in [
        "caduceus-ph",
        "caduceus-ps",
        "caduceus-ph-mamba2",
        "caduceus-ps-mamba2",
    ] {
        layers_equal_published(name);
    }
}

/// And what the feed-forward layer adds, `mlp.l3`.
#[test]
fn layers_of_evo_equal_the_published_model_s() {
    for name in ["evo1", "evo2"] {
        layers_equal_published(name);
    }
}
