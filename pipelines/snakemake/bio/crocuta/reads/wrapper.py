__author__ = "The crocuta authors"
__copyright__ = "Copyright 2026, The crocuta authors"
__license__ = "MIT"

import shlex

from snakemake.shell import shell

log = snakemake.log_fmt_shell(stdout=True, stderr=True)
extra = snakemake.params.get("extra", "")
gpu = snakemake.resources.get("gpu")
# Runs that write more than tables keep none.
bam = snakemake.output.get("bam")
checkpoints = None if bam else snakemake.params.get("checkpoints")

options = {
    "--reference": snakemake.input.get("fasta"),
    "--regions-file": snakemake.input.get("regions"),
    "--bam-out": bam,
    "--per-base": snakemake.output.get("per_base"),
    "--model": snakemake.input.get("model", snakemake.params.get("model")),
    "--summary": snakemake.output.get("summary"),
    "--shard": snakemake.params.get("shard"),
    "--checkpoint-dir": checkpoints,
    "--device": "auto" if gpu is None else "cuda" if gpu else "cpu",
    "--threads": snakemake.threads,
}
options = [f"{name}={value}" for name, value in options.items() if value]
if checkpoints:
    options.append("--resume")
options = shlex.join(options)

shell(
    "crocuta reads {snakemake.input.reads:q} -o {snakemake.output.table:q}"
    " --force {options} {extra} {log}"
)
