"""`training_run`: count a micro-batch and an optimizer step, for the cost of a whole training run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_flopsbudget.counting.cloning.wrapped import unwrap_compiled
from pytest_flopsbudget.counting.inputs import find_inputs
from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.counting.run import run_backward
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.laws.inputs import read_made
from pytest_flopsbudget.quantities.parsing import nearest_spelling
from pytest_flopsbudget.training.measuring.per_token import training_flops
from pytest_flopsbudget.training.memory import StateBytes
from pytest_flopsbudget.training.run import OptimizerStep, TrainingRun, check_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pytest_flopsbudget.counting.inputs import Inputs


def training_run(  # noqa: PLR0913 -- what a run depends on
    model: nn.Module,
    *,
    tokens: int,
    batch: int,
    sequence: int,
    micro_batch: int = 1,
    make_inputs: Callable[[int, int], Any] | None = None,
    optimizer: str | Callable[[list[nn.Parameter]], torch.optim.Optimizer] = "adamw",
    master_weights: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> TrainingRun:
    """Count a micro-batch and an optimizer step of a model, for the cost of a whole training run.

    ::

        run = training_run(model, tokens=15 * 10**12, batch=2048, sequence=8192)
        print(run.flops(), run.device_hours("H100", mfu=0.4), run.rank_memory(fsdp=128, tensor=8).total)

    Everything is counted on shapes. The model is counted in its present mode: call ``model.train()`` first, and turn
    on activation checkpointing if the run uses it.

    Args:
        model: the model. It takes token ids of the shape (micro_batch, sequence), unless ``make_inputs`` is given.
        tokens: the tokens of the run.
        batch: the sequences of a step.
        sequence: the tokens of a sequence.
        micro_batch: the sequences of a forward pass; gradients are accumulated over the micro-batches of a step.
        make_inputs: is called with the sequences and the tokens of a sequence, and returns the arguments of the model,
            as for `law`; None for token ids alone.
        optimizer: the name of a class of ``torch.optim``, or a function of a list of parameters that returns an
            optimizer.
        master_weights: whether the optimizer updates copies of the parameters in float32.
        sizes: sizes that published formulas read, as for `training_flops`.

    Raises:
        UsageError: a size is no whole number from 1 on, the model cannot be counted, or the optimizer is unknown or
            does not run on shapes.
    """
    check_run(tokens, batch, sequence, micro_batch)
    make_optimizer = _maker(optimizer)
    inputs = _inputs(model, make_inputs, micro_batch, sequence)
    # Only the shapes of token ids count; other inputs may have other numbers of elements than tokens.
    micro = training_flops(
        model, inputs.args, inputs.kwargs, tokens=micro_batch * sequence, sizes={"sequence": sequence, **(sizes or {})}
    )
    module = unwrap_compiled(model)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise UsageError(f"{type(module).__name__} has no parameter that requires a gradient, so nothing is trained")
    step, state_bytes = _optimizer_step(trained, make_optimizer)
    states = StateBytes(
        micro.complexity.param_bytes,
        _bytes_of(trained),
        state_bytes,
        4 * sum(parameter.numel() for parameter in trained) if master_weights else 0,
    )
    activations = _activation_bytes(model, inputs)
    return TrainingRun(micro, step, states, activations, tokens, batch, micro_batch, sequence)


def _inputs(model: nn.Module, make_inputs: Callable[[int, int], Any] | None, micro_batch: int, sequence: int) -> Inputs:
    if make_inputs is None:
        return find_inputs(model, torch.zeros(micro_batch, sequence, dtype=torch.int64), None)
    return read_made(model, make_inputs(micro_batch, sequence))[1]


def _maker(
    optimizer: str | Callable[[list[nn.Parameter]], torch.optim.Optimizer],
) -> Callable[[list[nn.Parameter]], torch.optim.Optimizer]:
    if not isinstance(optimizer, str):
        return optimizer
    known = {
        name.lower(): kind
        for name, kind in vars(torch.optim).items()
        if isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
    }
    found: Any = known.get(optimizer.lower())
    if found is None:
        near = nearest_spelling(optimizer.lower(), known)
        hint = f"did you mean {near}?" if near else f"there are {', '.join(sorted(known))}"
        raise UsageError(f"no optimizer {optimizer!r} in torch.optim; {hint}")

    def make(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = found(parameters, lr=1e-3)
        return made

    return make


def _optimizer_step(
    trained: Iterable[nn.Parameter], make_optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
) -> tuple[OptimizerStep, int]:
    """Return the cost of a step after the first one, and the bytes of the optimizer's state.

    Copies of the parameters on the meta device are updated, so the model stays unchanged.
    """
    copies = [nn.Parameter(torch.empty_like(parameter, device="meta")) for parameter in trained]
    for copy in copies:
        copy.grad = torch.empty_like(copy)
    try:
        made = make_optimizer(copies)
        made.step()
        counted = measure(made.step)
    except UsageError:
        raise
    except Exception as error:
        text = str(error).partition("\n")[0]
        raise UsageError(f"the optimizer does not run on shapes: {type(error).__name__}: {text}") from error
    state = [value for of in made.state.values() for value in of.values() if isinstance(value, torch.Tensor)]
    return OptimizerStep(type(made).__name__, counted.flops, counted.other_flops), _bytes_of(state)


def _bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _activation_bytes(model: Callable[..., Any], inputs: Inputs) -> int:
    """Return the bytes at the peak of a micro-batch beside parameters, buffers and gradients.

    The peak of an ordinary count is at the end of the backward pass, when most gradients exist and most activations do
    not. Here each gradient is dropped when it is complete, as if it had existed before.
    """

    def micro_batch(*args: Any, **kwargs: Any) -> None:
        for parameter in model.parameters():  # type: ignore[attr-defined] # the clone of the model
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(_drop)
        with torch.enable_grad():  # a count begins without gradients
            run_backward(model(*args, **kwargs))

    peak = measure(micro_batch, inputs.args, inputs.kwargs).memory_at_peak
    return 0 if peak is None else peak.inputs + peak.activations + peak.temporaries + peak.gradients


def _drop(parameter: torch.Tensor) -> None:
    parameter.grad = None
