import pytest
from test_verdict import complexity, verdict

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.ledger import Baselines, Ledger, packed
from pytest_flopsbudget.results.baseline import baseline_path, load


@pytest.fixture
def test_file(tmp_path):
    return tmp_path / "test_net.py"


def record(ledger, test_file, test_id, *, flops=100, line=1, passed=True):
    nodeid = f"{test_file.name}::{test_id}"
    ledger.record(nodeid, packed(nodeid, test_file, line, [verdict(flops)], vanished=()), passed=passed)
    return nodeid


class TestUpdate:
    def test_only_what_passed(self, test_file):
        ledger = Ledger()
        record(ledger, test_file, "test_a", flops=1)
        record(ledger, test_file, "test_b", flops=2, passed=False)
        ledger.fail(record(ledger, test_file, "test_c", flops=3))
        ledger.update()
        assert load(baseline_path(test_file)).tests == {"test_a": {"model": complexity(1)}}
        assert ledger.written == [baseline_path(test_file)]

    def test_the_last_attempt(self, test_file):
        ledger = Ledger()
        ledger.forget(record(ledger, test_file, "test_a", flops=1))
        assert len(ledger) == 0
        record(ledger, test_file, "test_a", flops=2)
        ledger.update()
        assert load(baseline_path(test_file)).tests == {"test_a": {"model": complexity(2)}}

    def test_a_file_that_cannot_be_read(self, test_file):
        """One file's fault is told, and does not keep the others from being written."""
        other = test_file.with_name("test_other.py")
        baseline_path(test_file).parent.mkdir()
        baseline_path(test_file).write_text("{")
        ledger = Ledger()
        record(ledger, test_file, "test_a")
        record(ledger, other, "test_a")
        ledger.update()
        assert len(ledger.errors) == 1
        assert ledger.written == [baseline_path(other)]
        assert baseline_path(test_file).read_text() == "{"


def test_order(test_file):
    """As the tests stand in their files, whatever order they ran in."""
    ledger = Ledger()
    for line, test_id in [(9, "test_last"), (1, "test_a[10]"), (1, "test_a[9]")]:
        record(ledger, test_file, test_id, line=line)
    assert [entry.nodeid.partition("::")[2] for entry in ledger] == ["test_a[9]", "test_a[10]", "test_last"]


class TestBaselines:
    def test_of_one_test(self, test_file):
        ledger = Ledger()
        nodeid = record(ledger, test_file, "test_a[x::y]")
        ledger.update()
        assert Baselines().entries(test_file, nodeid) == {"model": complexity()}
        assert Baselines().entries(test_file, "test_net.py::test_b") == {}

    def test_unreadable(self, test_file):
        baseline_path(test_file).parent.mkdir()
        baseline_path(test_file).write_text("<<<<<<< HEAD\n")
        with pytest.raises(BaselineError, match="conflict marker, line 1"):
            Baselines().entries(test_file, "test_net.py::test_a")
