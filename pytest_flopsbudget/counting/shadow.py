"""A model's double: the same classes and settings, other tensors. What runs is the double, so the model stays as it was."""

from __future__ import annotations

import functools
import types
from collections import OrderedDict, defaultdict
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from pytest_flopsbudget.counting.metadata import twin_of

if TYPE_CHECKING:
    from collections.abc import Callable

_ATOMS = (int, float, complex, str, bytes, bool, type(None), type, types.FunctionType, types.BuiltinFunctionType)


def without_data(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's twin on the meta device."""
    return twin_of(tensor)


def sharing_data(tensor: torch.Tensor) -> torch.Tensor:
    """Another tensor over the same memory, with a gradient, hooks and a graph of its own."""
    return tensor.detach()


class Shadow:
    """Doubles of modules, tensors and what holds them; each thing has one double, so ties between them last."""

    def __init__(self, double: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._double = double
        self._doubles: dict[int, Any] = {}
        # What was doubled stays alive with its double, so that its id is not given to another.
        self._originals: list[Any] = []

    def of(self, value: Any) -> Any:
        """The double of a model, a callable, or a structure of arguments."""
        if isinstance(value, torch.nn.Module):
            return self._module(value)
        if isinstance(value, types.MethodType) and isinstance(value.__self__, torch.nn.Module):
            return types.MethodType(value.__func__, self._module(value.__self__))
        if isinstance(value, functools.partial):
            arguments = {name: self.of(argument) for name, argument in value.keywords.items()}
            return functools.partial(self.of(value.func), *map(self.of, value.args), **arguments)
        return self._value(value)

    def _remember(self, original: Any, double: Any) -> Any:
        self._doubles[id(original)] = double
        self._originals.append(original)
        return double

    def _module(self, module: torch.nn.Module) -> Any:
        known = self._doubles.get(id(module))
        if known is not None:
            return known
        fresh = [part for part in module.modules() if id(part) not in self._doubles]
        for part in fresh:
            # A scripted module lives in C++ and cannot be doubled this way; it stays itself.
            scripted = isinstance(part, torch.jit.ScriptModule)
            self._remember(part, part if scripted else object.__new__(type(part)))
        for part in fresh:
            double = self._doubles[id(part)]
            if double is not part:
                double.__dict__ = {name: self._value(value) for name, value in part.__dict__.items()}
        return self._doubles[id(module)]

    def _value(self, value: Any) -> Any:  # noqa: C901 -- a table of kinds
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind is dict or kind is OrderedDict:
            return kind((self._known(key), self._value(item)) for key, item in value.items()) if value else kind()
        known = self._doubles.get(id(value))
        if known is not None:
            return known
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if kind is list or kind is tuple:
            return kind(map(self._value, value))
        if kind is set:
            return {self._known(item) for item in value}
        if kind is defaultdict:
            return defaultdict(value.default_factory, {key: self._value(item) for key, item in value.items()})
        if kind is types.MethodType and id(value.__self__) in self._doubles:
            return types.MethodType(value.__func__, self._doubles[id(value.__self__)])
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return kind(*map(self._value, value))
        if isinstance(value, torch.nn.Module):
            return self._module(value)  # held in a plain attribute's list, unseen by its parent
        return value

    def _known(self, key: Any) -> Any:
        return self._doubles.get(id(key), key)

    def _tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
            # A lazy module gives it a shape when it is called.
            kind = UninitializedParameter if isinstance(tensor, UninitializedParameter) else UninitializedBuffer
            on = torch.device("meta") if self._double is without_data else tensor.device
            return self._remember(tensor, kind(tensor.requires_grad, device=on, dtype=tensor.dtype))
        double = self._double(tensor)
        if isinstance(tensor, torch.nn.Parameter):
            double = torch.nn.Parameter(double, requires_grad=tensor.requires_grad)
        elif tensor.requires_grad:
            double.requires_grad_()
        if tensor.__dict__:
            double.__dict__.update(tensor.__dict__)
        return self._remember(tensor, double)
