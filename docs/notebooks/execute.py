"""Runs the notebooks beside it, and fails with the first cell that fails.

    python docs/notebooks/execute.py [--write] [NAME ...]

Needs python/tests/requirements.txt, the module `crocuta` and its program. With --write the
notebooks get their new outputs; without, they stay as they are.
"""

import sys
import time
from pathlib import Path

import nbclient
import nbformat

HERE = Path(__file__).parent
MOST_CELLS = 30
CELL_SECONDS = 1200
MOST_BYTES = 1_500_000


def execute(path: Path, write: bool) -> None:
    """Runs one notebook, from the directory in which it lies."""
    notebook = nbformat.read(path, as_version=4)
    assert len(notebook.cells) < MOST_CELLS, f"{path.name} has {len(notebook.cells)} cells"
    started = time.monotonic()
    client = nbclient.NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        record_timing=False,
        resources={"metadata": {"path": str(HERE)}},
    )
    client.execute()
    if write:
        nbformat.write(notebook, path)
    print(f"{path.name}: {len(notebook.cells)} cells in {time.monotonic() - started:.0f} s")


def main() -> None:
    words = sys.argv[1:]
    names = [word for word in words if word != "--write"]
    paths = [HERE / f"{name}.ipynb" for name in names] or sorted(HERE.glob("*.ipynb"))
    assert paths, "there are no notebooks"
    for path in paths:
        execute(path, "--write" in words)
    size = sum(path.stat().st_size for path in HERE.glob("*.ipynb"))
    assert size <= MOST_BYTES, f"the notebooks have {size} bytes"


main()
