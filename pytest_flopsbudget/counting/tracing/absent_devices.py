"""Let the model of a run on shapes use devices that the machine does not have. Nothing is allocated on these devices.

`torch.Tensor.to` and `torch.Tensor.cuda` work in every run on shapes (see `device_answers.py`). Functions that make
tensors, such as ``torch.zeros(3, device="cuda")``, and functions of `torch.cuda` check the device before the dispatcher
sees the call. The replacements for these functions make every call of PyTorch slower. So they are used only if a first
run failed because of an absent device.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.isolation.threads import on_this_thread
from pytest_flopsbudget.counting.tensors.metadata import tensors_in
from pytest_flopsbudget.counting.torch_private import autocast_checks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from pytest_flopsbudget.counting.meta.devices import Devices


_CPU = torch.device("cpu")
_PRESENT = ("cpu", "meta")

#: Parts of PyTorch's messages if a device is absent, or if PyTorch was built without support for the device.
_REFUSALS = re.compile(
    r"not compiled with \w+ enabled|no NVIDIA driver|No \w+ GPUs are available|not linked with support for \w+ devices"
    r"|from the '\w+' backend"
)


def is_about_absent_device(error: BaseException) -> bool:
    """Return whether PyTorch raised this error because the machine does not have a device."""
    return isinstance(error, (AssertionError, RuntimeError)) and bool(_REFUSALS.search(str(error)))


class _Idle:
    """A stream or an event of an absent device. All its methods do nothing."""

    def __init__(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return _do_nothing


def _do_nothing(*_args: Any, **_kwargs: Any) -> Any:
    return None


class _IdleContext(_Idle):
    """Replaces the context managers of `torch.cuda` that select a device or a stream. It does nothing."""


#: Name of a function of `torch.cuda` → its replacement on a machine without CUDA.
_IDLE_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("synchronize", "set_device", "set_stream", "reset_peak_memory_stats"), _do_nothing),
    **dict.fromkeys(("current_stream", "default_stream"), _Idle),
    "stream": _IdleContext,
    "current_device": lambda: 0,
}
#: Name of a class of `torch.cuda` → the class that replaces it on a machine without CUDA. The replacements are classes,
#: because annotations use the names.
_IDLE_CLASSES = {"Stream": _Idle, "Event": _Idle, "device": _IdleContext, "device_of": _IdleContext}


class _Placing(TorchFunctionMode):
    """Makes tensors on the CPU if the code names an absent device. Notes the named device of each such tensor."""

    def __init__(self, devices: Devices) -> None:
        super().__init__()
        self._devices = devices

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if not kwargs or kwargs.get("device") is None:
            return func(*args, **(kwargs or {}))
        device = torch.device(kwargs["device"])
        if device.type in _PRESENT:
            return func(*args, **kwargs)
        output = func(*args, **{**kwargs, "device": _CPU})
        for tensor in tensors_in(output):
            self._devices.note(tensor, device)
        return output


@contextmanager
def absent_devices_named(devices: Devices) -> Iterator[None]:
    """While the context lasts, let code on this thread make tensors on devices that the machine does not have."""
    with _Placing(devices):
        yield


@contextmanager
def absent_cuda_idle() -> Iterator[None]:
    """While the context lasts, let code wait for streams and events of CUDA on a machine without CUDA."""
    patches: list[tuple[Any, str, Any]] = []
    if not torch.cuda.is_available():
        patches += [(torch.cuda, name, kind) for name, kind in _IDLE_CLASSES.items()]
        patches += [
            (torch.cuda, name, on_this_thread(idle, getattr(torch.cuda, name)))
            for name, idle in _IDLE_FUNCTIONS.items()
        ]
    with patched(patches):
        yield


@contextmanager
def autocast_of_absent_devices() -> Iterator[None]:
    """Let code on this thread enable autocast for CUDA on a machine without CUDA.

    Without this context, PyTorch would not enable autocast there.
    """
    with patched(
        (owner, name, on_this_thread(answer, getattr(owner, name))) for owner, name, answer in autocast_checks()
    ):
        yield
