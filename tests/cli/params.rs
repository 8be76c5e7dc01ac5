//! Options from files and from the environment, and where messages go.

use crate::harness::{Case, Outcome, bases, record};

/// The program with variables of the environment.
fn with(case: &Case, variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let out = case
        .command()
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    (out.status.code(), String::from_utf8(out.stderr).unwrap())
}

fn embed(args: &str) -> Case {
    Case::new(&format!("embed {args}")).file("a.fa", record("a", &bases(1, 300), 60))
}

fn rows(outcome: &Outcome) -> usize {
    outcome.table().integers("start").len()
}

const PARAMS: &str = "fasta: a.fa\nmodel: model\noutput: out.parquet\n# ten rows\nbin: 10\nregion: [a:1-100, a:201-250]\nforce: true\nlayer:\n";

#[test]
fn options_of_a_file_are_those_of_the_command_line_which_wins() {
    let case = |args: &str| embed(args).file("p.yaml", PARAMS);
    assert_eq!(
        rows(&case("--params p.yaml").run().succeeds(&["out.parquet"])),
        15
    );
    assert_eq!(
        rows(
            &case("--params p.yaml --bin 50")
                .run()
                .succeeds(&["out.parquet"])
        ),
        3
    );
    let region = "--region a:1-20 --params p.yaml";
    assert_eq!(rows(&case(region).run().succeeds(&["out.parquet"])), 2);
    // The command's input and its output too.
    let other = "b.fa -o b.parquet --params=p.yaml";
    let outcome = case(other).file("b.fa", ">a\nACGTACGTACGTACGT\n>b\nACGT\n");
    { outcome }.run().fails(2, &["a:201-250"]);
    let json = r#"{"fasta": "a.fa", "bin": 100, "output": "out.parquet"}"#;
    let outcome = embed("--params p.json -m model").file("p.json", json);
    assert_eq!(rows(&{ outcome }.run().succeeds(&["out.parquet"])), 3);
    let mut checked = Case::new("check embed --params p.yaml")
        .file("a.fa", record("a", &bases(1, 300), 60))
        .file("p.yaml", PARAMS);
    let said = String::from_utf8(checked.run().succeeds(&[]).stdout).unwrap();
    assert!(said.contains("rows: 15\n"), "{said}");
}

#[test]
fn what_a_file_of_options_cannot_say_is_an_error_that_names_its_line() {
    for (text, code, words) in [
        (
            "bin: 10\nbins: 20\n",
            2,
            &["p.yaml: line 2: ", "no option bins", "did you mean bin?"][..],
        ),
        ("regions_file: r.bed\n", 2, &["did you mean regions-file?"]),
        ("wholly: other\n", 2, &["line 1: ", "crocuta embed --help"]),
        ("params: p.yaml\n", 2, &["no option params"]),
        ("force: 1\n", 2, &["line 1: ", "true or false"]),
        ("bin: [1, 2]\n", 2, &["line 1: ", "one value"]),
        ("bin: ten\n", 2, &["--bin", "p.yaml"]),
        ("bin\n", 3, &["p.yaml: line 1: "]),
        ("bin: {a: 1}\n", 3, &["p.yaml: line 1: "]),
    ] {
        let case = embed("a.fa -m model -o out.parquet --params p.yaml").file("p.yaml", text);
        { case }.run().fails(code, words);
    }
    embed("a.fa --params none.yaml")
        .run()
        .fails(5, &["none.yaml"]);
}

#[test]
fn a_run_writes_the_options_that_repeat_it() {
    let args = "a.fa -m model -o out.parquet --bin 10 --region a:1-100 --region a:201-250 --write-params p.yaml";
    let mut case = embed(args);
    let first = case.run().succeeds(&["out.parquet", "p.yaml"]);
    let text = String::from_utf8(first.file("p.yaml").to_vec()).unwrap();
    for line in [
        "fasta: a.fa",
        "bin: 10",
        "region: [\"a:1-100\", \"a:201-250\"]",
        "# pool: mean",
        "# force: false",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    assert!(!text.contains("write-params"), "{text}");
    let again = case.args("embed --params p.yaml --force").run();
    assert!(again.succeeds(&["out.parquet"]).file("out.parquet") == first.file("out.parquet"));
    // Neither of two outputs stands if one cannot.
    embed(args)
        .file("p.yaml", "x")
        .run()
        .fails(2, &["p.yaml", "exists"]);
    let bad = args.replace("a:1-100", "b");
    embed(&bad).run().fails(2, &["\"b\""]);
}

#[test]
fn short_forms_and_variables_say_what_options_say() {
    let bed = |args: &str| embed(args).file("r.bed", "a\t0\t7\n");
    for short in [
        "-R r.bed -@ 2",
        "-L r.bed -t 1",
        "--regions-file r.bed --threads 2",
    ] {
        let mut case = bed(&format!("a.fa -m model -o out.parquet {short}"));
        assert_eq!(rows(&case.run().succeeds(&["out.parquet"])), 7, "{short}");
    }
    let case = embed("a.fa -o out.parquet");
    let model = [("CROCUTA_MODEL", "model"), ("CROCUTA_THREADS", "1")];
    let (code, said) = with(&case, &model);
    assert!(
        code == Some(0) && said.contains("model model (") && said.contains("1 thread"),
        "{said}"
    );
    // The command line wins, and so does a file.
    let case = case.args("embed a.fa -o b.parquet -m crocuta-human");
    let (_, said) = with(&case, &[("CROCUTA_MODEL", "none")]);
    assert!(said.contains("model crocuta-human (bundled)"), "{said}");
    let case = case.file("p.yaml", "model: crocuta-human\n");
    let case = case.args("embed a.fa -o c.parquet --params p.yaml");
    let (_, said) = with(&case, &[("CROCUTA_MODEL", "none")]);
    assert!(said.contains("model crocuta-human (bundled)"), "{said}");
    let (code, said) = with(&case, &[("CROCUTA_THREADS", "many")]);
    assert!(
        code == Some(2) && said.contains("CROCUTA_THREADS") || said.contains("--threads"),
        "{said}"
    );
}

#[test]
fn a_log_file_holds_what_was_said_and_the_error_with_times() {
    let mut case = embed("a.fa -m model -o out.parquet --log-file log");
    let first = case.run().succeeds(&["out.parquet", "log"]);
    let timed = |text: &str| -> Vec<String> {
        let lines = text
            .lines()
            .map(|line| line.split_once("Z crocuta: ").unwrap());
        lines
            .map(|(time, said)| {
                assert!(time.starts_with("20") && time.contains('T'), "{time}");
                said.to_string()
            })
            .collect()
    };
    let text = String::from_utf8(first.file("log").to_vec()).unwrap();
    let said: Vec<&str> = first
        .stderr
        .lines()
        .map(|line| &line["crocuta: ".len()..])
        .collect();
    assert_eq!(timed(&text), said);
    let second = case.run();
    let (code, stderr) = (second.code, second.stderr.clone());
    assert_eq!(code, Some(2));
    let both =
        String::from_utf8(second.ends(2, &["exists"], &["log"]).file("log").to_vec()).unwrap();
    assert!(both.starts_with(&text));
    assert_eq!(
        timed(&both).last().unwrap(),
        &stderr.trim_end()["crocuta: ".len()..]
    );
    // What is no log is left alone.
    let fasta = "embed a.fa -m model -o b.parquet --log-file a.fa";
    case.args(fasta).run().fails(2, &["a.fa", "no log"]);
    let json = embed("none.fa -m model -o out.parquet --log-file log --log-format json").run();
    let json = json.ends(5, &["none.fa"], &["log"]);
    let last: serde_json::Value = serde_json::from_slice(
        json.file("log")
            .split(|b| *b == b'\n')
            .rev()
            .nth(1)
            .unwrap(),
    )
    .unwrap();
    assert_eq!(last["level"], "ERROR");
    assert!(
        last["fields"]["message"]
            .as_str()
            .unwrap()
            .contains("none.fa"),
        "{last}"
    );
}

#[test]
fn a_verbose_run_says_more_and_a_quiet_one_less() {
    let said = |args: &str| {
        let outcome = embed(&format!("a.fa -m model -o out.parquet {args}")).run();
        outcome
            .ends(0, &[], &["out.parquet"])
            .stderr
            .lines()
            .count()
    };
    assert!(said("-v") > said("") && said("") > said("-q"));
    embed("a.fa -m model -o out.parquet -q -v")
        .run()
        .fails(2, &["--verbose"]);
    let outcome = embed("a.fa -m model -o out.parquet --verbose").run();
    outcome.ends(
        0,
        &["input: a.fa", "steps of ", "writes out.parquet"],
        &["out.parquet"],
    );
}
