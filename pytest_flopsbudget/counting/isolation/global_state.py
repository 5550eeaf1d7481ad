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
from pytest_flopsbudget.counting.isolation.settings import restore_settings
from pytest_flopsbudget.counting.torch_private import (
    compiler_is_loaded,
    count_dispatch_modes,
    disable_current_modes,
    require_attributes,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


#: Warnings about the way in which a measurement runs a model. A user may have turned warnings into errors.
_OWN_WARNINGS = (
    "flex_attention called without torch.compile",  # it runs uncompiled, so that its operators are seen
    "DTensor random operators may not have complete support on cpu",  # one process represents one rank of many
    "`torch.jit.script.*` is deprecated",  # raised by PyTorch's code, which some meta kernels load
)


class _Measurements(threading.local):
    """The number of measurements under way on this thread, one inside the other."""

    depth = 0


_MEASUREMENTS = _Measurements()


def measurement_depth() -> int:
    """Return the number of measurements under way on this thread, one inside the other."""
    return _MEASUREMENTS.depth


@contextmanager
def state_restored() -> Iterator[None]:
    """Restore modes, settings and random states at the end, and disable dispatch modes that are active around."""
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
        # A fake tensor mode around the measurement would make our own tensors fake.
        if count_dispatch_modes():
            stack.enter_context(disable_current_modes())
        yield


@contextmanager
def isolated() -> Iterator[None]:
    """Make PyTorch run the same operators in every mode; restore modes, settings and random states at the end."""
    with state_restored(), process_changes() as stack:
        if compiler_is_loaded():
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        # TorchScript's optimizer would store our tensors in functions that it caches, compare constants by operators
        # that would be counted, and fuse operators so that they cannot be seen.
        stack.enter_context(optimized_execution(should_optimize=False))
        # The fused inference paths of attention modules do the same work in other operators.
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(value=False)
        stack.enter_context(warnings.catch_warnings())
        for message in _OWN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the garbage collector.

    A collection looks at everything that PyTorch's libraries made when they were imported, and takes many times as
    long as counting a model on shapes. That leaves little garbage: nearly all that it makes is freed when it returns,
    before the end of this context, so that no collection is due then either.
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
