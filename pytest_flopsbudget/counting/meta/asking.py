"""Tell code of the model that reads a tensor from PyTorch's code that answers an operator."""

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
    """What the tracer of a run on shapes answers past the dispatcher."""

    known_values: KnownValues
    devices: Devices
    #: Whether a model is built, and not run.
    builds: bool

    def read_known(self, tensor: torch.Tensor) -> torch.Tensor | None:
        """Return the tensor's values; None if they are not known."""

    def require_data(self, name: str) -> Any:
        """Note that ``name`` needs data, and raise NeedsDataError."""


class _Asking(threading.local):
    """The tracer of the run on shapes that is under way on this thread, and whether the model's code runs now."""

    def __init__(self) -> None:
        super().__init__()
        self.tracer: Asked | None = None
        #: The number of functions under way that have to see the meta device.
        self.seeing_meta = 0


_ASKING = _Asking()


def asked_tracer(tensor: torch.Tensor | None = None) -> Asked | None:
    """Return the tracer if the model's code reads ``tensor`` on this thread, and the tensor is without data; else None.

    Args:
        tensor: the tensor that is read; None for a storage without data.
    """
    tracer = _ASKING.tracer
    # Inside the answer to an operator the tracer, which is a dispatch mode, is off.
    if tracer is None or _ASKING.seeing_meta or not count_dispatch_modes():
        return None
    return tracer if tensor is None or is_really_on_meta(tensor) else None


def is_really_on_meta(tensor: torch.Tensor) -> bool:
    """Return whether the tensor is on the meta device, whatever the model's code sees.

    Outside of operators `is_on_meta` does not know: while a `TorchFunctionMode` is on, PyTorch asks for the attribute
    by its name, and gets the answer for the model's code.
    """
    _ASKING.seeing_meta += 1
    try:
        return is_on_meta(tensor)
    finally:
        _ASKING.seeing_meta -= 1


@contextmanager
def asking(tracer: Asked) -> Iterator[None]:
    """Let code on this thread ask ``tracer`` while the context lasts."""
    before = _ASKING.tracer
    _ASKING.tracer = tracer
    try:
        yield
    finally:
        _ASKING.tracer = before


@contextmanager
def seeing_meta() -> Iterator[None]:
    """Let code on this thread see that tensors are on the meta device."""
    _ASKING.seeing_meta += 1
    try:
        yield
    finally:
        _ASKING.seeing_meta -= 1
