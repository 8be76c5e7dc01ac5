"""Documents: the commands and options that they show are ones that the program has."""

import functools
import re
from pathlib import Path

import pytest
from conftest import ROOT

import crocuta

PAGES = sorted(
    page
    for pattern in ("*.md", "docs/**/*.md", "data/*.md", "models/*/*.md", "pipelines/**/*.md")
    for page in ROOT.glob(pattern)
)
#: What runs a command: the program, wherever it is, or a script that is given one.
PROGRAM = r"(?:^|[\s/`(])(?:crocuta|shard\.sh \S+ \S+)"
#: The commands that have commands of their own.
GROUPS = r"(?:check|models|table)"


def lines(text: str) -> list[str]:
    """The command lines of a page, from the name of the command on: in blocks and within text."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    code = "\n".join(blocks).replace("\\\n", " ")
    code += "\n" + "\n".join(re.findall(r"`([^`\n]+)`", rest))
    return re.findall(rf"{PROGRAM} +([a-z][^\n|;&#>]*)", code, re.MULTILINE)


@functools.cache
def options(*command: str) -> set[str]:
    """The options of a command, as its help lists them; raises crocuta.Error if there is none."""
    listed = re.findall(r"^ +(-.*)$", crocuta.run(*command, "--help"), re.MULTILINE)
    return {name for line in listed for name in re.findall(r"(?<!\S)--?[A-Za-z][\w-]*", line)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_of_a_page_exist(page: Path):
    for line in lines(page.read_text()):
        command = re.match(rf"(?:{GROUPS} )?[a-z]+", line).group().split()
        known = options(*command)
        shown = re.findall(r"(?<!\S)(--[a-z][a-z-]*|-[A-Za-z](?!\S))", line)
        unknown = [name for name in shown if name not in known]
        assert not unknown, f"{page.name}: {unknown} of {line}"


def test_the_pages_show_every_command_that_makes_a_table():
    text = (ROOT / "docs/which-command.md").read_text()
    assert {line.split()[0] for line in lines(text)} >= {
        "embed",
        "predict",
        "score",
        "reads",
        "fit",
    }
