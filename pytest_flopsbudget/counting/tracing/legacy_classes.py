"""In a run on shapes, let `isinstance` answer for the classes of old PyTorch, such as `torch.FloatTensor`.

These classes stand for a dtype and a device. A tensor without data is on the meta device, and is an instance of none of
them. PyTorch's classes cannot be changed, so while a model runs on shapes, other classes have their names. Code that
keeps one of PyTorch's classes under another name from before the run gets the answer for the meta device.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.meta.asking import asked_tracer

if TYPE_CHECKING:
    from collections.abc import Iterator


#: The class of PyTorch's classes.
_KIND = type(torch.FloatTensor)
#: The modules that have such classes, each for one type of device.
_MODULES = ((torch, "cpu"), (torch.cuda, "cuda"), (torch.xpu, "xpu"))


class _Legacy(type):
    """The class of the replacements. A replacement does what the class of PyTorch does, except in `isinstance`."""

    original: Any
    device_type: str
    #: `__name__` is "torch.FloatTensor": if code keeps a replacement, PyTorch still finds the class by this name.
    __name__ = property(lambda cls: cls.__qualname__)

    def __instancecheck__(cls, instance: Any) -> bool:
        tracer = asked_tracer(instance) if isinstance(instance, torch.Tensor) else None
        if tracer is None:
            return isinstance(instance, cls.original)
        return (
            instance.dtype is cls.original.dtype
            and instance.layout is torch.strided
            and tracer.devices.of_meta(instance).type == cls.device_type
        )

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return cls.original(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.original, name)

    def __eq__(cls, other: object) -> bool:
        return cls is other or other is cls.original

    def __hash__(cls) -> int:
        return hash(cls.original)


@lru_cache(1)
def _replacements() -> tuple[tuple[Any, str, Any], ...]:
    return tuple(
        (module, name, _replacement(kind, device))
        for module, device in _MODULES
        for name, kind in vars(module).items()
        if type(kind) is _KIND
    )


def _replacement(kind: Any, device: str) -> Any:
    attributes = {"__module__": kind.__module__, "__qualname__": kind.__name__, "__doc__": kind.__doc__}
    made = _Legacy(f"{kind.__module__}.{kind.__name__}", (), attributes)
    made.original, made.device_type = kind, device
    return made


def legacy_class_patches() -> Iterator[tuple[Any, str, Any]]:
    """Yield (owner, attribute, replacement) for each class of PyTorch that stands for a dtype and a device."""
    yield from _replacements()
    yield torch, "set_default_tensor_type", _set_default(torch.set_default_tensor_type)


def _set_default(original: Any) -> Any:
    def set_default_tensor_type(kind: Any, /) -> None:
        if isinstance(kind, str):
            kind = next((made for module, name, made in _replacements() if kind == f"{module.__name__}.{name}"), kind)
        original(kind.original if type(kind) is _Legacy else kind)

    return set_default_tensor_type
