"""Which entries ``--flops-budget-update`` writes, and which entries it leaves unchanged."""

from __future__ import annotations

import pytest
from conftest import NET_FLOPS

from pytest_flopsbudget.storage.baseline import load

TWO_TESTS = """
def test_a(flops_budget):
    flops_budget(Net(), IMAGE)

def test_b(flops_budget):
    flops_budget(Net(), IMAGE)
"""


def flops_of(project, test, name="model"):
    return load(project.baseline).tests[test][name].flops


def grown(project, kernel=5):
    project.write(TWO_TESTS.replace("Net()", f"Net(kernel={kernel})"))


@pytest.fixture
def written(project):
    """Return a project with a baseline of two tests, whose models have grown since."""
    project.write(TWO_TESTS)
    project.run("--flops-budget-update").assert_outcomes(passed=2)
    grown(project)
    return project


def test_written_where_the_test_is(project):
    project.write(TWO_TESTS)
    result = project.run("--flops-budget-update")
    result.stdout.fnmatch_lines(["baseline written: __flops__/test_net.json: 2 new"])
    assert flops_of(project, "test_a") == flops_of(project, "test_b") == NET_FLOPS


def test_not_written_without_the_flag(project):
    project.write(TWO_TESTS)
    project.run()
    assert not project.baseline.exists()


def test_unchanged_is_not_written_again(written):
    written.write(TWO_TESTS)
    before = written.baseline.stat().st_mtime_ns
    assert "baseline written" not in written.run("--flops-budget-update").stdout.str()
    assert written.baseline.stat().st_mtime_ns == before


def test_accepts_a_regression(written):
    result = written.run("--flops-budget-update")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["2 measurements: 2 accepted; *"])
    # 2·8·8·4·3·5·5 + 80 FLOPs
    assert flops_of(written, "test_a") == 38_480
    written.run().assert_outcomes(passed=2)


@pytest.mark.parametrize(
    "selection", [["-k", "test_b"], ["test_net.py::test_b"], ["--deselect", "test_net.py::test_a"]]
)
def test_deselected_tests_keep_their_entries(written, selection):
    written.run("--flops-budget-update", *selection)
    assert (flops_of(written, "test_a"), flops_of(written, "test_b")) == (NET_FLOPS, 38_480)


@pytest.mark.parametrize(
    "line",
    ["    assert False\n", "    pytest.skip('no')\n", "    pytest.xfail('no')\n", "    raise KeyboardInterrupt\n"],
    ids=["fails", "skips", "xfails", "interrupted"],
)
def test_only_tests_that_passed(written, line):
    """If a test measures but does not pass, an update does not write its entry."""
    project = written
    project.write(
        TWO_TESTS.replace("Net()", "Net(kernel=5)").replace("IMAGE)\n\ndef test_b", f"IMAGE)\n{line}\ndef test_b")
    )
    # Use another process, because the interrupt would reach this process too.
    (project.run_apart if "Interrupt" in line else project.run)("--flops-budget-update")
    assert flops_of(project, "test_a") == NET_FLOPS
    assert flops_of(project, "test_b") == (NET_FLOPS if "Interrupt" in line else 38_480)


def test_a_teardown_that_fails(written):
    written.pytester.makeconftest(
        "import pytest\n@pytest.fixture(autouse=True)\ndef f():\n    yield\n    assert False\n"
    )
    written.run("--flops-budget-update").assert_outcomes(passed=2, errors=2)
    assert flops_of(written, "test_a") == NET_FLOPS


def test_exitfirst(written):
    """If a test did not run, an update keeps its entry."""
    written.write(TWO_TESTS.replace("Net()", "Net(kernel=5)").replace("IMAGE)", "IMAGE)\n    assert 0", 1))
    written.run("--flops-budget-update", "-x")
    assert (flops_of(written, "test_a"), flops_of(written, "test_b")) == (NET_FLOPS, NET_FLOPS)


def test_hard_limits_still_hold(written):
    limited = TWO_TESTS.replace("def test_a", "@pytest.mark.flops_budget(flops=9)\ndef test_a")
    written.write(limited.replace("Net()", "Net(kernel=5)"))
    written.run("--flops-budget-update").assert_outcomes(passed=1, failed=1)
    assert (flops_of(written, "test_a"), flops_of(written, "test_b")) == (NET_FLOPS, 38_480)


def test_names(project):
    project.write("def test_a(flops_budget):\n    for name in 'xy':\n        flops_budget(Net(), IMAGE, name=name)\n")
    project.run("--flops-budget-update")
    assert flops_of(project, "test_a", "x") == flops_of(project, "test_a", "y")
    project.write("def test_a(flops_budget):\n    flops_budget(Net(), IMAGE, name='y')\n")
    result = project.run()
    result.stdout.fnmatch_lines(["test_net.py::test_a: in the baseline, but no longer measured: x"])
    project.run("--flops-budget-update")
    assert '"x"' not in project.baseline.read_text()


def test_same_bytes_in_any_order(project):
    project.write(TWO_TESTS)
    project.run("--flops-budget-update")
    before = project.baseline.read_bytes()
    project.baseline.unlink()
    project.run("--flops-budget-update", "test_net.py::test_b", "test_net.py::test_a")
    assert project.baseline.read_bytes() == before


def test_ids_that_look_alike(project):
    widths = {
        "a/b": 1,
        "a_b": 2,
        "a b": 3,
        "A_B": 4,
        "a_b.json": 5,
        "..": 6,
        "\u00e4": 7,
        "a\u0308": 8,
        "a::b": 9,
        "a": 10,
    }
    project.write(
        f"@pytest.mark.parametrize('width', {list(widths.values())}, ids={[ascii(name)[1:-1] for name in widths]})\n"
        "def test_net(flops_budget, width):\n    flops_budget(Net(width=width), IMAGE)\n"
    )
    project.run("--flops-budget-update").assert_outcomes(passed=len(widths))
    tests = load(project.baseline).tests
    # 2·8·8·3·3·3 FLOPs for each channel of the convolution, and 2·10 for each input of the linear layer.
    assert sorted(entries["model"].flops for entries in tests.values()) == [
        width * (3456 + 20) for width in widths.values()
    ]
    assert list(project.baseline.parent.glob("*.json")) == [project.baseline]
    project.run().stdout.fnmatch_lines([f"{len(widths)} measurements: {len(widths)} ok; *"])


def test_torn_by_a_merge(written):
    """If a merge left two contradictory lines for a test, an update replaces both lines."""
    text = written.baseline.read_text()
    other = next(line for line in text.splitlines() if line.startswith('{"metrics"') and '"test_a"' in line)
    written.baseline.write_text(text.replace(other, other + "\n" + other.replace(str(NET_FLOPS), "7")))
    result = written.run()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ['ERROR: *test_net.json, line 8 (and line 7): metrics of "test_a": another line says *']
    )
    for word in ("new", "improved"):
        # The torn entry is neither new nor improved.
        assert written.run(f"--flops-budget-update={word}").ret == pytest.ExitCode.USAGE_ERROR
    result = written.run("--flops-budget-update", "-k", "test_b")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    written.run("--flops-budget-update").assert_outcomes(passed=2)
    assert (flops_of(written, "test_a"), flops_of(written, "test_b")) == (38_480, 38_480)


def test_not_writable(written):
    before = written.baseline.read_bytes()
    written.pytester.makeconftest(
        "import os\n"
        "access = os.access\n"
        "os.access = lambda path, mode, **more: access(path, mode, **more) and not str(path).endswith('.json')\n"
    )
    result = written.run_apart("--flops-budget-update")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["ERROR: *test_net.json: cannot be written: it is read-only. The file is as it was."])
    assert written.baseline.read_bytes() == before
