"""Runs with `--flops-budget-explain`: pytest runs one test and prints a page about its measurements."""

from __future__ import annotations

import re

import pytest

TESTS = """
@pytest.mark.parametrize("kernel", [3, 5])
def test_net(flops_budget, kernel):
    flops_budget(Net(kernel), IMAGE)

def test_two(flops_budget):
    flops_budget(Net(), IMAGE, name="student")
    flops_budget(Net(width=8), IMAGE, name="teacher")

@pytest.mark.flops_budget(flops=1)
def test_over(flops_budget):
    flops_budget(Net(), IMAGE)

def test_nothing():
    pass

def test_own(flops_budget):
    flops_budget(Net(), IMAGE)
    assert False, "a reason of its own"

def test_early(flops_budget):
    assert False, "before it measured"

@pytest.mark.skip
def test_skipped(flops_budget): pass
"""
TITLE = re.compile("=+ flops budget explained =+")
FLAG = "--flops-budget-explain"


@pytest.fixture
def tests(project):
    """Return a project with one file of tests and one file that pytest cannot collect."""
    project.write(TESTS)
    project.pytester.makepyfile(test_broken="raise RuntimeError('this file was imported')")
    return project


def explain(project, nodeid, *args, run=None):
    return (run or project.run)(f"{FLAG}={nodeid}", *args)


def pages(result):
    """Return the first line of each page in the output. This line names the measurement."""
    lines = result.stdout.lines
    return [lines[i + 1] for i, line in enumerate(lines) if TITLE.fullmatch(line)]


def refused(result, *words):
    """Check that pytest stopped with exit code 4 and an error that contains ``words``."""
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (told,) = (line for line in result.stderr.lines if FLAG in line)
    assert told.removeprefix("ERROR: ").startswith(FLAG)
    for word in words:
        assert word in told
    assert not pages(result)
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


class TestPage:
    def test_one_test_is_run(self, tests):
        """With `--flops-budget-explain`, pytest imports only the file of the named test."""
        result = explain(tests, "test_net.py::test_net[5]")
        assert result.ret == pytest.ExitCode.OK
        result.assert_outcomes(passed=1, deselected=7)
        assert pages(result) == ["test_net.py::test_net[5]"]
        result.stdout.fnmatch_lines(
            ["totals", "bounds", "modules, by *", "operators, by *", "most promising places, by *"]
        )

    def test_several_measurements(self, tests):
        result = explain(tests, "test_net.py::test_two")
        assert pages(result) == ["test_net.py::test_two:student", "test_net.py::test_two:teacher"]

    def test_one_of_several(self, tests):
        result = explain(tests, "test_net.py::test_two:teacher")
        assert pages(result) == ["test_net.py::test_two:teacher"]

    def test_devices(self, tests):
        """The page lists the devices of the pyproject first, then the devices that only a limit names."""
        tests.settings(
            '[tool.pytest-flopsbudget]\ntime-on = ["V100", "A100"]\n'
            '[tool.pytest-flopsbudget.limits]\ntime = {A100 = "1 s", T4 = "1 s"}\n'
        )
        result = explain(tests, "test_net.py::test_two:teacher")
        found = [line.split(":")[0].strip() for line in result.stdout.lines if ": at least" in line]
        assert found == ["V100", "A100", "T4"]
        result.stdout.fnmatch_lines(["most promising places, by least time on V100 (estimate)"])

    def test_a_device_of_ones_own(self, tests):
        tests.settings(
            '[tool.pytest-flopsbudget]\ntime-on = ["camera"]\n[tool.pytest-flopsbudget.devices.camera]\n'
            'float32 = "50 GFLOP/s"\nbandwidth = "10 GB/s"\n'
        )
        result = explain(tests, "test_net.py::test_two:teacher")
        result.stdout.fnmatch_lines(["    products are compute-bound from 5 (float32), 5 (bfloat16) FLOPs/byte on;*"])

    def test_over_its_limit(self, tests):
        """If the explained test is over its limit, it fails, and pytest still prints the page."""
        result = explain(tests, "test_net.py::test_over")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert pages(result) == ["test_net.py::test_over"]
        result.stdout.fnmatch_lines(["  over limit: *"])

    def test_a_reason_of_its_own(self, tests):
        result = explain(tests, "test_net.py::test_own")
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert pages(result) == ["the test failed for another reason than its budget; these are its measurements"]
        result.stdout.fnmatch_lines(["*a reason of its own*", "test_net.py::test_own", "totals"])

    def test_a_watched_test(self, tests):
        tests.write("@pytest.mark.flops_budget\ndef test_run():\n    Net()(IMAGE)\n")
        assert pages(explain(tests, "test_net.py::test_run")) == ["test_net.py::test_run"]

    def test_quiet(self, tests):
        assert pages(explain(tests, "test_net.py::test_two:student", "-q")) == ["test_net.py::test_two:student"]

    def test_workers(self, tests):
        result = explain(tests, "test_net.py::test_net[5]", "-n2", run=tests.run_apart)
        result.assert_outcomes(passed=1)
        assert pages(result) == ["test_net.py::test_net[5]"]

    def test_in_a_group(self, tests):
        """If pytest-xdist appended a group to the node id, `--flops-budget-explain` still finds the test."""
        tests.write("@pytest.mark.xdist_group('gpu')\ndef test_run(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
        result = explain(tests, "test_net.py::test_run", "-n1", "--dist", "loadgroup", run=tests.run_apart)
        assert pages(result) == ["test_net.py::test_run"]

    def test_an_ascii_terminal(self, tests, monkeypatch):
        monkeypatch.setenv("PYTHONUTF8", "0")
        monkeypatch.setenv("PYTHONIOENCODING", "ascii")
        monkeypatch.setenv("COLUMNS", "80")
        result = explain(tests, "test_net.py::test_net[5]", run=tests.run_apart)
        assert result.stdout.str().isascii()
        assert "Conv2d 3->4, 5x5" in result.stdout.str()
        start = next(i for i, line in enumerate(result.stdout.lines) if TITLE.fullmatch(line))
        assert max(map(len, result.stdout.lines[start:])) <= 80

    def test_no_terminal(self, tests):
        result = explain(tests, "test_net.py::test_net[5]", "-p", "no:terminal", run=tests.run_apart)
        assert result.ret == pytest.ExitCode.OK
        assert result.stdout.str() + result.stderr.str() == ""

    def test_collected_only(self, tests):
        result = explain(tests, "test_net.py::test_net[5]", "--co", "-q")
        assert result.ret == pytest.ExitCode.OK
        assert result.stdout.lines[0] == "test_net.py::test_net[5]"
        assert not pages(result)

    def test_with_an_update(self, tests):
        """With an update, only the baseline of the explained test is written."""
        explain(tests, "test_net.py::test_two", "--flops-budget-update")
        assert "test_two" in tests.baseline.read_text(encoding="utf-8")
        assert "test_net" not in tests.baseline.read_text(encoding="utf-8").replace("test_net.json", "")

    def test_nothing_more_is_sent(self, tests):
        """A run with `--flops-budget-explain` writes the same report as a run without this flag."""
        reports = []
        for args in (["test_net.py::test_two"], [f"{FLAG}=test_net.py::test_two"]):
            tests.run(*args, "--flops-budget-json=run.json")
            reports.append(tests.path.joinpath("run.json").read_text(encoding="utf-8"))
        assert re.sub(r'"seconds": [\d.e-]+', "", reports[0]) == re.sub(r'"seconds": [\d.e-]+', "", reports[1])


class TestWhere:
    @pytest.fixture
    def below(self, tests):
        folder = tests.path / "tests"
        folder.mkdir()
        for file in ("test_net.py", "test_broken.py", "models.py"):
            tests.path.joinpath(file).rename(folder / file)
        return tests

    @pytest.mark.parametrize("given", [[], ["tests"], ["."], ["tests/test_net.py"], ["tests/test_net.py::test_two"]])
    def test_what_was_asked_for(self, below, given):
        """Only the explained test runs, even if the command line also names folders or files."""
        assert pages(explain(below, "tests/test_net.py::test_two:student", *given)) == [
            "tests/test_net.py::test_two:student"
        ]

    def test_from_another_folder(self, below, monkeypatch):
        """The node id in `--flops-budget-explain` may be relative to the current folder or to the root folder."""
        monkeypatch.chdir(below.path / "tests")
        below.pytester.chdir = lambda: None
        for nodeid in ("test_net.py::test_two:student", "tests/test_net.py::test_two:student"):
            result = explain(below, nodeid, "--rootdir", str(below.path))
            assert pages(result) == ["test_net.py::test_two:student"]

    def test_in_another_file(self, below):
        below.pytester.makepyfile(test_other="def test_other(): pass")
        refused(explain(below, "tests/test_net.py::test_two", "test_other.py"), "no such test was collected")


class TestMistakes:
    @pytest.mark.parametrize(
        ("nodeid", "words"),
        [
            ("test_net.py::test_tow", ["no such test was collected; near ones: test_net.py::test_two"]),
            ("test_net.py::test_net[4]", ["near ones: test_net.py::test_net[", "FILE::TEST:NAME"]),
            ("test_net.py::test_net", ["matches 2 tests", "test_net.py::test_net[3], test_net.py::test_net[5]"]),
            ("test_nte.py::test_two", ["there is no file test_nte.py, but test_net.py"]),
            ("nowhere/test_net.py::test_two", ["there is no file nowhere/test_net.py; write FILE::TEST"]),
            ("test_two", ["names no test; write FILE::TEST"]),
            ("test_net.py", ["names no test"]),
            ("test_net.py::", ["names no test"]),
            ("", ["names no test"]),
            ("\0::a", ["there is no file"]),
        ],
    )
    def test_typos(self, tests, nodeid, words):
        refused(explain(tests, nodeid), *words)

    def test_with_workers(self, tests):
        refused(explain(tests, "test_net.py::test_tow", "-n2", run=tests.run_apart), "near ones: test_net.py::test_two")

    def test_without_a_terminal(self, tests):
        refused(explain(tests, "test_net.py::test_tow", "-p", "no:terminal", run=tests.run_apart), "near ones")

    def test_together_with_others(self, tests):
        """If a node id and the settings are wrong, one run with `--flops-budget-explain` reports both mistakes."""
        tests.settings('[tool.pytest-flopsbudget]\ntolerence = "1%"\n')
        result = explain(tests, "test_net.py::test_tow")
        refused(result, "near ones")
        assert "tolerence: no such key" in result.stderr.str()

    def test_disabled(self, tests):
        refused(explain(tests, "test_net.py::test_two", "--flops-budget-disable"), "contradict each other")

    def test_a_file_that_cannot_be_collected(self, tests):
        """If the file of the explained test cannot be imported, pytest shows the error of the import."""
        result = explain(tests, "test_broken.py::test_a")
        assert result.ret == pytest.ExitCode.INTERRUPTED
        result.stdout.fnmatch_lines(["*this file was imported*"])
        assert FLAG not in result.stdout.str() + result.stderr.str()


class TestNothingToExplain:
    def told(self, result, words, *, ret):
        assert result.ret == ret
        (line,) = (line for line in result.stdout.lines if line.startswith(f"ERROR: {FLAG}"))
        assert words in line
        assert not pages(result)

    def test_no_such_measurement(self, tests):
        result = explain(tests, "test_net.py::test_two:techer")
        self.told(result, "measured nothing named 'techer', but student, teacher", ret=pytest.ExitCode.USAGE_ERROR)

    def test_measured_nothing(self, tests):
        result = explain(tests, "test_net.py::test_nothing")
        self.told(result, "the test measured nothing; measure in it with", ret=pytest.ExitCode.USAGE_ERROR)

    def test_failed_before(self, tests):
        result = explain(tests, "test_net.py::test_early")
        self.told(result, "the test failed before it measured anything", ret=pytest.ExitCode.TESTS_FAILED)

    def test_skipped(self, tests):
        result = explain(tests, "test_net.py::test_skipped")
        self.told(result, "the test was skipped", ret=pytest.ExitCode.USAGE_ERROR)

    def test_left_out(self, tests):
        result = explain(tests, "test_net.py::test_two", "-k", "not two")
        self.told(result, "the test was not run: -k, -m or another plugin", ret=pytest.ExitCode.USAGE_ERROR)

    def test_without_a_terminal(self, tests):
        result = explain(tests, "test_net.py::test_nothing", "-p", "no:terminal", run=tests.run_apart)
        refused(result, "the test measured nothing")

    def test_with_workers(self, tests):
        result = explain(tests, "test_net.py::test_nothing", "-n1", run=tests.run_apart)
        self.told(result, "the test measured nothing", ret=pytest.ExitCode.USAGE_ERROR)
