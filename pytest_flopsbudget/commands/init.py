"""``init``: look at a project, and propose a test with budgets and a table for the pyproject.toml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands.found_models import FoundModel, find_models
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from pytest_flopsbudget.commands.console import Output

SUMMARY = "look at a project, and propose a test of its models and a table for its pyproject.toml"
DESCRIPTION = """\
Read the source files of a project, without importing them, and propose a test with a budget for each model, and a table
for the pyproject.toml. Nothing is written without --write, and no existing file is ever changed.
"""
EXAMPLES = """\
examples:
  flopsbudget init                show the proposal for the current folder
  flopsbudget init --write        write it
"""

TEST_FILE = "test_flops_budget.py"
PYPROJECT = "pyproject.toml"
TABLE = """\
[tool.pytest-flopsbudget]
tolerance = "0%"            # how much a model may grow before its test fails
missing-baseline = "warn"   # "fail" in CI, once the baselines are committed

[tool.pytest-flopsbudget.limits]
# params = "50M"            # limits for every model; markers and budgets have limits for single ones
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``init`` to ``parser``."""
    parser.add_argument("folder", metavar="FOLDER", nargs="?", default=".", help="the project; the current folder")
    parser.add_argument("--write", action="store_true", help="write the files that do not exist yet")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Show the proposal, or write it.

    Raises:
        UsageError: there is no such folder, no model is found, or a file cannot be written.
    """
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise UsageError(f"{arguments.folder} is no folder")
    found = find_models(folder)
    for file in found.unreadable:
        output.error(f"{file}: Python cannot parse this file, so its models are not known")
    ready = [one for one in found.models if not one.required]
    for one in found.models:
        if one.required:
            output.error(f"{one.file}:{one.line}: {one.name} needs {', '.join(one.required)}; write its test by hand")
    if not ready:
        raise UsageError(f"no model that can be built without arguments was found in {arguments.folder}")
    tests = folder / "tests"
    files = {(tests if tests.is_dir() else folder) / TEST_FILE: make_test(ready), folder / PYPROJECT: TABLE}
    if not arguments.write:
        for path, text in files.items():
            output.line(f"# {path}{_state(path)}")
            output.lines(text.splitlines())
            output.line()
        output.line("Nothing was written; --write writes the files that do not exist.")
        return 0
    return _write(files, output)


def _state(path: Path) -> str:
    if not path.exists():
        return ""
    return (
        " (it exists: add this table to it)"
        if path.name == PYPROJECT
        else " (it exists, and --write will not change it)"
    )


def _write(files: dict[Path, str], output: Output) -> int:
    from pytest_flopsbudget.storage.atomic_file import write_report

    kept = 0
    for path, text in files.items():
        if path.exists() or path.is_symlink():
            kept += 1
            what = "add the table that `init` shows to it" if path.name == PYPROJECT else "remove it to have it written"
            output.error(f"not written: {path} exists; {what}")
            continue
        write_report(path, text.encode())
        output.line(f"written: {path}")
    if kept < len(files):
        output.line("Check the inputs in the test, then write the first baseline: pytest --flops-budget-update")
    return 1 if kept == len(files) else 0


def make_test(models: Sequence[FoundModel]) -> str:
    """Return a test file with a test for each model."""
    names = _names(models)
    needs_torch = any("torch." in _input(one) for one in models)
    lines = [
        '"""Budgets of this project\'s models, proposed by `flopsbudget init`: check the input of each model."""',
        "",
        "import pytest",
        *(["import torch"] if needs_torch else []),
        "",
        *sorted(_imports(models, names)),
    ]
    for model, name in zip(models, names, strict=True):
        lines += ["", "", *_test(model, name)]
    return "\n".join([*lines, ""])


def _imports(models: Sequence[FoundModel], names: Sequence[str]) -> Iterator[str]:
    for model, name in zip(models, names, strict=True):
        yield f"from {model.module} import {model.name}{'' if name == model.name else f' as {name}'}"


def _test(model: FoundModel, name: str) -> Iterator[str]:
    yield '@pytest.mark.flops_budget  # add limits: flops_budget(flops="8.2 GFLOPs", params="25.6M")'
    yield f"def test_{_snake(name)}(flops_budget):"
    if model.input_source and not model.input_code:
        yield f"    flops_budget({name}())  # with {model.input_source}"
        return
    source = f"guessed from {model.input_source}" if model.input_source else "a guess"
    yield f"    flops_budget({name}(), {_input(model)})  # check this input: {source}"


def _input(model: FoundModel) -> str:
    if model.input_source and not model.input_code:
        return ""
    return model.input_code or "torch.empty(1, 3, 224, 224)"


def _names(models: Sequence[FoundModel]) -> list[str]:
    """Return the name under which each model is imported. Equal names of two modules are told apart."""
    names = [model.name for model in models]
    return [
        model.name
        if names.count(model.name) == 1 and model.name not in {"pytest", "torch"}
        else f"{model.module.replace('.', '_')}_{model.name}"
        for model in models
    ]


def _snake(name: str) -> str:
    made = ""
    for number, sign in enumerate(name):
        made += "_" if number and sign.isupper() and not name[number - 1].isupper() and name[number - 1] != "_" else ""
        made += sign.lower()
    return made
