"""Answer code that reads values past the dispatcher: `numpy`, `tolist`, `data_ptr`, text, and memory of storages.

The dispatcher does not see these reads. On the meta device some of them raise errors of PyTorch's, and others return
values that mean nothing. So while a model runs on shapes, they get the values that are known, and ask for data
otherwise, like `torch.Tensor.item`.
"""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.tensors.metadata import is_on_meta
from pytest_flopsbudget.counting.torch_private import disable_current_modes
from pytest_flopsbudget.counting.tracing.device_answers import ASKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_flopsbudget.counting.tracing.shapes import ShapesTracer


#: Methods of tensors that read values. Others (`__str__`, `__format__`, `__array__`) call these.
_OF_TENSORS = ("numpy", "tolist", "data_ptr", "__repr__", "__dlpack__")
#: What asks for data when a tensor is made a text, as `ShapesTracer.asked_for_data` names it.
TEXT = "torch.Tensor.__repr__"
#: Methods of storages that read values.
_OF_STORAGES = ("data_ptr", "tolist", "__getitem__")
#: Functions that read the values of a tensor: (module, name).
_FUNCTIONS = ((torch, "from_dlpack"), (torch.utils.dlpack, "to_dlpack"))


@contextmanager
def value_reads_answered(tracer: ShapesTracer) -> Iterator[None]:
    """Answer reads of values from what ``tracer`` knows while the context lasts.

    Raises:
        NeedsDataError: raised in the model, where it reads a value that is not known.
    """
    reads = _Reads(tracer)
    with patched(
        (
            *((torch.Tensor, name, reads.of_tensor(getattr(torch.Tensor, name))) for name in _OF_TENSORS),
            *((torch.UntypedStorage, name, reads.of_storage(name)) for name in _OF_STORAGES),
            *((module, name, reads.of_tensor(getattr(module, name))) for module, name in _FUNCTIONS),
        )
    ):
        yield


class _Reads:
    """What replaces methods that read values."""

    def __init__(self, tracer: ShapesTracer) -> None:
        self._tracer = tracer

    def of_tensor(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that reads the known values of its first argument."""

        @functools.wraps(original)
        def read(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            if not (isinstance(tensor, torch.Tensor) and ASKING.asks(tensor)) or _compares_addresses(original):
                return original(tensor, *args, **kwargs)
            value = self._tracer.read_known(tensor)
            if value is None:
                self._tracer.require_data(f"torch.Tensor.{original.__name__}")
            with disable_current_modes():
                return original(_like(value, tensor), *args, **kwargs)

        return read

    def of_storage(self, name: str) -> Callable[..., Any]:
        """Return a method that reads the known values of a storage."""
        original = getattr(torch.UntypedStorage, name)

        @functools.wraps(original)
        def read(storage: torch.UntypedStorage, *args: Any) -> Any:
            if storage.device.type != "meta" or not ASKING.asks(_NOTHING) or _compares_addresses(original):
                return original(storage, *args)
            with disable_current_modes():
                value = self._tracer.known_values.storage(storage)
            if value is None:
                self._tracer.require_data(f"torch.UntypedStorage.{name}")
            return original(value, *args)

        return read


def _compares_addresses(original: Callable[..., Any]) -> bool:
    """Return whether PyTorch's own Python code asks for an address. It compares addresses, and reads nothing there."""
    if original.__name__ != "data_ptr":
        return False
    caller = sys._getframe(2)
    return str(caller.f_globals.get("__name__")).startswith("torch.")


#: A tensor by which code that reads a storage asks whether the model reads it.
_NOTHING = torch.empty(0, device="meta")


def _like(value: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """Return the value, which requires a gradient if the tensor does: PyTorch reads such a tensor in fewer ways."""
    return value.detach().requires_grad_() if tensor.requires_grad else value
