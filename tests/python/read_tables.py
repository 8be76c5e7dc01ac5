"""Reads a table of crocuta in pyarrow, polars, pandas and DuckDB, and compares what they see.

    python read_tables.py TABLE.parquet

Needs numpy, pyarrow, polars, pandas and duckdb. Exits 0 if all agree.
"""

import json
import sys

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq

KEYS = {
    "chrom": "category",
    "start": "int64",
    "end": "int64",
    "strand": "category",
    "base": "category",  # absent from binned tables
    "flags": "uint8",
    "context_left": "int32",
}


def one(sql: str):
    return duckdb.execute(sql).fetchall()[0][0]


def check(path: str) -> None:
    file = pq.ParquetFile(path)
    footer = {k.decode(): v.decode() for k, v in file.metadata.metadata.items()}
    about = json.loads(footer["crocuta"])
    assert about["complete"] is True
    assert about["coordinates"]["system"] == "0-based half-open"
    assert footer["bio.coordinate_system_zero_based"] == "true"
    assert file.metadata.created_by.startswith("crocuta version ")

    table = pq.read_table(path)
    rows = table.num_rows
    assert rows == file.metadata.num_rows
    assert table.schema.metadata[b"bio.coordinate_system_zero_based"] == b"true"
    columns = table.column_names
    vectors = [f.name for f in table.schema if hasattr(f.type, "list_size")]

    # polars
    df = pl.read_parquet(path)
    assert df.shape == (rows, len(columns))
    assert df.schema["chrom"] == pl.Categorical, df.schema
    assert df.schema["start"] == df.schema["end"] == pl.Int64
    assert (df["end"] > df["start"]).all()
    lazy = pl.scan_parquet(path)
    chrom = df["chrom"][-1]
    part = lazy.filter(pl.col("chrom").cast(pl.String) == chrom).select(pl.len()).collect().item()
    assert part == (df["chrom"].cast(pl.String) == chrom).sum()

    # pandas
    frame = pd.read_parquet(path)
    assert frame.shape == df.shape
    for name, dtype in KEYS.items():
        if name in columns:
            assert str(frame[name].dtype) == dtype, (name, frame[name].dtype)
            assert not frame[name].isna().any(), name

    # DuckDB
    query = f"FROM read_parquet('{path}')"
    assert one(f"SELECT count(*) {query}") == rows
    spans = one(f'SELECT sum("end" - "start") {query}')
    assert spans == (df["end"] - df["start"]).sum()

    # Scalars: NULL, never NaN, and the same ones everywhere.
    for name in columns:
        if str(table.schema.field(name).type) != "float":
            continue
        nulls = table[name].null_count
        assert df[name].null_count() == nulls
        assert not df[name].is_nan().any(), name
        assert one(f"SELECT count(*) - count({name}) {query}") == nulls

    # Vectors: one dtype, no NULL, the same numbers in every reader.
    for name in vectors:
        kind = table.schema.field(name).type
        dim, dtype = kind.list_size, kind.value_type.to_pandas_dtype()
        polars_type = {np.float16: pl.Float16, np.float32: pl.Float32}[dtype]
        assert df.schema[name] == pl.Array(polars_type, dim), df.schema[name]
        expected = table[name].combine_chunks().flatten().to_numpy().reshape(rows, dim)
        assert np.isfinite(expected).all()
        np.testing.assert_array_equal(df[name].to_numpy(), expected)
        np.testing.assert_array_equal(np.stack(frame[name].to_numpy()), expected)
        at = sorted({0, rows // 2, rows - 1})
        chosen = f"""SELECT {name} FROM read_parquet('{path}', file_row_number = true)
            WHERE file_row_number IN ({", ".join(map(str, at))}) ORDER BY file_row_number"""
        found = np.array([row[0] for row in duckdb.execute(chosen).fetchall()], dtype=dtype)
        np.testing.assert_array_equal(found, expected[at])
        # A slice through the page index.
        some = lazy.slice(rows // 3, 100).select(name).collect()[name].to_numpy()
        np.testing.assert_array_equal(some, expected[rows // 3 : rows // 3 + 100])
        print(f"{name}: {rows} x {dim} {np.dtype(dtype).name}")
    print(f"{about['table']}: {rows} rows read alike by pyarrow, polars, pandas and DuckDB")


if __name__ == "__main__":
    check(sys.argv[1])
