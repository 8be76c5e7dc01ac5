//! `table export`.

use crate::harness::table::Table;
use crate::harness::{Case, bases, record};
use arrow_array::cast::AsArray;
use arrow_array::types::{Float16Type, Int64Type};

fn case(args: &str) -> Case {
    let text = record("chr1", &bases(1, 900), 60) + &record("chr2", &bases(2, 50), 60);
    let mut case = Case::new(&format!("{args} a.fa -m model -o t.parquet")).file("a.fa", text);
    case.run().succeeds(&["t.parquet"]);
    case
}

/// What a export writes to `out`.
fn exported(case: Case, args: &str, outputs: &[&str]) -> (Case, Vec<Vec<u8>>) {
    let mut case = case.args(&format!("table export t.parquet {args}"));
    let outcome = case.run().succeeds(outputs);
    let bytes = outputs
        .iter()
        .map(|name| outcome.file(name).to_vec())
        .collect();
    (case, bytes)
}

fn read(case: &Case) -> Table {
    Table::read(&std::fs::read(case.path("t.parquet")).unwrap())
}

fn lines(bytes: &[u8], separator: char) -> Vec<Vec<String>> {
    let text = std::str::from_utf8(bytes).unwrap();
    let cells = |line: &str| line.split(separator).map(str::to_string).collect();
    text.lines().map(cells).collect()
}

#[test]
fn tsv_has_every_value_and_na_where_there_is_none() {
    let case = case("predict --strand both");
    let table = read(&case);
    let (case, bytes) = exported(case, "-o out.tsv", &["out.tsv"]);
    let rows = lines(&bytes[0], '\t');
    assert_eq!(rows[0], table.columns);
    assert_eq!(rows.len(), 1 + table.rows());
    let at = |name: &str| {
        table
            .columns
            .iter()
            .position(|column| column == name)
            .unwrap()
    };
    let (starts, strands, entropy) = (
        table.integers("start"),
        table.words("strand"),
        table.numbers("entropy"),
    );
    for (i, row) in rows[1..].iter().enumerate() {
        assert_eq!(row[at("start")], starts[i].to_string());
        assert_eq!(row[at("strand")], strands[i]);
        match entropy[i] {
            None => assert_eq!(row[at("entropy")], "NA"),
            Some(x) => assert_eq!(row[at("entropy")].parse::<f32>().unwrap(), x),
        }
    }
    assert!(entropy.iter().any(Option::is_none));
    // Other columns, in another order, of a region, to standard output.
    let args = "-o - --tsv --columns entropy,start --region chr2:11-20";
    let mut case = case.args(&format!("table export t.parquet {args}"));
    let rows = lines(&case.run().succeeds(&[]).stdout, '\t');
    assert_eq!(rows[0], ["entropy", "start"]);
    let starts: Vec<String> = (10..20)
        .flat_map(|i: i64| [i.to_string(), i.to_string()])
        .collect();
    let found: Vec<&String> = rows[1..].iter().map(|row| &row[1]).collect();
    assert_eq!(found, starts.iter().collect::<Vec<_>>());
}

#[test]
fn vectors_are_one_column_of_text() {
    let case = case("embed --bin 100 --dtype f32");
    let vectors = read(&case).vectors("embedding");
    let (case, tsv) = exported(case, "-o out.tsv --columns embedding", &["out.tsv"]);
    let (_, csv) = exported(case, "-o out.csv --columns embedding,start", &["out.csv"]);
    let numbers = |text: &str| {
        text.split(',')
            .map(|x| x.parse::<f32>().unwrap())
            .collect::<Vec<_>>()
    };
    let rows = lines(&tsv[0], '\t');
    for (row, vector) in rows[1..].iter().zip(&vectors) {
        assert_eq!(&numbers(&row[0]), vector);
    }
    let text = String::from_utf8(csv[0].clone()).unwrap();
    for (line, vector) in text.lines().skip(1).zip(&vectors) {
        let quoted = line.strip_prefix('"').unwrap().split('"').next().unwrap();
        assert_eq!(&numbers(quoted), vector);
    }
}

#[test]
fn npy_is_the_matrix_and_its_keys() {
    let case = case("embed");
    let vectors = read(&case).vectors("embedding");
    let args = "-o x.npy --region chr1:401-500 --region chr2";
    let (_, bytes) = exported(case, args, &["x.npy", "x.keys.tsv"]);
    let (header, values) = bytes[0].split_at(128);
    assert_eq!(&header[..10], b"\x93NUMPY\x01\x00\x76\x00");
    let text = std::str::from_utf8(&header[10..]).unwrap();
    let expected = "{'descr': '<f2', 'fortran_order': False, 'shape': (150, 16), }";
    assert!(
        text.starts_with(expected) && text.ends_with(" \n"),
        "{text}"
    );
    let values: Vec<f32> = values
        .chunks(2)
        .map(|pair| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32())
        .collect();
    let expected = [&vectors[400..500], &vectors[900..]].concat().concat();
    assert_eq!(values, expected);
    let keys = lines(&bytes[1], '\t');
    assert_eq!(keys.len(), 151);
    assert_eq!(
        keys[0].join(" "),
        "chrom start end strand base flags context_left"
    );
    assert_eq!(keys[1][..3], ["chr1", "400", "401"]);
    assert_eq!(keys[101][..3], ["chr2", "0", "1"]);
}

#[test]
fn ipc_has_types_and_footer() {
    let case = case("embed");
    let table = read(&case);
    let args = "-o out.arrow --columns chrom,start,embedding";
    let (_, bytes) = exported(case, args, &["out.arrow"]);
    let reader =
        arrow_ipc::reader::FileReader::try_new(std::io::Cursor::new(&bytes[0]), None).unwrap();
    let footer: serde_json::Value =
        serde_json::from_str(&reader.schema().metadata()["crocuta"]).unwrap();
    assert_eq!(footer, table.footer);
    let (mut names, mut starts, mut numbers) = (Vec::new(), Vec::<i64>::new(), Vec::new());
    for batch in reader.map(Result::unwrap) {
        let chrom = batch.column(0).as_string::<i32>();
        names.extend(chrom.iter().map(|name| name.unwrap().to_string()));
        starts.extend(batch.column(1).as_primitive::<Int64Type>().values());
        let values = batch.column(2).as_fixed_size_list().values();
        let values = values.as_primitive::<Float16Type>().values();
        numbers.extend(values.iter().map(|x| x.to_f32()));
    }
    assert_eq!(names, table.words("chrom"));
    assert_eq!(starts, table.integers("start"));
    assert_eq!(numbers, table.vectors("embedding").concat());
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let predicted = case("predict");
    for (args, code, why) in [
        ("-o out.xyz", 2, "give --tsv, --csv, --ipc or --npy"),
        ("-o out.csv --tsv", 2, "its name says .csv"),
        (
            "-o out.tsv --columns start,nothing",
            2,
            "there is no column nothing",
        ),
        (
            "-o out.tsv --columns start,end,start",
            2,
            "--columns names start twice",
        ),
        ("-o out.tsv --region chr9", 2, "chr9"),
        ("-o out.npy", 2, "there is no column of vectors"),
        ("-o - --npy", 2, "two files"),
        ("-o a.fa --tsv --force", 2, "its name says .fa"),
        ("-o t.parquet --ipc --force", 2, "also an input"),
    ] {
        let mut case = predicted
            .copy()
            .args(&format!("table export t.parquet {args}"));
        case.run().fails(code, &[why]);
    }
}

#[test]
fn a_vector_alone_is_a_matrix_without_a_table_of_keys() {
    exported(case("embed"), "-o x.npy --columns embedding", &["x.npy"]);
}

#[test]
fn a_full_output_is_named_not_the_table() {
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let case = case("embed");
    for args in [
        "export t.parquet -o - --tsv",
        "export t.parquet -o - --ipc",
        "concat t.parquet -o -",
    ] {
        let mut case = case.copy().args(&format!("table {args}")).stdout(full());
        let outcome = case.run();
        let said = "crocuta: error: stdout: No space left";
        assert!(
            outcome.stderr.starts_with(said),
            "{args}: {}",
            outcome.stderr
        );
        outcome.fails(5, &[]);
    }
    let mut case = case
        .args("table concat t.parquet -o out.parquet")
        .file_size(2000);
    case.run().fails(5, &["error: out.parquet: File too large"]);
}
