"""``accept REPORT [PATTERN...]``: write the measurements in a report to the baselines, without running tests."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from pytest_flopsbudget.errors import BaselineError, UsageError
from pytest_flopsbudget.identifiers import (
    MODELS_FILE,
    baseline_path,
    is_test_file,
    match_nodeids,
    near_nodeids,
    split_nodeid,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.report import Report, ReportedTest
    from pytest_flopsbudget.results.verdict import Verdict
    from pytest_flopsbudget.storage.baseline import BaselineFile

SUMMARY = "accept what a report measured as the new baseline"
DESCRIPTION = """\
Write what a run measured to the baselines, like --flops-budget-update does, but without running again. PATTERN
selects tests, as for history; without it, all tests of the report are accepted. Tests that break a limit or failed for
another reason are listed and not accepted, and neither is a test whose baseline has changed since the run.
"""
EXAMPLES = """\
examples:
  flopsbudget accept report.json
  flopsbudget accept report.json 'tests/test_net.py::*' --dry-run
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``accept`` to ``parser``."""
    parser.add_argument("report", metavar="REPORT", help="a report that --flops-budget-json wrote")
    parser.add_argument(
        "patterns", metavar="PATTERN", nargs="*", default=(), help="the tests to accept; all by default"
    )
    parser.add_argument("--dry-run", action="store_true", help="list what would be accepted, and write nothing")
    parser.add_argument("--force", action="store_true", help="accept even if the baseline has changed since the run")
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        help="pytest's root folder on this machine; by default it is searched from the current folder upward",
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Accept the measurements of a report.

    Raises:
        UsageError: the report or a baseline cannot be read, a pattern matches nothing, or the report's test
            files are not found.
    """
    from pytest_flopsbudget.storage import report_file

    report = report_file.load(Path(arguments.report))
    tests = _chosen(report, arguments.patterns)
    if not tests:
        output.line(f"{arguments.report} holds no measurements: there is nothing to accept")
        return 0
    root = _root(report, arguments.root)
    acceptance = _Acceptance(root, force=arguments.force)
    for test in tests:
        acceptance.consider(test)
    return acceptance.finish(output, dry=arguments.dry_run)


def _chosen(report: Report, patterns: Sequence[str]) -> list[ReportedTest]:
    tests = [test for test in report.tests if test.measurements]
    if not patterns:
        return tests
    nodeids = [test.nodeid for test in tests]
    chosen: set[str] = set()
    for pattern in patterns:
        found = match_nodeids(nodeids, pattern)
        if not found:
            raise UsageError(f"no test in the report matches {pattern!r}; {near_nodeids(pattern, nodeids)}")
        chosen.update(found)
    return [test for test in tests if test.nodeid in chosen]


def _root(report: Report, given: str | None) -> Path:
    """Return the folder on this machine that corresponds to the root folder of the report's run."""
    if given is not None:
        if not os.path.isdir(given):  # noqa: PTH112 -- Path.is_dir raises for a name that is too long
            raise UsageError(f"--root {given}: no such folder")
        return Path(given)
    here = Path.cwd()
    around = (here, *here.parents)
    repository = next((folder for folder in around if (folder / ".git").exists()), None)
    candidates = [*([repository / report.run.root] if repository else []), *around]
    if repository and not _is_below(repository / report.run.root, repository):
        del candidates[0]
    # Models of --flops-budget-model have no file, so they fit into every folder.
    with_file = [test for test in report.tests if test.file != MODELS_FILE] or report.tests
    for folder in candidates:
        if any(_test_file(folder, test) for test in with_file):
            return _from_here(folder)
    files = sorted({test.file for test in report.tests})
    raise UsageError(
        f"none of the report's test files is here: {', '.join(files[:3])}; run this where they are, or give --root"
    )


def _is_below(folder: Path, repository: Path) -> bool:
    """Return whether ``folder`` is inside of ``repository``. Symbolic links in both paths are followed."""
    try:
        return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(repository))
    except (OSError, ValueError):  # ValueError: no folder can have this name
        return False


def _from_here(folder: Path) -> Path:
    try:
        return Path(os.path.relpath(folder))
    except ValueError:  # the two paths are on different drives
        return folder


def _test_file(root: Path, test: ReportedTest) -> Path | None:
    """Return the path of the test's file; None if there is no such file below ``root``."""
    path = PurePosixPath(test.file)
    if path.is_absolute() or PureWindowsPath(test.file).drive or ".." in path.parts:
        return None
    return root / path if is_test_file(root / path) else None


class _Acceptance:
    """Decides which tests of a report are accepted, and writes the accepted measurements to the baselines."""

    def __init__(self, root: Path, *, force: bool) -> None:
        self._root = root
        self._force = force
        #: Baseline file → its content.
        self._baselines: dict[Path, BaselineFile] = {}
        #: Test file → test id → name → measurement.
        self._accepted: dict[Path, dict[str, dict[str, Complexity]]] = {}
        self._lines: list[str] = []
        self._refused: list[str] = []
        self._kinds: Counter[str] = Counter()

    def consider(self, test: ReportedTest) -> None:
        """Accept or refuse the measurements of a test. A refusal is recorded with its reason."""
        from pytest_flopsbudget.storage import baseline

        test_file = _test_file(self._root, test)
        if test_file is None:
            self._refused.append(f"{test.nodeid}: there is no {test.file} below {self._root}")
            return
        test_id = split_nodeid(test.nodeid)[1]
        path = baseline_path(test_file)
        try:
            baseline.refuse_outside(path, self._root)
        except BaselineError as error:
            self._refused.append(f"{test.nodeid}: {error}")
            return
        if path not in self._baselines:
            self._baselines[path] = baseline.load(path)
        known = self._baselines[path].tests.get(test_id, {})
        reason = _own_reason(test) or ("" if self._force else _stale(test, known))
        if reason:
            self._refused.append(f"{test.nodeid}: {reason}")
            return
        from pytest_flopsbudget.results.verdict import to_accept

        measured = {measurement.name: to_accept(measurement) for measurement in test.measurements}
        changed = list(self._changes(test, known))
        if changed or known.keys() - measured.keys():
            self._accepted.setdefault(test_file, {})[test_id] = measured
        self._lines += changed

    def _changes(self, test: ReportedTest, known: Mapping[str, Complexity]) -> Iterator[str]:
        from pytest_flopsbudget.reports.law_changes import law_sentence
        from pytest_flopsbudget.reports.moved import NOT_HELD
        from pytest_flopsbudget.reports.wording import format_amount, format_change
        from pytest_flopsbudget.results.comparison import compare
        from pytest_flopsbudget.results.diff import metrics_to_show
        from pytest_flopsbudget.results.verdict import to_accept
        from pytest_flopsbudget.storage.baseline import as_stored

        for measurement in test.measurements:
            name = "" if len(test.measurements) == 1 else f" {measurement.name}"
            old = known.get(measurement.name)
            new = as_stored(to_accept(measurement), old)
            if old == new:
                self._kinds["unchanged"] += 1
                continue
            comparison = compare(old, new, {})
            kind = "new" if old is None else comparison.status if comparison.changes or comparison.laws else "changed"
            if kind == "moved" or (kind == "improved" and measurement.comparison.another_model):
                kind = "changed"
            self._kinds[kind] += 1
            shown_metrics = metrics_to_show({change.metric for change in comparison.changes})
            flops = f", {format_amount(new.flops, 'flops')}" if not shown_metrics and "flops" in new.metrics else ""
            yield f"{test.nodeid}{name}: {kind}{flops}"
            yield from (f"    {law_sentence(law)}" for law in comparison.laws)
            unjudged = {change.metric for change in measurement.comparison.changes if not change.judged}
            for change in comparison.changes:
                if change.metric in shown_metrics:
                    mark = f" {NOT_HELD}" if change.metric in unjudged else ""
                    yield f"    {change.metric}: {format_change(change.old, change.new, change.metric)}{mark}"

    def finish(self, output: Output, *, dry: bool) -> int:
        """Print the decisions, write the accepted measurements to the baselines, and return the exit code.

        If ``dry`` is true, no baseline is written.
        """
        from pytest_flopsbudget.storage import baseline

        for line in (*self._lines, *(f"not accepted: {refused}" for refused in self._refused)):
            output.line(output.screen.text(line))
        kinds = [kind for kind in ("regressed", "improved", "changed", "new", "unchanged") if self._kinds[kind]]
        counts = [f"{self._kinds[kind]:,} {kind}" for kind in kinds]
        if self._refused:
            counts.append(f"{len(self._refused):,} not accepted")
        output.line(", ".join(counts))
        errors = 0
        for test_file, measured in sorted(self._accepted.items()):
            path = baseline_path(test_file)
            if dry:
                output.line(f"baseline not written (--dry-run): {path}")
                continue
            try:
                # Somebody may have made a link since the report was read.
                baseline.refuse_outside(path, self._root)
                baseline.change(path, partial(baseline.update_entries, measured=measured))
            except BaselineError as error:
                errors += 1
                output.error(f"error: {error}")
            else:
                output.line(f"baseline written: {path}")
        return 2 if errors else 1 if self._refused else 0


def _own_reason(test: ReportedTest) -> str:
    """Return why a run with --flops-budget-update would not accept the test; "" if such a run would accept it."""
    from pytest_flopsbudget.reports.broken_limits import part_of, unmatched_pattern

    if test.own_failure or (test.outcome == "failed" and not test.fails):
        return "it failed for a reason other than its budget"
    for measurement in test.measurements:
        if measurement.broken:
            limits = dict.fromkeys(f"{item.metric}{part_of(item)}" for item in measurement.broken)
            words = "a limit is broken, and has" if len(limits) == 1 else "limits are broken, and have"
            return f"{words} to be changed first: {', '.join(limits)}"
        if measurement.unmatched:
            return unmatched_pattern(measurement.unmatched[0], measurement.complexity)
        if measurement.growth:
            from pytest_flopsbudget.reports.growth_laws import growth_sentence

            return f"a limit on its growth is broken: {growth_sentence(measurement.growth[0])}"
        if "unknown operators" in measurement.failing:
            return f"operators without a formula: {', '.join(measurement.complexity.unknown_operators)}"
    return ""


def _stale(test: ReportedTest, known: Mapping[str, Complexity]) -> str:
    """Return a message if the test's baseline has changed since the run that wrote the report; otherwise ""."""
    for measurement in test.measurements:
        old = known.get(measurement.name)
        if old is not None and not _was_seen(measurement, old):
            return "its baseline is no longer the one that the run saw; run it again, or give --force"
    return ""


def _was_seen(measurement: Verdict, baseline: Complexity) -> bool:
    """Return whether ``baseline`` is the baseline that the run saw, or has the costs that the run measured."""
    from pytest_flopsbudget.quantities.metrics import identifying_metrics
    from pytest_flopsbudget.results.comparison import before

    new = measurement.complexity.metrics
    if identifying_metrics(baseline.metrics) == identifying_metrics(new):
        return True
    if measurement.comparison.status == "new":
        return False
    then = before(measurement.comparison, new)
    return all(then.get(metric, value) == value for metric, value in identifying_metrics(baseline.metrics))
