#!/usr/bin/env python3
"""`--precision bf16` beside f32 on the CPU: speed in pairs, and the largest difference.

    PYTHONPATH=python python3 docs/benchmarks/rounded.py SEQUENCE.fa MODEL … [--threads 2] [--pairs 3]
        [--crocuta target/release/crocuta]

Embeds the sequences in f32 and in bf16 in turn, with a row for each bin of a million bases, and
prints of each model the median bases a second and their ratio; then once more with a row of float32
for each base, and prints the largest difference relative to the largest magnitude. Needs numpy and
pyarrow.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile

import numpy as np

import crocuta


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fasta")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--crocuta", default="target/release/crocuta")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory)

        def embed(model, precision, *options):
            command = [args.crocuta, "embed", args.fasta, "-m", model, "--precision", precision]
            command += ["-o", out / f"{precision}.parquet", "--force", "--quiet", "--device", "cpu"]
            command += ["--threads", str(args.threads), "--summary", out / "run.json", *options]
            subprocess.run(command, check=True)
            return json.loads((out / "run.json").read_text())["bases_per_second"]

        for model in args.models:
            speeds = {"f32": [], "bf16": []}
            for _ in range(args.pairs):
                for precision, found in speeds.items():
                    found.append(embed(model, precision, "--bin", "1000000"))
            for precision in speeds:
                embed(model, precision, "--dtype", "f32")
            exact, rounded = (crocuta.read(out / f"{x}.parquet").matrix for x in speeds)
            error = np.abs(exact - rounded).max() / np.abs(exact).max()
            medians = [statistics.median(found) for found in speeds.values()]
            ratios = [b / a for a, b in zip(*speeds.values())]
            print(
                f"| {pathlib.Path(model).name} | {medians[0]:,.0f} | {medians[1]:,.0f} "
                f"| {statistics.median(ratios):.2f} | {error:.1e} |",
                flush=True,
            )


main()
