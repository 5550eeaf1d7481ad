"""Find the objects from before a run that refer to a tensor of the run, wherever they are, and take the tensor out.

`OutsideCaches` knows the places that a model's code can reach by name. Other places are rare: a local list in which a
test's hook gathers activations, a cache in a library. The garbage collector finds them. That takes some tenths of a
second, and happens only if a tensor of the run is still alive after it.
"""

from __future__ import annotations

import gc
import sys
import types
from collections import deque
from contextlib import contextmanager
from functools import _lru_cache_wrapper
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.tensors.objects import attributes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
    problems: list[str] = []
    seen: set[int] = set()
    for _ in range(_MAX_STEPS):
        if not held:
            break
        referrers = gc.get_referrers(*held)
        wanted, own = set(map(id, held)), (id(held), id(referrers), id(sys._getframe()))
        following: list[Any] = []
        for referrer in referrers:
            if id(referrer) in seen or id(referrer) in own or isinstance(referrer, _TRANSIENT):
                continue
            seen.add(id(referrer))
            if id(referrer) in made:
                following.append(referrer)
            elif (problem := _take_out(referrer, wanted)) is not None:
                problems.append(problem)
        held = following
    gc.freeze()
    return sorted(set(problems))


def _take_out(holder: Any, wanted: set[int]) -> str | None:
    """Remove the objects with these ids from an object; return the name of a value from before that is lost."""
    kind = type(holder)
    if kind is _lru_cache_wrapper:
        holder.cache_clear()
        return None
    if isinstance(holder, (list, deque)):
        kept = [item for item in holder if id(item) not in wanted]
        holder.clear()
        holder.extend(kept)
        return None
    if isinstance(holder, set):
        holder.difference_update([item for item in holder if id(item) in wanted])
        return None
    if isinstance(holder, dict):
        names = [key for key, value in holder.items() if id(value) in wanted or id(key) in wanted]
        owner = _owner_of(holder)
        for name in names:
            dict.__delitem__(holder, name)
        return None if owner is None else _lost(owner, names)
    if kind is types.CellType:
        del holder.cell_contents
        return "a variable that a function of the model shares with others"
    attributes = vars(holder) if isinstance(holder, type) else attributes_of(holder)
    names = [name for name, value in attributes.items() if id(value) in wanted]
    for name in names:
        (type if isinstance(holder, type) else object).__delattr__(holder, name)
    return _lost(holder, names)


def _lost(owner: Any, names: list[Any]) -> str | None:
    """Return the first attribute that has no value any more, in words; None if the class has a default for each."""
    for name in names:
        if not hasattr(owner, str(name)):
            where = (
                owner.__name__ if isinstance(owner, (type, types.ModuleType)) else f"an object {type(owner).__name__}"
            )
            return f"{where}, attribute {name!r}"
    return None


def _owner_of(attributes: dict[Any, Any]) -> Any:
    """Return the module or object whose attributes are in this dict; None if it is a dict of its own."""
    for owner in gc.get_referrers(attributes):
        if isinstance(owner, types.ModuleType):
            if vars(owner) is attributes:
                return owner
        elif not isinstance(owner, _TRANSIENT) and attributes_of(owner) is attributes:
            return owner
    return None
