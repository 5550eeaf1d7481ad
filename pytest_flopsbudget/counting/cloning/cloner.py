"""Clone models: equal classes and settings, other tensors. The clone runs, so that the model stays unchanged."""

from __future__ import annotations

import copy
import functools
import types
import weakref
from collections import OrderedDict, defaultdict, deque
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from pytest_flopsbudget.counting.cloning.frozen_torchscript import expose_kernels, hides_kernels
from pytest_flopsbudget.counting.cloning.torchscript import copy_scripted, refuse_memory_readers
from pytest_flopsbudget.counting.distributed import dtensor
from pytest_flopsbudget.counting.tensors.metadata import (
    PLAIN_TYPES,
    has_no_dispatcher,
    is_wrapper,
    make_meta_clone,
    wrapped_tensors,
)
from pytest_flopsbudget.counting.tensors.objects import (
    attributes_of,
    container_of,
    create_blank,
    has_slots,
    is_cloneable,
    slots_of,
)
from pytest_flopsbudget.counting.torch_private import COMPILED_FROM, make_subclass, original_module

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator


_ATOMS = frozenset((int, float, complex, str, bytes, bool, type(None), type, types.BuiltinFunctionType, torch.Size))

_CONTAINERS = (dict, OrderedDict, set)

#: How many tuples of atoms, such as the settings of layers, are remembered: equal ones repeat.
_ATOM_TUPLES: set[tuple[Any, ...]] = set()
_MAX_ATOM_TUPLES = 10_000

#: Classes outside of PyTorch whose instances change when they are used; they are copied.
_DEEP_COPIED = frozenset(
    (
        "numpy.ndarray",
        "numpy.random._generator.Generator",
        "numpy.random.mtrand.RandomState",
        "random.Random",
    )
)

#: The dicts and sets that belong to one module alone, so that no other object refers to them.
_OWN_CONTAINERS = frozenset(name for name, value in vars(torch.nn.Module()).items() if isinstance(value, (dict, set)))
#: The dicts of a module's parts, and the dicts of its hooks, which are empty in nearly every module.
_PARTS = ("_parameters", "_buffers", "_modules")
_HOOKS = tuple(name for name, value in vars(torch.nn.Module()).items() if isinstance(value, OrderedDict))
_HOOKS = tuple(name for name in _HOOKS if name not in _PARTS)
_NON_PERSISTENT_BUFFERS = "_non_persistent_buffers_set"
#: Attributes that are not taken over from the original.
_RESET_ATTRIBUTES: dict[str, Any] = dict.fromkeys((*_PARTS, _NON_PERSISTENT_BUFFERS, "_compiled_call_impl"))


class HooksRequestedError(Exception):
    """A hook was registered on a clone that shares `EmptyHooks`: the clones have to have their own dicts."""


class EmptyHooks(OrderedDict[int, Any]):
    """Takes the place of the hooks of all clones whose modules have none, instead of ten dicts in each clone."""

    def __init__(self) -> None:
        super().__init__()
        #: Whether a hook was to be registered here, even if the exception was caught.
        self.requested = False

    def __setitem__(self, key: int, value: Any) -> None:
        self.requested = True
        raise HooksRequestedError

    def __deepcopy__(self, memo: dict[int, Any]) -> EmptyHooks:
        return self  # copies of modules can share this empty dict too

    def __reduce__(self) -> Any:
        self.requested = True
        raise HooksRequestedError

    def copy(self) -> Any:
        """Return an empty dict, so that code which copies the hooks sees none."""
        return OrderedDict()


def clone_to_meta(tensor: torch.Tensor) -> torch.Tensor:
    """Return a clone of the tensor on the meta device."""
    return make_meta_clone(tensor)


def clone_sharing_data(tensor: torch.Tensor) -> torch.Tensor:
    """Return another tensor over the same memory, which shares no gradient, hooks or autograd graph."""
    if tensor.is_inference():
        # An inference tensor cannot take part in a backward pass; a new tensor over its memory can.
        fresh = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return fresh.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    return tensor.detach()


def unwrap_compiled(value: Any) -> Any:
    """Return what ``torch.compile`` was called with: compiling changes how a model runs, not its work."""
    while True:
        if type(value).__name__ == "OptimizedModule":
            original = original_module(value)
        else:
            original = attributes_of(value).get(COMPILED_FROM)
        if original is None:
            return value
        value = original


def is_exported_program(model: Any) -> bool:
    """Return whether the model is a program from `torch.export`, without importing `torch.export`."""
    kind = type(model)
    return kind.__name__ == "ExportedProgram" and kind.__module__.startswith("torch.export.")


def unwrap_program(model: Any) -> Any:
    """Return the module of an exported program; any other model unchanged."""
    return model.module() if is_exported_program(model) else model


class Cloner:
    """Clones modules, tensors and the objects that hold them; each has one clone, so that references are kept."""

    def __init__(
        self, clone_plain: Callable[[torch.Tensor], torch.Tensor], *, own_hooks: bool = True, gradients: bool = False
    ) -> None:
        """Make no clone yet.

        Args:
            clone_plain: makes the clone of a plain tensor.
            own_hooks: whether each clone of a module without hooks gets separate dicts, so that a run can add hooks.
            gradients: whether the clone of a tensor with a gradient gets a clone of that gradient.
        """
        self._clone_plain = clone_plain
        self._gradients = gradients
        self._hooks = EmptyHooks()
        self._shares_hooks = not own_hooks
        self._reset_attributes = (
            _RESET_ATTRIBUTES if own_hooks else _RESET_ATTRIBUTES | dict.fromkeys(_HOOKS, self._hooks)
        )
        self._clones: dict[int, Any] = {}
        # Originals are kept alive with their clones, so that their ids stay unique.
        #: Everything that was cloned.
        self.originals: list[Any] = []
        #: The clones of modules, and (original, clone) of other objects.
        self.modules: list[torch.nn.Module] = []
        self.objects: list[tuple[Any, Any]] = []
        #: The clones of packed sequences.
        self.packed_sequences: list[PackedSequence] = []
        self._namespaces: dict[int, dict[str, Any]] = {}

    def clone(self, value: Any) -> Any:
        """Return the clone of a model, a callable, or a structure of arguments.

        Raises:
            NoMetaCloneError: it holds a tensor that has no meta clone.
        """
        original = unwrap_compiled(value)
        if type(original) is types.FunctionType and not _is_torch_function(original):
            clone = self._clone_function(original, self._clone_namespace)
        else:
            # PyTorch's functions, such as results of `torch.func.vmap`, use the global state of PyTorch.
            clone = self._clone_value(original)
        return clone if original is value else self.clone_compiled(value, clone)

    def clone_compiled(self, compiled: Any, clone: Any) -> Any:  # noqa: ARG002 -- another kind of double asks for it
        """Return the clone of ``compiled``, a result of `torch.compile` whose original has this ``clone``.

        Here it is ``clone``: compiling changes how a model runs, not its work. A module's clone may still be empty.
        """
        return clone

    @property
    def lacks_hooks(self) -> bool:
        """Return whether a hook could not be registered on a clone; with ``own_hooks`` it can."""
        return self._hooks.requested

    def clones(self) -> Iterator[tuple[Any, Any]]:
        """Yield (original, clone) for everything that was cloned."""
        return ((original, self._clones[id(original)]) for original in self.originals)

    def has_clone_of(self, original: Any) -> bool:
        """Return whether this object was cloned."""
        return id(original) in self._clones

    def clone_of(self, original: Any) -> Any:
        """Return the clone of something that was cloned."""
        return self._clones[id(original)]

    def cloned_ids(self) -> Container[int]:
        """Return the ids of all objects that were cloned."""
        return self._clones

    def _register(self, original: Any, clone: Any) -> Any:
        self._clones[id(original)] = clone
        self.originals.append(original)
        return clone

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
            return self._clone_named_tuple(value)
        if f"{kind.__module__}.{kind.__qualname__}" in _DEEP_COPIED:
            return self._register(value, copy.deepcopy(value))
        return self._clone_object(value) if is_cloneable(kind) else value

    def _clone_module(self, module: torch.nn.Module) -> Any:
        # Without recursion, since models may be deep. All parts exist before any is filled, since they may refer to
        # one another.
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
                self._fill_module(part.__dict__, clone)
            else:
                self._fill(part, clone)
        return known[id(module)]

    def _fill_module(self, original: dict[str, Any], clone: torch.nn.Module) -> None:
        """Do what `_fill` does, faster, for a module without slots and container."""
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

    def _clone_own_container(self, value: Any) -> Any:
        """Clone a container that belongs to one module alone."""
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
        """Clone a scripted module by saving and loading it: it is an object in C++."""
        if id(module) in self._clones:
            return  # a part of a module that was cloned whole
        self._register(module, None)  # `clones` has to list it even if it is refused
        if self._clone_plain is clone_to_meta:
            refuse_memory_readers(module)
        if hides_kernels(module):
            clone = expose_kernels(module)
        else:
            clone = copy_scripted(module, "meta" if self._clone_plain is clone_to_meta else None)
        self._clones[id(module)] = clone
        parts = dict(clone.named_modules(remove_duplicate=False))
        self.modules += parts.values()
        for name, part in module.named_modules(remove_duplicate=False):
            if id(part) not in self._clones:
                self._register(part, parts[name])

    def _clone_script_function(self, function: torch.jit.ScriptFunction[Any, Any]) -> Any:
        if self._clone_plain is clone_to_meta:
            refuse_memory_readers(function)
        return function

    def _clone_object(self, original: Any) -> Any:
        try:
            clone = create_blank(type(original))
        except TypeError:
            return original
        self._register(original, clone)
        self.objects.append((original, clone))
        self._fill(original, clone)
        return clone

    def _fill(self, original: Any, clone: Any) -> None:
        """Give ``clone`` a clone of everything that ``original`` holds."""
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
        # Called on the built-in class, because methods of the subclass may do more.
        if issubclass(container, dict):
            if container is defaultdict:
                clone.default_factory = original.default_factory
            for key, item in container.items(original):
                container.__setitem__(clone, self._clone_key(key), self._clone_value(item))
        elif container is set:
            set.update(clone, map(self._clone_key, set.__iter__(original)))
        else:
            container.extend(clone, map(self._clone_value, container.__iter__(original)))

    def _clone_key(self, key: Any) -> Any:
        """Clone a key that is looked up by identity."""
        if isinstance(key, (torch.Tensor, torch.nn.Module)):
            return self._clone_value(key)
        return self._clones.get(id(key), key)

    def _clone_dict(self, value: dict[Any, Any]) -> Any:
        if _ATOMS.issuperset(map(type, value.values())) and _ATOMS.issuperset(map(type, value)):
            return self._register(value, value.copy())  # atoms need no clones
        clone = self._register(value, type(value)())
        for key, item in value.items():
            clone[key if type(key) in _ATOMS else self._clone_key(key)] = self._clone_value(item)
        return clone

    def _clone_defaultdict(self, value: defaultdict[Any, Any]) -> Any:
        clone = self._clone_dict(value)
        clone.default_factory = value.default_factory
        return clone

    def _clone_list(self, value: list[Any]) -> Any:
        if _ATOMS.issuperset(map(type, value)):
            return self._register(value, value.copy())
        clone = self._register(value, [])
        clone.extend(map(self._clone_value, value))
        return clone

    def _clone_tuple(self, value: tuple[Any, ...]) -> Any:
        with suppress(TypeError):  # a value that cannot be hashed is not remembered
            if value in _ATOM_TUPLES:
                return value
        if _ATOMS.issuperset(map(type, value)):
            if len(_ATOM_TUPLES) < _MAX_ATOM_TUPLES:
                _ATOM_TUPLES.add(value)
            return value
        return self._register(value, tuple(map(self._clone_value, value)))

    def _clone_named_tuple(self, value: tuple[Any, ...]) -> Any:
        parts = map(self._clone_value, value)
        try:
            clone = tuple.__new__(type(value), parts)  # a subclass's constructor may take other arguments
        except TypeError:  # a class implemented in C, like those that ``torch.max`` returns
            clone = type(value)(parts)
        return self._register(value, clone)

    def _clone_set(self, value: set[Any]) -> Any:
        return self._register(value, set(map(self._clone_key, value)))

    def _clone_deque(self, value: deque[Any]) -> Any:
        clone = self._register(value, deque(maxlen=value.maxlen))
        clone.extend(map(self._clone_value, value))
        return clone

    def _clone_packed_sequence(self, value: PackedSequence) -> Any:
        # Batch sizes are read as numbers of steps, so that they keep their data: they belong to the shapes.
        data, sizes, *indices = value
        clone = tuple.__new__(PackedSequence, (self._clone_value(data), sizes.clone(), *indices))
        self.packed_sequences.append(clone)
        return self._register(value, clone)

    def _clone_handle(self, value: RemovableHandle) -> Any:
        """Clone a hook's handle, so that removing the hook, as lazy modules do, removes it from the clone."""
        hooks, number, *extra = value.__getstate__()
        others = [
            tuple(OrderedDict() if item is None else self._clone_value(item) for item in group) for group in extra
        ]
        clone = self._register(value, create_blank(RemovableHandle))
        clone.__setstate__((None if hooks is None else self._clone_value(hooks), number, *others))
        return clone

    def _clone_partial(self, value: functools.partial[Any]) -> Any:
        arguments = {name: self._clone_value(argument) for name, argument in value.keywords.items()}
        return self._register(
            value, functools.partial(self.clone(value.func), *map(self._clone_value, value.args), **arguments)
        )

    def _clone_generator(self, value: torch.Generator) -> Any:
        clone = torch.Generator(value.device)
        clone.set_state(value.get_state())
        return self._register(value, clone)

    def _clone_reference(self, value: weakref.ref[Any]) -> Any:
        target = value()
        return value if target is None else weakref.ref(self._clone_value(target))

    def _clone_method(self, value: types.MethodType) -> Any:
        return types.MethodType(value.__func__, self._clone_value(value.__self__))

    def _clone_closure(self, function: types.FunctionType) -> Any:
        original = unwrap_compiled(function)
        if original is not function:
            return self._register(function, self.clone_compiled(function, self._clone_value(original)))
        if not _is_torch_function(function) and _reaches_state(function):
            return self._clone_function(function, self._clone_namespace)
        return self._clone_function(function) if function.__closure__ else function

    def _clone_function(
        self, function: types.FunctionType, namespace: Callable[[types.FunctionType], dict[str, Any]] | None = None
    ) -> Any:
        """Return a function whose closure holds clones."""
        known = self._clones.get(id(function))
        if known is not None:
            return known
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        clone = types.FunctionType(
            function.__code__,
            function.__globals__ if namespace is None else namespace(function),
            function.__name__,
            function.__defaults__,
            cells or None,
        )
        self._register(function, clone)
        clone.__kwdefaults__ = function.__kwdefaults__
        clone.__dict__.update(function.__dict__)
        for cell, original in zip(cells, function.__closure__ or (), strict=True):
            try:
                cell.cell_contents = self._clone_value(original.cell_contents)
            except ValueError:  # noqa: PERF203 -- an empty cell: its variable has no value yet
                continue
        return clone

    def _clone_namespace(self, function: types.FunctionType) -> dict[str, Any]:
        """Return the function's globals, with clones of the models it uses and of objects that may hold models."""
        originals = function.__globals__
        namespace = self._namespaces.setdefault(id(originals), dict(originals))
        for name in _global_names(function.__code__):
            value = originals.get(name)
            if _is_state(value):
                namespace[name] = self._clone_value(value)
            elif type(value) is types.FunctionType and namespace[name] is value:
                if unwrap_compiled(value) is not value:
                    namespace[name] = None  # a function that calls itself is not cloned twice
                    namespace[name] = self._clone_value(value)
                elif value.__globals__ is originals:
                    namespace[name] = None
                    namespace[name] = self._clone_function(value, self._clone_namespace)
        return namespace

    def _clone_tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        kind = type(tensor)
        if kind is torch.nn.Parameter and not tensor.__dict__:
            return self._clone_gradient(tensor, self._register(tensor, self._clone_parameter(tensor)))
        if kind is torch.Tensor and not tensor.requires_grad and not tensor.__dict__:
            return cast("torch.Tensor", self._register(tensor, self._clone_plain(tensor)))
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            return self._clone_uninitialized(tensor)
        if dtensor.is_sharded(tensor):
            clone = dtensor.clone_dtensor(tensor, self._clone_value)
        elif is_wrapper(tensor):
            clone = self._clone_wrapper(tensor)
        else:
            clone = self._clone_plain(tensor)
        if kind not in PLAIN_TYPES and has_no_dispatcher(kind):
            clone = clone.as_subclass(kind)
        if isinstance(tensor, torch.nn.Parameter):
            clone = torch.nn.Parameter(clone, requires_grad=tensor.requires_grad)
        elif tensor.requires_grad:
            clone.requires_grad_()
        self._clone_gradient(tensor, self._register(tensor, clone))
        if tensor.__dict__ and (kind in PLAIN_TYPES or has_no_dispatcher(kind)):  # others hold their parts there
            clone.__dict__.update((name, self._clone_value(value)) for name, value in tensor.__dict__.items())
        return clone

    def _clone_wrapper(self, tensor: Any) -> torch.Tensor:
        """Return a wrapper of the same class around clones, so that it computes like the original."""
        _, context = tensor.__tensor_flatten__()
        clones = {name: self._clone_value(part) for name, part in wrapped_tensors(tensor).items()}
        return cast("torch.Tensor", tensor.__tensor_unflatten__(clones, context, tensor.shape, tensor.stride()))

    def _clone_gradient(self, tensor: torch.Tensor, clone: torch.Tensor) -> torch.Tensor:
        if self._gradients and tensor.is_leaf and tensor.grad is not None:
            clone.grad = self._clone_value(tensor.grad)
        return clone

    def _clone_parameter(self, parameter: torch.Tensor) -> torch.Tensor:
        # Faster than its constructor, with the same result for a plain tensor.
        return make_subclass(torch.nn.Parameter, self._clone_plain(parameter), parameter.requires_grad)

    def _clone_uninitialized(self, tensor: torch.Tensor) -> torch.Tensor:
        """Clone a tensor without a shape, which a lazy module gives it when it is called."""
        kind: Any = UninitializedParameter if isinstance(tensor, UninitializedParameter) else UninitializedBuffer
        on = torch.device("meta") if self._clone_plain is clone_to_meta else tensor.device
        return cast("torch.Tensor", self._register(tensor, kind(tensor.requires_grad, device=on, dtype=tensor.dtype)))


#: Types whose instances a clone may share with its original.
_SHARED_TYPES = _ATOMS | {EmptyHooks}


@lru_cache(maxsize=1024)
def _is_ordinary(kind: type) -> bool:
    """Return whether instances of a module class hold values in their ``__dict__`` only."""
    special = issubclass(kind, torch.jit.ScriptModule) or kind.__name__ == "OptimizedModule"
    return not special and container_of(kind) is None and not has_slots(kind)


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
    functools.partial: Cloner._clone_partial,
    torch.Generator: Cloner._clone_generator,
    torch.jit.ScriptFunction: Cloner._clone_script_function,
    weakref.ref: Cloner._clone_reference,
    types.MethodType: Cloner._clone_method,
    types.FunctionType: Cloner._clone_closure,
}


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Yield the global names that code uses, in the functions that it defines too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _is_state(value: Any) -> bool:
    """Return whether a value is a model, or an object that may hold one, such as an optimizer or a trainer."""
    kind = type(value)
    return issubclass(kind, (torch.nn.Module, torch.Tensor, torch.jit.ScriptFunction)) or is_cloneable(kind)


def _reaches_state(function: types.FunctionType) -> bool:
    """Return whether the function uses a model by a global name, directly or in functions of its file."""
    names = function.__globals__
    waiting, seen = [function.__code__], set[types.CodeType]()
    while waiting:
        code = waiting.pop()
        if code in seen:
            continue
        seen.add(code)
        for name in _global_names(code):
            value = names.get(name)
            if _is_state(value):
                return True
            if type(value) is types.FunctionType:
                if unwrap_compiled(value) is not value:
                    return True  # a compiled function may use one
                if value.__globals__ is names:
                    waiting.append(value.__code__)
    return False


def _is_torch_function(function: types.FunctionType) -> bool:
    """Return whether PyTorch's code defines the function, even if the name is that of a function it wraps."""
    return str(function.__globals__.get("__name__")).startswith("torch.")
