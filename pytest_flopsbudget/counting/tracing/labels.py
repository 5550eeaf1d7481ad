"""Describe models, modules and inputs in ASCII text. Every run of a model with equal inputs gives the same texts."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.distributed.dtensor import is_sharded, local_tensor
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES
from pytest_flopsbudget.counting.tensors.traversal import iterate_tensors
from pytest_flopsbudget.counting.torch_private import convolution_class, without_torch_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

_jit: Any = torch.jit
_INTEGERS = frozenset({int})
#: The maximum number of tensors of a module's output that are described. Language models return one for each layer.
_MAX_OUTPUTS = 8
#: The maximum number of objects in a module's output that are looked at. A list may contain itself.
_MAX_VISITED = 64


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def shape_of(module: torch.nn.Module) -> str:
    """Return a text of the sizes that decide a module's cost: "64->128, 3x3, stride 2x2", "4096->1000".

    For a module of an unknown class, the text gives the shapes of its parameters. For a sharded module, it also gives
    the shapes of this rank's shards: "4096->1000, local weight 250x4096".
    """
    shape, parts = _whole_shape_of(module), _local_parts(module)
    return ", local ".join(filter(None, (shape, parts)))


def _local_parts(module: torch.nn.Module) -> str:
    parts = [
        (name, local_tensor(parameter).shape)
        for name, parameter in module._parameters.items()
        if parameter is not None and type(parameter) not in PLAIN_TYPES and is_sharded(parameter)
    ]
    return _parameters(tuple(parts)) if parts else ""


def _whole_shape_of(module: torch.nn.Module) -> str:
    if isinstance(module, convolution_class):
        channels = (module.in_channels, module.out_channels, module.groups)
        return _convolution(*channels, tuple(module.kernel_size), tuple(module.stride), tuple(module.dilation))
    if isinstance(module, torch.nn.Linear):
        return f"{module.in_features}->{module.out_features}"
    if isinstance(module, torch.nn.Embedding):
        return f"{module.num_embeddings}->{module.embedding_dim}"
    parameters = module._parameters
    if not parameters:
        return ""
    shapes = [
        (name, parameter.shape)
        for name, parameter in parameters.items()
        if parameter is not None and not isinstance(parameter, torch.nn.parameter.UninitializedParameter)
    ]
    return _parameters(tuple(shapes))


@lru_cache(maxsize=1024)  # deep models repeat a small number of shapes
def _parameters(shapes: tuple[tuple[str, torch.Size], ...]) -> str:
    return ", ".join(f"{name} {_by(shape) or 'scalar'}" for name, shape in shapes)


@lru_cache(maxsize=1024)
def _convolution(  # noqa: PLR0913, PLR0917 -- a convolution's settings
    inputs: int, outputs: int, groups: int, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> str:
    parts = [f"{inputs}->{outputs}", _by(kernel)]
    for name, value in (("stride", stride), ("dilation", dilation)):
        if any(number != 1 for number in value):
            parts.append(f"{name} {_by(value)}")
    if groups != 1:
        parts.append(f"groups {groups}")
    return ", ".join(parts)


def shapes_in(output: Any) -> Sequence[tuple[torch.dtype, torch.Size]]:
    """Return (dtype, shape) for the first plain tensors in a module's output: in tuples, lists and dicts.

    Other objects are not searched, because that could run code of the model. Nothing is read while PyTorch traces,
    because the trace would record that a shape was read.
    """
    if _jit.is_tracing():
        return ()
    with without_torch_function():
        if type(output) in PLAIN_TYPES:  # as for most modules
            return _dtype_and_shape(output)
        found: list[tuple[torch.dtype, torch.Size]] = []
        waiting = [output]
        for _ in range(_MAX_VISITED):
            if not waiting or len(found) == _MAX_OUTPUTS:
                break
            value = waiting.pop()
            parts: Iterable[Any] = ()
            if type(value) in PLAIN_TYPES:
                found += _dtype_and_shape(value)
            elif isinstance(value, dict):
                parts = dict.values(value)
            elif isinstance(value, (tuple, list)):
                iterate: Callable[..., Iterable[Any]] = tuple.__iter__ if isinstance(value, tuple) else list.__iter__
                parts = iterate(value)
            waiting += [*islice(parts, _MAX_VISITED)][::-1]
    return found


def _dtype_and_shape(tensor: torch.Tensor) -> Sequence[tuple[torch.dtype, torch.Size]]:
    """Return the dtype and the shape; nothing if sizes of the tensor are no numbers, as in nested tensors."""
    if tensor.is_nested:
        return ()
    shape = tensor.shape
    return ((tensor.dtype, shape),) if _INTEGERS.issuperset(map(type, shape)) else ()


@lru_cache(maxsize=1024)
def describe_output(dtype: torch.dtype, shape: torch.Size) -> str:
    """Return the text of one tensor in a module's output: "float32[1, 64, 56, 56]"."""
    return f"{str(dtype).removeprefix('torch.')}{list(shape)}"


def signature_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[str, ...]:
    """Return one text for each tensor: "float32[1, 3, 224, 224]", "mask=int64[1, 128]".

    The text of a nested tensor ends with the number of its elements: "float32[2, *, 8] of 64". The text of a DTensor
    gives the shape of this rank's shard and the shape of the whole tensor: "float32[2, 8] of [8, 8]".
    """
    entries = [_entry(tensor) for tensor in iterate_tensors(args)]
    for name, value in kwargs.items():
        entries += [f"{name}={_entry(tensor)}" for tensor in iterate_tensors(value)]
    return tuple(entries)


def _entry(tensor: torch.Tensor) -> str:
    dtype = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_nested:
        sizes = ", ".join(_size(tensor, dim) for dim in range(tensor.dim()))
        return f"{dtype}[{sizes}] of {tensor.values().numel()}"
    if is_sharded(tensor):
        return f"{dtype}{list(local_tensor(tensor).shape)} of {list(tensor.shape)}"
    return f"{dtype}{list(tensor.shape)}"


def _size(nested: torch.Tensor, dim: int) -> str:
    """Return the size of a dimension of a nested tensor, or "*" if its components have different sizes."""
    try:
        size = nested.size(dim)
    except RuntimeError:
        return "*"
    return str(size) if type(size) is int else "*"


def name_of(model: Any) -> str:
    """Return the class of a module, the name of a function, or the class and name of a method."""
    if isinstance(model, torch.nn.Module):
        return type(model).__name__
    target = getattr(model, "func", model)  # a `functools.partial` has its function in the attribute ``func``
    owner = getattr(target, "__self__", None)
    name = getattr(target, "__name__", type(target).__name__)
    return f"{type(owner).__name__}.{name}" if isinstance(owner, torch.nn.Module) else str(name)
