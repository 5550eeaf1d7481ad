"""The end of the summary: what the run wrote to baseline files, and what the user should do next."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_flopsbudget.reports.wording import pluralize, rename_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from pytest_flopsbudget.storage.run_record import RunRecord


#: Maximum number of entries that are named, unless the user asks for more with -v.
_MAX_NAMES = 10


def baseline_notes(
    run_record: RunRecord,
    *,
    updates: bool,
    verbosity: int,
    shown_path: Callable[[Path], str],
    shown_nodeid: Callable[[str], str],
) -> Iterator[str]:
    """Yield the lines.

    Args:
        run_record: what the run measured and wrote.
        updates: whether the run was to write baselines.
        verbosity: pytest's verbosity: below 0, remaining work is counted and not named; above 0, all of it is named.
        shown_path: returns the text for a file.
        shown_nodeid: returns the text for a node id, as the user types it in the folder where pytest was started.
    """
    for path in run_record.written:
        yield f"baseline written: {shown_path(path)}: {_in_words(run_record.accepted[path])}"
    if updates and not run_record.written and not run_record.errors:
        untouched = sum(run_record.accepted.values(), Counter())
        yield f"nothing to write: {_in_words(untouched)}" if untouched else "nothing to write"
    for path, gone in groupby(run_record.pruned, key=lambda orphan: orphan.path):
        yield f"baseline pruned: {shown_path(path)}: {', '.join(shown_nodeid(orphan.nodeid) for orphan in gone)}"
    renames = run_record.renames()
    pruned = {orphan.nodeid for orphan in run_record.pruned}
    left = [
        orphan.nodeid for orphan in run_record.orphans if orphan.nodeid not in renames and orphan.nodeid not in pruned
    ]
    if left:
        entries = "1 baseline entry" if len(left) == 1 else f"{len(left):,} baseline entries"
        yield f"{entries} without a test; to remove: pytest --flops-budget-prune"
        yield from _named(map(shown_nodeid, left), verbosity)
    if renames:
        shown = f"{pluralize(len(renames), 'test')} likely renamed, at the same cost"
        yield f"{shown}; to move the baseline:" if verbosity >= 0 else shown
        commands = (rename_command(shown_nodeid(old), shown_nodeid(new)) for old, new in renames.items())
        yield from _named(commands, verbosity)


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
