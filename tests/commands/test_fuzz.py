"""If a file is damaged, a command writes one line of error, and no file is lost."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from samples import linear, report, reported_test, write_baseline

from pytest_flopsbudget.storage.report_file import dumps

#: The number of examples for each test; `make torture` runs more.
EXAMPLES = 10_000 if os.environ.get("FLOPSBUDGET_TORTURE") else 50

many = settings(max_examples=EXAMPLES, suppress_health_check=[HealthCheck.function_scoped_fixture])

FILE = Path("test_a.py")
REPORT = dumps(report(reported_test("test_a.py::t", linear(5), linear(4)), reported_test("test_a.py::u", linear(6))))


@st.composite
def damaged(draw, text):
    """Return ``text`` with some bytes removed or inserted, or with one value replaced."""
    data = text.encode()
    if draw(st.booleans()):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)) | st.just(len(data)))
        return data[:start] + draw(st.binary(max_size=20)) + data[end:]
    table = node = json.loads(text)
    while True:
        key = draw(st.sampled_from(range(len(node)) if isinstance(node, list) else list(node)))
        if not isinstance(node[key], (dict, list)) or not node[key] or not draw(st.integers(0, 9)):
            break
        node = node[key]
    node[key] = draw(st.sampled_from([None, True, -1, 2.5, "", "x", "../x", [], {}, 10**30, [[]], {"x": 1}]))
    return json.dumps(table).encode()


@pytest.fixture(scope="module")
def baseline_text(tmp_path_factory):
    path = write_baseline(tmp_path_factory.mktemp("project") / FILE, {"t": linear(4), "v": linear(7)})
    return path.read_text(encoding="utf-8")


def path_of(command):
    """Make a test file and the folder of its baseline, and return the path of the baseline."""
    FILE.touch()
    path = Path("__flops__/test_a.json")
    path.parent.mkdir(exist_ok=True)
    return path


def check(command, *argv):
    """Run a command, and check that it writes one line of error if it fails."""
    command(*argv)
    assert command.code in {0, 1, 2}
    assert (command.code == 2) == command.errors.startswith("error: ")
    if command.code == 2:
        assert command.errors.count("\n") == 1


@many
@given(st.data())
def test_reports(command, baseline_text, data):
    path = path_of(command)
    path.write_text(baseline_text, encoding="utf-8")
    Path("damaged.json").write_bytes(data.draw(damaged(REPORT) | st.binary()))
    Path("whole.json").write_text(REPORT, encoding="utf-8")
    check(command, "merge", "damaged.json", "whole.json", "-o", "merged.json")
    check(command, "diff", "whole.json", "damaged.json")
    check(command, "diff", "damaged.json", "whole.json", "--markdown")
    check(command, "accept", "damaged.json")
    if command.code == 2:
        assert path.read_text(encoding="utf-8") == baseline_text


@many
@given(st.data())
def test_baselines(command, baseline_text, data):
    path = path_of(command)
    content = data.draw(damaged(baseline_text) | st.binary())
    path.write_bytes(content)
    Path("report.json").write_text(REPORT, encoding="utf-8")
    check(command, "diff", "__flops__", "report.json")
    for argv in (("rename", f"{FILE}::v", f"{FILE}::w"), ("accept", "report.json")):
        path.write_bytes(content)
        check(command, *argv)
        if command.code == 2:
            assert path.read_bytes() == content
        else:
            # A file that the command wrote is readable.
            check(command, "diff", "__flops__", "__flops__")
            assert command.code == 0


@many
@given(st.sampled_from(["accept", "merge", "diff", "rename", "history"]), st.lists(st.text(max_size=8), max_size=3))
def test_arguments(command, name, words):
    path_of(command)
    words = [word for word in words if not {"-h", "--help", "--hel"} & {word.strip()} and not word.startswith("-h")]
    check(command, name, *words)
