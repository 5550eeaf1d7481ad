"""Forward, backward and optimizer work told apart."""

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

from pytest_flopsbudget.counting.undisturbed import measurements_around

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from pytest_flopsbudget.results.complexity import PhaseName

_running_node = torch._C._current_autograd_node  # noqa: SLF001 -- the one way to ask for it


class Steps:
    """The steps of optimizers that are running.

    PyTorch calls its hooks before and after a step; but not after one that raised, so a step is its frame too.
    """

    def __init__(self) -> None:
        self._running: list[tuple[FrameType, bool]] = []

    def begin(self, optimizer: Optimizer, frame: FrameType) -> None:
        """A step of ``optimizer`` begins, in this frame."""
        self._running.append((frame, bool(optimizer.defaults.get("differentiable"))))

    def end(self, frame: FrameType) -> None:
        """The step in this frame ended."""
        while self._running and self._running.pop()[0] is not frame:
            pass

    def running(self) -> bool:
        """Whether what runs now is the optimizer's own work, and not that of a closure, which takes gradients."""
        if not self._running:
            return False
        step, differentiable = self._running[-1]
        if torch.is_grad_enabled() and not differentiable:
            return False
        frame: FrameType | None = sys._getframe()  # noqa: SLF001 -- nothing else tells
        while frame is not None:
            if frame is step:
                return True
            frame = frame.f_back
        self._running.pop()
        return self.running()


def phase_of(steps: Steps) -> PhaseName:
    """The phase that the operator being dispatched now belongs to."""
    if _running_node() is not None:
        return "backward"
    return "optimizer" if steps.running() else "forward"


@contextmanager
def following_steps(steps: Steps) -> Iterator[None]:
    """Notice the steps of all optimizers while the context lasts.

    A step in a measurement that is made meanwhile is that measurement's.
    """
    depth = measurements_around()

    def begin(optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if measurements_around() == depth:
            steps.begin(optimizer, sys._getframe(1))  # noqa: SLF001 -- that of the step

    def end(_optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if measurements_around() == depth:
            steps.end(sys._getframe(1))  # noqa: SLF001

    hooks = [register_optimizer_step_pre_hook(begin), register_optimizer_step_post_hook(end)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
