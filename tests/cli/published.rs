//! Published Transformers from the command line.

use crate::harness::{Case, bases, record};
use std::path::Path;

/// A command on a sequence of 1,000 bases and a model of the goldens.
fn case(class: &str, line: &str) -> Case {
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/pretrained");
    let case = Case::new(line).file("a.fa", record("a", &bases(1, 1000), 60));
    let entries = goldens.join(class).read_dir().unwrap();
    entries.fold(case, |case, entry| {
        let entry = entry.unwrap();
        let name = format!("m/{}", entry.file_name().into_string().unwrap());
        case.file(&name, std::fs::read(entry.path()).unwrap())
    })
}

/// Bases that stand in the same token have one vector, and the table says which bases these are.
#[test]
fn rows_are_bases_and_say_which_their_token_covers() {
    for (class, k) in [("llama", Some(3)), ("bert", Some(3)), ("mistral", None)] {
        for strand in ["forward", "reverse"] {
            let line = format!("embed a.fa -m m -o out.parquet --strand {strand}");
            let table = case(class, &line).run().succeeds(&["out.parquet"]).table();
            let [place, start, end] =
                ["start", "token_start", "token_end"].map(|name| table.integers(name));
            let vectors = table.vectors("embedding");
            assert_eq!(place, (0..1000).collect::<Vec<_>>());
            let mut shared = 0;
            for row in 0..place.len() {
                assert!(
                    start[row] <= place[row] && place[row] < end[row],
                    "{class} {strand} {row}"
                );
                let whole = (3..997).contains(&place[row]);
                assert!(!whole || k.is_none_or(|k| end[row] - start[row] == k));
                if row > 0 && (start[row], end[row]) == (start[row - 1], end[row - 1]) {
                    shared += usize::from(vectors[row] == vectors[row - 1]);
                }
            }
            // One vector a k-mer: two of three rows have that of their neighbour; where k-mers
            // overlap only those at a window's end do.
            match class {
                "llama" => assert!((600..=667).contains(&shared), "{shared}"),
                "bert" => assert_eq!(shared, 2),
                _ => assert!(shared > 300, "{shared}"),
            }
        }
    }
}

#[test]
fn single_bases_bins_and_means_of_strands_have_no_columns_of_tokens() {
    for (class, args) in [
        ("qwen3", ""),
        ("llama", "--bin 100"),
        ("llama", "--strand mean"),
    ] {
        let line = format!("embed a.fa -m m -o out.parquet {args}");
        let table = case(class, &line).run().succeeds(&["out.parquet"]).table();
        assert!(
            !table.columns.iter().any(|name| name == "token_start"),
            "{class} {args}"
        );
    }
}

#[test]
fn predictions_are_probabilities_and_only_the_first_base_has_none() {
    for class in ["llama", "mistral", "mixtral", "qwen3", "bert"] {
        let line = "predict a.fa -m m -o out.parquet --region a:1-200 --context 0";
        let table = case(class, line).run().succeeds(&["out.parquet"]).table();
        let logp = table.numbers("logp_base");
        let missing = logp.iter().filter(|x| x.is_none()).count();
        assert_eq!(missing, usize::from(class != "bert"), "{class}");
        let other = table.numbers("p_other");
        let columns = ["p_A", "p_C", "p_G", "p_T"].map(|name| table.numbers(name));
        for row in 1..logp.len() {
            let sum: f32 = columns.iter().filter_map(|column| column[row]).sum();
            assert!((sum - 1.0).abs() < 1e-4, "{class} {row}: {sum}");
            assert!(logp[row].unwrap() <= 0.0 && (0.0..=1.0).contains(&other[row].unwrap()));
        }
    }
}

#[test]
fn variants_are_scored_in_windows() {
    let text = bases(1, 1000);
    let reference = &text[499..500];
    let alternate = if reference == "A" { "C" } else { "A" };
    let vcf = format!(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\na\t500\t.\t{reference}\t{alternate}\t.\t.\t.\n"
    );
    for class in ["llama", "mistral", "bert"] {
        let line = "score v.vcf -r a.fa -m m -o out.parquet --window 90";
        let outcome = case(class, line).file("v.vcf", &vcf).run();
        let table = outcome.succeeds(&["out.parquet"]).table();
        let column = if class == "bert" { "llr" } else { "delta_ll" };
        assert!(
            table.numbers(column)[0].is_some_and(|x| x != 0.0),
            "{class}"
        );
    }
    let line = "score v.vcf -r a.fa -m m -o out.parquet --mode stream";
    let outcome = case("llama", line).file("v.vcf", &vcf).run();
    outcome.fails(2, &["no stream to fork", "--mode window"]);
}

#[test]
fn what_published_transformers_do_not_do_is_refused() {
    let embed = "embed a.fa -m m -o out.parquet";
    for (line, code, messages) in [
        (format!("{embed} --chunk 100"), 2, ["--chunk", "--window"]),
        (
            format!("{embed} --device cuda"),
            2,
            ["run on the CPU", "--device cpu"],
        ),
        (
            format!("{embed} --layer 1"),
            2,
            ["last layer alone", "--layer norm"],
        ),
        (format!("{embed} --exact"), 2, ["--exact", "windows"]),
        (
            format!("{embed} --attention-window 9"),
            2,
            ["attention", "--window"],
        ),
        (
            format!("{embed} --window 1000"),
            2,
            ["more than 128", "--window"],
        ),
        (
            "fit a.fa -m m -o fitted --validate a".into(),
            2,
            ["as it was published", "train"],
        ),
        (
            "models new --config m/config.json -o new".into(),
            2,
            ["not made anew", "models list"],
        ),
    ] {
        case("llama", &line).run().fails(code, &messages);
    }
    let line = "predict a.fa -m m -o out.parquet";
    case("mosaic-bert", line).run().fails(4, &["no mask token"]);
    let config = r#"{"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 48, "vocab_size": 72, "num_key_value_heads": 3}"#;
    let outcome = case("llama", embed).file("m/config.json", config).run();
    outcome.fails(4, &["m/config.json", "num_key_value_heads"]);
    let outcome = case("llama", embed).file("m/vocab.txt", "A\nAC\n").run();
    outcome.fails(4, &["m/vocab.txt", "not k-mers"]);
    let outcome = case("mistral", embed).file("m/tokenizer.json", "{").run();
    outcome.fails(4, &["m/tokenizer.json"]);
}
