//! Models: weights and configurations.

use crate::harness::bytes::{header, safetensors, torch};
use crate::harness::{CONFIG, Case, bases, model_file, record};
use serde_json::{Map, Value, json};

/// A run with other bytes for the weights.
fn weights(bytes: &[u8]) -> Case {
    let text = record("a", &bases(1, 50), 60);
    Case::embed(text, "").file("model/model.safetensors", bytes)
}

/// The model's weights after `change` of the header.
fn changed(change: impl FnOnce(&mut Map<String, Value>)) -> Vec<u8> {
    let file = model_file("model.safetensors");
    let (header, data) = header(&file);
    let mut header: Map<String, Value> = serde_json::from_str(&header).unwrap();
    change(&mut header);
    safetensors(&Value::Object(header).to_string(), data)
}

const NORM: &str = "hyena.backbone.layers.0.norm1.weight";

#[test]
fn a_damaged_header_is_a_model_error() {
    let good = model_file("model.safetensors");
    let (text, data) = header(&good);
    let with_length = |n: u64| [&n.to_le_bytes(), &good[8..]].concat();
    let not_utf8 = [&8u64.to_le_bytes()[..], b"{\"\xff\xfe\":1}"].concat();
    for bad in [
        with_length(good.len() as u64),
        with_length(200 << 20),
        with_length(u64::MAX),
        with_length(0),
        vec![],
        good[..5].to_vec(),
        not_utf8,
        safetensors("not json", data),
        safetensors(&format!(" {text}"), data),
    ] {
        weights(&bad)
            .memory(1 << 30)
            .run()
            .fails(4, &["model.safetensors", "header"]);
    }
}

#[test]
fn tensors_that_do_not_tile_the_data_are_model_errors_that_name_one() {
    type Change = fn(&mut Value);
    let cases: [Change; 5] = [
        // Overlap, hole, negative, reversed, overflow.
        |tensor| tensor["data_offsets"] = json!([0, 64]),
        |tensor| tensor["data_offsets"][1] = json!(tensor["data_offsets"][1].as_u64().unwrap() - 4),
        |tensor| tensor["data_offsets"][0] = json!(-4),
        |tensor| tensor["data_offsets"] = json!([64, 0]),
        |tensor| tensor["shape"] = json!([1u64 << 62, 1u64 << 62]),
    ];
    for change in cases {
        let bytes = changed(|header| change(&mut header[NORM]));
        weights(&bytes)
            .run()
            .fails(4, &["model.safetensors", "tensor"]);
    }
    let trailing = [model_file("model.safetensors"), vec![0; 12]].concat();
    weights(&trailing).run().fails(4, &["model.safetensors"]);
    let good = model_file("model.safetensors");
    weights(&good[..good.len() - 12])
        .run()
        .fails(4, &["model.safetensors"]);
}

#[test]
fn a_tensor_that_comes_twice_is_a_model_error() {
    let file = model_file("model.safetensors");
    let (text, data) = header(&file);
    let parsed: Map<String, Value> = serde_json::from_str(&text).unwrap();
    let twice = format!("{{\"{NORM}\":{},{}", parsed[NORM], &text.trim()[1..]);
    weights(&safetensors(&twice, data))
        .run()
        .fails(4, &["duplicate tensor", NORM]);
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_listed() {
    let renamed = changed(|header| {
        let tensor = header.remove(NORM).unwrap();
        header.insert("unknown.weight".into(), tensor);
    });
    let messages = [
        NORM,
        "is missing, expected [16]",
        "unknown.weight is not expected",
    ];
    weights(&renamed).run().fails(4, &messages);

    let reshaped = changed(|header| header[NORM]["shape"] = json!([4, 4]));
    weights(&reshaped)
        .run()
        .fails(4, &[NORM, "[4, 4], expected [16]"]);

    let config = CONFIG
        .replace("\"n_layer\": 2", "\"n_layer\": 3")
        .replace("64, \"n_", "32, \"n_");
    let mut case = Case::embed(">a\nACGT\n", "").file("model/config.json", config);
    let out = case.run().fails(
        4,
        &["tensors do not fit config.json", "[64], expected [32]", "…"],
    );
    assert_eq!(out.stderr.matches("expected").count(), 10);
}

#[test]
fn tensors_of_another_type_are_a_model_error() {
    let whole = changed(|header| header[NORM]["dtype"] = json!("I32"));
    weights(&whole).run().fails(4, &[NORM, "I32"]);
}

#[test]
fn extra_tensors_are_a_warning_and_fail_verify() {
    let file = model_file("model.safetensors");
    let (text, data) = header(&file);
    let (from, to) = (data.len(), data.len() + 8);
    let extra = format!(
        "{},\"extra\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[{from},{to}]}}}}",
        text.trim().strip_suffix('}').unwrap()
    );
    let bytes = safetensors(&extra, &[data, &[0; 8]].concat());
    weights(&bytes)
        .run()
        .ends(0, &["warning", "extra"], &["out.parquet"]);
    weights(&bytes)
        .args("models verify model")
        .run()
        .fails(4, &["extra"]);
}

#[test]
fn numbers_that_are_not_finite_are_found() {
    let mut bytes = model_file("model.safetensors");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    weights(&bytes)
        .args("models verify model")
        .run()
        .fails(4, &["not a finite number"]);
    let (_, data) = header(&bytes);
    let all = vec![0xff; data.len()];
    let (text, _) = header(&bytes);
    weights(&safetensors(&text, &all))
        .run()
        .fails(4, &["tensor ", "not a finite number"]);
    // Weights that are numbers, of which the run makes some that are none.
    let large = 3e38f32.to_le_bytes().repeat(data.len() / 4);
    weights(&safetensors(&text, &large))
        .run()
        .fails(4, &["a:1", "the model's output"]);
}

#[test]
fn a_pickle_is_only_opened_by_convert() {
    let pickle = torch(b"\x80\x02}.", &[]);
    let given = Case::new("embed a.fa -m m.pt -o out.parquet").file("m.pt", &pickle);
    given
        .file("a.fa", ">a\nA\n")
        .run()
        .fails(2, &["models convert"]);
    let case = Case::new("embed a.fa -m m -o out.parquet").file("a.fa", ">a\nA\n");
    let mut case = case
        .file("m/config.json", CONFIG)
        .file("m/pytorch_model.bin", &pickle);
    case.run().fails(2, &["models convert"]);
    let out = weights(&pickle).run();
    assert!(matches!(out.code, Some(2 | 4)), "{}", out.stderr);
    assert!(out.stderr.contains("models convert"), "{}", out.stderr);
}

#[test]
fn a_missing_model_is_a_model_error() {
    Case::embed(">a\nA\n", "")
        .args("embed a.fa -m none -o o")
        .run()
        .fails(4, &["none", "no such model"]);
    Case::embed(">a\nA\n", "")
        .args("embed a.fa -m hyenadna-tiny-1k -o o")
        .run()
        .fails(4, &["preset"]);
}

#[test]
fn a_wrong_configuration_is_a_model_error_that_names_the_key() {
    let with = |key: &str, value: &str| {
        let mut config: Map<String, Value> = serde_json::from_str(CONFIG).unwrap();
        config.insert(key.into(), json!("HERE"));
        let text = Value::Object(config).to_string().replace("\"HERE\"", value);
        let fasta = ">a\nACGT\n";
        Case::embed(fasta, "")
            .file("model/config.json", text)
            .memory(2 << 30)
    };
    for (key, value) in [
        ("d_modle", "16"),
        ("d_model", "0"),
        ("d_model", "1000000000000"),
        ("n_layer", "1000000000000"),
        ("d_inner", "1000000000000"),
        ("vocab_size", "1000000000000"),
        ("max_seq_len", "1000000000000"),
        ("filter_order", "1000000000000"),
        ("d_model", "\"16\""),
        ("d_model", "-1"),
        ("d_model", "1.5"),
        ("d_model", "NaN"),
        ("layer_norm_epsilon", "NaN"),
        ("hyena_order", "3"),
    ] {
        let out = with(key, value).run().fails(4, &["config.json", key]);
        assert!(out.seconds < 5.0, "{key}: {value}");
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    with("d_model", &deep).run().fails(4, &["config.json"]);
    // The largest sizes that are allowed one by one, of tensors that are not there.
    for (key, value) in [
        ("d_model", "65536"),
        ("max_seq_len", "268435456"),
        ("n_layer", "1024"),
    ] {
        with(key, value).run().fails(4, &[]);
    }
}

#[test]
fn new_models_of_absurd_sizes_are_refused_before_anything_is_made() {
    let config = CONFIG.replace("\"d_model\": 16", "\"d_model\": 1000000000000");
    let new = "models new --config c.json -o new";
    let out = Case::new(new).file("c.json", config).memory(1 << 30).run();
    out.fails(4, &["d_model"]);
    let config = CONFIG.replace("\"d_model\": 16", "\"d_model\": 65536");
    let out = Case::new(new).file("c.json", config).memory(1 << 30).run();
    out.fails(2, &["--max-size"]);
}
