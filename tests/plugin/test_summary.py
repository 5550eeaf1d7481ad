"""The terminal summary, as a user sees it."""

from __future__ import annotations

import pytest

from pytest_flopsbudget.storage.report_file import load

TEST = """
@pytest.mark.flops_budget(flops="20 kFLOPs")
@pytest.mark.parametrize("size", [8, 4], ids=lambda size: f"a_rather_long_name_for_a_size_of_{size}_by_{size}_pixels")
def test_net(flops_budget, size):
    flops_budget(Net(), torch.empty(1, 3, size, size))
"""


@pytest.fixture
def narrow(project, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    project.write(TEST)
    return project


def body(result):
    lines = result.stdout.lines
    start = next(number for number, line in enumerate(lines) if "= flops budgets =" in line)
    return lines[start + 1 : -1]


def test_table(narrow):
    """Each measurement has a row, and a line with totals follows."""
    lines = body(narrow.run())
    assert lines[0].split() == ["measurement", "FLOPs", "change", "limit", "params", "verdict"]
    assert lines[2] == "test_net.py"
    # 2·4·4·4·3·3·3 + 80 = 3,536 and 13,904, of 20,000. Rows are sorted by the numbers in the ids, not by time.
    assert lines[3].split()[1:] == ["3.536", "kFLOPs", "17.6%", "162", "new"]
    assert lines[4].split()[1:] == ["13.90", "kFLOPs", "69.5%", "162", "new"]
    assert lines[6].startswith("2 measurements: 2 new; 17.44 kFLOPs counted in ")


def test_fits_the_terminal(narrow):
    """A long id is cut at its beginning."""
    lines = body(narrow.run("-v"))
    assert all(len(line) <= 80 for line in lines if "--flops-budget-update" not in line)
    assert sum("pixels]" in line for line in lines) >= 2


def test_macs(narrow):
    narrow.settings('[tool.pytest-flopsbudget]\nshow = "macs"\n')
    lines = body(narrow.run())
    assert lines[0].split()[1] == "MACs"
    assert lines[3].split()[1:3] == ["1.768", "kMACs"]


def test_verbose_shows_modules(narrow):
    narrow.run("-v", "-k", "8_by_8").stdout.fnmatch_lines(
        [
            "(model) * Net *1 13.90 kFLOPs * 162",
            "head * Linear *1 * 80 FLOPs * 50",
            "stem * Conv2d *1 13.82 kFLOPs * 112",
        ]
    )


def test_quiet(narrow):
    """With -q, the summary shows only tests that need attention."""
    text = narrow.run("-q").stdout.str()
    assert "2 measurements: 2 new" in text
    assert "measurement  " not in text
    narrow.run("--flops-budget-update")
    text = narrow.run("-q").stdout.str()
    assert "measurements" not in text


def test_ascii_without_colour(narrow, monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    monkeypatch.setenv("PYTHONUTF8", "0")
    narrow.write(TEST.replace("torch.empty(1, 3, size, size)", "IMAGE"))
    result = narrow.run_apart("-v")
    lines = body(result)
    assert all(line.isascii() for line in lines)
    assert not any("\\u" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_colour(narrow):
    lines = body(narrow.run("--color=yes"))
    assert any("\x1b[36mnew" in line for line in lines)


def test_header(narrow):
    """The header of the run shows the number of budgets in the pyproject."""
    assert "flops-budget:" not in narrow.run().stdout.str()
    narrow.settings("[tool.pytest-flopsbudget]\n[[tool.pytest-flopsbudget.budgets]]\nmatch = '*'\nparams = '1k'\n")
    narrow.run().stdout.fnmatch_lines(["flops-budget: pyproject.toml: 1 budget"])


def test_real_execution_is_told(project):
    project.write("def test_net(flops_budget):\n    flops_budget(lambda x: x[x > 0].sum(), IMAGE)\n")
    project.run().stdout.fnmatch_lines(["test_net.py::test_net: ran on real data, *"])


def test_a_cause_of_many_tests(project):
    """The summary names the cause of several failures once, and its command accepts all of them when it is typed."""
    tests = """
@pytest.mark.parametrize("width", [4, 6, 8, 10])
def test_wide(flops_budget, width):
    flops_budget(Net({kernel}, width=width), IMAGE)

def test_inside(flops_budget):
    flops_budget(nn.Sequential(Net({kernel})), IMAGE)
"""
    project.write(tests.format(kernel=3))
    project.run("--flops-budget-update").assert_outcomes(passed=5)
    project.write(tests.format(kernel=5))
    result = project.run()
    result.assert_outcomes(failed=5)
    lines = result.stdout.lines
    (title,) = [place for place, line in enumerate(lines) if ": 5 tests, flops +" in line]
    assert lines[title].startswith("Conv2d 3\u00d73 \u2192 5\u00d75 in *.stem (models.py:7): 5 tests, flops +")
    assert all(len(line) <= 80 for line in lines[title : title + 3])
    command = next(line.strip() for line in lines[title:] if "to accept" in line)
    assert command == "to accept: pytest --flops-budget-update test_net.py"
    # Each failure after the first one has two lines.
    assert sum(line.startswith("  the change that test_net.py::test_wide[4] shows: ") for line in lines) == 4
    project.run(*command.partition("pytest ")[2].split()).assert_outcomes(passed=5)


def test_failures_before_a_measurement(project):
    """Tests that fail by themselves before they measure anything are in the summary and in the reports."""
    project.write(
        "@pytest.fixture\ndef broken():\n    assert 0\n\n"
        "def test_setup(flops_budget, broken):\n    pass\n\n"
        "def test_body(flops_budget):\n    assert 0\n\n"
        "def test_right(flops_budget):\n    flops_budget(Net(), IMAGE)\n\n"
        "def test_other():\n    assert 0\n"
    )
    result = project.run("--flops-budget-json=run.json", "--flops-budget-markdown=run.md")
    result.assert_outcomes(passed=1, failed=2, errors=1)
    result.stdout.fnmatch_lines(["2 tests failed for a reason other than their budget"])
    report = load(project.path / "run.json")
    assert [(test.nodeid, test.outcome, test.own_failure, len(test.measurements)) for test in report.tests] == [
        ("test_net.py::test_setup", "failed", True, 0),
        ("test_net.py::test_body", "failed", True, 0),
        ("test_net.py::test_right", "passed", False, 1),
    ]
    assert "1 test measured, 2 failed for another reason" in (project.path / "run.md").read_text(encoding="utf-8")


def test_one_line_with_tb_line(project):
    """With --tb=line, a broken budget has one line, which names the metric, the percentage and the test."""
    project.write(
        "@pytest.mark.flops_budget(params=100)\ndef test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n"
    )
    lines = project.run("--tb=line").stdout.lines
    start = next(number for number, line in enumerate(lines) if "= FAILURES =" in line)
    # 3·4·3·3 + 4 + 4·10 + 10 = 162 parameters.
    assert lines[start + 1].endswith(": params +62.0% over its limit in test_net")
    assert "= flops budgets =" in lines[start + 2]
