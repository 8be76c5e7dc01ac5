use super::*;
use crate::error::Kind;
use ::safetensors::Dtype;

const CONFIG: &str = r#"{"model_type": "mamba"}"#;

/// A directory with the given files.
fn model(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

/// A safetensors file with two floats of that name.
fn weights(name: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x");
    let entry = safetensors::Entry {
        name: name.into(),
        dtype: Dtype::F32,
        shape: vec![2],
    };
    safetensors::write(&path, vec![entry], |_| Ok(vec![0; 8])).unwrap();
    fs::read(path).unwrap()
}

#[track_caller]
fn refused(path: &Path, kind: Kind, words: &[&str]) {
    let error = Checkpoint::open(path).err().unwrap();
    assert_eq!(error.kind(), kind, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_model_that_is_not_there_says_what_to_do() {
    refused(Path::new("nowhere/at/all"), Kind::Model, &["no such model"]);
    let published = Path::new("LongSafari/hyenadna-tiny-1k-seqlen-hf");
    refused(published, Kind::Model, &["hf:LongSafari/hyenadna-tiny"]);
    let misspelt = Path::new("crocuta-bacterai");
    refused(misspelt, Kind::Model, &["did you mean crocuta-bacteria?"]);
    refused(
        Path::new("mamba-d256-l16"),
        Kind::Model,
        &["models new --preset mamba-d256-l16"],
    );
    refused(model(&[]).path(), Kind::Model, &["config.json"]);
    let config = ("config.json", CONFIG.as_bytes());
    refused(model(&[config]).path(), Kind::Model, &["model.safetensors"]);
    let dir = model(&[config, ("pytorch_model.bin", b"")]);
    refused(dir.path(), Kind::Usage, &["models convert"]);
    let file = dir.path().join("config.json");
    refused(&file, Kind::Model, &["is a file"]);
    fs::write(&file, b"PK\x03\x04").unwrap();
    refused(&file, Kind::Usage, &["models convert"]);
}

#[test]
fn weights_of_another_name_are_named_with_what_to_do() {
    let config = ("config.json", CONFIG.as_bytes());
    for (files, words) in [
        (
            &["weights.safetensors"][..],
            &["weights.safetensors", "rename"],
        ),
        (&["adapter_model.safetensors"], &["an adapter", "--adapter"]),
        (
            &["model-1-of-2.safetensors", "model-2-of-2.safetensors"],
            &[
                "2 files from model-1-of-2.safetensors",
                "fetch model.safetensors.index.json",
            ],
        ),
        (&["model.gguf"], &["model.gguf", "safetensors format"]),
    ] {
        let files = files.iter().map(|name| (*name, b"".as_slice()));
        let dir = model(&files.chain([config]).collect::<Vec<_>>());
        refused(dir.path(), Kind::Model, words);
    }
}

#[test]
fn two_copies_of_the_weights_are_an_error_that_names_both() {
    for names in [
        &[
            "ema.b.embeddings.weight",
            "ema.b.norm",
            "model.b.embeddings.weight",
            "model.b.norm",
        ][..],
        &[
            "b.embeddings.weight",
            "b.norm",
            "ema.b.embeddings.weight",
            "ema.b.norm",
        ],
        &[
            "b.embeddings.weight",
            "b.norm",
            "b.x",
            "ema.b.embeddings.weight",
            "ema.b.norm",
            "ema.n",
        ],
    ] {
        let error = one_copy(names.iter().copied()).unwrap_err().to_string();
        assert!(error.contains("ema.*"), "{error}");
    }
    for names in [
        &[
            "b.embeddings.weight",
            "b.layers.0.norm.weight",
            "lm_head.weight",
        ][..],
        &[
            "b.word_embeddings.weight",
            "b.token_type_embeddings.weight",
            "b.position_embeddings.weight",
        ],
        &[
            "b.word_embeddings.weight",
            "b.embeddings.weight",
            "crocuta_heads.embed.weight",
        ],
    ] {
        one_copy(names.iter().copied()).unwrap();
    }
}

#[test]
fn a_pinned_model_has_the_digest_that_it_has_without() {
    let index = br#"{"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    let (a, b) = (weights("a"), weights("b"));
    let config = ("config.json", CONFIG.as_bytes());
    let single = vec![config, (SINGLE, &a[..])];
    let shards = vec![
        config,
        (INDEX, &index[..]),
        ("1.safetensors", &a),
        ("2.safetensors", &b),
    ];
    for files in [single, shards] {
        let dir = model(&files);
        let free = Checkpoint::open(dir.path()).unwrap();
        let sums = files
            .iter()
            .map(|(name, bytes)| format!("{}  {name}\n", digest_of(bytes)));
        fs::write(dir.path().join(digests::SUMS), sums.collect::<String>()).unwrap();
        let pinned = Checkpoint::open(dir.path()).unwrap();
        assert_eq!(pinned.digest.get(), free.digest.get());
        assert_eq!(pinned.digest.get().len(), 64);
    }
}

#[test]
fn shards_are_read_as_one_model() {
    let index = br#"{"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#;
    let (a, b) = (weights("a"), weights("b"));
    let files = [
        ("config.json", CONFIG.as_bytes()),
        (INDEX, index.as_slice()),
        ("1.safetensors", &a),
        ("2.safetensors", &b),
    ];
    let checkpoint = Checkpoint::open(model(&files).path()).unwrap();
    assert_eq!(checkpoint.weights.names().collect::<Vec<_>>(), ["a", "b"]);
    let both = [a.as_slice(), &b].concat();
    assert_eq!(checkpoint.digest.get(), digest_of(&both));

    let mut twice = files;
    twice[3].1 = &a;
    refused(
        model(&twice).path(),
        Kind::Model,
        &["tensor a", "two files"],
    );
    let other = weights("c");
    twice[3].1 = &other;
    refused(
        model(&twice).path(),
        Kind::Model,
        &["tensor b", "2.safetensors"],
    );
    refused(model(&files[..3]).path(), Kind::Io, &["2.safetensors"]);
}

#[test]
fn a_shard_cannot_lie_outside_the_directory() {
    for shard in [
        "../x.safetensors",
        "/etc/passwd",
        "a/b.safetensors",
        "model.bin",
        "",
    ] {
        let index = format!(r#"{{"weight_map": {{"a": "{shard}"}}}}"#);
        let dir = model(&[
            ("config.json", CONFIG.as_bytes()),
            (INDEX, index.as_bytes()),
        ]);
        refused(dir.path(), Kind::Model, &["weight_map.a"]);
    }
}
