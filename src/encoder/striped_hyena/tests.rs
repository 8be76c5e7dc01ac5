use super::super::Model;
use super::*;
use crate::checkpoint::Checkpoint;
use candle_core::Device;
use std::path::Path;

fn open(name: &str) -> Model {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens");
    let checkpoint = Checkpoint::open(&goldens.join(name)).unwrap();
    Model::load(&checkpoint).unwrap().0
}

#[test]
fn a_window_as_long_as_the_sequence_changes_nothing_and_a_shorter_one_does() {
    for name in ["evo1", "evo2"] {
        let mut model = open(name);
        let tokens: Vec<u32> = (0..100).map(|i| 65 + i * i % 7).collect();
        let tokens = Tensor::new(tokens, &Device::Cpu).unwrap();
        let whole = Segment {
            lane: 0,
            len: 100,
            starts: true,
            ends: true,
        };
        let mut with = |window| {
            let facts = model.set_attention_window(window).unwrap();
            assert_eq!(facts.token_bytes == 0, window.is_some());
            let mut state = model.start(1).unwrap();
            let hidden = model.forward(&tokens, &[whole], &mut state).unwrap();
            hidden.to_vec2::<f32>().unwrap()
        };
        let all = with(None);
        assert_eq!(with(Some(100)), all);
        let short = with(Some(20));
        assert_eq!(short[..20], all[..20]);
        assert!(short[20..].iter().zip(&all[20..]).all(|(a, b)| a != b));
    }
}

#[test]
fn a_window_without_attention_is_a_usage_error() {
    let error = open("hyenadna").set_attention_window(Some(9)).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
}
