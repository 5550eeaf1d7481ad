"""The last lines of the summary: written baselines, orphans, renames, and what to do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.reports.terminal.baseline_notes import baseline_notes
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.verdict import Measurement, judge
from pytest_flopsbudget.storage.orphans import Orphan
from pytest_flopsbudget.storage.run_record import RunRecord, pack_verdicts

FILE = Path("tests/__flops__/test_net.json")


def complexity(flops):
    metrics = {"flops": flops}
    modules = {"": Module(type="Net", metrics=metrics)}
    return Complexity(model="Net", inputs=(), execution="shapes", metrics=metrics, modules=modules)


def orphan(name, flops=1):
    return Orphan(f"tests/test_net.py::{name}", FILE, {"model": complexity(flops)})


def measure(run_record, nodeid, flops, *, accepts=False):
    measurement = Measurement(name="model", complexity=complexity(flops))
    verdict = judge(measurement, [], Settings(), None, accepts=accepts)
    run_record.record(nodeid, pack_verdicts(nodeid, Path("test_net.py"), 0, [verdict], []), passed=True)


def lines(run_record, *, accepts=False, verbosity=0):
    shown = baseline_notes(
        run_record, accepts=accepts, verbosity=verbosity, shown_path=str, shown_nodeid=lambda nodeid: f"../{nodeid}"
    )
    return list(shown)


def test_nothing_to_say():
    assert lines(RunRecord()) == []


def test_written():
    """A line for each written baseline counts its new, improved and unchanged entries."""
    run_record = RunRecord()
    run_record.written = [Path("a.json"), Path("b.json")]
    run_record.accepted = {Path("a.json"): Counter(new=1, improved=2), Path("b.json"): Counter(unchanged=1200)}
    assert lines(run_record, accepts=True) == [
        "baseline written: a.json: 1 new, 2 improved",
        "baseline written: b.json: 1,200 unchanged",
    ]


def test_nothing_to_write():
    run_record = RunRecord()
    assert lines(run_record, accepts=True) == ["nothing to write"]
    run_record.accepted = {Path("a.json"): Counter(unchanged=1), Path("b.json"): Counter(unchanged=2)}
    assert lines(run_record, accepts=True) == ["nothing to write: 3 unchanged"]


def test_what_could_not_be_written_is_told_elsewhere():
    run_record = RunRecord()
    run_record.errors = ["a.json: cannot be written"]
    assert lines(run_record, accepts=True) == []


def test_orphans():
    run_record = RunRecord()
    run_record.orphans = [orphan("test_a")]
    assert lines(run_record) == [
        "1 baseline entry without a test; to remove: pytest --flops-budget-prune",
        "    ../tests/test_net.py::test_a",
    ]


@pytest.mark.parametrize(("verbosity", "named"), [(-1, 0), (0, 10), (1, 12)])
def test_many_orphans(verbosity, named):
    """Of twelve orphans, the notes name all with -v, ten without a flag, and none with -q."""
    run_record = RunRecord()
    run_record.orphans = [orphan(f"test_{number}") for number in range(12)]
    told = lines(run_record, verbosity=verbosity)
    assert told[0] == "12 baseline entries without a test; to remove: pytest --flops-budget-prune"
    assert sum("::" in line for line in told) == named
    assert ("    and 2 more, which -v shows" in told) == (verbosity == 0)


def test_renames():
    """If a test was renamed, the notes show the command that moves its entry."""
    run_record = RunRecord()
    run_record.orphans = [orphan("test_old[a b]"), orphan("test_gone", 2)]
    measure(run_record, "tests/test_net.py::test_new", 1)
    assert lines(run_record) == [
        "1 baseline entry without a test; to remove: pytest --flops-budget-prune",
        "    ../tests/test_net.py::test_gone",
        "1 test likely renamed, at the same cost; to move the baseline:",
        "    flopsbudget rename '../tests/test_net.py::test_old[a b]' ../tests/test_net.py::test_new",
    ]
    assert lines(run_record, verbosity=-1)[1:] == ["1 test likely renamed, at the same cost"]


def test_a_baseline_that_the_run_wrote_is_not_to_be_moved():
    run_record = RunRecord()
    run_record.orphans = [orphan("test_old")]
    measure(run_record, "tests/test_net.py::test_new", 1, accepts=True)
    assert [line for line in lines(run_record) if "rename" in line] == []
    assert "    ../tests/test_net.py::test_old" in lines(run_record)


def test_pruned():
    run_record = RunRecord()
    run_record.orphans = [orphan("test_a"), orphan("test_b")]
    run_record.pruned = list(run_record.orphans)
    assert lines(run_record) == [
        f"baseline pruned: {FILE}: ../tests/test_net.py::test_a, ../tests/test_net.py::test_b",
    ]
