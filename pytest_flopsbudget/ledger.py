"""What a whole run measured, test by test, and what of it becomes the new baseline. Knows files, but not pytest."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.results.baseline import baseline_path, change, load, split_nodeid, updated
from pytest_flopsbudget.results.fold import natural_key
from pytest_flopsbudget.results.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_flopsbudget.results.baseline import BaselineFile
    from pytest_flopsbudget.results.complexity import Complexity


class Baselines:
    """Baseline files, each read once a run.

    Args:
        torn: Whether they may hold entries that a merge has torn, which then are as if they were not there: the run
            writes them anew.
    """

    def __init__(self, *, torn: bool = False) -> None:
        self._torn = torn
        self._files: dict[Path, BaselineFile] = {}

    def file(self, test_file: Path) -> BaselineFile:
        """The baseline beside ``test_file``, empty where there is none.

        Raises:
            BaselineError: it cannot be read.
        """
        path = baseline_path(test_file)
        if path not in self._files:
            self._files[path] = load(path, torn=self._torn)
        return self._files[path]

    def entries(self, test_file: Path, nodeid: str) -> Mapping[str, Complexity]:
        """Name of the measurement → its baseline, for one test."""
        return self.file(test_file).tests.get(split_nodeid(nodeid)[1], {})


@dataclass
class Entry:
    """One test of the run."""

    nodeid: str
    test_file: Path
    #: Where it stands in its file.
    line: int
    verdicts: tuple[Verdict, ...]
    #: Names in its baseline that it did not measure.
    vanished: tuple[str, ...]
    #: Whether all phases of the test passed so far.
    passed: bool

    @property
    def needs_attention(self) -> bool:
        """Whether there is more to say than that all is well."""
        return bool(self.vanished) or any(verdict.outcome != "ok" for verdict in self.verdicts)

    def fail(self) -> None:
        """The test did not pass: nothing that it measured is accepted."""
        self.passed = False
        self.verdicts = tuple(msgspec.structs.replace(verdict, accepted=False) for verdict in self.verdicts)


class Ledger:
    """Collects the verdicts of a run. A test that is run again replaces what its earlier attempt measured."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        #: What went wrong while writing, for the summary.
        self.errors: list[str] = []
        #: Baseline files that were written.
        self.written: list[Path] = []

    def record(self, key: str, data: Mapping[str, Any], *, passed: bool) -> None:
        """Take over what `packed` made of a test's verdicts.

        Args:
            key: the node id that the test's reports carry.
            data: the packed verdicts.
            passed: whether the test's phases passed so far.
        """
        self._entries[key] = entry = Entry(
            nodeid=data["nodeid"],
            test_file=Path(data["file"]),
            line=data["line"],
            verdicts=msgspec.convert(data["verdicts"], tuple[Verdict, ...]),
            vanished=tuple(data["vanished"]),
            passed=passed,
        )
        if not passed:
            entry.fail()

    def forget(self, key: str) -> None:
        """The test starts again."""
        self._entries.pop(key, None)

    def fail(self, key: str) -> None:
        """A later phase of the test did not pass."""
        if key in self._entries:
            self._entries[key].fail()

    def __iter__(self) -> Iterator[Entry]:
        """The tests as they stand in their files, whatever order they ran in."""

        def place(entry: Entry) -> tuple[object, ...]:
            return split_nodeid(entry.nodeid)[0], entry.line, natural_key(entry.nodeid)

        return iter(sorted(self._entries.values(), key=place))

    def __len__(self) -> int:
        return len(self._entries)

    def update(self) -> None:
        """Write the measurements of the tests that passed to their baselines; all other entries stay."""
        by_file: dict[Path, dict[str, dict[str, Complexity]]] = {}
        for entry in self:
            # A test that passed without measuring anything may have had no reason to this time.
            if entry.passed and entry.verdicts:
                test_id = split_nodeid(entry.nodeid)[1]
                by_file.setdefault(entry.test_file, {})[test_id] = {
                    verdict.name: verdict.complexity for verdict in entry.verdicts
                }
        for test_file, measured in sorted(by_file.items()):
            path = baseline_path(test_file)
            try:
                if change(path, partial(updated, measured=measured)):
                    self.written.append(path)
            except BaselineError as error:
                self.errors.append(str(error))


def packed(
    nodeid: str, test_file: Path, line: int, verdicts: Sequence[Verdict], vanished: Sequence[str]
) -> dict[str, Any]:
    """What a test report carries: plain builtins, which reach another process."""
    return {
        "nodeid": nodeid,
        "file": str(test_file),
        "line": line,
        "verdicts": msgspec.to_builtins(tuple(verdicts)),
        "vanished": list(vanished),
    }
