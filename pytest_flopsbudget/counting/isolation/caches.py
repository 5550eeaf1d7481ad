"""Restore caches outside of a model, where a run stored tensors: modules, classes, functions, containers, `lru_cache`.

Models keep rotary tables, masks and position grids in such places. A run on shapes would leave tensors without data
there, and the next call of the model would fail. A run on data would leave filled caches, and the next measurement
would count less. So before a run, the places that the model's code can reach are noted. After the run, each place that
refers to a tensor of the run gets its old content again.
"""

from __future__ import annotations

import sys
import types
from collections import OrderedDict, defaultdict, deque
from enum import Enum
from functools import _lru_cache_wrapper, lru_cache
from gc import get_referents
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.counting.tensors.objects import attributes_of, is_cloneable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    IsFromRun = Callable[[torch.Tensor], bool]


_ABSENT: Any = object()
#: The variable that Python adds to the closure of methods that call `super()`.
_SUPER = "__class__"
_LRU_CACHE: Any = _lru_cache_wrapper

#: Packages whose modules hold no caches of models, or that restore their caches themselves.
_LIBRARIES = (
    sys.stdlib_module_names
    | {"torch", "numpy", "sympy", "mpmath", "networkx", "_pytest", "pytest", "pluggy", "hypothesis", "msgspec", "rich"}
    | {__name__.partition(".")[0]}
) - {"__main__"}
#: The maximum number of modules that are searched: first the model's own modules, then the modules that they import.
_MAX_MODULES = 64
#: A container with more items than this is not searched for further containers and objects.
_MAX_ITEMS = 4096
#: The maximum depth to which containers and objects are searched.
_MAX_DEPTH = 6

_DICTS = (dict, OrderedDict, defaultdict)
_CONTAINERS = frozenset((*_DICTS, list, set, deque))
#: Types of values that are no cache and contain no cache.
_PLAIN = frozenset(
    (
        str, bytes, int, float, complex, bool, type(None), types.ModuleType, types.BuiltinFunctionType, property,
        types.GetSetDescriptorType, types.MemberDescriptorType, types.WrapperDescriptorType, types.GenericAlias,
        torch.dtype, torch.device, torch.Size,
    )
)  # fmt: skip


class _Namespace:
    """A place that may hold tensors: the attributes of a module, a class or an object, or the items of a dict."""

    __slots__ = ("before", "mapping", "owner")

    def __init__(self, owner: Any, mapping: Mapping[str, Any]) -> None:
        self.owner = owner
        self.mapping = mapping
        # The items of a subclass of dict are read past its methods, which may make an object for each key.
        self.before = mapping.copy() if type(mapping) is dict else dict(_items_of(mapping))

    def changed(self) -> Iterator[Any]:
        before = self.before
        return (value for key, value in _items_of(self.mapping) if before.get(key, _ABSENT) is not value)

    def restore(self) -> None:
        if isinstance(self.owner, type):
            for name in [name for name in self.mapping if name not in self.before]:
                type.__delattr__(self.owner, name)
            for name, value in self.before.items():
                if self.mapping.get(name, _ABSENT) is not value:
                    type.__setattr__(self.owner, name, value)
            return
        kind: Any = OrderedDict if isinstance(self.mapping, OrderedDict) else dict
        kind.clear(self.mapping)
        for key, value in self.before.items():
            kind.__setitem__(self.mapping, key, value)


class _Items:
    """A place that may hold tensors: the items of a list, a deque or a set."""

    __slots__ = ("before", "items")

    def __init__(self, items: Any) -> None:
        self.items = items
        self.before = tuple(items)

    def changed(self) -> Iterator[Any]:
        known = set(map(id, self.before))
        return (item for item in tuple(self.items) if id(item) not in known)

    def restore(self) -> None:
        self.items.clear()
        (self.items.update if isinstance(self.items, set) else self.items.extend)(self.before)


class _Cell:
    """A place that may hold a tensor: a variable of a function that inner functions share with it."""

    __slots__ = ("before", "cell")

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell
        self.before = _content(cell)

    def changed(self) -> Iterator[Any]:
        value = _content(self.cell)
        return iter(()) if value is self.before else iter((value,))

    def restore(self) -> None:
        if self.before is _ABSENT:
            del self.cell.cell_contents
        else:
            self.cell.cell_contents = self.before


class _LruCache:
    """A place that may hold tensors: a function with `functools.lru_cache`. Restoring it removes all its entries."""

    __slots__ = ("cache", "misses")

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.misses = cache.cache_info().misses

    def changed(self) -> Iterator[Any]:
        if self.cache.cache_info().misses == self.misses:
            return iter(())
        # If the cache has no maximum size, the entries are in a dict inside of the cache.
        held = get_referents(self.cache)
        return chain(held, *(part.values() for part in held if type(part) is dict and part is not vars(self.cache)))

    def restore(self) -> None:
        self.cache.cache_clear()


class OutsideCaches:
    """The places outside of a model in which the model's code may keep tensors, with the content before a run."""

    def __init__(
        self, kinds: Iterable[type], functions: Iterable[types.FunctionType], cloned: Container[int] = ()
    ) -> None:
        """Note the places and their present content.

        Args:
            kinds: the classes of the model's modules and objects.
            functions: the functions that the model consists of.
            cloned: the ids of all objects that were cloned. A run cannot change these objects, because it uses their
                clones.
        """
        self._places: list[_Namespace | _Items | _Cell | _LruCache] = []
        self._seen: set[int] = set()
        self._cloned = cloned
        kinds, functions = set(kinds), list(functions)
        own = {
            value.__module__
            for value in (*kinds, *functions)
            if _is_users(value.__module__) and (_is_part(value) or _is_of_project(sys.modules.get(value.__module__)))
        }
        for function in functions:
            self._add_function(function)
        for base in {base for kind in kinds for base in kind.__mro__ if _is_users(base.__module__)}:
            self._add_class(base, depth=_depth_of(sys.modules.get(base.__module__), is_own=base.__module__ in own))
        for module in _reachable_modules(own):
            self._add_module(module, depth=_depth_of(module, is_own=module.__name__ in own))
        self._seen.clear()
        self._cloned = ()

    def restore(self, is_from_run: IsFromRun) -> bool:
        """Restore each place that refers to a tensor of the run. Return whether there was such a place."""
        found = [place for place in self._places if any(_holds(value, is_from_run) for value in place.changed())]
        for place in found:
            place.restore()
        return bool(found)

    def _add(self, value: Any, depth: int = 0) -> None:
        kind = type(value)
        if kind in _PLAIN or depth > _MAX_DEPTH or id(value) in self._seen or id(value) in self._cloned:
            return
        if kind in _CONTAINERS:
            self._seen.add(id(value))
            is_dict = kind in _DICTS
            self._places.append(_Namespace(None, value) if is_dict else _Items(value))
            self._add_items(dict.values(value) if is_dict else value, depth)
        elif kind is tuple:
            self._add_items(value, depth)
        elif kind is types.FunctionType:
            self._add_function(value, depth)
        elif kind is types.CellType:
            self._seen.add(id(value))
            self._places.append(_Cell(value))
            self._add(_content(value), depth + 1)
        elif kind is _LRU_CACHE:
            self._seen.add(id(value))
            self._places.append(_LruCache(value))
        elif kind in {staticmethod, classmethod}:
            self._add(value.__func__, depth)
        elif not isinstance(value, (type, torch.Tensor)) and is_cloneable(kind):
            self._seen.add(id(value))
            attributes = attributes_of(value)
            self._places.append(_Namespace(value, attributes))
            self._add_items(attributes.values(), depth)
            if isinstance(value, (dict, list, set, deque)):
                self._places.append(_Namespace(None, value) if isinstance(value, dict) else _Items(value))

    def _add_items(self, items: Any, depth: int) -> None:
        if len(items) <= _MAX_ITEMS and not _PLAIN.issuperset(map(type, items)):
            for item in list(items):
                self._add(item, depth + 1)

    def _add_function(self, function: types.FunctionType, depth: int = 0) -> None:
        if not _has_state(function) or id(function) in self._seen:
            return
        self._seen.add(id(function))
        if function.__dict__:
            self._places.append(_Namespace(function, function.__dict__))
            self._add_items(function.__dict__.values(), depth)
        self._add_items(function.__defaults__ or (), depth)
        self._add_items((function.__kwdefaults__ or {}).values(), depth)
        if function.__closure__:
            for name, cell in zip(function.__code__.co_freevars, function.__closure__, strict=True):
                if name != _SUPER:
                    self._add(cell, depth + 1)

    def _add_class(self, kind: type, *, depth: int) -> None:
        if id(kind) not in self._seen:
            self._seen.add(id(kind))
            self._places.append(_Namespace(kind, vars(kind)))
            if depth < _MAX_DEPTH:
                self._add_items(vars(kind).values(), depth)

    def _add_module(self, module: types.ModuleType, *, depth: int) -> None:
        """Note the names in a module, and search their values. The search ends at the depth `_MAX_DEPTH`."""
        names = vars(module)
        self._places.append(_Namespace(module, names))
        for name in _contents_of(module).stateful:
            value = names.get(name)
            if isinstance(value, type):
                self._add_class(value, depth=depth)
            elif depth < _MAX_DEPTH or type(value) is not types.FunctionType:
                self._add(value, depth)


def _depth_of(module: types.ModuleType | None, *, is_own: bool) -> int:
    """Return the depth at which the search of a module starts. The search ends at `_MAX_DEPTH`.

    ``is_own`` is true for a library's module that defines a part of the model.
    """
    if _is_of_project(module):
        return 0
    # The values in a module that has nothing to do with the model are noted, but not searched further.
    return _MAX_DEPTH - 3 if is_own else _MAX_DEPTH


class _Contents(NamedTuple):
    """The names in a module that may hold caches. Only names are kept, so that no object is kept alive."""

    #: The number of names in the module. If the number changes, the module is searched again.
    size: int
    #: The names of classes, functions and values that may hold a cache.
    stateful: tuple[str, ...]
    #: The modules that define the module's functions and classes, and the modules that it imports.
    imported: tuple[str, ...]


_CONTENTS: dict[str, _Contents] = {}


def _contents_of(module: types.ModuleType) -> _Contents:
    names, home = vars(module), module.__name__
    known = _CONTENTS.get(home)
    if known is None or known.size != len(names):
        stateful, imported = [], set()
        for name, value in list(names.items()):
            kind = type(value)
            if kind is types.ModuleType:
                imported.add(value.__name__)
                continue
            if isinstance(value, (types.FunctionType, type)) or kind is _LRU_CACHE:
                origin = value.__module__
                imported.add(origin)
                if isinstance(value, type) and (origin != home or not _may_hold_state(value)):
                    continue
            if kind not in _PLAIN and not (kind is types.FunctionType and not _has_state(value)):
                stateful.append(name)
        _CONTENTS[home] = known = _Contents(
            len(names), tuple(stateful), tuple(sorted(name for name in imported if _is_users(name) and name != home))
        )
    return known


def _may_hold_state(kind: type) -> bool:
    """Return whether a class has attributes that may keep values, other than methods, properties and plain values."""
    if "__dataclass_fields__" in vars(kind) or issubclass(kind, Enum):
        return False  # attributes of a dataclass are defaults, and attributes of an enum are its members
    return any(
        value is None
        or (type(value) not in _METHOD_TYPES and type(value) not in _PLAIN)
        or (type(value) is types.FunctionType and _has_state(value))
        for name, value in vars(kind).items()
        if not name.startswith("__") and name != "_abc_impl"
    )


_METHOD_TYPES = (types.FunctionType, staticmethod, classmethod, type)


def _has_state(function: types.FunctionType) -> bool:
    """Return whether a function may keep values from one call to the next: in its attributes, closure or defaults."""
    if function.__dict__:
        return True
    if function.__closure__ and function.__code__.co_freevars != (_SUPER,):
        contents = map(_content, function.__closure__)
        if not all(type(value) in _METHOD_TYPES or (type(value) in _PLAIN and value is not None) for value in contents):
            return True
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    return any(_is_state(type(value)) for value in defaults)


def _is_state(kind: type) -> bool:
    """Return whether a default value of this type may keep values from one call of the function to the next."""
    if kind in _PLAIN or kind in _METHOD_TYPES:
        return False
    return kind in _CONTAINERS or kind is _LRU_CACHE or (is_cloneable(kind) and not issubclass(kind, torch.Tensor))


def _items_of(mapping: Mapping[Any, Any]) -> list[tuple[Any, Any]]:
    return list(dict.items(mapping) if isinstance(mapping, dict) else mapping.items())


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the variable has no value yet
        return _ABSENT


def _is_users(module: Any) -> bool:
    return isinstance(module, str) and module.partition(".")[0] not in _LIBRARIES


def _is_part(value: Any) -> bool:
    """Return whether the value is a function or a subclass of `torch.nn.Module`."""
    return not isinstance(value, type) or issubclass(value, torch.nn.Module)


def _is_of_project(module: types.ModuleType | None) -> bool:
    """Return whether the module is part of the project that is tested, and not of an installed library."""
    return not _is_installed(getattr(module, "__file__", None) or "")


@lru_cache(maxsize=4096)
def _is_installed(file: str) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(PurePath(file).parts)


def _reachable_modules(names: Iterable[str]) -> list[types.ModuleType]:
    """Return the modules with these names, and the modules that they import from; at most `_MAX_MODULES` in all.

    The imports of an imported module are followed only if it belongs to the tested project.
    """
    found: dict[str, types.ModuleType] = {}
    waiting = deque((name, True) for name in sorted(names))
    while waiting and len(found) < _MAX_MODULES:
        name, follows = waiting.popleft()
        module = sys.modules.get(name)
        if name in found or type(module) is not types.ModuleType:
            continue
        found[name] = module
        if follows or _is_of_project(module):
            waiting.extend((other, False) for other in _contents_of(module).imported)
    return list(found.values())


def _holds(value: Any, is_from_run: IsFromRun, depth: int = 0) -> bool:
    """Return whether a value is a tensor of the run, or contains a tensor of the run."""
    if isinstance(value, torch.Tensor):
        return is_from_run(value)
    kind = type(value)
    if kind in _PLAIN or kind is types.FunctionType or isinstance(value, type) or depth > _MAX_DEPTH:
        return False
    parts: list[Any] = []
    if isinstance(value, dict):
        parts += [*dict.keys(value), *dict.values(value)]
    elif isinstance(value, (list, tuple, set, frozenset, deque)):
        parts += value
    if kind not in _CONTAINERS and kind is not tuple:
        parts += attributes_of(value).values()
    return any(_holds(part, is_from_run, depth + 1) for part in parts)
