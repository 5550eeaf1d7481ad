"""What the ``flops_budget`` fixture hands to a test."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pytest_flopsbudget.results.complexity import Complexity
    from pytest_flopsbudget.results.verdict import Measurement

#: The name of a measurement that was given none.
DEFAULT_NAME = "model"


class FlopsBudget:
    """Measures models for one test; what it measured is held to the test's budget after the test's body ran."""

    def __init__(self) -> None:
        self._measurements: dict[str, Measurement] = {}

    def __call__(
        self,
        model: Callable[..., Any],
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        name: str | None = None,
        backward: bool = False,
    ) -> Complexity:
        """Measure ``model(*args, **kwargs)``, on shapes alone where that is possible.

        Args:
            model: a module, a method of one, or a function that calls some.
            args: the positional arguments; a single tensor stands for a tuple of it.
            kwargs: the keyword arguments.
            name: tells several measurements of one test apart. The same name again (in a loop, under hypothesis)
                keeps the largest measurement.
            backward: count the backward pass of the summed outputs too.

        Returns:
            The measurement, to assert on or to compare: ``m.flops``, ``m["layer4"].params``.

        Raises:
            UsageError: no tensor among the arguments, a model that cannot be called, or two models under one name.
            Exception: whatever the model itself raises.
        """
        # Not before a test measures: a run without measurements does not pay for torch.
        import torch  # noqa: PLC0415
        from torch.utils import _pytree  # noqa: PLC0415

        from pytest_flopsbudget.counting.measure import measure  # noqa: PLC0415

        name = DEFAULT_NAME if name is None else name
        if not isinstance(name, str) or not name:
            raise UsageError(f"flops_budget(..., name={name!r}): a name is a text that is not empty")
        if callable(model) and not any(isinstance(leaf, torch.Tensor) for leaf in _pytree.tree_leaves((args, kwargs))):
            raise UsageError(
                "flops_budget(model, args): there is no tensor among the arguments; hand over the model's input, as in "
                "flops_budget(model, torch.empty(1, 3, 224, 224))"
            )
        start = time.perf_counter()
        complexity = measure(model, args, kwargs, backward=backward)
        self._keep(name, complexity, time.perf_counter() - start)
        return complexity

    def _keep(self, name: str, complexity: Complexity, seconds: float) -> None:
        from pytest_flopsbudget.results.verdict import Measurement  # noqa: PLC0415 -- brings msgspec

        known = self._measurements.get(name)
        if known is None:
            self._measurements[name] = Measurement(name=name, complexity=complexity, seconds=seconds)
            return
        if _identity(known.complexity) != _identity(complexity):
            raise UsageError(
                f"two different models were measured as {name!r}: {_in_words(known.complexity)}, then "
                f'{_in_words(complexity)}; tell them apart with flops_budget(..., name="...")'
            )
        larger = max(known.complexity, complexity, key=lambda item: item.flops)
        self._measurements[name] = Measurement(
            name=name, complexity=larger, times=known.times + 1, seconds=known.seconds + seconds
        )

    def __iter__(self) -> Iterator[Measurement]:
        """What was measured so far, a measurement a name."""
        return iter(self._measurements.values())


def _identity(complexity: Complexity) -> tuple[str, int, int]:
    return complexity.model, complexity.params, complexity.buffer_bytes


def _in_words(complexity: Complexity) -> str:
    return f"{complexity.model} of {complexity.params:,} parameters"
