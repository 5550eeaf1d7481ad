"""The double of a model that is timed: tensors with data of their own, compiled where the model is."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from pytest_flopsbudget.counting.cloning.cloner import Shadow, uncompiled
from pytest_flopsbudget.counting.cloning.frozen_torchscript import runs_unseen
from pytest_flopsbudget.counting.tensors.metadata import has_no_dispatcher
from pytest_flopsbudget.counting.tensors.objects import attributes_of, blank
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


_COMPILED_CALL = "_compiled_call_impl"


class TimedDouble(Shadow):
    """Doubles that compute what the originals do, as fast, and share no memory with them.

    What `torch.compile` gave is compiled again, by its own settings: the time of the model without would be another's.
    """

    def __init__(self, *, gradients: bool) -> None:
        super().__init__(_Copies(), gradients=gradients)
        #: What compiles again, when all doubles are whole.
        self._to_compile: list[Callable[[], object]] = []
        self._compiled: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        """The double of a model, a callable, or a structure of arguments.

        Raises:
            UsageError: nobody can tell by which settings a part of it was compiled.
        """
        double = super().of(value)
        while self._to_compile:
            self._to_compile.pop()()
        return double

    def compiled(self, compiled: Any, double: Any) -> Any:
        """The same as ``compiled`` for ``double``, once that is whole."""
        known = self._compiled.get(id(compiled))
        if known is not None:
            return known
        settings = _settings_of(compiled)
        again: Any
        if isinstance(compiled, torch.nn.Module) and isinstance(double, torch.nn.Module):
            again = blank(type(compiled))
            self._to_compile.append(lambda: attributes_of(again).update(attributes_of(settings(double))))
        else:
            late = _Late()
            again = late.call
            self._to_compile.append(lambda: late.become(settings(double)))
        self._compiled[id(compiled)] = self._remember(compiled, again)
        return again

    def _own(self, value: Any) -> Any:
        # Runs go on from each other: a hook that one takes off, as lazy modules do, has to be off in the next.
        known = self._doubles.get(id(value))
        return self._remember(value, super()._own(value)) if known is None else known

    def _fill(self, original: Any, double: Any) -> None:
        super()._fill(original, double)
        self._compile_call(attributes_of(original), double)

    def _fill_module(self, original: dict[str, Any], double: torch.nn.Module) -> None:
        super()._fill_module(original, double)
        self._compile_call(original, double)

    def _compile_call(self, original: dict[str, Any], double: Any) -> None:
        """As `torch.nn.Module.compile` does, where it was called on the original."""
        call = original.get(_COMPILED_CALL)
        if call is not None:
            settings = _settings_of(call)
            self._to_compile.append(
                lambda: object.__setattr__(double, _COMPILED_CALL, settings(double._call_impl))  # noqa: SLF001
            )

    def _scripted(self, module: torch.jit.ScriptModule) -> None:
        if runs_unseen(module):
            # Frozen and optimized: it is a graph of constants, which no run changes, and cannot be written down.
            for part in module.modules():
                self._remember(part, part)
            self.modules.append(module)
            return
        super()._scripted(module)


class _Late:
    """Stands for a compiled function until that is there: it is compiled when what it reaches is whole."""

    def __init__(self) -> None:
        self._function: Callable[..., Any] | None = None

    def become(self, function: Callable[..., Any]) -> None:
        self._function = function

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            raise RuntimeError("called before it was compiled")
        return self._function(*args, **kwargs)


class _Copies:
    """Copies tensors; those that share memory do so as copies too."""

    def __init__(self) -> None:
        #: A storage's identity → the storage, kept so that its identity is not given to another, and its copy.
        self._storages: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_meta or isinstance(tensor, FakeTensor):
            return tensor.detach()  # there is nothing to copy, which whoever times refuses
        plain = tensor.layout is torch.strided and has_no_dispatcher(type(tensor))
        if not plain or tensor.is_quantized or tensor.is_nested:
            return tensor.detach().clone()
        storage = tensor.untyped_storage()
        identity = storage._cdata  # noqa: SLF001
        if identity not in self._storages:
            self._storages[identity] = storage, storage.clone()
        copy = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        copy.set_(self._storages[identity][1], tensor.storage_offset(), tensor.shape, tensor.stride())
        copy = copy.conj() if tensor.is_conj() else copy
        return torch._neg_view(copy) if tensor.is_neg() else copy  # noqa: SLF001 -- which only views have


def _settings_of(compiled: Any) -> Callable[[Any], Any]:
    """What compiles a model or a function as ``compiled`` was.

    Raises:
        UsageError: PyTorch does not tell.
    """
    settings = attributes_of(compiled).get("dynamo_ctx")
    if settings is None:
        function = getattr(compiled, "__func__", compiled)
        names = getattr(getattr(function, "__code__", None), "co_freevars", ())
        if "self" in names:
            # Of the function that it makes of another, which is the only one to know them.
            settings = function.__closure__[names.index("self")].cell_contents
    if not callable(settings):
        name = getattr(uncompiled(compiled), "__name__", type(compiled).__name__)
        raise UsageError(
            f"{name} cannot be timed: it is compiled, and this version of PyTorch does not tell by which settings; "
            "time it before it is compiled"
        )
    return functools.partial(settings)
