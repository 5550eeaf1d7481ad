"""The commands that a run suggests, and the tests that an update leaves out."""

from __future__ import annotations

import re
import shlex

import pytest

NEW = "def test_new(flops_budget):\n    flops_budget(Net(), IMAGE)\n"
OVER = "@pytest.mark.flops_budget(flops=1)\ndef test_over(flops_budget):\n    flops_budget(Net(), IMAGE)\n"
FAILS = "def test_fails(flops_budget):\n    flops_budget(Net(), IMAGE)\n    assert False\n"
TEARDOWN = (
    "@pytest.fixture\ndef broken():\n    yield\n    assert False\n\n"
    "def test_teardown(flops_budget, broken):\n    flops_budget(Net(), IMAGE)\n"
)
TWO_NAMES = (
    "def test_names(flops_budget):\n    flops_budget(Net(), IMAGE, name='a')\n"
    "    flops_budget(lambda: torch.ones(2, 2) @ torch.ones(2, 2), name='b')\n"
)


def suggested(result):
    """Return the arguments of each pytest command that a run suggests."""
    found = [re.search(r"pytest (--flops-budget-.*)", line) for line in result.outlines]
    return [shlex.split(match[1]) for match in found if match]


class TestLeftOut:
    """An update names each test that failed after it measured."""

    @pytest.mark.parametrize("option", ["--flops-budget-update", "--flops-budget-update=new"])
    @pytest.mark.parametrize("workers", [(), ("-n1",)])
    def test_named_with_the_reason(self, project, option, workers):
        project.write(f"{NEW}\n{OVER}\n{FAILS}\n{TEARDOWN}")
        result = project.run_apart(option, *workers)
        result.stdout.fnmatch_lines(
            [
                "baseline written: __flops__/test_net.json: 1 new",
                "not written, because they failed: 3 tests",
                "    test_net.py::test_over: over limit; edit the limit first",
                "    test_net.py::test_fails: failed for a reason other than its budget",
                "    test_net.py::test_teardown: failed for a reason other than its budget",
            ]
        )

    def test_nothing_written(self, project):
        project.write(OVER)
        result = project.run("--flops-budget-update=new")
        result.stdout.fnmatch_lines(["nothing to write", "not written, because it failed: 1 test", "*test_over: over*"])

    def test_nothing_to_write(self, project):
        """An update does not name a failed test whose baseline would not change."""
        project.write(NEW)
        project.run("--flops-budget-update")
        project.write(f"{NEW}    assert False\n")
        project.run("--flops-budget-update").stdout.no_fnmatch_line("not written, *")

    def test_without_an_update(self, project):
        project.write(OVER)
        project.run().stdout.no_fnmatch_line("not written, *")

    def test_improved(self, project):
        """With --flops-budget-update=improved, the run names a failed test only if the test improved."""
        project.write("def test_a(flops_budget):\n    flops_budget(Net(5), IMAGE)\n")
        project.run("--flops-budget-update")
        project.write(f"def test_a(flops_budget):\n    flops_budget(Net(3), IMAGE)\n    assert False\n\n{OVER}")
        result = project.run("--flops-budget-update=improved")
        result.stdout.fnmatch_lines(["not written, because it failed: 1 test", "    test_net.py::test_a: failed *"])


class TestCommands:
    @pytest.mark.parametrize("body", [OVER, FAILS, TEARDOWN])
    def test_none_for_a_test_that_fails(self, project, body):
        project.write(body)
        assert suggested(project.run()) == []

    @pytest.mark.parametrize(
        "body", [NEW, f"{NEW}\n{OVER}\n{FAILS}", TWO_NAMES, f"{NEW}\n{NEW}".replace("new", "old", 1)]
    )
    def test_new(self, project, body):
        project.write(body)
        (arguments,) = suggested(project.run())
        project.run(*arguments).stdout.fnmatch_lines(["baseline written: *"])
        assert suggested(project.run()) == []

    @pytest.mark.parametrize(("old", "new"), [(3, 5), (5, 3)])
    @pytest.mark.parametrize("strict", [True, False])
    def test_changed(self, project, old, new, strict):
        project.settings(f'[tool.pytest-flopsbudget]\nimproved-baseline = "{"fail" if strict else "pass"}"\n')
        project.write(NEW.replace("Net()", f"Net({old})"))
        project.run("--flops-budget-update")
        project.write(NEW.replace("Net()", f"Net({new})"))
        for arguments in suggested(project.run()):
            project.run(*arguments).stdout.fnmatch_lines(["baseline written: *"])
            project.run("--flops-budget-update").stdout.fnmatch_lines(["nothing to write: 1 unchanged"])
            project.baseline.unlink()
            project.write(NEW.replace("Net()", f"Net({old})"))
            project.run("--flops-budget-update")
            project.write(NEW.replace("Net()", f"Net({new})"))

    def test_conditions(self, project):
        """If a command works only after a failure is fixed, the summary says this before the command."""
        project.settings('[tool.pytest-flopsbudget]\nmissing-baseline = "fail"\n')
        project.write(f"{OVER}\n{FAILS}\n{TWO_NAMES}    flops_budget(Net(5), IMAGE, name='a')\n")
        result = project.run()
        lines = [line for line in result.outlines if line.startswith("to accept")]
        assert lines[:2] == [
            "to accept, once the limits allow it: pytest --flops-budget-update test_net.py::test_over",
            "to accept, once the test passes otherwise: pytest --flops-budget-update test_net.py::test_fails",
        ]

    def test_other_measurement_over_its_limit(self, project):
        project.settings(
            '[tool.pytest-flopsbudget]\nmissing-baseline = "fail"\n[tool.pytest-flopsbudget.limits]\nparams = 1\n'
        )
        project.write(TWO_NAMES)
        lines = [line for line in project.run().outlines if line.startswith("to accept")]
        assert lines
        assert all(line.startswith("to accept, once the limits allow it: ") for line in lines)

    def test_paths(self, project):
        """A command for several tests repeats the paths of the command line."""
        project.pytester.syspathinsert()
        project.path.joinpath("tox.ini").write_text(
            "[pytest]\ntestpaths = tests\nasyncio_default_fixture_loop_scope = function\n"
        )
        folder = project.path / "my bench"
        folder.mkdir()
        text = f"import pytest\nfrom models import *\n\n{NEW}\n{NEW.replace('new', 'old')}"
        folder.joinpath("test_bench.py").write_text(text)
        (arguments,) = suggested(project.run("my bench/test_bench.py"))
        assert arguments == ["--flops-budget-update=new", "my bench/test_bench.py"]
        project.run(*arguments).stdout.fnmatch_lines(["baseline written: *"])
        folder.joinpath("test_bench.py").write_text("def test_else(): pass\n")
        (arguments,) = suggested(project.run("my bench/test_bench.py"))
        project.run(*arguments).stdout.fnmatch_lines(["baseline pruned: *"])

    @pytest.mark.parametrize(
        ("arguments", "repeated"),
        [
            ((), []),
            (("test_net.py",), []),
            ((".",), []),
            (("test_net.py::test_new", "test_net.py::test_old"), []),
            (("check_net.py",), ["check_net.py"]),
            (("build",), ["build"]),
        ],
    )
    def test_paths_that_pytest_finds(self, project, arguments, repeated):
        project.pytester.syspathinsert()
        body = f"{NEW}\n{NEW.replace('new', 'old')}"
        for name in ("test_net", "check_net"):
            project.write(body, name)
        project.path.joinpath("build").mkdir()
        project.path.joinpath("build", "test_built.py").write_text(f"from models import *\n\n{body}")
        assert suggested(project.run(*arguments)) == [["--flops-budget-update=new", *repeated]]
