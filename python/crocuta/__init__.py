"""Runs crocuta from Python and reads its tables.

    import crocuta

    genes = crocuta.embed("genome.fa.gz", intervals="genes.gff3")
    genes.matrix        # a row for each gene: NumPy, (genes, dimensions)
    genes.to_polars()   # its name, place and strand beside it

Each command is the one of the command line: its options are keyword arguments, with underscores for
dashes. What a command, an option or a column means is said by ``crocuta <command> --help`` and by
the program's documentation. Coordinates count from 0, the end excluded, as in BED.
"""

from crocuta.command import Option, embed, find_program, predict, reads, run, score
from crocuta.error import Error
from crocuta.table import Table, read

__all__ = [
    "Error",
    "Option",
    "Table",
    "embed",
    "find_program",
    "predict",
    "read",
    "reads",
    "run",
    "score",
]
