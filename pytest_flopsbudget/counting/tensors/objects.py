"""Decide which Python objects can be cloned, and read all values that an object holds."""

from __future__ import annotations

import sys
import types
from collections import OrderedDict, defaultdict, deque
from enum import Enum
from functools import lru_cache
from typing import Any

#: Modules of PyTorch whose objects hold a model's tensors. Other objects (graphs, process groups) are not cloned.
_TORCH_STATE = (
    "torch.amp.grad_scaler.",
    "torch.distributed.fsdp._fully_shard.",
    "torch.distributions.",
    "torch.nn.",
    "torch.optim.",
)

#: Packages that run the tests. Their objects hold no models, and must see all changes, such as a patch to undo.
_RUNNERS = frozenset(("_pytest", "pluggy"))

#: Built-in containers. The ``__new__`` of a container makes instances of its subclasses. Subclasses come before base
#: classes.
_CONTAINERS: tuple[type, ...] = (OrderedDict, defaultdict, dict, list, set, deque)


def is_cloneable(kind: type) -> bool:
    """Return whether an instance of this class can be cloned by cloning its attributes."""
    if not kind.__flags__ & _HEAP_TYPE or issubclass(kind, (type, Enum, types.ModuleType)):
        return False
    if hasattr(kind, "__deepcopy__") or hasattr(kind, "__del__"):
        return False  # the class defines how it is copied, or what happens when an instance ends
    home = kind.__module__
    package = home.partition(".")[0]
    if package == "torch":
        return f"{home}.".startswith(_TORCH_STATE)
    return package == "__main__" or (package not in sys.stdlib_module_names and package not in _RUNNERS)


#: CPython's flag Py_TPFLAGS_HEAPTYPE. It is set for classes that a ``class`` statement made.
_HEAP_TYPE = 1 << 9


def container_of(kind: type) -> type | None:
    """Return the built-in container that ``kind`` derives from; None if there is none."""
    return _container_of(kind)


@lru_cache(maxsize=1024)
def _container_of(kind: type) -> type | None:
    return next((base for base in _CONTAINERS if issubclass(kind, base)), None)


def create_blank(kind: type) -> Any:
    """Return an instance without attributes and items. Its ``__init__`` is not called.

    Raises:
        TypeError: the class derives from a built-in class that is not a container.
    """
    base: Any = container_of(kind) or object
    return base.__new__(kind)


def attributes_of(instance: Any) -> dict[str, Any]:
    """Return the ``__dict__`` of the instance, or an empty dict. A ``__getattr__`` of the class is not called."""
    try:
        attributes: dict[str, Any] = object.__getattribute__(instance, "__dict__")
    except AttributeError:
        return {}
    return attributes


def slots_of(instance: Any) -> list[tuple[types.MemberDescriptorType, Any]]:
    """Return (slot, value) for each slot that holds a value."""
    held = []
    for slot in _slots(type(instance)):  # type: ignore[arg-type] # mypy takes a class for unhashable
        try:
            held.append((slot, slot.__get__(instance)))
        except AttributeError:  # noqa: PERF203 -- the only way to ask, past any ``__getattr__``
            continue
    return held


def has_slots(kind: type) -> bool:
    """Return whether instances may hold values outside of their ``__dict__``."""
    return bool(_slots(kind))


@lru_cache(maxsize=1024)
def _slots(kind: type) -> tuple[types.MemberDescriptorType, ...]:
    return tuple(
        slot
        for base in kind.__mro__
        if "__slots__" in vars(base)
        for slot in vars(base).values()
        if isinstance(slot, types.MemberDescriptorType)
    )
