"""The error that a run of the program ends with."""

from __future__ import annotations

#: What each exit code means, by the names of docs/exit-codes.md.
KINDS = {
    1: "Internal",
    2: "Usage",
    3: "Input",
    4: "Model",
    5: "Io",
    6: "Strict",
    130: "Interrupted",
    137: "Memory",
    143: "Terminated",
}


class Error(RuntimeError):
    """A run of crocuta that did not end with exit code 0.

    ``str(error)`` is the program's own message, which names the file, the place in it, what is
    wrong and what to do. ``code`` is the exit code, ``kind`` its name in docs/exit-codes.md (such
    as ``"Input"``), and ``command`` the command line as a list of words.

    With ``strict=True`` a run whose records failed raises this too, with code 6; its output stands.
    """

    def __init__(self, message: str, code: int, command: list[str]) -> None:
        """An error of the program ``command``, which ended with ``code`` and said ``message``."""
        super().__init__(message)
        self.code = code
        self.kind = KINDS.get(code, "Unknown")
        self.command = command
