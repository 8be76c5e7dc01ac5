//! `models`, versions and help.

use crate::harness::bytes::torch;
use crate::harness::table::Table;
use crate::harness::{CONFIG, Case, model_file};

fn said(args: &str) -> String {
    String::from_utf8(Case::new(args).run().succeeds(&[]).stdout).unwrap()
}

#[test]
fn the_version_is_one_line() {
    assert_eq!(
        said("--version"),
        format!("crocuta {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn every_help_ends_with_an_example() {
    for command in [
        "",
        "embed",
        "predict",
        "check",
        "check embed",
        "models",
        "models new",
        "models list",
        "models show",
        "models verify",
        "models convert",
        "predict",
    ] {
        let help = said(&format!("{command} --help"));
        let example = help
            .split_once("Example:\n")
            .or_else(|| help.split_once("Examples:\n"))
            .map_or("", |(_, examples)| examples);
        assert!(!example.is_empty(), "{command}\n{help}");
        for line in example.trim_end().lines() {
            assert!(line.starts_with("  crocuta "), "{command}\n{help}");
        }
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    for args in [
        "",
        "embed",
        "embed a.fa",
        "nothing",
        "embed a.fa -m model --chunk 0",
        "embed a.fa -m model --pool max",
    ] {
        let out = Case::new(args).run();
        assert_eq!(out.code, Some(2), "{args}");
        assert!(out.stdout.is_empty(), "{args}");
    }
}

#[test]
fn presets_are_listed() {
    let list = said("models list");
    for name in [
        "hyenadna-tiny-1k",
        "caduceus-ps-131k",
        "mamba-d256-l16",
        "evo2-7b",
    ] {
        assert!(list.lines().any(|line| line == name), "{name}");
    }
}

#[test]
fn a_model_is_made_shown_and_verified() {
    let new = |seed| {
        let args = format!("models new --config c.json --seed {seed} -o new");
        let out = Case::new(&args).file("c.json", CONFIG).run();
        out.succeeds(&["new", "new/config.json", "new/model.safetensors"])
    };
    let [first, other] = [1, 2].map(new);
    assert!(first.file("new/model.safetensors") == model_file("model.safetensors"));
    assert!(first.file("new/model.safetensors") != other.file("new/model.safetensors"));
    let digest = String::from_utf8(first.stdout).unwrap();
    let (digest, path) = digest.split_once("  ").unwrap();
    assert_eq!(path, "new/model.safetensors\n");

    let verified = said("models verify model");
    assert!(
        verified.contains(&format!("{digest}  model.safetensors\n")),
        "{verified}"
    );
    let shown = said("models show model");
    for line in [
        "name: model",
        "architecture: HyenaDNA",
        "layers: 2",
        "width: 16",
        "context: 128 bases",
    ] {
        assert!(shown.lines().any(|found| found == line), "{line}\n{shown}");
    }
    assert!(shown.contains(digest));
    Case::new("models new --config c.json -o model")
        .file("c.json", CONFIG)
        .run()
        .fails(2, &["model", "exists"]);
}

#[test]
fn a_preset_runs() {
    let mut case = Case::new("models new --preset hyenadna-tiny-1k -o new");
    let out = case
        .run()
        .succeeds(&["new", "new/config.json", "new/model.safetensors"]);
    assert!(out.file("new/model.safetensors").len() > 1_802_848);
    let case = case
        .args("embed a.fa -m new -o out.parquet")
        .file("a.fa", ">a\nACGT\n");
    let table = { case }.run().succeeds(&["out.parquet"]).table();
    assert_eq!(table.vectors("embedding")[0].len(), 128);
    Case::new("models new --preset none -o new")
        .run()
        .fails(2, &["hyenadna-tiny-1k"]);
}

/// A pickle of a dictionary with this name for each tensor, all float32 in storages of their own.
fn checkpoint() -> Vec<u8> {
    let file = model_file("model.safetensors");
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let text = |s: &str| [b"X", &(s.len() as u32).to_le_bytes()[..], s.as_bytes()].concat();
    let number = |n: usize| [b"J", &(n as u32).to_le_bytes()[..]].concat();
    let numbers = |list: &[usize]| {
        let items: Vec<u8> = list.iter().flat_map(|&n| number(n)).collect();
        [&b"("[..], &items, b"t"].concat()
    };
    let mut pickle = b"\x80\x02}(".to_vec();
    let mut entries = Vec::new();
    for (i, (name, view)) in tensors.tensors().into_iter().enumerate() {
        let shape = view.shape().to_vec();
        let strides: Vec<usize> = (0..shape.len())
            .map(|k| shape[k + 1..].iter().product())
            .collect();
        let (key, count) = (i.to_string(), shape.iter().product::<usize>());
        for part in [
            text(&name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text(&key),
            text("cpu"),
            number(count),
            b"tQ".to_vec(),
            number(0),
            numbers(&shape),
            numbers(&strides),
            b"\x89ccollections\nOrderedDict\n)RtR".to_vec(),
        ] {
            pickle.extend(part);
        }
        entries.push((format!("archive/data/{key}"), view.data().to_vec()));
    }
    pickle.extend(b"u.");
    let entries: Vec<_> = entries
        .iter()
        .map(|(name, data)| (name.as_str(), &data[..]))
        .collect();
    torch(&pickle, &entries)
}

#[test]
fn a_converted_checkpoint_gives_the_same_table() {
    let mut case = Case::new("models convert m.pt --config c.json -o new")
        .file("m.pt", checkpoint())
        .file("c.json", CONFIG)
        .file("a.fa", ">a\nACGTACGTTTGACCA\n");
    let out = case
        .run()
        .succeeds(&["new", "new/config.json", "new/model.safetensors"]);
    assert!(out.stdout.ends_with(b"  new/model.safetensors\n"));
    let mut rows = Vec::new();
    for model in ["new", "model"] {
        case = case.args(&format!("embed a.fa -m {model} -o {model}.parquet"));
        let name = format!("{model}.parquet");
        let out = case.run().succeeds(&[&name]);
        rows.push(Table::read(out.file(&name)).vectors("embedding"));
    }
    assert_eq!(rows[0], rows[1]);
}
