"""Single changes at random places of a contig, as a VCF on stdout.

    python sites.py genome.fa.gz CONTIG COUNT [SEED] > sites.vcf

Places are drawn without repetition from those with a base, and sorted. Needs numpy, and samtools to
read the contig.
"""

import subprocess
import sys

import numpy as np


def main():
    path, contig, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    random = np.random.default_rng(int(sys.argv[4]) if len(sys.argv) > 4 else 1)
    text = subprocess.run(["samtools", "faidx", path, contig], check=True, capture_output=True).stdout
    bases = np.frombuffer(text.split(b"\n", 1)[1].replace(b"\n", b"").upper(), dtype=np.uint8)
    known = np.flatnonzero(np.isin(bases, np.frombuffer(b"ACGT", dtype=np.uint8)))
    places = np.sort(random.choice(known, size=count, replace=False))
    codes = np.searchsorted(np.frombuffer(b"ACGT", dtype=np.uint8), bases[places])
    others = (codes + random.integers(1, 4, size=count)) % 4
    out = sys.stdout
    out.write(f"##fileformat=VCFv4.2\n##contig=<ID={contig},length={len(bases)}>\n")
    out.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
    for place, code, other in zip(places, codes, others):
        out.write(f"{contig}\t{place + 1}\t.\t{'ACGT'[code]}\t{'ACGT'[other]}\t.\t.\t.\n")


if __name__ == "__main__":
    main()
