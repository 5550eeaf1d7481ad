"""``history PATTERN``: what the baseline said of a test, commit by commit."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_flopsbudget.commands import git
from pytest_flopsbudget.errors import BaselineError, UsageError
from pytest_flopsbudget.identifiers import file_of_baseline, is_baseline, match_nodeids, near_nodeids
from pytest_flopsbudget.quantities.metrics import METRICS, base_of, is_key, key_for
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.reports.wording import visible
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
Read the past of baselines from git, and show a chart and a table of each measurement that PATTERN names: a node id, the
file, class or function that it belongs to, a pattern with * and ?, or a part of it. Renamed tests and moved files are
followed. Of merges it is what they brought to the branch that is checked out.
"""
EXAMPLES = """\
examples:
  python -m pytest_flopsbudget history tests/test_net.py::test_net
  python -m pytest_flopsbudget history resnet --metric macs --limit 5
  python -m pytest_flopsbudget history            one line for each measurement
"""

#: So many measurements get a chart each; more of them a line each.
_MAX_CHARTS = 5
#: Rows of a table, unless --limit says otherwise.
_ROWS = 20
_NOT_COMMITTED = Revision("-", "", "(not committed)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what the command takes."""
    parser.add_argument("pattern", metavar="PATTERN", nargs="?", default="*", help="which tests; all if it is left out")
    parser.add_argument(
        "--metric", type=_metric, default="flops", metavar="METRIC", help="what to show; flops if it is left out"
    )
    parser.add_argument("--all", action="store_true", help="also the commits that left the value as it was")
    parser.add_argument(
        "--limit", type=_limit, default=_ROWS, metavar="N", help=f"the newest N rows; {_ROWS} if left out, 0 for all"
    )


def run(arguments: argparse.Namespace, output: Output) -> int:
    """Show the past.

    Raises:
        UsageError: no git, no repository, or no such test in any commit.
    """
    from pytest_flopsbudget.reports.terminal import history as shown  # noqa: PLC0415 -- brings rich, which errors do without

    here = Path.cwd()
    repository = git.Repository(here)
    series = trace(_steps(repository, here, output))
    chosen = _chosen(series, arguments.pattern)
    if repository.shallow:
        output.error("the clone is shallow, and so is its past; git fetch --unshallow brings the rest")
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
    return text


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of rows; write 20, or 0 for all")
    return int(text[:9])


def _steps(repository: git.Repository, folder: Path, output: Output) -> Iterator[Step]:
    """The commits that changed baselines, oldest first, and what is not committed yet."""
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
            # A move to a file that cannot be read is made once it can be.
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
    """The totals of a baseline; None where it cannot be read, which is told."""
    try:
        return read_totals(data, Path(place))
    except BaselineError as error:
        output.error(f"passed over: {str(error).removesuffix(baseline_document.REMEDY).rstrip()}")
        return None


def _read_file(file: Path, path: str, output: Output) -> Tests | None:
    try:
        return _read(file.read_bytes(), path, output)
    except FileNotFoundError:
        return {}
    except OSError as error:
        output.error(f"passed over: {path}: cannot be read: {error.strerror}")
        return None


def _chosen(series: Sequence[Series], pattern: str) -> list[Series]:
    """What ``pattern`` means among the tests that there are, or else among those that there were."""
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
