"""Finds the program, runs its commands, and opens the tables that they write."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Union

from crocuta.error import Error
from crocuta.progress import show_on
from crocuta.table import Table, read

#: A path to a file.
PathLike = Union[str, "os.PathLike[str]"]
#: One value of an option.
Value = Union[str, int, float, "os.PathLike[str]"]
#: What an option of the command line may be given: ``True`` for a flag; ``None`` and ``False``
#: leave it out; a tuple is one option of several values, a list the same option several times.
Option = Union[Value, bool, None, "tuple[Value, ...]", "list[Value]", "list[tuple[Value, ...]]"]


def embed(
    genome: PathLike,
    *,
    output: PathLike | None = None,
    progress: bool | None = None,
    **options: Option,
) -> Table:
    """Writes a hidden vector for every base, bin or interval of a FASTA file: ``crocuta embed``.

    Common options: ``model`` (a bundled name, a directory or ``"hf:owner/name"``), ``bin=128``,
    ``intervals="genes.gff3"``, ``around=("start", 1000)``, ``region=["chr1:1-1000", "chr2"]``,
    ``layer=3``, ``strand="both"``, ``dtype="f32"``, ``threads=4``, ``force=True``.

    The table is written to ``output``, or to a temporary file that lasts as long as the object
    returned. ``progress`` says whether to show how far the run is: by default in a notebook and on
    a terminal. Warnings of the program are Python's; its errors raise :class:`crocuta.Error`. An
    interrupt of Python ends the run, which then leaves no output.
    """
    return _table("embed", genome, output, progress, options)


def predict(
    genome: PathLike,
    *,
    output: PathLike | None = None,
    progress: bool | None = None,
    **options: Option,
) -> Table:
    """Writes what a model says of every base of a FASTA file: ``crocuta predict``.

    The probabilities of A, C, G and T and the log-probability of the base that stands there, or
    their means for each of ``intervals``; or what a head says, with ``head``. ``genes="genes.gff3"``
    writes a bacterium's genes to that file besides. The rest is as in :func:`embed`.
    """
    return _table("predict", genome, output, progress, options)


def score(
    variants: PathLike | None = None,
    *,
    reference: PathLike,
    output: PathLike | None = None,
    progress: bool | None = None,
    **options: Option,
) -> Table:
    """Writes what a model says of every variant of a VCF or BCF file: ``crocuta score``.

    ``saturate="chr1:1,000-1,200"`` scores every single-base change of that region instead of
    ``variants``. The rest is as in :func:`embed`.
    """
    return _table("score", variants, output, progress, {"reference": reference, **options})


def reads(
    alignments: PathLike,
    *,
    output: PathLike | None = None,
    progress: bool | None = None,
    **options: Option,
) -> Table:
    """Writes a row for every read of a BAM, CRAM, SAM or FASTQ file: ``crocuta reads``.

    The rest is as in :func:`embed`.
    """
    return _table("reads", alignments, output, progress, options)


def run(*words: Value, progress: bool | None = None, **options: Option) -> str:
    """Runs any command, such as ``run("models", "list")``, and returns what it prints.

    ``words`` stand as they are, ``options`` become the command line's. Raises
    :class:`crocuta.Error` if the program does not end with exit code 0.
    """
    line = [find_program(), *map(_word, words), *_arguments(options)]
    return _run(line, progress, stacklevel=3)


def find_program() -> str:
    """The path of the program.

    That is ``$CROCUTA_BINARY`` if it is set; else ``crocuta`` beside this interpreter, where
    the wheel has it; else the first on ``PATH``. Raises ``FileNotFoundError`` if there is none.
    """
    named = os.environ.get("CROCUTA_BINARY")
    if named:
        return named
    beside = os.path.join(sys.prefix, "bin", "crocuta")
    if os.access(beside, os.X_OK):
        return beside
    found = shutil.which("crocuta")
    if found is None:
        raise FileNotFoundError(
            "no program crocuta beside this interpreter or on PATH: build it in a checkout with "
            "`cargo install --locked --path .`, or give its path in the environment variable "
            "CROCUTA_BINARY"
        )
    return found


def _table(
    command: str,
    input: PathLike | None,
    output: PathLike | None,
    progress: bool | None,
    options: Mapping[str, Option],
) -> Table:
    """Runs ``command`` on ``input`` and opens the table that it writes."""
    if output is not None:
        _run(_line(command, input, output, options), progress)
        return read(output)
    directory = tempfile.mkdtemp(prefix="crocuta-")
    try:
        output = os.path.join(directory, f"{command}.parquet")
        _run(_line(command, input, output, options), progress)
        table = read(output)
    except BaseException:
        shutil.rmtree(directory, ignore_errors=True)
        raise
    weakref.finalize(table, shutil.rmtree, directory, ignore_errors=True)
    return table


def _line(
    command: str, input: PathLike | None, output: PathLike, options: Mapping[str, Option]
) -> list[str]:
    """The command line; the input stands last, as its name may begin with a dash."""
    line = [find_program(), command, *_arguments({"output": output, **options})]
    return line if input is None else [*line, "--", os.fspath(input)]


def _arguments(options: Mapping[str, Option]) -> list[str]:
    """The options as words of a command line: underscores of their names become dashes."""
    words: list[str] = []
    for key, value in options.items():
        name = "--" + key.replace("_", "-")
        for one in value if isinstance(value, list) else [value]:
            if one is None or one is False:
                continue
            if one is True:
                words.append(name)
            elif isinstance(one, tuple):
                words += [name, *map(_word, one)]
            else:
                # In one word, as a value may begin with a dash.
                words.append(f"{name}={_word(one)}")
    return words


def _word(value: Value) -> str:
    return os.fspath(value) if isinstance(value, (str, os.PathLike)) else str(value)


def _run(line: Sequence[str], progress: bool | None, stacklevel: int = 4) -> str:
    """Runs the program to its end, and returns what it wrote to its standard output.

    Warnings are those of the caller's line that is so many calls above them.
    """
    show = show_on(progress)
    # Two pipes would have to be read at once.
    with (
        tempfile.TemporaryFile() as stdout,
        subprocess.Popen(
            [line[0], "--log-format=json", *line[1:]],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
        ) as process,
    ):
        try:
            said, warned = _listen(process.stderr or (), show)
            code = process.wait()
        except BaseException:
            # The program removes what it has written, and ends within seconds.
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        for warning in warned:
            warnings.warn(warning, stacklevel=stacklevel)
        if code != 0:
            # Of a process that a signal ended: the signal's number, negative.
            code = code if code > 0 else 128 - code
            raise Error(said or f"the program ended with code {code}", code, list(line))
        stdout.seek(0)
        return stdout.read().decode()


def _listen(stderr: Iterable[str], show: Callable[[str], None]) -> tuple[str, list[str]]:
    """Shows the program's messages as they come; returns its error and its warnings."""
    plain: list[str] = []
    warned: list[str] = []
    for text in stderr:
        try:
            record = json.loads(text)
            level, message = record["level"], record["fields"]["message"]
        except (ValueError, TypeError, KeyError):
            # Errors come as text.
            plain.append(text)
            continue
        if level == "WARN":
            warned.append(message)
        else:
            show(message)
    error = "".join(plain).strip()
    return error.removeprefix("crocuta: ").removeprefix("error: "), warned
