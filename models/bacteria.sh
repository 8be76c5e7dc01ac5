#!/usr/bin/env bash
# Makes the training data of the bacterial models out of 22 public genomes, five with annotation: the
# same sequences and genes, under contig names that differ (four of the files call theirs
# "Chromosome").
#
#     models/bacteria.sh DOWNLOADS OUT
#
# DOWNLOADS holds the files below. E. coli K-12 MG1655 (GCF_000005845.2) and those whose contigs are
# named by accession are from NCBI, in FASTA, all records of an assembly in one file; the other four,
# and their annotations, from Ensembl Bacteria 46. The digests are of the uncompressed text, which
# compression does not change.
#
# The 17 genomes without annotation get the genes that Prodigal 2.6.3 calls, whole ones, where that is
# installed: crocuta-bacteria-genes learned from them too.
set -euo pipefail
from=$1 to=$2
mkdir -p "$to"
while read -r name file digest; do
    found=$(gzip -dc "$from/$file" | sha256sum)
    [ "${found%% *}" = "$digest" ] || { echo "$file: another file, its text has digest $found" >&2; exit 1; }
    case "$file" in *.gff*) suffix=gff3 ;; *) suffix=fa ;; esac
    gzip -dc "$from/$file" |
        sed -E "s/^>Chromosome .*/>$name/; s/^>502A .*/>${name}_502A/; s/^(>[^ ]+) .*/\1/
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
aquifex aquifex_aeolicus_VF5.fa.gz bf41f81012688858c18d064ca23cb2e2fa415c731a8973cf42f713b302a0dd75
banthracis bacillus_anthracis_Ames.fa.gz 2086e429315db26c80eae134cc2c43c8958f0b5d289a5b18265f6092977993fd
blochmannia blochmannia_pennsylvanicus_BPEN.fa.gz e3c6ff8b056f2d7d86c7861fbbc4cfd1bb6f278ab3d9b13c5014aae888f54e5a
cglutamicum corynebacterium_glutamicum_ATCC13032.fa.gz 1fd173de118c0d3813b8e2eba2d11c4ec5e5355d4484403182eec1f2f6a7be67
cpseudotuberculosis corynebacterium_pseudotuberculosis_CIP52.97.fa.gz 567ff87e9a82398ce3b6d052579165385076ba54429a01a5a4f38eda9c723215
glaesserella glaesserella_parasuis_D74.fa.gz 8b957c6fabc3ee3a6cae4c7cc91dfd75bee3bbce3b8d8cbaef6717f15406b61c
haemophilus haemophilus_influenzae_KW20.fa.gz a7cb19ab26bbd1e131ebfb743cfa88cc44f1cb236db846885b0d42253dd78652
klebsiella klebsiella_pneumoniae_NTUH-K2044.fa.gz d22693791a42bf78293a56366d525fc0428ee29fbd307ab3638452fa1c034292
legionella legionella_pneumophila_Paris.fa.gz ec92199d4f8fd571d17cc8979b5b908a60f77a84b27b3e2ae1ef2a0231fbe2a4
listeria listeria_monocytogenes_FDA971911.fa.gz 4066210f707207b47c9e59ea360798e8edfb8702fc63f5849f4c9526c4d5b04d
methanobacterium methanobacterium_AL-21.fa.gz 6dedae01a7a071447277e710ef4dbdb61ceea351b22f52f9b3dd7e5b1f178bac
neisseria neisseria_gonorrhoeae_FA6140.fa.gz 6429735646a2626941ff56c03833e167c3180906afcb35be3b098f15f347b1d2
pectobacterium pectobacterium_atrosepticum_SCRI1043.fa.gz 6fbea31ae6e49db74a70b7b141afc7fd78f738376cb09e3165dda928515493f8
salmonella salmonella_enterica_FDAARGOS_878.fa.gz d09c890fa8c19a7124077529a719534fcc5da753b7cf13090c5dc10bb595ed5a
spneumoniae streptococcus_pneumoniae_NCTC7465.fa.gz 4ac5582739e59a11ba428981fbfa98d6f4e805f7bd7551a1ee328ed7381fe71a
spyogenes streptococcus_pyogenes_FDAARGOS_774.fa.gz 0a2b2829a64ccb9d949ffc15baba7a59ac933ab891b131c9758e01ee34560fdb
ssuis streptococcus_suis_SRD478.fa.gz 743ac37687366389fd1c36545c1fa1b67c716ff161733ec73a0749b80f88693b
FILES
command -v prodigal >/dev/null || exit 0
for genome in "$to"/*.fa.gz; do
    name=${genome%.fa.gz}
    [ -e "$name.gff3.gz" ] && continue
    gzip -dc "$genome" >"$name.fa"
    prodigal -q -f gff -i "$name.fa" |
        awk 'BEGIN { FS = OFS = "\t"; print "##gff-version 3" }
            $3 == "CDS" && $9 ~ /partial=00/ { print $1, "Prodigal", "CDS", $4, $5, ".", $7, 0, "ID=g" ++n }' |
        gzip -n9 >"$name.gff3.gz"
    rm "$name.fa"
done
