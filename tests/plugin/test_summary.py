"""The terminal summary, as a user sees it."""

from __future__ import annotations

import pytest

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
    assert lines[0].split() == ["measurement", "FLOPs", "change", "budget", "params", "verdict"]
    assert lines[2] == "test_net.py"
    # 2·4·4·4·3·3·3 + 80 = 3,536 and 13,904, of 20,000. Rows are sorted by the numbers in the ids, not by time.
    assert lines[3].split()[1:] == ["3.536", "kFLOPs", "new", "17.6%", "162", "new"]
    assert lines[4].split()[1:] == ["13.90", "kFLOPs", "new", "69.5%", "162", "new"]
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
