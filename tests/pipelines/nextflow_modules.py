"""Runs the commands of the Nextflow modules, which Nextflow itself would fill in and run.

nextflow_modules.py MODULES INPUTS SCRATCH

For each module the script and the stub are taken from main.nf, their variables replaced, and run by
bash. Every output that is not optional must then be there, and those that the options ask for. What Nextflow does beyond that (channels,
staging, retries) is not tested here.
"""

import pathlib
import re
import shutil
import subprocess
import sys

GENOME = {"fasta": "genome.fa", "args": "--bin 128"}
VALUES = {
    "embed": [
        GENOME | {"rows": ""},
        GENOME | {"args": "", "rows": "--intervals genes.bed"},
    ],
    "predict": [
        GENOME | {"args": "", "table": "-o 'a|b.predictions.parquet'"},
        GENOME | {"args": "--genes genes.gff3", "table": "", "also": ["*.gff3"]},
        GENOME
        | {
            "args": "-m crocuta-bacteria-genes --bigwig tracks",
            "table": "",
            "also": ["*.bw"],
        },
    ],
    "score": [
        GENOME
        | {
            "variants": "variants.vcf",
            "args": "--vcf-out 'a|b.scores.vcf.gz'",
            "also": ["*.scores.vcf.gz"],
        }
    ],
    "reads": [
        {
            "reads": "reads.fastq",
            "reference": "",
            "args": "--per-base 'a|b.bases.parquet'",
            "also": ["*.bases.parquet"],
        }
    ],
    "tableconcat": [{"tables": "1.parquet 2.parquet", "args": ""}],
}
EVERYWHERE = {"prefix": "a|b", "device": "cpu", "weights": "", "task.cpus": "2"}


def commands(text):
    """The command of the script and that of the stub, with Groovy's escapes undone."""
    found = re.findall(r'\n    """\n(.*?)\n    """', text, re.DOTALL)
    assert len(found) == 2, "a script and a stub"
    return [command.replace("\\\\", "\\") for command in found]


def fill(command, values):
    return re.sub(r"\$\{([\w.]+)\}", lambda name: values[name.group(1)], command)


def outputs(text, optional):
    """Patterns of the outputs that a module promises, and of those of its optional ones."""
    block = text.split("    output:\n")[1].split("    when:\n")[0]
    declared = {}
    for line in block.splitlines():
        if pattern := re.search(r'path\("(.*?)"\)', line):
            declared[pattern.group(1)] = "optional: true" in line
    assert all(declared[pattern] for pattern in optional)
    return [name for name in declared if not declared[name]] + optional


def main(modules, inputs, scratch):
    for module, runs in VALUES.items():
        text = (modules / module / "main.nf").read_text()
        for number, values in enumerate(runs):
            for kind, command in zip(("script", "stub"), commands(text)):
                directory = scratch / f"{module}.{number}.{kind}"
                shutil.copytree(inputs, directory)
                filled = fill(command, EVERYWHERE | values)
                subprocess.run(["bash", "-euc", filled], cwd=directory, check=True)
                also = values.get("also", []) if kind == "script" else []
                for name in outputs(text, also):
                    pattern = fill(name, EVERYWHERE | values)
                    new = {path.name for path in directory.glob(pattern)}
                    new -= {path.name for path in inputs.iterdir()}
                    assert new, f"{module} ({kind}): no {name} after:\n{filled}"
                print(f"{module} ({kind}): ok")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
