"""llms.txt names options, commands, files and keys that exist, and its example runs."""

from __future__ import annotations

import argparse
import json
import re

import pytest
from paths import ROOT

from pytest_flopsbudget.commands import main as command_line

TEXT = ROOT.joinpath("llms.txt").read_text(encoding="utf-8")
SCHEMA = json.loads(ROOT.joinpath("pytest_flopsbudget", "results", "report.schema.json").read_text(encoding="utf-8"))


def test_commands_and_their_options(pytestconfig):
    calls = re.findall(r"`(?:pytest|flopsbudget) ([^`]*)`", TEXT)
    assert len(calls) > 8
    own = [call.split() for call in re.findall(r"`flopsbudget ([^`]+)`", TEXT)]
    parser = command_line._parser([])
    for words in own:
        assert isinstance(parser.parse_args(words), argparse.Namespace)
    for option in re.findall(r"--flops-budget-[a-z]+", TEXT):
        assert pytestconfig.getoption(option, default="absent") != "absent"


def test_links():
    for path in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert ROOT.joinpath(path).is_file()


@pytest.mark.parametrize(
    ("type_name", "keys"),
    [
        ("Cause", ["edits", "tests", "changes", "accept", "limit_sources", "over_limit"]),
        ("Edit", ["path", "kind", "old", "new"]),
        ("ModuleSettings", ["type", "shape", "calls"]),
        ("ChangeRange", ["smallest", "largest"]),
        ("ReportedTest", ["file", "line", "measurements"]),
        ("Verdict", ["outcome", "fails", "broken", "comparison", "diffs", "complexity"]),
    ],
)
def test_keys_of_the_report(type_name, keys):
    properties = SCHEMA["$defs"][type_name]["properties"]
    for key in keys:
        assert key in properties
        assert f"`{key}`" in TEXT or f".{key}`" in TEXT or f"[].{key}" in TEXT


def test_kinds_of_edits():
    kinds = SCHEMA["$defs"]["Edit"]["properties"]["kind"]["enum"]
    assert all(f'"{kind}"' in TEXT for kind in kinds)


def test_the_example(project):
    example = TEXT.partition("```python\n")[2].partition("```")[0]
    build = "import torch\n\ndef build_model():\n    return torch.nn.Conv2d(3, 8, 3)\n"
    project.pytester.makepyfile(test_example=build + example)
    project.run("--flops-budget-json=run.json").assert_outcomes(passed=1)
    flops = json.loads(project.path.joinpath("run.json").read_text())["tests"][0]["measurements"][0]["complexity"]
    assert flops["metrics"]["flops"] == 2 * 3 * 3 * 3 * 8 * 222 * 222
