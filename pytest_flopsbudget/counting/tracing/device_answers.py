"""Let tensors of a run on shapes answer with the device on which they would be outside of it.

Models ask where a tensor is (``x.device.type == "cpu"``, ``x.is_cuda``), and take another branch for another device. In
a run on shapes every tensor is on the meta device. So while the model runs, the attributes and methods of
`torch.Tensor` that tell or change the device are replaced. Code that runs inside the answer to an operator, such as
PyTorch's meta kernels, sees the meta device.
"""

from __future__ import annotations

import functools
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import handle_torch_function, has_torch_function

from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.meta.devices import is_same_device
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, is_on_meta, true_device
from pytest_flopsbudget.counting.torch_private import count_dispatch_modes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_flopsbudget.counting.tracing.shapes import ShapesTracer


_CPU, _META = torch.device("cpu"), torch.device("meta")

#: Attributes that say whether a tensor is on a device of one type.
_TYPES = {"is_cpu": "cpu", "is_cuda": "cuda", "is_xpu": "xpu", "is_mps": "mps"}
#: Methods that copy or store a tensor, in ways that depend on where its memory is.
_OF_MEMORY = ("__deepcopy__", "__reduce_ex__")


class Asking(threading.local):
    """Whether code that reads a tensor is the model's, on the thread that is being measured."""

    #: The number of runs on shapes under way on this thread.
    runs = 0
    #: The number of PyTorch's methods under way that have to see the meta device.
    truths = 0

    def asks(self, tensor: torch.Tensor) -> bool:
        """Return whether the model asks about a tensor without data, and not PyTorch inside of an operator."""
        # Inside the answer to an operator the tracer, which is a dispatch mode, is off.
        return bool(self.runs and not self.truths and is_on_meta(tensor) and count_dispatch_modes())


ASKING = Asking()


@contextmanager
def model_asking() -> Iterator[None]:
    """Take code on this thread for the model's."""
    ASKING.runs += 1
    try:
        yield
    finally:
        ASKING.runs -= 1


@contextmanager
def devices_answered(tracer: ShapesTracer) -> Iterator[None]:
    """Let meta tensors answer with the devices in ``tracer.devices`` while the context lasts."""
    answers = _Answers(tracer)
    kind = torch.Tensor
    with (
        model_asking(),
        patched(
            (
                (kind, "device", property(answers.device)),
                (kind, "is_meta", property(answers.is_meta)),
                *((kind, name, property(answers.has_type(name, of))) for name, of in _TYPES.items()),
                (kind, "get_device", answers.get_device()),
                (kind, "to", answers.to()),
                (kind, "cpu", answers.cpu()),
                (kind, "cuda", answers.cuda()),
                (kind, "new_tensor", answers.new_tensor()),
                (kind, "new", answers.new()),
                *((kind, name, _seeing_the_truth(getattr(kind, name))) for name in _OF_MEMORY),
                *((torch, name, answers.converted(getattr(torch, name))) for name in ("as_tensor", "asarray")),
            )
        ),
    ):
        yield


class _Answers:
    """What replaces the attributes and methods of `torch.Tensor`."""

    def __init__(self, tracer: ShapesTracer) -> None:
        self._tracer = tracer
        self._devices = tracer.devices

    def device(self, tensor: torch.Tensor) -> torch.device:
        return self._devices.of(tensor) if ASKING.asks(tensor) else true_device(tensor)

    @staticmethod
    def is_meta(tensor: torch.Tensor) -> bool:
        return is_on_meta(tensor) and not ASKING.asks(tensor)

    def has_type(self, name: str, kind: str) -> Callable[[torch.Tensor], bool]:
        original = getattr(torch.Tensor, name).__get__

        def has_type(tensor: torch.Tensor) -> bool:
            return self._devices.of(tensor).type == kind if ASKING.asks(tensor) else original(tensor)

        return has_type

    def get_device(self) -> Callable[..., int]:
        original = torch.Tensor.get_device

        @functools.wraps(original)
        def get_device(tensor: torch.Tensor) -> int:
            if not ASKING.asks(tensor):
                return original(tensor)
            device = self._devices.of(tensor)
            return -1 if device.type == "cpu" else device.index or 0

        return get_device

    def to(self) -> Callable[..., torch.Tensor]:
        original = torch.Tensor.to

        @functools.wraps(original)
        def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
            if _is_overridden(tensor):
                return handle_torch_function(original, (tensor,), tensor, *args, **kwargs)
            if not ASKING.asks(tensor):
                return original(tensor, *args, **kwargs)
            device, args, kwargs = self._without_device(args, kwargs)
            if device is None:
                return original(tensor, *args, **kwargs)
            return self._moved(tensor, device, lambda it, on, **more: original(it, on, *args, **kwargs, **more))

        return to

    def cpu(self) -> Callable[..., torch.Tensor]:
        original, to = torch.Tensor.cpu, torch.Tensor.to

        @functools.wraps(original)
        def cpu(tensor: torch.Tensor, **kwargs: Any) -> torch.Tensor:
            if _is_overridden(tensor):
                return handle_torch_function(original, (tensor,), tensor, **kwargs)
            if not ASKING.asks(tensor):
                return original(tensor, **kwargs)
            return self._moved(tensor, _CPU, lambda it, on, **more: to(it, on, **kwargs, **more))

        return cpu

    def cuda(self) -> Callable[..., torch.Tensor]:
        original, to = torch.Tensor.cuda, torch.Tensor.to

        @functools.wraps(original)
        def cuda(tensor: torch.Tensor, device: Any = None, non_blocking: bool = False, **kwargs: Any) -> torch.Tensor:
            if _is_overridden(tensor) or not is_on_meta(tensor) or not ASKING.asks(tensor):
                return original(tensor, device, non_blocking, **kwargs)
            target = torch.device("cuda", device) if isinstance(device, int) else torch.device(device or "cuda")
            return self._moved(tensor, target, lambda it, on, **more: to(it, on, **kwargs, **more))

        return cuda

    def new_tensor(self) -> Callable[..., torch.Tensor]:
        original = torch.Tensor.new_tensor

        @functools.wraps(original)
        def new_tensor(tensor: torch.Tensor, data: Any, **kwargs: Any) -> torch.Tensor:
            if type(tensor) in PLAIN_TYPES and kwargs.get("device") is None and ASKING.asks(tensor):
                # The dispatcher sees the values of a new tensor only on the CPU.
                made = original(tensor, data, **{**kwargs, "device": _CPU})
                self._devices.note(made, self._devices.of(tensor))
                return made
            return original(tensor, data, **kwargs)

        return new_tensor

    def new(self) -> Callable[..., torch.Tensor]:
        original: Any = torch.Tensor.new
        new_tensor: Any = self.new_tensor()

        @functools.wraps(original)
        def new(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
            if (
                len(args) == 1
                and isinstance(args[0], (list, tuple))
                and not kwargs
                and not isinstance(args[0], torch.Size)
            ):
                return new_tensor(tensor, args[0], dtype=tensor.dtype)
            return original(tensor, *args, **kwargs)

        return new

    def converted(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return `torch.as_tensor`, or the like, without a copy of a tensor that is on the wanted device already."""

        @functools.wraps(original)
        def converted(data: Any, *args: Any, **kwargs: Any) -> Any:
            device = kwargs.get("device")
            if device is not None and type(data) in PLAIN_TYPES and ASKING.asks(data):
                others = {name: value for name, value in kwargs.items() if name != "device"}
                return original(data.to(device), *args, **others)
            return original(data, *args, **kwargs)

        return converted

    def _without_device(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[torch.device | None, tuple[Any, ...], dict[str, Any]]:
        """Return the device among the arguments of `torch.Tensor.to`, and the other arguments."""
        first = args[0] if args else kwargs.get("other")
        if isinstance(first, torch.Tensor):
            others = {name: value for name, value in kwargs.items() if name != "other"}
            return self._devices.of(first), (first.dtype, *args[1:]), others
        if args and (isinstance(first, (str, torch.device)) or type(first) is int):
            return torch.device(first), args[1:], kwargs
        if args and first is None:
            return None, args, kwargs
        if kwargs.get("device") is not None:
            others = {name: value for name, value in kwargs.items() if name != "device"}
            return torch.device(kwargs["device"]), args, others
        return None, args, kwargs

    def _moved(self, tensor: torch.Tensor, target: torch.device, move: Callable[..., torch.Tensor]) -> torch.Tensor:
        """Return the tensor on the device ``target``: the tensor itself if it is there, or a copy, which is counted.

        Args:
            tensor: the tensor, without data.
            target: the device that the model names.
            move: calls PyTorch's method with a tensor, a device, and more arguments.
        """
        here = self._devices.of(tensor)
        if target.type == "meta":
            return move(tensor, _META)
        if not is_same_device(target, here):
            moved = move(tensor, _CPU) if target.type == "cpu" else move(tensor, _META, copy=True)
            self._devices.note(moved, target)
            return moved
        if target.type == "cpu" and target is not here:
            # The model says "cpu" itself, as for functions that read numbers there. It does not say `x.device`.
            value = self._tracer.read_known(tensor)
            if value is not None:
                return move(self._tracer.known_values.track_on_cpu(value), _CPU)
        return move(tensor, _META)


def _is_overridden(tensor: torch.Tensor) -> bool:
    """Return whether a subclass answers the call itself. It compares functions with those it knows."""
    return type(tensor) not in PLAIN_TYPES and has_torch_function((tensor,))


def _seeing_the_truth(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def seeing(*args: Any, **kwargs: Any) -> Any:
        ASKING.truths += 1
        try:
            return original(*args, **kwargs)
        finally:
            ASKING.truths -= 1

    return seeing
