"""What a team writes in ``[tool.pytest-flopsbudget]`` and in markers, as checked data."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, TypeVar, get_args

from pytest_flopsbudget.device_settings import read_devices, read_time_on
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware import devices as known_devices
from pytest_flopsbudget.identifiers import OPERATOR, matches_pattern
from pytest_flopsbudget.limit_settings import device_in, read_modules, read_phases, read_quantities
from pytest_flopsbudget.mistakes import Place as _Place
from pytest_flopsbudget.results.metrics import METRICS, Amount, base_of, is_key, key_for, name_in
from pytest_flopsbudget.units import (
    Tolerance,
    nearest_spelling,
    parse_percent,
    parse_quantity,
    parse_tolerance,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_flopsbudget.hardware.device import Device


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
    "time-on",
    "devices",
    "machine",
    "latency-run-time",
)

#: What a clock measures is never twice the same.
LATENCY_TOLERANCE = Tolerance(relative=Fraction(1, 10))

_T = TypeVar("_T")


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
    #: Names of the devices for which the time of every measurement is estimated.
    time_on: tuple[str, ...] = ()
    #: Name → profile of a device, of the project's own ones.
    devices: Mapping[str, Device] = field(default_factory=dict)
    #: What the machine that measures latencies is called; None for the name of its hardware.
    machine: str | None = None
    #: Nanoseconds for which a model is run to measure its latency, at least.
    latency_run_time: int = 10**9

    def watches(self, nodeid: str) -> bool:
        """Whether the test ``nodeid`` is watched without a marker."""
        return any(matches_pattern(nodeid, pattern) for pattern in self.watch)

    def budgets_for(self, nodeid: str) -> tuple[Budget, ...]:
        """The budgets that hold for the test ``nodeid``, the closest last."""
        everywhere = () if self.limits is None else (self.limits,)
        matching = (b for b in self.budgets if any(matches_pattern(nodeid, pattern) for pattern in b.match))
        return (*everywhere, *matching)


def load_settings(rootpath: Path) -> Settings:
    """What ``pyproject.toml`` in ``rootpath`` says; the defaults where it or its table is missing.

    Raises:
        UsageError: the file cannot be read, or says something wrong; names every mistake, one or two lines each.
    """
    path = rootpath / _FILE
    mistakes: list[str] = []
    table = _find_table(_read_document(path), mistakes)
    settings = Settings() if table is None else replace(_read_settings(table, mistakes), path=path)
    _raise(mistakes)
    return settings


def marker_budget(
    args: tuple[object, ...], kwargs: Mapping[str, object], source: str, devices: Mapping[str, Device] | None = None
) -> Budget:
    """The budget that ``@pytest.mark.flops_budget(*args, **kwargs)`` sets, in metrics, modules and phases.

    Args:
        args: the marker's positional arguments, of which it takes none.
        kwargs: its keywords.
        source: where it stands, for messages: "marker on test_backbone".
        devices: the project's own profiles of devices, by name.

    Raises:
        UsageError: names every mistake, one or two lines each.
    """
    mistakes: list[str] = []
    place = _Place(f"{source}:", mistakes, devices=devices or {})
    if args:
        shown = ", ".join(map(repr, args))
        mistakes.append(
            f'{source}: limits are keywords, not {shown}; write @pytest.mark.flops_budget(flops="8.2 GFLOPs")'
        )
    budget = _read_budget(kwargs, place, source, besides=("modules", "phases", "tolerance"))
    _raise(mistakes)
    return budget


def device_named(settings: Settings, name: str) -> Device:
    """The device that is called ``name``, in whatever case: one of the project's own, or a known one.

    Raises:
        ValueError: there is none. The message names what is near and all that there are.
    """
    return known_devices.device_named(name, settings.devices)


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
    if settings.time_on:
        parts.append(f"estimates time on {', '.join(settings.time_on)}")
    return f"{_FILE}: {', '.join(parts)}" if parts else f"no budgets in {_FILE}"


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


def _read_settings(table: Mapping[str, object], mistakes: list[str]) -> Settings:
    devices = read_devices(table.get("devices", {}), _Place(f"{_FILE}: [tool.{_TABLE}]", mistakes))
    place = _Place(f"{_FILE}: [tool.{_TABLE}]", mistakes, devices=devices)
    for key in table:
        if key in METRICS or key in {"modules", "phases"}:
            place.wrong(key, f"limits for every test stand in {_LIMITS}, those for some in {_BUDGETS}")
        elif key not in _KEYS:
            place.unknown(key, _KEYS)
    tolerance = _read_tolerance(table, place)
    return Settings(
        limits=_read_limits(table["limits"], place) if "limits" in table else None,
        budgets=_read_budgets(table["budgets"], place) if "budgets" in table else (),
        tolerance={**_exact(), **tolerance},
        missing_baseline=_read_choice(table, "missing-baseline", _REACTIONS, Settings().missing_baseline, place),
        unknown_operators=_read_choice(table, "unknown-operators", _REACTIONS, Settings().unknown_operators, place),
        improved_baseline=_read_choice(table, "improved-baseline", _IMPROVEMENTS, Settings().improved_baseline, place),
        free_operators=_read_operators(table.get("free-operators", []), place),
        show=_read_shown(table.get("show", Settings().show), place),
        github=_read_choice(table, "github", _ON_GITHUB, Settings().github, place),
        junit_properties=_read_choice(table, "junit-properties", _SWITCHES, Settings().junit_properties, place),
        shortcuts=_read_choice(table, "shortcuts", _SWITCHES, Settings().shortcuts, place),
        watch=_read_patterns(table.get("watch", []), place),
        time_on=read_time_on(table.get("time-on", []), devices, place),
        devices=devices,
        machine=_read_machine(table["machine"], place) if "machine" in table else None,
        latency_run_time=_read_run_time(table.get("latency-run-time", "1 s"), place),
    )


def _read_machine(value: object, place: _Place) -> str | None:
    if (
        isinstance(value, str)
        and value
        and value == value.strip()
        and value.isprintable()
        and not set(value) & set("[]")
    ):
        return value
    place.wrong("machine", f'{value!r} is no name of a machine, which has no brackets; write one like "ci-runner"')
    return None


def _read_run_time(value: object, place: _Place) -> int:
    try:
        run_time = parse_quantity(value, METRICS["latency"])
    except ValueError as error:
        place.wrong("latency-run-time", error)
        return Settings().latency_run_time
    if not run_time:
        place.wrong("latency-run-time", f'{value!r} is no time to run in; write one like "1 s"')
    return run_time


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
        return key_for(base, device_in(name, place, "show") or name) if name and per == "device" else value
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
        limits=read_quantities(table, place, besides=besides),
        modules=read_modules(table["modules"], place) if "modules" in table else {},
        phases=read_phases(table["phases"], place) if "phases" in table else {},
        tolerance=_read_tolerance(table, place),
    )


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
    # What a clock measures has a tolerance of its own, which only its own key changes.
    others = [key for key in METRICS if key != "latency"]
    if value == 0 and not isinstance(value, bool):
        return dict.fromkeys(others, Tolerance())
    if not isinstance(value, str) or not value.rstrip().endswith("%"):
        place.wrong("tolerance", f'{value!r} does not fit every metric; write "1%", or {{flops = "1%", params = 0}}')
        return {}
    try:
        return dict.fromkeys(others, Tolerance(relative=parse_percent(value)))
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
