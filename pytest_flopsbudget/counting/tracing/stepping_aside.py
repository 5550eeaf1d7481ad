"""Keep a watch from disturbing tracers and compilers.

`torch.jit.trace`, `torch.fx` and `make_fx` record what a model does, and would record the watch's dispatch mode too.
The operators that run during a recording are no work of the test. The recorded model is counted when it runs.
"""

from __future__ import annotations

import functools
import sys
from contextlib import contextmanager, nullcontext
from types import FunctionType
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.isolation.modes import observers_aside
from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.torch_private import (
    EXPLAINED_BY,
    EXPLAINER,
    compiler_tracing_functions,
    compiles_under_modes,
    tracing_functions,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def tracers_undisturbed() -> Iterator[None]:
    """While the context lasts, take the watch off PyTorch's stack in each function that records what a model does."""
    with patched((owner, name, _undisturbed(function)) for owner, name, function in tracing_functions()):
        yield


@contextmanager
def explaining_undisturbed() -> Iterator[None]:
    """While the context lasts, take the watch off PyTorch's stack where `torch._dynamo` explains or exports a model.

    If PyTorch's compiler is not loaded, do nothing.
    """
    module = sys.modules.get(EXPLAINER)
    compile_ = getattr(module, EXPLAINED_BY, None)
    functions = [] if compile_ is None else [(module, EXPLAINED_BY, _explaining(compile_))]
    functions += [(owner, name, _exporting(function)) for owner, name, function in compiler_tracing_functions()]
    with patched(functions):
        yield


def _explaining(compile_: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(compile_)
    def explaining(*args: Any, **kwargs: Any) -> Any:
        decorate = compile_(*args, **kwargs)
        if kwargs.get("guard_export_fn") is None:  # only `explain` passes this argument
            return decorate
        return lambda function: _compiling(decorate(function))

    return explaining


def _undisturbed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def undisturbed(*args: Any, **kwargs: Any) -> Any:
        with observers_aside():
            return function(*args, **kwargs)

    return undisturbed


def _compiling(function: Callable[..., Any]) -> Callable[..., Any]:
    """Take the watch off PyTorch's stack while ``function`` compiles and runs a model.

    If PyTorch does not compile under modes, compiled functions run eagerly in a watch, but ``function`` compiles.
    """

    def compiling(*args: Any, **kwargs: Any) -> Any:
        with observers_aside(), nullcontext() if compiles_under_modes else torch.compiler.set_stance("default"):
            return function(*args, **kwargs)

    return compiling


def _exporting(export: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(export)
    def exporting(*args: Any, **kwargs: Any) -> Any:
        result = _compiling(export)(*args, **kwargs)
        # Without inputs of the model, `torch._dynamo.export` returns a function that takes them and exports.
        return _compiling(result) if isinstance(result, FunctionType) else result

    return exporting
