"""Clone functions: their closures, and the models that the functions use by global names."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.cloning.base import BaseCloner
from pytest_flopsbudget.counting.cloning.iterators import is_iterator
from pytest_flopsbudget.counting.cloning.wrapped import unwrap_compiled
from pytest_flopsbudget.counting.tensors.objects import is_cloneable

if TYPE_CHECKING:
    from collections.abc import Iterator


class FunctionCloner(BaseCloner):
    """The part of `Cloner` that clones functions."""

    def __init__(self) -> None:
        super().__init__()
        self._namespaces: dict[int, dict[str, Any]] = {}

    def clone_compiled(self, compiled: Any, clone: Any) -> Any:
        """Return the clone of ``compiled``, a result of `torch.compile`.

        ``clone`` is the clone of the function or module that was compiled.
        """
        raise NotImplementedError

    def _clone_callable(self, value: Any) -> Any:
        """Return the clone of a measured callable, or of the function in a `functools.partial`.

        The function may use models by global names.
        """
        original = unwrap_compiled(value)
        if type(original) is types.FunctionType and not _is_torch_function(original):
            clone = self._clone_function(original, with_globals=True)
        else:
            # PyTorch's functions, such as results of `torch.func.vmap`, must use the global state of PyTorch, and no
            # copy.
            clone = self._clone_value(original)
        return clone if original is value else self.clone_compiled(value, clone)

    def _clone_closure(self, function: types.FunctionType) -> Any:
        original = unwrap_compiled(function)
        if original is not function:
            return self._register(function, self.clone_compiled(function, self._clone_value(original)))
        if not _is_torch_function(function) and _reaches_state(function):
            return self._clone_function(function, with_globals=True)
        if function.__closure__:
            return self._clone_function(function)
        if function.__defaults__ or function.__kwdefaults__ or function.__dict__:
            # Defaults and attributes may keep tensors. The function is not cloned, but `OutsideCaches` must see it.
            return self._register(function, function)
        return function

    def _clone_function(self, function: types.FunctionType, *, with_globals: bool = False) -> Any:
        """Return a function whose closure holds clones.

        Args:
            function: the original.
            with_globals: whether the models that the function reaches by global names are cloned too.
        """
        known = self._clones.get(id(function))
        if known is not None:
            return known
        originals = function.__globals__
        namespace = self._namespaces.setdefault(id(originals), dict(originals)) if with_globals else originals
        cells = tuple(types.CellType() for _ in function.__closure__ or ())
        clone = types.FunctionType(
            function.__code__, namespace, function.__name__, function.__defaults__, cells or None
        )
        self._register(function, clone)
        clone.__kwdefaults__ = function.__kwdefaults__
        clone.__dict__.update(function.__dict__)
        if with_globals:
            self._fill_later(self._fill_namespace, function, namespace)
        if cells:
            self._fill_later(self._fill_closure, function.__closure__, cells)
        return clone

    def _fill_closure(self, originals: tuple[types.CellType, ...], cells: tuple[types.CellType, ...]) -> None:
        for cell, original in zip(cells, originals, strict=True):
            try:
                cell.cell_contents = self._clone_value(original.cell_contents)
            except ValueError:  # noqa: PERF203 -- an empty cell: its variable has no value yet
                continue

    def _fill_namespace(self, function: types.FunctionType, namespace: dict[str, Any]) -> None:
        """Put clones into ``namespace``, the globals of the clone of ``function``.

        The models that the function uses by global names are cloned, and so are objects that may hold a model.
        """
        originals = function.__globals__
        for name in _global_names(function.__code__):
            value = originals.get(name)
            if _is_state(value):
                namespace[name] = self._clone_value(value)
            elif type(value) is types.FunctionType and namespace[name] is value:
                if unwrap_compiled(value) is not value:
                    namespace[name] = None  # a function that calls itself is cloned once
                    namespace[name] = self._clone_value(value)
                elif value.__globals__ is originals:
                    namespace[name] = self._clone_function(value, with_globals=True)


def _global_names(code: types.CodeType) -> Iterator[str]:
    """Yield the global names in ``code``, and in the functions that are defined inside of ``code``."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _is_state(value: Any) -> bool:
    """Return whether a value is a model, a tensor or an iterator, or an object that may hold a model."""
    kind = type(value)
    scripted = torch.jit.ScriptFunction, torch.ScriptMethod
    return issubclass(kind, (torch.nn.Module, torch.Tensor, *scripted)) or is_cloneable(kind) or is_iterator(kind)


def _reaches_state(function: types.FunctionType) -> bool:
    """Return whether the function may use a model or a tensor by a global name.

    The functions of the same file that it calls are searched too.
    """
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
                    return True  # a compiled function may use a model
                if value.__globals__ is names:
                    waiting.append(value.__code__)
    return False


def _is_torch_function(function: types.FunctionType) -> bool:
    """Return whether PyTorch's code defines the function, judged by the globals of the function.

    The function's name may be misleading: a wrapper from PyTorch may have the name of the function that it wraps.
    """
    return str(function.__globals__.get("__name__")).startswith("torch.")
