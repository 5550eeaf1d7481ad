"""Build a model without data. Its tensors are on the meta device. Values that follow from Python numbers are known."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.meta.known_values import fills_storage
from pytest_flopsbudget.counting.operators.work import NOTHING
from pytest_flopsbudget.counting.tracing.absent_devices import absent_devices_named
from pytest_flopsbudget.counting.tracing.modules import ModuleTracker
from pytest_flopsbudget.counting.tracing.past_dispatcher import answered_past_dispatcher
from pytest_flopsbudget.counting.tracing.shapes import NeedsDataError, ShapesTracer
from pytest_flopsbudget.counting.tracing.value_reads import lists_in_index_kept
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pytest_flopsbudget.counting.operators.info import OperatorInfo
    from pytest_flopsbudget.counting.operators.work import Work


class _Builder(ShapesTracer):
    """Returns the outputs of operators, as `ShapesTracer` does, but counts no operator."""

    def __init__(self) -> None:
        super().__init__(ModuleTracker(None, "building"))
        self.builds = True

    def answer(self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, Work]:
        """Return the same output as `ShapesTracer`, but faster for operators that initialize a whole tensor."""
        if info.returned != (0,) or not (info.fills or info.is_random) or not fills_storage(args[0]):
            return super().answer(info, args, kwargs)
        tensor = args[0]
        self.known_values.forget(tensor)
        if info.fills and tensor.numel() <= self.known_values.max_elements:
            self.known_values.remember_filled(tensor, info, args, kwargs)
        return tensor, NOTHING

    def follow(
        self, info: OperatorInfo, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any, work: Work
    ) -> None:
        """Count nothing."""


@contextmanager
def shape_only() -> Iterator[None]:
    """Build models inside the context almost without time and memory, to measure them on shapes.

    ::

        with shape_only():
            model = RegNet(...)

    No tensor has data, and initializing a weight does nothing, like under ``torch.device("meta")``. In addition, values
    that follow from Python numbers alone are known: a constructor may call ``torch.linspace`` and read the result, and
    the model may read the result when it is measured. Inside the context, ``tensor.device`` is the device on which the
    tensor would be without the context. After the context, ``tensor.device`` is ``meta``.

    Raises:
        UsageError: a constructor reads a value that is not known, such as a random number.
    """
    try:
        builder = _Builder()
        with builder, answered_past_dispatcher(builder), absent_devices_named(builder.devices), lists_in_index_kept():
            yield
        builder.known_values.carry()
        builder.deferred.carry()
    except NeedsDataError as error:
        raise UsageError(
            f"shape_only(): building the model reads values that are not known without data ({error}); build it on a "
            "real device"
        ) from error
