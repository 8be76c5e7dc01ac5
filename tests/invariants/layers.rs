//! The layers within an encoder promise what the last one does.

use super::{
    BIDIRECTIONAL, LENGTH, MODELS, close, even, folder, open, pieces, sequence, split, step, whole,
};
use crocuta::checkpoint::Checkpoint;
use crocuta::encoder::{Encoder, Layer, Model, Segment, State};
use crocuta::error::{Kind, Result};
use crocuta::ops::{Device, Tensor};
use std::collections::BTreeMap;

/// One layer of a model, as a model.
pub struct At<'a> {
    pub model: &'a Model,
    pub layer: Layer,
}

impl Encoder for At<'_> {
    type State = State;

    fn start(&self, lanes: usize) -> Result<State> {
        self.model.start(lanes)
    }

    fn fork(&self, from: &[(&State, usize)], room: usize) -> Result<State> {
        self.model.fork(from, room)
    }

    fn forward_layers(
        &self,
        tokens: &Tensor,
        segments: &[Segment],
        state: &mut State,
        layers: &[Layer],
    ) -> Result<Vec<Tensor>> {
        assert_eq!(layers, [Layer::Norm]);
        let layer = [self.layer];
        self.model.forward_layers(tokens, segments, state, &layer)
    }
}

/// The layers within a model: every one of the models here has at least two blocks.
fn within(name: &str) -> Vec<Layer> {
    let mut layers = vec![Layer::After(0), Layer::After(1), Layer::After(2)];
    if name.starts_with("evo") {
        layers.extend([Layer::Within(1, "mlp.l3"), Layer::After(4)]);
    }
    layers
}

fn for_each_layer(test: impl Fn(&At, &str)) {
    for (name, model) in MODELS.iter() {
        for layer in within(name) {
            test(&At { model, layer }, &format!("{name}, {layer:?}"));
        }
    }
}

fn piece(lane: usize, len: usize, starts: bool, ends: bool) -> Segment {
    Segment {
        lane,
        len,
        starts,
        ends,
    }
}

#[test]
fn layers_within_are_the_same_in_pieces_of_any_size() {
    for_each_layer(|at, what| {
        let tokens = sequence(LENGTH, 1);
        let expected = whole(at, &tokens);
        for chunk in [7, 64] {
            close(&pieces(at, &tokens, &even(LENGTH, chunk)), &expected, what);
        }
    });
}

#[test]
fn layers_within_are_the_same_beside_other_sequences() {
    for_each_layer(|at, what| {
        let lengths = [70, 20, 131];
        let tokens = sequence(lengths.iter().sum(), 4);
        let alone = split(&tokens, &lengths).map(|tokens| whole(at, tokens));
        let mut state = at.start(2).unwrap();
        let segments = [
            piece(1, 70, true, false),
            piece(0, 20, true, true),
            piece(0, 131, true, false),
        ];
        let found = step(at, &tokens, &segments, &mut state);
        close(&found, &alone.collect::<Vec<_>>().concat(), what);
    });
}

#[test]
fn layers_within_are_the_same_in_forks() {
    for_each_layer(|at, what| {
        let (tokens, other) = (sequence(150, 1), sequence(40, 2));
        let mut state = at.start(1).unwrap();
        step(at, &tokens, &[piece(0, 150, true, false)], &mut state);
        let mut fork = at.fork(&[(&state, 0)], 40).unwrap();
        let joined = whole(at, &[&tokens[..], &other].concat());
        let expected = &joined[joined.len() / 190 * 150..];
        for state in [&mut fork, &mut state] {
            let found = step(at, &other, &[piece(0, 40, false, true)], state);
            close(&found, expected, what);
        }
    });
}

#[test]
fn layers_asked_for_together_equal_those_asked_for_alone() {
    let bidirectional = BIDIRECTIONAL.map(|name| (name, open(name)));
    for (name, model) in MODELS.iter().chain(&bidirectional) {
        let mut layers = within(name);
        layers.extend([Layer::Norm, Layer::After(1)]);
        let tokens = sequence(90, 3);
        let input = Tensor::new(&tokens[..], &Device::Cpu).unwrap();
        let mut state = model.start(1).unwrap();
        let segment = [piece(0, 90, true, true)];
        let found = model.forward_layers(&input, &segment, &mut state, &layers);
        let found = found.unwrap();
        assert_eq!(found.len(), layers.len());
        for (layer, found) in layers.into_iter().zip(found) {
            let found: Vec<f32> = found.flatten_all().unwrap().to_vec1().unwrap();
            let at = At { model, layer };
            close(&found, &whole(&at, &tokens), &format!("{name}, {layer:?}"));
        }
    }
}

#[test]
fn blocks_behind_the_last_layer_do_not_run() {
    let mut checkpoint = Checkpoint::open(&folder("mamba1")).unwrap();
    let name = "backbone.layers.1.mixer.out_proj.weight";
    let shape = checkpoint.weights.shape(name).unwrap().to_vec();
    let values = vec![f32::NAN; shape.iter().product()];
    let broken = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    let broken = BTreeMap::from([(name.to_string(), broken)]);
    checkpoint.weights = checkpoint.weights.replacing(broken);
    let (model, facts) = Model::load(&checkpoint).unwrap();
    let found = |text| {
        let layer = facts.find_layer(text).unwrap();
        let at = At {
            model: &model,
            layer,
        };
        whole(&at, &sequence(50, 1))
    };
    assert!(found("layers.0").iter().all(|x| x.is_finite()));
    assert!(found("2").iter().all(|x| x.is_nan()));
}

#[test]
fn a_layer_that_the_model_does_not_have_is_an_error() {
    let model = open("mamba1");
    for layer in [Layer::After(4), Layer::Within(1, "mlp.l3")] {
        let input = Tensor::new(&[7u32, 8], &Device::Cpu).unwrap();
        let mut state = model.start(1).unwrap();
        let segment = [piece(0, 2, true, true)];
        let error = model.forward_layers(&input, &segment, &mut state, &[layer]);
        assert_eq!(error.unwrap_err().kind(), Kind::Internal);
    }
}
