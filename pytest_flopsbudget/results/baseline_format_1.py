"""Baseline files of format 1, as version 0.1 wrote them: objects in objects, which git could not merge. Read only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import msgspec

from pytest_flopsbudget.quantities.metrics import STORED
from pytest_flopsbudget.results.complexity import Complexity, Execution, Module, Operator, UnknownOperator
from pytest_flopsbudget.results.folding import unfold
from pytest_flopsbudget.storage.strict_json import FaultError, convert

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_flopsbudget.storage.strict_json import JsonPath

_Count = Annotated[int, msgspec.Meta(ge=0)]
_T = TypeVar("_T")


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    """A JSON object that has values of metrics among its keys."""

    def values(self) -> dict[str, int]:
        return {key: value for key in STORED if (value := getattr(self, key)) is not msgspec.UNSET}


class _ModuleLine(_Line):
    type: str
    calls: _Count
    shape: str = ""


class _OperatorLine(_Line):
    calls: _Count


class _UnknownLine(msgspec.Struct, forbid_unknown_fields=True):
    calls: _Count
    modules: tuple[str, ...]


class _EntryTable(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    execution: Execution
    backward: bool
    inputs: tuple[str, ...]
    metrics: dict[str, Any]
    modules: dict[str, Any]
    operators: dict[str, Any]
    unknown_operators: dict[str, Any] = {}


class _FileTable(msgspec.Struct, forbid_unknown_fields=True):
    format: Literal[1]
    tests: dict[str, Any]


_L = TypeVar("_L", bound=_Line)


def _with_metrics(line: type[_L]) -> type[_L]:
    fields = [(key, _Count | msgspec.UnsetType, msgspec.UNSET) for key in STORED]
    return cast("type[_L]", msgspec.defstruct(line.__name__, fields, bases=(line,)))


_METRICS_LINE = _with_metrics(_Line)
_MODULE_LINE = _with_metrics(_ModuleLine)
_OPERATOR_LINE = _with_metrics(_OperatorLine)


def read(data: object) -> dict[str, dict[str, Complexity]]:
    """What the file holds: test id → name of the measurement → its cost.

    Args:
        data: The file's JSON, parsed.

    Raises:
        FaultError: it does not hold what a baseline holds.
    """
    tests = convert(data, _FileTable).tests
    return {
        test_id: {
            name: _read_entry(entry, ("tests", test_id, name))
            for name, entry in convert(entries, dict[str, Any], "tests", test_id).items()
        }
        for test_id, entries in tests.items()
    }


def _read_entry(data: object, place: JsonPath) -> Complexity:
    entry = convert(data, _EntryTable, *place)
    metrics = convert(entry.metrics, _METRICS_LINE, *place, "metrics").values()
    modules = _convert_each(entry.modules, _MODULE_LINE, *place, "modules")
    operators = _convert_each(entry.operators, _OPERATOR_LINE, *place, "operators")
    unknown = _convert_each(entry.unknown_operators, _UnknownLine, *place, "unknown_operators")
    folded = {path: _read_module(line, metrics) for path, line in modules.items()}
    try:
        unfolded = unfold(folded)
    except ValueError as error:
        raise FaultError(str(error), (*place, "modules")) from error
    return Complexity(
        model=entry.model,
        inputs=entry.inputs,
        execution=entry.execution,
        backward=entry.backward,
        metrics=metrics,
        modules=unfolded,
        operators={name: Operator(calls=line.calls, metrics=line.values()) for name, line in operators.items()},
        unknown_operators={
            name: UnknownOperator(calls=line.calls, modules=line.modules) for name, line in unknown.items()
        },
    )


def _read_module(line: _ModuleLine, measured: Iterable[str]) -> Module:
    values = line.values()
    implied = {key: values.get("params", 0) if key == "trainable_params" else 0 for key in measured}
    return Module(type=line.type, shape=line.shape, calls=line.calls, metrics=implied | values)


def _convert_each(table: Mapping[str, object], kind: type[_T], *place: str | int) -> dict[str, _T]:
    # One by one, since msgspec's message does not say under which key of a dict the fault lies.
    return {key: convert(value, kind, *place, key) for key, value in table.items()}
