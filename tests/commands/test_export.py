import json
from pathlib import Path

import pytest
from samples import linear, report, reported_test

from pytest_flopsbudget.storage.report_file import save


@pytest.fixture
def reported(command):
    save(report(reported_test("a.py::t", linear(4)), reported_test("b.py::u", linear(5))), Path("r.json"))
    return command


def test_collapsed(reported):
    """A linear layer of width 4 for a batch of 2 has 2 * 2 * 4 * 4 FLOPs."""
    assert reported("export", "r.json", "--collapsed", "new/c.txt") == []
    assert reported.errors == "written: new/c.txt\n"
    assert Path("new/c.txt").read_text().splitlines() == ["a.py::t;Net;layer 64", "b.py::u;Net;layer 100"]


def test_speedscope(reported):
    reported("export", "r.json", "--speedscope", "s.json", "--metric", "params")
    profiles = json.loads(Path("s.json").read_text())["profiles"]
    assert (profiles[0]["name"], profiles[0]["weights"]) == ("a.py::t: params", [20])


def test_model_explorer(reported):
    reported("export", "r.json", "--model-explorer", "new/net.json", "--metric", "params")
    assert reported.errors == "written: new/net.json\nwritten: new/net.params.json\n"
    assert [graph["id"] for graph in json.loads(Path("new/net.json").read_text())] == ["a.py::t", "b.py::u"]
    values = json.loads(Path("new/net.params.json").read_text())
    assert values["a.py::t"]["results"] == {"layer": {"value": 20}}


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["r.json"], "no file is requested; write --speedscope, --collapsed or --model-explorer PATH"),
        (["gone.json", "--collapsed", "c"], "gone.json: cannot be read"),
        (["r.json", "--collapsed", "-"], "--collapsed -: names no file"),
        (["r.json", "--speedscope", "x.py"], "would overwrite a source file"),
        (["r.json", "--collapsed", "c", "--metric", "depth"], "depth does not add up over modules"),
        (["r.json", "--model-explorer", "x.toml"], "would overwrite a source file"),
        (["r.json", "--model-explorer", ""], "--model-explorer '': names no file"),
        (["r.json", "--collapsed", "."], "--collapsed .: cannot be written: it is a folder"),
    ],
)
def test_mistakes(reported, argv, told):
    assert reported("export", *argv) == []
    assert reported.code == 2
    assert told in reported.errors
    assert reported.errors.count("\n") == 1


def test_a_report_without_measurements(command):
    save(report(), Path("r.json"))
    command("export", "r.json", "--collapsed", "c")
    assert command.errors == "error: r.json has no measurement\n"
