#!/usr/bin/env python3
"""Compares gene calls (GFF3) with an annotation (GFF3), and with Prodigal's calls if it is installed.

    evaluate_genes.py genome.fa.gz annotation.gff3.gz calls.gff3 ... [--prodigal]
        [--genetic-code 11] [--region CONTIG:BEG-END] [--json]

Each base of each contig has a class: noncoding, or strand and codon position. Measures:
  mcc_frame    Gorodkin's R_K over the seven classes
  mcc_strand   the same over noncoding, forward, reverse
  mcc_coding   Matthews' correlation of coding or not
  recall       annotated genes whose 3' end and strand a call has
  precision    calls whose 3' end and strand an annotated gene has
  starts       of the genes found, those whose start is the annotated one too
Pseudogenes, and genes in several parts or of no whole codons, count neither way. With --region
(repeatable) only genes and bases within it count. Needs numpy.
"""
import argparse, gzip, json, os, subprocess, sys, tempfile
import numpy as np


def lines(path):
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    return data.decode().splitlines()


def contigs(path):
    name, out = None, {}
    for line in lines(path):
        if line.startswith(">"):
            name = line[1:].split()[0]
            out[name] = []
        elif name:
            out[name].append(line.strip())
    return {name: "".join(parts) for name, parts in out.items()}


def genes(path):
    """(contig, reverse, 5' end, 3' end, whole), 1-based and closed, whole: not cut by an end."""
    parts, pseudo, parents = {}, set(), {}
    for number, line in enumerate(lines(path)):
        if line.startswith("##FASTA"):
            break
        columns = line.split("\t")
        if line.startswith("#") or len(columns) != 9:
            continue
        pairs = (part.strip().partition("=") for part in columns[8].split(";"))
        attributes = {key: value for key, _, value in pairs}
        if "ID" in attributes and columns[2] != "CDS":
            parents[attributes["ID"]] = (columns[2], attributes)
        if columns[2] == "CDS":
            key = (columns[0], attributes.get("ID", f"line {number}"))
            parts.setdefault(key, []).append((int(columns[3]), int(columns[4]), columns[6], attributes))
    good, ignored = [], []
    for (contig, _), found in parts.items():
        reverse = found[0][2] == "-"
        low, high = min(p[0] for p in found), max(p[1] for p in found)
        kind, attributes = "CDS", found[0][3]
        broken = len(found) > 1 or (high - low + 1) % 3 != 0
        for _ in range(4):
            types = [attributes.get(key, "") for key in ("biotype", "gene_biotype")]
            broken |= kind.startswith("pseudogen") or attributes.get("pseudo") == "true"
            broken |= any("pseudogene" in value for value in types)
            if attributes.get("Parent") not in parents:
                break
            kind, attributes = parents[attributes["Parent"]]
        gene = (contig, reverse, high if reverse else low, low if reverse else high)
        (ignored if broken else good).append(gene)
    return good, ignored


def classes(found, sizes):
    """0: noncoding; 1 to 3: codon positions of the forward strand; 4 to 6: of the reverse strand.
    Where genes overlap, the longer one's."""
    out = {contig: np.zeros(size, np.int8) for contig, size in sizes.items()}
    for contig, reverse, first, last in sorted(found, key=lambda g: abs(g[2] - g[3])):
        if contig not in out or max(first, last) > sizes[contig]:
            continue
        positions = np.arange(abs(last - first) + 1) % 3
        if reverse:
            out[contig][last - 1 : first] = 4 + positions[::-1]
        else:
            out[contig][first - 1 : last] = 1 + positions
    return out


def correlation(truth, called, k):
    counts = np.bincount(truth.astype(np.int64) * k + called, minlength=k * k).reshape(k, k).astype(float)
    total, hits, rows, columns = counts.sum(), np.trace(counts), counts.sum(1), counts.sum(0)
    above = hits * total - rows @ columns
    below = np.sqrt((total**2 - rows @ rows) * (total**2 - columns @ columns))
    return above / below if below else 0.0


def evaluate(annotation, calls, sizes, regions):
    def inside(gene):
        low, high = sorted(gene[2:])
        return not regions or any(c == gene[0] and b <= low and high <= e for c, b, e in regions)

    (truth, ignored), (called, _) = annotation, calls
    mask = {contig: np.full(size, not regions) for contig, size in sizes.items()}
    for contig, begin, end in regions:
        mask[contig][begin - 1 : end] = True
    for contig, _, first, last in ignored:
        mask[contig][min(first, last) - 1 : max(first, last)] = False
    flat = lambda found: np.concatenate([x[mask[c]] for c, x in classes(found, sizes).items()])
    base, base_called = flat(truth), flat(called)
    strand = np.array([0, 1, 1, 1, 2, 2, 2])
    end = lambda gene: (gene[0], gene[1], gene[3])
    truth, called = [[gene for gene in all if inside(gene)] for all in (truth, called)]
    skipped = {end(gene) for gene in ignored}
    called = [gene for gene in called if end(gene) not in skipped]
    known, found = {end(gene): gene[2] for gene in truth}, {end(gene): gene[2] for gene in called}
    both = known.keys() & found.keys()
    return {
        "genes": len(known),
        "calls": len(found),
        "mcc_frame": correlation(base, base_called, 7),
        "mcc_strand": correlation(strand[base], strand[base_called], 3),
        "mcc_coding": correlation((base > 0).astype(int), (base_called > 0).astype(int), 2),
        "recall": len(both) / max(1, len(known)),
        "precision": len(both) / max(1, len(found)),
        "starts": sum(known[gene] == found[gene] for gene in both) / max(1, len(both)),
    }


def prodigal(sequences, code, folder):
    fasta, out = os.path.join(folder, "genome.fa"), os.path.join(folder, "prodigal.gff3")
    with open(fasta, "w") as file:
        for name, sequence in sequences.items():
            file.write(f">{name}\n{sequence}\n")
    command = ["prodigal", "-q", "-f", "gff", "-g", str(code), "-i", fasta, "-o", out]
    subprocess.run(command, check=True)
    return genes(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("genome")
    parser.add_argument("annotation")
    parser.add_argument("calls", nargs="*")
    parser.add_argument("--prodigal", action="store_true")
    parser.add_argument("--genetic-code", type=int, default=11)
    parser.add_argument("--region", action="append", default=[])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    sequences = contigs(options.genome)
    sizes = {name: len(sequence) for name, sequence in sequences.items()}
    regions = []
    for text in options.region:
        contig, _, span = text.rpartition(":")
        begin, _, end = span.replace(",", "").partition("-")
        regions.append((contig, int(begin), int(end)))
    annotation = genes(options.annotation)
    results = {path: evaluate(annotation, genes(path), sizes, regions) for path in options.calls}
    if options.prodigal:
        with tempfile.TemporaryDirectory() as folder:
            calls = prodigal(sequences, options.genetic_code, folder)
        results["prodigal"] = evaluate(annotation, calls, sizes, regions)
    if options.json:
        json.dump(results, sys.stdout, indent=2)
        return
    for name, measures in results.items():
        cells = [f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}" for key, value in measures.items()]
        print(f"{name}: " + ", ".join(cells))


if __name__ == "__main__":
    main()
