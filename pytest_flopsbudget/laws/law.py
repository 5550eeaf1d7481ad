"""`law`: find out how all metrics of a model grow with its sizes, exactly, from a few counts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from torch.nn import Module

from pytest_flopsbudget.counting.call_hints import check_call
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.catalog import resolve_devices
from pytest_flopsbudget.laws.algebra.comparing import compare_law
from pytest_flopsbudget.laws.algebra.domains import Domain, short_names
from pytest_flopsbudget.laws.algebra.metric_law import MetricLaw
from pytest_flopsbudget.laws.audit import audit_law
from pytest_flopsbudget.laws.counts import CALLS, Counts, Key, Part
from pytest_flopsbudget.laws.fits import CHANCES
from pytest_flopsbudget.laws.search import Search
from pytest_flopsbudget.quantities.metrics import METRICS, base_of
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.results.call_arguments import similar_parameter

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Hashable, Iterator, Sequence

    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.laws.algebra.comparing import Comparison
    from pytest_flopsbudget.laws.algebra.domains import Point
    from pytest_flopsbudget.laws.algebra.metric_law import Piece
    from pytest_flopsbudget.laws.audit import Audit
    from pytest_flopsbudget.results.complexity import Complexity

#: The largest degree of a polynomial.
DEGREE = 4
_MOST_SYMBOLS = 3
#: The maximum number of counts, unless the caller chooses another one.
MOST_COUNTS = 300
#: The maximum number of counts that are made only for laws of modules and operators.
_MOST_OF_PARTS = 40
#: A law of degree 1 needs two sizes, and a third one that checks it.
_FEWEST_SIZES = 3


class PartLaws(Mapping[str, MetricLaw]):
    """The laws of one part of a model: metric key → law."""

    def __init__(self, name: str, laws: Mapping[str, MetricLaw]) -> None:
        self._name, self._laws = name, laws

    def __getitem__(self, metric: str) -> MetricLaw:
        try:
            return self._laws[metric]
        except KeyError:
            absent = METRICS[metric].absent if metric in METRICS else None
            if isinstance(absent, str) and absent in self._laws:
                return self._laws[absent]
            if metric in METRICS and METRICS[metric].over:
                above, below = (" + ".join(parts) for parts in (METRICS[metric].derived, METRICS[metric].over))
                raise KeyError(f"{metric} is a ratio of two laws: {above}, and {below}; take these") from None
            raise KeyError(f"no metric {metric!r} of {self._name}; there are {', '.join(self._laws)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._laws)

    def __len__(self) -> int:
        return len(self._laws)

    def __repr__(self) -> str:
        return f"<laws of {self._name}: {', '.join(self._laws)}>"


class Law(PartLaws):
    """How the metrics of a model grow with its sizes: ``law["flops"]``, ``law.modules["h.0.attn"]["flops"]``."""

    def __init__(  # noqa: PLR0913 -- the parts of a result
        self,
        name: str,
        laws: Mapping[str, MetricLaw],
        *,
        modules: Mapping[str, PartLaws],
        operators: Mapping[str, PartLaws],
        domain: Domain,
        counted: Mapping[Point, Complexity],
        letters: Mapping[str, str],
    ) -> None:
        super().__init__(name, laws)
        #: The class name of the model.
        self.model = name
        #: Path → laws of a module with all modules below it. The path of the model itself is "".
        self.modules = modules
        #: Operator → laws of all its calls.
        self.operators = operators
        #: The sizes for which the laws hold.
        self.domain = domain
        #: Point → the measurement at this point, for all points that were counted.
        self.counted = counted
        #: Symbol → its short name in texts.
        self.letters = letters

    def compare(self, metric: str, formula: str, where: Mapping[str, int] | None = None) -> Comparison:
        """Compare the law of a metric with a formula, for every size of the range.

        ::

            assert law(...).compare("flops", "24*B*S*L*d^2 + 4*B*S^2*L*d", {"L": 12, "d": 768})

        Args:
            metric: the metric key.
            formula: numbers, names, ``+ - * / ^``, parentheses, ceil, floor, log2, min and max. It gives the exact
                value, or a maximum if it begins with ``<=``. Symbols go by their full or their short names.
            where: name → value, for the other names in the formula.

        Returns:
            The comparison. It is true if the formula holds. Its text has the difference, and the modules that make it.

        Raises:
            UsageError: there is no law, or the formula has a mistake.
        """
        return compare_law(self[metric], formula, where, self.modules)

    def audit(  # noqa: PLR0913 -- what a formula may depend on
        self,
        function: Callable[..., Any],
        metric: str = "flops",
        *,
        per: str | None = None,
        tokens: str | None = None,
        given: Mapping[str, Any] | None = None,
        name: str = "",
    ) -> Audit:
        """Hold somebody's formula, a Python function, to the law of a metric, for every size of the range.

        ::

            def flops_per_token(sequence):
                return 6 * 124_439_808 + 12 * 12 * 12 * 64 * sequence

            print(law(model, make_inputs, backward=True, sequence=range(128, 1025)).audit(
                flops_per_token, per="sequence", tokens="sequence"))

        Args:
            function: the formula. It is called with sizes by name: those of its parameters that are symbols of the law.
            metric: the metric key.
            per: the number of parts of a call for one of which the function is, as a formula of the sizes: "batch *
                sequence" for a value per token. None if the function gives the value of a whole call.
            tokens: the tokens of a call, as a formula of the sizes. None for ``per``. With them, parameters that a
                formula multiplies and that are in no product, such as those of embeddings, are named.
            given: parameter → value, for parameters of the function that are no sizes, such as "model".
            name: the name of the function in texts; empty for its ``__name__``.

        Returns:
            The audit. It is true if the function is the law for every size. Its text names the modules that the
            function leaves out, or counts twice or at half.

        Raises:
            UsageError: there is no law, or the function cannot be called with the sizes.
        """
        return audit_law(
            self[metric],
            function,
            name=name or getattr(function, "__name__", "") or "the formula",
            per=per,
            tokens=tokens or per,
            modules=self.modules,
            backward=self.largest.backward,
            given=given,
        )

    @property
    def points(self) -> tuple[dict[str, int], ...]:
        """The sizes that were counted, in the order of counting."""
        return tuple(map(self.domain.named, self.counted))

    @property
    def largest(self) -> Complexity:
        """The measurement of the largest sizes."""
        return self.counted[self.domain.highest]

    @property
    def chance(self) -> Fraction:
        """An upper bound for the probability that a wrong polynomial passed the random points (Schwartz-Zippel)."""
        # Each random point is from another part of the range.
        shortest = max(1, min(len(self.domain.sizes(symbol)) for symbol in self.domain.symbols) // CHANCES)
        return min(Fraction(1), Fraction(DEGREE * len(self.domain.symbols), shortest)) ** CHANCES

    @property
    def execution(self) -> str:
        """The way of counting: "real" if a count ran on data, else "shapes"."""
        return "real" if any(one.execution == "real" for one in self.counted.values()) else "shapes"

    @property
    def evidence(self) -> str:
        """One sentence on what the laws rest on."""
        data = ", which ran on data" if self.execution == "real" else ""
        chance = f"a wrong polynomial passes them with a probability of at most {float(self.chance):.1g}"
        if len(self.counted) >= len(self.domain):
            chance = "every size was counted"
        return (
            f"exact for {self.domain.text(self.letters, signs=False)}; rests on {len(self.counted):,} counts{data}; "
            f"{chance}"
        )

    def text(self, *, signs: bool = True) -> str:
        """Return the laws of the model as lines, one for each metric, with what they rest on."""
        width = max(map(len, self), default=0)
        lines = [f"{metric:{width}}  {law.text(signs=signs)}" for metric, law in self.items()]
        return "\n".join([f"{self.model}: {self.evidence}", *(f"    {line}" for line in lines)])

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"<Law of {self.model}: {self.evidence}>"


def law(  # noqa: PLR0913 -- the options of a measurement
    model: Callable[..., Any] | None,
    make_inputs: Callable[..., Any],
    *,
    backward: bool = False,
    on_data: bool = False,
    devices: Sequence[str | Device] = (),
    metrics: Sequence[str] | None = None,
    most_counts: int = MOST_COUNTS,
    **symbols: range,
) -> Law:
    """Return how all metrics of a model, its modules and operators grow with some sizes, as exact expressions.

    ::

        law(model, lambda batch, sequence: torch.empty(batch, sequence, 512),
            batch=range(1, 65), sequence=range(128, 8193))

    The model is counted at a few sizes. An expression goes through some of the counts exactly, and is checked by the
    others. Nothing is rounded or approximated.

    Args:
        model: a module, a method of a module, or a function that calls modules. None if ``make_inputs`` returns models.
        make_inputs: is called with one size for each symbol, as keyword arguments. It returns a tensor, a tuple of
            arguments, a dict of keyword arguments, a tuple (arguments, keyword arguments), or a tuple (model, any of
            these), if the size is one of the model: its width, its depth, its resolution.
        backward: whether the backward pass is counted too.
        on_data: whether a model that needs data may run on the data of its inputs. The law then holds for such data.
        devices: devices for which the time is estimated: names, or profiles (`Device`).
        metrics: the keys of the metrics whose laws are searched; None for all. Laws of peak memory need the most
            counts.
        most_counts: the maximum number of counts. A law that needs more counts is not found.
        symbols: name → the sizes for which the law should hold, as a range. One to three symbols.

    Raises:
        UsageError: a symbol is no range of at least three sizes, the model refuses a size, or it needs data; or
            ``make_inputs`` is no function of the symbols.
    """
    domain = read_domain(symbols)
    if model is not None:
        check_call("law", model, second="make_inputs")
    _check_make_inputs(make_inputs, symbols)
    counts = Counts(
        model,
        make_inputs,
        domain,
        largest=most_counts,
        backward=backward,
        on_data=on_data,
        devices=resolve_devices(devices),
    )
    return find_laws(counts, metrics)


def find_laws(counts: Counts, metrics: Collection[str] | None = None, *, model_only: bool = False) -> Law:
    """Return the laws of the model that ``counts`` counts, and of its modules and operators.

    If ``metrics`` is given, only the laws of these metrics are searched. With ``model_only``, there are no laws of
    modules and operators.
    """
    domain, most_counts = counts.domain, counts.largest
    letters = short_names(domain.symbols)
    wanted = None if metrics is None else _known_metrics(metrics)
    calls, reason = Search(counts, CALLS, domain, DEGREE).run()
    parts = {
        part: [name for name in names if wanted is None or base_of(name) in wanted]
        for part, names in counts.parts().items()
        if part == _MODEL or not model_only
    }
    searches = _Searches(counts, "" if calls else reason, letters)
    laws: dict[Part, dict[str, MetricLaw]] = {part: {} for part in parts}
    # The model comes first, so that the counts that it needs are made before a maximum is reached. Peaks come last:
    # those of modules have many pieces, and must not make a law slow.
    for group in ([_MODEL], [part for part in parts if part != _MODEL]):
        for peaks in (False, True):
            for part in group:
                laws[part] |= searches.laws(part, [name for name in parts[part] if (name == "peak_memory") == peaks])
        counts.largest = min(most_counts, len(counts.made) + _MOST_OF_PARTS)
    counts.largest = len(counts.made) + 1
    counts.at(domain.highest)
    of_parts = {
        part: PartLaws(part.name or counts.model_name, {metric: laws[part][metric] for metric in metrics})
        for part, metrics in parts.items()
    }
    return Law(
        counts.model_name,
        dict(of_parts[_MODEL]),
        modules={part.name: found for part, found in of_parts.items() if part.kind == "module"},
        operators={part.name: found for part, found in of_parts.items() if part.kind == "operator"},
        domain=domain,
        counted={point: count.complexity for point, count in counts.made.items()},
        letters=letters,
    )


def _known_metrics(metrics: Collection[str]) -> set[str]:
    for metric in metrics:
        if metric not in METRICS:
            near = nearest_spelling(metric, METRICS)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(METRICS)}"
            raise UsageError(f"law(..., metrics={list(metrics)!r}): no metric {metric!r}; {hint}")
    return set(metrics)


_MODEL = Part("module", "")


class _Searches:
    """Searches the laws of parts. Equal values are searched once."""

    def __init__(self, counts: Counts, reason: str, letters: Mapping[str, str]) -> None:
        self._counts, self._letters = counts, letters
        #: Why no value has a law; empty if values may have laws.
        self._reason = reason
        self._of_values: dict[tuple[int | None, ...], tuple[tuple[Piece, ...], str]] = {}
        self._of_numbers: dict[tuple[Hashable, tuple[str, ...]], dict[str, MetricLaw]] = {}

    def laws(self, part: Part, metrics: Sequence[str]) -> dict[str, MetricLaw]:
        """Return metric → law."""
        twins = self._counts.numbers(part), tuple(metrics)
        found = self._of_numbers.get(twins)
        if found is None:
            found = self._of_numbers[twins] = {metric: self._law(Key(*part, metric)) for metric in metrics}
        return found

    def _law(self, key: Key) -> MetricLaw:
        counts = self._counts
        values = counts.values(key)
        found = self._of_values.get(values)
        if found is None:
            found = ((), self._reason) if self._reason else Search(counts, key, counts.domain, DEGREE).run()
            if len(counts.made) > len(values):
                values = counts.values(key)
            self._of_values[values] = found
        return MetricLaw(key.metric, counts.domain, *found, self._letters)


def refuse_other_than_ranges(call: str, function: Callable[..., object], symbols: Mapping[str, object]) -> None:
    """Refuse keyword arguments that are no ranges, and so neither sizes nor options of the function.

    Args:
        call: the function as the user called it: "flops_budget.over".
        function: the function.
        symbols: name → value, for the keyword arguments that are no options.

    Raises:
        UsageError: there is such an argument. The message names the option that was probably meant.
    """
    for name, sizes in symbols.items():
        if not isinstance(sizes, range):
            near = similar_parameter(function, name)
            raise UsageError(
                f"{call}(..., {name}={sizes!r}): not a range; write {name}=range(128, 8193) if {name} is a size; there "
                f"is no option of this name{f'; did you mean {near}?' if near else ''}"
            )


def read_domain(symbols: Mapping[str, Any]) -> Domain:
    """Return the domain of a law from its symbols: name → range of sizes.

    Raises:
        UsageError: there are too many symbols, or a value is no range of at least three sizes.
    """
    if not 1 <= len(symbols) <= _MOST_SYMBOLS:
        raise UsageError(
            f"law(...) takes one to three named ranges, not {len(symbols)}; write law(model, make_inputs, "
            "sequence=range(128, 8193))"
        )
    refuse_other_than_ranges("law", law, symbols)
    for name, sizes in symbols.items():
        if len(sizes) < _FEWEST_SIZES or sizes.step < 1 or sizes.start < 0:
            raise UsageError(
                f"law(..., {name}={sizes!r}): a law needs a growing range of at least {_FEWEST_SIZES} sizes, which are "
                f"not negative; a polynomial of degree {DEGREE} needs {DEGREE + 2} sizes"
            )
    return Domain(tuple(symbols.items()))


def _check_make_inputs(make_inputs: Any, symbols: Mapping[str, range]) -> None:
    if not callable(make_inputs) or isinstance(make_inputs, Module):
        raise UsageError(
            f"law(...): make_inputs is a value of type {type(make_inputs).__name__}; write a "
            f"function of the sizes, as in lambda {', '.join(symbols)}: torch.empty(...)"
        )
    try:
        signature = inspect.signature(make_inputs)
    except (TypeError, ValueError):  # a function that is written in C may have no signature
        return
    try:
        signature.bind(**symbols)
    except TypeError as error:
        raise UsageError(
            f"law(...): make_inputs is called with {', '.join(f'{name}=...' for name in symbols)}, but: {error}; the "
            "parameters of make_inputs and the ranges need the same names"
        ) from error
