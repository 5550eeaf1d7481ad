"""A model's double: the same classes and settings, other tensors. The double runs, so the model stays as it was."""

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

from pytest_flopsbudget.counting.cloning.frozen_torchscript import in_sight, runs_unseen
from pytest_flopsbudget.counting.cloning.torchscript import independent_copy, refuse_memory_readers
from pytest_flopsbudget.counting.distributed import dtensor
from pytest_flopsbudget.counting.tensors.metadata import PLAIN, has_no_dispatcher, parts_of, twin_of, wraps_others
from pytest_flopsbudget.counting.tensors.objects import (
    attributes_of,
    blank,
    container_of,
    has_slots,
    is_plain,
    slots_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_ATOMS = frozenset((int, float, complex, str, bytes, bool, type(None), type, types.BuiltinFunctionType, torch.Size))

_CONTAINERS = (dict, OrderedDict, set)

#: Tuples that were found to hold atoms only: settings of layers are such, and repeat. At most so many.
_SETTINGS: set[tuple[Any, ...]] = set()
_MOST_SETTINGS = 10_000

#: Classes outside of PyTorch whose instances change when they are used.
_COPIED = frozenset(
    (
        "numpy.ndarray",
        "numpy.random._generator.Generator",
        "numpy.random.mtrand.RandomState",
        "random.Random",
    )
)

#: The dicts and sets that every module has for itself, so that nobody else can hold them.
_OWN = frozenset(name for name, value in vars(torch.nn.Module()).items() if isinstance(value, (dict, set)))
#: Those that hold its parts, and those that hold hooks, of which nearly no module has any.
_PARTS = ("_parameters", "_buffers", "_modules")
_HOOKS = tuple(name for name, value in vars(torch.nn.Module()).items() if isinstance(value, OrderedDict))
_HOOKS = tuple(name for name in _HOOKS if name not in _PARTS)
_NAMES_OF_BUFFERS = "_non_persistent_buffers_set"
#: What a double gets for itself, in whatever way.
_ANEW: dict[str, Any] = dict.fromkeys((*_PARTS, _NAMES_OF_BUFFERS, "_compiled_call_impl"))


class HooksWantedError(Exception):
    """A hook was put on a double that has none of its own: all doubles have to have theirs."""


class NoHooks(OrderedDict[int, Any]):
    """Stands for the hooks of every double whose module has none, instead of some ten dicts in each of them."""

    def __init__(self) -> None:
        super().__init__()
        #: Whether somebody wanted to put a hook in here, whatever became of it.
        self.wanted = False

    def __setitem__(self, key: int, value: Any) -> None:
        self.wanted = True
        raise HooksWantedError

    def __deepcopy__(self, memo: dict[int, Any]) -> NoHooks:
        return self  # copies of modules have none either

    def __reduce__(self) -> Any:
        self.wanted = True
        raise HooksWantedError

    def copy(self) -> Any:
        """An empty dict for whoever asks."""
        return OrderedDict()


def without_data(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's twin on the meta device."""
    return twin_of(tensor)


def sharing_data(tensor: torch.Tensor) -> torch.Tensor:
    """Another tensor over the same memory, with a gradient, hooks and a graph of its own."""
    if tensor.is_inference():
        # Its own kind may take no part in a backward pass; its memory may.
        fresh = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return fresh.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    return tensor.detach()


def uncompiled(value: Any) -> Any:
    """What ``torch.compile`` was given: compiling changes how a model is run, not its work."""
    while True:
        if type(value).__name__ == "OptimizedModule":
            original = value._orig_mod  # noqa: SLF001 -- where ``torch.compile`` keeps it
        else:
            original = attributes_of(value).get("_torchdynamo_orig_callable")
        if original is None:
            return value
        value = original


def is_program(model: Any) -> bool:
    """Whether it is what `torch.export` gives, told without loading that."""
    kind = type(model)
    return kind.__name__ == "ExportedProgram" and kind.__module__.startswith("torch.export.")


def runnable(model: Any) -> Any:
    """The module that an exported program stands for; anything else is itself."""
    return model.module() if is_program(model) else model


class Shadow:
    """Doubles of modules, tensors and what holds them; each thing has one double, so ties between them last."""

    def __init__(
        self, double: Callable[[torch.Tensor], torch.Tensor], *, own_hooks: bool = True, gradients: bool = False
    ) -> None:
        """Make no double yet.

        Args:
            double: of a plain tensor.
            own_hooks: whether doubles of modules without hooks get dicts of their own to put some in.
            gradients: whether doubles of tensors that have a gradient have its double.
        """
        self._double = double
        self._gradients = gradients
        self._hooks = NoHooks()
        self._shares_hooks = not own_hooks
        self._anew = _ANEW if own_hooks else _ANEW | dict.fromkeys(_HOOKS, self._hooks)
        self._doubles: dict[int, Any] = {}
        # What was doubled stays alive with its double, so that its id is not given to another.
        self._originals: list[Any] = []
        #: The doubles of modules, and of objects that are none, these with the originals before.
        self.modules: list[torch.nn.Module] = []
        self.objects: list[tuple[Any, Any]] = []
        #: The doubles of packed sequences.
        self.packed: list[PackedSequence] = []
        self._namespaces: dict[int, dict[str, Any]] = {}

    def of(self, value: Any) -> Any:
        """The double of a model, a callable, or a structure of arguments.

        Raises:
            NoTwinError: it holds a tensor that cannot be doubled in this way.
        """
        original = uncompiled(value)
        if type(original) is types.FunctionType and not _is_of_torch(original):
            double = self._function(original, self._namespace)
        else:
            # Functions of PyTorch's, like those that `torch.func.vmap` gives, share its state.
            double = self._value(original)
        return double if original is value else self.compiled(value, double)

    def compiled(self, compiled: Any, double: Any) -> Any:  # noqa: ARG002 -- another kind of double asks for it
        """What stands for a model or a function that `torch.compile` gave, whose original has this ``double``.

        Compiling changes how a model is run, not its work. A module's double may still be empty.
        """
        return double

    @property
    def lacks_hooks(self) -> bool:
        """Whether a hook could not be put on a double: with `own_hooks` it can."""
        return self._hooks.wanted

    def doubles(self) -> Iterator[tuple[Any, Any]]:
        """Everything that was doubled, each with its double."""
        return ((original, self._doubles[id(original)]) for original in self._originals)

    def _remember(self, original: Any, double: Any) -> Any:
        self._doubles[id(original)] = double
        self._originals.append(original)
        return double

    def _value(self, value: Any) -> Any:
        kind = type(value)
        if kind in _ATOMS:
            return value
        known = self._doubles.get(id(value))
        if known is not None:
            return known
        method = _METHODS.get(kind)
        if method is not None:
            return method(self, value)
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, torch.nn.Module):
            return self._module(value)
        if isinstance(value, tuple):
            return self._named_tuple(value)
        if f"{kind.__module__}.{kind.__qualname__}" in _COPIED:
            return self._remember(value, copy.deepcopy(value))
        return self._object(value) if is_plain(kind) else value

    def _module(self, module: torch.nn.Module) -> Any:
        # Without recursion, since models may be deep, and whole before it is filled, since parts refer to one another.
        fresh: list[tuple[torch.nn.Module, torch.nn.Module]] = []
        compiled: list[tuple[torch.nn.Module, torch.nn.Module]] = []
        known, waiting = self._doubles, [module]
        while waiting:
            part = waiting.pop()
            if id(part) in known:
                continue
            kind: type = type(part)
            if _is_ordinary(kind) and "_torchdynamo_orig_callable" not in part.__dict__:
                double: Any = object.__new__(kind)
            else:
                original = uncompiled(part)
                if isinstance(part, torch.jit.ScriptModule):
                    self._scripted(part)
                    continue
                if original is not part:
                    self._remember(part, None)
                    compiled.append((part, original))
                    waiting.append(original)
                    continue
                double = blank(kind)
            self._remember(part, double)
            self.modules.append(double)
            fresh.append((part, double))
            parts = part._modules  # noqa: SLF001
            if parts:
                waiting.extend([below for below in reversed(parts.values()) if below is not None])
        for part, original in compiled:
            known[id(part)] = self.compiled(part, known[id(original)])
        for part, double in fresh:
            if _is_ordinary(type(part)):  # type: ignore[arg-type] # mypy takes a class for unhashable
                self._fill_module(part.__dict__, double)
            else:
                self._fill(part, double)
        return known[id(module)]

    def _fill_module(self, original: dict[str, Any], double: torch.nn.Module) -> None:
        """As `_fill`, for what nearly all of a model's objects are."""
        attributes = {**original, **self._anew}
        object.__setattr__(double, "__dict__", attributes)
        if not _USUAL.issuperset(map(type, attributes.values())):
            for name, value in attributes.items():
                if type(value) not in _USUAL:
                    attributes[name] = self._own(value) if name in _OWN else self._value(value)
        if self._shares_hooks and any(map(original.get, _HOOKS)):
            attributes.update((name, self._own(original[name])) for name in _HOOKS if name in original)
        for name in _PARTS:
            held = original[name]
            attributes[name] = self._own(held) if held else type(held)()
        attributes[_NAMES_OF_BUFFERS] = set(original[_NAMES_OF_BUFFERS])

    def _own(self, value: Any) -> Any:
        """The double of a container that one module has for itself."""
        kind = type(value)
        if kind not in _CONTAINERS:
            return self._value(value)
        if not value:
            return kind()
        if kind is set:
            return self._set(value)
        own: Any = kind()
        known = self._doubles
        for key, item in value.items():
            part = known.get(id(item))
            if part is None:
                part = self._tensor(item) if type(item) in PLAIN else self._value(item)
            own[key] = part
        return own

    def _scripted(self, module: torch.jit.ScriptModule) -> None:
        """Double by a copy: a scripted module lives in C++, which knows nothing of Python's objects."""
        if id(module) in self._doubles:
            return  # a part of one that was doubled whole
        self._remember(module, None)  # what is refused may still be asked whether it holds data
        if self._double is without_data:
            refuse_memory_readers(module)
        if runs_unseen(module):
            double = in_sight(module)
        else:
            double = independent_copy(module, "meta" if self._double is without_data else None)
        self._doubles[id(module)] = double
        parts = dict(double.named_modules(remove_duplicate=False))
        self.modules += parts.values()
        for name, part in module.named_modules(remove_duplicate=False):
            if id(part) not in self._doubles:
                self._remember(part, parts[name])

    def _script_function(self, function: torch.jit.ScriptFunction[Any, Any]) -> Any:
        if self._double is without_data:
            refuse_memory_readers(function)
        return function

    def _object(self, original: Any) -> Any:
        try:
            double = blank(type(original))
        except TypeError:
            return original
        self._remember(original, double)
        self.objects.append((original, double))
        self._fill(original, double)
        return double

    def _fill(self, original: Any, double: Any) -> None:
        """Give ``double`` doubles of all that ``original`` holds."""
        attributes = attributes_of(double)
        for name, value in attributes_of(original).items():
            if type(value) in _ATOMS:
                attributes[name] = value
            elif name in _OWN and not value:
                attributes[name] = type(value)()
            elif name == "_compiled_call_impl":
                attributes[name] = None
            else:
                attributes[name] = self._value(value)
        for slot, value in slots_of(original):
            slot.__set__(double, self._value(value))
        container = container_of(type(original))
        if container is not None:
            self._fill_container(container, original, double)

    def _fill_container(self, container: Any, original: Any, double: Any) -> None:
        # The built-in methods: those of the class may do more than hold things.
        if issubclass(container, dict):
            if container is defaultdict:
                double.default_factory = original.default_factory
            for key, item in container.items(original):
                container.__setitem__(double, self._key(key), self._value(item))
        elif container is set:
            set.update(double, map(self._key, set.__iter__(original)))
        else:
            container.extend(double, map(self._value, container.__iter__(original)))

    def _key(self, key: Any) -> Any:
        """What is looked up by identity has to be the double, even where it is met here first."""
        if isinstance(key, (torch.Tensor, torch.nn.Module)):
            return self._value(key)
        return self._doubles.get(id(key), key)

    def _dict(self, value: dict[Any, Any]) -> Any:
        if _ATOMS.issuperset(map(type, value.values())) and _ATOMS.issuperset(map(type, value)):
            return self._remember(value, value.copy())  # such as the names of a thousand classes
        double = self._remember(value, type(value)())
        for key, item in value.items():
            double[key if type(key) in _ATOMS else self._key(key)] = self._value(item)
        return double

    def _defaultdict(self, value: defaultdict[Any, Any]) -> Any:
        double = self._dict(value)
        double.default_factory = value.default_factory
        return double

    def _list(self, value: list[Any]) -> Any:
        if _ATOMS.issuperset(map(type, value)):
            return self._remember(value, value.copy())
        double = self._remember(value, [])
        double.extend(map(self._value, value))
        return double

    def _tuple(self, value: tuple[Any, ...]) -> Any:
        with suppress(TypeError):  # it holds what cannot be hashed
            if value in _SETTINGS:
                return value
        if _ATOMS.issuperset(map(type, value)):
            if len(_SETTINGS) < _MOST_SETTINGS:
                _SETTINGS.add(value)
            return value
        return self._remember(value, tuple(map(self._value, value)))

    def _named_tuple(self, value: tuple[Any, ...]) -> Any:
        parts = map(self._value, value)
        try:
            double = tuple.__new__(type(value), parts)  # whatever its own constructor takes
        except TypeError:  # one made in C, like those that ``torch.max`` returns
            double = type(value)(parts)
        return self._remember(value, double)

    def _set(self, value: set[Any]) -> Any:
        return self._remember(value, set(map(self._key, value)))

    def _deque(self, value: deque[Any]) -> Any:
        double = self._remember(value, deque(maxlen=value.maxlen))
        double.extend(map(self._value, value))
        return double

    def _packed(self, value: PackedSequence) -> Any:
        # The batch sizes say how often to step, and are read as numbers: they belong to the shapes.
        data, sizes, *indices = value
        double = tuple.__new__(PackedSequence, (self._value(data), sizes.clone(), *indices))
        self.packed.append(double)
        return self._remember(value, double)

    def _handle(self, value: RemovableHandle) -> Any:
        """A hook that its owner takes off, as lazy modules do, goes from the double."""
        hooks, number, *extra = value.__getstate__()
        others = [tuple(OrderedDict() if item is None else self._value(item) for item in group) for group in extra]
        double = self._remember(value, blank(RemovableHandle))
        double.__setstate__((None if hooks is None else self._value(hooks), number, *others))
        return double

    def _partial(self, value: functools.partial[Any]) -> Any:
        arguments = {name: self._value(argument) for name, argument in value.keywords.items()}
        return self._remember(value, functools.partial(self.of(value.func), *map(self._value, value.args), **arguments))

    def _generator(self, value: torch.Generator) -> Any:
        double = torch.Generator(value.device)
        double.set_state(value.get_state())
        return self._remember(value, double)

    def _reference(self, value: weakref.ref[Any]) -> Any:
        target = value()
        return value if target is None else weakref.ref(self._value(target))

    def _method(self, value: types.MethodType) -> Any:
        return types.MethodType(value.__func__, self._value(value.__self__))

    def _closure(self, function: types.FunctionType) -> Any:
        original = uncompiled(function)
        if original is not function:
            return self._remember(function, self.compiled(function, self._value(original)))
        if not _is_of_torch(function) and _reaches_state(function):
            return self._function(function, self._namespace)
        return self._function(function) if function.__closure__ else function

    def _function(
        self, function: types.FunctionType, namespace: Callable[[types.FunctionType], dict[str, Any]] | None = None
    ) -> Any:
        """A function over doubles of what it closes over."""
        known = self._doubles.get(id(function))
        if known is not None:
            return known
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        double = types.FunctionType(
            function.__code__,
            function.__globals__ if namespace is None else namespace(function),
            function.__name__,
            function.__defaults__,
            cells or None,
        )
        self._remember(function, double)
        double.__kwdefaults__ = function.__kwdefaults__
        double.__dict__.update(function.__dict__)
        for cell, original in zip(cells, function.__closure__ or (), strict=True):
            try:
                cell.cell_contents = self._value(original.cell_contents)
            except ValueError:  # noqa: PERF203 -- an empty cell: its variable has no value yet
                continue
        return double

    def _namespace(self, function: types.FunctionType) -> dict[str, Any]:
        """The function's global names, with doubles of the models and whatever may hold some that it uses."""
        originals = function.__globals__
        namespace = self._namespaces.setdefault(id(originals), dict(originals))
        for name in _names(function.__code__):
            value = originals.get(name)
            if _is_state(value):
                namespace[name] = self._value(value)
            elif type(value) is types.FunctionType and namespace[name] is value:
                if uncompiled(value) is not value:
                    namespace[name] = None  # in the making, should it call itself
                    namespace[name] = self._value(value)
                elif value.__globals__ is originals:
                    namespace[name] = None
                    namespace[name] = self._function(value, self._namespace)
        return namespace

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        kind = type(tensor)
        if kind is torch.nn.Parameter and not tensor.__dict__:
            return self._with_gradient(tensor, self._remember(tensor, self._parameter(tensor)))
        if kind is torch.Tensor and not tensor.requires_grad and not tensor.__dict__:
            return cast("torch.Tensor", self._remember(tensor, self._double(tensor)))
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            return self._uninitialized(tensor)
        if dtensor.is_sharded(tensor):
            double = dtensor.double_of(tensor, self._value)
        elif wraps_others(tensor):
            double = self._wrapper(tensor)
        else:
            double = self._double(tensor)
        if kind not in PLAIN and has_no_dispatcher(kind):
            double = double.as_subclass(kind)
        if isinstance(tensor, torch.nn.Parameter):
            double = torch.nn.Parameter(double, requires_grad=tensor.requires_grad)
        elif tensor.requires_grad:
            double.requires_grad_()
        self._with_gradient(tensor, self._remember(tensor, double))
        if tensor.__dict__ and (kind in PLAIN or has_no_dispatcher(kind)):  # others hold their parts there
            double.__dict__.update((name, self._value(value)) for name, value in tensor.__dict__.items())
        return double

    def _wrapper(self, tensor: Any) -> torch.Tensor:
        """One of the same class around doubles, so that it computes as the original does."""
        _, context = tensor.__tensor_flatten__()
        doubles = {name: self._value(part) for name, part in parts_of(tensor).items()}
        return cast("torch.Tensor", tensor.__tensor_unflatten__(doubles, context, tensor.shape, tensor.stride()))

    def _with_gradient(self, tensor: torch.Tensor, double: torch.Tensor) -> torch.Tensor:
        if self._gradients and tensor.is_leaf and tensor.grad is not None:
            double.grad = self._value(tensor.grad)
        return double

    def _parameter(self, parameter: torch.Tensor) -> torch.Tensor:
        # What its constructor comes to, for a plain tensor.
        return torch.Tensor._make_subclass(torch.nn.Parameter, self._double(parameter), parameter.requires_grad)  # noqa: SLF001

    def _uninitialized(self, tensor: torch.Tensor) -> torch.Tensor:
        """A lazy module gives it a shape when it is called."""
        kind: Any = UninitializedParameter if isinstance(tensor, UninitializedParameter) else UninitializedBuffer
        on = torch.device("meta") if self._double is without_data else tensor.device
        return cast("torch.Tensor", self._remember(tensor, kind(tensor.requires_grad, device=on, dtype=tensor.dtype)))


#: What a double may share with its original.
_USUAL = _ATOMS | {NoHooks}


@lru_cache(maxsize=1024)
def _is_ordinary(kind: type) -> bool:
    """Whether a module class's instances are their ``__dict__`` and nothing else."""
    special = issubclass(kind, torch.jit.ScriptModule) or kind.__name__ == "OptimizedModule"
    return not special and container_of(kind) is None and not has_slots(kind)


_METHODS: dict[type, Callable[[Shadow, Any], Any]] = {
    torch.Tensor: Shadow._tensor,  # noqa: SLF001
    torch.nn.Parameter: Shadow._tensor,  # noqa: SLF001
    dict: Shadow._dict,  # noqa: SLF001 -- this class's own
    OrderedDict: Shadow._dict,  # noqa: SLF001
    defaultdict: Shadow._defaultdict,  # noqa: SLF001
    list: Shadow._list,  # noqa: SLF001
    tuple: Shadow._tuple,  # noqa: SLF001
    set: Shadow._set,  # noqa: SLF001
    deque: Shadow._deque,  # noqa: SLF001
    PackedSequence: Shadow._packed,  # noqa: SLF001
    RemovableHandle: Shadow._handle,  # noqa: SLF001
    functools.partial: Shadow._partial,  # noqa: SLF001
    torch.Generator: Shadow._generator,  # noqa: SLF001
    torch.jit.ScriptFunction: Shadow._script_function,  # noqa: SLF001
    weakref.ref: Shadow._reference,  # noqa: SLF001
    types.MethodType: Shadow._method,  # noqa: SLF001
    types.FunctionType: Shadow._closure,  # noqa: SLF001
}


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names that code uses, in the functions it defines too."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _is_state(value: Any) -> bool:
    """Whether a global name's value is a model, or an object that may hold one: an optimizer, a trainer."""
    kind = type(value)
    return issubclass(kind, (torch.nn.Module, torch.Tensor, torch.jit.ScriptFunction)) or is_plain(kind)


def _reaches_state(function: types.FunctionType) -> bool:
    """Whether the function uses such by a global name, itself or by another function of its file."""
    names = function.__globals__
    waiting, seen = [function.__code__], set[types.CodeType]()
    while waiting:
        code = waiting.pop()
        if code in seen:
            continue
        seen.add(code)
        for name in _names(code):
            value = names.get(name)
            if _is_state(value):
                return True
            if type(value) is types.FunctionType:
                if uncompiled(value) is not value:
                    return True  # it may, wherever it is from
                if value.__globals__ is names:
                    waiting.append(value.__code__)
    return False


def _is_of_torch(function: types.FunctionType) -> bool:
    """Whether PyTorch's own code made the function, whatever it wraps and is named after."""
    return str(function.__globals__.get("__name__")).startswith("torch.")
