"""Optimizers within what is measured: what a double of one needs to know, and a step that does nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.counting.cloning.cloner import Shadow
    from pytest_flopsbudget.counting.meta.known_values import Constants
    from pytest_flopsbudget.counting.operators.counter import Counter


def optimizers_in(shadow: Shadow) -> list[torch.optim.Optimizer]:
    """The doubles of optimizers."""
    return [double for _, double in shadow.objects if isinstance(double, torch.optim.Optimizer)]


def know_steps(constants: Constants, shadow: Shadow) -> None:
    """The numbers of steps that were made are real: Adam reads them back for its corrections."""
    for original, double in shadow.objects:
        if isinstance(original, torch.optim.Optimizer):
            for step, its_double in zip(_steps(original), _steps(double), strict=True):
                if not step.is_meta and type(step) is torch.Tensor:
                    constants.remember(its_double, step)


def _steps(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for state in optimizer.state.values():
        step: Any = state.get("step") if isinstance(state, dict) else None
        if isinstance(step, torch.Tensor) and step.numel() == 1:
            yield step


def name_idle_steps(tracer: Counter, shadow: Shadow) -> None:
    """Let a reader know of steps over parameters without gradients, which cost nothing."""

    def idle(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        # After the step: it may be given the function that computes the gradients.
        if all(parameter.grad is None for group in optimizer.param_groups for parameter in group["params"]):
            tracer.notes.add(
                f"a step of {type(optimizer).__name__} found no gradients and cost nothing: "
                "let a backward pass come before it in what is measured"
            )

    for optimizer in optimizers_in(shadow):
        optimizer.register_step_post_hook(idle)
