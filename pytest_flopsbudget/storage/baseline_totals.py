"""Read the totals of a baseline file without modules and operators. The history reads hundreds of such files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from pytest_flopsbudget.quantities.metrics import Amount, identifying_metrics, value_of
from pytest_flopsbudget.results.law_data import Coefficient, LawPiece, MeasuredLaws, Sizes, StoredLaw
from pytest_flopsbudget.storage import baseline, baseline_document
from pytest_flopsbudget.storage.baseline_lines import flat

if TYPE_CHECKING:
    from pathlib import Path


class Totals(msgspec.Struct, frozen=True):
    """The totals of one measurement in a baseline."""

    model: str
    inputs: tuple[str, ...]
    metrics: dict[str, int]
    backward: bool = False
    #: The laws of the model, without those of modules; None if the measurement is of one size.
    laws: MeasuredLaws | None = None

    def value(self, metric: str) -> Amount | None:
        """Return the value of a metric, stored or derived; None if the metric was not measured."""
        return value_of(self.metrics, metric)

    @property
    def identity(self) -> object:
        """A key of the model, the inputs and the costs. Two measurements with equal keys are likely of one model."""
        return self.model, self.inputs, self.backward, identifying_metrics(self.metrics)


#: The totals of one baseline file: test id → name of the measurement → its totals.
Tests = dict[str, dict[str, Totals]]


class _Line(msgspec.Struct):
    """A line of a baseline file, without the fields that only lines of modules and operators have."""

    test: str = ""
    name: str = ""
    model: str | None = None
    inputs: tuple[str, ...] = ()
    backward: bool = False
    metrics: dict[str, int | dict[str, int]] | None = None
    sizes: dict[str, Sizes] = {}
    law: str | None = None
    module: str | None = None
    terms: dict[str, Coefficient] = {}


class _File(msgspec.Struct):
    format: int
    lines: list[_Line] = []


_DECODER = msgspec.json.Decoder(_File)


def read_totals(data: bytes, path: Path) -> Tests:
    """Read the totals in ``data``, the content of the file ``path``. Messages name this file.

    Raises:
        BaselineError: the text cannot be read; see `baseline.loads`.
    """
    try:
        file = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        file = None
    tests = _gather(file.lines) if file is not None and file.format == baseline_document.FORMAT else None
    if tests is not None:
        return tests
    # A file of another format or with a fault is read by the strict reader, which reports the fault.
    strictly = baseline.loads(data.decode("utf-8", "surrogateescape"), path).tests
    return {
        test_id: {
            name: Totals(entry.model, entry.inputs, entry.metrics, entry.backward, _of_model(entry.laws))
            for name, entry in entries.items()
        }
        for test_id, entries in strictly.items()
    }


class _Laws:
    """The lines of the laws of one entry. Laws of modules are left out."""

    def __init__(self) -> None:
        self._sizes: dict[str, Sizes] = {}
        self._contradicts = False
        self._pieces: dict[str, list[LawPiece]] = {}

    def add(self, line: _Line) -> None:
        if line.law is None:
            self._contradicts |= bool(self._sizes) and self._sizes != line.sizes
            self._sizes = line.sizes
        elif line.module is None:
            piece = LawPiece(sizes=line.sizes, terms=line.terms)
            pieces = self._pieces.setdefault(line.law, [])
            if piece not in pieces:
                pieces.append(piece)

    def made(self) -> MeasuredLaws:
        metrics = {metric: StoredLaw(pieces=tuple(pieces)) for metric, pieces in self._pieces.items()}
        return MeasuredLaws(sizes=self._sizes, metrics=metrics)

    @property
    def damaged(self) -> bool:
        """Whether two lines contradict each other, a line is missing, or a term cannot be read."""
        laws = self.made()
        try:
            for metric in laws.metrics:
                laws.law(metric)
        except (ValueError, KeyError):
            return True
        return self._contradicts or not self._sizes


def _gather(lines: list[_Line]) -> Tests | None:
    """Return the totals; None if two lines contradict each other or a line is missing."""
    runs: dict[tuple[str, str], _Line] = {}
    metrics: dict[tuple[str, str], dict[str, int | dict[str, int]]] = {}
    laws: dict[tuple[str, str], _Laws] = {}
    for line in lines:
        key = line.test, line.name
        if line.model is not None and runs.setdefault(key, line) != line:
            return None
        if line.metrics is not None and metrics.setdefault(key, line.metrics) != line.metrics:
            return None
        if line.law is not None or line.sizes:
            laws.setdefault(key, _Laws()).add(line)
    if runs.keys() != metrics.keys() or any(found.damaged for found in laws.values()):
        return None
    tests: Tests = {}
    for (test_id, name), run in runs.items():
        values = flat(metrics[test_id, name])
        found = laws[test_id, name].made() if (test_id, name) in laws else None
        tests.setdefault(test_id, {})[name] = Totals(run.model or "", run.inputs, values, run.backward, found)
    return tests


def _of_model(laws: MeasuredLaws | None) -> MeasuredLaws | None:
    return None if laws is None else msgspec.structs.replace(laws, modules={})
