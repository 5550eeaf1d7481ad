"""Find unused parts of pyprojects: patterns that match no test, and keys that only work for the whole run."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_flopsbudget.identifiers import MODELS_FILE, matches_pattern, may_match_below, selects_test
from pytest_flopsbudget.plugin.items import nodeid_in

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from pytest_flopsbudget.config.settings import Settings
    from pytest_flopsbudget.plugin.session import BudgetSession

#: The maximum number of similar names in a message.
_MAX_NEAR = 3


def pattern_notes(
    config: pytest.Config, session: BudgetSession, items: Iterable[pytest.Item], skipped_files: Collection[Path]
) -> list[str]:
    """Return a line for each pattern that matches no test, and for each pyproject with keys that have no effect.

    Args:
        config: the configuration of the run.
        session: the session, which knows the settings for each test.
        items: all collected tests for which a pyproject may have settings, before any test is deselected.
        skipped_files: test files and folders whose collection was skipped. Their tests are not known.
    """
    by_pyproject: dict[Path, tuple[Settings, list[pytest.Item]]] = {}
    run = session.settings
    if run.path is not None:
        by_pyproject[run.path] = run, []
    for item in items:
        settings = session.settings_of(item.path)
        if settings.path is not None:
            by_pyproject.setdefault(settings.path, (settings, []))[1].append(item)

    def elsewhere(path: Path, pattern: str) -> str:
        files = {
            other.file
            for other, held in by_pyproject.values()
            if any(selects_test(nodeid_in(path.parent, item), pattern) for item in held)
        }
        return f"the tests that it matches have their settings in {', '.join(sorted(files))}" if files else ""

    notes = []
    for path, (settings, held) in by_pyproject.items():
        if path != run.path and settings.keys_of_run:
            keys = ", ".join(settings.keys_of_run)
            notes.append(f"{settings.file}: {keys}: not used, because a whole run has one value; set it in {run.file}")
        tests = [nodeid_in(path.parent, item) for item in held]
        scope = _Scope(config, path.parent, skipped_files)
        for source, pattern in _patterns(settings):
            if pattern.startswith(MODELS_FILE):
                continue  # which models a run measures depends on its command line
            if not any(selects_test(nodeid, pattern) for nodeid in tests) and scope.covers(pattern):
                notes.append(
                    f'{source} "{pattern}" matches no test; {elsewhere(path, pattern) or _near(pattern, tests)}'
                )
    return notes


def _patterns(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield (place of the setting, pattern) for each pattern of node ids."""
    for budget in settings.budgets:
        for pattern in budget.match:
            yield f"{budget.source}: match", pattern
    for pattern in settings.watch:
        yield f"{settings.file}: watch", pattern


class _Scope:
    """Decides whether a run collected enough tests to say that a pattern matches no test.

    A pattern may match tests that the run was not asked to collect.
    """

    def __init__(self, config: pytest.Config, folder: Path, skipped_files: Collection[Path]) -> None:
        here = config.invocation_params.dir
        #: The files and folders whose tests were all collected.
        self._collected = [Path(os.path.normpath(here / arg)) for arg in config.args if "::" not in arg]
        #: The folder of the pyproject.
        self._folder = folder
        self._skipped = [Path(os.path.relpath(path, folder)).as_posix() for path in skipped_files]
        self._from_testpaths = config.args_source is pytest.Config.ArgsSource.TESTPATHS

    def covers(self, pattern: str) -> bool:
        """Return whether the run collected every test that the pattern may match."""
        if any(may_match_below(path, pattern) for path in self._skipped):
            return False
        file = pattern.partition("::")[0]
        fixed = re.split(r"[*?]", file, maxsplit=1)[0]
        # "tests/test_" is no file. The part after the last separator may be the beginning of a longer name.
        path = self._folder / (fixed if fixed == file else fixed.rpartition("/")[0])
        while not path.exists() and path != self._folder:
            path = path.parent
        if path == self._folder and self._from_testpaths:
            return True
        return any(path.is_relative_to(collected) for collected in self._collected)


def _near(pattern: str, tests: Collection[str]) -> str:
    """Return a hint with the names of files or tests that are similar to the pattern."""
    file, separator, _ = pattern.partition("::")
    in_file = [nodeid for nodeid in tests if separator and matches_pattern(nodeid.partition("::")[0], file)]
    if in_file:
        asked, known = pattern, in_file
    else:
        asked, known = file, [nodeid.partition("::")[0] for nodeid in tests]
    names = sorted(set(known))
    near = difflib.get_close_matches(asked.replace("*", ""), names, n=_MAX_NEAR, cutoff=0.5) or names[:_MAX_NEAR]
    return f"near names: {', '.join(near)}" if near else "this pyproject applies to no test of the run"
