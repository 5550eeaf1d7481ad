"""What a team writes in ``[tool.pytest-flopsbudget]`` and in markers, as checked data."""

from __future__ import annotations

import difflib
import fnmatch
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.names import OPERATOR
from pytest_flopsbudget.results.metrics import METRICS, Amount, Metric, base_of, is_key, key_for, name_in
from pytest_flopsbudget.units import (
    Tolerance,
    nearest_spelling,
    parse_percent,
    parse_quantity,
    parse_ratio,
    parse_tolerance,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

Reaction = Literal["fail", "warn", "ignore"]
Improvement = Literal["pass", "fail"]
Switch = Literal["on", "off"]
OnGitHub = Literal["auto", "off"]

_REACTIONS: tuple[Reaction, ...] = ("fail", "warn", "ignore")
_IMPROVEMENTS: tuple[Improvement, ...] = ("pass", "fail")
_SWITCHES: tuple[Switch, ...] = get_args(Switch)
_ON_GITHUB: tuple[OnGitHub, ...] = get_args(OnGitHub)

_FILE = "pyproject.toml"
_TABLE = "pytest-flopsbudget"
_LIMITS = f"[tool.{_TABLE}.limits]"
_BUDGETS = f"[[tool.{_TABLE}.budgets]]"
_KEYS = (
    "tolerance",
    "missing-baseline",
    "unknown-operators",
    "improved-baseline",
    "free-operators",
    "show",
    "github",
    "junit-properties",
    "shortcuts",
    "limits",
    "budgets",
    "watch",
)
_PHASES = ("forward", "backward", "optimizer")

#: What a clock measures is never twice the same.
LATENCY_TOLERANCE = Tolerance(relative=Fraction(1, 10))

_T = TypeVar("_T")

if TYPE_CHECKING:
    #: The name of a device as someone wrote it → as its profile has it. Raises ValueError where there is none of that
    #: name; its message lists near ones, and does not say where the name stands.
    DeviceNames = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Budget:
    """One set of limits, and where it was written."""

    #: "pyproject.toml, [[tool.pytest-flopsbudget.budgets]] 2", "marker on test_backbone": for messages.
    source: str
    #: Metric key → most allowed for the whole model, or the least where more is better. A time's key carries the name
    #: of the device, "time[A100]"; a latency's none, as it holds on whichever machine measures.
    limits: Mapping[str, Amount] = field(default_factory=dict)
    #: Pattern of module paths → metric key → the same for every module that matches.
    modules: Mapping[str, Mapping[str, Amount]] = field(default_factory=dict)
    #: "forward", "backward" or "optimizer" → metric key → the same for the work of that phase.
    phases: Mapping[str, Mapping[str, Amount]] = field(default_factory=dict)
    #: Metric key → growth over the baseline that still passes, for the metrics it was given for.
    tolerance: Mapping[str, Tolerance] = field(default_factory=dict)
    #: Patterns of the node ids it holds for; empty where it holds without a pattern.
    match: tuple[str, ...] = ()


def _exact() -> Mapping[str, Tolerance]:
    return {**dict.fromkeys(METRICS, Tolerance()), "latency": LATENCY_TOLERANCE}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that the pyproject says, with defaults for what it does not."""

    #: The file; None where there is none, or none with a table of this plugin.
    path: Path | None = None
    #: What holds for every measurement.
    limits: Budget | None = None
    #: What holds for the tests that match, in the order of the file.
    budgets: tuple[Budget, ...] = ()
    #: Metric key → growth over the baseline that still passes, for every metric.
    tolerance: Mapping[str, Tolerance] = field(default_factory=_exact)
    #: What a measurement without a baseline does.
    missing_baseline: Reaction = "warn"
    #: What an operator that no formula covers does.
    unknown_operators: Reaction = "warn"
    #: What a measurement below its baseline does.
    improved_baseline: Improvement = "pass"
    #: Operators that count nothing here, as "namespace::name".
    free_operators: tuple[str, ...] = ()
    #: The metric that summaries and tables show first.
    show: str = "flops"
    #: "auto": on GitHub Actions, write to the job's summary and annotate the tests.
    github: OnGitHub = "off"
    #: Whether what was measured becomes properties of the tests in JUnit reports.
    junit_properties: Switch = "on"
    #: Whether counting takes its shortcuts, or asks PyTorch about every operator anew: for bug reports.
    shortcuts: Switch = "on"
    #: Patterns of the node ids of tests that are watched, marked or not.
    watch: tuple[str, ...] = ()

    def watches(self, nodeid: str) -> bool:
        """Whether the test ``nodeid`` is watched without a marker."""
        return any(matches_pattern(nodeid, pattern) for pattern in self.watch)

    def budgets_for(self, nodeid: str) -> tuple[Budget, ...]:
        """The budgets that hold for the test ``nodeid``, the closest last."""
        everywhere = () if self.limits is None else (self.limits,)
        matching = (b for b in self.budgets if any(matches_pattern(nodeid, pattern) for pattern in b.match))
        return (*everywhere, *matching)


def matches_pattern(text: str, pattern: str) -> bool:
    """Whether all of ``text`` matches: ``*`` is any characters, ``?`` one; everything else is itself, brackets too."""
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def load_settings(rootpath: Path, devices: DeviceNames | None = None) -> Settings:
    """What ``pyproject.toml`` in ``rootpath`` says; the defaults where it or its table is missing.

    Args:
        rootpath: pytest's root folder.
        devices: what devices are called; None where any name may be one.

    Raises:
        UsageError: the file cannot be read, or says something wrong; names every mistake, one or two lines each.
    """
    path = rootpath / _FILE
    mistakes: list[str] = []
    table = _find_table(_read_document(path), mistakes)
    settings = Settings() if table is None else replace(_read_settings(table, mistakes, devices), path=path)
    _raise(mistakes)
    return settings


def marker_budget(
    args: tuple[object, ...], kwargs: Mapping[str, object], source: str, devices: DeviceNames | None = None
) -> Budget:
    """The budget that ``@pytest.mark.flops_budget(*args, **kwargs)`` sets, in metrics, modules and phases.

    Args:
        args: the marker's positional arguments, of which it takes none.
        kwargs: its keywords.
        source: where it stands, for messages: "marker on test_backbone".
        devices: what devices are called; None where any name may be one.

    Raises:
        UsageError: names every mistake, one or two lines each.
    """
    mistakes: list[str] = []
    place = _Place(f"{source}:", mistakes, devices=devices)
    if args:
        shown = ", ".join(map(repr, args))
        mistakes.append(
            f'{source}: limits are keywords, not {shown}; write @pytest.mark.flops_budget(flops="8.2 GFLOPs")'
        )
    budget = _read_budget(kwargs, place, source, besides=("modules", "phases", "tolerance"))
    _raise(mistakes)
    return budget


def describe(settings: Settings) -> str:
    """One line on what the pyproject holds: "pyproject.toml: 3 budgets, limits on params"."""
    parts = []
    if settings.budgets:
        parts.append("1 budget" if len(settings.budgets) == 1 else f"{len(settings.budgets)} budgets")
    if settings.limits is not None:
        limited = [*settings.limits.limits, *(f"modules {pattern}" for pattern in settings.limits.modules)]
        limited += [f"phase {phase}" for phase in settings.limits.phases]
        parts.append(f"limits on {', '.join(limited)}")
    if settings.watch:
        parts.append(f"watches {', '.join(settings.watch)}")
    return f"{_FILE}: {', '.join(parts)}" if parts else f"no budgets in {_FILE}"


class _Place:
    """A table that is being read, and the list in which the mistakes of its file or marker gather."""

    def __init__(
        self, head: str, mistakes: list[str], parents: tuple[str, ...] = (), devices: DeviceNames | None = None
    ) -> None:
        self.head = head
        self.mistakes = mistakes
        self.parents = parents
        self.devices = devices

    def inside(self, key: object) -> _Place:
        return _Place(self.head, self.mistakes, (*self.parents, str(key)), self.devices)

    def at(self, head: str) -> _Place:
        """Another table of the same file."""
        return _Place(head, self.mistakes, devices=self.devices)

    def wrong(self, key: object, why: object) -> None:
        keys = (*self.parents, str(key))
        path = ".".join(key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"' for key in keys)
        self.mistakes.append(f"{self.head} {path}: {why}")

    def unknown(self, key: object, allowed: Iterable[str]) -> None:
        keys = list(allowed)
        near = nearest_spelling(str(key), keys)
        hint = f"; did you mean {near}?" if near else "."
        self.wrong(key, f"no such key{hint} There are {', '.join(keys)}")


def _raise(mistakes: Sequence[str]) -> None:
    if mistakes:
        raise UsageError("\n".join(mistakes))


def _read_document(path: Path) -> Mapping[str, object]:
    """What the file holds."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"{path.name}: cannot be read: {error.strerror}") from error
    if b"flop" not in data.lower():
        # A file without a word of this plugin costs no parsing, and its mistakes are not this plugin's to tell.
        return {}
    try:
        return _parse_toml(data.decode())
    except ValueError as error:
        raise UsageError(f"{path.name}: is not valid TOML: {error}; correct it and run again") from error


def _parse_toml(text: str) -> Mapping[str, object]:
    # Imported here because most runs of pytest have nothing to parse, and importing takes longer than parsing.
    if sys.version_info >= (3, 11):
        import tomllib  # noqa: PLC0415
    else:
        import tomli as tomllib  # noqa: PLC0415
    return tomllib.loads(text)


def _find_table(document: Mapping[str, object], mistakes: list[str]) -> Mapping[str, object] | None:
    found = document.get("tool")
    tools = found if isinstance(found, Mapping) else {}
    misspelled = [name for name in document if _is_meant(name)]
    misspelled += [f"tool.{name}" for name in tools if name != _TABLE and _is_meant(name)]
    mistakes += (f"{_FILE}: [{name}]: nothing reads this table; rename it to [tool.{_TABLE}]" for name in misspelled)
    table = tools.get(_TABLE)
    if table is None or isinstance(table, Mapping):
        return table
    mistakes.append(f"{_FILE}: tool.{_TABLE}: must be a table, not {table!r}; write [tool.{_TABLE}]")
    return None


def _is_meant(name: str) -> bool:
    """Whether who wrote a table of this name most likely meant this plugin's."""
    letters = re.sub("[^a-z]", "", name.lower())
    return bool(difflib.get_close_matches(letters, ["pytestflopsbudget", "flopsbudget"], n=1, cutoff=0.9))


def _read_settings(table: Mapping[str, object], mistakes: list[str], devices: DeviceNames | None) -> Settings:
    place = _Place(f"{_FILE}: [tool.{_TABLE}]", mistakes, devices=devices)
    for key in table:
        if key in METRICS or key in {"modules", "phases"}:
            place.wrong(key, f"limits for every test stand in {_LIMITS}, those for some in {_BUDGETS}")
        elif key not in _KEYS:
            place.unknown(key, _KEYS)
    return Settings(
        limits=_read_limits(table["limits"], place) if "limits" in table else None,
        budgets=_read_budgets(table["budgets"], place) if "budgets" in table else (),
        tolerance={**_exact(), **_read_tolerance(table, place)},
        missing_baseline=_read_choice(table, "missing-baseline", _REACTIONS, Settings().missing_baseline, place),
        unknown_operators=_read_choice(table, "unknown-operators", _REACTIONS, Settings().unknown_operators, place),
        improved_baseline=_read_choice(table, "improved-baseline", _IMPROVEMENTS, Settings().improved_baseline, place),
        free_operators=_read_operators(table.get("free-operators", []), place),
        show=_read_shown(table.get("show", Settings().show), place),
        github=_read_choice(table, "github", _ON_GITHUB, Settings().github, place),
        junit_properties=_read_choice(table, "junit-properties", _SWITCHES, Settings().junit_properties, place),
        shortcuts=_read_choice(table, "shortcuts", _SWITCHES, Settings().shortcuts, place),
        watch=_read_patterns(table.get("watch", []), place),
    )


def _read_choice(table: Mapping[str, object], key: str, allowed: tuple[_T, ...], default: _T, place: _Place) -> _T:
    value = table.get(key, default)
    for choice in allowed:
        if value == choice:
            return choice
    near = nearest_spelling(value, map(str, allowed)) if isinstance(value, str) else None
    hint = f'; did you mean "{near}"?' if near else ""
    choices = ", ".join(f'"{choice}"' for choice in allowed)
    place.wrong(key, f"{value!r} is none of {choices}{hint}")
    return default


def _read_shown(value: object, place: _Place) -> str:
    base, name = (base_of(value), name_in(value)) if isinstance(value, str) else ("", None)
    per = METRICS[base].per if base in METRICS else None
    if isinstance(value, str) and is_key(value):
        return key_for(base, _device(name, place, "show") or name) if name and per == "device" else value
    if per == "device":
        place.wrong("show", f'{value!r} has a value for each device; name one, like "{key_for(base, "A100")}"')
        return "flops"
    near = nearest_spelling(value, METRICS) if isinstance(value, str) else None
    hint = f'; did you mean "{near}"?' if near else ""
    choices = ", ".join(f'"{key}"' for key in METRICS)
    place.wrong("show", f"{value!r} is none of {choices}{hint}")
    return "flops"


def _read_operators(value: object, place: _Place) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(name, str) and OPERATOR.fullmatch(name) for name in value):
        return tuple(value)
    place.wrong("free-operators", f'{value!r} is not a list of operators; write ["mylib::scan"]')
    return ()


def _read_patterns(value: object, place: _Place) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value
    if isinstance(patterns, list) and all(isinstance(pattern, str) and pattern for pattern in patterns):
        return tuple(patterns)
    place.wrong("watch", f'{value!r} is not a pattern of node ids, nor a list of them; write ["tests/models/*"]')
    return ()


def _read_limits(value: object, place: _Place) -> Budget | None:
    if not isinstance(value, Mapping):
        place.wrong("limits", f"must be a table, not {value!r}; write {_LIMITS}")
        return None
    here = place.at(f"{_FILE}: {_LIMITS}")
    if "tolerance" in value:
        here.wrong("tolerance", f"stands one level higher, in [tool.{_TABLE}]")
    table = {key: entry for key, entry in value.items() if key != "tolerance"}
    budget = _read_budget(table, here, f"{_FILE}, {_LIMITS}", besides=("modules", "phases"))
    return budget if budget.limits or budget.modules or budget.phases else None


def _read_budgets(value: object, place: _Place) -> tuple[Budget, ...]:
    if not isinstance(value, list) or not all(isinstance(table, Mapping) for table in value):
        place.wrong("budgets", f"must be an array of tables; write {_BUDGETS} above each")
        return ()
    return tuple(_read_matching(table, number, place) for number, table in enumerate(value, start=1))


def _read_matching(table: Mapping[str, object], number: int, around: _Place) -> Budget:
    place = around.at(f"{_FILE}: {_BUDGETS} {number}")
    value = table.get("match")
    patterns = [value] if isinstance(value, str) else value
    match: tuple[str, ...] = ()
    if isinstance(patterns, list) and patterns and all(isinstance(p, str) and p for p in patterns):
        match = tuple(patterns)
    else:
        wrong = "is missing" if value is None else f"{value!r} is not a pattern of node ids, nor a list of them"
        place.wrong("match", f'{wrong}; write match = ["tests/test_backbone.py::*"]')
    if set(table) <= {"match"}:
        place.mistakes.append(f"{place.head}: sets neither a limit nor a tolerance; add one, or remove it")
    source = f"{_FILE}, {_BUDGETS} {number}"
    return replace(_read_budget(table, place, source, besides=("match", "modules", "phases", "tolerance")), match=match)


def _read_budget(table: Mapping[str, object], place: _Place, source: str, *, besides: tuple[str, ...]) -> Budget:
    """The budget in ``table``, which may hold keys ``besides`` metrics."""
    return Budget(
        source=source,
        limits=_read_quantities(table, place, besides=besides),
        modules=_read_modules(table["modules"], place) if "modules" in table else {},
        phases=_read_phases(table["phases"], place) if "phases" in table else {},
        tolerance=_read_tolerance(table, place),
    )


def _read_quantities(
    table: Mapping[str, object], place: _Place, *, besides: tuple[str, ...] = ()
) -> Mapping[str, Amount]:
    quantities: dict[str, Amount] = {}
    for key, value in table.items():
        if key in METRICS and METRICS[key].per == "device":
            quantities.update(_read_by_device(key, value, place))
        elif key in METRICS:
            try:
                quantities[key] = _parse_limit(value, METRICS[key])
            except ValueError as error:
                place.wrong(key, error)
        elif key not in besides:
            place.unknown(key, (*METRICS, *besides))
    return quantities


def _parse_limit(value: object, metric: Metric) -> Amount:
    return parse_ratio(value, metric) if metric.over else parse_quantity(value, metric)


def _read_by_device(key: str, value: object, place: _Place) -> Mapping[str, Amount]:
    """The limits of ``key``, by the names of devices."""
    if not isinstance(value, Mapping) or not value:
        place.wrong(key, f'{value!r} is not a table of limits by device; write {{A100 = "3 ms"}}')
        return {}
    here = place.inside(key)
    quantities = {}
    for written, limit in value.items():
        name = _device(written, here, written)
        if name is None:
            continue
        if key_for(key, name) in quantities:
            here.wrong(written, f"is {name}, which has a limit in this table already")
            continue
        try:
            quantities[key_for(key, name)] = _parse_limit(limit, METRICS[key])
        except ValueError as error:
            here.wrong(written, error)
    return quantities


def _device(written: object, place: _Place, key: object) -> str | None:
    """The device's name as its profile has it; None where there is none, which is told."""
    if not isinstance(written, str) or not written or "]" in written:
        place.wrong(key, 'is no name of a device; write one like "A100"')
        return None
    try:
        return written if place.devices is None else place.devices(written)
    except ValueError as error:
        place.wrong(key, error)
        return None


def _read_modules(value: object, place: _Place) -> Mapping[str, Mapping[str, Amount]]:
    if not isinstance(value, Mapping):
        place.wrong("modules", f'{value!r} is not a table of limits by module; write {{layer4 = {{flops = "1.7G"}}}}')
        return {}
    here = place.inside("modules")
    modules = {}
    for pattern, limits in value.items():
        if not isinstance(pattern, str):
            here.wrong(pattern, 'is not text; write a pattern of module paths, like "layer4*"')
        elif not isinstance(limits, Mapping) or not limits:
            here.wrong(pattern, f'{limits!r} is not a table of limits; write {{flops = "1.7G"}}')
        else:
            modules[pattern] = _read_module(pattern, limits, here)
    return modules


def _read_phases(value: object, place: _Place) -> Mapping[str, Mapping[str, Amount]]:
    if not isinstance(value, Mapping):
        place.wrong("phases", f'{value!r} is not a table of limits by phase; write {{backward = {{flops = "20G"}}}}')
        return {}
    here = place.inside("phases")
    phases = {}
    for phase, limits in value.items():
        if phase not in _PHASES:
            here.unknown(phase, _PHASES)
        elif not isinstance(limits, Mapping) or not limits:
            here.wrong(phase, f'{limits!r} is not a table of limits; write {{flops = "20G"}}')
        else:
            phases[phase] = _read_phase(limits, here.inside(phase))
    return phases


def _read_phase(limits: Mapping[str, object], place: _Place) -> Mapping[str, Amount]:
    """The limits of a phase, which works, and holds no parameters."""
    of_work = [key for key, metric in METRICS.items() if metric.aggregation in {"sum", "ratio"}]
    for key in limits:
        if key in METRICS and key not in of_work:
            place.wrong(key, f"is no work, which a phase is limited in; there are {', '.join(of_work)}")
    rest = {key: value for key, value in limits.items() if key not in METRICS or key in of_work}
    return _read_quantities(rest, place)


def _read_module(pattern: str, limits: Mapping[str, object], place: _Place) -> Mapping[str, Amount]:
    nested = next((key for key, value in limits.items() if key not in METRICS and isinstance(value, Mapping)), None)
    if nested is None:
        here = place.inside(pattern)
        of_whole = [key for key in limits if key in METRICS and METRICS[key].aggregation == "whole"]
        for key in of_whole:
            here.wrong(key, "is of the model as a whole, and no module has it; limit it beside modules")
        return _read_quantities({key: value for key, value in limits.items() if key not in of_whole}, here)
    # TOML reads layer4.0.flops as three nested tables.
    place.inside(pattern).wrong(nested, f'is a table; a module path needs quotes, like "{pattern}.{nested}"')
    return {}


def _read_tolerance(table: Mapping[str, object], place: _Place) -> Mapping[str, Tolerance]:
    value = table.get("tolerance", {})
    if not isinstance(value, Mapping):
        return _read_common_tolerance(value, place)
    here = place.inside("tolerance")
    tolerances: dict[str, Tolerance] = {}
    for key, growth in value.items():
        if key not in METRICS:
            here.unknown(key, METRICS)
        elif METRICS[key].over:
            here.wrong(key, "is a ratio, which is held to limits only; give what it follows from a tolerance")
        elif key in METRICS["time"].derived:
            here.wrong(key, "is a part of time, which is judged as a whole; give that a tolerance")
        elif len(METRICS[key].derived) > 1 and METRICS[key].per is None:
            here.wrong(key, f"is the sum of {' and '.join(METRICS[key].derived)}; give those a tolerance")
        elif key in tolerances:
            here.wrong(key, "is one quantity with another key of this table; give one of the two")
        else:
            try:
                tolerances.update(_with_derived(key, parse_tolerance(growth, METRICS[key])))
            except ValueError as error:
                here.wrong(key, error)
    return tolerances


def _read_common_tolerance(value: object, place: _Place) -> Mapping[str, Tolerance]:
    if value == 0 and not isinstance(value, bool):
        return _exact()
    if not isinstance(value, str) or not value.rstrip().endswith("%"):
        place.wrong("tolerance", f'{value!r} does not fit every metric; write "1%", or {{flops = "1%", params = 0}}')
        return {}
    try:
        return {**dict.fromkeys(METRICS, Tolerance(relative=parse_percent(value))), "latency": LATENCY_TOLERANCE}
    except ValueError as error:
        place.wrong("tolerance", error)
        return {}


def _with_derived(key: str, tolerance: Tolerance) -> Mapping[str, Tolerance]:
    """The tolerance of ``key`` and of the metrics that are the same quantity in another unit."""
    if METRICS[key].per:
        return {key: tolerance}
    (source,) = METRICS[key].derived or (key,)
    absolute = tolerance.absolute * METRICS[key].divisor
    same = {source: replace(tolerance, absolute=absolute)}
    for metric in METRICS.values():
        if metric.derived == (source,):
            same[metric.key] = replace(tolerance, absolute=absolute // metric.divisor)
    return same
