"""The end of the summary: what the run wrote to baseline files, and which steps are left for the user."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.wording import prune_command, rename_command
from pytest_flopsbudget.safe_text import pluralize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from pytest_flopsbudget.results.verdict import UpdateMode
    from pytest_flopsbudget.storage.run_record import Entry, RunRecord


#: The maximum number of entries that are named, unless the user asks for more with -v.
_MAX_NAMES = 10


def baseline_notes(  # noqa: PLR0913 -- what was measured, and how it is shown
    run_record: RunRecord,
    *,
    accepts: UpdateMode | bool,
    verbosity: int,
    shown_path: Callable[[Path], str],
    shown_nodeid: Callable[[str], str],
    paths: Sequence[str] = (),
) -> Iterator[str]:
    """Yield the lines on written baselines, and on the steps that are left for the user.

    Args:
        run_record: the record of what the run measured and wrote.
        accepts: which measurements the run accepts: all (True), none (False), or some.
        verbosity: pytest's verbosity. Below 0, the steps that are left are only counted. Above 0, all steps are
            named.
        shown_path: returns the text for a file.
        shown_nodeid: returns the text for a node id, as the user would type it in the folder where pytest was started.
        paths: the files and folders on the command line. Suggested commands repeat them.
    """
    for path in run_record.written:
        yield f"baseline written: {shown_path(path)}: {_in_words(run_record.accepted[path])}"
    if accepts and not run_record.written and not run_record.errors:
        untouched = sum(run_record.accepted.values(), Counter())
        yield f"nothing to write: {_in_words(untouched)}" if untouched else "nothing to write"
    if accepts:
        yield from _left_out(run_record.left_out(None if accepts is True else accepts), verbosity, shown_nodeid)
    for path, gone in groupby(run_record.pruned, key=lambda orphan: orphan.path):
        yield f"baseline pruned: {shown_path(path)}: {', '.join(shown_nodeid(orphan.nodeid) for orphan in gone)}"
    renames = run_record.renames()
    pruned = {orphan.nodeid for orphan in run_record.pruned}
    left = [
        orphan.nodeid for orphan in run_record.orphans if orphan.nodeid not in renames and orphan.nodeid not in pruned
    ]
    if left:
        entries = "1 baseline entry" if len(left) == 1 else f"{len(left):,} baseline entries"
        yield f"{entries} without a test; to remove: {prune_command(*paths)}"
        yield from _named(map(shown_nodeid, left), verbosity)
    if renames:
        shown = f"{pluralize(len(renames), 'test')} likely renamed, at the same cost"
        yield f"{shown}; to move the baseline:" if verbosity >= 0 else shown
        commands = (rename_command(shown_nodeid(old), shown_nodeid(new)) for old, new in renames.items())
        yield from _named(commands, verbosity)


def _left_out(entries: Sequence[Entry], verbosity: int, shown_nodeid: Callable[[str], str]) -> Iterator[str]:
    """Yield the number and the names of the tests that the update left out because they did not pass."""
    if entries:
        yield f"not written, because {'it' if len(entries) == 1 else 'they'} failed: {pluralize(len(entries), 'test')}"
        yield from _named((f"{shown_nodeid(entry.nodeid)}: {_why(entry)}" for entry in entries), verbosity)


def _why(entry: Entry) -> str:
    outcomes = [verdict.outcome for verdict in entry.verdicts if verdict.fails]
    reasons = ["failed for a reason other than its budget"] if entry.own_failure or not outcomes else []
    why = ", ".join(dict.fromkeys([*outcomes, *reasons]))
    return f"{why}; edit the limit first" if why == "over limit" else why


def _in_words(counts: Counter[str]) -> str:
    return ", ".join(f"{number:,} {outcome}" for outcome, number in counts.items())


def _named(lines: Iterable[str], verbosity: int) -> Iterator[str]:
    if verbosity < 0:
        return
    names = list(lines)
    maximum = len(names) if verbosity > 0 else _MAX_NAMES
    yield from (f"    {name}" for name in names[:maximum])
    if names[maximum:]:
        yield f"    and {len(names) - maximum:,} more, which -v shows"
