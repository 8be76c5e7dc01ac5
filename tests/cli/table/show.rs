//! `table show`.

use crate::harness::table::Table;
use crate::harness::{Case, bases, record};

fn shown(args: &str, table: &[u8]) -> String {
    let outcome = Case::new(&format!("table show t.parquet {args}"))
        .file("t.parquet", table)
        .run()
        .succeeds(&[]);
    String::from_utf8(outcome.stdout).unwrap()
}

fn table(args: &str) -> Vec<u8> {
    let text = record("chr1", &bases(1, 900), 60) + &record("chr2", &bases(2, 50), 60);
    let args = format!("{args} a.fa -m model -o out.parquet");
    let outcome = Case::new(&args)
        .file("a.fa", text)
        .run()
        .succeeds(&["out.parquet"]);
    outcome.file("out.parquet").to_vec()
}

#[test]
fn what_a_table_holds_is_shown() {
    let text = shown("", &table("embed"));
    for line in [
        "table: embeddings\n",
        "rows: 950\n",
        "row groups: 1\n",
        "coordinates: 0-based half-open\n",
        "architecture: HyenaDNA\n",
        "mode: stream\n",
        "strand: forward\n",
        "reference: a.fa, 2 sequences (chr1, chr2), 950 bases\n",
        "selected: all\n",
        "computed: f32 on cpu\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
    let column = |name: &str| {
        let found = text.lines().find(|line| line.starts_with(name)).unwrap();
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(
        column("start").starts_with("start int64 - 0 0 899"),
        "{text}"
    );
    assert!(
        column("chrom").starts_with("chrom string - 0 chr1 chr2"),
        "{text}"
    );
    assert!(
        column("embedding").starts_with("embedding float16 x 16 - 0 - -"),
        "{text}"
    );
    assert!(column("embedding").ends_with("state after reading the base at start"));
    let text = shown("", &table("predict --region chr1:101-200"));
    assert!(
        text.contains("selected: chr1:101-200\nsettings: context "),
        "{text}"
    );
    let logp = text
        .lines()
        .find(|line| line.starts_with("logp_base"))
        .unwrap();
    assert!(logp.contains(" nat "), "{text}");
}

#[test]
fn json_has_the_footer_and_the_statistics() {
    let bytes = table("predict");
    let about: serde_json::Value = serde_json::from_str(&shown("--json", &bytes)).unwrap();
    let read = Table::read(&bytes);
    assert_eq!(about["footer"], read.footer);
    assert_eq!(about["rows"], 950);
    assert_eq!(about["bytes"], bytes.len());
    let names: Vec<&str> = about["columns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, read.columns);
    let column = &about["columns"][read
        .columns
        .iter()
        .position(|name| name == "entropy")
        .unwrap()];
    let entropy = read.numbers("entropy");
    let known = entropy.iter().flatten();
    assert_eq!(
        column["nulls"],
        entropy.iter().filter(|x| x.is_none()).count()
    );
    let least = known.clone().fold(f32::MAX, |a, b| a.min(*b));
    let most = known.fold(f32::MIN, |a, b| a.max(*b));
    assert_eq!(column["min"].as_f64().unwrap() as f32, least);
    assert_eq!(column["max"].as_f64().unwrap() as f32, most);
    assert_eq!(column["unit"], "nat");
}

#[test]
fn what_is_no_table_of_ours_is_refused() {
    let refused = |bytes: &[u8], code: i32, why: &str| {
        Case::new("table show t.parquet")
            .file("t.parquet", bytes)
            .run()
            .fails(code, &["t.parquet: ", why]);
    };
    refused(b"chrom\tstart\n", 3, "not a Parquet file");
    refused(b"", 3, "not a Parquet file");
    let table = table("embed");
    refused(&table[..table.len() - 1], 3, "cut short");
    refused(&[&table[..1000], b"PAR1"].concat(), 3, "damaged");
    let schema = arrow_schema::Schema::new(vec![arrow_schema::Field::new(
        "chrom",
        arrow_schema::DataType::Int64,
        false,
    )]);
    let mut other = Vec::new();
    parquet::arrow::ArrowWriter::try_new(&mut other, schema.into(), None)
        .unwrap()
        .close()
        .unwrap();
    refused(&other, 3, "of another program");
    Case::new("table show missing.parquet")
        .run()
        .fails(5, &["missing.parquet: "]);
    Case::new("table show -").run().fails(2, &["name a file"]);
}

#[test]
fn shards_and_parts_are_shown() {
    let text = record("chr1", &bases(1, 900), 60) + &record("chr2", &bases(2, 50), 60);
    let mut case = Case::new("")
        .file("a.fa", text)
        .file("i.bed", "chr1\t5\t60\n");
    for index in 1..=3 {
        let line = format!("embed a.fa -m model --shard {index}/3 --shard-by bases --context 50");
        case = case.args(&format!("{line} -o {index}"));
        case.run().succeeds(&[&index.to_string()]);
    }
    case = case.args("embed a.fa -m model --intervals i.bed -o i");
    case.run().succeeds(&["i"]);
    case = case.args("table concat 3 1 -o some --allow-gaps");
    case.run().succeeds(&["some"]);
    for (name, said) in [
        ("2", "selected: all, of that shard 2 of 3 by bases\n"),
        ("some", "selected: all, of that shards 1, 3 of 3 by bases\n"),
        ("i", "selected: 1 regions or intervals\n"),
    ] {
        let mut case = case.copy().args(&format!("table show {name}"));
        let text = String::from_utf8(case.run().succeeds(&[]).stdout).unwrap();
        assert!(text.contains(said), "{said}{text}");
    }
}

#[test]
fn ends_are_those_of_the_column_or_none() {
    let long = "x".repeat(100);
    let text = record(&long, &bases(1, 300), 60);
    let letter = &bases(1, 300)[8..9];
    let other = if letter == "A" { "C" } else { "A" };
    let vcf = format!(
        "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n{long}\t9\t.\t{letter}\t{other}\t.\t.\t.\n"
    );
    let mut case = Case::new("score v.vcf -r a.fa -m model --after 20 -o out.parquet")
        .file("a.fa", text)
        .file("v.vcf", vcf);
    let table = case.run().succeeds(&["out.parquet"]).table();
    let text = shown("", &std::fs::read(case.path("out.parquet")).unwrap());
    let cells = |name: &str| -> Vec<String> {
        let line = text
            .lines()
            .find(|line| line.split(' ').next() == Some(name));
        line.unwrap()
            .split_whitespace()
            .map(str::to_string)
            .collect()
    };
    assert_eq!(cells("chrom")[3..6], ["0", "-", "-"]);
    // Double precision is shown in full.
    let expected = table.doubles("ll_ref")[0].unwrap();
    assert_eq!(cells("ll_ref")[4].parse::<f64>().unwrap(), expected);
    let expected = table.numbers("delta_ll")[0].unwrap();
    assert_eq!(cells("delta_ll")[4], expected.to_string());
}
