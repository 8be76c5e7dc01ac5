"""Commands: their options, their outputs, what they raise and what they show."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbclient
import nbformat
import pytest
from conftest import ROOT, write_fasta

import crocuta
from crocuta.command import _arguments
from crocuta.error import KINDS


def stub(directory: Path, script: str) -> str:
    """A program of the tests' own, in place of crocuta."""
    path = directory / "crocuta"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_keyword_arguments_become_options():
    assert _arguments({"regions_file": Path("a.bed"), "bin": 128, "threshold": 0.5}) == [
        "--regions-file=a.bed",
        "--bin=128",
        "--threshold=0.5",
    ]
    assert _arguments({"force": True, "strict": False, "model": None}) == ["--force"]
    assert _arguments({"layer": [0, -1]}) == ["--layer=0", "--layer=-1"]
    assert _arguments({"around": ("start", 1000)}) == ["--around", "start", "1000"]
    assert _arguments({"adapter": []}) == []


def test_a_table_without_output_lasts_as_long_as_its_object(genome):
    table = crocuta.embed(genome, bin=500)
    path = Path(table.path)
    assert len(table) == 3
    assert path.exists()
    del table
    assert not path.parent.exists()


def test_output_is_written_where_it_is_wanted(genome, tmp_path):
    table = crocuta.predict(genome, output=tmp_path / "p.parquet", region=["one:1-60", "two"])
    assert len(table) == 160
    assert os.listdir(tmp_path) == ["p.parquet"]
    assert len(crocuta.read(tmp_path / "p.parquet")) == 160


def test_every_command_gives_its_table(genome, tmp_path):
    base = genome.read_text().splitlines()[1][499]
    other = "A" if base != "A" else "C"
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    (tmp_path / "v.vcf").write_text(f"{head}one\t500\t.\t{base}\t{other}\t.\t.\t.\n")
    (tmp_path / "r.fastq").write_text("@read\nACGTACGT\n+\nIIIIIIII\n")
    variants = crocuta.score(tmp_path / "v.vcf", reference=genome, after=64)
    assert variants.to_pandas()["status"].tolist() == ["ok"]
    changes = crocuta.score(saturate="one:500-501", reference=genome, after=64)
    assert len(changes) == 6
    reads = crocuta.reads(tmp_path / "r.fastq")
    assert reads.to_pandas()["read_name"].tolist() == ["read"]
    assert "crocuta-bacteria" in crocuta.run("models", "list").split()


def test_errors_have_the_programs_message_and_code(genome, tmp_path):
    with pytest.raises(crocuta.Error, match="^unexpected argument '--modle'") as usage:
        crocuta.embed(genome, modle="x")
    assert (usage.value.code, usage.value.kind) == (2, "Usage")
    with pytest.raises(crocuta.Error, match="^nonsense: no such model") as model:
        crocuta.embed(genome, model="nonsense")
    assert (model.value.code, model.value.kind) == (4, "Model")
    with pytest.raises(crocuta.Error, match="none.fa: No such file") as io:
        crocuta.embed(tmp_path / "none.fa", output=tmp_path / "o.parquet")
    assert (io.value.code, io.value.kind) == (5, "Io")
    assert "--output=" + str(tmp_path / "o.parquet") in io.value.command
    assert os.listdir(tmp_path) == []


def test_a_program_that_is_killed_for_its_memory_is_an_error_of_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("CROCUTA_BINARY", stub(tmp_path, "kill -9 $$"))
    with pytest.raises(crocuta.Error, match="code 137") as killed:
        crocuta.run("models", "list")
    assert killed.value.kind == "Memory"


def test_kinds_of_errors_are_those_of_the_documentation():
    rows = [line.split("|") for line in (ROOT / "docs/exit-codes.md").read_text().splitlines()]
    codes = {
        int(row[1]): row[2].strip() for row in rows if len(row) > 3 and row[1].strip().isdigit()
    }
    assert {code: kind for code, kind in codes.items() if code != 0} == KINDS


def test_warnings_of_the_program_are_pythons(tmp_path):
    (tmp_path / "iupac.fa").write_text(">one\nACGTRYACGT\n")
    with pytest.warns(UserWarning, match="2 ambiguous") as caught:
        crocuta.embed(tmp_path / "iupac.fa")
    assert caught[0].filename == __file__


def test_progress_is_shown_where_it_is_wanted(genome, capfd):
    crocuta.embed(genome, bin=500, progress=True)
    assert "crocuta: 3 rows of 2 sequences" in capfd.readouterr().err
    crocuta.embed(genome, bin=500)
    assert capfd.readouterr() == ("", "")


def test_a_notebook_shows_the_last_message_in_place(genome):
    code = f"import crocuta\nn = len(crocuta.embed({str(genome)!r}, bin=500))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook).execute()
    (output,) = notebook.cells[0].outputs
    assert output["data"]["text/plain"].startswith("crocuta: 3 rows of 2 sequences")


def test_the_program_is_found(monkeypatch, tmp_path):
    directories = {}
    for name in ("named", "prefix/bin", "path"):
        directories[name] = tmp_path / name
        directories[name].mkdir(parents=True)
        stub(directories[name], "true")
    monkeypatch.setenv("CROCUTA_BINARY", str(directories["named"] / "crocuta"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "prefix"))
    monkeypatch.setenv("PATH", str(directories["path"]))
    for name in ("named", "prefix/bin", "path"):
        program = directories[name] / "crocuta"
        assert crocuta.find_program() == str(program)
        program.unlink()
        monkeypatch.delenv("CROCUTA_BINARY", raising=False)
    with pytest.raises(FileNotFoundError, match="cargo install --locked --path"):
        crocuta.find_program()


def test_an_interrupt_ends_the_run_and_leaves_nothing(tmp_path):
    write_fasta(tmp_path / "long.fa", 2_000_000)
    code = "import crocuta; crocuta.embed('long.fa', output='o.parquet', threads=1)"
    python = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while len(os.listdir(tmp_path)) == 1:
        assert python.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    # Python alone: a terminal or a notebook would signal the program too.
    python.send_signal(signal.SIGINT)
    _, stderr = python.communicate(timeout=60)
    assert b"KeyboardInterrupt" in stderr
    assert python.returncode != 0
    assert os.listdir(tmp_path) == ["long.fa"]
