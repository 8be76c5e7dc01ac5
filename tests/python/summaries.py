"""Compares summaries and a join of a table with those of DuckDB.

    python summaries.py DIRECTORY

The directory holds `table`, `i.bed`, and of these `intervals.parquet`, `bases.parquet` and
`joined.parquet`. Exits 0 if all agree.
"""

import os
import sys

import duckdb
import numpy as np

STATISTICS = """count({0}) AS {0}_n, avg({0}::DOUBLE) AS {0}_mean, stddev_samp({0}::DOUBLE) AS {0}_sd,
    quantile_cont({0}::DOUBLE, 0.05) AS {0}_q05, quantile_cont({0}::DOUBLE, 0.25) AS {0}_q25,
    quantile_cont({0}::DOUBLE, 0.5) AS {0}_q50, quantile_cont({0}::DOUBLE, 0.75) AS {0}_q75,
    quantile_cont({0}::DOUBLE, 0.95) AS {0}_q95"""

BED = """(SELECT * FROM read_csv('i.bed', delim='\t', auto_detect=false, null_padding=true, columns={
    'bed_chrom': 'VARCHAR', 'bed_start': 'BIGINT', 'bed_end': 'BIGINT', 'bed_name': 'VARCHAR',
    'bed_score': 'DOUBLE', 'bed_strand': 'VARCHAR'}))"""

OVERLAPS = "bed_chrom = chrom::VARCHAR AND bed_start < t.end AND bed_end > t.start"


def same(found: str, expected: str) -> None:
    found, expected = (duckdb.sql(query).fetchnumpy() for query in (found, expected))
    assert list(found) == list(expected), (list(found), list(expected))
    for name in found:
        a, b = (np.ma.filled(np.ma.asarray(x[name]), -1e9) for x in (found, expected))
        if a.dtype.kind in "fi" and b.dtype.kind in "fi":
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=name)
        else:
            assert [str(x) for x in a] == [str(x) for x in b], (name, a, b)


def main(directory: str) -> None:
    os.chdir(directory)
    columns = ["entropy", "p_A", "logp_base"]
    names = [f"{column}_{what}" for column in columns
             for what in "n mean sd q05 q25 q50 q75 q95".split()]
    statistics = ", ".join(STATISTICS.format(column) for column in columns)
    same(
        f"SELECT base, rows, {', '.join(names)} FROM 'bases.parquet' ORDER BY base",
        f"""SELECT base::VARCHAR AS base, count(*) AS rows, {statistics} FROM read_parquet('table')
            GROUP BY base ORDER BY base::VARCHAR""",
    )
    same(
        f"SELECT name, rows, {', '.join(names)} FROM 'intervals.parquet' ORDER BY name",
        f"""SELECT bed_name AS name, count(t.chrom) AS rows, {statistics}
            FROM {BED} LEFT JOIN read_parquet('table') t ON {OVERLAPS}
            GROUP BY bed_name ORDER BY bed_name""",
    )
    keys = "chrom, start, strand, interval_start, name"
    same(
        f"""SELECT chrom::VARCHAR AS chrom, start, strand::VARCHAR AS strand, interval_start,
            name::VARCHAR AS name, score FROM 'joined.parquet' ORDER BY {keys}""",
        f"""SELECT chrom::VARCHAR AS chrom, t.start AS start, t.strand::VARCHAR AS strand,
            bed_start AS interval_start, bed_name AS name, bed_score AS score
            FROM read_parquet('table') t LEFT JOIN {BED} ON {OVERLAPS} ORDER BY {keys}""",
    )


main(sys.argv[1])
