"""The text of a baseline file: written so that ``git diff`` is a review, read strictly, faults told with their line."""

from __future__ import annotations

import difflib
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, TypeVar, cast, get_args

import msgspec

from pytest_flopsbudget.errors import BaselineError
from pytest_flopsbudget.results.complexity import Complexity, Execution, Module, Operator, UnknownOperator
from pytest_flopsbudget.results.fold import fold, unfold
from pytest_flopsbudget.results.metrics import STORED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

FORMAT = 1

#: Test id → name of the measurement → what it cost when it was accepted.
Tests = dict[str, dict[str, Complexity]]

REMEDY = "Restore it from git, or delete it and rerun with --flops-budget-update."

_Count = Annotated[int, msgspec.Meta(ge=0)]
_T = TypeVar("_T")

_CONFLICT = re.compile(r"^(?:<<<<<<<|\|\|\|\|\|\|\||=======|>>>>>>>)(?:\s|$)", re.MULTILINE)


def write(tests: Tests) -> str:
    """The text that holds ``tests``: sorted, one module or operator a line."""
    rows = (
        (test_id, _table(((name, _write_entry(entry)) for name, entry in sorted(entries.items())), depth=2))
        for test_id, entries in sorted(tests.items())
    )
    return _table([("format", str(FORMAT)), ("tests", _table(rows, depth=1))], depth=0) + "\n"


def read(text: str, path: Path) -> Tests:
    """What ``text`` holds; ``path`` is where it stands, for messages.

    Raises:
        BaselineError: it is no JSON, has conflict markers, was written by a newer version, or does not hold what a
            baseline holds. The message names the line.
    """
    try:
        return _read_tests(_parse(text))
    except _FaultError as fault:
        _refuse(path, text, fault)


# Writing


def _write_entry(entry: Complexity) -> str:
    run = {"model": entry.model, "execution": entry.execution, "backward": entry.backward}
    metrics = {key: entry.metrics[key] for key in STORED if key in entry.metrics}
    rows = [
        ", ".join(f"{_json(key)}: {_json(value)}" for key, value in run.items()),
        f'"inputs": {_json(entry.inputs)}',
        f'"metrics": {_json(metrics)}',
    ]
    tables = {
        "modules": [(path, _write_module(module)) for path, module in fold(entry.modules).items()],
        "operators": [(name, _write_operator(operator)) for name, operator in sorted(entry.operators.items())],
    }
    if entry.unknown_operators:
        unknown = sorted(entry.unknown_operators.items())
        tables["unknown_operators"] = [(name, _json(msgspec.to_builtins(operator))) for name, operator in unknown]
    rows += [f"{_json(key)}: {_table(table, depth=4)}" for key, table in tables.items()]
    return _braced(rows, depth=3)


def _write_module(module: Module) -> str:
    named = {"type": module.type} | ({"shape": module.shape} if module.shape else {}) | {"calls": module.calls}
    values = {key: module.metrics[key] for key in STORED if key in module.metrics}
    return _json(named | {key: value for key, value in values.items() if value != _implied(key, values)})


def _write_operator(operator: Operator) -> str:
    return _json({"calls": operator.calls} | {key: operator.metrics[key] for key in STORED if key in operator.metrics})


def _implied(key: str, values: Mapping[str, int]) -> int:
    """The value of a metric that a module's line leaves out, given the other ``values``."""
    return values.get("params", 0) if key == "trainable_params" else 0


def _table(rows: Iterable[tuple[str, str]], depth: int) -> str:
    return _braced([f"{_json(key)}: {value}" for key, value in rows], depth)


def _braced(rows: Iterable[str], depth: int) -> str:
    """A JSON object of ``rows``, one a line, whose closing brace is indented ``depth`` times."""
    indent = "\n" + "  " * depth
    body = ",".join(f"{indent}  {row}" for row in rows)
    return f"{{{body}{indent}}}" if body else "{}"


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    # What cannot be seen in a review (line separators, changes of direction, lone surrogates) is written as its number.
    return text if text.isprintable() else json.dumps(value)


# Reading


class _FaultError(Exception):
    """What is wrong with a file's text, where, and what to do.

    The place is a path of keys or, where there are none yet, a line.
    """

    def __init__(
        self, reason: str, keys: tuple[str, ...] = (), *, line: int | None = None, remedy: str = REMEDY
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.keys = keys
        self.line = line
        self.remedy = remedy


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


def _refuse(path: Path, text: str, fault: _FaultError) -> NoReturn:
    conflict = _CONFLICT.search(text)
    if conflict:
        line = _line_at(text, conflict.start())
        remedy = "resolve it, e.g. keep either side, then run with --flops-budget-update"
        raise BaselineError(f"{path}: conflict marker, line {line}: {remedy}.") from fault
    line = fault.line or _line_of(text, fault.keys)
    place = "".join(f"{_json(key)}: " for key in fault.keys)
    raise BaselineError(f"{path}, line {line}: {place}{fault.reason}. {fault.remedy}") from fault


def _parse(text: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise _FaultError(f"no JSON from column {error.colno} on: {error.msg}", line=error.lineno) from error
    except _DuplicateKeyError as error:
        keys = _first_duplicate(text)
        raise _FaultError("the key is there twice; a merge may have kept both sides", keys) from error
    except (RecursionError, ValueError) as error:
        # Brackets nested by the thousand, an integer of thousands of digits.
        raise _FaultError(f"no baseline: {error}", line=1) from error


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise _DuplicateKeyError
    return table


def _read_tests(data: object) -> Tests:
    if not isinstance(data, dict):
        raise _FaultError("no baseline, which is a JSON object", line=1)
    written = data.get("format")
    if isinstance(written, int) and written > FORMAT:
        reason = f"written by a newer pytest-flopsbudget: it is {written}, and this version reads {FORMAT}"
        raise _FaultError(reason, ("format",), remedy="Upgrade pytest-flopsbudget.")
    tests = _convert(data, _FileTable).tests
    return {
        test_id: {
            name: _read_entry(entry, ("tests", test_id, name))
            for name, entry in _convert(entries, dict[str, Any], "tests", test_id).items()
        }
        for test_id, entries in tests.items()
    }


def _read_entry(data: object, keys: tuple[str, ...]) -> Complexity:
    entry = _convert(data, _EntryTable, *keys)
    metrics = _convert(entry.metrics, _METRICS_LINE, *keys, "metrics").values()
    modules = _convert_each(entry.modules, _MODULE_LINE, *keys, "modules")
    operators = _convert_each(entry.operators, _OPERATOR_LINE, *keys, "operators")
    unknown = _convert_each(entry.unknown_operators, _UnknownLine, *keys, "unknown_operators")
    folded = {path: _read_module(line, metrics) for path, line in modules.items()}
    try:
        unfolded = unfold(folded)
    except ValueError as error:
        raise _FaultError(str(error), (*keys, "modules")) from error
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
    metrics = {key: _implied(key, values) for key in measured} | values
    return Module(type=line.type, shape=line.shape, calls=line.calls, metrics=metrics)


def _convert_each(table: Mapping[str, object], kind: type[_T], *keys: str) -> dict[str, _T]:
    # One by one, since msgspec's message does not say under which key of a dict the fault lies.
    return {key: _convert(value, kind, *keys, key) for key, value in table.items()}


def _convert(value: object, kind: type[_T], *keys: str) -> _T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        reason, _, below = str(error).partition(" - at `$")
        below_keys = tuple(re.findall(r"\.(\w+)", below))
        unknown = re.fullmatch(r"Object contains unknown field `(.*)`", reason, re.DOTALL)
        if unknown:
            below_keys += (unknown[1],)
            reason = f"unknown key ({_nearest(unknown[1], _fields(kind))})"
        elif reason.startswith("Invalid enum value"):
            reason += f"; allowed: {', '.join(map(_json, get_args(_fields(kind)[below_keys[-1]])))}"
        raise _FaultError(reason, (*keys, *below_keys)) from error


def _fields(kind: type[object]) -> dict[str, object]:
    return {field.name: field.type for field in msgspec.structs.fields(cast("type[msgspec.Struct]", kind))}


def _nearest(key: str, allowed: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1)
    return f"did you mean {_json(near[0])}?" if near else f"allowed: {', '.join(map(_json, allowed))}"


_TOKEN = re.compile(r'(?P<key>"(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|(?P<opening>[{[])|(?P<closing>[}\]])')


def _keys(text: str) -> Iterator[tuple[tuple[str, ...], int]]:
    """The keys of all objects in valid JSON, each with those above it, and their offsets."""
    above: list[str] = []
    key = ""
    for token in _TOKEN.finditer(text):
        if token["key"]:
            key = json.loads(token["key"])
            yield (*above[1:], key), token.start()
        elif token["opening"]:
            above.append(key)
        elif token["closing"]:
            above.pop()


def _first_duplicate(text: str) -> tuple[str, ...]:
    seen = set()
    for keys, _ in _keys(text):
        if keys in seen:
            return keys
        seen.add(keys)
    return ()


def _line_of(text: str, keys: tuple[str, ...]) -> int:
    """The line of the key or, where it is missing, of the nearest one above it."""
    offsets = {(): 0, **dict(_keys(text))}
    known = next(keys[:depth] for depth in range(len(keys), -1, -1) if keys[:depth] in offsets)
    return _line_at(text, offsets[known])


def _line_at(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1
