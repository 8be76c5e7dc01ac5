#!/usr/bin/env python3
"""Several GPUs beside one, on sequences made from a FASTA file.

    python3 docs/benchmarks/gpus.py FASTA [--model hyenadna-large-1m] [--crocuta target/release/crocuta]
        [--devices cuda:0 cuda:0,1] [--contigs 16] [--length 4640000] [--directory gpus]

Writes so many contigs of that length, pieces of the file's bases from random places on, and 24,990
single changes on shorter ones; runs embed, score and fit on each of the devices, twice, and compares
the files that they write.
"""

import argparse
import filecmp
import json
import pathlib
import random
import subprocess


def record(name, bases):
    lines = (bases[i : i + 80] for i in range(0, len(bases), 80))
    return f">{name}\n" + "\n".join(lines) + "\n"


def write_inputs(args, out):
    lines = args.fasta.read_text().splitlines()
    bases = "".join(line for line in lines if line[:1] != ">").upper().replace("N", "")
    draws = random.Random(1)

    def piece(length):
        start = draws.randrange(len(bases))
        return (bases[start:] + bases * (length // len(bases) + 1))[:length]

    contigs = [piece(args.length) for _ in range(args.contigs)]
    (out / "contigs.fa").write_text("".join(record(f"c{i}", x) for i, x in enumerate(contigs)))
    short = [piece(190_000) for _ in range(args.contigs)]
    (out / "short.fa").write_text("".join(record(f"p{i:02}", x) for i, x in enumerate(short)))
    subprocess.run(["samtools", "faidx", out / "short.fa"], check=True)
    rows = []
    for i, contig in enumerate(short):
        for at in sorted(draws.sample(range(1000, 188_000), 24_990 // args.contigs)):
            other = draws.choice([x for x in "ACGT" if x != contig[at]])
            rows.append(f"p{i:02}\t{at + 1}\t.\t{contig[at]}\t{other}\t.\t.\t.\n")
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (out / "variants.vcf").write_text(head + "".join(rows))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fasta", type=pathlib.Path)
    parser.add_argument("--model", default="hyenadna-large-1m")
    parser.add_argument("--crocuta", default="target/release/crocuta")
    parser.add_argument("--devices", nargs="+", default=["cuda:0", "cuda:0,1"])
    parser.add_argument("--contigs", type=int, default=16)
    parser.add_argument("--length", type=int, default=4_640_000)
    parser.add_argument("--directory", type=pathlib.Path, default=pathlib.Path("gpus"))
    args = parser.parse_args()
    out = args.directory
    out.mkdir()
    write_inputs(args, out)

    def crocuta(*words):
        subprocess.run([args.crocuta, "--quiet", *map(str, words)], check=True)

    model = args.model
    if not pathlib.Path(model).exists():
        crocuta("models", "new", "--preset", model, "--seed", 1, "-o", out / "model")
        model = out / "model"
    shared = ["-m", model, "--precision", "bf16"]
    runs = {
        "embed": ["embed", out / "contigs.fa", *shared, "--bin", 128],
        "score": ["score", out / "variants.vcf", "-r", out / "short.fa", *shared, "--after", 1024],
    }
    for name, command in runs.items():
        for turn in range(2):
            files = []
            for device in args.devices:
                files.append(out / f"{name}-{turn}-{device}.parquet")
                summary = out / "summary.json"
                crocuta(*command, "--device", device, "-o", files[-1], "--summary", summary, "--force")
                seconds = json.loads(summary.read_text())["seconds"]
                print(f"{name} on {device}: {seconds:.1f} s", flush=True)
            same = all(filecmp.cmp(files[0], other, shallow=False) for other in files)
            print("the same bytes" if same else "OTHER BYTES")
    for turn in range(2):
        weights = []
        for device in args.devices:
            to = out / f"fit-{turn}-{device}"
            crocuta("fit", out / "contigs.fa", "-m", "crocuta-bacteria", "-o", to, "--steps", 100,
                    "--batch", 32, "--length", 16384, "--chunk", 16384, "--precision", "bf16",
                    "--accumulate", 2, "--device", device)
            weights.append(to / "model.safetensors")
            seconds = json.loads((to / "metrics.json").read_text())["seconds"]
            print(f"fit on {device}: {seconds:.1f} s", flush=True)
        same = all(filecmp.cmp(weights[0], other, shallow=False) for other in weights)
        print("the same weights" if same else "OTHER WEIGHTS")


if __name__ == "__main__":
    main()
