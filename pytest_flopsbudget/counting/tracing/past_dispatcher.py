"""Answer questions of a model in a run on shapes that bypass the dispatcher: the devices and the values of tensors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.isolation.patching import SharedPatches
from pytest_flopsbudget.counting.meta.asking import asking
from pytest_flopsbudget.counting.tracing.device_answers import device_patches
from pytest_flopsbudget.counting.tracing.legacy_classes import legacy_class_patches
from pytest_flopsbudget.counting.tracing.value_reads import value_patches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.counting.tracing.shapes import ShapesTracer


def _patches() -> Iterator[tuple[Any, str, Any]]:
    yield from device_patches()
    yield from value_patches()
    yield from legacy_class_patches()


_PATCHES = SharedPatches(_patches)


@contextmanager
def answered_past_dispatcher(tracer: ShapesTracer) -> Iterator[None]:
    """While the context lasts, ``tracer`` returns the devices and values that the model's code reads from tensors."""
    with _PATCHES.applied(), asking(tracer):
        yield
