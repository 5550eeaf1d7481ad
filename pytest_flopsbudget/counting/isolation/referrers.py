"""Find objects that existed before a run and now refer to a tensor of the run, and remove the tensor from them.

`OutsideCaches` knows the places that a model's code can reach by name. Tensors in other places are rare: a local list
in which a test's hook gathers activations, or a cache in a library. Here the garbage collector finds these places. The
search takes some tenths of a second, and is done only if a tensor of the run is still alive after the run.
"""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections import deque
from contextlib import contextmanager
from functools import _lru_cache_wrapper
from typing import TYPE_CHECKING, Any, cast

import torch

from pytest_flopsbudget.counting.tensors.objects import attributes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


_PACKAGE = __name__.partition(".")[0]
#: The maximum number of references from a tensor of the run to an object that existed before the run.
_MAX_STEPS = 8
#: Objects that end soon without our help. Their references to other objects end with them.
_TRANSIENT = (types.FrameType, types.TracebackType, types.CoroutineType, types.GeneratorType, BaseException)


@contextmanager
def new_objects_known() -> Iterator[bool]:
    """Let the garbage collector list and collect only the objects that are made while the context lasts.

    Yields:
        Whether this works. It does not work inside another such context, or if the program itself called `gc.freeze`.
    """
    if gc.get_freeze_count():
        yield False
        return
    gc.freeze()
    try:
        yield True
    finally:
        gc.unfreeze()


def remove_references(is_from_run: Callable[[torch.Tensor], bool]) -> list[str]:
    """Remove the living tensors of the run from all objects that existed before the run.

    Call this function inside of the context `new_objects_known`.

    Returns:
        Descriptions of the attributes and variables that were deleted, because their old values are not known.
    """
    new = gc.get_objects()
    made = set(map(id, new))
    held: list[Any] = [item for item in new if isinstance(item, torch.Tensor) and is_from_run(item)]
    del new
    gc.unfreeze()  # the garbage collector finds no references from frozen objects
    problems: set[str] = set()
    #: `id` → object, for all objects that hold a tensor of the run, and for the tensors themselves.
    holding: dict[int, Any] = {}
    for _ in range(_MAX_STEPS):
        if not held:
            break
        holding.update((id(item), item) for item in held)
        referrers = gc.get_referrers(*held)
        own = {id(held), id(referrers), id(holding), id(sys._getframe())}
        held = []
        for referrer in referrers:
            if id(referrer) in holding or id(referrer) in own or isinstance(referrer, _TRANSIENT) or _is_ours(referrer):
                continue
            if id(referrer) in made:
                held.append(referrer)
            else:
                problems.update(_take_out(referrer, holding))
        del referrers
    gc.freeze()
    return sorted(problems)


def _is_ours(value: Any) -> bool:
    return str(type(value).__module__).startswith(_PACKAGE)


def _take_out(holder: Any, holding: Mapping[int, Any]) -> list[str]:
    """Remove the objects with these ids from ``holder``, and describe the values that cannot be restored."""
    kind = type(holder)
    if kind is _lru_cache_wrapper:
        holder.cache_clear()
        return []
    if isinstance(holder, (list, deque)):
        kept = [item for item in holder if id(item) not in holding]
        holder.clear()
        holder.extend(kept)
        return []
    if isinstance(holder, set):
        holder.difference_update([item for item in holder if id(item) in holding])
        return []
    if kind is types.CellType:
        if _emptied(holder.cell_contents, holding):
            return []
        del holder.cell_contents
        return ["a variable that functions share"]
    if isinstance(holder, dict):
        owner = _owner_of(holder)
        if owner is not None:
            return _delete_attributes(owner, holder, holding)
        _remove_items(holder, holding)
        return []
    attributes = vars(holder) if isinstance(holder, type) else attributes_of(holder)
    if id(attributes) in holding:  # an empty dict of attributes looks like an object that the run made
        _remove_items(cast("dict[Any, Any]", attributes), holding)
        return []
    return _delete_attributes(holder, attributes, holding)


def _delete_attributes(owner: Any, attributes: Mapping[Any, Any], holding: Mapping[int, Any]) -> list[str]:
    """Delete the attributes that hold objects with these ids. Describe the values that cannot be restored."""
    if _is_torchs(owner):
        return []
    names = [name for name, value in attributes.items() if id(value) in holding and not _emptied(value, holding)]
    for name in names:
        (type if isinstance(owner, type) else object).__delattr__(owner, name)
    return _lost(owner, names)


def _is_torchs(owner: Any) -> bool:
    """Return whether the object is a module or class of PyTorch. PyTorch makes its own caches on the right device."""
    home = owner.__name__ if isinstance(owner, types.ModuleType) else getattr(owner, "__module__", "")
    return isinstance(owner, (types.ModuleType, type)) and str(home).partition(".")[0] == "torch"


def _emptied(value: Any, holding: Mapping[int, Any]) -> bool:
    """If the value is a dict, remove the objects with these ids from it. Return whether the value is a dict.

    The garbage collector does not list an empty dict. So a dict that was empty before the run looks like an object that
    the run made.
    """
    if not isinstance(value, dict):
        return False
    _remove_items(value, holding)
    return True


def _remove_items(holder: dict[Any, Any], holding: Mapping[int, Any]) -> None:
    for key, value in list(dict.items(holder)):
        if isinstance(key, weakref.ref) and _emptied(value, holding):
            continue  # the dict held the variables of a thread in `threading.local`
        if id(value) in holding or id(key) in holding:
            dict.__delitem__(holder, key)


def _lost(owner: Any, names: list[Any]) -> list[str]:
    """Describe the deleted attributes that now have no value. A default in the class is a value."""
    where = owner.__name__ if isinstance(owner, (type, types.ModuleType)) else f"an object {type(owner).__name__}"
    return [f"{where}, attribute {name!r}" for name in names if not hasattr(owner, str(name))]


def _owner_of(attributes: dict[Any, Any]) -> Any:
    """Return the module or object whose attributes are in this dict; None if the dict holds no attributes."""
    for owner in gc.get_referrers(attributes):
        if isinstance(owner, types.ModuleType):
            if vars(owner) is attributes:
                return owner
        elif not isinstance(owner, _TRANSIENT) and attributes_of(owner) is attributes:
            return owner
    return None
