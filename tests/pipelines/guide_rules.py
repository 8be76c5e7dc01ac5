"""Runs the rules for workflows that the guide shows: guide_rules.py GUIDE REPOSITORY SCRATCH"""

import pathlib
import re
import shutil
import subprocess
import sys

from nextflow_modules import fill
from reftrace import Module

NAME = "gi|170079663|"  # an accession in the style of older files
PART = "--region NC_000913.3_1-100000:1-5000"


def block(guide, mark):
    """The code block after a mark."""
    return re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", guide, re.DOTALL).group(1)


def genome(data, directory):
    for suffix in ("", ".fai", ".gzi"):
        shutil.copy(
            data / f"ecoli_100kb.fa.gz{suffix}", directory / f"{NAME}.fa.gz{suffix}"
        )


def snakemake(directory):
    command = ["snakemake", "--cores", "2", f"{NAME}.embeddings.parquet"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True)


def snakemake_rule(rule, repository, directory):
    directory.mkdir()
    genome(repository / "data", directory)
    scripts = repository / "pipelines/snakemake/workflow/scripts"
    shutil.copy(scripts / "attempt.sh", directory)
    (directory / "Snakefile").write_text(rule.replace("--bin 128", f"--bin 128 {PART}"))
    done = snakemake(directory)
    assert done.returncode == 0, done.stderr
    table = directory / f"{NAME}.embeddings.parquet"
    assert table.stat().st_size > 1000
    print("Snakemake: ok")

    table.unlink()
    damaged = directory / f"{NAME}.fa.gz"
    damaged.write_bytes(damaged.read_bytes()[:2000])
    done = snakemake(directory)
    log = (directory / f"{NAME}.embed.log").read_text()
    assert done.returncode != 0 and "attempt 3: not run, code 3" in log, (
        done.stderr,
        log,
    )
    print("Snakemake: a damaged genome is not tried again")


def nextflow_process(text, repository, directory):
    directory.mkdir()
    (directory / "main.nf").write_text(text)
    module = Module.from_file(str(directory / "main.nf"))
    assert not getattr(module, "error", None), module.error
    genome(repository / "data", directory)
    command = re.search(r'"""\n(.*?)\n    """', text, re.DOTALL).group(1)
    values = {
        "meta.id": NAME,
        "fasta": f"'{NAME}.fa.gz'",
        "weights": "",
        "task.cpus": "2",
    }
    command = f"{fill(command, values)} {PART}"
    subprocess.run(["bash", "-euc", command], cwd=directory, check=True)
    assert (directory / f"{NAME}.parquet").stat().st_size > 1000
    print("Nextflow's command: ok")


def main(guide, repository, scratch):
    text = guide.read_text()
    snakemake_rule(block(text, "snakemake"), repository, scratch / "snakemake")
    nextflow_process(block(text, "nextflow"), repository, scratch / "nextflow")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
