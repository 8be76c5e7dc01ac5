#!/usr/bin/env python3
"""Where two sets of gene calls have other starts, asks relatives of the genes which is likelier.

    starts.py genome.fa.gz annotation.gff3.gz first.gff3 second.gff3 relative.fa.gz=relative.gff3.gz ...

Of each annotated gene that both found by its 3' end, with other starts, the protein from the longer
start on is aligned with the annotated proteins of the relatives (Smith and Waterman, BLOSUM62) that
share most of its words of five residues. The best one with 35 % identity over 60 % of it says where
the gene should start, if its own start is right. Printed is how often each set's start is nearer to
that, and with which the annotation goes. Needs parasail.
"""
import collections, os, sys
import parasail

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
from evaluate_genes import contigs, genes

BASES = "TCAG"
RESIDUES = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
CODE = {
    a + b + c: RESIDUES[16 * i + 4 * j + k]
    for i, a in enumerate(BASES)
    for j, b in enumerate(BASES)
    for k, c in enumerate(BASES)
}
WORD, FEWEST, CANDIDATES = 5, 3, 8
IDENTITY, COVERED = 0.35, 0.6


def protein(sequence, reverse, first, last):
    if reverse:
        bases = sequence[last - 1 : first].translate(str.maketrans("ACGT", "TGCA"))[::-1]
    else:
        bases = sequence[first - 1 : last]
    codons = range(0, len(bases) - 2, 3)
    return "M" + "".join(CODE.get(bases[i : i + 3], "X") for i in codons)[1:].rstrip("*")


def sequences(path):
    return {name: bases.upper() for name, bases in contigs(path).items()}


def starts(path):
    return {(contig, reverse, last): first for contig, reverse, first, last in genes(path)[0]}


def relatives(pairs):
    proteins, words = [], collections.defaultdict(set)
    for pair in pairs:
        genome, annotation = pair.split("=")
        bases = sequences(genome)
        for contig, reverse, first, last in genes(annotation)[0]:
            proteins.append(protein(bases[contig], reverse, first, last))
    for i, residues in enumerate(proteins):
        for at in range(len(residues) - WORD + 1):
            words[residues[at : at + WORD]].add(i)
    return proteins, words


def expected(residues, proteins, words):
    """Residues from the start of the protein to where its best relative would start it."""
    shared = collections.Counter()
    for at in range(len(residues) - WORD + 1):
        shared.update(words.get(residues[at : at + WORD], ()))
    best = None
    for i, count in shared.most_common(CANDIDATES):
        if count < FEWEST:
            continue
        found = parasail.sw_trace_striped_16(residues, proteins[i], 11, 1, parasail.blosum62)
        query, other = found.traceback.query, found.traceback.ref
        covered = len(query.replace("-", ""))
        same = sum(a == b for a, b in zip(query, other))
        if same < IDENTITY * len(query) or covered < COVERED * len(residues):
            continue
        behind = found.end_ref + 1 - len(other.replace("-", ""))
        place = found.end_query + 1 - covered - behind
        best = max(best or (found.score, place), (found.score, place))
    return best and best[1]


def main(genome, annotation, first, second, *pairs):
    bases, proteins_and_words = sequences(genome), relatives(pairs)
    truth, one, other = starts(annotation), starts(first), starts(second)
    counts = collections.Counter()
    for key in sorted(truth.keys() & one.keys() & other.keys()):
        if one[key] == other[key]:
            continue
        contig, reverse, last = key
        far = (max if reverse else min)(one[key], other[key])
        place = expected(protein(bases[contig], reverse, far, last), *proteins_and_words)
        if place is None:
            counts["without a relative"] += 1
            continue
        off = [abs(abs(calls[key] - far) // 3 - place) for calls in (one, other)]
        nearer = "first" if off[0] < off[1] else "second" if off[1] < off[0] else "neither"
        counts[f"{nearer} nearer"] += 1
        went = {one[key]: "first", other[key]: "second"}.get(truth[key], "neither")
        counts[f"annotation as {went}"] += 1
    for what, count in sorted(counts.items()):
        print(count, what)


if len(sys.argv) < 6:
    sys.exit(__doc__)
main(*sys.argv[1:])
