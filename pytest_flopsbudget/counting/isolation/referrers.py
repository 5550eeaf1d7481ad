"""Find the objects from before a run that refer to a tensor of the run, wherever they are, and take the tensor out.

`OutsideCaches` knows the places that a model's code can reach by name. Other places are rare: a local list in which a
test's hook gathers activations, a cache in a library. The garbage collector finds them. That takes some tenths of a
second, and happens only if a tensor of the run is still alive after it.
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
#: The number of references that are followed from a tensor to an object from before the run.
_MAX_STEPS = 8
#: Objects that end by themselves, together with what they refer to.
_TRANSIENT = (types.FrameType, types.TracebackType, types.CoroutineType, types.GeneratorType, BaseException)


@contextmanager
def new_objects_known() -> Iterator[bool]:
    """Make the garbage collector list and collect only the objects that are made within the context.

    Yields:
        Whether it does. It does not within another such context, or if the program has frozen objects itself.
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
    """Take the living tensors of the run out of all objects from before the run. Call it in `new_objects_known`.

    Returns:
        The attributes and variables whose values from before the run are not known, in words. They are deleted.
    """
    new = gc.get_objects()
    made = set(map(id, new))
    held: list[Any] = [item for item in new if isinstance(item, torch.Tensor) and is_from_run(item)]
    del new
    gc.unfreeze()  # the collector finds no references from frozen objects
    problems: set[str] = set()
    #: The objects that hold a tensor of the run, by `id`, and the tensors themselves.
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
    """Remove the objects with these ids from an object; return the names of the values from before that are lost."""
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
    if id(attributes) in holding:  # the dict of attributes was empty before, so that it looks like a new one
        _remove_items(cast("dict[Any, Any]", attributes), holding)
        return []
    return _delete_attributes(holder, attributes, holding)


def _delete_attributes(owner: Any, attributes: Mapping[Any, Any], holding: Mapping[int, Any]) -> list[str]:
    """Delete the attributes that hold these objects; return those whose values from before are lost, in words."""
    if _is_torchs(owner):
        return []
    names = [name for name, value in attributes.items() if id(value) in holding and not _emptied(value, holding)]
    for name in names:
        (type if isinstance(owner, type) else object).__delattr__(owner, name)
    return _lost(owner, names)


def _is_torchs(owner: Any) -> bool:
    """Return whether a module or class is PyTorch's: what it keeps for itself is made on the device that it needs."""
    home = owner.__name__ if isinstance(owner, types.ModuleType) else getattr(owner, "__module__", "")
    return isinstance(owner, (types.ModuleType, type)) and str(home).partition(".")[0] == "torch"


def _emptied(value: Any, holding: Mapping[int, Any]) -> bool:
    """Empty a dict of what the run made. An empty dict is not known to the garbage collector, and so looks new."""
    if not isinstance(value, dict):
        return False
    _remove_items(value, holding)
    return True


def _remove_items(holder: dict[Any, Any], holding: Mapping[int, Any]) -> None:
    for key, value in list(dict.items(holder)):
        if isinstance(key, weakref.ref) and _emptied(value, holding):
            continue  # the variables of a thread, in `threading.local`
        if id(value) in holding or id(key) in holding:
            dict.__delitem__(holder, key)


def _lost(owner: Any, names: list[Any]) -> list[str]:
    """Return the attributes that have no value any more, in words. Others have a default in their class."""
    where = owner.__name__ if isinstance(owner, (type, types.ModuleType)) else f"an object {type(owner).__name__}"
    return [f"{where}, attribute {name!r}" for name in names if not hasattr(owner, str(name))]


def _owner_of(attributes: dict[Any, Any]) -> Any:
    """Return the module or object whose attributes are in this dict; None if it is a dict of its own."""
    for owner in gc.get_referrers(attributes):
        if isinstance(owner, types.ModuleType):
            if vars(owner) is attributes:
                return owner
        elif not isinstance(owner, _TRANSIENT) and attributes_of(owner) is attributes:
            return owner
    return None
