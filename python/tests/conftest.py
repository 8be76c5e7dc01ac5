"""Inputs of the tests, and one table for all of them that only look at one."""

import random
from pathlib import Path

import pytest

import crocuta

ROOT = Path(__file__).parents[2]


def write_fasta(path: Path, bases: int) -> Path:
    sequence = "".join(random.Random(1).choices("ACGT", k=bases))
    path.write_text(f">one\n{sequence}\n>two\n{sequence[:100]}\n")
    return path


@pytest.fixture(scope="session")
def genome(tmp_path_factory) -> Path:
    return write_fasta(tmp_path_factory.mktemp("genome") / "genome.fa", 1000)


@pytest.fixture(scope="session")
def bins(genome) -> crocuta.Table:
    """Nine rows: eight bins of the first sequence, one of the second."""
    return crocuta.embed(genome, model="crocuta-bacteria", bin=128, dtype="f32")
