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
from functools import _lru_cache_wrapper
from typing import TYPE_CHECKING, Any, cast

import torch

from pytest_flopsbudget.counting.tensors.objects import attributes_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self


_PACKAGE = __name__.partition(".")[0]
#: The maximum number of references from a tensor of the run to an object that existed before the run.
_MAX_STEPS = 8
#: Objects that end soon without our help. Their references to other objects end with them.
_TRANSIENT = (types.FrameType, types.TracebackType, types.CoroutineType, types.GeneratorType, BaseException)


class NewObjects:
    """Knows the objects that a run made, from the garbage collector's generations.

    While the collector is paused, new objects stay in its youngest generation. While it works, as in a run on data, all
    older objects are frozen: the collector then lists and collects the others only. Freezing moves all objects into the
    oldest generation, which is rarely collected, so that it is not done for every run.
    """

    def __init__(self) -> None:
        self._freezes = gc.isenabled()
        #: False in a run on data within another one, or in a program that itself called `gc.freeze`.
        self.known = not (self._freezes and gc.get_freeze_count())
        self._made: set[int] = set()

    def __enter__(self) -> Self:
        if not self.known:
            pass
        elif self._freezes:
            gc.freeze()
        else:
            gc.collect(0)
        return self

    def __exit__(self, *_: object) -> None:
        if self.known and self._freezes:
            gc.unfreeze()

    def collect(self) -> None:
        """Free the garbage of the run, and remember which objects are left of it."""
        if self._freezes:
            gc.collect()
            self._made = set(map(id, gc.get_objects()))
        else:
            self._made = set(map(id, gc.get_objects(generation=0)))
            gc.collect(0)

    def remove_references(self, is_from_run: Callable[[torch.Tensor], bool]) -> list[str]:
        """Remove the living tensors of the run from all objects that existed before it. Call `collect` first.

        Returns:
            Descriptions of the attributes and variables that were deleted, because their old values are not known.
        """
        if self._freezes:
            gc.unfreeze()  # the garbage collector finds no references from frozen objects
        held: list[Any] = [
            item
            for item in gc.get_objects()
            if id(item) in self._made and isinstance(item, torch.Tensor) and is_from_run(item)
        ]
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
                if id(referrer) in holding or id(referrer) in own or isinstance(referrer, _TRANSIENT):
                    continue
                if _is_ours(referrer):
                    continue
                if id(referrer) in self._made:
                    held.append(referrer)
                else:
                    problems.update(_take_out(referrer, holding))
            del referrers
        if self._freezes:
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
