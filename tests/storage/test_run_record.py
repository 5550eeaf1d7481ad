"""Recording the measurements of a run, and writing them to baselines."""

from __future__ import annotations

import json

import msgspec
import pytest
from timed import timed

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.identifiers import baseline_path
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import Module
from pytest_flopsbudget.results.verdict import Measurement, judge
from pytest_flopsbudget.storage.baseline import BaselineFile, load, save
from pytest_flopsbudget.storage.run_record import Baselines, RunRecord, pack_verdicts


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
    """Return a function that records the verdicts on a test, as another process sends them."""
    (tmp_path / "tests").mkdir(exist_ok=True)

    def record(run_record, nodeid="tests/test_net.py::test_a", *, verdicts=None, passed=True, line=0, vanished=()):
        file = tmp_path / nodeid.partition("::")[0]
        data = pack_verdicts(nodeid, file, line, [verdict()] if verdicts is None else verdicts, vanished)
        run_record.record(nodeid, json.loads(json.dumps(data)), passed=passed)
        return file

    return record


@pytest.fixture
def test_file(tmp_path):
    """Return the path of the test file that `record` uses by default."""
    return tmp_path / "tests/test_net.py"


def accepted(test_file):
    """Return {test id: {name: FLOPs}} for the baseline of a test file."""
    return {
        test_id: {name: entry.flops for name, entry in entries.items()}
        for test_id, entries in load(baseline_path(test_file)).tests.items()
    }


class TestBaselines:
    def test_none(self, tmp_path):
        """If a file has no baseline, a test has no entries."""
        assert Baselines().entries(tmp_path / "test_net.py", "test_net.py::test_a") == {}

    def test_entries_of_one_test(self, tmp_path):
        file = tmp_path / "test_net.py"
        save(BaselineFile(baseline_path(file), {"T::test_a[x::y]": {"model": complexity()}, "test_b": {}}))
        assert Baselines().entries(file, "any/where/test_net.py::T::test_a[x::y]") == {"model": complexity()}

    def test_read_once(self, tmp_path):
        """If a baseline changes during a run, the run still compares with the content that it read first."""
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
        run_record = RunRecord()
        record(run_record, verdicts=[verdict(2**70, old=3)], vanished=["x"], line=7)
        (entry,) = run_record
        assert entry.unpack_verdicts() == (verdict(2**70, old=3),)
        assert (entry.nodeid, entry.vanished, entry.line) == ("tests/test_net.py::test_a", ("x",), 7)

    def test_trees_are_kept_packed(self, record):
        """A record keeps verdicts packed, because many large models would not fit into memory."""
        modules = {f"layers.{i}": Module(type="Linear", calls=1, metrics={"flops": i}) for i in range(2000)}
        whole = verdict(3)
        complexity = msgspec.structs.replace(whole.complexity, modules=whole.complexity.modules | modules)
        whole = msgspec.structs.replace(whole, complexity=complexity)
        run_record = RunRecord()
        record(run_record, verdicts=[whole])
        (entry,) = run_record
        assert entry.unpack_verdicts() == (whole,)
        assert entry.verdicts[0].complexity.flops == 3
        assert set(entry.verdicts[0].complexity.modules) <= {""}
        assert len(entry.packed_verdicts) < 20 * len(modules)

    def test_the_last_attempt_counts(self, record):
        run_record = RunRecord()
        record(run_record, verdicts=[verdict(1)], passed=False)
        record(run_record, verdicts=[verdict(2)])
        (entry,) = run_record
        assert (entry.verdicts[0].complexity.flops, entry.passed) == (2, True)

    def test_an_attempt_that_measures_nothing_leaves_nothing(self, record):
        run_record = RunRecord()
        record(run_record)
        run_record.forget("tests/test_net.py::test_a")
        assert len(run_record) == 0

    def test_order(self, record):
        run_record = RunRecord()
        for nodeid, line in [("b.py::z", 1), ("a.py::test_10", 9), ("a.py::test_2", 5), ("a.py::test_2[b]", 5)]:
            record(run_record, nodeid, line=line)
        assert [entry.nodeid for entry in run_record] == ["a.py::test_2", "a.py::test_2[b]", "a.py::test_10", "b.py::z"]

    def test_what_did_not_pass_accepts_nothing(self, record):
        run_record = RunRecord()
        record(run_record, "a.py::test_a", verdicts=[verdict(9, old=3)], passed=False)
        record(run_record, "a.py::test_b", verdicts=[verdict(9, old=3)])
        record(run_record, "a.py::test_c", verdicts=[verdict(9, old=3)])
        run_record.fail("a.py::test_b")
        run_record.fail("a.py::unknown")
        assert [entry.verdicts[0].outcome for entry in run_record] == ["regressed", "regressed", "accepted"]

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
        run_record = RunRecord()
        record(run_record, **fields)
        assert [entry.needs_attention for entry in run_record] == [attention]


class TestUpdate:
    def test_writes_what_passed(self, record):
        run_record = RunRecord()
        file = record(run_record, verdicts=[verdict(1, "x"), verdict(2, "y")])
        record(run_record, "tests/test_net.py::test_b", passed=False)
        run_record.update()
        assert accepted(file) == {"test_a": {"x": 1, "y": 2}}
        assert (run_record.written, run_record.errors) == ([baseline_path(file)], [])

    def test_all_others_keep_their_entries(self, record, test_file):
        """If a test failed in any phase, or did not run, an update keeps its entry."""
        file = test_file
        names = ("test_a", "failed", "torn_down", "not_run")
        save(BaselineFile(baseline_path(file), {name: {"model": complexity(7)} for name in names}))
        run_record = RunRecord()
        record(run_record)
        record(run_record, "tests/test_net.py::failed", passed=False)
        record(run_record, "tests/test_net.py::torn_down")
        run_record.fail("tests/test_net.py::torn_down")
        run_record.update()
        assert accepted(file) == {name: {"model": 7} for name in names} | {"test_a": {"model": 100}}

    def test_a_test_that_measured_nothing_keeps_its_entry(self, record, test_file):
        file = test_file
        save(BaselineFile(baseline_path(file), {"test_a": {"model": complexity(7)}}))
        run_record = RunRecord()
        record(run_record, verdicts=[], vanished=["model"])
        run_record.update()
        assert accepted(file) == {"test_a": {"model": 7}}
        assert run_record.written == []

    def test_a_file_a_test_file(self, record):
        run_record = RunRecord()
        first, second = record(run_record, "a.py::test"), record(run_record, "b.py::test")
        run_record.update()
        assert run_record.written == [baseline_path(first), baseline_path(second)]

    def test_what_changed_meanwhile_is_kept(self, record, test_file):
        file = test_file
        run_record = RunRecord()
        record(run_record)
        save(BaselineFile(baseline_path(file), {"test_other": {"model": complexity(7)}}))
        run_record.update()
        assert accepted(file).keys() == {"test_a", "test_other"}

    def test_one_that_cannot_be_written(self, record):
        run_record = RunRecord()
        first, second = record(run_record, "a.py::test"), record(run_record, "b.py::test")
        path = baseline_path(first)
        path.parent.mkdir()
        path.write_text("<<<<<<< HEAD\n", encoding="utf-8")
        run_record.update()
        assert path.read_text(encoding="utf-8") == "<<<<<<< HEAD\n"
        assert accepted(second) == {"test": {"model": 100}}
        assert len(run_record.errors) == 1
        assert f"{path}: conflict marker, line 1" in run_record.errors[0]

    def test_what_became_of_the_entries(self, record):
        run_record = RunRecord()
        verdicts = {
            "new": verdict(),
            "expensive": verdict(9, old=3),
            "cheaper": verdict(1, old=3),
            "same": verdict(3, old=3),
        }
        for name, judged in verdicts.items():
            file = record(run_record, f"a.py::{name}", verdicts=[judged], vanished=["x", "y"] if name == "same" else [])
        record(run_record, "a.py::failed", verdicts=[verdict(9, old=3)], passed=False)
        other = record(run_record, "b.py::new")
        run_record.update()
        assert run_record.accepted == {
            baseline_path(file): {"new": 1, "regressed": 1, "improved": 1, "unchanged": 1, "no longer measured": 2},
            baseline_path(other): {"new": 1},
        }


class TestUpdateOnly:
    @pytest.mark.parametrize(
        ("update_mode", "counts", "names"),
        [
            ("new", {"new": 1}, {"new": 1, "cheaper": 3, "same": 3, "gone": 3}),
            ("improved", {"improved": 1}, {"cheaper": 1, "same": 3, "gone": 3}),
        ],
    )
    def test_name_by_name(self, record, tmp_path, update_mode, counts, names):
        """`update("new")` writes only new measurements, and `update("improved")` writes only improved ones."""
        file = tmp_path / "tests/test_net.py"
        before = {name: complexity(3) for name in ("cheaper", "same", "gone")}
        save(BaselineFile(baseline_path(file), {"test_a": before}))
        judged = [
            verdict(1, "new", accepts=update_mode),
            verdict(1, "cheaper", old=3, accepts=update_mode),
            verdict(3, "same", old=3, accepts=update_mode),
        ]
        run_record = RunRecord()
        record(run_record, verdicts=judged, vanished=["gone"])
        run_record.update(update_mode)
        assert accepted(file) == {"test_a": names}
        assert run_record.accepted == {baseline_path(file): counts}

    def test_nothing_of_that_kind(self, record):
        run_record = RunRecord()
        file = record(run_record, verdicts=[verdict(accepts="improved")])
        run_record.update("improved")
        assert not baseline_path(file).exists()
        assert run_record.accepted == {}

    def test_what_did_not_pass(self, record):
        run_record = RunRecord()
        file = record(run_record, verdicts=[verdict(accepts="new")], passed=False)
        run_record.update("new")
        assert not baseline_path(file).exists()


class TestOrphans:
    @pytest.fixture
    def file(self, tmp_path):
        """Return a test file whose baseline has two tests."""
        file = tmp_path / "tests/test_net.py"
        file.parent.mkdir(exist_ok=True)
        save(BaselineFile(baseline_path(file), {name: {"model": complexity(7)} for name in ("test_a", "test_b")}))
        return file

    def test_found_and_pruned(self, file):
        run_record = RunRecord()
        run_record.find_orphans({file: ("tests/test_net.py", {"test_b", "test_new"})}, {})
        assert [orphan.nodeid for orphan in run_record.orphans] == ["tests/test_net.py::test_a"]
        run_record.prune()
        assert accepted(file) == {"test_b": {"model": 7}}
        assert run_record.pruned == run_record.orphans

    def test_a_file_without_its_tests(self, file):
        """If a test file is gone, all its entries are orphans."""
        run_record = RunRecord()
        run_record.find_orphans({}, {baseline_path(file): "tests/test_net.py"})
        assert [orphan.nodeid for orphan in run_record.orphans] == [
            "tests/test_net.py::test_a",
            "tests/test_net.py::test_b",
        ]
        run_record.prune()
        assert not baseline_path(file).exists()

    def test_a_file_without_a_baseline(self, tmp_path):
        run_record = RunRecord()
        run_record.find_orphans({tmp_path / "test_x.py": ("test_x.py", {"test_a"})}, {})
        assert (run_record.orphans, run_record.errors) == ([], [])

    def test_likely_renamed(self, file, record):
        run_record = RunRecord()
        record(run_record, "tests/test_net.py::test_new", verdicts=[verdict(7, accepts=False)])
        run_record.find_orphans({file: ("tests/test_net.py", {"test_new"})}, {})
        assert run_record.renames() == {"tests/test_net.py::test_a": "tests/test_net.py::test_new"}
        run_record.prune()
        assert accepted(file) == {"test_a": {"model": 7}}

    def test_another_process_wrote_meanwhile(self, file):
        run_record = RunRecord()
        run_record.find_orphans({file: ("tests/test_net.py", ())}, {})
        save(
            BaselineFile(baseline_path(file), {"test_b": {"model": complexity(8)}, "test_c": {"model": complexity(9)}})
        )
        run_record.prune()
        assert accepted(file) == {"test_c": {"model": 9}}

    def test_one_that_cannot_be_read(self, file, tmp_path):
        path = baseline_path(tmp_path / "tests/test_bad.py")
        path.write_text("{", encoding="utf-8")
        run_record = RunRecord()
        run_record.find_orphans({file: ("tests/test_net.py", {"test_a"})}, {path: "tests/test_bad.py"})
        run_record.prune()
        assert accepted(file) == {"test_a": {"model": 7}}
        assert path.read_text(encoding="utf-8") == "{"
        assert [f"{path}, line 1" in error for error in run_record.errors] == [True]


class TestLatencies:
    def test_an_update_keeps_those_of_other_machines(self, record, test_file):
        """If the new latency of a machine is noisy or within the tolerance, an update keeps the old latency."""
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
            run_record = RunRecord()
            record(run_record, verdicts=[found])
            run_record.update()
            metrics = load(path).tests["test_a"]["model"].metrics
            assert metrics == {"flops": 2500, "params": 15} | {f"latency[{key}]": own for key, own in expected.items()}


class TestLinks:
    """A symbolic link in the project does not lead an update out of the project."""

    def updated(self, root, test_file):
        run_record = RunRecord(root)
        verdict = judge(Measurement(name="model", complexity=complexity(8)), [], Settings(), None, accepts=True)
        nodeid = f"{test_file.name}::test_a"
        run_record.record(nodeid, pack_verdicts(nodeid, test_file, 0, [verdict], []), passed=True)
        run_record.update()
        return run_record

    @pytest.mark.parametrize("link", ["__flops__", "__flops__/test_a.json", "."])
    def test_a_link_out_of_the_project(self, tmp_path, link):
        root, outside = tmp_path / "project", tmp_path / "outside"
        folder = root / "tests"
        outside.mkdir()
        root.mkdir()
        if link == ".":
            folder.symlink_to(outside)
        else:
            (folder / link).parent.mkdir(parents=True)
            (folder / link).symlink_to(outside if link == "__flops__" else outside / "test_a.json")
        run_record = self.updated(root, folder / "test_a.py")
        assert len(run_record.errors) == 1
        assert "a symbolic link leads out of " in run_record.errors[0]
        assert not list(outside.iterdir())

    def test_other_links_are_followed(self, tmp_path):
        """If a symbolic link does not leave the project, an update follows it."""
        root = tmp_path / "project"
        (root / "kept").mkdir(parents=True)
        (root / "tests").mkdir()
        (root / "tests/__flops__").symlink_to("../kept")
        (tmp_path / "link").symlink_to(root)
        (tmp_path / "elsewhere").mkdir()
        assert not self.updated(root, root / "tests/test_a.py").errors
        assert (root / "kept/test_a.json").exists()
        assert not self.updated(tmp_path / "link", tmp_path / "link/test_b.py").errors
        assert not self.updated(root, tmp_path / "elsewhere/test_c.py").errors
        assert (tmp_path / "elsewhere/__flops__/test_c.json").exists()
