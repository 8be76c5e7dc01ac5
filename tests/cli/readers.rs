//! Other programs read our tables.

use crate::harness::{Case, bases, record};
use std::process::Command;

#[test]
fn pyarrow_polars_pandas_and_duckdb_read_the_same_numbers() {
    let Some(python) = std::env::var_os("CROCUTA_PYTHON") else {
        crate::harness::skipped(
            "set CROCUTA_PYTHON to a Python with pyarrow, polars, pandas and duckdb",
        );
        return;
    };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/read_tables.py");
    let text = record("chr1", &bases(1, 3000), 60) + &record("chr2", "ACGTNNACGT", 60);
    let intervals = "chr1\t100\t400\tx\t5\t+\nchr1\t300\t900\ty\t7\t-\nchr2\t0\t4\tz\t1\t.\n";
    for commands in [
        &["embed a.fa -m model -o out.parquet --strand both"][..],
        &["embed a.fa -m model -o out.parquet --compression zstd:9"],
        &["embed a.fa -m model -o out.parquet --compression lz4"],
        &["embed a.fa -m model -o out.parquet --compression none --dtype f32"],
        &["predict a.fa -m model -o out.parquet --compression lz4"],
        &["embed a.fa -m model -o out.parquet --dtype f32 --bin 100"],
        &["embed a.fa -m model -o out.parquet --layer 0 --layer 1"],
        &["embed a.fa -m model -o out.parquet --intervals i.bed --strand own"],
        &["predict a.fa -m model -o out.parquet --logits"],
        &["predict a.fa -m model -o out.parquet --bin 100"],
        &["predict a.fa -m model -o out.parquet --intervals i.bed"],
        &[
            "predict a.fa -m model -o p.parquet",
            "table join p.parquet i.bed -o out.parquet --compression lz4",
        ],
        &[
            "predict a.fa -m model -o p.parquet",
            "table summarise p.parquet --by i.bed -o out.parquet --compression none",
        ],
        &[
            "embed a.fa -m model -o p.parquet --intervals i.bed",
            "table join p.parquet i.bed -o out.parquet",
        ],
    ] {
        let mut case = Case::new("").file("a.fa", &text).file("i.bed", intervals);
        for args in commands {
            case = case.args(args);
            let made = if args.contains("-o out") {
                "out.parquet"
            } else {
                "p.parquet"
            };
            case.run().succeeds(&[made]);
        }
        let out = Command::new(&python)
            .arg(script)
            .arg(case.path("out.parquet"))
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{commands:?}\n{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}
