//! `models`, versions and help.

use crate::harness::table::Table;
use crate::harness::{CONFIG, Case, bases, compare, model_file, record, torch};

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
        "check predict",
        "check score",
        "check reads",
        "score",
        "reads",
        "fit",
        "models",
        "models new",
        "models list",
        "models show",
        "models verify",
        "models compare",
        "models convert",
        "completions",
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
fn bundled_models_need_no_files() {
    let list = said("models list");
    let bundled = list.lines().map(|line| line.split_whitespace().collect());
    let bundled = bundled.filter(|words: &Vec<&str>| words[1] == "bundled");
    let bundled: Vec<&str> = bundled.map(|words| words[0]).collect();
    assert_eq!(
        bundled,
        [
            "crocuta-bacteria",
            "crocuta-bacteria-genes",
            "crocuta-human"
        ]
    );
    for name in bundled {
        let shown = said(&format!("models show {name}"));
        assert!(shown.contains(&format!("name: {name}\n")), "{shown}");
    }
}

#[test]
fn a_model_stored_in_half_the_bytes_says_all_but_the_same() {
    let text = record("a", &bases(1, 500), 60);
    let mut case =
        Case::new("models convert crocuta-bacteria --dtype f32 -o wide").file("a.fa", text);
    case.run();
    let mut case = case.args("models convert wide --dtype bf16 -o narrow");
    case.run();
    let mut tables = Vec::new();
    for (model, out) in [("crocuta-bacteria", "1"), ("wide", "2"), ("narrow", "3")] {
        case = case.args(&format!("predict a.fa -m {model} -o {out}.parquet"));
        let outcome = case.run();
        tables.push(Table::read(outcome.file(&format!("{out}.parquet"))).numbers("logp_base"));
    }
    assert!(tables[0] == tables[1]);
    let known = |i: usize| tables[i].iter().flatten().copied().collect::<Vec<f32>>();
    let most = compare::apart(&known(2), &known(0));
    assert!(most > 0.0 && most < 0.1, "{most}");
}

#[test]
fn int8_takes_half_of_float16_and_is_opened_as_any_other_type() {
    let text = record("a", &bases(1, 500), 60);
    let mut case =
        Case::new("models convert crocuta-bacteria --dtype f16 -o half").file("a.fa", text);
    let half = case.run().file("half/model.safetensors").len();
    let mut case = case.args("models convert half --dtype int8 -o small");
    let outcome = case.run();
    let small = outcome.file("small/model.safetensors").len();
    assert!(100 * small < 52 * half, "{small} of {half}");
    let digest = String::from_utf8(outcome.stdout.clone()).unwrap();
    let mut case = case.args("models verify small");
    let verified = String::from_utf8(case.run().succeeds(&[]).stdout).unwrap();
    let digest = digest.split(' ').next().unwrap();
    assert!(
        verified.contains(&format!("{digest}  model.safetensors\n")),
        "{verified}"
    );
    let mut tables = Vec::new();
    for (model, out) in [("half", "1"), ("small", "2")] {
        case = case.args(&format!("predict a.fa -m {model} -o {out}.parquet"));
        let table = Table::read(case.run().file(&format!("{out}.parquet")));
        let known = table.numbers("logp_base").into_iter().flatten();
        tables.push(known.collect::<Vec<f32>>());
    }
    let most = compare::apart(&tables[0], &tables[1]);
    assert!(most > 0.0 && most < 0.05, "{most}");
}

#[test]
fn models_are_listed_with_their_sizes() {
    let list = said("models list");
    let cells = |name: &str| {
        let line = list.lines().find(|line| line.starts_with(name)).unwrap();
        let cells = line
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty());
        cells.map(str::to_string).collect::<Vec<_>>()
    };
    let heads = [
        "name",
        "weights",
        "parameters",
        "context",
        "organism",
        "size",
    ];
    assert_eq!(cells("name"), heads);
    let [_, weights, parameters, context, organism, _] = &cells("crocuta-human")[..] else {
        panic!("{list}")
    };
    assert_eq!(
        [weights, parameters, organism],
        ["bundled", "1.7 M", "human"],
        "{context}"
    );
    for (name, parameters, context) in [
        ("hyenadna-tiny-1k ", "0.4 M", "1,024"),
        ("hyenadna-large-1m", "6.6 M", "1,000,000"),
        ("caduceus-ps-131k", "7.7 M", "-"),
        ("mamba-d256-l16", "7.0 M", "-"),
        ("evo2-7b", "6.6 B", "1,048,576"),
    ] {
        let cells = cells(name);
        assert_eq!(
            [&*cells[1], &*cells[2], &*cells[3]],
            ["untrained", parameters, context],
            "{name}"
        );
    }
}

#[test]
fn published_models_are_listed_with_the_commands_that_bring_them() {
    let list = said("models list --published");
    let models = list.lines().skip(1).take_while(|line| !line.is_empty());
    let names: Vec<&str> = models
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        names.contains(&"LongSafari/hyenadna-small-32k-seqlen-hf"),
        "{list}"
    );
    for name in names {
        let command = format!("  crocuta models pull {name}");
        assert!(
            list.lines().any(|line| line.starts_with(&command)),
            "{name}\n{list}"
        );
    }
    let size = "LongSafari/hyenadna-large-1m-seqlen-hf";
    let line = list.lines().find(|line| line.starts_with(size)).unwrap();
    assert!(
        line.contains("1,000,000") && line.ends_with("218.2 MB"),
        "{line}"
    );
}

#[test]
fn the_program_says_what_it_is_and_what_it_finds() {
    let text = said("version");
    assert!(
        text.starts_with(&format!("version: {}\n", env!("CARGO_PKG_VERSION"))),
        "{text}"
    );
    for line in ["commit: ", "simd: ", "features: ", "GPUs: ", "libnvrtc: "] {
        assert!(
            text.lines().any(|found| found.starts_with(line)),
            "{line}\n{text}"
        );
    }
    let found: serde_json::Value = serde_json::from_str(&said("version --json")).unwrap();
    assert_eq!(found["version"], env!("CARGO_PKG_VERSION"));
    assert!(found["commit"].is_null() || found["commit"].as_str().unwrap().len() >= 7);
    assert!(found["simd"].is_string() && found["features"].is_array());
    let libraries = found["cuda"]["libraries"].as_array().unwrap();
    assert_eq!(libraries.len(), 5);
    for library in libraries {
        assert_eq!(
            library["found"] == false,
            library["path"].is_null(),
            "{library}"
        );
    }
}

#[test]
fn sizes_have_suffixes() {
    let new = |size: &str| {
        let args = format!("models new --preset hyenadna-tiny-1k -o new --max-size {size}");
        Case::new(&args).run()
    };
    new("1.7M").fails(2, &["--max-size"]);
    new("large").fails(2, &["--max-size", "1.5G"]);
    new("2M").succeeds(&["new", "new/config.json", "new/model.safetensors"]);
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
fn a_model_that_no_command_would_open_is_not_made() {
    for (key, value) in [
        ("n_layer", "0"),
        ("d_model", "0"),
        ("max_seq_len", "1"),
        ("emb_dim", "4"),
        ("vocab_size", "5"),
        ("filter_order", "0"),
        ("num_inner_mlps", "9999"),
    ] {
        let mut config: serde_json::Value = serde_json::from_str(CONFIG).unwrap();
        config[key] = serde_json::from_str(value).unwrap();
        let mut case = Case::new("models new --config c.json -o new");
        case = case.file("c.json", config.to_string());
        let outcome = case.run();
        // What is made can be opened.
        match outcome.code {
            Some(0) => {
                let mut case = case.args("models verify new");
                case.run().succeeds(&[]);
            }
            _ => drop(outcome.fails(4, &[key])),
        }
    }
}

#[test]
fn bundled_models_can_be_verified() {
    for model in [
        "crocuta-bacteria",
        "crocuta-bacteria-genes",
        "crocuta-human",
    ] {
        let said = said(&format!("models verify {model}"));
        assert!(said.contains("  config.json\n"), "{said}");
        assert!(said.contains("  model.safetensors\n"), "{said}");
    }
}

#[test]
fn weights_that_are_not_finite_are_an_error_in_every_command_that_computes() {
    for bad in [f32::NAN, f32::INFINITY] {
        let mut weights = model_file("model.safetensors");
        let end = weights.len();
        weights[end - 4..].copy_from_slice(&bad.to_le_bytes());
        for command in [
            "models verify model",
            "predict a.fa -m model -o out.parquet",
            "reads a.fq -m model -o out.parquet",
            "fit a.fa -m model -o out --steps 1",
        ] {
            let case = Case::new(command)
                .file("a.fa", record("a", &bases(1, 300), 60))
                .file("a.fq", "@r\nACGTAC\n+\nIIIIII\n")
                .file("model/model.safetensors", &weights);
            { case }
                .run()
                .fails(4, &["tensor ", "is not a finite number"]);
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_not_converted() {
    let mut weights = model_file("model.safetensors");
    let end = weights.len();
    weights[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let convert = |args: &str| Case::new(&format!("models convert {args} -o new"));
    for args in ["--dtype f32", "--dtype bf16", "--distil 2"] {
        let case = convert(&format!("model {args}")).file("model/model.safetensors", &weights);
        { case }
            .run()
            .fails(4, &["tensor ", "is not a finite number"]);
    }
    // More than float16 holds.
    let mut weights = model_file("model.safetensors");
    weights[end - 4..].copy_from_slice(&1e5f32.to_le_bytes());
    let case = |dtype| {
        let case = convert(&format!("model --dtype {dtype}"));
        case.file("model/model.safetensors", &weights)
    };
    let file = safetensors::SafeTensors::deserialize(&weights).unwrap();
    let tensors = file.tensors();
    let last = tensors.iter().max_by_key(|(_, view)| view.data().as_ptr());
    let (name, view) = last.unwrap();
    if name.ends_with(".weight") && view.shape().len() == 2 {
        case("f16")
            .run()
            .fails(4, &[name, "is not a finite number", "float16"]);
    }
    case("bf16")
        .run()
        .succeeds(&["new", "new/config.json", "new/model.safetensors"]);
}

#[test]
fn a_torch_file_with_two_copies_of_the_weights_is_refused_until_one_is_taken_out() {
    for prefixes in [&["", "ema."][..], &["model.", "ema."]] {
        let case = Case::new("models convert m.pt --config c.json -o new")
            .file("m.pt", torch::checkpoint(prefixes))
            .file("c.json", CONFIG);
        { case }
            .run()
            .fails(4, &["m.pt: two copies of the weights", "ema."]);
    }
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

#[test]
fn a_converted_checkpoint_gives_the_same_table() {
    let mut case = Case::new("models convert m.pt --config c.json -o new")
        .file("m.pt", torch::checkpoint(&[""]))
        .file("c.json", CONFIG)
        .file("a.fa", ">a\nACGTACGTTTGACCA\n");
    let out = case
        .run()
        .succeeds(&["new", "new/config.json", "new/model.safetensors"]);
    assert!(out.stdout.ends_with(b"  new/model.safetensors\n"));
    // Less address space than the child may use at most.
    for memory in [1 << 30, 512 << 20] {
        let mut small = Case::new("models convert m.pt --config c.json -o new")
            .file("m.pt", torch::checkpoint(&[""]))
            .file("c.json", CONFIG)
            .memory(memory);
        let again = small
            .run()
            .succeeds(&["new", "new/config.json", "new/model.safetensors"]);
        assert!(again.file("new/model.safetensors") == out.file("new/model.safetensors"));
    }
    let mut rows = Vec::new();
    for model in ["new", "model"] {
        case = case.args(&format!("embed a.fa -m {model} -o {model}.parquet"));
        let name = format!("{model}.parquet");
        let out = case.run().succeeds(&[&name]);
        rows.push(Table::read(out.file(&name)).vectors("embedding"));
    }
    assert_eq!(rows[0], rows[1]);
}

/// A directory of Hugging Face's cache that holds the small model as zoo/hyena, at a branch and at
/// a commit.
fn cached(case: Case) -> Case {
    let folder = "hub/models--zoo--hyena";
    let case = ["config.json", "model.safetensors"]
        .into_iter()
        .fold(case, |case, name| {
            case.file(
                &format!("{folder}/snapshots/c0ffee/{name}"),
                model_file(name),
            )
        });
    case.file(&format!("{folder}/refs/main"), "c0ffee\n")
        .file(&format!("{folder}/refs/evil"), "../../../..")
}

fn with_cache(case: &Case) -> (Option<i32>, String, String) {
    let mut command = case.command();
    let out = command.env("HF_HOME", case.path("")).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (out.status.code(), text(out.stdout), text(out.stderr))
}

#[test]
fn a_model_in_hugging_face_s_cache_is_found_by_its_name() {
    let mut case = cached(Case::new("")).file("a.fa", ">a\nACGT\n");
    for name in ["hf:zoo/hyena", "hf:zoo/hyena@c0ffee", "hf:zoo/hyena@main"] {
        case = case.args(&format!("models show {name}"));
        let (code, shown, said) = with_cache(&case);
        assert_eq!(code, Some(0), "{said}");
        let expected = format!("name: {}\n", &name[3..]);
        assert!(shown.starts_with(&expected), "{shown}");
    }
    case = case.args("embed a.fa -m hf:zoo/hyena -o out.parquet");
    let (code, _, said) = with_cache(&case);
    assert_eq!(code, Some(0), "{said}");
    let table = Table::read(&std::fs::read(case.path("out.parquet")).unwrap());
    assert_eq!(table.footer["model"]["name"], "zoo/hyena");
}

#[test]
fn a_model_that_is_not_in_the_cache_says_how_it_gets_there() {
    let mut case = cached(Case::new(""));
    for (name, code, words) in [
        ("hf:zoo/other", 4, "hf download zoo/other`"),
        ("hf:zoo/hyena@v2", 4, "hf download zoo/hyena --revision v2`"),
        ("hf:zoo/hyena@evil", 4, "not in the cache"),
        ("hf:zoo", 2, "hf:owner/name"),
        ("hf:../hyena", 2, "hf:owner/name"),
        ("hf:zoo/hyena@../x", 2, "hf:owner/name"),
    ] {
        case = case.args(&format!("models show {name}"));
        let (found, _, said) = with_cache(&case);
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(words) && said.contains(name), "{said}");
    }
}

#[cfg(not(feature = "hub"))]
#[test]
fn a_build_without_a_client_of_the_hub_says_which_has_one() {
    Case::new("models pull zoo/hyena@v2").run().fails(
        2,
        &["--features hub", "hf download zoo/hyena --revision v2"],
    );
}

#[test]
fn digests_beside_a_model_are_held_against_it_at_every_start() {
    let sums = said("models verify model");
    let other = sums.replace(&sums[..8], "00000000");
    let embed = |sums: &str| Case::embed(">a\nACGT\n", "").file("model/SHA256SUMS", sums);
    embed(&sums).run().succeeds(&["out.parquet"]);
    let starred = format!("# published\n{}", sums.to_uppercase().replace("  ", " *./"));
    let starred = starred.replace("CONFIG.JSON", "config.json");
    let starred = starred.replace("MODEL.SAFETENSORS", "model.safetensors");
    embed(&starred).run().succeeds(&["out.parquet"]);
    let digest = &sums[..64];
    let words = [digest, &other[..64], "SHA256SUMS", "config.json"];
    embed(&other).run().fails(4, &words);
    embed(sums.lines().next().unwrap())
        .run()
        .fails(4, &["model.safetensors", "not listed"]);
    embed("x  y\n").run().fails(4, &["SHA256SUMS", "line 1"]);
    embed("")
        .run()
        .fails(4, &["SHA256SUMS", "lists no files", "move"]);
    let verify =
        |sums: &str| Case::new("models verify model --digests published").file("published", sums);
    verify(&sums).run().succeeds(&[]);
    verify(&other).run().fails(4, &words[..2]);
    Case::new("models verify model --digests none")
        .run()
        .fails(5, &["none"]);
}

#[test]
fn a_distilled_model_says_its_errors_and_works_everywhere() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/hyenadna");
    let text = record("a", &bases(3, 300), 60);
    for model in ["model", golden] {
        let files = ["small", "small/config.json", "small/distillation.json"];
        let files = [&files[..], &["small/model.safetensors"]].concat();
        let args = format!("models convert {model} --distil 8 --check a.fa -o small");
        let mut case = Case::new(&args).file("a.fa", &text);
        let out = case.run().succeeds(&files);
        let said = String::from_utf8(out.stdout.clone()).unwrap();
        assert!(said.ends_with("  small/model.safetensors\n"), "{said}");
        let errors: serde_json::Value =
            serde_json::from_slice(out.file("small/distillation.json")).unwrap();
        let modes = errors["modes"].as_u64().unwrap();
        assert!((1..=8).contains(&modes), "{errors}");
        assert_eq!(errors["modes_allowed"], 8);
        let relative = errors["output"]["rms_difference"].as_f64().unwrap();
        assert!(relative > 0.0 && relative < 1.0, "{errors}");
        assert_eq!(errors["filters"].as_array().unwrap().len(), 2, "{errors}");
        for line in [
            &format!("filters of 130 taps as {modes} modes"),
            "\n0\t",
            "\n1\t",
            "on 300 bases (a.fa)",
        ] {
            assert!(said.contains(line), "{said}");
        }

        for (args, words) in [
            (
                "models show small",
                &*format!("note: filters are sums of {modes} exponentials"),
            ),
            ("models verify small", "  model.safetensors\n"),
            ("check embed a.fa -m small", "memory besides the weights: "),
        ] {
            case = case.args(args);
            let said = String::from_utf8(case.run().succeeds(&[]).stdout).unwrap();
            assert!(said.contains(words), "{args}\n{said}");
        }
        let table = |command: &str, model: &str| {
            let args = format!("{command} a.fa -m {model} -o out.parquet --force");
            let out = Case::new(&args).file("a.fa", &text);
            let out = ["config.json", "model.safetensors"]
                .iter()
                .fold(out, |out, name| {
                    out.file(
                        &format!("small/{name}"),
                        std::fs::read(case.path("small").join(name)).unwrap(),
                    )
                });
            { out }.run().succeeds(&["out.parquet"]).table()
        };
        let vectors = |table: &Table| table.vectors("embedding");
        let distilled = vectors(&table("embed --dtype f32", "small"));
        let original = vectors(&table("embed --dtype f32", model));
        let square =
            |rows: &[Vec<f32>]| rows.iter().flatten().map(|x| f64::from(x * x)).sum::<f64>();
        let differences: Vec<Vec<f32>> = distilled
            .iter()
            .zip(&original)
            .map(|(a, b)| a.iter().zip(b).map(|(a, b)| a - b).collect())
            .collect();
        // The error that was printed is the error that a run meets.
        let found = (square(&differences) / square(&original)).sqrt();
        assert!((found / relative - 1.0).abs() < 0.05, "{found} {relative}");
        let odds = table("predict", "small").numbers("p_A");
        assert!(
            odds[1..]
                .iter()
                .all(|p| p.is_some_and(|p| (0.0..=1.0).contains(&p)))
        );
    }
}

#[test]
fn a_cheaper_attention_says_its_error_on_the_user_s_sequence_and_learns() {
    let config = r#"{"model_type": "crocuta-transformer", "hidden_size": 16, "num_layers": 1,
        "num_heads": 2, "initializer_range": 0.3, "max_seq_len": 128, "attention": "causal"}"#;
    let text = record("a", &bases(3, 600), 60) + &record("b", &bases(4, 200), 60);
    let mut case = Case::new("models new --config c.json -o m")
        .file("c.json", config)
        .file("a.fa", &text);
    case.run()
        .succeeds(&["m", "m/config.json", "m/model.safetensors"]);
    for (kind, name) in [("sliding:16", "s"), ("performer:64", "p")] {
        let files = ["", "/attention.json", "/config.json", "/model.safetensors"];
        let files = files.map(|file| format!("{name}{file}"));
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        case = case.args(&format!(
            "models convert m --attention {kind} --check a.fa -o {name}"
        ));
        let out = case.run().succeeds(&files);
        let said = String::from_utf8(out.stdout.clone()).unwrap();
        assert!(said.contains("on 800 bases (a.fa)"), "{said}");
        assert!(said.contains("bits a base: "), "{said}");
        // What convert said is what compare says, and a model is as it is.
        let compared = |case: Case, model: &str| {
            let mut case = case.args(&format!("models compare m {model} --check a.fa"));
            let out = case.run().succeeds(&[]);
            (case, String::from_utf8(out.stdout).unwrap())
        };
        let (same, words) = compared(case, name);
        assert!(
            said.contains(words.lines().next().unwrap()),
            "{said}{words}"
        );
        let (same, words) = compared(same, "m");
        assert!(words.contains("difference 0.00e0 of"), "{words}");
        case = same;
        let errors = out.file(&format!("{name}/attention.json"));
        let errors: serde_json::Value = serde_json::from_slice(errors).unwrap();
        let rms = errors["output"]["rms_difference"].as_f64().unwrap();
        assert!(rms > 0.0 && rms < 2.0, "{errors}");
        let bits = &errors["bits_per_base"];
        assert!(
            bits["original"].as_f64() != bits["converted"].as_f64(),
            "{bits}"
        );

        let fit = format!(
            "fit a.fa -m {name} --lora 2 --steps 3 --chunk 64 --batch 2 --length 128 --validate b \
             --device cpu -o {name}-lora"
        );
        case = case.args(&fit);
        let made = [
            "",
            "/README.md",
            "/adapter_config.json",
            "/adapter_model.safetensors",
            "/loss.svg",
            "/metrics.json",
        ];
        let made = made.map(|file| format!("{name}-lora{file}"));
        case.run()
            .succeeds(&made.iter().map(String::as_str).collect::<Vec<_>>());
    }
    case = case.args("models compare m s --adapter s-lora --check a.fa");
    let said = String::from_utf8(case.run().succeeds(&[]).stdout).unwrap();
    assert!(said.contains("bits a base: "), "{said}");
    case = case.args("models compare m model");
    case.run().succeeds(&[]);
    case = case.args("models convert m --attention nystrom -o n");
    case.run()
        .fails(2, &["sees both sides", "sliding or performer"]);
    case = case.args("models convert model --attention sliding -o n");
    case.run()
        .fails(2, &["crocuta-transformer", "--attention-window"]);
    case = case.args("models convert m --attention linformer -o n");
    case.run()
        .fails(2, &["expected sliding, performer or nystrom"]);
    for model in ["m", "crocuta-bacteria"] {
        case = case.args(&format!("models convert {model} -o n"));
        case.run().fails(2, &["--dtype, --distil or --attention"]);
    }
    case = case.args("models convert m --check a.fa -o n");
    case.run().fails(2, &["--distil", "--attention"]);
}
