#!/usr/bin/env bash
# Makes the training data of crocuta-human: the first 40 million bases of human chromosome 20
# (GRCh37, 1000 Genomes' human_g1k_v37; one record named 20).
#
#     models/human.sh chr20.fa.gz OUT
set -euo pipefail
mkdir -p "$2"
gzip -dc "$1" | awk -v most=40000000 '
    /^>/ { print ">20"; next }
    n < most { line = substr($0, 1, most - n); n += length(line); print line }
' | gzip -n9 >"$2/human20.fa.gz"
