"""Record the measurements of a run, test by test, and write them to baselines. This module does not need pytest."""

from __future__ import annotations

import marshal
import zlib
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.identifiers import baseline_path, split_nodeid
from pytest_flopsbudget.results.folding import natural_key
from pytest_flopsbudget.results.identity import find_neighbours
from pytest_flopsbudget.results.renames import find_renames
from pytest_flopsbudget.results.sharing import SharedParts
from pytest_flopsbudget.results.verdict import Verdict, is_accepted, refuse, to_accept, would_pass
from pytest_flopsbudget.storage.baseline import BaselineFile, as_stored, change, load, refuse_outside, update_entries
from pytest_flopsbudget.storage.orphans import find_orphans

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from pytest_flopsbudget.results.comparison import Comparison, Status
    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.report import Report
    from pytest_flopsbudget.results.verdict import UpdateMode
    from pytest_flopsbudget.storage.orphans import Orphan


class Baselines:
    """The baseline files of a run. Each file is read once.

    Args:
        torn: Whether the files may contain torn entries, which a merge left. Torn entries count as missing, and the run
            writes them again.
    """

    def __init__(self, *, torn: bool = False) -> None:
        self._torn = torn
        self._files: dict[Path, BaselineFile] = {}
        #: The revision whose measurements take the place of the baseline files; empty if the files are read.
        self.revision = ""

    def file(self, test_file: Path) -> BaselineFile:
        """Return the baseline beside ``test_file``. If there is no such file, the baseline is empty.

        Raises:
            BaselineError: the file cannot be read.
        """
        path = baseline_path(test_file)
        if path not in self._files:
            self._files[path] = load(path, torn=self._torn)
        return self._files[path]

    def entries(self, test_file: Path, nodeid: str) -> Mapping[str, Complexity]:
        """Return name of the measurement → its baseline, for one test."""
        return self.file(test_file).tests.get(split_nodeid(nodeid)[1], {})

    def neighbours(self, test_file: Path, nodeid: str, name: str) -> Callable[[], Mapping[str, Complexity]] | None:
        """Return a function that finds baseline entries with other ids, or None: see `find_neighbours`."""
        return find_neighbours(self.file(test_file).tests, split_nodeid(nodeid)[1], name)


class MeasuredBaselines(Baselines):
    """The measurements of a report take the place of all baseline files.

    Args:
        report: the report of a run at another revision.
        root: pytest's root folder of this run.
        revision: the name of the revision.
    """

    def __init__(self, report: Report, root: Path, revision: str) -> None:
        super().__init__()
        self.revision = revision
        tests: dict[Path, dict[str, dict[str, Complexity]]] = {}
        for test in report.tests:
            measured = {one.name: as_stored(to_accept(one), None) for one in test.measurements}
            tests.setdefault(baseline_path(root / test.file), {})[split_nodeid(test.nodeid)[1]] = measured
        self._files = {path: BaselineFile(path, named) for path, named in tests.items()}

    def file(self, test_file: Path) -> BaselineFile:
        """Return the measurements of a test file."""
        path = baseline_path(test_file)
        return self._files.get(path) or BaselineFile(path, {})


@dataclass
class Entry:
    """One test of the run, with its measurements."""

    nodeid: str
    test_file: Path
    #: The line of the test in its file, from 0.
    line: int
    #: The verdicts without modules and operators.
    verdicts: tuple[Verdict, ...]
    #: The complete verdicts, packed. They are packed because the tree of a large model takes megabytes, and there may
    #: be thousands of tests.
    packed_verdicts: bytes
    #: Names of measurements that the baseline holds and that the test did not make.
    vanished: tuple[str, ...]
    #: The seconds that the measurements took.
    seconds: float
    #: Whether all phases of the test passed so far.
    passed: bool
    #: Whether the test failed for a reason other than its budget. It may have failed for its budget too.
    own_failure: bool = False

    @classmethod
    def from_builtins(cls, data: Mapping[str, Any], *, passed: bool) -> Entry:
        """Make an entry from ``data``, the return value of `pack_verdicts`."""
        entry = cls(
            nodeid=data["nodeid"],
            test_file=Path(data["file"]),
            line=data["line"],
            verdicts=msgspec.convert([*map(_without_parts, data["verdicts"])], tuple[Verdict, ...]),
            packed_verdicts=zlib.compress(marshal.dumps(data["verdicts"]), 1),
            vanished=tuple(data["vanished"]),
            seconds=data["seconds"],
            passed=passed,
            own_failure=data.get("own_failure", False),
        )
        if not passed:
            entry.fail()
        return entry

    @property
    def needs_attention(self) -> bool:
        """Return whether even a quiet summary should list the test."""
        return bool(self.vanished) or any(verdict.outcome != "ok" for verdict in self.verdicts)

    def would_pass(self, accepts: UpdateMode | Literal[True] = True) -> bool:
        """Return whether the test would pass in a run that accepts all measurements (True) or some of them."""
        return not self.own_failure and would_pass(self.verdicts, accepts)

    def fail(self) -> None:
        """Note that the test did not pass: none of its measurements is accepted."""
        self.passed = False
        self.verdicts = tuple(map(refuse, self.verdicts))

    def unpack_verdicts(self) -> tuple[Verdict, ...]:
        """Return the verdicts, complete with modules and operators."""
        data = marshal.loads(zlib.decompress(self.packed_verdicts))  # noqa: S302 -- what this process packed itself
        verdicts = unpack_verdicts({"verdicts": data})
        return verdicts if self.passed else tuple(map(refuse, verdicts))


def _without_parts(verdict: dict[str, Any]) -> dict[str, Any]:
    complexity = verdict["complexity"]
    root = {path: module for path, module in complexity["modules"].items() if not path}
    return {**verdict, "complexity": {**complexity, "modules": root, "operators": {}, "laws": None}}


class RunRecord:
    """Collects the verdicts of a run. If a test runs again, its new measurements replace its old ones.

    Args:
        root: the folder of the project. Baselines are not written through symbolic links to places outside of this
            folder. None allows every link.
    """

    def __init__(self, root: Path | None = None) -> None:
        self._root = root
        self._entries: dict[str, Entry] = {}
        #: Errors while writing, for the summary.
        self.errors: list[str] = []
        #: Baseline files that were written.
        self.written: list[Path] = []
        #: Baseline file → outcome of an update, in words → number of entries with this outcome.
        self.accepted: dict[Path, Counter[str]] = {}
        #: Orphans (entries without a test) that a complete run found.
        self.orphans: list[Orphan] = []
        #: The orphans that were removed.
        self.pruned: list[Orphan] = []

    def record(self, key: str, data: Mapping[str, Any], *, passed: bool) -> None:
        """Record the verdicts of a test.

        Args:
            key: the node id in the test's reports.
            data: the verdicts, packed by `pack_verdicts`.
            passed: whether the test's phases passed so far.
        """
        self._entries[key] = Entry.from_builtins(data, passed=passed)

    def forget(self, key: str) -> None:
        """Drop the measurements of a test that is run again."""
        self._entries.pop(key, None)

    def fail(self, key: str) -> None:
        """Record that a later phase of the test did not pass."""
        if key in self._entries:
            self._entries[key].fail()
            self._entries[key].own_failure = True

    def __iter__(self) -> Iterator[Entry]:
        """Iterate over the tests, sorted by file and line."""

        def place(entry: Entry) -> tuple[object, ...]:
            return split_nodeid(entry.nodeid)[0], entry.line, natural_key(entry.nodeid)

        return iter(sorted(self._entries.values(), key=place))

    def __len__(self) -> int:
        return len(self._entries)

    def update(self, update_mode: UpdateMode | None = None) -> None:
        """Write the accepted measurements of tests that passed to their baselines. Other tests keep their entries.

        Args:
            update_mode: write only new or only improved measurements; None for all. With None, entries that a test no
                longer measures are removed.
        """
        by_file: dict[Path, list[Entry]] = {}
        for entry in self:
            # A test that passed without any measurement may measure again in another run, so its entries stay.
            if entry.passed and any(verdict.accepted for verdict in entry.verdicts):
                by_file.setdefault(baseline_path(entry.test_file), []).append(entry)
        for path, entries in sorted(by_file.items()):
            with self._errors_gathered():
                self._refuse_outside(path)
                if change(path, partial(_with_accepted, entries=entries, update_mode=update_mode)):
                    self.written.append(path)
                self.accepted[path] = _outcomes(entries, update_mode)

    def left_out(self, update_mode: UpdateMode | None = None) -> list[Entry]:
        """Return the tests whose measurements an update would have written if the tests had passed."""
        return [
            entry
            for entry in self
            if not entry.passed
            and any(
                _differs(verdict.comparison) and is_accepted(verdict.comparison, update_mode or True)
                for verdict in entry.verdicts
            )
        ]

    def find_orphans(
        self, tests: Mapping[Path, tuple[str, Collection[str]]], without_test_file: Mapping[Path, str]
    ) -> None:
        """Find the baseline entries whose test does not exist any more.

        Args:
            tests: Test file → its node id, and the ids of all tests in the file.
            without_test_file: Baseline file without a test file beside it → the node id of the missing test file.
        """
        places = {baseline_path(test_file): place for test_file, place in tests.items()}
        places |= {path: (nodeid, ()) for path, nodeid in without_test_file.items()}
        for path, (nodeid, collected) in sorted(places.items()):
            with self._errors_gathered():
                self.orphans += find_orphans(load(path), nodeid, collected)

    def renames(self) -> dict[str, str]:
        """Return node id of an orphan → node id of its likely new test.

        A new test that gets a baseline in this run is not considered.
        """
        gone = {orphan.nodeid: orphan.entries for orphan in self.orphans}
        new = {
            entry.nodeid: {verdict.name: verdict.complexity for verdict in entry.verdicts}
            for entry in self
            if entry.verdicts
            and all(verdict.comparison.status == "new" and not verdict.accepted for verdict in entry.verdicts)
        }
        return find_renames(gone, new)

    def prune(self) -> None:
        """Remove the orphans (entries without a test) from the baselines. Orphans that were likely renamed stay."""
        renames = self.renames()
        by_file: dict[Path, list[Orphan]] = {}
        for orphan in self.orphans:
            if orphan.nodeid not in renames:
                by_file.setdefault(orphan.path, []).append(orphan)
        for path, gone in by_file.items():
            with self._errors_gathered():
                self._refuse_outside(path)
                change(path, partial(_without, gone={split_nodeid(orphan.nodeid)[1] for orphan in gone}))
                self.pruned += gone

    def _refuse_outside(self, path: Path) -> None:
        # The user named this test file outside of the project. Its baseline is beside it.
        if self._root is not None and path.is_relative_to(self._root):
            refuse_outside(path, self._root)

    @contextmanager
    def _errors_gathered(self) -> Iterator[None]:
        """Catch a `BaselineError` of the block and keep its text for the summary. The run then goes on."""
        try:
            yield
        except BaselineError as error:
            if str(error) not in self.errors:
                self.errors.append(str(error))


def _with_accepted(file: BaselineFile, entries: Sequence[Entry], update_mode: UpdateMode | None) -> BaselineFile:
    # The entries of all tests in the file are held until its text is complete. Equal parts of them are one object.
    parts = SharedParts()
    measured: dict[str, dict[str, Complexity]] = {}
    for entry in entries:
        test_id = split_nodeid(entry.nodeid)[1]
        others = {} if update_mode is None else file.tests.get(test_id, {})
        measured[test_id] = others | {
            verdict.name: parts.share(as_stored(to_accept(verdict), None))
            for verdict in entry.unpack_verdicts()
            if verdict.accepted
        }
    return update_entries(file, measured)


def _differs(comparison: Comparison) -> bool:
    """Return whether an update would change the baseline entry."""
    run = (
        comparison.inputs_changed
        or comparison.range_changed
        or comparison.execution_changed
        or comparison.backward_changed
        or comparison.pytorch_changed
    )
    return bool(comparison.status != "unchanged" or comparison.parts or comparison.vanished or run)


def _without(file: BaselineFile, gone: Collection[str]) -> BaselineFile:
    return replace(file, tests={test_id: names for test_id, names in file.tests.items() if test_id not in gone})


#: Outcomes of an update, in the order in which the summary names them.
_IN_WORDS: dict[Status, str] = {
    "new": "new",
    "regressed": "regressed",
    "within": "grown within tolerance",
    "improved": "improved",
    "changed": "changed",
    "moved": "moved in metrics that are not judged",
    "unchanged": "unchanged",
}


def _outcomes(entries: Sequence[Entry], update_mode: UpdateMode | None) -> Counter[str]:
    verdicts = [verdict for entry in entries for verdict in entry.verdicts if verdict.accepted]
    by_status = Counter(verdict.comparison.status for verdict in verdicts)
    counts = Counter({words: by_status[status] for status, words in _IN_WORDS.items()})
    if update_mode is None:
        counts["no longer measured"] = sum(len(entry.vanished) for entry in entries)
    return +counts


def pack_verdicts(  # noqa: PLR0913 -- what a test's report carries
    nodeid: str,
    test_file: Path,
    line: int,
    verdicts: Sequence[Verdict],
    vanished: Sequence[str],
    *,
    seconds: float = 0.0,
) -> dict[str, Any]:
    """Pack verdicts for a test report, as plain builtins. Plain builtins can be sent to another process.

    ``vanished`` has the names of measurements that only the baseline contains. ``seconds`` is the time of measuring.
    """
    return {
        "nodeid": nodeid,
        "file": str(test_file),
        "line": line,
        "verdicts": msgspec.to_builtins(tuple(verdicts)),
        "vanished": list(vanished),
        "seconds": seconds,
    }


def unpack_verdicts(data: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Return the complete verdicts in ``data``, the return value of `pack_verdicts`."""
    return msgspec.convert(data["verdicts"], tuple[Verdict, ...])
