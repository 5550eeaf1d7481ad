"""`training_flops`: count a forward and a backward pass, and read the sizes of the model for published formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_flopsbudget.counting.cloning.wrapped import unwrap_compiled
from pytest_flopsbudget.counting.inputs import find_inputs
from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.training.flops import OwnWeights, TrainingFlops
from pytest_flopsbudget.training.model_sizes import ModelSizes, read_config, with_given

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flopsbudget.counting.inputs import Inputs
    from pytest_flopsbudget.results.complexity import Complexity

#: Names of arguments with token ids, in the order in which they are tried.
_TOKEN_ARGUMENTS = ("input_ids", "tokens", "idx", "token_ids", "x")
_TOKEN_DIMS = 2
#: Words in the names of modules that are embeddings of positions.
_POSITIONS = ("wpe", "pos")


def training_flops(
    model: Callable[..., Any],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    tokens: int | None = None,
    sizes: Mapping[str, int] | None = None,
) -> TrainingFlops:
    """Count the forward and the backward pass of a model, per token, beside published formulas.

    ::

        found = training_flops(model, torch.zeros(1, 4096, dtype=torch.int64))
        print(found)                                  # FLOPs per token, by each convention
        print(found.mfu(9_600, "H100", "palm"))       # 9,600 tokens per second on one H100
        print(found.differences("palm"))              # module by module

    Args:
        model: the model, as for `measure`.
        args: its positional arguments, as for `measure`. Token ids are a tensor of whole numbers, (batch, sequence).
        kwargs: its keyword arguments.
        tokens: the number of tokens of this call; None to take the elements of the token ids.
        sizes: size → value, where it is not in the model's ``config``, or is another: "layers", "hidden", "heads",
            "head_dim", "value_dim", "vocabulary", "sequence".

    Raises:
        UsageError: the model cannot be counted, an argument has the wrong form, or the tokens are unknown.
    """
    inputs = find_inputs(model, args, kwargs)
    counted, sequence = _tokens_of(inputs, tokens)
    complexity = measure(model, inputs.args, inputs.kwargs, backward=True)
    module = unwrap_compiled(model)
    module = module if isinstance(module, nn.Module) else getattr(module, "__self__", None)
    weights = _weights_of(module, complexity) if isinstance(module, nn.Module) else {}
    found = read_config(getattr(module, "config", None))
    known = _counted_sizes(complexity, weights, sequence)
    sources = {**found.sources, **dict.fromkeys(known, "counted")}
    found = ModelSizes({**found.values, **known}, found.reasons, sources)
    return TrainingFlops(complexity, counted, with_given(found, sizes or {}), weights)


def _counted_sizes(complexity: Complexity, weights: Mapping[str, OwnWeights], sequence: int | None) -> dict[str, int]:
    known = {
        "params": complexity.params,
        "active_params": complexity.active_params,
        "embedding_params": complexity.params - complexity.non_embedding_params,
        "position_params": sum(own.params for own in weights.values() if own.is_position),
    }
    return known if sequence is None else {**known, "sequence": sequence}


def _tokens_of(inputs: Inputs, tokens: int | None) -> tuple[int, int | None]:
    """Return the number of tokens of the call, and the length of a sequence; None if the inputs have no token ids.

    Raises:
        UsageError: the number of tokens is unknown, or it is not above 0.
    """
    if tokens is not None and (type(tokens) is not int or tokens < 1):
        raise UsageError(f"training_flops(..., tokens={tokens!r}): write a whole number from 1 on")
    ids = _token_ids(inputs)
    if tokens is None and "decoder_input_ids" in inputs.kwargs:
        raise UsageError(
            "which tokens count? The call has input_ids and decoder_input_ids; give the number of tokens of the call: "
            "tokens=..., or --tokens N on the command line"
        )
    if ids is not None:
        return (ids.numel() if tokens is None else tokens), ids.shape[-1]
    if tokens is None:
        raise UsageError(
            "which input has the tokens? No argument is a tensor of whole numbers of the shape (batch, sequence); give "
            "the number of tokens of the call: tokens=..., or --tokens N on the command line"
        )
    return tokens, None


def _token_ids(inputs: Inputs) -> torch.Tensor | None:
    named = [inputs.kwargs[name] for name in _TOKEN_ARGUMENTS if name in inputs.kwargs]
    for value in (*named, *inputs.args[:1]):
        if isinstance(value, torch.Tensor) and value.dim() == _TOKEN_DIMS and not _is_real(value) and value.numel():
            return value
    return None


def _is_real(value: torch.Tensor) -> bool:
    return value.dtype.is_floating_point or value.dtype.is_complex or value.dtype == torch.bool


def _weights_of(model: nn.Module, complexity: Complexity) -> dict[str, OwnWeights]:
    """Return path → the parameters that a module holds itself, for the modules that hold any."""
    owners: dict[int, str] = {}
    found: dict[str, OwnWeights] = {}
    for path, module in model.named_modules():
        held = list(module.parameters(recurse=False))
        own = [parameter for parameter in held if owners.setdefault(id(parameter), path) == path]
        shared = next((owners[id(parameter)] for parameter in held if owners[id(parameter)] != path), "")
        if held:
            params = sum(parameter.numel() for parameter in own)
            parts = [f"{path}.{name}".lstrip(".") for name, _ in module.named_children()]
            # A parameter that a module shares with a part of it is in the values of both.
            is_known = _own(complexity, path, parts, "params") == params
            active = _own(complexity, path, parts, "active_params") if is_known else params
            is_embedding = is_known and params > 0 and _own(complexity, path, parts, "non_embedding_params") == 0
            found[path] = OwnWeights(
                params,
                active,
                sum(parameter.numel() for parameter in own if parameter.dim() == 1),
                is_embedding,
                is_embedding and any(word in path.rpartition(".")[2].lower() for word in _POSITIONS),
                shared,
            )
    return found


def _own(complexity: Complexity, path: str, parts: list[str], metric: str) -> int:
    """Return the value of a metric of a module without its parts; -1 if one of them is not listed."""
    modules = complexity.modules
    if path not in modules or any(part not in modules for part in parts):
        return -1
    values = [int(modules[one].value(metric)) for one in (path, *parts)]
    return values[0] - sum(values[1:])
