"""Decide whether an operator belongs to the forward pass, the backward pass or an optimizer's step."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from pytest_flopsbudget.counting.isolation.forks import process_changes
from pytest_flopsbudget.counting.isolation.global_state import measurement_depth
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES
from pytest_flopsbudget.counting.tensors.traversal import iterate_tensors
from pytest_flopsbudget.counting.torch_private import keep_uncompiled, without_torch_function

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from pytest_flopsbudget.counting.tracing.memory import Memory
    from pytest_flopsbudget.results.data import PhaseName


_NUMBERS = (int, float, bool)


def gradients_of(optimizer: Optimizer) -> Iterator[torch.Tensor]:
    """Yield the gradients of the parameters that the optimizer updates."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                yield parameter.grad


def states_of(optimizer: Optimizer) -> Iterator[torch.Tensor]:
    """Yield the tensors that the optimizer keeps between its steps."""
    for state in optimizer.state.values():
        for value in state.values() if type(state) is dict else (state,):
            if type(value) in PLAIN_TYPES:
                yield value
            elif type(value) not in _NUMBERS:
                yield from iterate_tensors(value)


class OptimizerSteps:
    """The running steps of optimizers. The innermost step is last.

    PyTorch calls hooks before and after a step, but not after a step that raised. So each step is kept with its frame.
    A step has ended if its frame is not on the stack any more.
    """

    def __init__(self, memory: Memory) -> None:
        self._running: list[tuple[FrameType, bool]] = []
        self._memory = memory

    def begin(self, optimizer: Optimizer, frame: FrameType) -> None:
        """Note that a step of ``optimizer`` begins in this frame."""
        self._running.append((frame, bool(optimizer.defaults.get("differentiable"))))
        self._memory.record_gradients(gradients_of(optimizer))

    def end(self, optimizer: Optimizer, frame: FrameType) -> None:
        """Note that the step of ``optimizer`` in this frame ended."""
        while self._running and self._running.pop()[0] is not frame:
            pass
        self._memory.assign_kind("optimizer_state", states_of(optimizer))

    def phase(self) -> PhaseName:
        """Return "optimizer" if the current operator is the work of an optimizer, else "forward".

        A closure that was passed to the step is no work of the optimizer. A step runs without gradients, unless the
        optimizer is differentiable. A closure enables gradients.
        """
        running = self._running
        while running:
            step, differentiable = running[-1]
            if torch.is_grad_enabled() and not differentiable:
                return "forward"
            frame: FrameType | None = sys._getframe()
            while frame is not None:
                if frame is step:
                    return "optimizer"
                frame = frame.f_back
            running.pop()
        return "forward"


@contextmanager
def following_steps(steps: OptimizerSteps) -> Iterator[None]:
    """Notice the steps of all optimizers while the context lasts.

    Steps in a nested measurement are ignored, and so are steps that PyTorch compiles.
    """
    depth = measurement_depth()

    def begin(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if not torch.compiler.is_compiling() and measurement_depth() == depth:
            with without_torch_function():
                steps.begin(optimizer, sys._getframe(1))

    def end(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if not torch.compiler.is_compiling() and measurement_depth() == depth:
            with without_torch_function():
                steps.end(optimizer, sys._getframe(1))

    with process_changes() as changes:
        for register, hook in (
            (register_optimizer_step_pre_hook, begin),
            (register_optimizer_step_post_hook, end),
        ):
            keep_uncompiled(hook)
            changes.callback(register(hook).remove)
        yield
