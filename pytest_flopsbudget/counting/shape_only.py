"""Building a model without data: its tensors on the meta device, the numbers that its constructors read back real."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
from pytest_flopsbudget.counting.tracing.shapes import NeedsDataError, ShapesTracer
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.counting.operators.work import Work


class _Builder(ShapesTracer):
    """Answers operators like the tracer, and counts none of them."""

    def __init__(self) -> None:
        super().__init__(ModuleTracker(None, "building"))

    def follow(
        self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any, work: Work
    ) -> None:
        """Nothing: building a model is no work of its."""


@contextmanager
def shape_only() -> Iterator[None]:
    """Build models here in no time and no memory, to be measured on shapes.

    ::

        with shape_only():
            model = RegNet(...)

    As under ``torch.device("meta")`` no tensor has data, and initializing a weight does nothing. Unlike there, what
    follows from Python numbers alone is known: a constructor may compute with ``torch.linspace`` and read it back.

    Raises:
        UsageError: a constructor reads a value that is not known, such as a random one.
    """
    try:
        with _Builder():
            yield
    except NeedsDataError as error:
        raise UsageError(
            f"shape_only(): building the model reads values back that only data can give ({error}); build it on a real "
            "device"
        ) from error
