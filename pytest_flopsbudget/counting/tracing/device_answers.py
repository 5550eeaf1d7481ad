"""In a run on shapes, let tensors report the device that they would be on in a real run.

Models ask where a tensor is (``x.device.type == "cpu"``, ``x.is_cuda``), and take another branch for another device. In
a run on shapes every tensor is on the meta device. So while the model runs, the attributes and methods of
`torch.Tensor` that report or change the device are replaced. While PyTorch computes the output of an operator, for
example in a meta kernel, its code sees the meta device.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import handle_torch_function, has_torch_function

from pytest_flopsbudget.counting.isolation.patching import named_like
from pytest_flopsbudget.counting.meta.asking import asked_tracer, seeing_meta
from pytest_flopsbudget.counting.meta.devices import is_same_device
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, is_on_meta, true_device, true_storage_device
from pytest_flopsbudget.counting.torch_private import META_KERNELS
from pytest_flopsbudget.counting.tracing.value_reads import LISTS, with_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_flopsbudget.counting.meta.asking import Asked


_CPU, _META = torch.device("cpu"), torch.device("meta")

#: The name of the module whose functions initialize weights.
_INITIALIZERS = torch.nn.init.__name__
#: Attributes that say whether a tensor is on a device of one type.
_TYPES = {"is_cpu": "cpu", "is_cuda": "cuda", "is_xpu": "xpu", "is_mps": "mps"}
#: The name of the module that defines storages, and its functions that only pass on the device of a storage. Its other
#: functions copy a storage or read it, and have to see the meta device.
_STORAGES = torch.UntypedStorage.__module__
_PASS_ON = ("device", "is_cuda", "get_device", "_get_legacy_storage_class", "__instancecheck__")
#: Functions that return a tensor which is already on the requested device.
_CONVERTERS = ("as_tensor", "asarray")


def device_patches() -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, attribute, replacement) for each attribute that reports or changes the device of a tensor."""
    kind = torch.Tensor
    yield kind, "device", property(_device)
    yield kind, "is_meta", property(_is_meta)
    yield torch.UntypedStorage, "device", property(_storage_device)  # `torch.TypedStorage` reads this one
    for name, of in _TYPES.items():
        yield kind, name, property(_has_type(name, of))
    replacements: tuple[tuple[str, Callable[[Any], Callable[..., Any]]], ...] = (
        ("get_device", _get_device),
        ("to", _to),
        ("cpu", _cpu),
        ("cuda", _cuda),
        ("pin_memory", _pin_memory),
        ("type", _type),
        ("new_tensor", _new_tensor),
        ("new", _new),
        ("__deepcopy__", _seeing_meta),  # how a tensor is copied depends on its device
    )
    for name, replace in replacements:
        yield kind, name, replace(getattr(kind, name))
    for name in _CONVERTERS:
        yield torch, name, _converter(getattr(torch, name))
    tensors = sys.modules.get("torch.distributed.tensor")
    # Some versions of PyTorch make a DTensor in Python, on the device that the tensor of this rank reports.
    if tensors is not None and isinstance(tensors.DTensor.__new__, FunctionType):
        yield tensors.DTensor, "__new__", _seeing_meta(tensors.DTensor.__new__)


def _asked_by_model(tensor: torch.Tensor) -> Asked | None:
    """Return the tracer if the model's code is reading an attribute of the tensor; None if a meta kernel reads it."""
    tracer = asked_tracer(tensor)
    if tracer is None:
        return None
    caller = str(sys._getframe(2).f_globals.get("__name__"))
    return None if caller.startswith(META_KERNELS) else tracer


def _device(tensor: torch.Tensor) -> torch.device:
    tracer = _asked_by_model(tensor)
    return true_device(tensor) if tracer is None else tracer.devices.of_meta(tensor)


def _storage_device(storage: torch.UntypedStorage) -> torch.device:
    tracer = asked_tracer() if true_storage_device(storage).type == "meta" else None
    if tracer is None:
        return true_storage_device(storage)
    code = sys._getframe(1)
    if code.f_globals.get("__name__") == _STORAGES and code.f_code.co_name not in _PASS_ON:
        return true_storage_device(storage)
    return tracer.devices.of_meta_storage(storage)


def _is_meta(tensor: torch.Tensor) -> bool:
    tracer = asked_tracer(tensor)
    if tracer is None:
        return is_on_meta(tensor)
    # If an initializer of PyTorch sees that a tensor is on meta, it does nothing. Otherwise it may draw numbers until
    # all of them are in a range, and without data this would not end.
    return tracer.builds and sys._getframe(1).f_globals.get("__name__") == _INITIALIZERS


def _has_type(name: str, kind: str) -> Callable[[torch.Tensor], bool]:
    original = getattr(torch.Tensor, name).__get__

    def has_type(tensor: torch.Tensor) -> bool:
        tracer = _asked_by_model(tensor)
        return bool(original(tensor) if tracer is None else tracer.devices.of_meta(tensor).type == kind)

    return has_type


def _get_device(original: Callable[..., int]) -> Callable[..., int]:
    @named_like(original)
    def get_device(tensor: torch.Tensor) -> int:
        tracer = asked_tracer(tensor)
        if tracer is None:
            return original(tensor)
        device = tracer.devices.of_meta(tensor)
        return -1 if device.type == "cpu" else device.index or 0

    return get_device


def _to(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @named_like(original)
    def to(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if _is_overridden(tensor):
            return handle_torch_function(original, (tensor,), tensor, *args, **kwargs)
        tracer = asked_tracer(tensor)
        if tracer is None:
            return original(tensor, *args, **kwargs)
        device, args, kwargs = _without_device(args, kwargs)
        if device is None:
            return original(tensor, *args, **kwargs)
        return _moved(tracer, tensor, device, lambda it, on, **more: original(it, on, *args, **kwargs, **more))

    return to


def _cpu(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    to = torch.Tensor.to

    @named_like(original)
    def cpu(tensor: torch.Tensor, **kwargs: Any) -> Any:
        if _is_overridden(tensor):
            return handle_torch_function(original, (tensor,), tensor, **kwargs)
        tracer = asked_tracer(tensor)
        if tracer is None:
            return original(tensor, **kwargs)
        return _moved(tracer, tensor, _CPU, lambda it, on, **more: to(it, on, **kwargs, **more))

    return cpu


def _cuda(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    to = torch.Tensor.to

    @named_like(original)
    def cuda(tensor: torch.Tensor, device: Any = None, non_blocking: bool = False, **kwargs: Any) -> Any:
        if _is_overridden(tensor):
            return handle_torch_function(original, (tensor,), tensor, device, non_blocking, **kwargs)
        tracer = asked_tracer(tensor)
        if tracer is None:
            return original(tensor, device, non_blocking, **kwargs)
        target = torch.device("cuda", device) if isinstance(device, int) else torch.device(device or "cuda")
        return _moved(tracer, tensor, target, lambda it, on, **more: to(it, on, **kwargs, **more))

    return cuda


def _pin_memory(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    to = torch.Tensor.to

    @named_like(original)
    def pin_memory(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        # Only memory of the CPU can be pinned, and only on a machine with another device.
        return original(tensor, *args, **kwargs) if asked_tracer(tensor) is None else to(tensor, _META, copy=True)

    return pin_memory


def _type(original: Callable[..., Any]) -> Callable[..., Any]:
    @named_like(original)
    def name_or_cast(tensor: torch.Tensor, dtype: Any = None, non_blocking: bool = False, **kwargs: Any) -> Any:
        tracer = asked_tracer(tensor)
        if tracer is None or isinstance(dtype, torch.dtype):
            return original(tensor, dtype, non_blocking, **kwargs)
        if dtype is None:
            here = tracer.devices.of_meta(tensor).type
            return original(tensor).replace("meta.", "" if here == "cpu" else f"{here}.")
        # The argument is a name such as "torch.cuda.FloatTensor", or the class with that name.
        _, *device, kind = (dtype if isinstance(dtype, str) else f"{dtype.__module__}.{dtype.__name__}").split(".")
        return tensor.to(device[0] if device else "cpu", vars(torch)[kind].dtype, non_blocking)

    return name_or_cast


def _new_tensor(original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @named_like(original)
    def new_tensor(tensor: torch.Tensor, data: Any, **kwargs: Any) -> torch.Tensor:
        tracer = asked_tracer(tensor)
        data = with_values(data) if type(data) in LISTS else data
        if tracer is None or type(tensor) not in PLAIN_TYPES or kwargs.get("device") is not None:
            return original(tensor, data, **kwargs)
        # The dispatcher sees the values of a new tensor only if the tensor is on the CPU.
        made = original(tensor, data, **{**kwargs, "device": _CPU})
        tracer.devices.note(made, tracer.devices.of_meta(tensor))
        return made

    return new_tensor


def _new(original: Callable[..., Any]) -> Callable[..., Any]:
    new_tensor: Any = _new_tensor(torch.Tensor.new_tensor)

    @named_like(original)
    def new(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and type(args[0]) in (list, tuple) and not kwargs:
            return new_tensor(tensor, args[0], dtype=tensor.dtype)
        return original(tensor, *args, **kwargs)

    return new


def _converter(original: Callable[..., Any]) -> Callable[..., Any]:
    @named_like(original)
    def converted(data: Any, *args: Any, **kwargs: Any) -> Any:
        device = kwargs.get("device")
        if device is not None and type(data) in PLAIN_TYPES and asked_tracer(data) is not None:
            others = {name: value for name, value in kwargs.items() if name != "device"}
            return original(data.to(device), *args, **others)
        return original(with_values(data) if type(data) in LISTS else data, *args, **kwargs)

    return converted


def _seeing_meta(original: Callable[..., Any]) -> Callable[..., Any]:
    @named_like(original)
    def seeing(*args: Any, **kwargs: Any) -> Any:
        with seeing_meta():
            return original(*args, **kwargs)

    return seeing


def _without_device(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[torch.device | None, tuple[Any, ...], dict[str, Any]]:
    """Return the device among the arguments of `torch.Tensor.to`, and the other arguments."""
    first = args[0] if args else kwargs.get("other")
    if isinstance(first, torch.Tensor):
        others = {name: value for name, value in kwargs.items() if name != "other"}
        return first.device, (first.dtype, *args[1:]), others
    if isinstance(first, (str, torch.device)) or type(first) is int:
        return _as_device(first), args[1:], kwargs
    device = kwargs.get("device")
    if device is None:
        return None, args, kwargs
    return _as_device(device), args, {name: value for name, value in kwargs.items() if name != "device"}


def _as_device(device: Any) -> torch.device:
    """Convert a name to a `torch.device`. Return a `torch.device` itself, because `_moved` compares by ``is``."""
    return device if isinstance(device, torch.device) else torch.device(device)


def _moved(
    tracer: Asked, tensor: torch.Tensor, target: torch.device, move: Callable[..., torch.Tensor]
) -> torch.Tensor:
    """Return the tensor on the device ``target``: the tensor itself if it is there already, else a copy.

    The copy is counted.

    Args:
        tracer: the tracer of the run.
        tensor: the tensor, without data.
        target: the device that the model names.
        move: calls PyTorch's method with a tensor, a device, and more arguments.
    """
    here = tracer.devices.of_meta(tensor)
    if target.type == "meta":
        return move(tensor, _META)
    if not is_same_device(target, here):
        moved = move(tensor, _CPU) if target.type == "cpu" else move(tensor, _META, copy=True)
        tracer.devices.note(moved, target)
        return moved
    if target.type == "cpu" and target is not here:
        # The model's code names the CPU itself, for example to read numbers there. The device is not a copy of
        # `x.device`.
        value = tracer.read_known(tensor)
        if value is not None:
            return move(tracer.known_values.track_on_cpu(value), _CPU)
    return move(tensor, _META)


def _is_overridden(tensor: torch.Tensor) -> bool:
    """Return whether the tensor's class has its own ``__torch_function__``."""
    return type(tensor) not in PLAIN_TYPES and has_torch_function((tensor,))
