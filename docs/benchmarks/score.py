#!/usr/bin/env python3
"""Scores of variants: forks of one stream against windows around each site.

    python3 docs/benchmarks/score.py protocols VCF FASTA MODEL [--sites 300] [--window 8192] [--after 1024]
    python3 docs/benchmarks/score.py whole VCF FASTA MODEL [--after 1024] [-- OPTIONS OF crocuta score]

`protocols` takes sites at equal distances from the VCF and scores them both ways. `whole` scores
all of it, and compares the encoder's work with what it may be at most: the bases from the first
site's context to the last site's end, and --after bases, with its own, for each allele.
"""

import argparse
import gzip
import json
import pathlib
import subprocess
import tempfile


def records(path):
    """Header lines, and the lines of the records."""
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else open(path)
    with opened as lines:
        lines = list(lines)
    return [x for x in lines if x[0] == "#"], [x for x in lines if x[0] != "#"]


def score(args, variants, *options):
    """The summary of a run."""
    with tempfile.TemporaryDirectory() as scratch:
        summary = f"{scratch}/summary.json"
        command = [args.crocuta, "score", variants, "-r", args.fasta, "-m", args.model, "--quiet"]
        command += ["-o", f"{scratch}/scores.parquet", "--summary", summary, "--threads", args.threads]
        subprocess.run(list(map(str, [*command, *options])), check=True)
        return json.loads(pathlib.Path(summary).read_text())


def show(names, rows):
    print("| " + " | ".join(names) + " |")
    print("|" + "---|" * len(names))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def protocols(args):
    header, lines = records(args.vcf)
    step = max(len(lines) // args.sites, 1)
    chosen = lines[::step][: args.sites]
    first = int(chosen[0].split("\t")[1])
    with tempfile.TemporaryDirectory() as scratch:
        subset = pathlib.Path(scratch) / "sites.vcf"
        subset.write_text("".join(header + chosen))
        before = args.context if args.context is not None else first - 1
        runs = [
            (f"forks, all from {first - before:,} on", ["--after", args.after, "--context", before]),
            (f"windows of {args.window:,}", ["--mode", "window", "--window", args.window]),
        ]
        rows = []
        for name, options in runs:
            done = score(args, subset, *options)
            speed = done["encoder_bases"] / done["seconds"]
            rows.append([
                name, f"{done['scored']:,} of {done['rows']:,}", f"{done['encoder_bases']:,}",
                f"{done['encoder_bases_per_allele']:,.0f}", f"{done['seconds']:.1f} s", f"{speed:,.0f}",
                f"{done['peak_memory_bytes'] / 1e6:,.0f} MB",
            ])
    show(["protocol", "alleles scored", "bases through the encoder", "an allele", "time", "bases a second", "memory"], rows)


def whole(args):
    context = "all" if args.context is None else args.context
    options = ["--after", args.after, "--context", context, *args.options]
    done = score(args, args.vcf, *options)
    rows = [
        ["alleles", f"{done['rows']:,}"],
        ["by status", ", ".join(f"{name} {n:,}" for name, n in done["statuses"].items())],
        ["bases through the encoder", f"{done['encoder_bases']:,}"],
        ["an allele that was scored", f"{done['encoder_bases_per_allele']:,.0f}"],
    ]
    if args.bound:
        longest, bases, last, end = 0, 0, None, 0
        for line in records(args.vcf)[1]:
            chrom, pos, _, ref, alts = line.split("\t")[:5]
            start = max(int(pos) - 1 - (args.context if args.context is not None else int(pos)), 0)
            end = max(end, start) if chrom == last else start
            to = int(pos) - 1 + len(ref) + args.after
            bases, end, last = bases + max(to - end, 0), max(to, end), chrom
            longest += sum(args.after + len(alt) for alt in alts.split(","))
        strands = 2 if "both" in args.options else 1
        bound = strands * (bases + longest)
        rows.append(["at most: reference + alternates", f"{strands} x ({bases:,} + {longest:,}) = {bound:,}"])
        assert done["encoder_bases"] <= bound, "more work than promised"
    rows += [
        ["time", f"{done['seconds']:.1f} s"],
        ["bases a second", f"{done['encoder_bases'] / max(done['seconds'], 1e-9):,.0f}"],
        ["alleles a second", f"{done['alleles_per_second']:,.1f}"],
        ["memory", f"{done['peak_memory_bytes'] / 1e6:,.0f} MB"],
    ]
    show([args.vcf.name, args.model.name], rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["protocols", "whole"])
    parser.add_argument("vcf", type=pathlib.Path)
    parser.add_argument("fasta", type=pathlib.Path)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--crocuta", default="target/release/crocuta")
    parser.add_argument("--sites", type=int, default=300, help="of protocols")
    parser.add_argument("--window", type=int, default=8192, help="of protocols")
    parser.add_argument("--after", type=int, default=1024)
    parser.add_argument("--context", type=int, help="bases before a site [default: all]")
    parser.add_argument("--bound", action="store_true", help="of whole: compare with the work that is promised (VCF only)")
    parser.add_argument("--threads", default="2")
    parser.add_argument("options", nargs="*", help="more options of crocuta score, after --")
    args = parser.parse_args()
    {"protocols": protocols, "whole": whole}[args.what](args)


if __name__ == "__main__":
    main()
