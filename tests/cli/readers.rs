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
    for args in [
        "embed a.fa -m model -o out.parquet --strand both",
        "embed a.fa -m model -o out.parquet --dtype f32 --bin 100",
        "predict a.fa -m model -o out.parquet --logits",
    ] {
        let mut case = Case::new(args).file("a.fa", &text);
        case.run().succeeds(&["out.parquet"]);
        let out = Command::new(&python)
            .arg(script)
            .arg(case.path("out.parquet"))
            .output()
            .unwrap();
        assert!(
            out.status.success(),
            "{args}\n{}",
            String::from_utf8_lossy(&out.stderr)
        );
    }
}
