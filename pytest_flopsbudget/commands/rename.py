"""``rename OLD NEW``: move the baseline of a renamed test to its new name."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.identifiers import as_path, baseline_path, is_below, is_test_file, near_nodeids
from pytest_flopsbudget.storage.baseline import change, load, refuse_outside

if TYPE_CHECKING:
    import argparse

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.storage.baseline import BaselineFile

SUMMARY = "move baseline entries to a test's new name"
DESCRIPTION = """\
Move the baseline of a renamed test to its new name, in one file or from one to another. OLD and NEW are node ids as
pytest takes them in the current folder. A function includes all of its parameter sets, a class its tests, a
file all tests in it.
"""
EXAMPLES = """\
examples:
  flopsbudget rename tests/test_net.py::test_old tests/test_net.py::test_new
  flopsbudget rename 'tests/test_net.py::test_net[small]' 'tests/test_net.py::test_net[tiny]'
  flopsbudget rename tests/test_net.py::TestNet tests/test_vision.py::TestNet
  flopsbudget rename tests/test_net.py tests/vision/test_net.py
"""


@dataclass(frozen=True)
class _Name:
    """The parsed name of a test, a class or a file."""

    nodeid: str
    file: str
    #: The node id without its file; empty if the name is that of a whole file.
    test_id: str

    @property
    def baseline(self) -> Path:
        return baseline_path(as_path(self.file))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``rename`` to ``parser``."""
    parser.add_argument("old", metavar="OLD", help="the test's name in the baseline")
    parser.add_argument("new", metavar="NEW", help="the test's new name")


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Move the baseline entries from the old name to the new name.

    Raises:
        UsageError: a name is malformed, the old entry is missing, the new entry exists already, or a file cannot be
            read or written.
    """
    old, new = _name(arguments.old), _name(arguments.new)
    if (old.file, old.test_id) == (new.file, new.test_id):
        raise UsageError(f"{old.nodeid} is the old name and the new one")
    if bool(old.test_id) != bool(new.test_id):
        test, file = (old, new) if old.test_id else (new, old)
        raise UsageError(f"{test.nodeid} is a test and {file.nodeid} a file; give two tests, or two files")
    if not is_test_file(as_path(new.file)):
        raise UsageError(f"{new.file}: no such test file here; node ids begin in the current folder, as pytest's do")
    for name in (old, new):
        refuse_outside(name.baseline, _root(name))
    source = load(old.baseline)
    moves = _moves(source, old, new)
    _write(source, new, moves)
    for test_id, renamed in moves.items():
        output.line(output.screen.text(f"{old.file}::{test_id} -> {new.file}::{renamed}"))
    for path in dict.fromkeys((new.baseline, old.baseline)):
        output.line(f"baseline {'written' if path.exists() else 'removed, since it is empty'}: {path}")
    return 0


def _name(nodeid: str) -> _Name:
    file, separator, test_id = nodeid.partition("::")
    if (separator and not test_id) or test_id.startswith(":"):
        raise UsageError(f"{nodeid!r} is no node id; write tests/test_model.py::test_name, or the file alone")
    if not separator and not file.endswith(".py"):
        raise UsageError(f"{nodeid!r} names no test file; write tests/test_model.py::test_name, or the file alone")
    return _Name(nodeid, as_path(file).as_posix(), test_id)


def _root(name: _Name) -> Path:
    """Return the folder in which the baseline for ``name`` must be.

    The folder is the current one. If the test file is outside of the current folder, return the test file's folder.
    """
    folder = Path(os.path.abspath(name.file)).parent  # noqa: PTH100 -- Path.absolute keeps ".."
    return Path.cwd() if folder.is_relative_to(Path.cwd()) else folder


def _moves(source: BaselineFile, old: _Name, new: _Name) -> dict[str, str]:
    """Return old test id → new test id, for each entry to move."""
    if not old.test_id:
        moves = {test_id: test_id for test_id in source.tests}
    else:
        moves = {
            test_id: new.test_id + test_id.removeprefix(old.test_id)
            for test_id in source.tests
            if test_id == old.test_id or is_below(test_id, old.test_id)
        }
    if moves:
        return moves
    if not source.path.exists():
        others = sorted(path.with_suffix(".py").name for path in source.path.parent.glob("*.json"))
        raise UsageError(
            f"{old.nodeid}: there is no baseline {source.path}; beside it {near_nodeids(old.file, others)}"
        )
    known = [f"{old.file}::{test_id}" for test_id in source.tests]
    raise UsageError(f"{old.nodeid}: no such entry in {source.path}; {near_nodeids(old.nodeid, known)}")


def _write(source: BaselineFile, new: _Name, moves: dict[str, str]) -> None:
    moved = {renamed: source.tests[test_id] for test_id, renamed in moves.items()}

    def without_old(file: BaselineFile) -> BaselineFile:
        if any(file.tests.get(test_id) != source.tests[test_id] for test_id in moves):
            raise UsageError(f"{source.path} was written by another process meanwhile; run this again")
        return replace(file, tests={key: entries for key, entries in file.tests.items() if key not in moves})

    def with_new(file: BaselineFile) -> BaselineFile:
        taken = sorted(moved.keys() & file.tests.keys())
        if taken:
            raise UsageError(
                f"{new.file}::{taken[0]} has a baseline already, in {new.baseline}. To drop the old one instead, run "
                "pytest --flops-budget-prune"
            )
        return replace(file, tests=file.tests | moved)

    # Two paths may lead to the same file.
    if new.baseline.exists() and new.baseline.samefile(source.path):
        change(source.path, lambda file: with_new(without_old(file)))
    else:
        # Write the new file first. If the process ends before the second write, no entry is lost.
        change(new.baseline, with_new)
        change(source.path, without_old)
