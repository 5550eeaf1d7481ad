"""Clone models. A clone has the same classes and settings as the model, but separate tensors. Only the clone runs."""

from __future__ import annotations

import copy
import functools
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from pytest_flopsbudget.counting.cloning.frozen_torchscript import expose_kernels, hides_kernels
from pytest_flopsbudget.counting.cloning.functions import FunctionCloner
from pytest_flopsbudget.counting.cloning.hooks import EmptyHooks
from pytest_flopsbudget.counting.cloning.iterators import IteratorCloner, is_iterator
from pytest_flopsbudget.counting.cloning.tensors import TensorCloner, clone_to_meta
from pytest_flopsbudget.counting.cloning.torchscript import (
    bind_method,
    copy_scripted,
    find_scripted,
    refuse_memory_readers,
)
from pytest_flopsbudget.counting.cloning.wrapped import unwrap_compiled
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES
from pytest_flopsbudget.counting.tensors.objects import (
    attributes_of,
    container_of,
    create_blank,
    has_slots,
    is_cloneable,
    slots_of,
)
from pytest_flopsbudget.counting.tensors.packed import find_packed_weights, packed_weights
from pytest_flopsbudget.counting.torch_private import COMPILED_FROM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


_ATOMS = frozenset((int, float, complex, str, bytes, bool, type(None), type, types.BuiltinFunctionType, torch.Size))

_CONTAINERS = (dict, OrderedDict, set)

#: Classes outside of PyTorch whose instances change when they are used. `Cloner` makes deep copies of the instances.
_DEEP_COPIED = frozenset(
    (
        "numpy.ndarray",
        "numpy.random._generator.Generator",
        "numpy.random.mtrand.RandomState",
        "random.Random",
    )
)

#: The attributes with dicts and sets that belong to one module alone: no other object refers to these containers.
_OWN_CONTAINERS = frozenset(name for name, value in vars(torch.nn.Module()).items() if isinstance(value, (dict, set)))
#: The attributes with a module's parts, and the attributes with its hooks. Nearly no module has hooks.
_PARTS = ("_parameters", "_buffers", "_modules")
_HOOKS = tuple(name for name, value in vars(torch.nn.Module()).items() if isinstance(value, OrderedDict))
_HOOKS = tuple(name for name in _HOOKS if name not in _PARTS)
_NON_PERSISTENT_BUFFERS = "_non_persistent_buffers_set"
#: Attributes that a clone does not get from its original.
_RESET_ATTRIBUTES: dict[str, Any] = dict.fromkeys((*_PARTS, _NON_PERSISTENT_BUFFERS, "_compiled_call_impl"))


class Cloner(TensorCloner, FunctionCloner, IteratorCloner):
    """Clones modules and tensors, and the objects that hold modules or tensors. Each original has one clone."""

    def __init__(
        self, clone_plain: Callable[[torch.Tensor], torch.Tensor], *, own_hooks: bool = True, gradients: bool = False
    ) -> None:
        """Make an empty cloner.

        Args:
            clone_plain: makes the clone of a plain tensor.
            own_hooks: whether each clone of a module without hooks gets separate dicts of hooks, so that a run can add
                hooks.
            gradients: whether the clone of a tensor with a gradient gets a clone of that gradient.
        """
        super().__init__(clone_plain, gradients=gradients)
        self._hooks = EmptyHooks()
        self._shares_hooks = not own_hooks
        self._reset_attributes = (
            _RESET_ATTRIBUTES if own_hooks else _RESET_ATTRIBUTES | dict.fromkeys(_HOOKS, self._hooks)
        )
        #: The clones of modules, then (original, clone) of other objects.
        self.modules: list[torch.nn.Module] = []
        self.objects: list[tuple[Any, Any]] = []
        #: The clones of packed sequences.
        self.packed_sequences: list[PackedSequence] = []
        #: Address → packed weight. Clones and originals share packed weights, because no run changes them. Only the
        #: clones of scripted modules have copies.
        self.packed_weights: dict[int, torch.ScriptObject] = {}

    def clone(self, value: Any) -> Any:
        """Return the clone of a model, a callable, or a structure of arguments.

        Raises:
            NoMetaCloneError: the value holds a tensor that has no meta clone.
        """
        clone = self._clone_callable(value)
        self._fill_all()
        return clone

    def clone_compiled(self, compiled: Any, clone: Any) -> Any:  # noqa: ARG002 -- a subclass compiles it again
        """Return ``clone`` itself as the clone of ``compiled``: compiling changes how a model runs, not its work.

        ``clone`` is the clone of the model that was compiled. It may still be empty.
        """
        return clone

    @property
    def lacks_hooks(self) -> bool:
        """Return whether registering a hook on a clone failed. With ``own_hooks``, every registration succeeds."""
        return self._hooks.requested

    def _clone_value(self, value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        known = self._clones.get(id(value))
        if known is not None:
            return known
        method = _METHODS.get(kind)
        if method is not None:
            return method(self, value)
        if isinstance(value, torch.Tensor):
            return self._clone_tensor(value)
        if isinstance(value, torch.nn.Module):
            return self._clone_module(value)
        if isinstance(value, tuple):
            return self._clone_fixed(value)
        if f"{kind.__module__}.{kind.__qualname__}" in _DEEP_COPIED:
            return self._register(value, copy.deepcopy(value))
        if is_cloneable(kind):
            return self._clone_object(value)
        return self._clone_iterator(value) if is_iterator(kind) else value

    # Modules.

    def _clone_module(self, module: torch.nn.Module) -> Any:
        # All parts are made before any part is filled, since parts may refer to one another.
        fresh: list[tuple[torch.nn.Module, torch.nn.Module]] = []
        compiled: list[tuple[torch.nn.Module, torch.nn.Module]] = []
        known, waiting = self._clones, [module]
        while waiting:
            part = waiting.pop()
            if id(part) in known:
                continue
            kind: type = type(part)
            if _is_ordinary(kind) and COMPILED_FROM not in part.__dict__:
                clone: Any = object.__new__(kind)
            else:
                original = unwrap_compiled(part)
                if isinstance(part, torch.jit.ScriptModule):
                    self._clone_scripted(part)
                    continue
                if original is not part:
                    self._register(part, None)
                    compiled.append((part, original))
                    waiting.append(original)
                    continue
                clone = create_blank(kind)
            self._register(part, clone)
            self.modules.append(clone)
            fresh.append((part, clone))
            parts = part._modules
            if parts:
                waiting.extend([below for below in reversed(parts.values()) if below is not None])
        for part, original in compiled:
            known[id(part)] = self.clone_compiled(part, known[id(original)])
        for part, clone in fresh:
            if _is_ordinary(type(part)):  # type: ignore[arg-type] # mypy takes a class for unhashable
                self._fill_later(self._fill_module, part.__dict__, clone)
            else:
                self._fill_later(self._fill, part, clone)
        return known[id(module)]

    def _fill_module(self, original: dict[str, Any], clone: torch.nn.Module) -> None:
        """Fill a clone like `_fill`, but faster. The class of ``clone`` must have no ``__slots__`` and be no container.

        ``original`` is the ``__dict__`` of the original module.
        """
        attributes = {**original, **self._reset_attributes}
        object.__setattr__(clone, "__dict__", attributes)
        if not _SHARED_TYPES.issuperset(map(type, attributes.values())):
            for name, value in attributes.items():
                if type(value) not in _SHARED_TYPES:
                    attributes[name] = (
                        self._clone_own_container(value) if name in _OWN_CONTAINERS else self._clone_value(value)
                    )
        if self._shares_hooks and any(map(original.get, _HOOKS)):
            attributes.update((name, self._clone_own_container(original[name])) for name in _HOOKS if name in original)
        for name in _PARTS:
            held = original[name]
            attributes[name] = self._clone_own_container(held) if held else type(held)()
        attributes[_NON_PERSISTENT_BUFFERS] = set(original[_NON_PERSISTENT_BUFFERS])
        for name, iterator in self._iterators_of_class(type(clone)).items():
            attributes.setdefault(name, iterator)

    def _clone_own_container(self, value: Any) -> Any:
        """Clone a dict or a set that only one module refers to. Clone any other value as `_clone_value` does."""
        kind = type(value)
        if kind not in _CONTAINERS:
            return self._clone_value(value)
        if not value:
            return kind()
        if kind is set:
            return self._clone_set(value)
        own: Any = kind()
        known = self._clones
        for key, item in value.items():
            part = known.get(id(item))
            if part is None:
                part = self._clone_tensor(item) if type(item) in PLAIN_TYPES else self._clone_value(item)
            own[key] = part
        return own

    def _clone_scripted(self, module: torch.jit.ScriptModule) -> None:
        """Clone a scripted module by saving and loading it, because a scripted module is an object in C++."""
        if id(module) in self._clones:
            return  # this module is a part of a module that was cloned as a whole
        self._register(module, None)  # `clones` has to list the module even if the module is refused
        if self._clone_plain is clone_to_meta:
            refuse_memory_readers(module)
        if hides_kernels(module):
            clone = expose_kernels(module)
        else:
            clone = copy_scripted(module, "meta" if self._clone_plain is clone_to_meta else None)
        self._clones[id(module)] = clone
        parts = dict(clone.named_modules(remove_duplicate=False))
        self.modules += parts.values()
        for part in parts.values():
            self.packed_weights.update(packed_weights(part))
        for name, part in module.named_modules(remove_duplicate=False):
            if id(part) not in self._clones:
                self._register(part, parts[name])

    def _clone_script_function(self, function: torch.jit.ScriptFunction[Any, Any]) -> Any:
        if self._clone_plain is clone_to_meta:
            refuse_memory_readers(function)
        self._record_packed_weights(function)
        return function

    def _clone_script_method(self, method: torch.ScriptMethod[..., Any]) -> Any:
        """Return this method of the module's clone. If the module is not found, return ``method`` itself."""
        module = find_scripted(method)
        if module is None:
            return method
        return bind_method(method.name, self._clone_value(module))

    # Other objects.

    def _clone_object(self, original: Any) -> Any:
        try:
            clone = create_blank(type(original))
        except TypeError:
            return self._clone_iterator(original) if hasattr(type(original), "__next__") else original
        self._register(original, clone)
        self.objects.append((original, clone))
        return self._fill_later(self._fill, original, clone)

    def _fill(self, original: Any, clone: Any) -> None:
        """Fill ``clone`` with clones of all attributes, slots and items of ``original``."""
        attributes = attributes_of(clone)
        for name, value in attributes_of(original).items():
            if type(value) in _ATOMS:
                attributes[name] = value
            elif name in _OWN_CONTAINERS and not value:
                attributes[name] = type(value)()
            elif name == "_compiled_call_impl":
                attributes[name] = None
            else:
                attributes[name] = self._clone_value(value)
        for slot, value in slots_of(original):
            slot.__set__(clone, self._clone_value(value))
        container = container_of(type(original))
        if container is not None:
            self._fill_container(container, original, clone)

    def _fill_container(self, container: Any, original: Any, clone: Any) -> None:
        # These are methods of the built-in class, because methods of the subclass may do more.
        if issubclass(container, dict):
            if container is defaultdict:
                clone.default_factory = original.default_factory
            self._fill_items(container.items(original), clone)
        elif container is set:
            self._fill_set(set.__iter__(original), clone)
        else:
            container.extend(clone, map(self._clone_value, container.__iter__(original)))

    # Containers.

    def _clone_key(self, key: Any) -> Any:
        """Return the clone of a dict's key or a set's item.

        Tensors and modules are cloned. For any other key, return the clone that was made before, or else the key
        itself.
        """
        if isinstance(key, (torch.Tensor, torch.nn.Module)):
            return self._clone_value(key)
        return self._clones.get(id(key), key)

    def _clone_dict(self, value: dict[Any, Any]) -> Any:
        if _ATOMS.issuperset(map(type, value.values())) and _ATOMS.issuperset(map(type, value)):
            return self._register(value, value.copy())  # for example a dict with the names of a thousand classes
        clone = self._register(value, type(value)())
        return self._fill_later(self._fill_items, value.items(), clone)

    def _fill_items(self, items: Iterable[tuple[Any, Any]], clone: dict[Any, Any]) -> None:
        pairs = [(key, self._clone_value(item)) for key, item in items]
        if all(_is_hashed_by_identity(key) for key, _ in pairs):
            self._set_items(pairs, clone)
        else:
            self._unfilled_by_key.append((self._set_items, pairs, clone))

    def _set_items(self, pairs: Iterable[tuple[Any, Any]], clone: dict[Any, Any]) -> None:
        container: Any = container_of(type(clone))
        for key, item in pairs:
            container.__setitem__(clone, key if type(key) in _ATOMS else self._clone_key(key), item)

    def _clone_defaultdict(self, value: defaultdict[Any, Any]) -> Any:
        clone = self._clone_dict(value)
        clone.default_factory = value.default_factory
        return clone

    def _clone_list(self, value: list[Any]) -> Any:
        if _ATOMS.issuperset(map(type, value)):
            return self._register(value, value.copy())
        return self._fill_later(self._fill_list, value, self._register(value, []))

    def _clone_deque(self, value: deque[Any]) -> Any:
        return self._fill_later(self._fill_list, value, self._register(value, deque(maxlen=value.maxlen)))

    def _fill_list(self, original: Iterable[Any], clone: Any) -> None:
        clone.extend(map(self._clone_value, original))

    def _clone_set(self, value: set[Any]) -> Any:
        if _ATOMS.issuperset(map(type, value)):
            return self._register(value, value.copy())
        return self._fill_later(self._fill_set, value, self._register(value, set()))

    def _fill_set(self, items: Iterable[Any], clone: set[Any]) -> None:
        keys = list(items)
        if all(map(_is_hashed_by_identity, keys)):
            self._add_keys(keys, clone)
        else:
            self._unfilled_by_key.append((self._add_keys, keys, clone))

    def _add_keys(self, keys: Iterable[Any], clone: set[Any]) -> None:
        set.update(clone, map(self._clone_key, keys))

    # Objects that cannot be filled later, because they cannot change.

    def _clone_tuple(self, value: tuple[Any, ...]) -> Any:
        return value if _ATOMS.issuperset(map(type, value)) else self._clone_fixed(value)

    def _clone_fixed(self, value: Any) -> Any:
        """Clone an immutable object. Its immutable parts are cloned first, in a loop and not by recursion."""
        waiting, opened, known = [value], set[int](), self._clones
        while waiting:
            top = waiting[-1]
            if id(top) not in known and id(top) not in opened:
                opened.add(id(top))
                waiting.extend(part for part in reversed(_fixed_parts(top)) if id(part) not in known)
                continue
            waiting.pop()
            if id(top) not in known:
                self._register(top, self._make_fixed(top))
        return known[id(value)]

    def _make_fixed(self, value: Any) -> Any:
        kind = type(value)
        if kind is types.MethodType:
            return types.MethodType(value.__func__, self._clone_value(value.__self__))
        if kind is functools.partial:
            arguments = {name: self._clone_value(argument) for name, argument in value.keywords.items()}
            return functools.partial(self._clone_callable(value.func), *map(self._clone_value, value.args), **arguments)
        parts = list(map(self._clone_value, value))
        if kind is tuple:
            return tuple(parts)
        try:
            return tuple.__new__(kind, parts)  # the constructor of the class may take other arguments
        except TypeError:  # a class implemented in C, like the results of ``torch.max``
            return kind(parts)

    def _clone_packed_sequence(self, value: PackedSequence) -> Any:
        # Batch sizes are numbers of steps, which code reads. So they keep their data, like shapes.
        data, sizes, *indices = value
        clone = tuple.__new__(PackedSequence, (self._clone_value(data), sizes.clone(), *indices))
        self.packed_sequences.append(clone)
        return self._register(value, clone)

    def _clone_handle(self, value: RemovableHandle) -> Any:
        """Clone the handle of a hook. The cloned handle removes the hook from the clone, not from the original."""
        hooks, number, *extra = value.__getstate__()
        others = [
            tuple(OrderedDict() if item is None else self._clone_value(item) for item in group) for group in extra
        ]
        clone = self._register(value, create_blank(RemovableHandle))
        clone.__setstate__((None if hooks is None else self._clone_value(hooks), number, *others))
        return clone

    def _clone_script_object(self, value: torch.ScriptObject) -> torch.ScriptObject:
        self._record_packed_weights(value)
        return value

    def _record_packed_weights(self, value: Any) -> None:
        self.packed_weights.update((hash(weight), weight) for weight in find_packed_weights([value]))

    def _clone_generator(self, value: torch.Generator) -> Any:
        clone = torch.Generator(value.device)
        clone.set_state(value.get_state())
        return self._register(value, clone)

    def _clone_reference(self, value: weakref.ref[Any]) -> Any:
        target = value()
        return value if target is None else weakref.ref(self._clone_value(target))


#: Types whose instances a clone may share with its original.
_SHARED_TYPES = _ATOMS | {EmptyHooks}


@lru_cache(maxsize=1024)
def _is_ordinary(kind: type) -> bool:
    """Return whether instances of a module class hold values in their ``__dict__`` only."""
    special = issubclass(kind, torch.jit.ScriptModule) or kind.__name__ == "OptimizedModule"
    return not special and container_of(kind) is None and not has_slots(kind)


def _is_hashed_by_identity(key: Any) -> bool:
    """Return whether the clone of a key can be hashed before the clone has attributes."""
    return type(key) in _ATOMS or isinstance(key, (torch.Tensor, torch.nn.Module))


def _fixed_parts(value: Any) -> list[Any]:
    """Return the immutable parts of a tuple, a partial function or a method.

    The parts are cloned before ``value``. A clone of an immutable object cannot be filled later.
    """
    if isinstance(value, tuple):
        parts: Iterable[Any] = value
    elif type(value) is functools.partial:
        parts = (value.func, *value.args, *value.keywords.values())
    else:
        parts = (value.__self__,)
    return [part for part in parts if _is_fixed(part)]


def _is_fixed(value: Any) -> bool:
    """Return whether `Cloner._clone_fixed` clones the value."""
    method = _METHODS.get(type(value))
    if method is None:
        return isinstance(value, tuple) and type(value) not in _ATOMS
    return method is Cloner._clone_fixed or (type(value) is tuple and not _ATOMS.issuperset(map(type, value)))


_METHODS: dict[type, Callable[[Cloner, Any], Any]] = {
    torch.Tensor: Cloner._clone_tensor,
    torch.nn.Parameter: Cloner._clone_tensor,
    dict: Cloner._clone_dict,
    OrderedDict: Cloner._clone_dict,
    defaultdict: Cloner._clone_defaultdict,
    list: Cloner._clone_list,
    tuple: Cloner._clone_tuple,
    set: Cloner._clone_set,
    deque: Cloner._clone_deque,
    PackedSequence: Cloner._clone_packed_sequence,
    RemovableHandle: Cloner._clone_handle,
    functools.partial: Cloner._clone_fixed,
    torch.Generator: Cloner._clone_generator,
    torch.jit.ScriptFunction: Cloner._clone_script_function,
    torch.ScriptMethod: Cloner._clone_script_method,
    torch.ScriptObject: Cloner._clone_script_object,
    weakref.ref: Cloner._clone_reference,
    types.MethodType: Cloner._clone_fixed,
    types.MethodWrapperType: Cloner._clone_method_wrapper,
    types.FunctionType: Cloner._clone_closure,
}
