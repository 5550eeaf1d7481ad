"""The mean of several measurements of one model, for a model whose work depends on its data."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from pytest_flopsbudget.quantities.metrics import value_to_add
from pytest_flopsbudget.results.data import UnknownOperator

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.data import Module, Operator, Phase

_Name = TypeVar("_Name", bound=str)
_Part = TypeVar("_Part", "Module", "Operator", "Phase")
_Called = TypeVar("_Called", "Module", "Operator")


def mean(measurements: Sequence[Complexity]) -> Complexity:
    """Return the mean of measurements of one model, in every metric of the model, its modules and its operators.

    A mean that is not a whole number is rounded up, so that rounding never brings a value within its limit. If a
    measurement lacks a module or an operator, the value there counts as 0.

    Args:
        measurements: the measurements, at least one.

    Returns:
        A measurement whose ``inputs`` are the inputs of all measurements, one text for each kind of input.
    """
    count = len(measurements)
    first = measurements[0]
    if count == 1:
        return first
    modules = [one.modules for one in measurements]
    operators = [one.operators for one in measurements]
    unknown: dict[str, UnknownOperator] = {}
    for one in measurements:
        for name, operator in one.unknown_operators.items():
            known = unknown.get(name, UnknownOperator(calls=0))
            places = tuple(sorted({*known.modules, *operator.modules}))
            unknown[name] = UnknownOperator(calls=known.calls + operator.calls, modules=places)
    return replace(
        first,
        metrics=_mean_of_metrics([one.metrics for one in measurements]),
        inputs=tuple(dict.fromkeys(", ".join(one.inputs) for one in measurements)),
        execution="real" if any(one.execution == "real" for one in measurements) else first.execution,
        modules=_with_mean_calls(_mean_of_parts(modules), modules),
        operators=_with_mean_calls(_mean_of_parts(operators), operators),
        phases=_mean_of_parts([one.phases for one in measurements]),
        unknown_operators=dict(sorted(unknown.items())),
        memory_at_peak=None,
        memory_over_time=(),
        timing=None,
        notes=(
            f"the mean of {count:,} measurements, rounded up",
            *dict.fromkeys(note for one in measurements for note in one.notes),
        ),
    )


def _mean_of_parts(measured: Sequence[Mapping[_Name, _Part]]) -> dict[_Name, _Part]:
    found: dict[_Name, _Part] = {}
    for name in dict.fromkeys(name for parts in measured for name in parts):
        own = [parts[name] for parts in measured if name in parts]
        found[name] = replace(own[0], metrics=_mean_of_metrics([part.metrics for part in own], len(measured)))
    return found


def _with_mean_calls(parts: dict[str, _Called], measured: Sequence[Mapping[str, _Called]]) -> dict[str, _Called]:
    return {
        name: replace(part, calls=_rounded_up(sum(own[name].calls for own in measured if name in own), len(measured)))
        for name, part in parts.items()
    }


def _mean_of_metrics(measured: Sequence[Mapping[str, int]], count: int | None = None) -> dict[str, int]:
    keys = dict.fromkeys(key for metrics in measured for key in metrics)
    return {key: _rounded_up(sum(value_to_add(one, key) for one in measured), count or len(measured)) for key in keys}


def _rounded_up(total: int, count: int) -> int:
    return -(-total // count)
