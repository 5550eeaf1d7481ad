"""Answer what a model asks of its tensors past the dispatcher, in a run on shapes: their devices and their values."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.isolation.patching import SharedPatches
from pytest_flopsbudget.counting.meta.asking import asking
from pytest_flopsbudget.counting.tracing.device_answers import device_patches
from pytest_flopsbudget.counting.tracing.value_reads import value_patches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.counting.tracing.shapes import ShapesTracer


def _patches() -> Iterator[tuple[Any, str, Any]]:
    yield from device_patches()
    yield from value_patches()


_PATCHES = SharedPatches(_patches)


@contextmanager
def answered_past_dispatcher(tracer: ShapesTracer) -> Iterator[None]:
    """Answer from ``tracer`` what code on this thread asks of tensors past the dispatcher, while the context lasts."""
    with _PATCHES.applied(), asking(tracer):
        yield
