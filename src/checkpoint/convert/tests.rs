//! Hostile and published-shaped PyTorch files, built byte by byte.

use super::*;
use crate::checkpoint::{Checkpoint, Created, create, preset};
use crate::error::{Kind, printable};
use std::io::Cursor;
use zip::write::SimpleFileOptions;

/// The pickle of a text.
fn text(text: &str) -> Vec<u8> {
    [
        b"X",
        &(text.len() as u32).to_le_bytes()[..],
        text.as_bytes(),
    ]
    .concat()
}

/// The pickle of a tuple of numbers.
fn tuple(numbers: &[i64]) -> Vec<u8> {
    let numbers = numbers
        .iter()
        .flat_map(|n| [&[0x8a, 8][..], &n.to_le_bytes()].concat());
    [b"(".to_vec(), numbers.collect(), b"t".to_vec()].concat()
}

/// The pickle of a float tensor as torch writes it.
fn tensor(key: &str, length: i64, offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
        text("storage"),
        b"ctorch\nFloatStorage\n".to_vec(),
        text(key),
        text("cpu"),
        tuple(&[length])[1..11].to_vec(),
        b"tQ".to_vec(),
        tuple(&[offset])[1..11].to_vec(),
        tuple(shape),
        tuple(strides),
        b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
    ]
    .concat()
}

/// The pickle of a dictionary.
fn dict(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let items = items
        .iter()
        .flat_map(|(key, value)| [text(key), value.clone()].concat());
    [
        b"ccollections\nOrderedDict\n)R(".to_vec(),
        items.collect(),
        b"u".to_vec(),
    ]
    .concat()
}

/// A whole pickle.
fn pickle(value: Vec<u8>) -> Vec<u8> {
    [b"\x80\x02".to_vec(), value, b".".to_vec()].concat()
}

fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in entries {
        let stored =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        zip.start_file(*name, stored).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

const CONFIG: &str = r#"{"model_type": "mamba"}"#;

/// Converts the file in a child process. Nothing but the result may appear in its directory.
fn converted(file: &[u8], config: &str) -> Result<(tempfile::TempDir, Checkpoint)> {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("weights.ckpt"), dir.path().join("out"));
    std::fs::write(&path, file).unwrap();
    std::fs::write(dir.path().join("config.json"), config).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--nocapture", "--include-ignored"]);
    child.arg("checkpoint::convert::tests::the_child_process");
    let result = convert_in_child(child, &path, &out, None);
    let found = std::fs::read_dir(dir.path()).unwrap().count();
    match result {
        Err(error) => {
            assert_eq!(found, 2, "only the two files of before");
            Err(error)
        }
        Ok(digest) => {
            assert_eq!(found, 3);
            let checkpoint = Checkpoint::open(&out)?;
            assert_eq!(checkpoint.digest.get(), digest);
            Ok((dir, checkpoint))
        }
    }
}

/// Not a test: [`converted`] runs this in a process of its own.
#[test]
#[ignore]
fn the_child_process() {
    let paths = std::env::args()
        .skip(5)
        .map(PathBuf::from)
        .collect::<Vec<_>>();
    let [file, dir, config] = paths.as_slice() else {
        return;
    };
    if let Err(error) = convert_as_child(file, dir, config) {
        eprintln!("crocuta: error: {error}");
        std::process::exit(error.exit_code().into());
    }
}

#[track_caller]
fn refused(file: &[u8], word: &str) {
    let begun = std::time::Instant::now();
    let error = converted(file, CONFIG).err().unwrap();
    assert_eq!(error.kind(), Kind::Model, "{error}");
    let line = error.to_string();
    assert!(
        line.contains(word) && line.contains("weights.ckpt"),
        "{line}"
    );
    assert_eq!(printable(&line), line);
    assert!(begun.elapsed().as_secs() < 10);
}

/// A zip of this pickle, with one storage of six floats.
fn with_pickle(bytes: &[u8]) -> Vec<u8> {
    let storage = (0..6u8)
        .flat_map(|n| f32::from(n).to_le_bytes())
        .collect::<Vec<_>>();
    archive(&[
        ("w/data.pkl", bytes),
        ("w/byteorder", b"little"),
        ("w/data/0", &storage),
        ("w/version", b"3\n"),
    ])
}

fn with_tensor(tensor: Vec<u8>) -> Vec<u8> {
    with_pickle(&pickle(dict(&[("a", tensor)])))
}

fn values(checkpoint: &Checkpoint, name: &str, shape: &[usize]) -> Vec<f32> {
    let tensor = checkpoint.weights.tensor(name, shape).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn tensors_are_read_whatever_their_strides() {
    let parameter = [
        b"ctorch._utils\n_rebuild_parameter\n(".to_vec(),
        tensor("0", 6, 2, &[2], &[1]),
        b"\x88NtR".to_vec(),
    ];
    let file = with_pickle(&pickle(dict(&[
        ("plain", tensor("0", 6, 0, &[2, 3], &[3, 1])),
        ("transposed", tensor("0", 6, 0, &[3, 2], &[1, 3])),
        ("part", tensor("0", 6, 1, &[2, 2], &[3, 1])),
        ("expanded", tensor("0", 6, 5, &[2, 2], &[0, 0])),
        ("scalar", tensor("0", 6, 4, &[], &[])),
        ("empty", tensor("0", 6, 0, &[0, 3], &[3, 1])),
        ("parameter", parameter.concat()),
        ("epoch", b"K\x03".to_vec()),
        ("projections._extra_state", tensor("0", 6, 0, &[6], &[1])),
        (
            "settings",
            b"comegaconf.dictconfig\nDictConfig\n)\x81}X\x01\0\0\0xctyping\nAny\nsb".to_vec(),
        ),
    ])));
    let (_dir, found) = converted(&file, CONFIG).unwrap();
    assert_eq!(values(&found, "plain", &[2, 3]), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(
        values(&found, "transposed", &[3, 2]),
        [0., 3., 1., 4., 2., 5.]
    );
    assert_eq!(values(&found, "part", &[2, 2]), [1., 2., 4., 5.]);
    assert_eq!(values(&found, "expanded", &[2, 2]), [5.; 4]);
    assert_eq!(values(&found, "scalar", &[]), [4.]);
    assert_eq!(values(&found, "parameter", &[2]), [2., 3.]);
    assert_eq!(found.weights.names().count(), 7);
}

#[test]
fn a_pickle_that_would_run_code_is_refused_and_runs_nothing() {
    let canary = std::env::temp_dir().join(format!("crocuta-canary-{}", std::process::id()));
    let command = text(&format!("touch {}", canary.display()));
    for global in [
        "posix\nsystem",
        "os\nsystem",
        "builtins\nexec",
        "subprocess\nPopen",
    ] {
        let call = [
            b"c".to_vec(),
            global.into(),
            b"\n".to_vec(),
            command.clone(),
            b"\x85R".to_vec(),
        ];
        let name = global.replace('\n', ".");
        refused(&with_pickle(&pickle(call.concat())), &name);
        let beside = dict(&[("a", tensor("0", 6, 0, &[6], &[1])), ("b", call.concat())]);
        refused(&with_pickle(&pickle(beside)), &name);
    }
    assert!(!canary.exists());
}

#[test]
fn tensors_that_do_not_fit_their_storage_are_errors() {
    let call = |args: &[u8]| [b"ctorch._utils\n_rebuild_tensor_v2\n", args, b"R"].concat();
    refused(
        &with_tensor(call(b")")),
        "tensor a: rebuilt from too few arguments",
    );
    refused(&with_tensor(call(b"(NNNNt")), "tensor a");
    refused(
        &with_tensor(tensor("0", 6, 0, &[2_000_000_000], &[1])),
        "tensor a",
    );
    refused(
        &with_tensor(tensor("0", 2_000_000_000, 0, &[2_000_000_000], &[1])),
        "tensor a",
    );
    refused(
        &with_tensor(tensor("0", i64::MAX, 0, &[1], &[1])),
        "tensor a",
    );
    refused(
        &with_tensor(tensor("0", 6, 0, &[1 << 40], &[0])),
        "tensor a",
    );
    refused(
        &with_tensor(tensor("0", 6, 0, &[1 << 40, 1 << 40], &[0, 0])),
        "tensor a",
    );
    refused(
        &with_tensor(tensor("0", 6, 0, &[2], &[1 << 62])),
        "tensor a",
    );
    refused(&with_tensor(tensor("0", 6, 1, &[6], &[1])), "tensor a");
    refused(
        &with_tensor(tensor("0", 6, i64::MAX, &[1], &[1])),
        "tensor a",
    );
    refused(&with_tensor(tensor("0", 6, -1, &[1], &[1])), "negative");
    refused(&with_tensor(tensor("0", 6, 0, &[6], &[1, 1])), "tensor a");
    refused(
        &with_tensor(tensor("1", 6, 0, &[6], &[1])),
        "not in the archive",
    );
    for path in ["../../../etc/passwd", "/etc/passwd", "../data.pkl"] {
        refused(
            &with_tensor(tensor(path, 6, 0, &[6], &[1])),
            "not in the archive",
        );
    }
    let many = (0..2000)
        .map(|_| ("a", tensor("0", 6, 0, &[6], &[1])))
        .collect::<Vec<_>>();
    assert!(converted(&with_pickle(&pickle(dict(&many))), CONFIG).is_ok());
}

#[test]
fn two_copies_of_the_weights_are_an_error_that_names_both() {
    let tensors = |prefix: &str| {
        ["b.embeddings.weight", "b.norm", "b.x"]
            .map(|name| (format!("{prefix}{name}"), tensor("0", 6, 0, &[6], &[1])))
    };
    let dict_of = |tensors: &[(String, Vec<u8>)]| {
        let items = tensors.iter();
        let items = items.map(|(name, tensor)| (name.as_str(), tensor.clone()));
        dict(&items.collect::<Vec<_>>())
    };
    let (model, ema) = (tensors("model."), tensors("ema."));
    let both = [&model[..], &ema].concat();
    refused(&with_pickle(&pickle(dict_of(&both))), "ema.* and model.*");
    let apart = dict(&[
        ("state_dict", dict_of(&model)),
        ("state_dict_ema", dict_of(&model)),
    ]);
    refused(
        &with_pickle(&pickle(apart)),
        "state_dict and state_dict_ema",
    );
    // The state of an optimiser is no copy of the weights.
    let beside = dict(&[
        ("optimizer", dict_of(&tensors("exp_avg."))),
        ("state_dict", dict_of(&model)),
    ]);
    assert!(converted(&with_pickle(&pickle(beside)), CONFIG).is_ok());
}

#[test]
fn a_value_that_is_not_finite_is_an_error_that_names_the_tensor() {
    let data = pickle(dict(&[("a", tensor("0", 2, 0, &[2], &[1]))]));
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let storage = [1f32, bad].map(f32::to_le_bytes).concat();
        let file = archive(&[("w/data.pkl", &data), ("w/data/0", &storage)]);
        refused(&file, "tensor a: value 1 is not a finite number");
    }
}

#[test]
fn hostile_pickles_end_in_one_line() {
    let nested = [&b"\x80\x02)"[..], &vec![0x85; 2_000_000], b"."].concat();
    refused(&with_pickle(&nested), "not a dictionary");
    let bomb = [&b"\x80\x02)"[..], &b"2\x86".repeat(370), b"."].concat();
    refused(&with_pickle(&bomb), "not a dictionary");
    refused(&with_pickle(b"\x80\x02}q\x00I1\n."), "opcode 0x49");
    refused(&with_pickle(b"\x80\x02}"), "truncated");
    refused(&with_pickle(b"\x80\x02}."), "no tensor");
    refused(
        &with_pickle(b"\x80\x02X\x06\0\0\0\x1b[31m\n."),
        "not a dictionary",
    );
    refused(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "before 1.6");
    refused(b"hello", "not a PyTorch file");
    refused(b"", "not a PyTorch file");
}

#[test]
fn hostile_zips_end_in_one_line() {
    let good = with_tensor(tensor("0", 6, 0, &[6], &[1]));
    assert!(converted(&good, CONFIG).is_ok());
    for end in [good.len() - 1, good.len() / 2, 30, 4] {
        refused(&good[..end], "");
    }
    let place = good
        .windows(4)
        .position(|bytes| bytes == 3f32.to_le_bytes())
        .unwrap();
    let mut flipped = good.clone();
    flipped[place] ^= 1;
    refused(&flipped, "checksum");

    let data = pickle(dict(&[("a", tensor("0", 1, 0, &[1], &[1]))]));
    refused(
        &archive(&[("a/data.pkl", &data), ("b/data.pkl", &data)]),
        "two data.pkl",
    );
    // The zip writer refuses to write the same name twice, so one is renamed afterwards.
    let mut twice = archive(&[("a/data.pkl", &data), ("a/data.pkx", &data)]);
    for at in 0..twice.len() - 10 {
        if &twice[at..at + 10] == b"a/data.pkx" {
            twice[at + 9] = b'l';
        }
    }
    refused(&twice, "same name");
    refused(
        &archive(&[("w/data.pkl", &data), ("../x", b"")]),
        "leads out",
    );
    refused(&archive(&[("w/data.pkl", &data), ("/x", b"")]), "leads out");
    refused(
        &archive(&[("w/data.pkl", &data), ("w/byteorder", b"big")]),
        "big-endian",
    );
    refused(&archive(&[("w/version", b"3")]), "no data.pkl");

    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    zip.start_file("w/data.pkl", SimpleFileOptions::default())
        .unwrap();
    zip.write_all(&data).unwrap();
    zip.start_file("w/data/0", SimpleFileOptions::default())
        .unwrap();
    zip.write_all(&vec![0; 10_000_000]).unwrap();
    refused(&zip.finish().unwrap().into_inner(), "compressed");
}

#[test]
fn a_lightning_file_of_hyenadna_becomes_the_published_layout() {
    // The model that must come out.
    let small = [
        ("max_seq_len", 34),
        ("d_model", 8),
        ("d_inner", 32),
        ("filter_order", 16),
    ];
    let mut config = preset("hyenadna-tiny-1k").unwrap();
    config.extend(small.map(|(key, value)| (key.to_string(), json!(value))));
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("hf");
    let Created { digest, .. } =
        create(&Config::new("x", config.clone()), 3, &out, 1 << 30).unwrap();
    let wanted = Checkpoint::open(&out).unwrap();

    // The same in Lightning's layout.
    let (mut state, mut storages) = (Vec::new(), Vec::new());
    for name in wanted
        .weights
        .names()
        .filter(|name| *name != "lm_head.weight")
    {
        let shape = wanted.weights.shape(name).unwrap();
        let bytes = values(&wanted, name, shape)
            .iter()
            .flat_map(|x| x.to_le_bytes())
            .collect::<Vec<_>>();
        let key = storages.len().to_string();
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis] as i64;
        }
        let shape = shape.iter().map(|&dim| dim as i64).collect::<Vec<_>>();
        let view = tensor(&key, bytes.len() as i64 / 4, 0, &shape, &strides);
        let old = format!("model.{}", name.strip_prefix("hyena.").unwrap());
        let old = old
            .replace(".mixer.", ".mixer.layer.")
            .replace(".mlp.", ".mlp.layer.");
        for place in [".3.freq", ".5.freq"] {
            if let Some(at) = old.strip_suffix(".1.freq") {
                state.push((format!("{at}{place}"), view.clone()));
            }
        }
        state.push((old, view));
        storages.push((format!("w/data/{key}"), bytes));
    }
    state.push((
        "val_torchmetrics.x.total".into(),
        tensor("0", 1, 0, &[1], &[1]),
    ));
    // A metric's broken storage must be seen before it can matter; give it a good one.
    storages.push(("w/data/metric".into(), vec![0; 4]));
    state.last_mut().unwrap().1 = tensor("metric", 1, 0, &[1], &[1]);
    let state = state
        .iter()
        .map(|(name, view)| (name.as_str(), view.clone()))
        .collect::<Vec<_>>();
    let lightning = pickle(dict(&[
        ("epoch", b"K\x07".to_vec()),
        (
            "callbacks",
            b"cpytorch_lightning.callbacks\nModelCheckpoint\n)\x81".to_vec(),
        ),
        ("state_dict", dict(&state)),
    ]));
    let mut entries = vec![("w/data.pkl", lightning.as_slice())];
    entries.extend(
        storages
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice())),
    );
    let original = r#"{"d_model": 8, "n_layer": 2, "d_inner": 32, "vocab_size": 12, "embed_dropout": 0.1,
        "pad_vocab_size_multiple": 8, "layer": {"_name_": "hyena", "emb_dim": 5, "filter_order": 16,
        "local_order": 3, "l_max": 34, "modulate": true, "w": 10, "lr": 6e-4, "wd": 0.0}}"#;
    let (_dir, found) = converted(&archive(&entries), original).unwrap();
    assert_eq!(found.digest.get(), digest);
    for (key, value) in &config {
        let found = found.config.get(key).unwrap();
        assert!(
            found == value || found.as_f64() == value.as_f64(),
            "{key}: {found} {value}"
        );
    }
}

#[test]
fn no_flipped_bit_and_no_cut_is_a_panic() {
    let good = with_tensor(tensor("0", 6, 0, &[3, 2], &[1, 3]));
    let dir = tempfile::tempdir().unwrap();
    let (file, config) = (dir.path().join("x.pt"), dir.path().join("in.json"));
    std::fs::write(&config, CONFIG).unwrap();
    let try_it = |bytes: &[u8]| {
        std::fs::write(&file, bytes).unwrap();
        convert(&file, dir.path(), &config)
    };
    assert!(try_it(&good).is_ok());
    for end in 0..good.len() {
        assert!(try_it(&good[..end]).is_err());
    }
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Err(error) = try_it(&bad) {
            assert!(error.kind() != Kind::Internal, "{error}");
        }
    }
}
