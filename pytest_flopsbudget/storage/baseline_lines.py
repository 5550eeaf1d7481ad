"""The lines of a baseline file. Each line names its test, so that git may mix the lines of two branches.

An entry is one measurement of one test. It consists of these lines, followed by a blank line::

    {"test": "test_net", "name": "model"},
    {"model": "Net", "execution": "shapes", "backward": false, "inputs": ["float32[1, 8]"], "pytorch": "2.13", …},
    {"metrics": {"flops": 384, "params": 136}, "test": …, "name": …},
    {"sizes": {"sequence": {"first": 1, "last": 64}}, "test": …, "name": …},
    {"law": "flops", "terms": {"sequence^2": 4, "sequence": 128}, "test": …, "name": …},
    {"law": "flops", "module": "block.{0-1}", "terms": {"sequence^2": 2}, "test": …, "name": …},
    {"module": "", "type": "Net", "calls": 1, "flops": 384, "params": 136, "test": …, "name": …},
    {"module": "block.{0-1}", "type": "Linear", "shape": "8->8", "calls": 1, …},
    {"operator": "aten.mm", "calls": 3, "flops": 384, "test": …, "name": …},
    {"unknown_operator": "mylib.op", "calls": 1, "modules": ["block.0"], "test": …, "name": …},
    {"phase": "backward", "flops": 256, "other_flops": 16, …},
    {"end": true, "test": …, "name": …},

Only measurements of growth have ``sizes`` and laws. A law with several expressions has a line for each of them, with
the ``sizes`` for which it holds. Values for several devices or machines are nested under the names:
`"compute_time": {"A100": 812, "T4": 4060}`.

The first line, the title, and the last line of an entry never change, and no other line equals them. So between a
change in an entry and a new entry next to it, there is always a line that git finds on both sides of a merge.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast
from zlib import compress

import msgspec

from pytest_flopsbudget.quantities.metrics import METRICS, STORED, STORED_BY_NAME, key_for, metric_of
from pytest_flopsbudget.results.complexity import Complexity
from pytest_flopsbudget.results.data import PHASES, Execution, Module, Operator, Phase, PhaseName, UnknownOperator
from pytest_flopsbudget.results.folding import fold, unfold, without_peaks
from pytest_flopsbudget.results.sharing import SharedParts
from pytest_flopsbudget.storage.baseline_laws import LawLine, SizesLine, Title, check_laws, read_laws, write_laws
from pytest_flopsbudget.storage.strict_json import FaultError, convert, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


#: (test id, name of the measurement).
Key = tuple[str, str]

_Count = Annotated[int, msgspec.Meta(ge=0)]
_Line = dict[str, Any]


# Writing


def write_entry(key: Key, entry: Complexity) -> list[str]:
    """Return the lines of one entry, without the commas and without the blank line at the end."""
    title = _title(key)
    tail = f", {title[1:]}"
    lines: list[_Line] = [
        {
            "model": entry.model,
            "execution": entry.execution,
            "backward": entry.backward,
            "inputs": entry.inputs,
        }
        | ({"pytorch": entry.pytorch} if entry.pytorch else {}),
        {"metrics": _by_row(entry.metrics)},
        *(write_laws(entry.laws) if entry.laws is not None else ()),
        *({"module": path} | _module(module) for path, module in fold(without_peaks(entry.modules)).items()),
        *({"operator": name} | _operator(operator) for name, operator in sorted(entry.operators.items())),
        *(
            {"unknown_operator": name, "calls": operator.calls, "modules": operator.modules}
            for name, operator in sorted(entry.unknown_operators.items())
        ),
        *({"phase": name} | _phase(phase) for name, phase in entry.phases.items()),
        {"end": True},
    ]
    return [title, *(as_json(line)[:-1] + tail for line in lines)]


def _title(key: Key) -> str:
    return as_json({"test": key[0], "name": key[1]})


def _module(module: Module) -> _Line:
    named: _Line = {"type": module.type}
    if module.shape:
        named["shape"] = module.shape
    named["calls"] = module.calls
    values = module.metrics
    return named | _by_row({key: value for key, value in values.items() if value != _implied(key, values)})


def _operator(operator: Operator) -> _Line:
    return {"calls": operator.calls} | _by_row(operator.metrics)


def _phase(phase: Phase) -> _Line:
    return _by_row(phase.metrics)


def _by_row(metrics: Mapping[str, int]) -> _Line:
    """Return ``metrics`` in the order of `STORED`. Values for devices or machines are nested under their names."""
    line: _Line = {key: metrics[key] for key in STORED if key in metrics}
    if len(line) == len(metrics):
        return line
    named = sorted(key for key in metrics if key.endswith("]"))
    for base in STORED_BY_NAME:
        start = f"{base}["
        values = {key[len(start) : -1]: metrics[key] for key in named if key.startswith(start)}
        if values:
            line[base] = values
    return line


def flat(line: Mapping[str, int | dict[str, int]]) -> dict[str, int]:
    """Return metric key → value. In ``line``, values for devices or machines are nested under their names."""
    metrics: dict[str, int] = {}
    for key, value in line.items():
        if isinstance(value, Mapping):
            metrics.update((key_for(key, name), own) for name, own in value.items())
        else:
            metrics[key] = value
    return metrics


def _implied(key: str, values: Mapping[str, int]) -> int:
    """Return the value that the metric ``key`` of a module has if the module's line leaves it out."""
    absent = "params" if key == "trainable_params" else metric_of(key).absent
    return values.get(absent, 0) if isinstance(absent, str) else 0


_readable = json.JSONEncoder(ensure_ascii=False).encode
_escaped = json.JSONEncoder().encode


def as_json(value: object) -> str:
    """Return ``value`` as JSON on one line, for people to read."""
    text = _readable(value)
    # Characters that are invisible in a review (line separators, text direction marks, lone surrogates) are escaped.
    return text if text.isprintable() else _escaped(value)


# Reading


class _Run(Title):
    model: str
    execution: Execution
    backward: bool
    inputs: tuple[str, ...]
    pytorch: str = ""


class _End(Title):
    end: bool


class _UnknownOperator(Title):
    unknown_operator: str
    calls: _Count
    modules: tuple[str, ...]


class _ModuleFields(Title):
    module: str
    type: str
    calls: _Count
    shape: str = ""


class _OperatorFields(Title):
    operator: str
    calls: _Count


class _PhaseFields(Title):
    phase: PhaseName


_Name = Annotated[str, msgspec.Meta(pattern=r"^[^\]]+$")]
_VALUES: list[tuple[str, Any, Any]] = [
    *((key, _Count | msgspec.UnsetType, msgspec.UNSET) for key in STORED),
    *((key, dict[_Name, _Count] | msgspec.UnsetType, msgspec.UNSET) for key in STORED_BY_NAME),
]
_L = TypeVar("_L", bound=msgspec.Struct)


def _with(fields: Sequence[tuple[str, Any] | tuple[str, Any, Any]], line: type[_L]) -> type[_L]:
    struct = msgspec.defstruct(line.__name__, fields, bases=(line,), forbid_unknown_fields=True, gc=False)
    return cast("type[_L]", struct)


_METRICS = _with([("metrics", _with(_VALUES, msgspec.Struct))], Title)

#: Kind of line → the key that occurs only in lines of this kind.
_KINDS: Mapping[str, type[Title]] = {
    "module": _with(_VALUES, _ModuleFields),
    "operator": _with(_VALUES, _OperatorFields),
    "metrics": _METRICS,
    "model": _Run,
    "law": LawLine,
    "sizes": SizesLine,
    "unknown_operator": _UnknownOperator,
    "phase": _with(_VALUES, _PhaseFields),
    "end": _End,
}


#: Kinds of lines of which an entry has at most one.
_ALONE = ("title", "model", "metrics", "sizes", "end")

_TORN = (
    "Run this test with --flops-budget-update, which writes its lines anew; or delete all of them, or those that are "
    "wrong."
)

_values_of = attrgetter(*STORED)
_named_values_of = attrgetter(*STORED_BY_NAME)


def _values(line: object) -> dict[str, int]:
    values = {key: value for key, value in zip(STORED, _values_of(line), strict=True) if value is not msgspec.UNSET}
    for base, named in zip(STORED_BY_NAME, _named_values_of(line), strict=True):
        if named is not msgspec.UNSET:
            values.update((key_for(base, name), value) for name, value in named.items())
    return values


class _Entry:
    """The lines of one entry, by kind."""

    __slots__ = ("first", "has_title", "parts")

    def __init__(self, first: int) -> None:
        #: The number of the first line that was found for this entry.
        self.first = first
        self.has_title = False
        #: Kind of line → the thing that the line describes, such as a module's path → the line.
        self.parts: dict[str, dict[Any, Any]] = {kind: {} for kind in _KINDS}

    def missing(self) -> str:
        """Return the kind of a line that this entry lacks, although every entry needs it; "" if no line is missing."""
        absent = [] if self.has_title else ["title"]
        needed = ("model", "metrics", *(("sizes",) if self.parts["law"] else ()), "end")
        return next(iter(absent + [kind for kind in needed if not self.parts[kind]]), "")


def read(lines: Sequence[object]) -> tuple[dict[Key, Complexity], dict[Key, FaultError]]:
    """Read entries from their lines, in any order. A line that occurs twice counts once.

    Returns:
        The entries, and the faults of torn entries. In a torn entry, lines contradict each other or are missing.

    Raises:
        FaultError: a line has content that is not allowed in a line of its kind.
    """
    by_kind: dict[str, list[_Line]] = {kind: [] for kind in ("title", *_KINDS)}
    numbers: dict[str, list[int]] = {kind: [] for kind in by_kind}
    for number, line in enumerate(lines):
        if not isinstance(line, dict):
            raise FaultError(f"Expected `object`, got {_shortened(line)}", ("lines", number))
        if line:
            kind = _kind(line)
            by_kind[kind].append(line)
            numbers[kind].append(number)
    entries: dict[Key, _Entry] = {}
    torn: dict[Key, FaultError] = {}
    for number, title in zip(numbers["title"], _convert(by_kind["title"], Title, numbers["title"]), strict=True):
        entries.setdefault((title.test, title.name), _Entry(number)).has_title = True
    converted: dict[str, list[tuple[int, Any]]] = {}
    for kind, struct in _KINDS.items():
        found = _convert(by_kind[kind], struct, numbers[kind])
        _distribute(found, kind, numbers[kind], entries, torn)
        converted[kind] = [*zip(numbers[kind], found, strict=True)]
    for key, fault in check_laws(converted["sizes"], converted["law"], _TORN):
        torn.setdefault(key, fault)
    built: dict[Key, Complexity] = {}
    for key, entry in entries.items():
        missing = entry.missing()
        if missing:
            reason = f"the entry's line of {missing} is missing; a merge took a part of each side"
            torn.setdefault(key, FaultError(reason, ("lines", entry.first), remedy=_TORN))
        elif key not in torn:
            built[key] = _build(entry)
    return built, torn


def subject(line: object) -> str:
    """Describe the thing that a line is about: ``module "layer4" of "test_net"``."""
    if not isinstance(line, dict) or "test" not in line:
        return ""
    kind = _kind(line)
    path = "" if kind in _ALONE else f" {as_json(line[kind])}"
    name = "" if line.get("name", "model") == "model" else f", {as_json(line['name'])}"
    return f"{kind.replace('_', ' ')}{path} of {as_json(line['test'])}{name}: "


def read_blocks(blocks: Iterable[str], *, keep_texts: bool) -> dict[Key, tuple[Complexity, bytes]] | None:
    """Read entries from blocks of text. Each block has the lines of one entry, in the order of `write_entry`.

    Many tests of a file have equal measurements, so equal lines are read only once, and equal parts are one object.
    This is a fast way to read correct files. `read` defines which lines are allowed.

    Returns:
        (entry, compressed text) of each block; None if there is any fault. :func:`read` then reports the fault. Without
        ``keep_texts``, the texts are empty.
    """
    # Digest of the lines without the title → the entry. The lines would take as much memory as the file.
    known: dict[bytes, Complexity] = {}
    parts = SharedParts()
    found: dict[Key, tuple[Complexity, bytes]] = {}
    for block in blocks:
        title, _, rest = block.partition("\n")
        tail = f", {title[1:]}\n"
        lines = f"{rest}\n"
        body = lines.replace(tail, "\n")
        if not rest or len(body) + (len(tail) - 1) * body.count("\n") != len(lines):
            return None
        key = _read_title(title)
        if key is None or key in found:
            return None
        digest = blake2b(body.encode(errors="surrogatepass"), digest_size=32).digest()
        entry = known.get(digest)
        if entry is None:
            entry = _read_block(block, key)
            if entry is None:
                return None
            entry = known[digest] = parts.share(entry)
        found[key] = entry, compress(block.encode(errors="surrogatepass"), 1) if keep_texts else b""
    return found


def _read_title(text: str) -> Key | None:
    try:
        title = msgspec.json.decode(text.removesuffix(","), type=Title)
    except (msgspec.MsgspecError, UnicodeError):
        return None
    key = title.test, title.name
    return key if text == f"{_title(key)}," else None


def _read_block(block: str, key: Key) -> Complexity | None:
    try:
        lines = parse(f"[{block.removesuffix(',')}]")
        entries, torn = read(lines) if isinstance(lines, list) else ({}, {})
    except FaultError:
        return None
    # A correct entry has no line twice, because `write_entry` writes none twice.
    as_written = isinstance(lines, list) and len(lines) == block.count("\n") + 1 == len({*block.split("\n")})
    return entries[key] if not torn and [*entries] == [key] and as_written else None


def _kind(line: _Line) -> str:
    first = next(iter(line))
    return first if first in _KINDS else next((kind for kind in _KINDS if kind in line), "title")


_T = TypeVar("_T", bound=Title)


def _shortened(value: object, maximum: int = 40) -> str:
    text = as_json(value)
    return text if len(text) <= maximum else f"{text[:maximum]}…"


def _convert(lines: list[_Line], struct: type[_T], numbers: Sequence[int]) -> list[_T]:
    try:
        return convert(lines, list[struct])  # type: ignore[valid-type]
    except FaultError:
        # Convert the lines one by one, to find the number of the faulty line.
        for number, line in zip(numbers, lines, strict=True):
            convert(line, struct, "lines", number)
        raise


def _distribute(
    lines: Sequence[Title], kind: str, numbers: Sequence[int], entries: dict[Key, _Entry], torn: dict[Key, FaultError]
) -> None:
    """Add each line of one kind to its entry. Add a fault to ``torn`` if two lines contradict each other.

    ``numbers`` has the index of each line among all lines of the file.
    """
    about: Callable[[Any], object] = lambda _: ""  # noqa: E731 -- it is replaced
    if kind == "law":
        about = attrgetter("place")
    elif kind not in _ALONE:
        about = attrgetter(kind)
    key: Key = ("", "")
    parts: dict[Any, Any] | None = None
    # Line → its number, built at first use.
    places: dict[int, int] = {}
    line: Any
    for number, line in zip(numbers, lines, strict=True):
        if parts is None or line.test != key[0] or line.name != key[1]:
            key = line.test, line.name
            entry = entries.get(key)
            if entry is None:
                entry = entries[key] = _Entry(number)
            parts = entry.parts[kind]
        path = about(line)
        earlier = parts.setdefault(path, line)
        if kind == "model" and earlier.pytorch != line.pytorch:
            # Two branches measured with two versions of PyTorch. If all values are equal, the version does not matter.
            earlier.pytorch = line.pytorch = ""
        if earlier is not line and earlier != line:
            places = places or {id(other): place for other, place in zip(lines, numbers, strict=True)}
            before = places[id(earlier)]
            reason = "another line says otherwise; a merge kept both sides"
            torn.setdefault(key, FaultError(reason, ("lines", number), other=("lines", before), remedy=_TORN))


def _build(entry: _Entry) -> Complexity:
    parts = entry.parts
    run = parts["model"][""]
    metrics = _values(parts["metrics"][""].metrics)
    zeros = {key: 0 for key in metrics if metric_of(key).aggregation in _OF_MODULES}
    modules = {path: _read_module(line, zeros) for path, line in parts["module"].items()}
    if any("{" in path or "\\" in path for path in modules):
        try:
            modules = unfold(modules)
        except ValueError as error:
            raise FaultError(str(error), ("lines", entry.first)) from error
    return Complexity(
        model=run.model,
        inputs=run.inputs,
        execution=run.execution,
        backward=run.backward,
        pytorch=run.pytorch,
        metrics=metrics,
        modules=modules,
        operators={name: Operator(calls=line.calls, metrics=_values(line)) for name, line in parts["operator"].items()},
        unknown_operators={
            name: UnknownOperator(calls=line.calls, modules=line.modules)
            for name, line in parts["unknown_operator"].items()
        },
        phases={name: Phase(metrics=_values(parts["phase"][name])) for name in PHASES if name in parts["phase"]},
        laws=read_laws(parts["sizes"].get(""), parts["law"].values()),
    )


#: The metrics that are not 0 if the line of a module leaves them out.
_IMPLIED = ("trainable_params", *(key for key in STORED if isinstance(METRICS[key].absent, str)))
#: The aggregations of the metrics that modules may have. `without_peaks` leaves out "peak", which is not stored.
_OF_MODULES = {METRICS["flops"].aggregation, METRICS["params"].aggregation}


def _read_module(line: Any, zeros: Mapping[str, int]) -> Module:
    values = _values(line)
    metrics = {**zeros, **values}
    for key in _IMPLIED:
        if key in zeros and key not in values:
            metrics[key] = _implied(key, values)
    return Module(type=line.type, shape=line.shape, calls=line.calls, metrics=metrics)
