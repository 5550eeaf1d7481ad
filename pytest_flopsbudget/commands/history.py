"""``history PATTERN``: show the values of a test in its baseline, commit by commit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands import git
from pytest_flopsbudget.errors import BaselineError, UsageError
from pytest_flopsbudget.identifiers import file_of_baseline, is_baseline, match_nodeids, near_nodeids
from pytest_flopsbudget.quantities.metrics import METRICS, base_of, is_key, key_for
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.safe_text import visible
from pytest_flopsbudget.storage import baseline_document
from pytest_flopsbudget.storage.baseline_totals import read_totals
from pytest_flopsbudget.storage.history import Revision, Step, trace

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_flopsbudget.commands.console import Output
    from pytest_flopsbudget.storage.baseline_totals import Tests
    from pytest_flopsbudget.storage.history import Series

SUMMARY = "show a test's cost over the commits of its baseline"
DESCRIPTION = """\
Read the history of baselines from git, and show a chart and a table of each measurement that PATTERN matches. PATTERN
is a node id, a file, class or function, a part of a node id, or a pattern with * and ?. Renamed tests and moved files
are followed. A merge is shown as one change to the branch that is checked out.
"""
EXAMPLES = """\
examples:
  flopsbudget history tests/test_net.py::test_net
  flopsbudget history resnet --metric macs --limit 5
  flopsbudget history            show one line for each measurement
"""

#: If the pattern matches at most this many measurements, each one gets a chart. Otherwise, each one gets a line.
_MAX_CHARTS = 5
#: The default of --limit.
_ROWS = 20
_NOT_COMMITTED = Revision("-", "", "(not committed)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command ``history`` to ``parser``."""
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*", help="the tests to show; all by default")
    parser.add_argument(
        "--metric", type=_metric, default="flops", metavar="METRIC", help="the metric to show; flops by default"
    )
    parser.add_argument("--all", action="store_true", help="include commits that did not change the value")
    parser.add_argument(
        "--limit",
        type=_limit,
        default=_ROWS,
        metavar="N",
        help=f"show the newest N rows; {_ROWS} by default, 0 for all",
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Show the history of the chosen measurements.

    Raises:
        UsageError: git or a repository is missing, or the pattern matches no test in any commit.
    """
    from pytest_flopsbudget.reports.terminal import history as shown

    here = Path.cwd()
    repository = git.Repository(here)
    series = trace(read_steps(repository, here, output))
    chosen = _chosen(series, arguments.pattern)
    if repository.shallow:
        output.error(f"the history is incomplete: {git.HOW_TO_DEEPEN}")
    if len(chosen) > _MAX_CHARTS:
        output.lines(shown.overview(chosen, arguments.metric, output.screen))
        return 0
    for number, one in enumerate(chosen):
        points = one.points if arguments.all else one.changes({arguments.metric, "params"})
        if number:
            output.line()
        output.lines(shown.series_lines(one, points, arguments.metric, output.screen, limit=arguments.limit))
    return 0


def _metric(text: str) -> str:
    per = METRICS[text].per if text in METRICS else None
    if per:
        example = key_for(text, "A100" if per == "device" else "machine")
        raise argparse.ArgumentTypeError(f"{text!r} has a value for each {per}; name one, like {example}")
    if not is_key(text):
        near_one = nearest_spelling(base_of(text), METRICS)
        hint = f"did you mean {near_one}? " if near_one else ""
        raise argparse.ArgumentTypeError(f"no metric {text!r}; {hint}There are {', '.join(METRICS)}")
    if not METRICS[base_of(text)].in_baselines:
        raise argparse.ArgumentTypeError(f"{text!r} is in no baseline; name a metric that is, such as flops or params")
    return text


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows; write 20, or 0 for all")
    return int(text[:9])


def read_steps(repository: git.Repository, folder: Path, output: Output) -> Iterator[Step]:
    """Yield the commits that changed baselines, then the uncommitted changes. The oldest commit is first.

    Args:
        repository: the repository.
        folder: the folder whose baselines are read, and those below it.
        output: receives a note for each baseline that cannot be read.
    """
    commits = list(repository.log())
    pending: dict[str, str] = {}
    with repository.objects() as objects:
        for commit in reversed(commits):
            files: dict[str, Tests] = {}
            moved = pending | {new: old for new, old in commit.moved.items() if is_baseline(old)}
            for path, name in commit.files.items():
                if not is_baseline(path) or path in moved.values():
                    continue
                place = f"{commit.short}:{path}"
                tests = {} if name is None else _read(objects.read(name), place, output)
                if tests is None:
                    continue
                files[file_of_baseline(path)] = tests
            # If the new file cannot be read, the move is applied at the next commit with a readable file.
            made = {new: old for new, old in moved.items() if file_of_baseline(new) in files}
            pending = {new: old for new, old in moved.items() if new not in made}
            files |= {file_of_baseline(old): {} for old in made.values() if file_of_baseline(old) not in files}
            names = {file_of_baseline(new): file_of_baseline(old) for new, old in made.items()}
            yield Step(Revision(commit.short, commit.date, visible(commit.subject)), files, names)
    changed: dict[str, Tests] = {}
    for path in filter(is_baseline, repository.uncommitted()):
        tests = _read_file(folder / path, path, output)
        if tests is not None:
            changed[file_of_baseline(path)] = tests
    if changed:
        yield Step(_NOT_COMMITTED, changed)


def _read(data: bytes, place: str, output: Output) -> Tests | None:
    """Return the totals of a baseline. If ``data`` cannot be read, write a note to ``output`` and return None."""
    try:
        return read_totals(data, Path(place))
    except BaselineError as error:
        output.error(f"skipped: {str(error).removesuffix(baseline_document.REMEDY).rstrip()}")
        return None


def _read_file(file: Path, path: str, output: Output) -> Tests | None:
    try:
        return _read(file.read_bytes(), path, output)
    except FileNotFoundError:
        return {}
    except OSError as error:
        output.error(f"skipped: {path}: cannot be read: {error.strerror}")
        return None


def _chosen(series: Sequence[Series], pattern: str) -> list[Series]:
    """Return the histories of the tests that ``pattern`` matches.

    Removed tests are searched only if no existing test matches. Former names of tests are searched last.
    """
    for known in ([one for one in series if one.lives], series):
        nodeids = set(match_nodeids(dict.fromkeys(one.address.nodeid for one in known), pattern))
        if nodeids:
            return [one for one in known if one.address.nodeid in nodeids]
    former = match_nodeids(dict.fromkeys(nodeid for one in series for nodeid in one.nodeids), pattern)
    chosen = [one for one in series if not one.nodeids.isdisjoint(former)]
    if chosen:
        return chosen
    if not series:
        raise UsageError("no commit has a baseline below this folder; write one with pytest --flops-budget-update")
    raise UsageError(f"no test matches {pattern!r}; {near_nodeids(pattern, [one.address.nodeid for one in series])}")
