__author__ = "The crocuta authors"
__copyright__ = "Copyright 2026, The crocuta authors"
__license__ = "MIT"

import shlex

from snakemake.shell import shell

log = snakemake.log_fmt_shell(stdout=True, stderr=True)
extra = snakemake.params.get("extra", "")
gpu = snakemake.resources.get("gpu")
# Runs that write more than a table keep none.
more = snakemake.output.get("genes") or snakemake.output.get("bed")
checkpoints = None if more else snakemake.params.get("checkpoints")

options = {
    "--output": snakemake.output.get("table"),
    "--genes": snakemake.output.get("genes"),
    "--bed": snakemake.output.get("bed"),
    "--regions-file": snakemake.input.get("regions"),
    "--intervals": snakemake.input.get("intervals"),
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

shell("crocuta predict {snakemake.input.fasta:q} --force {options} {extra} {log}")
