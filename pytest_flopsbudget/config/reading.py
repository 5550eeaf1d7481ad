"""Read settings and the budgets of markers, and report every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar, get_args

from pytest_flopsbudget.config.devices import read_devices, read_time_on
from pytest_flopsbudget.config.growth import LAW_KEYS, read_formulas, read_growth, read_module_growth
from pytest_flopsbudget.config.limits import (
    NOT_IN_BASELINES,
    device_in,
    read_hold,
    read_modules,
    read_operators,
    read_phases,
    read_quantities,
)
from pytest_flopsbudget.config.prescan import FILE, TABLE
from pytest_flopsbudget.config.problems import Problems, with_dicts
from pytest_flopsbudget.config.pyproject import find_table, read_document
from pytest_flopsbudget.config.settings import (
    AnchorSetting,
    Budget,
    Improvement,
    OnGitHub,
    Reaction,
    Settings,
    ShapesMode,
    Switch,
    exact_tolerances,
)
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.identifiers import OPERATOR
from pytest_flopsbudget.quantities.metrics import METRICS, Metric, base_of, compared_parts, is_key, key_for, name_in
from pytest_flopsbudget.quantities.parsing import parse_percent, parse_quantity, parse_tolerance, quote_value
from pytest_flopsbudget.quantities.tolerance import Tolerance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.quantities.bounds import Bounds

_REACTIONS: tuple[Reaction, ...] = ("fail", "warn", "ignore")
_IMPROVEMENTS: tuple[Improvement, ...] = ("pass", "fail")
_SWITCHES: tuple[Switch, ...] = get_args(Switch)
_SHAPES: tuple[ShapesMode, ...] = get_args(ShapesMode)
_ON_GITHUB: tuple[OnGitHub, ...] = get_args(OnGitHub)

_LIMITS = f"[tool.{TABLE}.limits]"
_TOTAL = f"[tool.{TABLE}.total]"
_BUDGETS = f"[[tool.{TABLE}.budgets]]"
#: A keyword that only the fixture takes, and no marker → a call of the fixture with this keyword.
_OF_THE_CALL = {
    "backward": "flops_budget(model, inputs, backward=True)",
    "name": 'flops_budget(model, inputs, name="...")',
    "args": "flops_budget(model, args)",
    "kwargs": "flops_budget(model, kwargs={...})",
    "inputs": "flops_budget(model, inputs)",
    "model": "flops_budget(model, inputs)",
    **dict.fromkeys(
        ("prompt", "new_tokens", "batch"), "flops_budget.serving(model, prompt=2048, new_tokens=256, batch=8)"
    ),
}
#: The keys of a budget that hold tables of limits.
_PARTS = ("modules", "operators", "phases", "measurements")
_KEYS = (
    "tolerance",
    "hold",
    "missing-baseline",
    "unknown-operators",
    "improved-baseline",
    "anchor",
    "free-operators",
    "show",
    "github",
    "junit-properties",
    "reuse-answers",
    "shapes",
    "limits",
    "total",
    "budgets",
    "watch",
    "time-on",
    "devices",
    "machine",
    "latency-run-time",
)

#: The keys whose settings apply to a whole run, not to single tests.
_KEYS_OF_RUN = ("show", "total", "github", "junit-properties", "free-operators", "machine")

_T = TypeVar("_T")


def load_settings(folder: Path, file: str = FILE) -> Settings:
    """Return the settings in the folder's pyproject; the default settings if the file or its table is missing.

    Args:
        folder: the folder of the pyproject.
        file: the name of the pyproject in messages: its path relative to pytest's root folder.

    Raises:
        UsageError: the file cannot be read or has mistakes. The message names every mistake, one or two lines each.
    """
    path = folder / FILE
    messages: list[str] = []
    table = find_table(read_document(path, file), messages, file)
    settings = Settings() if table is None else replace(_read_settings(table, messages, file), path=path)
    _raise(messages)
    return settings


def marker_budget(
    args: tuple[object, ...], kwargs: Mapping[str, object], source: str, devices: Mapping[str, Device] | None = None
) -> Budget:
    """Return the budget of ``@pytest.mark.flops_budget(*args, **kwargs)``.

    Args:
        args: the marker's positional arguments. Each one is a mistake, because limits are keywords.
        kwargs: the marker's keyword arguments.
        source: the place of the marker in messages: "@pytest.mark.flops_budget on test_net.py::test_a".
        devices: the project's own profiles of devices, by name.

    Raises:
        UsageError: the marker has mistakes. The message names every mistake, one or two lines each.
    """
    messages: list[str] = []
    problems = Problems(f"{source}:", messages, devices=devices or {})
    if args:
        shown = ", ".join(map(repr, args))
        messages.append(
            f'{source}: limits are keywords, not {shown}; write @pytest.mark.flops_budget(flops="8.2 GFLOPs")'
        )
    for key, call in _OF_THE_CALL.items():
        if key in kwargs:
            problems.add(key, f"belongs in the call: {call}")
    limits = {key: value for key, value in kwargs.items() if key not in _OF_THE_CALL}
    budget = _read_budget(limits, problems, source, besides=(*_PARTS, *LAW_KEYS, "tolerance", "hold"))
    _raise([with_dicts(message) for message in messages])
    return budget


def _raise(messages: Sequence[str]) -> None:
    if messages:
        raise UsageError("\n".join(messages))


def settings_of_test(nearest: Settings, run: Settings) -> Settings:
    """Return the settings for a test.

    Most settings are from ``nearest``, the pyproject nearest to the test. Settings of the whole run are from ``run``.
    Devices are from both pyprojects.
    """
    return replace(
        nearest,
        show=run.show,
        total=run.total,
        github=run.github,
        junit_properties=run.junit_properties,
        free_operators=run.free_operators,
        machine=run.machine,
        devices={**run.devices, **nearest.devices},
    )


def _read_settings(table: Mapping[str, object], messages: list[str], file: str) -> Settings:
    head = f"{file}: [tool.{TABLE}]"
    devices = read_devices(table.get("devices", {}), Problems(head, messages, file=file))
    problems = Problems(head, messages, devices=devices, file=file)
    for key in table:
        if key in METRICS or key in (*_PARTS, *LAW_KEYS):
            problems.add(key, f"write limits for every test in {_LIMITS}, and limits for some tests in {_BUDGETS}")
        elif key not in _KEYS:
            problems.add_unknown_key(key, _KEYS)
    tolerance = _read_tolerance(table, problems)
    hold = read_hold(table["hold"], problems) if "hold" in table else Settings().hold
    return Settings(
        file=file,
        keys_of_run=tuple(key for key in table if key in _KEYS_OF_RUN),
        limits=_read_limits(table["limits"], problems) if "limits" in table else None,
        total=_read_total(table["total"], problems) if "total" in table else {},
        budgets=_read_budgets(table["budgets"], problems) if "budgets" in table else (),
        tolerance={**exact_tolerances(), **tolerance},
        hold=tuple(dict.fromkeys((*hold, *_tolerated(table)))),
        missing_baseline=_read_choice(table, "missing-baseline", _REACTIONS, Settings().missing_baseline, problems),
        unknown_operators=_read_choice(table, "unknown-operators", _REACTIONS, Settings().unknown_operators, problems),
        improved_baseline=_read_choice(
            table, "improved-baseline", _IMPROVEMENTS, Settings().improved_baseline, problems
        ),
        anchor=_read_anchor(table["anchor"], problems) if "anchor" in table else None,
        free_operators=_read_operators(table.get("free-operators", []), problems),
        show=_read_shown(table.get("show", Settings().show), problems),
        github=_read_choice(table, "github", _ON_GITHUB, Settings().github, problems),
        junit_properties=_read_choice(table, "junit-properties", _SWITCHES, Settings().junit_properties, problems),
        reuse_answers=_read_choice(table, "reuse-answers", _SWITCHES, Settings().reuse_answers, problems),
        shapes=_read_choice(table, "shapes", _SHAPES, Settings().shapes, problems),
        watch=_read_patterns(table.get("watch", []), problems),
        time_on=read_time_on(table.get("time-on", []), devices, problems),
        devices=devices,
        machine=_read_machine(table["machine"], problems) if "machine" in table else None,
        latency_run_time=_read_run_time(table.get("latency-run-time", "1 s"), problems),
    )


def _read_anchor(value: object, problems: Problems) -> AnchorSetting | None:
    if not isinstance(value, dict) or not {"revision", "tolerance"} <= value.keys():
        example = '{revision = "v1.2.0", tolerance = "10%"}'
        problems.add("anchor", f"{quote_value(value)} does not name both a revision and a tolerance; write {example}")
        return None
    here = problems.inside("anchor")
    for key in value.keys() - {"revision", "tolerance"}:
        here.add_unknown_key(key, ("revision", "tolerance"))
    revision = value["revision"]
    if not isinstance(revision, str) or not revision or revision.startswith("-") or not revision.isprintable():
        here.add("revision", f'{quote_value(revision)} is no tag, branch or commit; write one like "v1.2.0"')
        return None
    tolerance = {**exact_tolerances(), **_read_tolerance(value, here)}
    return AnchorSetting(revision, tolerance, f"{problems.head} anchor")


def _read_machine(value: object, problems: Problems) -> str | None:
    if (
        isinstance(value, str)
        and value
        and value == value.strip()
        and value.isprintable()
        and not set(value) & set("[]")
    ):
        return value
    problems.add(
        "machine", f'{quote_value(value)} is not the name of a machine; write a name without brackets, like "ci-runner"'
    )
    return None


def _read_run_time(value: object, problems: Problems) -> int:
    try:
        run_time = parse_quantity(value, METRICS["latency"])
    except ValueError as error:
        problems.add("latency-run-time", error)
        return Settings().latency_run_time
    if not run_time:
        problems.add("latency-run-time", f'{quote_value(value)} is not a time above zero; write one like "1 s"')
    return run_time


def _read_choice(table: Mapping[str, object], key: str, allowed: tuple[_T, ...], default: _T, problems: Problems) -> _T:
    value = table.get(key, default)
    for choice in allowed:
        if value == choice:
            return choice
    problems.add_unknown_choice(key, value, map(str, allowed))
    return default


def _read_shown(value: object, problems: Problems) -> str:
    base, name = (base_of(value), name_in(value)) if isinstance(value, str) else ("", None)
    per = METRICS[base].per if base in METRICS else None
    if isinstance(value, str) and is_key(value):
        return key_for(base, device_in(name, problems, "show") or name) if name and per == "device" else value
    if per == "device":
        problems.add(
            "show", f'{quote_value(value)} has a value for each device; name one, like "{key_for(base, "A100")}"'
        )
        return "flops"
    problems.add_unknown_choice("show", value, METRICS)
    return "flops"


def _read_operators(value: object, problems: Problems) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(name, str) and OPERATOR.fullmatch(name) for name in value):
        return tuple(value)
    problems.add("free-operators", f'{quote_value(value)} is not a list of operators; write ["mylib::scan"]')
    return ()


def _read_patterns(value: object, problems: Problems) -> tuple[str, ...]:
    patterns = [value] if isinstance(value, str) else value
    if isinstance(patterns, list) and all(isinstance(pattern, str) and pattern for pattern in patterns):
        return tuple(patterns)
    problems.add(
        "watch", f'{quote_value(value)} is not a pattern of node ids, nor a list of them; write ["tests/models/*"]'
    )
    return ()


def _read_limits(value: object, problems: Problems) -> Budget | None:
    if not isinstance(value, Mapping):
        problems.add("limits", f"must be a table, not {quote_value(value)}; write {_LIMITS}")
        return None
    here = problems.for_table(f"{problems.file}: {_LIMITS}")
    misplaced = ("tolerance", "hold")
    for key in misplaced:
        if key in value:
            here.add(key, f"belongs one level higher, in [tool.{TABLE}]")
    table = {key: entry for key, entry in value.items() if key not in misplaced}
    budget = _read_budget(table, here, f"{problems.file}, {_LIMITS}", besides=(*_PARTS, *LAW_KEYS))
    limited = budget.limits or budget.modules or budget.operators or budget.phases or budget.measurements
    return budget if limited or budget.growth or budget.module_growth or budget.formulas else None


def _read_budgets(value: object, problems: Problems) -> tuple[Budget, ...]:
    if not isinstance(value, list) or not all(isinstance(table, Mapping) for table in value):
        problems.add("budgets", f"must be an array of tables; write {_BUDGETS} above each")
        return ()
    return tuple(_read_matching(table, number, problems) for number, table in enumerate(value, start=1))


def _read_matching(table: Mapping[str, object], number: int, around: Problems) -> Budget:
    problems = around.for_table(f"{around.file}: {_BUDGETS} {number}")
    value = table.get("match")
    patterns = [value] if isinstance(value, str) else value
    match: tuple[str, ...] = ()
    if isinstance(patterns, list) and patterns and all(isinstance(p, str) and p for p in patterns):
        match = tuple(patterns)
    else:
        wrong = (
            "is missing" if value is None else f"{quote_value(value)} is not a pattern of node ids, nor a list of them"
        )
        problems.add("match", f'{wrong}; write match = ["tests/test_backbone.py::*"]')
    if set(table) <= {"match"}:
        problems.messages.append(f"{problems.head}: sets no limit, no tolerance and no hold; add one, or remove it")
    source = f"{problems.file}, {_BUDGETS} {number}"
    return replace(
        _read_budget(table, problems, source, besides=("match", *_PARTS, *LAW_KEYS, "tolerance", "hold")), match=match
    )


def _read_budget(table: Mapping[str, object], problems: Problems, source: str, *, besides: tuple[str, ...]) -> Budget:
    """Return the budget in ``table``, which may have the keys ``besides`` in addition to metrics."""
    formulas, exact, rest = read_formulas(table, problems)
    return Budget(
        source=source,
        limits={**read_quantities(rest, problems, besides=besides), **exact},
        modules=read_modules(table["modules"], problems) if "modules" in table else {},
        operators=read_operators(table["operators"], problems) if "operators" in table else {},
        phases=read_phases(table["phases"], problems) if "phases" in table else {},
        growth=read_growth(table["growth"], problems) if "growth" in table else {},
        module_growth=read_module_growth(table["modules"], problems) if "modules" in table else {},
        formulas=formulas,
        measurements=_read_measurements(table["measurements"], problems, source) if "measurements" in table else {},
        tolerance=_read_tolerance(table, problems),
        tolerated=_tolerated(table),
        hold=read_hold(table["hold"], problems) if "hold" in table else None,
    )


def _read_measurements(value: object, problems: Problems, source: str) -> Mapping[str, Budget]:
    if not isinstance(value, Mapping):
        problems.add(
            "measurements",
            f'{quote_value(value)} is not a table of limits by measurement; write {{teacher = {{flops = "8G"}}}}',
        )
        return {}
    here = problems.inside("measurements")
    measurements = {}
    for pattern, limits in value.items():
        if not isinstance(pattern, str) or not pattern:
            here.add(pattern, 'is no name of a measurement; write a pattern of names, like "teacher"')
        elif not isinstance(limits, Mapping) or not limits:
            here.add(pattern, f'{quote_value(limits)} is not a table of limits; write {{flops = "8G"}}')
        else:
            besides = ("modules", "operators", "phases", *LAW_KEYS)
            measurements[pattern] = _read_budget(limits, here.inside(pattern), source, besides=besides)
    return measurements


def _read_total(value: object, problems: Problems) -> Mapping[str, Bounds]:
    if not isinstance(value, Mapping):
        problems.add("total", f"must be a table, not {quote_value(value)}; write {_TOTAL}")
        return {}
    here = problems.for_table(f"{problems.file}: {_TOTAL}")
    bounds = read_quantities(value, here)
    for key, bound in bounds.items():
        metric = METRICS[base_of(key)]
        if metric.aggregation not in {"sum", "distinct"}:
            here.add(key, "has no sum over measurements")
        elif bound.share_of is not None:
            here.add(key, "is a limit on a sum, which is no share of one measurement; write an amount")
        elif bound.minimum is not None:
            here.add(key, "needs a max; a run of some of the tests has a smaller sum, so a min would fail it")
    return bounds


def _tolerated(table: Mapping[str, object]) -> tuple[str, ...]:
    """Return the metrics that the key ``tolerance`` names. Unknown names are skipped. "macs" gives "flops"."""
    value = table.get("tolerance")
    if not isinstance(value, Mapping):
        return ()
    return tuple(part for key in value if key in METRICS for part in compared_parts(key))


def _read_tolerance(table: Mapping[str, object], problems: Problems) -> Mapping[str, Tolerance]:
    value = table.get("tolerance", {})
    if not isinstance(value, Mapping):
        return _read_common_tolerance(value, problems)
    here = problems.inside("tolerance")
    tolerances: dict[str, Tolerance] = {}
    for key, growth in value.items():
        if key not in METRICS:
            here.add_unknown_key(key, METRICS)
        elif METRICS[key].over:
            here.add(key, "is a ratio, which has no tolerance; give a tolerance to the metrics behind it")
        elif reason := _why_not_compared(METRICS[key]):
            here.add(key, reason)
        elif key in METRICS["time"].derived:
            here.add(key, "is a part of time, and only the sum is judged; give a tolerance to time")
        elif len(METRICS[key].derived) > 1 and METRICS[key].per is None:
            here.add(key, f"is the sum of {' and '.join(METRICS[key].derived)}; give these a tolerance")
        elif key in tolerances:
            here.add(key, "is the same quantity as another key of this table; give one of the two")
        else:
            try:
                tolerances.update(_with_derived(key, parse_tolerance(growth, METRICS[key])))
            except ValueError as error:
                here.add(key, error)
    return tolerances


def _why_not_compared(metric: Metric) -> str:
    """Return why no baseline holds the metric; "" if baselines can hold it."""
    if not metric.in_baselines:
        return NOT_IN_BASELINES
    if metric.of_serving and metric.per:
        return "is a bound, which no baseline holds; give a tolerance to kv_cache and bytes_read"
    return ""


def _read_common_tolerance(value: object, problems: Problems) -> Mapping[str, Tolerance]:
    # Latency is noisy, so it has a larger default tolerance. Only the key "latency" changes this default.
    others = [key for key in METRICS if key != "latency"]
    if value == 0 and not isinstance(value, bool):
        return dict.fromkeys(others, Tolerance())
    if not isinstance(value, str) or not value.rstrip().endswith("%"):
        problems.add(
            "tolerance", f'{quote_value(value)} does not fit every metric; write "1%", or {{flops = "1%", params = 0}}'
        )
        return {}
    try:
        return dict.fromkeys(others, Tolerance(relative=parse_percent(value)))
    except ValueError as error:
        problems.add("tolerance", error)
        return {}


def _with_derived(key: str, tolerance: Tolerance) -> Mapping[str, Tolerance]:
    """Return metric key → tolerance, for ``key``. If ``key`` is "flops" or "macs", the result has both."""
    if METRICS[key].per:
        return {key: tolerance}
    (source,) = METRICS[key].derived or (key,)
    absolute = tolerance.absolute * METRICS[key].divisor
    same = {source: replace(tolerance, absolute=absolute)}
    for metric in METRICS.values():
        if metric.derived == (source,):
            same[metric.key] = replace(tolerance, absolute=absolute // metric.divisor)
    return same
