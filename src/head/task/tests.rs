use super::*;
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

/// The head of both strands, with weights that are not zero.
fn both(shape: Shape) -> TaskHead {
    let task = Task {
        unit: Unit::Base,
        shape,
        both_strands: true,
        ..task("x")
    };
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

#[test]
fn a_head_read_in_two_stages_and_pieces_says_what_it_says_of_the_whole() {
    let local = Shape::LocalAttention {
        heads: 2,
        window: 3,
    };
    for shape in [Shape::Linear, Shape::Mlp { hidden: 3 }, local] {
        let head = both(shape);
        let hidden = |seed: usize| -> Vec<f32> {
            (0..40).map(|i| ((i * seed) % 13) as f32 / 13.0).collect()
        };
        let strands =
            [hidden(3), hidden(8)].map(|x| Tensor::from_vec(x, (10, 4), &Device::Cpu).unwrap());
        let whole = Segment {
            lane: 0,
            len: 10,
            starts: true,
            ends: true,
        };
        let joined = Tensor::cat(&strands, 1).unwrap();
        let mut expected: Vec<f32> = head.forward(&joined, &[whole]).unwrap().to_vec1().unwrap();
        expected
            .chunks_exact_mut(2)
            .for_each(|row| Link::Softmax.apply(row));
        let begun = strands.map(|x| head.begin(&x).unwrap());
        let width = begun[0].width();
        let begun = begun.map(|x| x.to_vec1::<f32>().unwrap());
        for cut in 1..10 {
            let (mut state, mut found) = (head.start(), Vec::new());
            for (from, to) in [(0, cut), (cut, 10)] {
                let parts = (from..to).flat_map(|i| {
                    let row = |strand: usize| &begun[strand][i * width..][..width];
                    [head.part(row(0), false), head.part(row(1), true)].concat()
                });
                let segment = Segment {
                    lane: 0,
                    len: to - from,
                    starts: from == 0,
                    ends: to == 10,
                };
                found.extend(head.end(parts.collect(), segment, &mut state).unwrap());
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
