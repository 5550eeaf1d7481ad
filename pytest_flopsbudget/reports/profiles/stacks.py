"""A measurement as stacks of modules with the value of each module itself, as profilers store samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.metrics import METRICS, count_of, is_key, is_measured, metric_of
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.results.module_tree import ADDING
from pytest_flopsbudget.safe_text import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.results.complexity import Complexity


class Frame(NamedTuple):
    """One module in a stack."""

    #: The last part of the module's path; for the model itself, the name of its class.
    name: str
    #: The name of the module's class.
    kind: str


class Stack(NamedTuple):
    """A module with the modules around it, outermost first, and its value without the modules below it."""

    frames: tuple[Frame, ...]
    value: int
    #: The path of the module; empty for the model itself.
    path: str = ""


def check_metric(key: str) -> None:
    """Refuse a metric that has no sum over modules.

    Raises:
        UsageError: there is no such metric, or it does not add up over modules.
    """
    if not is_key(key):
        near = nearest_spelling(key, METRICS)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(METRICS)}"
        raise UsageError(f"no metric {key!r}; {hint}")
    if metric_of(key).aggregation not in ADDING:
        adding = ", ".join(one for one, metric in METRICS.items() if metric.aggregation in ADDING)
        raise UsageError(f"{key} does not add up over modules, so it has no stacks; there are {adding}")


def stacks(complexity: Complexity, key: str) -> Iterator[Stack]:
    """Yield a stack for each module whose own value of the metric is not 0.

    All values of a metric that sums work add up to the model's value. A parameter that several modules share counts in
    each of them, and once in a module that contains them.

    Raises:
        UsageError: there is no such metric, it was not measured, or it does not add up over modules.
    """
    check_metric(key)
    if not is_measured(complexity.metrics, key):
        measured = [one for one in METRICS if metric_of(one).aggregation in ADDING and one in complexity.metrics]
        raise UsageError(f"{key} was not measured for {visible(complexity.model)}; there are {', '.join(measured)}")
    paths = ["", *(path for path in complexity.modules if path)]
    known = set(paths)
    total = {path: _value(complexity, path, key) for path in paths}
    below = dict.fromkeys(paths, 0)
    for path in paths[1:]:
        below[_above(path, known)] += total[path]
    for path in paths:
        value = max(0, total[path] - below[path])
        if value:
            yield Stack(_frames(complexity, path), value, path)


def _value(complexity: Complexity, path: str, key: str) -> int:
    metrics = complexity.modules[path].metrics if path else complexity.metrics
    return count_of(metrics, key) or 0


def _above(path: str, known: set[str]) -> str:
    above = path.rpartition(".")[0]
    while above and above not in known:
        above = above.rpartition(".")[0]
    return above


def _frames(complexity: Complexity, path: str) -> tuple[Frame, ...]:
    name = visible(complexity.model)
    frames = [Frame(name, name)]
    parts = path.split(".") if path else []
    for end, part in enumerate(parts, 1):
        module = complexity.modules.get(".".join(parts[:end]))
        frames.append(Frame(visible(part), "" if module is None else visible(module.type)))
    return tuple(frames)
