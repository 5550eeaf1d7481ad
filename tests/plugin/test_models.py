"""The models that --flops-budget-model names: test items without a test file."""

from __future__ import annotations

import pytest
from conftest import NET_FLOPS

from pytest_flopsbudget.commands.main import main
from pytest_flopsbudget.storage.baseline import load
from pytest_flopsbudget.storage.report_file import load as load_report

NET = "models:Net?input=1x3x8x8"
WIDE = "models:Net(5)?input=1x3x8x8"
MODEL = f"--flops-budget-model={NET}"


@pytest.fixture
def baseline(project):
    return project.path / "__flops__" / "flops-budget-model.json"


def outcomes(project, *arguments):
    """Run pytest and return {model: outcome}."""
    project.run(*arguments, "--flops-budget-json=r.json")
    tests = load_report(project.path / "r.json").tests
    return {test.nodeid.removeprefix("flops-budget-model::"): test.measurements[0].outcome for test in tests}


def test_a_baseline_holds_a_model(project, baseline):
    project.run(MODEL, "--flops-budget-update").assert_outcomes(passed=1)
    assert {test: names["model"].flops for test, names in load(baseline).tests.items()} == {NET: NET_FLOPS}
    assert outcomes(project, MODEL) == {NET: "ok"}
    changed = project.path / "models.py"
    changed.write_text(changed.read_text().replace("kernel=3", "kernel=5"))
    result = project.run(MODEL)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"*_ flops-budget-model::{NET} _*",
            "*pytest --flops-budget-update 'flops-budget-model::models:Net[?]input=1?3?8?8'*",
        ]
    )


def test_budgets_of_the_pyproject(project):
    project.settings(
        '[[tool.pytest-flopsbudget.budgets]]\nmatch = "flops-budget-model::models:Net(*"\nflops = "20k"\n'
        '[tool.pytest-flopsbudget]\nmissing-baseline = "ignore"\n'
    )
    assert outcomes(project, MODEL, f"--flops-budget-model={WIDE}") == {NET: "new", WIDE: "over limit"}
    # Without the option, the summary does not say that the pattern matches no test.
    project.write("def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
    assert "matches no test" not in project.run().stdout.str()


@pytest.mark.parametrize("argument", ["flops-budget-model::{}", "./flops-budget-model::{}"])
def test_a_node_id_runs_this_model_alone(project, argument):
    project.write("def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
    project.run(argument.format(NET.replace("1x3", "1\N{MULTIPLICATION SIGN}3"))).assert_outcomes(passed=1)
    project.run("test_net.py", argument.format(NET)).assert_outcomes(passed=2)
    project.run(MODEL).assert_outcomes(passed=2)  # beside the tests that pytest collects


def test_options(project):
    """FLOPs with a backward pass: the convolution has one more product, the linear layer two."""
    result = project.run(f"{MODEL}&backward&batch=2", "--flops-budget-json=r.json")
    result.assert_outcomes(passed=1)
    (test,) = load_report(project.path / "r.json").tests
    assert test.nodeid == f"flops-budget-model::{NET}&backward&batch=2"
    assert test.measurements[0].complexity.flops == 2 * (2 * 13_824 + 3 * 80)


def test_a_report_is_accepted(project, baseline, monkeypatch):
    project.run(MODEL, "--flops-budget-json=r.json")
    monkeypatch.chdir(project.path)
    assert main(["accept", "r.json"]) == 0
    assert main(["rename", f"flops-budget-model::{NET}", f"flops-budget-model::{NET}&batch=1"]) == 0
    assert [*load(baseline).tests] == [f"{NET}&batch=1"]


def test_its_baseline_has_no_orphans(project, baseline):
    """A run says nothing about the entries of models that it did not measure, and does not remove them."""
    project.run(MODEL, "--flops-budget-update")
    project.write("def test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n")
    for arguments in ((), (f"--flops-budget-model={WIDE}",), ("--flops-budget-prune", ".")):
        assert "no test" not in project.run(*arguments).stdout.str().replace("tests without", "")
    assert [*load(baseline).tests] == [NET]


@pytest.mark.parametrize("arguments", [[], [MODEL], [f"{MODEL}&batch=2"]])
def test_explained(project, arguments):
    result = project.run(*arguments, f"--flops-budget-explain=flops-budget-model::{NET}")
    result.assert_outcomes(passed=1, **({"deselected": 1} if "batch" in "".join(arguments) else {}))
    result.stdout.fnmatch_lines(["*flops budget explained*"])
    assert "stem" in result.stdout.str()


def test_workers(project, baseline):
    result = project.run_apart_with_torch("-n1", MODEL, "--flops-budget-update")
    result.assert_outcomes(passed=1)
    assert [*load(baseline).tests] == [NET]


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("models:gone", "models:gone: models has no 'gone'"),
        ("modles:Net", "modles:Net: no module 'modles'; did you mean models?"),
        ("models:IMAGE", "models:IMAGE: IMAGE is a value of type Tensor, and no model, class or function"),
        ("models:Net?input=1x4x8x8", "*: the model raised RuntimeError: Given groups=1, * (models.py:*, in forward)"),
    ],
)
def test_a_model_that_cannot_be_measured_fails_in_one_line(project, target, told):
    result = project.run(f"--flops-budget-model={target}", MODEL)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines([f"*_ flops-budget-model::{target} _*", told.replace("[", "[[]")], consecutive=True)
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--flops-budget-model=models"], "--flops-budget-model: 'models' names no model; write module:attribute, *"),
        (
            ["--flops-budget-model=models:Net?input=1x"],
            "--flops-budget-model: models:Net?input=1x: '1x' is no input; *",
        ),
        (["flops-budget-model"], "flops-budget-model: no model is named; write --flops-budget-model=TARGET"),
    ],
)
def test_mistakes_in_the_option(project, arguments, told):
    result = project.run(*arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {told}"])


def test_what_init_proposes(project, monkeypatch):
    """The test file that the command ``init`` writes is one that pytest runs."""
    monkeypatch.chdir(project.path)
    assert main(["init", "--write"]) == 0
    result = project.run()
    result.assert_outcomes(passed=1)
