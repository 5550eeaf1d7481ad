"""Mistakes of users: each message names the place of the mistake and says what to do."""

from __future__ import annotations

import pytest

MEASURING = "def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n"


def refuse(project, *lines, run=None):
    """Check that pytest stops with exit code 4 before any test, and that stderr has ``lines`` and no traceback."""
    result = (run or project.run)()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.assert_outcomes()
    result.stderr.fnmatch_lines(lines)
    assert "Traceback" not in result.stderr.str() + result.stdout.str()


class TestMarkers:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("flop=1", "*flop*no such*did you mean flops*"),
            ("'8.2 GFLOPs'", "*limits are keywords*"),
            ("params='1 MBxyz'", "*params: '1 MBxyz'*"),
            ("flops='-3'", "*flops: '-3'*"),
            ("flops='8.2 GFLOPS'", '*GFLOPS is a rate*write "8.2 GFLOPs"*'),
            ("params='25 MB'", "*params: '25 MB'*"),
            ("modules=3", "*modules*3 is not a table*"),
            ("modules={'stem': {'flop': 1}}", "*modules*stem*flop*did you mean flops*"),
            ("tolerance='lots'", "*tolerance*lots*"),
        ],
    )
    def test_wrong(self, project, arguments, message):
        project.write(f"@pytest.mark.flops_budget({arguments})\n{MEASURING}")
        refuse(project, f"ERROR: @pytest.mark.flops_budget on test_net.py::test_net{message}")

    def test_all_together(self, project):
        """One run reports all mistakes in settings, markers and baselines."""
        project.settings('[tool.pytest-flopsbudget]\ntolerence = "1%"\n')
        project.baseline.parent.mkdir()
        project.baseline.write_text("{")
        project.write(
            "@pytest.mark.flops_budget(flop=1)\n"
            "@pytest.mark.parametrize('x', [1, 2])\n"
            "def test_a(flops_budget, x): pass\n\n"
            f"@pytest.mark.flops_budget(parms=1)\n{MEASURING}"
        )
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        text = result.stderr.str()
        for problem in ("tolerence: no such key", "flop: no such", "parms: no such", "test_net.json, line 1"):
            assert text.count(problem) == 1

    def test_with_workers(self, project):
        """With workers, each mistake is reported once, by the controller."""
        project.write(f"@pytest.mark.flops_budget(flop=1)\n{MEASURING}")
        result = project.run_apart("-n2")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert result.stderr.str().count("flop: no such") == 1
        assert "flop: no such" not in result.stdout.str()
        assert "passed" not in result.stdout.str()

    def test_measured_nothing(self, project):
        project.write("@pytest.mark.flops_budget(flops=1)\ndef test_net(flops_budget): pass\n")
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["marked with flops_budget, but measured nothing: take the flops_budget fixture *"])


class TestSettings:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("tolerence = 1", "*[[]tool.pytest-flopsbudget[]] tolerence: no such key; did you mean tolerance*"),
            ("missing_baseline = 'fail'", "*did you mean missing-baseline*"),
            ("missing-baseline = 'fial'", '*\'fial\' is none of "fail", "warn", "ignore"; did you mean "fail"*'),
            ("flops = 1", "*[[]tool.pytest-flopsbudget.limits[]]*"),
            ("[[tool.pytest-flopsbudget.budgets]]\nflops = 1", "*budgets[]][]] 1 match: is missing*"),
        ],
    )
    def test_wrong(self, project, text, message):
        project.settings(f"[tool.pytest-flopsbudget]\n{text}\n")
        project.write(MEASURING)
        refuse(project, f"ERROR: pyproject.toml: {message}")

    def test_no_toml(self, project):
        project.settings("[tool.pytest-flopsbudget]\ntolerance = \n")
        project.write(MEASURING)
        result = project.run()
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        assert "line 2" in result.stderr.str()


class TestBaselines:
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda text: text[:100], "*test_net.json, line *: no JSON*"),
            (lambda text: "<<<<<<< HEAD\n" + text, "*test_net.json: conflict marker, line 1: delete *"),
            (lambda text: text.replace('"format": 2', '"format": 3'), "*line 2*newer pytest-flopsbudget*Upgrade*"),
            (lambda text: text.replace('"flops"', '"flop"', 1), "*unknown key*did you mean*flops*"),
            (lambda _: "", "*test_net.json, line 1: no JSON*"),
        ],
        ids=["truncated", "conflict", "newer", "unknown key", "empty"],
    )
    @pytest.mark.parametrize("flags", [[], ["--flops-budget-update"]], ids=["compare", "update"])
    def test_damaged(self, project, damage, message, flags):
        project.write(MEASURING)
        project.run("--flops-budget-update")
        project.baseline.write_text(damage(project.baseline.read_text()))
        before = project.baseline.read_bytes()
        refuse(project, f"ERROR: {message}", run=lambda: project.run(*flags))
        assert project.baseline.read_bytes() == before


class TestCalls:
    @pytest.mark.parametrize(
        ("call", "message"),
        [
            ("Net(), 3", "*test_net.py:5: *there is no tensor among the arguments*"),
            ("Net()", "*test_net.py:5: *there is no tensor among the arguments*"),
            ("3, IMAGE", "*test_net.py:5: *which cannot be called; hand over a torch.nn.Module *"),
            ("Net(), IMAGE, name=''", "*test_net.py:5: *a name is a text that is not empty*"),
        ],
    )
    def test_wrong(self, project, call, message):
        project.write(f"def test_net(flops_budget):\n    flops_budget({call})\n")
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines([message])
        assert "Traceback" not in result.stdout.str()

    def test_two_models_of_one_name(self, project):
        project.write(
            "def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n    flops_budget(Net(width=8), IMAGE)\n"
        )
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(
            ["test_net.py:6: two different models were measured as 'model': Net of 162 parameters, then Net of 314 *"]
        )

    def test_the_models_own_error(self, project):
        project.write("def test_net(flops_budget):\n    flops_budget(Net(), torch.empty(1, 5, 8, 8))\n")
        result = project.run()
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["E *RuntimeError: Given groups=1, weight of size *"])
        assert "During handling" not in result.stdout.str()
