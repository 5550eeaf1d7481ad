from pathlib import Path

import pytest
from budgets import budget
from msgspec.structs import replace
from samples import linear, report, reported_test, write_baseline
from timed import estimated, timed

from pytest_flopsbudget.config.settings import Settings
from pytest_flopsbudget.identifiers import baseline_path
from pytest_flopsbudget.quantities.bounds import Bounds
from pytest_flopsbudget.results.data import UnknownOperator
from pytest_flopsbudget.results.verdict import Measurement, judge
from pytest_flopsbudget.storage.baseline import load
from pytest_flopsbudget.storage.report_file import save

FILE = Path("tests/test_a.py")
PATH = Path("tests/__flops__/test_a.json")


@pytest.fixture(autouse=True)
def project(command):
    FILE.parent.mkdir()
    FILE.touch()


def write(*tests, name="report.json", **run):
    save(report(*tests, **run), Path(name))


def measured(test_id, *args, **kwargs):
    return reported_test(f"{FILE}::{test_id}", *args, **kwargs)


def widths(file=FILE):
    """Return {test id: width of the layer in the test's only measurement}."""
    return {
        test_id: int(entries["model"].modules["layer"].shape.partition("-")[0])
        for test_id, entries in load(baseline_path(file)).tests.items()
    }


class TestWhatIsAccepted:
    def test_a_regression_of_a_failing_run(self, command):
        write_baseline(FILE, {"t": linear(4), "other": linear(7)})
        write(measured("t", linear(5), linear(4)))
        # Widths 4 and 5: 2·2·4·4 = 64 and 2·2·5·5 = 100 FLOPs; 4·4 + 4 = 20 and 5·5 + 5 = 30 parameters.
        assert command("accept", "report.json") == [
            f"{FILE}::t: regressed",
            "    flops: 64 FLOPs → 100 FLOPs, +36 FLOPs (+56.2%)",
            "    params: 20 → 30, +10 params (+50.0%)",
            "1 regressed",
            f"baseline written: {PATH}",
        ]
        assert command.code == 0
        assert widths() == {"other": 7, "t": 5}

    def test_the_baseline_is_the_one_that_an_update_writes(self, command):
        write(measured("t", linear(5), linear(4)), measured("u", {"a": linear(6), "b": linear(7)}, linear(6)))
        command("accept", "report.json")
        accepted = PATH.read_bytes()
        PATH.unlink()
        write_baseline(FILE, {"t": linear(5), "u": {"a": linear(6), "b": linear(7)}})
        assert PATH.read_bytes() == accepted

    def test_a_new_test_a_cheaper_one_and_one_that_is_as_it_was(self, command):
        write_baseline(FILE, {"cheaper": linear(4), "same": linear(6)})
        write(
            measured("new", linear(5)),
            measured("cheaper", linear(3), linear(4)),
            measured("same", linear(6), linear(6)),
        )
        lines = command("accept", "report.json")
        assert "tests/test_a.py::new: new, 100 FLOPs" in lines
        assert "1 improved, 1 new, 1 unchanged" in lines
        assert widths() == {"cheaper": 3, "new": 5, "same": 6}

    def test_where_a_missing_baseline_fails(self, command):
        write(measured("new", linear(5), settings=Settings(missing_baseline="fail")))
        command("accept", "report.json")
        assert command.code == 0
        assert widths() == {"new": 5}

    def test_nothing_is_written_where_nothing_changed(self, command):
        path = write_baseline(FILE, {"t": linear(4)})
        before = path.stat().st_mtime_ns
        write(measured("t", linear(4), linear(4)))
        assert command("accept", "report.json") == ["1 unchanged"]
        assert path.stat().st_mtime_ns == before

    def test_names_that_the_test_no_longer_measures_go(self, command):
        write_baseline(FILE, {"t": {"model": linear(4), "gone": linear(5)}})
        write(replace(measured("t", linear(4), linear(4)), vanished=("gone",)))
        command("accept", "report.json")
        assert list(load(PATH).tests["t"]) == ["model"]

    def test_twice_is_as_once(self, command):
        write_baseline(FILE, {"t": linear(4)})
        write(measured("t", linear(5), linear(4)))
        command("accept", "report.json")
        assert command("accept", "report.json") == ["1 unchanged"]
        assert command.code == 0

    def test_only_what_is_asked_for(self, command):
        write(
            measured("t[1]", linear(1)), measured("t[2]", linear(2)), measured("u", linear(3)), measured("v", linear(4))
        )
        command("accept", "report.json", "tests/test_a.py::t", "*::v")
        assert widths() == {"t[1]": 1, "t[2]": 2, "v": 4}

    def test_a_dry_run_writes_nothing(self, command):
        write(measured("t", linear(5)))
        assert command("accept", "report.json", "--dry-run") == [
            "tests/test_a.py::t: new, 100 FLOPs",
            "1 new",
            f"baseline not written (--dry-run): {PATH}",
        ]
        assert not PATH.parent.exists()

    def test_a_report_without_measurements(self, command):
        write(exit_status=5)
        assert command("accept", "report.json") == ["report.json holds no measurements: there is nothing to accept"]
        assert command.code == 0


UNKNOWN = replace(linear(5), unknown_operators={"mylib.op": UnknownOperator(calls=1)})


class TestWhatIsNot:
    @pytest.mark.parametrize(
        ("failing", "reason"),
        [
            (
                measured("t", linear(5), linear(4), flops_limit=99),
                "a limit is broken, and has to be changed first: flops",
            ),
            (measured("t", linear(5), linear(4), own_failure=True), "it failed for a reason other than its budget"),
            (replace(measured("t", linear(5)), outcome="failed"), "it failed for a reason other than its budget"),
            (
                measured("t", UNKNOWN, settings=Settings(unknown_operators="fail")),
                "operators without a formula: mylib.op",
            ),
        ],
        ids=["limit", "regressed and own failure", "own failure", "unknown operators"],
    )
    def test_what_an_update_would_not_accept_either(self, command, failing, reason):
        write_baseline(FILE, {"t": linear(4)})
        write(failing, measured("u", linear(7)))
        assert f"not accepted: tests/test_a.py::t: {reason}" in command("accept", "report.json", "--force")
        assert command.code == 1
        assert widths() == {"t": 4, "u": 7}

    @pytest.mark.parametrize(
        ("limits", "reason"),
        [
            ({"modules": {"layer": {"flops": 99}}}, "a limit is broken, and has to be changed first: flops of layer"),
            (
                {"operators": {"aten.mm": {"flops": 99}}},
                "a limit is broken, and has to be changed first: flops of aten.mm",
            ),
            (
                {"limits": {"flops": 99, "params": 29}},
                "limits are broken, and have to be changed first: flops, params",
            ),
            ({"limits": {"params": Bounds(minimum=31)}}, "a limit is broken, and has to be changed first: params"),
            ({"modules": {"head": {"flops": 99}}}, "modules: no module of Net matches 'head'"),
            (
                {"operators": {"aten.sin": {"flops": 99}}},
                "operators: no counted operator of Net matches 'aten.sin'; near names: aten.mm",
            ),
        ],
    )
    def test_the_limit_that_does_not_allow_it(self, command, limits, reason):
        """The layer of width 5 has 100 FLOPs, in one product of matrices, and 30 parameters."""
        measurement = Measurement(name="model", complexity=linear(5))
        verdict = judge(measurement, [budget("marker", **limits)], Settings(), linear(4), accepts=False)
        write(replace(measured("t", linear(5)), outcome="failed", measurements=(verdict,)))
        assert command("accept", "report.json")[0] == f"not accepted: tests/test_a.py::t: {reason}"

    @pytest.mark.parametrize(
        ("then", "now"), [(linear(4), linear(3)), (None, linear(3)), (linear(5, batch=1), linear(4, batch=9))]
    )
    def test_a_baseline_that_the_run_did_not_see(self, command, then, now):
        """If the baseline changed after the run, `accept` refuses the report."""
        write_baseline(FILE, {"t": now})
        write(measured("t", linear(5), then))
        (line, *_) = command("accept", "report.json")
        assert line == (
            "not accepted: tests/test_a.py::t: its baseline is no longer the one that the run saw; run it again, or "
            "give --force"
        )
        assert command.code == 1
        assert load(PATH).tests["t"]["model"] == now
        command("accept", "report.json", "--force")
        assert command.code == 0
        assert widths() == {"t": 5}

    @pytest.mark.parametrize("file", ["tests/test_gone.py", "../outside.py", "/absolute/test_a.py", "C:/test_a.py"])
    def test_a_file_that_is_not_here_or_not_below_the_root(self, command, file):
        Path("../outside.py").touch()
        write(measured("t", linear(5)), replace(reported_test("x.py::t", linear(4)), file=file))
        assert f"not accepted: x.py::t: there is no {file} below ." in command("accept", "report.json")
        assert command.code == 1
        assert widths() == {"t": 5}
        assert not Path("../__flops__").exists()


def test_a_node_id_cannot_steer_the_terminal(command):
    write(measured("t[\x1b[2J\n]", linear(5)))
    assert command("accept", "report.json")[0] == rf"{FILE}::t[\x1b[2J\n]: new, 100 FLOPs"


class TestRoot:
    def test_from_a_folder_below(self, command, monkeypatch):
        write(measured("t", linear(5)))
        monkeypatch.chdir("tests")
        command("accept", "../report.json")
        monkeypatch.chdir("..")
        assert widths() == {"t": 5}

    def test_of_two_packages_in_a_repository_the_reports_own(self, command, monkeypatch):
        """If two packages have a test file of the same name, `accept` writes to the package that the report names."""
        Path(".git").mkdir()
        for package in ("one", "two"):
            Path(package).mkdir()
            Path(package, "test_a.py").touch()
        write(reported_test("test_a.py::t", linear(5)), root="two")
        monkeypatch.chdir("one")
        command("accept", "../report.json")
        monkeypatch.chdir("..")
        assert not Path("one/__flops__").exists()
        assert widths(Path("two/test_a.py")) == {"t": 5}

    def test_given(self, command):
        Path("sub").mkdir()
        Path("sub/test_b.py").touch()
        write(reported_test("test_b.py::t", linear(5)))
        command("accept", "report.json", "--root", "sub")
        assert widths(Path("sub/test_b.py")) == {"t": 5}


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["gone.json"], "gone.json: cannot be read: No such file"),
        (["broken.json"], "broken.json, line 1: "),
        (["report.json", "test_b"], "no test in the report matches 'test_b'; there is tests/test_a.py::t"),
        (["report.json", "--root", "gone"], "--root gone: no such folder"),
        (["elsewhere.json"], "none of the report's test files is here: x/test_y.py; "),
        (["report.json", "--dry"], "no option '--dry'; did you mean --dry-run?"),
        ([], "REPORT"),
    ],
)
def test_mistakes_are_one_line(command, argv, told):
    write(measured("t", linear(5)))
    write(reported_test("x/test_y.py::t", linear(5)), name="elsewhere.json")
    Path("broken.json").write_text("{", encoding="utf-8")
    assert command("accept", *argv) == []
    assert command.code == 2
    assert told in command.errors
    assert command.errors.count("\n") == 1
    assert not PATH.exists()


def test_a_damaged_baseline_is_told_and_kept(command):
    write_baseline(FILE, {"t": linear(4)})
    PATH.write_text("{", encoding="utf-8")
    write(measured("t", linear(5), linear(4)))
    command("accept", "report.json")
    assert command.code == 2
    assert command.errors.startswith(f"error: {PATH}, line 1: ")
    assert PATH.read_text(encoding="utf-8") == "{"


def test_a_baseline_in_place_of_a_report(command):
    write_baseline(FILE, {"t": linear(4)})
    assert command("accept", PATH) == []
    assert command.code == 2
    assert f"{PATH}, line 1: a baseline, and no report" in command.errors


def test_reads_a_baseline_once(command, monkeypatch):
    write_baseline(FILE, {"t": linear(4), "u": linear(5)})
    write(measured("t", linear(5), linear(4)), measured("u", linear(4), linear(5)))
    read = []

    def counting(path, **kwargs):
        read.append(path)
        return load(path, **kwargs)

    monkeypatch.setattr("pytest_flopsbudget.storage.baseline.load", counting)
    assert command("accept", "report.json", "--dry-run")[-2] == "1 regressed, 1 improved"
    assert read == [PATH]


def test_patterns_are_not_asked_for(command):
    assert command("accept") == []
    assert command.errors.startswith("error: the following arguments are required: REPORT (see")


class TestLatencies:
    """`accept` writes a latency only if the latency changed by more than its tolerance."""

    def test_of_another_machine_stays(self, command):
        write_baseline(FILE, {"t": timed(7, machine="other")})
        write(measured("t", timed(9), timed(7, machine="other")))
        command("accept", "report.json")
        found = load(PATH).tests["t"]["model"].metrics
        assert (found["latency[other]"], found["latency[box]"]) == (7, 9)

    def test_as_long_as_before(self, command):
        """If a latency changed by a tenth or less, `accept` does not write the baseline."""
        path = write_baseline(FILE, {"t": timed(100)})
        before = path.read_bytes()
        write(measured("t", timed(109), timed(100)))
        assert command("accept", "report.json") == ["1 unchanged"]
        assert path.read_bytes() == before

    def test_too_uneven_to_be_judged(self, command):
        write_baseline(FILE, {"t": timed(100)})
        write(measured("t", timed(900, 900), timed(100)))
        assert command("accept", "report.json") == ["1 unchanged"]

    def test_longer(self, command):
        write_baseline(FILE, {"t": timed(1000)})
        write(measured("t", timed(2000), timed(1000)))
        assert "    latency[box]: 1 us → 2 us, +1 us (+100.0%) (not held)" in command("accept", "report.json")
        assert load(PATH).tests["t"]["model"].metrics["latency[box]"] == 2000


@pytest.mark.parametrize(
    ("metric", "hold", "mark"),
    [
        ("peak_memory", None, " (not held)"),
        ("launches", ("flops",), " (not held)"),
        ("params", ("flops",), " (not held)"),
        ("params", None, ""),
        ("peak_memory", ("peak_memory",), ""),
    ],
)
def test_metrics_that_the_run_did_not_judge(command, metric, hold, mark):
    old, new = (replace(linear(4), metrics=linear(4).metrics | {metric: value}) for value in (100, 200))
    write_baseline(FILE, {"t": old})
    write(measured("t", new, old, settings=None if hold is None else Settings(hold=hold)))
    (line,) = [line for line in command("accept", "report.json") if line.startswith(f"    {metric}: ")]
    assert line.endswith(f"(+100.0%){mark}")
    assert load(PATH).tests["t"]["model"].metrics[metric] == 200


def test_a_time_is_told_once(command):
    write_baseline(FILE, {"t": estimated()})
    write(measured("t", estimated(memory=500), estimated()))
    lines = command("accept", "report.json")
    assert "    time[A100]: at least 1.4 us → 1.6 us, +200 ns (+14.3%) (estimate) (not held)" in lines
    assert load(PATH).tests["t"]["model"] == estimated(memory=500)
