"""`crocuta table` beside DuckDB on one table: seconds and peak memory of each.

    python tables.py CROCUTA whole.parquet FIRST.parquet SECOND.parquet [RUNS]

`whole.parquet` has a row for each base, of one contig, as `crocuta predict` writes it; the other two
are its shards by bases. Needs duckdb and two threads; what is written lies in a temporary directory,
about four times as large as the table as text. Medians of RUNS (3) are printed, as a table.
"""

import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

QUERY = """
import duckdb, sys
duckdb.execute("SET threads = 2")
duckdb.execute(sys.argv[1])
"""
EVERY = 20_000
"""Bases from one interval to the next; each is 2,000 long."""


def measured(command):
    """Seconds and the greatest resident memory in MB of a process."""
    script = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:]).returncode;"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024); sys.exit(code)"
    )
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, command)], capture_output=True, text=True
    )
    seconds = time.perf_counter() - began
    if done.returncode != 0:
        raise SystemExit(f"{command}: {done.stderr}")
    return seconds, int(done.stdout.split()[-1])


def main():
    crocuta, whole, first, second = sys.argv[1:5]
    runs = int(sys.argv[5]) if len(sys.argv) > 5 else 3
    import duckdb

    contig, rows = duckdb.execute(f"SELECT any_value(chrom), count(*) FROM '{whole}'").fetchall()[0]
    print(f"{rows:,} rows of {contig}, {pathlib.Path(whole).stat().st_size / 1e6:,.0f} MB\n")
    with tempfile.TemporaryDirectory() as scratch:
        bed = pathlib.Path(scratch, "intervals.bed")
        starts = range(0, rows, EVERY)
        bed.write_text("".join(f"{contig}\t{s}\t{s + 2000}\ti{s}\n" for s in starts))
        out = {name: pathlib.Path(scratch, name) for name in ("a.tsv", "b.tsv", "a.parquet", "b.parquet")}
        columns = "p_A, p_C, p_G, p_T, entropy"
        measures = ", ".join(
            f"avg({c}), stddev({c}), min({c}), approx_quantile({c}, [0.05, 0.5, 0.95]), max({c})"
            for c in columns.split(", ")
        )
        names = f"read_csv('{bed}', delim='\\t', columns={{'c': 'VARCHAR', 's': 'BIGINT', 'e': 'BIGINT', 'n': 'VARCHAR'}})"
        near = f"'{whole}' t JOIN {names} i ON t.chrom = i.c AND t.start < i.e AND t.\"end\" > i.s"
        own = [crocuta, "-q", "table"]
        tasks = {
            "summarise by base": (
                [*own, "summarise", whole, "--by", "base", "--columns", columns.replace(" ", "")],
                "a.tsv",
                f"COPY (SELECT base, count(*), {measures} FROM '{whole}' GROUP BY base)",
            ),
            "summarise by interval": (
                [*own, "summarise", whole, "--by", bed, "--columns", columns.replace(" ", "")],
                "a.tsv",
                f"COPY (SELECT n, count(*), {measures} FROM {near} GROUP BY n)",
            ),
            "join with intervals": (
                [*own, "join", whole, bed, "--matched"],
                "a.parquet",
                f"COPY (SELECT t.*, i.* FROM {near} ORDER BY t.start)",
            ),
            "concat of two": (
                [*own, "concat", first, second],
                "a.parquet",
                f"COPY (SELECT * FROM read_parquet(['{first}', '{second}']))",
            ),
            "export as TSV": (
                [*own, "export", whole],
                "a.tsv",
                f"COPY (SELECT * FROM '{whole}')",
            ),
        }
        print("| | crocuta | MB | DuckDB | MB |\n|---|---|---|---|---|")
        for name, (command, written, query) in tasks.items():
            there = out[written.replace("a", "b", 1)]
            how = "(FORMAT parquet, COMPRESSION zstd)"
            if written.endswith("tsv"):
                how = "(DELIMITER '\\t', HEADER)"
            pairs = (
                [*command, "-o", out[written], "--force", "--threads", "2"],
                [sys.executable, "-c", QUERY, f"{query} TO '{there}' {how}"],
            )
            found = [[measured(command) for command in pairs] for _ in range(runs)]
            cells = []
            for each in zip(*found):
                cells.append(f"{statistics.median(s for s, _ in each):.1f} s")
                cells.append(f"{max(memory for _, memory in each):,}")
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
