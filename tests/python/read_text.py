"""Reads a table of variants as text in polars, pandas, DuckDB and Python's csv, and compares it with
the Parquet of the same run.

    python read_text.py TABLE.tsv TABLE.parquet

Needs polars, pandas and duckdb. Exits 0 if all agree.
"""

import csv
import sys

import duckdb
import pandas as pd
import polars as pl


def check(text: str, parquet: str) -> None:
    expected = pl.read_parquet(parquet)
    frame = pd.read_csv(text, sep="\t")
    table = pl.read_csv(text, separator="\t", null_values="NA", infer_schema_length=None)
    rows = list(csv.DictReader(open(text), delimiter="\t"))
    assert frame.shape == table.shape == (len(rows), len(rows[0])), (frame.shape, table.shape)
    for name in table.columns:
        column = expected[name]
        if not column.dtype.is_float():
            continue
        values = column.cast(pl.Float64).to_list()
        missing = [value is None for value in values]
        assert frame[name].isna().tolist() == missing, name
        assert table[name].is_null().to_list() == missing, name
        assert [row[name] == "NA" for row in rows] == missing, name
        for i, value in enumerate(values):
            if value is not None:
                for read in (frame[name][i], table[name][i], float(rows[i][name])):
                    assert abs(read - value) <= 1e-6 * max(abs(value), 1e-3), (name, i, read, value)
    for name in ("chrom", "type", "status", "variant_id"):
        wanted = expected[name].cast(pl.String).to_list()
        assert frame[name].tolist() == table[name].to_list() == wanted, name
    counted = duckdb.execute(
        f"SELECT count(*), count(delta_ll), sum(pos) FROM read_csv('{text}', delim='\\t', header=true, nullstr='NA')"
    ).fetchall()[0]
    delta = expected["delta_ll"]
    assert counted == (len(delta), len(delta) - delta.null_count(), expected["pos"].sum()), counted
    print(f"{len(rows)} rows of {len(rows[0])} columns read alike")


if __name__ == "__main__":
    check(*sys.argv[1:])
