#!/usr/bin/env bash
# Makes the training data of the bacterial models out of five public genomes and their annotations:
# the same sequences and genes, under contig names that differ (four of the files call theirs
# "Chromosome").
#
#     models/bacteria.sh DOWNLOADS OUT
#
# DOWNLOADS holds the files below: E. coli K-12 MG1655 from NCBI (GCF_000005845.2), the others from
# Ensembl Bacteria 46. Their digests are of the uncompressed text, which compression does not change.
set -euo pipefail
from=$1 to=$2
mkdir -p "$to"
while read -r name file digest; do
    found=$(gzip -dc "$from/$file" | sha256sum)
    [ "${found%% *}" = "$digest" ] || { echo "$file: another file, its text has digest $found" >&2; exit 1; }
    case "$file" in *.gff*) suffix=gff3 ;; *) suffix=fa ;; esac
    gzip -dc "$from/$file" |
        sed -E "s/^>Chromosome .*/>$name/; s/^>502A .*/>${name}_502A/; s/^(>NC_[0-9.]+) .*/\1/
            s/^Chromosome\t/$name\t/; s/^502A\t/${name}_502A\t/
            s/^(##sequence-region +)Chromosome /\1$name /; s/^(##sequence-region +)502A /\1${name}_502A /" |
        gzip -n9 >"$to/$name.$suffix.gz"
done <<FILES
ecoli ecoli_K12_MG1655_GCF_000005845.2.fna.gz 53bb6a51b6e92139ced1e38f74b7938781027c52200922ff03718c2237d23bb4
bsubtilis bsubtilis_BEST7003_ASM52304v1.fa.gz 3ff64e275e57c6d47cfc6a075484ddceaf1812cde850c8b7050c3e0650e83222
caulobacter caulobacter_CB15_ASM690v1.fa.gz dd0e88d599ad6cacb30547e10cc86add707356aa928e5054268c3c8d57af53d8
saureus saureus_ASM59796v1.fa.gz 54fb6a0218b4ddd75db8ddb5f1625b9361166248db97ad9660603d692482bcdb
mgenitalium mgenitalium_G37_ASM2732v1.fa.gz a1b6beb868d67f84dea90a7ad340ee7f9eb09ae3e17fcd15c2ba95fbe85fbe93
ecoli ecoli_K12_MG1655_GCF_000005845.2.gff.gz 5cc423caba7353aeceb2a0a4144ee8cfac2fa6d2f55f39b160dc1cf8971c5c58
bsubtilis bsubtilis_BEST7003_ASM52304v1.46.gff3.gz 95ceb2141aec6989196b0788fa6c91ab85ca4827512536ba3edcec10719ab562
caulobacter caulobacter_CB15_ASM690v1.46.gff3.gz 11a3f9ed8cf248a4d92c9c508a3ca13ab62c66c8008c875e3e5f5125ca7fc053
saureus saureus_ASM59796v1.46.gff3.gz a77f59bb8bd207d8a1416320b6da72756f0e7b1ce34f3624e1fe5f55109b7d92
mgenitalium mgenitalium_G37_ASM2732v1.46.gff3.gz 581a6c370f4dd65617c85e0158751fd22822ea259d31ff1c06b06b89f434beff
FILES
