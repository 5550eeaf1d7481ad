"""Run a model and restore the modes, settings and random states of the process afterwards."""

from __future__ import annotations

import gc
import random
import sys
import threading
import warnings
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch.jit import optimized_execution  # type: ignore[attr-defined] # public, by its documentation

from pytest_flopsbudget.counting.isolation.compiler_import import compiler_imported_undisturbed
from pytest_flopsbudget.counting.isolation.forks import process_changes
from pytest_flopsbudget.counting.isolation.mocks import mocks_record_nothing
from pytest_flopsbudget.counting.isolation.settings import restore_settings
from pytest_flopsbudget.counting.torch_private import (
    compiler_is_loaded,
    count_dispatch_modes,
    disable_current_modes,
    require_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


#: Warnings that our way of running a model causes. They are ignored, because users may turn warnings into errors.
_OWN_WARNINGS = (
    "flex_attention called without torch.compile",  # a measurement runs flex attention uncompiled, to see its operators
    "torch.compile with fullgraph=True found no compiled frames",  # PyTorch 2.12, though nothing is to be compiled
    "DTensor random operators may not have complete support on cpu",  # one process represents one rank of many
    "`torch.jit.script.*` is deprecated",  # PyTorch's own code raises this warning when it loads some meta kernels
)


class _Measurements(threading.local):
    """The number of measurements that are running on this thread. Measurements can be nested."""

    depth = 0


_MEASUREMENTS = _Measurements()


def measurement_depth() -> int:
    """Return the number of measurements that are running on this thread. Measurements can be nested."""
    return _MEASUREMENTS.depth


@contextmanager
def state_restored() -> Iterator[None]:
    """Disable the dispatch modes of the caller while the context lasts.

    At the end, restore all modes, settings and random states.
    """
    require_attributes()
    with process_changes() as changes, compiler_imported_undisturbed(), ExitStack() as stack:
        stack.callback(setattr, _MEASUREMENTS, "depth", _MEASUREMENTS.depth)
        _MEASUREMENTS.depth += 1
        _keep_random_states(changes)
        restore_settings(changes)
        grad = torch.is_grad_enabled()
        stack.callback(torch.set_grad_enabled, grad)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(mode=False))
            torch.set_grad_enabled(grad)
        # If a fake tensor mode is active around the measurement, the measurement's own tensors would be fake.
        if count_dispatch_modes():
            stack.enter_context(disable_current_modes())
        yield


@contextmanager
def isolated() -> Iterator[None]:
    """Make PyTorch run the same operators in all modes and settings that the caller may have.

    Nothing is compiled, TorchScript is not optimized, and attention is not fused. Mocks record no calls. Modes,
    settings and random states are restored at the end.
    """
    with state_restored(), mocks_record_nothing(), process_changes() as stack:
        if compiler_is_loaded():
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        # TorchScript's optimizer would store our tensors in functions that it caches, and compare constants by
        # operators that would be counted. It would also fuse operators, and a fused operator cannot be seen.
        stack.enter_context(optimized_execution(should_optimize=False))
        # The fused inference paths of attention modules do the same work with other operators, so they are switched
        # off.
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(value=False)
        stack.enter_context(warnings.catch_warnings())
        for message in _OWN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector while the context lasts.

    A collection looks at all objects of PyTorch's libraries, which takes many times as long as counting a model on
    shapes. Nearly all objects of a run are freed before this context ends, so the end of the context causes no
    collection.
    """
    with process_changes() as changes:
        if gc.isenabled():
            changes.callback(gc.enable)
        gc.disable()
        yield


def _keep_random_states(stack: ExitStack) -> None:
    stack.callback(random.setstate, random.getstate())
    if "numpy" in sys.modules:
        numpy_random = sys.modules["numpy"].random
        stack.callback(numpy_random.set_state, numpy_random.get_state())
    stack.callback(torch.set_rng_state, torch.get_rng_state())
    for device in range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ():
        stack.callback(torch.cuda.set_rng_state, torch.cuda.get_rng_state(device), device)
