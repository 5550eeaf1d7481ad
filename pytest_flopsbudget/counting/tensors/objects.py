"""Which Python objects can be doubled: instances of ordinary classes, emptied or with all they hold."""

from __future__ import annotations

import sys
import types
from collections import OrderedDict, defaultdict, deque
from enum import Enum
from functools import lru_cache
from typing import Any

#: Parts of PyTorch whose objects hold a model's tensors; others (graphs, process groups, hook handles) stay themselves.
_TORCH_STATE = (
    "torch.amp.grad_scaler.",
    "torch.distributed.fsdp._fully_shard.",
    "torch.distributions.",
    "torch.nn.",
    "torch.optim.",
)

#: What runs the tests holds no model of theirs, and has to be told what they do: a patch, say, to be taken back.
_RUNNERS = frozenset(("_pytest", "pluggy"))

#: The built-in class underneath, which has to make the object; the more special one first.
_CONTAINERS: tuple[type, ...] = (OrderedDict, defaultdict, dict, list, set, deque)


def is_plain(kind: type) -> bool:
    """Whether an instance of this class is safe to double by its attributes alone."""
    if not kind.__flags__ & _HEAP_TYPE or issubclass(kind, (type, Enum, types.ModuleType)):
        return False
    if hasattr(kind, "__deepcopy__") or hasattr(kind, "__del__"):
        return False  # it has its own idea of a copy, or of its end
    home = kind.__module__
    package = home.partition(".")[0]
    if package == "torch":
        return f"{home}.".startswith(_TORCH_STATE)
    return package == "__main__" or (package not in sys.stdlib_module_names and package not in _RUNNERS)


#: CPython's Py_TPFLAGS_HEAPTYPE: the class was made by a ``class`` statement.
_HEAP_TYPE = 1 << 9


def container_of(kind: type) -> type | None:
    """The built-in container that ``kind`` derives from, if any."""
    return _container_of(kind)


@lru_cache(maxsize=1024)
def _container_of(kind: type) -> type | None:
    return next((base for base in _CONTAINERS if issubclass(kind, base)), None)


def blank(kind: type) -> Any:
    """An instance without any attribute or item; ``__init__`` does not run.

    Raises:
        TypeError: the class is built on something other than a plain object or a container.
    """
    base: Any = container_of(kind) or object
    return base.__new__(kind)


def attributes_of(instance: Any) -> dict[str, Any]:
    """The instance's ``__dict__``, whatever its class made of attribute access; empty where it has none."""
    try:
        attributes: dict[str, Any] = object.__getattribute__(instance, "__dict__")
    except AttributeError:
        return {}
    return attributes


def slots_of(instance: Any) -> list[tuple[types.MemberDescriptorType, Any]]:
    """The slots that hold something, and what they hold."""
    held = []
    for slot in _slots(type(instance)):  # type: ignore[arg-type] # mypy takes a class for unhashable
        try:
            held.append((slot, slot.__get__(instance)))
        except AttributeError:  # noqa: PERF203 -- the one way to ask, past whatever the class made of it
            continue
    return held


def has_slots(kind: type) -> bool:
    """Whether instances may hold something outside of their ``__dict__``."""
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
