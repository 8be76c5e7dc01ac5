#!/usr/bin/env bash
# Puts the tables of shard.sh together, once all are there:
#
#   sbatch --dependency=afterok:ARRAY gather.sh 8 OUT
#
# makes OUT.parquet. A shard that is missing, or of another run, is an error.
#SBATCH --job-name=crocuta-gather
#SBATCH --mem=4G
#SBATCH --time=01:00:00
set -euo pipefail
shards=$1 out=$2
tables=()
for ((task = 1; task <= shards; task++)); do tables+=("$out/$task-of-$shards.parquet"); done
crocuta table concat "${tables[@]}" -o "$out.parquet" --force
