"""Optimizers in a measured function: known values for their clones, and notes on steps without gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_flopsbudget.counting.cloning.cloner import Cloner
    from pytest_flopsbudget.counting.meta.known_values import KnownValues
    from pytest_flopsbudget.counting.operators.counter import Counter


def find_optimizers(cloner: Cloner) -> list[torch.optim.Optimizer]:
    """Return the clones of the optimizers that were cloned."""
    return [clone for _, clone in cloner.objects if isinstance(clone, torch.optim.Optimizer)]


def record_step_counts(known_values: KnownValues, cloner: Cloner) -> None:
    """Register each optimizer's number of steps as a known value. Adam reads the number for its bias correction."""
    for original, clone in cloner.objects:
        if isinstance(original, torch.optim.Optimizer):
            for step, its_clone in zip(_steps(original), _steps(clone), strict=True):
                if not step.is_meta and type(step) is torch.Tensor:
                    known_values.remember(its_clone, step)


def _steps(optimizer: torch.optim.Optimizer) -> Iterator[torch.Tensor]:
    for state in optimizer.state.values():
        step: Any = state.get("step") if isinstance(state, dict) else None
        if isinstance(step, torch.Tensor) and step.numel() == 1:
            yield step


def note_idle_steps(tracer: Counter, cloner: Cloner) -> None:
    """Add a note for each optimizer whose step finds no gradients and therefore costs nothing."""

    def idle(optimizer: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        # This is checked after the step, because the step may call a function that computes the gradients.
        if all(parameter.grad is None for group in optimizer.param_groups for parameter in group["params"]):
            tracer.notes.add(
                f"a step of {type(optimizer).__name__} found no gradients and cost nothing: "
                "call backward before it in the measured function"
            )

    for optimizer in find_optimizers(cloner):
        optimizer.register_step_post_hook(idle)
