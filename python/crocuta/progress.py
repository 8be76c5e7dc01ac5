"""Where the program's messages go while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable


def show_on(wanted: bool | None) -> Callable[[str], None]:
    """A function that shows a message, where Python's user looks.

    In a notebook each message takes the place of the one before; elsewhere they are lines on
    stderr. ``wanted`` says whether to show them at all: ``None`` means in a notebook or on a
    terminal.
    """
    if wanted is False:
        return lambda message: None
    if _in_notebook():
        return _in_one_place()
    if wanted or sys.stderr.isatty():
        return lambda message: print(f"crocuta: {message}", file=sys.stderr)
    return lambda message: None


def _in_notebook() -> bool:
    """Whether this is a kernel, whose output can be changed once it is shown."""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython.get_ipython(), "kernel") if ipython is not None else False


def _in_one_place() -> Callable[[str], None]:
    from IPython.display import display

    def bundle(message: str) -> dict[str, str]:
        return {"text/plain": f"crocuta: {message}"}

    handle = display(bundle("starts"), raw=True, display_id=True)
    return lambda message: handle.update(bundle(message), raw=True)
