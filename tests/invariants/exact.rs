//! What is promised of sequences that run layer by layer, tile by tile.

use super::layers::At;
use super::{BIDIRECTIONAL, LENGTH, close, load, open, sequence, whole};
use crocuta::encoder::Layer;
use crocuta::encoder::caduceus::{Exact, Model, Store};
use std::cell::RefCell;

/// The last layer by tiles of `tile`, read back in ranges of `range`, and the values stored.
fn by_tiles(model: &Model, tokens: &[u32], tile: usize, range: usize) -> (Vec<f32>, usize) {
    layer_by_tiles(model, Layer::Norm, tokens, tile, range)
}

fn layer_by_tiles(
    model: &Model,
    layer: Layer,
    tokens: &[u32],
    tile: usize,
    range: usize,
) -> (Vec<f32>, usize) {
    let values = RefCell::new(Vec::new());
    let exact = Exact {
        model,
        store: Store {
            read: &|from, out: &mut [f32]| {
                out.copy_from_slice(&values.borrow()[from as usize..][..out.len()]);
                Ok(())
            },
            write: &|from, new: &[f32]| {
                let (mut values, end) = (values.borrow_mut(), from as usize + new.len());
                let len = values.len().max(end);
                values.resize(len, f32::NAN);
                values[from as usize..end].copy_from_slice(new);
                Ok(())
            },
        },
        length: tokens.len() as u64,
        tile,
        layer,
    };
    let mut passed = 0;
    let mut largest = 0;
    let mut read = |range: std::ops::Range<u64>| {
        largest = largest.max(range.end - range.start);
        Ok(tokens[range.start as usize..range.end as usize].to_vec())
    };
    let mut count = |tokens| {
        passed += tokens as u64;
        Ok(())
    };
    exact.layers(&mut read, &mut count).unwrap();
    assert_eq!(passed, exact.passes() * tokens.len() as u64);
    assert!(largest <= tile as u64);
    let mut out = Vec::new();
    for from in (0..exact.length).step_by(range) {
        let rows = exact.rows(from..(from + range as u64).min(exact.length));
        out.extend(
            rows.unwrap()
                .flatten_all()
                .unwrap()
                .to_vec1::<f32>()
                .unwrap(),
        );
    }
    (out, values.into_inner().len())
}

#[test]
fn tiles_of_any_size_give_what_one_call_gives() {
    for name in BIDIRECTIONAL {
        let model = open(name);
        let layered = model.layered().unwrap();
        let tokens = sequence(LENGTH, 9);
        let expected = whole(&model, &tokens);
        for (tile, range) in [(1, 300), (7, 11), (64, 64), (LENGTH, 1), (1000, 7)] {
            let (found, stored) = by_tiles(layered, &tokens, tile, range);
            close(&found, &expected, &format!("{name}, tiles of {tile}"));
            assert_eq!(stored, LENGTH * layered.stored());
        }
        let (one, _) = by_tiles(layered, &tokens[..1], 64, 64);
        close(&one, &whole(&model, &tokens[..1]), name);
    }
}

#[test]
fn tiles_give_the_layers_within_too() {
    for name in BIDIRECTIONAL {
        let (model, facts) = &load(name);
        let tokens = sequence(LENGTH, 9);
        for layer in [0, 1, 2, facts.layers].map(Layer::After) {
            let expected = whole(&At { model, layer }, &tokens);
            let layered = model.layered().unwrap();
            let (found, _) = layer_by_tiles(layered, layer, &tokens, 64, 11);
            close(&found, &expected, &format!("{name}, {layer:?}"));
        }
    }
}

#[test]
fn an_error_of_storage_or_caller_ends_the_run() {
    let model = open("caduceus-ps");
    let fail = || crocuta::Error::new(crocuta::error::Kind::Io, "full");
    let exact = |write| Exact {
        model: model.layered().unwrap(),
        store: Store {
            read: &|_, _| Ok(()),
            write,
        },
        length: 10,
        tile: 4,
        layer: Layer::Norm,
    };
    let tokens = &mut |range: std::ops::Range<u64>| Ok(vec![7; (range.end - range.start) as usize]);
    let refuse = |_, _: &[f32]| Err(fail());
    let full = exact(&refuse);
    assert!(full.layers(tokens, &mut |_| Ok(())).is_err());
    let stopped = exact(&|_, _| Ok(()));
    assert!(stopped.layers(tokens, &mut |_| Err(fail())).is_err());
    assert!(stopped.rows(5..11).is_err());
    assert!(stopped.rows(5..5).is_err());
}
