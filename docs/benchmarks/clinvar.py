"""How well scores tell pathogenic from benign variants of ClinVar, beside rules that read no sequence.

    python clinvar.py clinvar.vcf.gz genome.fa MODEL... [--crocuta PROGRAM] [--keep DIR] [-- OPTIONS]

Runs `crocuta score --strand both` with each MODEL (a bundled name, a directory, hf:owner/name) and
the OPTIONS, and prints Markdown: the area under the ROC curve (AUROC) of each score for single
changes and for all variants, with a 95 % interval by 1,000 resamplings of blocks of 1,000 bases,
since neighbours are alike. The VCF needs CLNSIG and MC in INFO. Needs numpy and pyarrow.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow.parquet as pq

# A score, and the sign with which a large one is harmful.
SCORES = {
    "delta_ll_avg": -1, "delta_ll_mean_avg": -1, "llr_avg": -1, "jsd_mean_avg": 1, "cos_dist_avg": 1,
    "cos_dist_win_avg": 1,
}
BREAKING = {
    "nonsense", "frameshift_variant", "splice_donor_variant", "splice_acceptor_variant", "stop_lost",
    "initiator_codon_variant",
}
CHANGING = {"missense_variant", "inframe_deletion", "inframe_insertion", "inframe_indel"}
BLOCK, RESAMPLINGS = 1_000, 1_000


def auroc(harmful, value):
    """The chance that a harmful variant has the larger value; ties count half."""
    _, place, counts = np.unique(value, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]
    n = harmful.sum()
    if n == 0 or n == len(harmful):
        return np.nan
    return (ranks[harmful].sum() - n * (n + 1) / 2) / (n * (len(harmful) - n))


def interval(harmful, value, block):
    random = np.random.default_rng(1)
    names, place = np.unique(block, return_inverse=True)
    members = [np.flatnonzero(place == i) for i in range(len(names))]
    found = []
    for _ in range(RESAMPLINGS):
        chosen = np.concatenate([members[i] for i in random.integers(len(names), size=len(names))])
        found.append(auroc(harmful[chosen], value[chosen]))
    return np.nanpercentile(found, [2.5, 97.5])


def shown(harmful, value, block):
    known = ~np.isnan(value)
    if not known.any():
        return "none"
    harmful, value, block = harmful[known], value[known], block[known]
    low, high = interval(harmful, value, block)
    return f"{auroc(harmful, value):.3f} ({low:.3f} to {high:.3f})"


def consequence(text):
    """2: breaks the protein, 1: changes it, 0: neither."""
    terms = {term.split("|")[-1] for term in (text or "").split(",")}
    return 2 if terms & BREAKING else 1 if terms & CHANGING else 0


def scores(args, model, out):
    if not out.exists():
        words = [args.crocuta, "score", args.vcf, "-r", args.fasta, "-m", model, "-o", out, "--strand", "both"]
        words += ["--info", "CLNSIG", "--info", "MC", *args.options]
        subprocess.run([str(word) for word in words], check=True)
    rows = pq.read_table(out).to_pydict()
    label = np.array(rows["info_CLNSIG"], dtype=str)
    harmful = np.char.startswith(label, "Pathogenic") | np.char.startswith(label, "Likely_pathogenic")
    benign = np.char.startswith(label, "Benign") | np.char.startswith(label, "Likely_benign")
    kept = (harmful | benign) & (np.array(rows["status"]) != "duplicate")
    table = {name: np.array(rows[name])[kept] for name in ("chrom", "pos", "type", "info_MC")}
    for name in SCORES:
        table[name] = np.array(rows[name], dtype=float)[kept]
    table["scored"] = np.array([value is not None for value in rows["window_start"]])[kept]
    return table, harmful[kept]


def report(name, columns, table, harmful):
    """A line for each of the columns: names, and values of which a large one is harmful."""
    block = np.char.add(table["chrom"].astype(str), (table["pos"] // BLOCK).astype(str))
    single = (table["type"] == "snv") & table["scored"]
    for column, value in columns:
        cells = [shown(harmful[of], value[of], block[of]) for of in (single, table["scored"])]
        print(f"| {name} | {column} | {cells[0]} | {cells[1]} |")


def main():
    words, options = sys.argv[1:], []
    if "--" in words:
        at = words.index("--")
        words, options = words[:at], words[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vcf")
    parser.add_argument("fasta")
    parser.add_argument("model", nargs="+")
    parser.add_argument("--crocuta", default="target/release/crocuta")
    parser.add_argument("--keep", type=pathlib.Path, help="where tables are kept, and looked for")
    args = parser.parse_args(words)
    args.options = options
    with tempfile.TemporaryDirectory() as scratch:
        where = args.keep or pathlib.Path(scratch)
        for i, model in enumerate(args.model):
            table, harmful = scores(args, model, where / f"{pathlib.Path(model).name}.parquet")
            if i == 0:
                single = (table["type"] == "snv") & table["scored"]
                for of in (single, table["scored"]):
                    print(f"{of.sum():,} variants, {harmful[of].sum():,} of them pathogenic", file=sys.stderr)
                print("| by | column | AUROC, single changes | AUROC, all |\n|---|---|---|---|")
                indel = np.isin(table["type"], ["ins", "del", "delins"]).astype(float)
                rule = np.array([consequence(text) for text in table["info_MC"]], dtype=float)
                rules = [("is an insertion or deletion", indel), ("consequence: breaks, changes, neither", rule)]
                report("no model", rules, table, harmful)
            columns = [(f"{'−' if sign < 0 else ''}{name}", sign * table[name]) for name, sign in SCORES.items()]
            report(pathlib.Path(model).name, columns, table, harmful)


if __name__ == "__main__":
    main()
