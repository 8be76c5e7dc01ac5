#!/usr/bin/env python3
"""Sequence tasks: the head alone, low-rank adapters, and a head with attention, on a model's vectors.

    python3 docs/benchmarks/sequence_tasks.py MODEL TABLES [--epochs 3] [--rank 8] [--limit N]

TABLES holds {task}_train.csv.gz, {task}_dev.csv.gz and {task}_test.csv.gz with the columns
`sequence` and `label`. The dev tables choose the step; the test tables are measured once, at the
end. Training sequences that equal a held-out one are left out by `crocuta fit`.
"""

import argparse
import gzip
import json
import pathlib
import shutil
import subprocess
import tempfile
import time

TASKS = ["prom_prom_300_tata", "prom_prom_core_tata", "tf_4"]
ATTENTION = ["--head-shape", "attention", "--weight-decay", "1"]


def shorten(source, target, limit):
    """Rows of a table at equal distances."""
    with gzip.open(source, "rt") as lines, gzip.open(target, "wt") as out:
        first, *rows = lines
        out.writelines([first, *rows[:: max(len(rows) // limit, 1)][:limit]])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("tables", type=pathlib.Path)
    parser.add_argument("--crocuta", default="target/release/crocuta")
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--epochs", default="3")
    parser.add_argument("--rank", default="8")
    parser.add_argument("--head-rate", default="1e-2", help="learning rate of the head alone")
    parser.add_argument("--lora-rate", default="1e-3", help="learning rate with adapters")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--threads", default="2")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--limit", type=int, help="rows of each table, to try the script")
    parser.add_argument("--keep", type=pathlib.Path, help="keep what was trained in this directory")
    args = parser.parse_args()
    lora = ["--lora", args.rank, "--learning-rate", args.lora_rate]
    crocuta = shutil.which(args.crocuta) or args.crocuta
    print("| task | trained | test rows | accuracy | MCC | 95 % interval | seconds |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        for task in args.tasks:
            tables = []
            for part in ["train", "dev", "test"]:
                table = args.tables / f"{task}_{part}.csv.gz"
                if args.limit:
                    shorten(table, scratch / table.name, args.limit)
                    table = scratch / table.name
                tables.append(table)
            for name, options in [
                ("head", ["--head-only", "--learning-rate", args.head_rate]),
                (f"LoRA {args.rank}", lora),
                (f"attention, LoRA {args.rank}", [*lora, "--lora-dropout", "0.2", *ATTENTION]),
            ]:
                out = (args.keep or scratch) / f"{task}-{name.replace(', ', '-').replace(' ', '-').lower()}"
                command = [crocuta, "fit", "--objective", "sequences", "--quiet", "-m", args.model]
                command += ["--table", tables[0], "--validate-table", tables[1], "--test-table", tables[2]]
                command += ["--epochs", args.epochs, "--seed", args.seed, "--threads", args.threads]
                command += ["--device", args.device]
                command += [*options, "-o", out]
                started = time.time()
                subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
                seconds = time.time() - started
                test = json.loads((out / "metrics.json").read_text())["test"]
                low, high = test["mcc_ci95"]
                print(
                    f"| {task} | {name} | {test['sequences']} | {test['accuracy']:.3f} | {test['mcc']:.3f} "
                    f"| {low:.3f} to {high:.3f} | {seconds:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
