"""Runs the tests of the Galaxy tools without a Galaxy: galaxy_tools.py DIRECTORY SCRATCH

Each <test> of each tool is filled in and run as Galaxy would do it, by the same templates and
assertions; how Galaxy stages data and shows forms is not tested here.
"""

import os
import pathlib
import subprocess
import sys

from Cheetah.Template import Template
from galaxy.tool_util.parser.xml import XmlToolSource
from galaxy.tool_util.verify.asserts import verify_assertions
from galaxy.util.xml_macros import load_with_references


class Conditional(dict):
    __getattr__ = dict.__getitem__


def values(inputs, given, data):
    """The value of each parameter: the test's own, or the default."""
    found = {}
    for item in inputs:
        test = given.find(
            f"*[@name='{item.get('name') or (item.get('argument') or '').lstrip('-')}']"
        )
        if item.tag == "conditional":
            inner = values(item.findall("param"), test, data)
            chosen = next(iter(inner.values()))
            inner |= values(item.find(f"when[@value='{chosen}']"), test, data)
            found[item.get("name")] = Conditional(inner)
        elif item.tag == "param":
            name = item.get("name") or item.get("argument").lstrip("-")
            found[name] = value(item, test, data)
    return found


def value(param, test, data):
    given = test.get("value") if test is not None else None
    kind = param.get("type")
    if kind == "data":
        return str(data / given)
    if kind == "boolean":
        return (given or param.get("checked")) == "true"
    if kind == "select":
        return given or param.find("option[@selected='true']").get("value")
    return given or param.get("value")


def run(tool, test, asserts, directory, data):
    filled = values(tool.find("inputs"), test, data)
    outputs = {
        item.get("name"): directory / item.get("name")
        for item in tool.findall("outputs/data")
    }
    command = Template(
        tool.find("command").text, searchList=[filled | outputs]
    ).respond()
    command = " ".join(command.split())
    subprocess.run(["bash", "-ec", command], cwd=directory, check=True)
    written = [name for name, path in outputs.items() if path.exists()]
    assert len(written) == int(test.get("expect_num_outputs")), (written, command)
    for output, parsed in zip(test.findall("output"), asserts):
        verify_assertions((directory / output.get("name")).read_bytes(), parsed)


def assertions(path):
    """For each test of a tool the assertions on its outputs, as Galaxy reads them."""
    tests = XmlToolSource(load_with_references(str(path))[0]).parse_tests_to_dict()[
        "tests"
    ]
    return [
        [output["attributes"]["assert_list"] for output in test["outputs"]]
        for test in tests
    ]


def main(tools, scratch):
    os.environ["GALAXY_SLOTS"] = "2"
    for path in sorted(tools.glob("*.xml")):
        tool = load_with_references(str(path))[0].getroot()
        tests = zip(tool.findall("tests/test"), assertions(path))
        for number, (test, asserts) in enumerate(tests):
            directory = scratch / f"{path.stem}.{number}"
            directory.mkdir(parents=True)
            run(tool, test, asserts, directory, (tools / "test-data").resolve())
            print(f"{path.name}, test {number + 1}: ok")


if __name__ == "__main__":
    main(*map(pathlib.Path, sys.argv[1:]))
