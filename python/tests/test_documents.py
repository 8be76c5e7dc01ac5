"""Documents: the command lines that they show are ones that the program has."""

import re

from conftest import ROOT

import crocuta


def test_the_options_of_which_command_exist():
    text = (ROOT / "docs/which-command.md").read_text()
    lines = re.findall(r"`crocuta ([^`]+)`", text)
    helps = {}
    for line in lines:
        command = re.match(r"(?:models |check )?[a-z]+", line).group().split()
        help = helps.setdefault(tuple(command), crocuta.run(*command, "--help"))
        for option in re.findall(r" (--?[a-z][a-z-]*)", line):
            assert re.search(rf"(^|[ ,]){option}[ ,\n]", help), line
    assert {command[0] for command in helps} >= {"embed", "predict", "score", "reads", "fit"}
