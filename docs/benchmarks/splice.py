#!/usr/bin/env python3
"""UCI splice junctions: heads with and without the encoder, by cross-validation.

    python3 docs/benchmarks/splice.py splice.data [--crocuta PROGRAM] [--device cuda] [--jobs N]

`splice.data` is the file of that name of the UCI repository's "Molecular Biology (Splice-junction
Gene Sequences)", 3,190 sequences of 60 bases around exon-intron (EI) and intron-exon (IE) borders
and others (N). Five folds, stratified; of each, one fifth tests, one chooses the step, three train.
Sequences that equal a held-out one are not trained on (`crocuta fit` leaves them out). Letters that
are no bases are read as N. Prints a row for each way to train: accuracy and Matthews' correlation
over all test folds together, with percentile bootstraps over sequences, and the linear models of
`metrics.json` beside them.
"""

import argparse
import concurrent.futures
import csv
import json
import pathlib
import random
import shutil
import subprocess
import tempfile
import time

CLASSES = ["EI", "IE", "N"]
FOLDS = 5
ATTENTION = ["--head-shape", "attention", "--weight-decay", "1"]
WAYS = {
    "mean of vectors": ["--head-only", "--learning-rate", "1e-2"],
    "attention": ["--head-only", "--learning-rate", "5e-4", *ATTENTION],
    "mean of vectors, LoRA 8": ["--lora", "8", "--lora-dropout", "0.2", "--learning-rate", "1e-3"],
    "attention, LoRA 8": ["--lora", "8", "--lora-dropout", "0.2", "--learning-rate", "1e-3", *ATTENTION],
}


def folds(path, seed):
    """The rows of each fold: name, sequence, label."""
    by_class = {name: [] for name in CLASSES}
    for line in path.read_text().splitlines():
        if line.strip():
            label, name, letters = (cell.strip() for cell in line.split(","))
            bases = "".join(letter if letter in "ACGT" else "N" for letter in letters)
            by_class[label].append((name, bases, label))
    found = [[] for _ in range(FOLDS)]
    for name in CLASSES:
        rows = by_class[name]
        random.Random(seed).shuffle(rows)
        for i, row in enumerate(rows):
            found[i % FOLDS].append(row)
    return found


def write(path, rows):
    with path.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["name", "sequence", "label"])
        table.writerows(rows)


def mcc(pairs):
    """Gorodkin's R_K of pairs of a truth and a prediction."""
    n = len(pairs)
    hits = sum(truth == said for truth, said in pairs)
    truths = {c: sum(truth == c for truth, _ in pairs) for c in CLASSES}
    saids = {c: sum(said == c for _, said in pairs) for c in CLASSES}
    shared = sum(truths[c] * saids[c] for c in CLASSES)
    below = (n * n - sum(x * x for x in truths.values())) * (n * n - sum(x * x for x in saids.values()))
    return (hits * n - shared) / below**0.5 if below else 0.0


def interval(pairs, statistic, rounds=1000):
    rng = random.Random(0)
    found = sorted(statistic(rng.choices(pairs, k=len(pairs))) for _ in range(rounds))
    return found[round(0.025 * (rounds - 1))], found[round(0.975 * (rounds - 1))]


def predicted(crocuta, fold, model, table):
    """Pairs of a truth and what a trained model says."""
    out = fold / "classes.parquet"
    kind = ["--adapter", model, "-m", table["model"]] if (model / "adapter_config.json").exists() else ["-m", model]
    command = [crocuta, "predict", fold / "test.csv", *kind, "-o", out, "--quiet", "--force", "--device", table["device"]]
    subprocess.run(list(map(str, command)), check=True)
    text = subprocess.run(
        [crocuta, "table", "export", str(out), "--tsv", "--columns", "class", "-o", "-"],
        check=True, capture_output=True, text=True,
    ).stdout.split()[1:]
    with (fold / "test.csv").open() as file:
        truths = [row["label"] for row in csv.DictReader(file)]
    return list(zip(truths, text, strict=True))


def train(crocuta, fold, name, options, args):
    out = fold / name.replace(" ", "-").replace(",", "")
    command = [crocuta, "fit", "--objective", "sequences", "--quiet", "-m", args.model, "-o", out, "--force"]
    command += ["--table", fold / "train.csv", "--validate-table", fold / "dev.csv", "--test-table", fold / "test.csv"]
    command += ["--epochs", args.epochs, "--seed", args.seed, "--device", args.device, "--threads", args.threads]
    command += ["--batch", "32", "--patience", "8", "--select", args.select, *options]
    started = time.time()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    metrics = json.loads((out / "metrics.json").read_text())
    settings = {"model": args.model, "device": args.device}
    return predicted(crocuta, fold, out, settings), metrics["baselines"], time.time() - started


def row(name, pairs, seconds):
    def accuracy(pairs):
        return sum(truth == said for truth, said in pairs) / len(pairs)

    low, high = interval(pairs, mcc)
    print(f"| {name} | {accuracy(pairs):.3f} | {mcc(pairs):.3f} | {low:.3f} to {high:.3f} | {seconds} |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("--model", default="crocuta-human")
    parser.add_argument("--crocuta", default="target/release/crocuta")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--epochs", default="30")
    parser.add_argument("--select", default="mcc", choices=["mcc", "loss"], help="what decides which step is kept")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--threads", default="2", help="of each run")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--folds", type=int, default=FOLDS, help="run the first so many folds alone")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    args = parser.parse_args()
    crocuta = shutil.which(args.crocuta) or args.crocuta
    with tempfile.TemporaryDirectory() as scratch:
        rows = folds(args.data, int(args.seed))
        places = []
        for i in range(args.folds):
            fold = pathlib.Path(scratch) / str(i)
            fold.mkdir()
            chooses = (i + 1) % FOLDS
            write(fold / "test.csv", rows[i])
            write(fold / "dev.csv", rows[chooses])
            write(fold / "train.csv", [r for j in range(FOLDS) if j not in (i, chooses) for r in rows[j]])
            places.append(fold)
        print("| head | accuracy | MCC | 95 % interval | seconds a fold |")
        print("|---|---|---|---|---|", flush=True)
        baselines = None
        with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
            for name in args.ways:
                runs = [pool.submit(train, crocuta, fold, name, WAYS[name], args) for fold in places]
                done = [run.result() for run in runs]
                pairs = [pair for found, _, _ in done for pair in found]
                row(name, pairs, f"{sum(seconds for _, _, seconds in done) / len(done):.0f}")
                baselines = baselines or [baselines for _, baselines, _ in done]
        for i, baseline in enumerate(baselines[0]):
            # Folds are of nearly the same size: means of their measures.
            tests = [fold[i]["test"] for fold in baselines]
            mean = {key: sum(test[key] for test in tests) / len(tests) for key in ("accuracy", "mcc")}
            print(f"| linear, {baseline['name']} | {mean['accuracy']:.3f} | {mean['mcc']:.3f} | mean of folds | |")


if __name__ == "__main__":
    main()
