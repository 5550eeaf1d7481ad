"""Distinguish two kinds of code that read a tensor in a run on shapes: the model's code, and PyTorch's own code.

PyTorch's own code must see the meta device. The model's code must see the device and the values that the tensor would
have outside of a run on shapes.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from pytest_flopsbudget.counting.tensors.metadata import is_on_meta
from pytest_flopsbudget.counting.torch_private import count_dispatch_modes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from pytest_flopsbudget.counting.meta.devices import Devices
    from pytest_flopsbudget.counting.meta.known_values import KnownValues


class Asked(Protocol):
    """A tracer. It answers what the model's code asks about tensors without data: their device or their values."""

    known_values: KnownValues
    devices: Devices
    #: Whether a model is built, and not run.
    builds: bool

    def read_known(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the tensor's values, or None if they are not known."""

    def require_data(self, name: str) -> Any:
        """Record that the function called ``name`` cannot run without data, and raise NeedsDataError."""


class _Asking(threading.local):
    """The tracer of this thread's run on shapes, and whether the code that runs now must see the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.tracer: Asked | None = None
        #: The number of running functions that must see the meta device.
        self.seeing_meta = 0


_ASKING = _Asking()


def asked_tracer(tensor: torch.Tensor | None = None) -> Asked | None:
    """Return this thread's tracer if the model's code reads a tensor without data. Otherwise return None.

    Args:
        tensor: the tensor that is read, or None if a storage without data is read.
    """
    tracer = _ASKING.tracer
    # The tracer is a dispatch mode. PyTorch switches it off while the tracer itself handles an operator.
    if tracer is None or _ASKING.seeing_meta or not count_dispatch_modes():
        return None
    return tracer if tensor is None or is_really_on_meta(tensor) else None


def is_really_on_meta(tensor: torch.Tensor) -> bool:
    """Return whether the tensor is on the meta device, although the model's code sees another device."""
    # While a `TorchFunctionMode` is active, PyTorch reads the device by name, as the model's code does.
    _ASKING.seeing_meta += 1
    try:
        return is_on_meta(tensor)
    finally:
        _ASKING.seeing_meta -= 1


@contextmanager
def asking(tracer: Asked) -> Iterator[None]:
    """Inside the ``with`` block, ``tracer`` answers what code on this thread asks about tensors without data."""
    before = _ASKING.tracer
    _ASKING.tracer = tracer
    try:
        yield
    finally:
        _ASKING.tracer = before


@contextmanager
def seeing_meta() -> Iterator[None]:
    """Inside the ``with`` block, code on this thread sees that tensors are on the meta device."""
    _ASKING.seeing_meta += 1
    try:
        yield
    finally:
        _ASKING.seeing_meta -= 1
