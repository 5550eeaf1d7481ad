"""The clone of a model for timing: its tensors have copied data, and it is compiled if the model is compiled."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.cloning.cloner import Cloner
from pytest_flopsbudget.counting.cloning.frozen_torchscript import hides_kernels
from pytest_flopsbudget.counting.cloning.wrapped import unwrap_compiled
from pytest_flopsbudget.counting.tensors.metadata import has_data, has_no_dispatcher
from pytest_flopsbudget.counting.tensors.objects import attributes_of, create_blank
from pytest_flopsbudget.counting.torch_private import neg_view
from pytest_flopsbudget.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable


_COMPILED_CALL = "_compiled_call_impl"


class TimedCopy(Cloner):
    """Makes clones that compute as fast as the originals, and share no memory with the originals.

    The clone of a compiled model is compiled with the settings of the model.
    """

    def __init__(self, *, gradients: bool) -> None:
        super().__init__(_TensorCopier(), gradients=gradients)
        #: Functions that compile a clone. They are called when all clones are complete.
        self._to_compile: list[Callable[[], object]] = []
        self._compiled: dict[int, Any] = {}

    def clone(self, value: Any) -> Any:
        """Return the clone of a model, a callable, or a structure of arguments.

        Raises:
            UsageError: a part of the value is compiled, and the settings of its compilation cannot be found.
        """
        clone = super().clone(value)
        while self._to_compile:
            self._to_compile.pop()()
        return clone

    def clone_compiled(self, compiled: Any, clone: Any) -> Any:
        """Return the clone of ``compiled``. It cannot be called yet.

        ``clone`` is the clone of the function or module that was compiled to get ``compiled``. When all clones are
        complete, ``clone`` is compiled with the settings of ``compiled``. From then on, the returned object runs the
        result.
        """
        known = self._compiled.get(id(compiled))
        if known is not None:
            return known
        settings = _settings_of(compiled)
        again: Any
        if isinstance(compiled, torch.nn.Module) and isinstance(clone, torch.nn.Module):
            again = create_blank(type(compiled))
            self._to_compile.append(lambda: attributes_of(again).update(attributes_of(settings(clone))))
        else:
            deferred = _DeferredCall()
            again = deferred.call
            self._to_compile.append(lambda: deferred.resolve(settings(clone)))
        self._compiled[id(compiled)] = self._register(compiled, again)
        return again

    def _clone_own_container(self, value: Any) -> Any:
        # Each run continues from the last run. If a lazy module removes a hook in one run, the next run must not have
        # it.
        known = self._clones.get(id(value))
        return self._register(value, super()._clone_own_container(value)) if known is None else known

    def _fill(self, original: Any, clone: Any) -> None:
        super()._fill(original, clone)
        self._compile_call(attributes_of(original), clone)

    def _fill_module(self, original: dict[str, Any], clone: torch.nn.Module) -> None:
        super()._fill_module(original, clone)
        self._compile_call(original, clone)

    def _compile_call(self, original: dict[str, Any], clone: Any) -> None:
        """Compile the clone after all clones are complete, if `torch.nn.Module.compile` was called on the original.

        The clone is compiled with the settings of the original.
        """
        call = original.get(_COMPILED_CALL)
        if call is not None:
            settings = _settings_of(call)
            self._to_compile.append(lambda: object.__setattr__(clone, _COMPILED_CALL, settings(clone._call_impl)))

    def _clone_scripted(self, module: torch.jit.ScriptModule) -> None:
        if hides_kernels(module):
            # A frozen, optimized module is a graph of constants. It cannot be saved, and no run changes it, so it is
            # not cloned.
            for part in module.modules():
                self._register(part, part)
            self.modules.append(module)
            return
        super()._clone_scripted(module)


class _DeferredCall:
    """Takes the place of a compiled function in the clones, until the clone of the function is compiled."""

    def __init__(self) -> None:
        self._function: Callable[..., Any] | None = None

    def resolve(self, function: Callable[..., Any]) -> None:
        self._function = function

    def call(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            raise RuntimeError("called before it was compiled")
        return self._function(*args, **kwargs)


class _TensorCopier:
    """Copies tensors. If tensors share memory, their copies share memory too."""

    def __init__(self) -> None:
        #: Identity of a storage → (the storage, its copy). The storage is kept alive, so its identity stays unique.
        self._storages: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        if not has_data(tensor):
            return tensor.detach()  # there is no data to copy; the benchmark refuses the model later
        plain = tensor.layout is torch.strided and has_no_dispatcher(type(tensor))
        if not plain or tensor.is_quantized or tensor.is_nested:
            return tensor.detach().clone()
        storage = tensor.untyped_storage()
        identity = storage._cdata
        if identity not in self._storages:
            self._storages[identity] = storage, storage.clone()
        copy = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        copy.set_(self._storages[identity][1], tensor.storage_offset(), tensor.shape, tensor.stride())
        copy = copy.conj() if tensor.is_conj() else copy
        return neg_view(copy) if tensor.is_neg() else copy


def _settings_of(compiled: Any) -> Callable[[Any], Any]:
    """Return a function that compiles a model or a function with the settings of ``compiled``.

    Raises:
        UsageError: the settings cannot be found.
    """
    settings = attributes_of(compiled).get("dynamo_ctx")
    if settings is None:
        function = getattr(compiled, "__func__", compiled)
        names = getattr(getattr(function, "__code__", None), "co_freevars", ())
        if "self" in names:
            # `torch.compile` of a function returns a closure. Only the variable ``self`` of the closure holds the
            # settings.
            settings = function.__closure__[names.index("self")].cell_contents
    if not callable(settings):
        name = getattr(unwrap_compiled(compiled), "__name__", type(compiled).__name__)
        raise UsageError(
            f"{name} cannot be timed: it is compiled, and this version of PyTorch does not show with which settings; "
            "time it before it is compiled"
        )
    return functools.partial(settings)
