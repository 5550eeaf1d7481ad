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
from pytest_flopsbudget.counting.tensors.traversal import iterate_tensors
from pytest_flopsbudget.counting.torch_private import current_autograd_node, keep_uncompiled, without_torch_function

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from pytest_flopsbudget.counting.tracing.memory import Memory
    from pytest_flopsbudget.results.complexity import PhaseName


def gradients_of(optimizer: Optimizer) -> Iterator[torch.Tensor]:
    """Yield the gradients of the parameters that the optimizer updates."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                yield parameter.grad


def states_of(optimizer: Optimizer) -> Iterator[torch.Tensor]:
    """Yield the tensors that the optimizer keeps between its steps."""
    for state in optimizer.state.values():
        yield from iterate_tensors(state)


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

    def is_running(self) -> bool:
        """Return whether the current operator is the work of the optimizer, and not of a closure passed to its step.

        A step runs without gradients, unless the optimizer is differentiable. A closure enables gradients.
        """
        if not self._running:
            return False
        step, differentiable = self._running[-1]
        if torch.is_grad_enabled() and not differentiable:
            return False
        frame: FrameType | None = sys._getframe()
        while frame is not None:
            if frame is step:
                return True
            frame = frame.f_back
        self._running.pop()
        return self.is_running()


def phase_of(steps: OptimizerSteps) -> PhaseName:
    """Return the phase that the current operator belongs to."""
    if current_autograd_node() is not None:
        return "backward"
    return "optimizer" if steps.is_running() else "forward"


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
