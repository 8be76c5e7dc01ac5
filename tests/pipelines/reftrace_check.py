"""Parses the Nextflow files with Nextflow's grammar: reftrace_check.py DIRECTORY"""

import pathlib
import sys

from reftrace import ConfigFile, Module

directory = pathlib.Path(sys.argv[1])
for path in sorted(directory.rglob("*.nf")):
    module = Module.from_file(str(path))
    if error := getattr(module, "error", None):
        sys.exit(f"{path}: {error}")
    if "modules" in path.parts:
        (process,) = module.processes
        assert process.name == "_".join(["CROCUTA", path.parent.name.upper()]), path
for path in sorted(directory.rglob("*.config")):
    if error := ConfigFile.from_file(str(path)).error:
        sys.exit(f"{path}: {error}")
