"""Count a model at single sizes. Each size is counted once, and all metrics of all modules come from this count."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from pytest_flopsbudget.counting.attempts import ShapesOnlyError
from pytest_flopsbudget.counting.measure import trace_inputs
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.inputs import read_made
from pytest_flopsbudget.quantities.metrics import METRICS, is_remarkable, key_for, measured_value

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from pytest_flopsbudget.config.settings import ShapesMode
    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.laws.algebra.domains import Domain, Point
    from pytest_flopsbudget.quantities.metrics import Amount
    from pytest_flopsbudget.results.complexity import Complexity

#: Steps of ranges that are tried for a hint, after the model refused a size.
_STEPS = (2, 3, 4, 5, 6, 7, 8, 9, 12, 14, 16, 24, 28, 32, 64, 128)


class Part(NamedTuple):
    """The model, a module or an operator."""

    #: "module" (the model itself has the path ""), "operator", or "calls".
    kind: str
    name: str


class Key(NamedTuple):
    """One value of a count: a metric of a part."""

    kind: str
    name: str
    metric: str


#: The calls of operators, as one number.
CALLS = Key("calls", "", "")


class TooManyCountsError(Exception):
    """A search needs more counts than it may make."""


@dataclass(frozen=True, slots=True)
class Count:
    """One count."""

    complexity: Complexity
    #: The number of the program that ran. A program is a set of modules (with numbers left out), operators and phases.
    program: int
    #: A number that follows from how often each module ran each operator. If loops or branches depend on the size, it
    #: differs between sizes.
    calls: int

    def value(self, key: Key) -> int | None:
        """Return the value; None if the count has none."""
        if key == CALLS:
            return self.calls
        metrics = self.metrics(key.kind, key.name)
        value = None if metrics is None else _whole(metrics, key.metric)
        # A count leaves out the values of operators that are 0.
        return 0 if value is None and key.kind == "operator" else value

    def metrics(self, kind: str, name: str) -> Mapping[str, int] | None:
        """Return the metrics of the model, a module or an operator; None if the count has no such part."""
        if kind == "operator":
            operator = self.complexity.operators.get(name)
            return None if operator is None else operator.metrics
        if not name:
            return self.complexity.metrics
        module = self.complexity.modules.get(name)
        return None if module is None else module.metrics


def _whole(metrics: Mapping[str, int], metric: str) -> int | None:
    value: Amount | None = metrics.get(metric)
    if value is None:
        value = measured_value(metrics, metric)
    return value if isinstance(value, int) else None


class Counts:
    """The counts of a model at single sizes.

    Args:
        model: the model; None if ``make_inputs`` returns one for each size.
        make_inputs: is called with one keyword argument for each symbol.
        domain: the sizes of the law.
        largest: the maximum number of counts.
        backward: whether the backward pass is counted too.
        on_data: whether a model that needs data may run on its data.
        devices: the devices for which the time is estimated.
        trace: measures one call; see `trace_inputs`.
    """

    def __init__(  # noqa: PLR0913 -- the options of `law`
        self,
        model: Callable[..., Any] | None,
        make_inputs: Callable[..., Any],
        domain: Domain,
        *,
        largest: int,
        backward: bool = False,
        on_data: bool = False,
        devices: Sequence[Device] = (),
        trace: Callable[..., tuple[Complexity, Tracer]] = trace_inputs,
    ) -> None:
        self._model, self._make_inputs, self._trace = model, make_inputs, trace
        #: The sizes of the law.
        self.domain = domain
        self._backward, self._on_data, self._devices = backward, on_data, devices
        #: The maximum number of counts.
        self.largest = largest
        #: Point → its count, in the order of counting.
        self.made: dict[Point, Count] = {}
        #: The name of the model, and whole numbers among the attributes of its modules.
        self.model_name = ""
        self.settings: set[int] = set()
        #: (symbol, period as a number of sizes), for each period in the laws that were found so far.
        self.periods: set[tuple[str, int]] = set()
        #: (domain, number of additional points, number of periods) → the points that check an expression.
        self.check_points: dict[tuple[Domain, int, int], list[Point]] = {}
        #: Part → the number of counts when its metrics were compared with those of other parts, and these metrics.
        self._numbers: dict[Part, tuple[int, Hashable]] = {}
        #: What ran → the number of this program.
        self._programs: dict[frozenset[tuple[str, str, str]], int] = {}

    def at(self, point: Point) -> Count:
        """Return the count at a point.

        Raises:
            TooManyCountsError: the maximum number of counts is reached.
            UsageError: the model refuses the size, or needs data.
        """
        known = self.made.get(point)
        if known is None:
            if len(self.made) >= self.largest:
                raise TooManyCountsError
            try:
                known = self.made[point] = self._count(point)
            except ShapesOnlyError as error:
                raise UsageError(
                    f"law(...): the model needs data at {self._named(point)}: {error.asked}; its counts may depend on "
                    "the data, so allow runs on the data of make_inputs with on_data=True, or leave that part out"
                ) from error
            except UsageError as error:
                raise UsageError(f"law(...) at {self._named(point)}: {error}") from error
            except Exception as error:
                raise UsageError(
                    f"law(...): the model fails at {self._named(point)} with {type(error).__name__}: "
                    f"{_first_line(error)}; {self._hint(point)}"
                ) from error
        return known

    def step(self, symbol: str) -> int:
        """Return the distance between two sizes of a symbol, as the caller gave it."""
        return self.domain[symbol].step

    def named(self, point: Point) -> dict[str, int]:
        """Return symbol → size for a point."""
        return self.domain.named(point)

    def value(self, key: Key, point: Point) -> int | None:
        """Return one value of the count at a point."""
        return self.at(point).value(key)

    def values(self, key: Key) -> tuple[int | None, ...]:
        """Return one value of all counts so far, in the order of counting."""
        stored = [count.metrics(key.kind, key.name) for count in self.made.values()]
        values = [None if metrics is None else metrics.get(key.metric) for metrics in stored]
        if None in values:  # the metric is derived from others, or a count has no such part
            return tuple([count.value(key) for count in self.made.values()])
        return tuple(values)

    def parts(self) -> dict[Part, list[str]]:
        """Return the parts that all counts so far have, each with its metrics.

        The model is the first part. Modules follow, and then operators.
        """
        counts = list(self.made.values())
        first = counts[0].complexity
        modules = [path for path in first.modules if all(path in count.complexity.modules for count in counts)]
        of_model = [
            metric
            for metric in METRICS
            if _whole(first.metrics, metric) is not None
            and any(is_remarkable(count.complexity.metrics, metric) for count in counts)
        ]
        of_module = [metric for metric in of_model if METRICS[metric].aggregation != "whole"]
        of_operator = [metric for metric in of_model if METRICS[metric].aggregation == "sum"]
        operators = dict.fromkeys(name for count in counts for name in count.complexity.operators)
        times = [key_for(metric, device.name) for device in self._devices for metric in METRICS if _is_time(metric)]
        parts = {Part("module", path): [*of_module, *times] for path in modules if path}
        parts |= {Part("operator", name): of_operator for name in operators}
        return {Part("module", ""): [*of_model, *times]} | parts

    def numbers(self, part: Part) -> Hashable:
        """Return an object that is equal for two parts if all their metrics are equal in all counts so far."""
        known = self._numbers.get(part)
        if known is None or known[0] < len(self.made):
            found = [count.metrics(part.kind, part.name) for count in self.made.values()]
            numbers = part.kind, not part.name, tuple([None if one is None else tuple(one.items()) for one in found])
            known = self._numbers[part] = len(self.made), numbers
        return known[1]

    def _count(self, point: Point) -> Count:
        model, inputs = read_made(self._model, self._make_inputs(**self.domain.named(point)))
        if not self.settings:
            self.settings = whole_settings(model) | {1}
        shapes: ShapesMode = "preferred" if self._on_data else "only"
        complexity, tracer = self._trace(
            model,
            inputs,
            backward=self._backward,
            shapes=shapes,
            devices=self._devices,
        )
        self.model_name = complexity.model
        ran = Counter({("", name, "unknown"): one.calls for name, one in complexity.unknown_operators.items()})
        for (node, work, when), times in tracer.credits.items():
            ran[_without_numbers(node.path), work.name, when] += times
        # Each kind of call has a weight, so that a change of one kind does not cancel a change of another one.
        calls = sum(times * (1 + crc32("\0".join(kind).encode())) for kind, times in ran.items())
        return Count(complexity, self._programs.setdefault(frozenset(ran), len(self._programs)), calls)

    def _named(self, point: Point) -> str:
        return ", ".join(f"{symbol}={size}" for symbol, size in self.domain.named(point).items())

    def _accepts(self, point: Point) -> bool:
        try:
            self._count(point)
        except Exception:  # noqa: BLE001 -- any error of the model means that it refuses the size
            return False
        return True

    def _hint(self, point: Point) -> str:
        """Return which range fits, if a few trials find one."""
        sizes = self.domain.named(point)
        for symbol, allowed in self.domain.ranges:
            others = {**self.domain.named(self.domain.highest), **sizes}

            def accepts(size: int, symbol: str = symbol, others: Mapping[str, int] = others) -> bool:
                return self._accepts(tuple({**others, symbol: size}.values()))

            larger = next(
                (
                    size
                    for size in (2**power for power in range(1, 15))
                    if size > sizes[symbol] and size in allowed and accepts(size) and accepts(size + 1)
                ),
                None,
            )
            if larger is not None:
                return f"larger sizes fit, such as {symbol}={larger}; choose a range that begins there"
            for step in _STEPS:
                start = -(-allowed[0] // step) * step
                if start + 2 * step <= allowed[-1] and all(
                    map(accepts, (start, start + step, allowed[-1] // step * step))
                ):
                    return f"the multiples of {step} fit: {symbol}=range({start}, {allowed.stop}, {step})"
        return "choose a range of sizes that the model takes"


def _is_time(metric: str) -> bool:
    return METRICS[metric].per == "device" and not METRICS[metric].of_serving


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0]


@lru_cache(maxsize=4096)
def _without_numbers(path: str) -> str:
    return re.sub(r"\d+", "#", path)


#: Parts of attribute names whose values are widths or numbers of things, not distances between inputs.
_NO_DISTANCE = ("features", "channels", "dim", "heads", "num_", "embed", "hidden", "groups", "training", "version")
_LARGEST_SETTING = 1024


def whole_settings(model: Any) -> set[int]:
    """Return whole numbers among the attributes of the model's modules: strides, patches, windows, paddings."""
    found: set[int] = set()
    modules = getattr(model, "modules", None)
    for module in modules() if callable(modules) else ():
        for name, value in vars(module).items():
            if name.startswith("_") or any(part in name for part in _NO_DISTANCE):
                continue
            values = value if isinstance(value, (tuple, list)) else (value,)
            found.update(
                one for one in values if type(one) is int and 1 < one <= _LARGEST_SETTING and len(values) <= _MOST_DIMS
            )
    return found


_MOST_DIMS = 4
