"""Makes small inputs of the bundled genomes: inputs.py DATA DIRECTORY

genomes.fa          the first bases of phage lambda, SARS-CoV-2 and E. coli, with its index
variants.vcf        a change every 4,000 bases
small/genome.fa     the first 2,000 bases of lambda, with its index
small/variants.vcf  a change every 500 bases
small/genes.bed     two intervals
small/reads.fastq   four reads
"""

import gzip
import pathlib
import sys

NEXT = {"A": "C", "C": "G", "G": "T", "T": "A"}


def records(path):
    """Names and sequences of a FASTA file."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt") as file:
        for record in file.read().split(">")[1:]:
            header, *lines = record.splitlines()
            yield header.split()[0], "".join(lines).upper()


def write_fasta(path, contigs, width=60):
    place = 0
    with open(path, "w") as file, open(f"{path}.fai", "w") as index:
        for name, sequence in contigs:
            place += file.write(f">{name}\n")
            index.write(f"{name}\t{len(sequence)}\t{place}\t{width}\t{width + 1}\n")
            for start in range(0, len(sequence), width):
                place += file.write(sequence[start : start + width] + "\n")


def write_variants(path, contigs, every):
    with open(path, "w") as file:
        file.write("##fileformat=VCFv4.3\n")
        for name, sequence in contigs:
            file.write(f"##contig=<ID={name},length={len(sequence)}>\n")
        file.write("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n")
        for name, sequence in contigs:
            for place in range(every // 2, len(sequence), every):
                base = sequence[place]
                file.write(f"{name}\t{place + 1}\t.\t{base}\t{NEXT[base]}\t.\t.\t.\n")


def main(data, directory):
    small = directory / "small"
    small.mkdir(parents=True)
    lengths = {
        "lambda.fa.gz": 20_000,
        "sarscov2.fa": 15_000,
        "ecoli_100kb.fa.gz": 30_000,
    }
    contigs = [
        (name, sequence[:length])
        for file, length in lengths.items()
        for name, sequence in records(data / file)
    ]
    write_fasta(directory / "genomes.fa", contigs)
    write_variants(directory / "variants.vcf", contigs, 4000)
    name, sequence = contigs[0][0], contigs[0][1][:2000]
    write_fasta(small / "genome.fa", [(name, sequence)])
    write_variants(small / "variants.vcf", [(name, sequence)], 500)
    (small / "genes.bed").write_text(
        f"{name}\t190\t736\tnu1\t0\t+\n{name}\t710\t1800\tA\t0\t+\n"
    )
    with open(small / "reads.fastq", "w") as file:
        for start in (0, 400, 900, 1500):
            read = sequence[start : start + 150]
            file.write(f"@read{start}\n{read}\n+\n{'I' * len(read)}\n")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
