"""Makes ecoli_variants.vcf.gz and ecoli_variants.labels.tsv: random changes of one base in genes.

    python ecoli_variants.py

1,500 places of the coding sequences in ecoli_100kb.gff3, start and stop codons left out, each with
one of the three other bases. A label says what the change does to the protein.
"""

import gzip
import random
from itertools import product
from pathlib import Path

HERE = Path(__file__).parent
AMINO_ACIDS = "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"
CODE = dict(zip(map("".join, product("TCAG", repeat=3)), AMINO_ACIDS))
COMPLEMENT = str.maketrans("ACGT", "TGCA")


def consequence(sequence: str, start: int, end: int, strand: str, place: int, alt: str) -> str:
    """What `alt` at `place` does to the gene from `start` to `end`."""
    changed = sequence[:place] + alt + sequence[place + 1 :]
    codons = []
    for bases in (sequence, changed):
        gene = bases[start:end] if strand == "+" else bases[start:end].translate(COMPLEMENT)[::-1]
        offset = place - start if strand == "+" else end - 1 - place
        codons.append(gene[offset // 3 * 3 : offset // 3 * 3 + 3])
    before, after = (CODE[codon] for codon in codons)
    return "synonymous" if before == after else "stop gained" if after == "*" else "missense"


def main() -> None:
    random.seed(1)
    with gzip.open(HERE / "ecoli_100kb.fa.gz", "rt") as fasta:
        name = next(fasta)[1:].split()[0]
        sequence = "".join(line.strip() for line in fasta)
    places = []
    for line in (HERE / "ecoli_100kb.gff3").read_text().splitlines():
        fields = line.split("\t")
        if len(fields) < 9 or fields[2] != "CDS":
            continue
        gene = dict(pair.split("=") for pair in fields[8].split(";"))["gene"]
        start, end = int(fields[3]) - 1, int(fields[4])
        places += [(place, start, end, fields[6], gene) for place in range(start + 3, end - 3)]
    vcf, labels = [], []
    for place, start, end, strand, gene in sorted(random.sample(places, 1500)):
        ref = sequence[place]
        alt = random.choice([base for base in "ACGT" if base != ref])
        what = consequence(sequence, start, end, strand, place, alt)
        vcf.append(f"{name}\t{place + 1}\t.\t{ref}\t{alt}\t.\t.\t.\n")
        labels.append(f"{name}\t{place + 1}\t{ref}\t{alt}\t{gene}\t{what}\n")
    header = f"##fileformat=VCFv4.2\n##contig=<ID={name},length={len(sequence)}>\n"
    columns = "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    # Without a time or a name in gzip's header, so that equal runs give equal files.
    packed = gzip.compress((header + columns + "".join(vcf)).encode(), mtime=0)
    (HERE / "ecoli_variants.vcf.gz").write_bytes(packed)
    text = "chrom\tpos\tref\talt\tgene\tconsequence\n" + "".join(labels)
    (HERE / "ecoli_variants.labels.tsv").write_text(text)


main()
