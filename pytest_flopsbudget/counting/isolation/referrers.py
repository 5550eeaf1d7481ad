"""Find objects that existed before a run and now refer to a tensor of the run, and remove the tensor from them.

`OutsideCaches` knows the places that a model's code can reach by name. Tensors in other places are rare: a local list
in which a test's hook gathers activations, or a cache in a library. Here the garbage collector finds these places. The
search takes some tenths of a second. It is done only if a tensor of the run is still alive after the run, and if
something other than the run's own objects and exceptions refers to it.
"""

from __future__ import annotations

import gc
import sys
import types
import weakref
from collections import deque
from contextvars import Context
from functools import _lru_cache_wrapper
from typing import TYPE_CHECKING, Any, cast

import torch

from pytest_flopsbudget.counting.tensors.objects import attributes_of, slots_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Self


_PACKAGE = __name__.partition(".")[0]
#: Objects that end soon without our help. Their references to other objects end with them.
_TRANSIENT = (types.FrameType, types.TracebackType, types.CoroutineType, BaseException)


class NewObjects:
    """Finds the objects that a run made, by the generations of the garbage collector.

    If the collector is paused, new objects stay in its youngest generation. If the collector works, as in a run on
    data, all objects that exist before the run are frozen. The collector lists only objects that are not frozen.

    Freezing moves objects into the oldest generation, which is rarely collected. So nothing is frozen if the collector
    is paused. If the model's code itself calls `gc.collect` then, the objects that the run has made are noted before
    they leave the youngest generation.
    """

    def __init__(self) -> None:
        self._freezes = gc.isenabled()
        #: False in a run on data that is inside of another run on data, or if the program itself called `gc.freeze`.
        self.known = not (self._freezes and gc.get_freeze_count())
        self._before: set[int] = set()
        #: Ids of objects of the run that left the youngest generation. Another object that gets the id of a freed one
        #: is of the run too.
        self._older: set[int] = set()
        self._made: set[int] = set()

    def __enter__(self) -> Self:
        if not self.known:
            pass
        elif self._freezes:
            gc.freeze()
        else:
            self._before = set(map(id, gc.get_objects(generation=0)))
            gc.callbacks.append(self._note_collection)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_noting()
        if self.known and self._freezes:
            gc.unfreeze()

    def _note_collection(self, phase: str, _info: Mapping[str, int]) -> None:
        """Note the objects of the run in the youngest generation, before a collection moves them to an older one."""
        if phase == "start":
            self._older |= self._young()
            self._before = set()

    def _stop_noting(self) -> None:
        if self._note_collection in gc.callbacks:
            gc.callbacks.remove(self._note_collection)

    def _young(self) -> set[int]:
        return set(map(id, gc.get_objects(generation=0))) - self._before

    def collect(self) -> None:
        """Free the garbage of the run, and remember which objects of the run are left."""
        self._stop_noting()
        if self._freezes:
            gc.collect()
            self._made = set(map(id, gc.get_objects()))
        else:
            self._made = self._young() | self._older
            gc.collect(0)

    def remove_references(self, is_from_run: Callable[[torch.Tensor], bool]) -> list[str]:
        """Remove the living tensors of the run from all objects that existed before the run. Call `collect` first.

        Returns:
            Descriptions of the attributes and variables whose values before the run are not known.
        """
        run = _Survivors(self._living())
        held = run.held_by_others(is_from_run)
        if not held:
            return []
        if self._freezes:
            gc.unfreeze()  # the garbage collector finds no references from frozen objects
        referrers = gc.get_referrers(*held)
        own = {id(held), id(run.objects), id(run.holding), id(sys._getframe())}
        problems: set[str] = set()
        for referrer in referrers:
            if id(referrer) not in run.holding and id(referrer) not in own and not _is_passing(referrer):
                problems.update(_take_out(referrer, run.holding))
        if self._freezes:
            gc.freeze()
        return sorted(problems)

    def _living(self) -> list[Any]:
        """Return the objects of the run that are left. Call `collect` first."""
        # `collect` moved them from generation 0 to generation 1.
        found = gc.get_objects() if self._freezes or self._older else gc.get_objects(generation=1)
        living = [item for item in found if id(item) in self._made]
        if not living and not self._freezes:  # other versions of Python have other generations
            living = [item for item in gc.get_objects() if id(item) in self._made]
        return living


class _Survivors:
    """The objects of a run that are left after it, for example because the exception of the run holds them.

    Searching all objects of the process for references takes long. So the references among these few objects are
    counted first. If no other object refers to them, the search is not needed.
    """

    def __init__(self, objects: list[Any]) -> None:
        self.objects = objects
        counts, own = _reference_counts(objects), _reference_counts([object()]).popitem()[1]
        #: `id` → how many references the object has that are not from one of these objects.
        self._from_others = {name: count - own for name, count in counts.items()}
        #: `id` → the ids of the objects that refer to the object.
        self._referrers: dict[int, list[int]] = {}
        for item in objects:
            passing = _is_passing(item)
            for part in gc.get_referents(item):
                if id(part) in self._from_others:
                    self._from_others[id(part)] -= 1
                    if not passing:
                        self._referrers.setdefault(id(part), []).append(id(item))
        #: `id` → object, for all objects that hold a tensor of the run, and for the tensors themselves.
        self.holding: dict[int, Any] = {}

    def held_by_others(self, is_from_run: Callable[[torch.Tensor], bool]) -> list[Any]:
        """Fill `holding`, and return the objects in it to which an object from outside of the run refers."""
        by_id = {id(item): item for item in self.objects}
        waiting = [name for name, item in by_id.items() if isinstance(item, torch.Tensor) and is_from_run(item)]
        while waiting:
            name = waiting.pop()
            # If the run is the first to import a part of PyTorch, the import's functions refer to all names of their
            # module. Python's registries refer to these functions, and must keep them.
            if name not in self.holding and not _belongs_to_torch(by_id[name]):
                self.holding[name] = by_id[name]
                waiting.extend(self._referrers.get(name, ()))
        return [item for name, item in self.holding.items() if self._from_others[name] > 0]


def _reference_counts(objects: list[Any]) -> dict[int, int]:
    return {id(item): sys.getrefcount(item) for item in objects}


def _is_passing(value: Any) -> bool:
    """Return whether the object refers to other objects only for a short time, as a frame or an exception does."""
    return isinstance(value, _TRANSIENT) or _is_ours(value)


def _is_ours(value: Any) -> bool:
    return str(type(value).__module__).startswith(_PACKAGE)


def _take_out(holder: Any, holding: Mapping[int, Any]) -> list[str]:
    """Remove the objects in ``holding`` (id → object) from ``holder``.

    Returns:
        Descriptions of the values that cannot be restored.
    """
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
        holder.cell_contents = None
        return ["a variable that functions share"]
    if isinstance(holder, dict):
        owner = _owner_of(holder)
        if owner is not None:
            return _reset_attributes(owner, holder, holding)
        return _remove_items(holder, holding)
    if kind is tuple:
        emptied = [_emptied(item, holding) for item in holder if id(item) in holding]
        return [] if all(emptied) else ["a tuple"]
    attributes = vars(holder) if isinstance(holder, type) else attributes_of(holder)
    if id(attributes) in holding:  # an empty dict of attributes looks like an object that the run made
        _remove_items(cast("dict[Any, Any]", attributes), holding)
        return []
    return _reset_attributes(holder, attributes, holding) or _reset_slots(holder, holding)


def _reset_attributes(owner: Any, attributes: Mapping[Any, Any], holding: Mapping[int, Any]) -> list[str]:
    """Reset the attributes of ``owner`` whose values are in ``holding`` (id → object).

    An attribute with a default in the class of the object gets the default. Any other attribute is set to None, because
    its value before the run is not known: most caches are None until they are filled.

    Returns:
        Descriptions of the attributes that were set to None.
    """
    if _is_torchs(owner):
        return []
    lost = []
    for name, value in list(attributes.items()):
        if id(value) not in holding or _emptied(value, holding):
            continue
        if isinstance(owner, type):
            type.__setattr__(owner, name, None)
        elif isinstance(owner, types.ModuleType):
            setattr(owner, name, None)
        elif any(name in vars(kind) for kind in type(owner).__mro__):
            object.__delattr__(owner, name)
            continue
        else:
            object.__setattr__(owner, name, None)
        lost.append(f"{_name_of(owner)}, attribute {name!r}")
    return lost


def _reset_slots(owner: Any, holding: Mapping[int, Any]) -> list[str]:
    """Set to None the slots of ``owner`` whose values are in ``holding`` (id → object).

    Returns:
        Descriptions of the slots. For a context variable or a generator, a description of ``owner``.
    """
    lost = []
    for slot, value in slots_of(owner):
        if id(value) in holding and not _emptied(value, holding):
            slot.__set__(owner, None)
            lost.append(f"{_name_of(owner)}, attribute {slot.__name__!r}")
    if not lost and isinstance(owner, Context):
        lost.append("a context variable")
    elif not lost and isinstance(owner, (types.GeneratorType, types.AsyncGeneratorType)):
        # No other code can change the variables of a generator.
        lost.append(f"the generator {owner.__name__}, which still holds it and has to be made again")
    return lost


def _name_of(owner: Any) -> str:
    return owner.__name__ if isinstance(owner, (type, types.ModuleType)) else f"an object {type(owner).__name__}"


def _is_torchs(owner: Any) -> bool:
    """Return whether the object is a module or class of PyTorch.

    The caches in such an object need not be emptied, because PyTorch makes them on the right device.
    """
    home = owner.__name__ if isinstance(owner, types.ModuleType) else getattr(owner, "__module__", "")
    return isinstance(owner, (types.ModuleType, type)) and str(home).partition(".")[0] == "torch"


def _belongs_to_torch(item: Any) -> bool:
    """Return whether the object is a module or class of PyTorch, or the dict of names of such a module."""
    if type(item) is dict:
        return "__spec__" in item and str(item.get("__name__")).partition(".")[0] == "torch"
    return _is_torchs(item)


def _emptied(value: Any, holding: Mapping[int, Any]) -> bool:
    """If ``value`` is a dict, remove the objects in ``holding`` (id → object) from it. Return whether it is a dict.

    The garbage collector does not list an empty dict. So a dict that was empty before the run looks like an object that
    the run made.
    """
    if not isinstance(value, dict):
        return False
    _remove_items(value, holding)
    return True


def _remove_items(holder: dict[Any, Any], holding: Mapping[int, Any]) -> list[str]:
    """Remove the items of a dict whose keys or values are in ``holding`` (id → object).

    Returns:
        Descriptions of removed values that are dicts. Such a dict may have been empty before the run.
    """
    lost = []
    # A registry may have an item for each module, as that of `typing.overload` has. The modules that the run imported
    # are taken out of `sys.modules` too, so their next import registers again.
    imported = {item.__name__ for item in holding.values() if isinstance(item, types.ModuleType)}
    for key, value in list(dict.items(holder)):
        if isinstance(key, weakref.ref) and _emptied(value, holding):
            continue  # the dict held the variables of a thread in `threading.local`
        if id(value) in holding or id(key) in holding:
            dict.__delitem__(holder, key)
            if isinstance(value, dict) and key not in imported:
                lost.append(f"a dict within a dict, key {key!r}")
    return lost


def _owner_of(attributes: dict[Any, Any]) -> Any:
    """Return the module or object whose ``__dict__`` is ``attributes``; None if there is no such module or object."""
    for owner in gc.get_referrers(attributes):
        if isinstance(owner, types.ModuleType):
            if vars(owner) is attributes:
                return owner
        elif isinstance(owner, type):
            # `vars` gives a read-only view of this dict, and only `type.__setattr__` may change it.
            if any(part is attributes for part in gc.get_referents(owner)):
                return owner
        elif not isinstance(owner, _TRANSIENT) and attributes_of(owner) is attributes:
            return owner
    return None
