"""What a run measured, and what of it becomes the new baseline."""

from __future__ import annotations

import json

import msgspec
import pytest
from timed import timed

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.identifiers import baseline_path
from pytest_flopsbudget.results.complexity import Complexity, Module
from pytest_flopsbudget.results.verdict import Measurement, judge
from pytest_flopsbudget.storage.baseline import BaselineFile, load, save
from pytest_flopsbudget.storage.run_record import Baselines, Ledger, packed


def complexity(flops=100):
    metrics = {"flops": flops}
    return Complexity(
        model="Net",
        inputs=("float32[1]",),
        execution="shapes",
        metrics=metrics,
        modules={"": Module(type="Net", metrics=metrics)},
    )


def verdict(flops=100, name="model", old=None, *, accepts=True):
    measurement = Measurement(name=name, complexity=complexity(flops))
    return judge(measurement, [], Settings(), None if old is None else complexity(old), accepts=accepts)


@pytest.fixture
def record(tmp_path):
    """Records a test of a file in this folder, as a report of another process would."""
    (tmp_path / "tests").mkdir(exist_ok=True)

    def record(ledger, nodeid="tests/test_net.py::test_a", *, verdicts=None, passed=True, line=0, vanished=()):
        file = tmp_path / nodeid.partition("::")[0]
        data = packed(nodeid, file, line, [verdict()] if verdicts is None else verdicts, vanished)
        ledger.record(nodeid, json.loads(json.dumps(data)), passed=passed)
        return file

    return record


@pytest.fixture
def test_file(tmp_path):
    """The file of the tests that `record` records unless told otherwise."""
    return tmp_path / "tests/test_net.py"


def accepted(test_file):
    """Test id → name → FLOPs in the baseline of a file."""
    return {
        test_id: {name: entry.flops for name, entry in entries.items()}
        for test_id, entries in load(baseline_path(test_file)).tests.items()
    }


class TestBaselines:
    def test_none(self, tmp_path):
        """A file without a baseline accepted nothing."""
        assert Baselines().entries(tmp_path / "test_net.py", "test_net.py::test_a") == {}

    def test_entries_of_one_test(self, tmp_path):
        file = tmp_path / "test_net.py"
        save(BaselineFile(baseline_path(file), {"T::test_a[x::y]": {"model": complexity()}, "test_b": {}}))
        assert Baselines().entries(file, "any/where/test_net.py::T::test_a[x::y]") == {"model": complexity()}

    def test_read_once(self, tmp_path):
        """What a run compares with does not change while it runs."""
        file = tmp_path / "test_net.py"
        baselines = Baselines()
        baselines.file(file)
        save(BaselineFile(baseline_path(file), {"test_a": {"model": complexity()}}))
        assert baselines.entries(file, "test_net.py::test_a") == {}

    def test_unreadable(self, tmp_path):
        path = baseline_path(tmp_path / "test_net.py")
        path.parent.mkdir()
        path.write_text("{", encoding="utf-8")
        with pytest.raises(BaselineError, match="line 1"):
            Baselines().file(tmp_path / "test_net.py")


class TestRecord:
    def test_survives_the_way_between_processes(self, record):
        ledger = Ledger()
        record(ledger, verdicts=[verdict(2**70, old=3)], vanished=["x"], line=7)
        (entry,) = ledger
        assert entry.whole() == (verdict(2**70, old=3),)
        assert (entry.nodeid, entry.vanished, entry.line) == ("tests/test_net.py::test_a", ("x",), 7)

    def test_trees_are_kept_packed(self, record):
        """A thousand tests of large models fit into memory; totals are at hand."""
        modules = {f"layers.{i}": Module(type="Linear", calls=1, metrics={"flops": i}) for i in range(2000)}
        whole = verdict(3)
        complexity = msgspec.structs.replace(whole.complexity, modules=whole.complexity.modules | modules)
        whole = msgspec.structs.replace(whole, complexity=complexity)
        ledger = Ledger()
        record(ledger, verdicts=[whole])
        (entry,) = ledger
        assert entry.whole() == (whole,)
        assert entry.verdicts[0].complexity.flops == 3
        assert set(entry.verdicts[0].complexity.modules) <= {""}
        assert len(entry.packed) < 20 * len(modules)

    def test_the_last_attempt_counts(self, record):
        ledger = Ledger()
        record(ledger, verdicts=[verdict(1)], passed=False)
        record(ledger, verdicts=[verdict(2)])
        (entry,) = ledger
        assert (entry.verdicts[0].complexity.flops, entry.passed) == (2, True)

    def test_an_attempt_that_measures_nothing_leaves_nothing(self, record):
        ledger = Ledger()
        record(ledger)
        ledger.forget("tests/test_net.py::test_a")
        assert len(ledger) == 0

    def test_order(self, record):
        """As the tests stand in their files, whatever order they ran in."""
        ledger = Ledger()
        for nodeid, line in [("b.py::z", 1), ("a.py::test_10", 9), ("a.py::test_2", 5), ("a.py::test_2[b]", 5)]:
            record(ledger, nodeid, line=line)
        assert [entry.nodeid for entry in ledger] == ["a.py::test_2", "a.py::test_2[b]", "a.py::test_10", "b.py::z"]

    def test_what_did_not_pass_accepts_nothing(self, record):
        ledger = Ledger()
        record(ledger, "a.py::test_a", verdicts=[verdict(9, old=3)], passed=False)
        record(ledger, "a.py::test_b", verdicts=[verdict(9, old=3)])
        record(ledger, "a.py::test_c", verdicts=[verdict(9, old=3)])
        ledger.fail("a.py::test_b")
        ledger.fail("a.py::unknown")
        assert [entry.verdicts[0].outcome for entry in ledger] == ["regressed", "regressed", "accepted"]

    @pytest.mark.parametrize(
        ("fields", "attention"),
        [
            ({"verdicts": [verdict(3, old=3)]}, False),
            ({"verdicts": [verdict(3, old=3)], "vanished": ["x"]}, True),
            ({"verdicts": [verdict(3, old=3), verdict(2, "other", old=3)]}, True),
            ({"verdicts": [], "vanished": ["x"]}, True),
        ],
        ids=["unchanged", "vanished", "improved", "nothing measured"],
    )
    def test_needs_attention(self, record, fields, attention):
        ledger = Ledger()
        record(ledger, **fields)
        assert [entry.needs_attention for entry in ledger] == [attention]


class TestUpdate:
    def test_writes_what_passed(self, record):
        ledger = Ledger()
        file = record(ledger, verdicts=[verdict(1, "x"), verdict(2, "y")])
        record(ledger, "tests/test_net.py::test_b", passed=False)
        ledger.update()
        assert accepted(file) == {"test_a": {"x": 1, "y": 2}}
        assert (ledger.written, ledger.errors) == ([baseline_path(file)], [])

    def test_all_others_keep_their_entries(self, record, test_file):
        """Those that failed, in one phase or another, and those that did not run."""
        file = test_file
        names = ("test_a", "failed", "torn_down", "not_run")
        save(BaselineFile(baseline_path(file), {name: {"model": complexity(7)} for name in names}))
        ledger = Ledger()
        record(ledger)
        record(ledger, "tests/test_net.py::failed", passed=False)
        record(ledger, "tests/test_net.py::torn_down")
        ledger.fail("tests/test_net.py::torn_down")
        ledger.update()
        assert accepted(file) == {name: {"model": 7} for name in names} | {"test_a": {"model": 100}}

    def test_a_test_that_measured_nothing_keeps_its_entry(self, record, test_file):
        file = test_file
        save(BaselineFile(baseline_path(file), {"test_a": {"model": complexity(7)}}))
        ledger = Ledger()
        record(ledger, verdicts=[], vanished=["model"])
        ledger.update()
        assert accepted(file) == {"test_a": {"model": 7}}
        assert ledger.written == []

    def test_a_file_a_test_file(self, record):
        ledger = Ledger()
        first, second = record(ledger, "a.py::test"), record(ledger, "b.py::test")
        ledger.update()
        assert ledger.written == [baseline_path(first), baseline_path(second)]

    def test_what_changed_meanwhile_is_kept(self, record, test_file):
        """Another run may have written other tests since this one read the file."""
        file = test_file
        ledger = Ledger()
        record(ledger)
        save(BaselineFile(baseline_path(file), {"test_other": {"model": complexity(7)}}))
        ledger.update()
        assert accepted(file).keys() == {"test_a", "test_other"}

    def test_one_that_cannot_be_written(self, record):
        """It is named and left as it is; the others are written."""
        ledger = Ledger()
        first, second = record(ledger, "a.py::test"), record(ledger, "b.py::test")
        path = baseline_path(first)
        path.parent.mkdir()
        path.write_text("<<<<<<< HEAD\n", encoding="utf-8")
        ledger.update()
        assert path.read_text(encoding="utf-8") == "<<<<<<< HEAD\n"
        assert accepted(second) == {"test": {"model": 100}}
        assert len(ledger.errors) == 1
        assert f"{path}: conflict marker, line 1" in ledger.errors[0]

    def test_what_became_of_the_entries(self, record):
        """Counted file by file; what did not pass is not among them."""
        ledger = Ledger()
        verdicts = {
            "new": verdict(),
            "dearer": verdict(9, old=3),
            "cheaper": verdict(1, old=3),
            "same": verdict(3, old=3),
        }
        for name, judged in verdicts.items():
            file = record(ledger, f"a.py::{name}", verdicts=[judged], vanished=["x", "y"] if name == "same" else [])
        record(ledger, "a.py::failed", verdicts=[verdict(9, old=3)], passed=False)
        other = record(ledger, "b.py::new")
        ledger.update()
        assert ledger.accepted == {
            baseline_path(file): {"new": 1, "regressed": 1, "improved": 1, "unchanged": 1, "no longer measured": 2},
            baseline_path(other): {"new": 1},
        }


class TestUpdateOnly:
    @pytest.mark.parametrize(
        ("only", "counts", "names"),
        [
            ("new", {"new": 1}, {"new": 1, "cheaper": 3, "same": 3, "gone": 3}),
            ("improved", {"improved": 1}, {"cheaper": 1, "same": 3, "gone": 3}),
        ],
    )
    def test_name_by_name(self, record, tmp_path, only, counts, names):
        """Of one test some measurements are accepted, and the others keep what they had."""
        file = tmp_path / "tests/test_net.py"
        before = {name: complexity(3) for name in ("cheaper", "same", "gone")}
        save(BaselineFile(baseline_path(file), {"test_a": before}))
        judged = [
            verdict(1, "new", accepts=only),
            verdict(1, "cheaper", old=3, accepts=only),
            verdict(3, "same", old=3, accepts=only),
        ]
        ledger = Ledger()
        record(ledger, verdicts=judged, vanished=["gone"])
        ledger.update(only)
        assert accepted(file) == {"test_a": names}
        assert ledger.accepted == {baseline_path(file): counts}

    def test_nothing_of_that_kind(self, record):
        ledger = Ledger()
        file = record(ledger, verdicts=[verdict(accepts="improved")])
        ledger.update("improved")
        assert not baseline_path(file).exists()
        assert ledger.accepted == {}

    def test_what_did_not_pass(self, record):
        ledger = Ledger()
        file = record(ledger, verdicts=[verdict(accepts="new")], passed=False)
        ledger.update("new")
        assert not baseline_path(file).exists()


class TestOrphans:
    @pytest.fixture
    def file(self, tmp_path):
        """A test file whose baseline holds two tests."""
        file = tmp_path / "tests/test_net.py"
        file.parent.mkdir(exist_ok=True)
        save(BaselineFile(baseline_path(file), {name: {"model": complexity(7)} for name in ("test_a", "test_b")}))
        return file

    def test_found_and_pruned(self, file):
        ledger = Ledger()
        ledger.find_orphans({file: ("tests/test_net.py", {"test_b", "test_new"})}, {})
        assert [orphan.nodeid for orphan in ledger.orphans] == ["tests/test_net.py::test_a"]
        ledger.prune()
        assert accepted(file) == {"test_b": {"model": 7}}
        assert ledger.pruned == ledger.orphans

    def test_a_file_without_its_tests(self, file):
        """All of its entries are orphans; the empty file is not kept."""
        ledger = Ledger()
        ledger.find_orphans({}, {baseline_path(file): "tests/test_net.py"})
        assert [orphan.nodeid for orphan in ledger.orphans] == [
            "tests/test_net.py::test_a",
            "tests/test_net.py::test_b",
        ]
        ledger.prune()
        assert not baseline_path(file).exists()

    def test_a_file_without_a_baseline(self, tmp_path):
        ledger = Ledger()
        ledger.find_orphans({tmp_path / "test_x.py": ("test_x.py", {"test_a"})}, {})
        assert (ledger.orphans, ledger.errors) == ([], [])

    def test_likely_renamed(self, file, record):
        """It is not pruned, since its baseline is to be moved."""
        ledger = Ledger()
        record(ledger, "tests/test_net.py::test_new", verdicts=[verdict(7, accepts=False)])
        ledger.find_orphans({file: ("tests/test_net.py", {"test_new"})}, {})
        assert ledger.renames() == {"tests/test_net.py::test_a": "tests/test_net.py::test_new"}
        ledger.prune()
        assert accepted(file) == {"test_a": {"model": 7}}

    def test_another_process_wrote_meanwhile(self, file):
        """What it added stays, and what it removed is gone already."""
        ledger = Ledger()
        ledger.find_orphans({file: ("tests/test_net.py", ())}, {})
        save(
            BaselineFile(baseline_path(file), {"test_b": {"model": complexity(8)}, "test_c": {"model": complexity(9)}})
        )
        ledger.prune()
        assert accepted(file) == {"test_c": {"model": 9}}

    def test_one_that_cannot_be_read(self, file, tmp_path):
        """It is named and left as it is; the others are pruned."""
        path = baseline_path(tmp_path / "tests/test_bad.py")
        path.write_text("{", encoding="utf-8")
        ledger = Ledger()
        ledger.find_orphans({file: ("tests/test_net.py", {"test_a"})}, {path: "tests/test_bad.py"})
        ledger.prune()
        assert accepted(file) == {"test_a": {"model": 7}}
        assert path.read_text(encoding="utf-8") == "{"
        assert [f"{path}, line 1" in error for error in ledger.errors] == [True]


class TestLatencies:
    def test_an_update_keeps_those_of_other_machines(self, record, test_file):
        """And the one of this machine where it is as it was, or was too uneven to be judged."""
        for new, expected in (
            (timed(100, machine="one"), {"one": 100}),
            (timed(200, machine="two"), {"one": 100, "two": 200}),
            (timed(210, machine="two"), {"one": 100, "two": 200}),
            (timed(900, 900, machine="two"), {"one": 100, "two": 200}),
            (timed(400, machine="two"), {"one": 100, "two": 400}),
        ):
            path = baseline_path(test_file)
            old = load(path).tests.get("test_a", {}).get("model")
            found = judge(Measurement(name="model", complexity=new), [], Settings(), old, accepts=True)
            ledger = Ledger()
            record(ledger, verdicts=[found])
            ledger.update()
            metrics = load(path).tests["test_a"]["model"].metrics
            assert metrics == {"flops": 2500, "params": 15} | {f"latency[{key}]": own for key, own in expected.items()}
