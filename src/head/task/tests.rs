use super::*;
use crate::ops::testing::within;
use crate::sequence::N;
use serde_json::Map;

fn task(name: &str) -> Task {
    Task {
        name: name.to_string(),
        unit: Unit::Sequence,
        link: Link::Softmax,
        outputs: vec!["no".into(), "yes".into()],
        shape: Shape::Linear,
        both_strands: false,
        stale: false,
    }
}

#[test]
fn heads_are_listed_in_the_configuration_and_replaced_by_name() {
    let mut config = Map::new();
    for name in ["a", "b", "a"] {
        let listed = task(name)
            .listed(&Config::new("c", config.clone()))
            .unwrap();
        config.insert(HEADS.into(), listed);
    }
    let config = Config::new("c", config);
    assert_eq!(Task::list(&config).unwrap(), [task("b"), task("a")]);
    let wrong = Map::from_iter([(HEADS.to_string(), json!([{"name": 1}]))]);
    let error = Task::list(&Config::new("c", wrong)).unwrap_err();
    assert_eq!(error.kind(), crate::error::Kind::Model, "{error}");
    assert!(error.to_string().contains(HEADS), "{error}");
}

#[test]
fn heads_of_earlier_models_are_linear_and_of_one_strand() {
    let earlier =
        json!({"name": "x", "unit": "sequence", "link": "softmax", "outputs": ["no", "yes"]});
    let read: Task = serde_json::from_value(earlier.clone()).unwrap();
    assert_eq!(read, task("x"));
    assert_eq!(serde_json::to_value(&read).unwrap(), earlier);
}

/// The head, of vectors of 4, with weights that are not zero.
fn with_weights(task: &Task) -> TaskHead {
    let mut tensors = task.untrained(4, 1).unwrap();
    for (i, tensor) in tensors.values_mut().enumerate() {
        let shape = tensor.dims().to_vec();
        let n: usize = shape.iter().product();
        let values = (0..n)
            .map(|j| ((i * 7 + j * 5) % 11) as f32 / 11.0 - 0.4)
            .collect();
        *tensor = Tensor::from_vec(values, shape, &Device::Cpu)
            .unwrap()
            .stored()
            .unwrap();
    }
    task.load(&Weights::new("x", tensors), 4).unwrap()
}

fn both(shape: Shape) -> TaskHead {
    with_weights(&Task {
        unit: Unit::Base,
        shape,
        both_strands: true,
        ..task("x")
    })
}

fn hidden(seed: usize) -> Tensor {
    let values = (0..40).map(|i| ((i * seed) % 13) as f32 / 13.0).collect();
    Tensor::from_vec(values, (10, 4), &Device::Cpu).unwrap()
}

fn segment(range: std::ops::Range<usize>) -> Segment {
    Segment {
        lane: 0,
        len: range.len(),
        starts: range.start == 0,
        ends: range.end == 10,
    }
}

#[test]
fn a_head_of_sequences_says_of_pieces_what_it_learned_of_the_whole() {
    let attention = Shape::Attention {
        heads: 2,
        window: 3,
        queries: 3,
        width: 2,
        places: 6,
        hidden: 5,
    };
    let (hidden, codes) = (hidden(3), [0, 1, 2, 3, N, 3, 2, 2, 0, 1]);
    for shape in [Shape::Linear, Shape::Mlp { hidden: 3 }, attention] {
        let head = with_weights(&Task { shape, ..task("x") });
        let learned = head.forward_sequences(&hidden, &codes, &[segment(0..10)]);
        let mut learned: Vec<f32> = learned.unwrap().flatten_all().unwrap().to_vec1().unwrap();
        Link::Softmax.apply(&mut learned);
        for cut in 1..=10 {
            let (mut so_far, mut said) = (SoFar::default(), None);
            for range in [0..cut, cut..10] {
                let rows = hidden.narrow(0, range.start, range.len()).unwrap();
                let codes = &codes[range.clone()];
                let pieces = [Piece {
                    segment: segment(range.clone()),
                    length: 10,
                }];
                if !range.is_empty() {
                    let read = head.read((&rows, codes), &pieces, &mut so_far).unwrap();
                    said = read.into_iter().next().flatten();
                }
            }
            within(&format!("{shape:?} {cut}"), &said.unwrap(), &learned, 1e-6);
        }
    }
}

#[test]
fn a_head_read_in_two_stages_and_pieces_says_what_it_says_of_the_whole() {
    let local = Shape::LocalAttention {
        heads: 2,
        window: 3,
    };
    for shape in [Shape::Linear, Shape::Mlp { hidden: 3 }, local] {
        let head = both(shape);
        let strands = [hidden(3), hidden(8)];
        let joined = Tensor::cat(&strands, 1).unwrap();
        let expected = head.forward(&joined, &[segment(0..10)]).unwrap();
        let mut expected: Vec<f32> = expected.to_vec1().unwrap();
        expected
            .chunks_exact_mut(2)
            .for_each(|row| Link::Softmax.apply(row));
        let begun = [0, 1].map(|i| head.begin(&strands[i], &[(10, i == 1)]).unwrap());
        // A step may have rows of both strands.
        let mixed = head.begin(&strands[1], &[(3, true), (7, false)]).unwrap();
        let other = head.begin(&strands[1], &[(10, false)]).unwrap();
        for (range, whole) in [(0..3, &begun[1]), (3..10, &other)] {
            let rows = |x: &Tensor| x.narrow(0, range.start, range.len())?.to_vec2::<f32>();
            assert_eq!(rows(&mixed).unwrap(), rows(whole).unwrap());
        }
        let width = begun[0].width();
        let begun = begun.map(|x| x.to_vec1::<f32>().unwrap());
        for cut in 1..10 {
            let (mut state, mut found) = (head.start(), Vec::new());
            for (from, to) in [(0, cut), (cut, 10)] {
                let parts = (from..to).flat_map(|i| {
                    let row = |strand: usize| &begun[strand][i * width..][..width];
                    [row(0), row(1)].concat()
                });
                let ended = head.end(parts.collect(), segment(from..to), &mut state);
                found.extend(ended.unwrap());
            }
            assert_eq!(found.len(), expected.len());
            for (x, y) in found.iter().zip(&expected) {
                assert!((x - y).abs() < 1e-5, "{x} {y}");
            }
        }
    }
}

#[test]
fn links_give_probabilities() {
    let mut row = [0.0, 3f32.ln()];
    Link::Softmax.apply(&mut row);
    assert!((row[0] - 0.25).abs() < 1e-6 && (row[1] - 0.75).abs() < 1e-6);
    let mut row = [0.0, 3f32.ln()];
    Link::Sigmoid.apply(&mut row);
    assert!((row[0] - 0.5).abs() < 1e-6 && (row[1] - 0.75).abs() < 1e-6);
}
