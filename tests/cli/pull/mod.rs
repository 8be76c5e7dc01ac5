//! `models pull`, against a server on loopback that speaks the hub's protocol.

mod hub;

use crate::harness::{CONFIG, Case, model_file, sha256, skipped, torch};
use hub::{COMMIT, Hub, Trouble};

/// The small model as it is published.
fn published() -> Vec<(&'static str, Vec<u8>)> {
    let mut files: Vec<(&'static str, Vec<u8>)> = ["config.json", "model.safetensors"]
        .map(|name| (name, model_file(name)))
        .into();
    files.push(("README.md", b"---\nlicense: bsd-3-clause\n---\n".to_vec()));
    files.push(("flax_model.msgpack", vec![0; 100]));
    files
}

fn pull(args: &str) -> Case {
    Case::new(&format!("models pull zoo/hyena{args}"))
}

/// The folder of the model in the cache.
fn folder(case: &Case) -> std::path::PathBuf {
    case.path("hf/hub/models--zoo--hyena")
}

#[test]
fn a_model_is_pulled_into_hugging_face_s_cache_and_found_by_its_name() {
    let hub = Hub::new(&published(), Trouble::None);
    let case = pull("");
    let words = [
        "zoo/hyena at c0ffee00",
        "licence bsd-3-clause",
        "3 files",
        "-m hf:zoo/hyena",
    ];
    let directory = hub.ends(&case, &[], 0, &words);
    let folder = folder(&case);
    let snapshot = folder.join("snapshots").join(COMMIT);
    assert_eq!(std::path::Path::new(directory.trim_end()), snapshot);
    assert_eq!(
        std::fs::read_to_string(folder.join("refs/main")).unwrap(),
        COMMIT
    );
    let weights = model_file("model.safetensors");
    let link = std::fs::read_link(snapshot.join("model.safetensors")).unwrap();
    assert_eq!(
        link,
        std::path::Path::new("../../blobs").join(sha256(&weights))
    );
    assert!(std::fs::read(snapshot.join("model.safetensors")).unwrap() == weights);
    assert!(!snapshot.join("flax_model.msgpack").exists());
    let asked = hub.asked();
    assert!(
        asked.iter().any(|line| line.starts_with("GET /cdn/")),
        "{asked:?}"
    );
    // What is there is not fetched again; another name of the same commit costs no bytes.
    for name in ["", "@v1", &format!("@{COMMIT}")] {
        let case = { pull(name) }.copy_cache(&case);
        hub.ends(&case, &[], 0, &[]);
        let again = hub.asked();
        assert!(
            !again.iter().any(|line| line.starts_with("GET /cdn/")),
            "{again:?}"
        );
        let case = case.args(&format!("models show hf:zoo/hyena{name}"));
        let shown = hub.ends(&case, &[], 0, &[]);
        assert!(
            shown.starts_with(&format!("name: zoo/hyena{name}\n")),
            "{shown}"
        );
        assert!(hub.asked().is_empty());
    }
    by_python(&case);
}

/// Holds the cache against Hugging Face's own library, where `CROCUTA_HUB_PYTHON` has it.
fn by_python(case: &Case) {
    let Ok(python) = std::env::var("CROCUTA_HUB_PYTHON") else {
        return skipped("CROCUTA_HUB_PYTHON names no Python with huggingface_hub");
    };
    let code = "from huggingface_hub import snapshot_download, try_to_load_from_cache, scan_cache_dir\n\
                print(snapshot_download('zoo/hyena', local_files_only=True))\n\
                print(try_to_load_from_cache('zoo/hyena', 'model.safetensors'))\n\
                print(len(scan_cache_dir().warnings), [r.repo_id for r in scan_cache_dir().repos])\n";
    let out = std::process::Command::new(python)
        .args(["-c", code])
        .env("HF_HOME", case.path("hf"))
        .env("HF_HUB_OFFLINE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8(out.stdout).unwrap();
    let snapshot = folder(case).join("snapshots").join(COMMIT);
    let lines: Vec<&str> = said.lines().collect();
    let expected = [
        snapshot.display().to_string(),
        snapshot.join("model.safetensors").display().to_string(),
        "0 ['zoo/hyena']".to_string(),
    ];
    assert_eq!(lines, expected, "{}", String::from_utf8_lossy(&out.stderr));
}

impl Case {
    /// The same with the cache of another case.
    fn copy_cache(self, other: &Self) -> Self {
        let copied = std::process::Command::new("cp")
            .arg("-a")
            .arg(other.path("hf"))
            .arg(self.path(""))
            .status();
        assert!(copied.unwrap().success());
        self
    }
}

#[test]
fn a_connection_that_is_cut_goes_on_where_it_was() {
    let weights = model_file("model.safetensors");
    for (trouble, range) in [
        (Trouble::Cut(1000), "bytes=1000-"),
        (Trouble::NoRanges, "bytes=500-"),
    ] {
        let hub = Hub::new(&published(), trouble);
        let case = pull("");
        hub.ends(&case, &[], 0, &["going on at byte"]);
        let asked = hub.asked();
        let line = format!("GET /cdn/{} {range}", sha256(&weights));
        assert!(asked.contains(&line), "{asked:?}");
        let file = folder(&case).join("blobs").join(sha256(&weights));
        assert!(std::fs::read(file).unwrap() == weights);
    }
    // So does a run that another one left.
    let hub = Hub::new(&published(), Trouble::None);
    let left = format!(
        "hf/hub/models--zoo--hyena/blobs/{}.incomplete",
        sha256(&weights)
    );
    let case = pull("").file(&left, &weights[..777]);
    hub.ends(&case, &[], 0, &[]);
    let asked = hub.asked();
    assert!(
        asked.iter().any(|line| line.ends_with("bytes=777-")),
        "{asked:?}"
    );
    assert!(!case.path(&left).exists());
    // A server that gives nothing is not asked forever, and what came stays.
    let hub = Hub::new(&published(), Trouble::CutAlways(0));
    let case = pull("");
    hub.ends(&case, &[], 5, &["cut off at byte 0"]);
    assert!(!folder(&case).join("refs/main").exists());
    // A server in trouble is asked again.
    let hub = Hub::new(&published(), Trouble::Busy(2));
    hub.ends(&pull(""), &[], 0, &[]);
}

#[test]
fn what_is_not_what_the_hub_says_is_not_kept() {
    let hub = Hub::new(&published(), Trouble::OtherBytes);
    let case = pull("");
    let digest = sha256(&model_file("model.safetensors"));
    hub.ends(
        &case,
        &[],
        4,
        &["its SHA-256 is ", &digest, "fetch it again"],
    );
    let blobs = std::fs::read_dir(folder(&case).join("blobs")).unwrap();
    let names: Vec<_> = blobs
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !names.iter().any(|name| name.starts_with(&digest)),
        "{names:?}"
    );
    assert!(!folder(&case).join("refs/main").exists());
    let (code, _, said) = hub.run(&case.args("models show hf:zoo/hyena"), &[]);
    assert_eq!(code, Some(4), "{said}");
    let hub = Hub::new(&published(), Trouble::NoETag);
    hub.ends(&pull(""), &[], 5, &["no ETag", "is HF_ENDPOINT a hub?"]);
}

#[test]
fn refusals_say_what_is_wrong_and_what_to_do() {
    let hub = Hub::new(&published(), Trouble::Gated);
    let page = format!("http://{}/zoo/hyena", hub.address);
    hub.ends(
        &pull(""),
        &[],
        4,
        &["refused (401)", "licence", &page, "HF_TOKEN"],
    );
    hub.ends(&pull(""), &[("HF_TOKEN", "hf_wrong")], 4, &["HF_TOKEN"]);
    hub.ends(&pull(""), &[("HF_TOKEN", "hf_secret")], 0, &[]);
    let case = pull("").file("hf/token", "hf_secret\n");
    hub.ends(&case, &[], 0, &[]);
    let hub = Hub::new(&published(), Trouble::None);
    hub.ends(&pull("@v9"), &[], 4, &["zoo/hyena@v9: no revision v9"]);
    let other = Case::new("models pull zoo/other");
    hub.ends(&other, &[], 4, &["zoo/other: no such model"]);
    hub.ends(&Case::new("models pull zoo"), &[], 2, &["owner/name"]);
    hub.ends(&Case::new("models pull zoo/../x"), &[], 2, &["owner/name"]);
    hub.asked();
    hub.ends(
        &pull(""),
        &[("HF_HUB_OFFLINE", "1")],
        2,
        &["HF_HUB_OFFLINE"],
    );
    assert!(hub.asked().is_empty());
    let nobody = [("HF_ENDPOINT", "http://127.0.0.1:9")];
    hub.ends(
        &pull(""),
        &nobody,
        5,
        &["127.0.0.1:9", "cannot be reached", "HTTPS_PROXY"],
    );
    let hub = Hub::new(&published(), Trouble::Huge);
    hub.ends(&pull(""), &[], 5, &["bytes are needed", "HF_HOME"]);
    let hub = Hub::new(&[("config.json", model_file("config.json"))], Trouble::None);
    hub.ends(&pull(""), &[], 4, &["neither safetensors nor pickles"]);
}

#[test]
fn pickles_are_converted_on_the_way_if_that_is_asked_for() {
    let pickle = torch::checkpoint(&[""]);
    let (first, second) = pickle.split_at(pickle.len() / 2);
    let config = || ("config.json", CONFIG.as_bytes().to_vec());
    let tokenizer = (
        "tokenizer_config.json",
        br#"{"model_max_length": 128}"#.to_vec(),
    );
    let one = vec![
        config(),
        tokenizer,
        ("pytorch_model.bin", pickle.clone()),
        ("training_args.bin", vec![1]),
    ];
    let parts = vec![
        config(),
        ("m.pt.part0", first.to_vec()),
        ("m.pt.part1", second.to_vec()),
    ];
    let bare = vec![("weights.ckpt", pickle.clone())];
    for (files, options) in [(one, ""), (parts, ""), (bare, " --config c.json")] {
        let hub = Hub::new(&files, Trouble::None);
        hub.ends(&pull(""), &[], 2, &["pickle", "--convert"]);
        let case = pull(&format!(" --convert{options}")).file("c.json", CONFIG);
        let directory = hub.ends(&case, &[], 0, &["converting"]);
        assert!(directory.ends_with("/crocuta\n"), "{directory}");
        let case = case.args("models verify hf:zoo/hyena");
        let verified = hub.ends(&case, &[], 0, &[]);
        assert!(
            verified.contains(&sha256(&model_file("model.safetensors"))),
            "{verified}"
        );
        let blobs = std::fs::read_dir(folder(&case).join("blobs")).unwrap();
        assert_eq!(blobs.count(), files.len() - usize::from(files.len() == 4));
        // Once is enough.
        let case = case.args(&format!("models pull zoo/hyena --convert{options}"));
        let (_, _, said) = hub.run(&case, &[]);
        assert!(!said.contains("converting"), "{said}");
    }
    let bare = Hub::new(&[("weights.ckpt", pickle.clone())], Trouble::None);
    bare.ends(&pull(" --convert"), &[], 2, &["no config.json", "--config"]);
    let two = [config(), ("a.pt", pickle.clone()), ("b.pt", vec![1])];
    let two = Hub::new(&two, Trouble::None);
    two.ends(
        &pull(" --convert"),
        &[],
        4,
        &["several pickles: a.pt, b.pt"],
    );
}

#[test]
fn shards_come_with_their_index() {
    let file = model_file("model.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let (mut map, mut shards) = (serde_json::Map::new(), [Vec::new(), Vec::new()]);
    let names = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ];
    for (i, (name, view)) in tensors.tensors().into_iter().enumerate() {
        map.insert(name.clone(), names[i % 2].into());
        shards[i % 2].push((name, view));
    }
    let [one, two] = shards.map(|shard| safetensors::serialize(shard, None).unwrap());
    let index = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    let files = [
        ("config.json", model_file("config.json")),
        ("model.safetensors.index.json", index.into_bytes()),
        (names[0], one),
        (names[1], two),
        ("adapter_model.safetensors", vec![0; 9]),
    ];
    let hub = Hub::new(&files, Trouble::None);
    let case = pull("");
    hub.ends(&case, &[], 0, &["4 files"]);
    hub.ends(&case.args("models verify hf:zoo/hyena"), &[], 0, &[]);
}

#[test]
fn nothing_else_opens_a_connection() {
    let hub = Hub::new(&published(), Trouble::None);
    for line in [
        "embed a.fa -m hf:zoo/hyena -o o.parquet",
        "models show hf:zoo/hyena",
        "models list --published",
        "version",
    ] {
        hub.run(&Case::new(line).file("a.fa", ">a\nACGT\n"), &[]);
    }
    let case = Case::new("embed a.fa -m hf:zoo/hyena -o o.parquet").file("a.fa", ">a\nACGT\n");
    hub.ends(
        &case,
        &[],
        4,
        &["crocuta models pull zoo/hyena`", "hf download zoo/hyena`"],
    );
    assert!(hub.asked().is_empty());
}

#[test]
fn a_proxy_is_asked_where_the_environment_names_one() {
    let hub = Hub::new(&published(), Trouble::None);
    let proxy = format!("http://{}", hub.address);
    let elsewhere = ("HF_ENDPOINT", "http://hub.invalid");
    hub.run(&pull(""), &[elsewhere, ("ALL_PROXY", &proxy)]);
    let asked = hub.asked();
    assert!(
        asked.iter().any(|line| line.contains("hub.invalid")),
        "{asked:?}"
    );
    hub.run(
        &pull(""),
        &[
            elsewhere,
            ("ALL_PROXY", &proxy),
            ("NO_PROXY", "hub.invalid"),
        ],
    );
    assert!(hub.asked().is_empty());
}
