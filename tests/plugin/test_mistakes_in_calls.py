"""Calls of the fixture with wrong arguments: the model's own error, without frames of the plugin, and a hint."""

from __future__ import annotations

import sys

import pytest
import torch

from pytest_flopsbudget import UsageError, measure
from pytest_flopsbudget.tracebacks import without_own_frames

TEST = "\ndef test_net(flops_budget):\n    flops_budget(Net(), IMAGE)\n"
HEAD = "X = torch.zeros(1, 3, 8, 8)\n\ndef test_net(flops_budget):\n    "


@pytest.mark.parametrize(
    ("call", "lines"),
    [
        ("flops_budget(Net, X)", ["test_net.py:*: the model is the class Net; hand over an instance, *"]),
        ("flops_budget(Net(), {'image': X})", ["E *TypeError*", "E *hint: the dict was passed *(model, kwargs={...})"]),
        (
            "flops_budget(Net(), (X, torch.zeros(1)))",
            ["E *TypeError: *takes 2 positional arguments but 3 were given", "E *hint: the two items were passed *"],
        ),
        ("flops_budget(Net(), [X, X, X])", ["E *hint: the 3 items were passed *"]),
        ("flops_budget(Net(), torch.zeros(1, 4, 8, 8))", ["E *expected input*to have 3 channels, but got 4*"]),
        ("flops_budget(Net(), X, X)", ["*kwargs is a value of type Tensor, not a dictionary; several inputs are a *"]),
        ("flops_budget(Net(), X.long())", ["E *"]),
        ("flops_budget(lambda a, b: a, X)", ["E *missing 1 required positional argument*", "E *hint: pass several *"]),
    ],
)
def test_the_models_own_error(project, call, lines):
    project.write(HEAD + call)
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(lines)
    shown = result.stdout.str()
    assert "pytest_flopsbudget/" not in shown.partition("short test summary")[0].replace("plugins: flopsbudget", "")
    assert "_ops.py" not in shown


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            "flops_budget(Net(), X, bakward=True)",
            "flops_budget(..., bakward=...): no such argument; did you mean backward?",
        ),
        ("flops_budget(Net(), X, nmae='a')", "flops_budget(..., nmae=...): no such argument; did you mean name?"),
        (
            "flops_budget(Net(), input_ids=X)",
            'no such argument; an input of the model is passed as kwargs={"input_ids": ...}',
        ),
        (
            "flops_budget.mean(Net(), [X], backwards=True)",
            "flops_budget.mean(..., backwards=...): no such argument; did you mean backward?",
        ),
        (
            "flops_budget.over(Net(), lambda n: X, n=range(1, 9), on_date=True)",
            "if on_date is a size; there is no option of this name; did you mean on_data?",
        ),
        (
            "flops_budget.over(Net(), lambda n: X, n=range(1, 9), devices=['A100'])",
            "if devices is a size; there is no option of this name",
        ),
        (
            "measure(Net(), X, reuse_answer=False)",
            "measure(..., reuse_answer=...): no such argument; did you mean reuse_answers?",
        ),
        (
            "law(Net(), lambda n: X, n=range(1, 9), bakward=True)",
            "if bakward is a size; there is no option of this name; did you mean backward?",
        ),
    ],
)
def test_a_misspelled_argument(project, call, message):
    project.write("from pytest_flopsbudget import law, measure\n" + HEAD + call)
    result = project.run("--tb=short")
    result.assert_outcomes(failed=1)
    assert message in result.stdout.str()


def test_of_measure():
    def model(_):
        raise LookupError

    with pytest.raises(LookupError) as caught:
        measure(model, torch.zeros(1))
    assert [entry.name for entry in caught.traceback] == ["test_of_measure", "measure", "model"]


def test_frames_are_removed():
    try:
        measure(3)
    except UsageError:
        traceback = without_own_frames(sys.exc_info()[2])
    assert traceback.tb_frame.f_code.co_name == "test_frames_are_removed"
    assert traceback.tb_next is None


@pytest.mark.parametrize(
    ("marker", "line"),
    [
        ("backward=True", "*backward: belongs in the call: flops_budget(model, inputs, backward=True)"),
        ('parameters="3M"', "*parameters: no such key; did you mean params?"),
        ('time={"nvidia a100": "3 ms"}', None),
        ('tolerance={"depth": "inf"}', None),
    ],
)
def test_of_the_marker(project, marker, line):
    project.write(f"@pytest.mark.flops_budget({marker}){TEST}")
    result = project.run()
    assert result.ret == (4 if line else 0)
    if line:
        result.stderr.fnmatch_lines([line])


@pytest.mark.parametrize("pattern", ["test_net.py", "test_net.py::test_net", "*net*", "test_net.py::*"])
def test_what_a_pattern_selects(project, pattern):
    project.settings(f'[[tool.pytest-flopsbudget.budgets]]\nmatch = ["{pattern}"]\nflops = 1\n')
    project.write(
        "@pytest.mark.parametrize('a', [1])\ndef test_net(flops_budget, a):\n    flops_budget(Net(), IMAGE)\n"
    )
    project.run().assert_outcomes(failed=1)


def test_a_report_is_no_source_file(project):
    project.write(TEST)
    before = project.path.joinpath("test_net.py").read_bytes()
    result = project.run("--flops-budget-json", "test_net.py")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--flops-budget-json=test_net.py: would overwrite a source file; *"])
    assert project.path.joinpath("test_net.py").read_bytes() == before
