"""Outputs that PyTorch's kernels for the CPU lay out, or size, otherwise than its meta kernels say. Found by comparing.

A count does not hang on them, but what comes after does: a tensor in another layout is copied where one in order is
viewed. And so do the bytes that are alive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.recurrent import kept_bytes
from pytest_flopsbudget.counting.torch_private import suggest_memory_format

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


_FLOATS = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})
#: Memory formats by the number of dimensions.
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def _empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _is_channels_last(tensor: torch.Tensor) -> bool:
    """Whether the channels are innermost; strides that may mean either order mean that they are not."""
    return suggest_memory_format(tensor) is torch.channels_last


def convolution(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Of images: the channels are innermost where input or weight has it so (`mkldnn_conv_use_channels_last`)."""
    inputs, weight, bias, stride, padding, dilation, transposed, more, groups = args
    if (
        kwargs
        or not inputs.ndim == weight.ndim == 4  # noqa: PLR2004 -- images
        or not 4 == 2 + len(stride) == 2 + len(padding) == 2 + len(dilation)  # noqa: PLR2004
        or inputs.dtype not in _FLOATS
        or inputs.dtype is not weight.dtype
        or not (_is_channels_last(inputs) or _is_channels_last(weight))
        or inputs.shape[1] != (weight.shape[0] if transposed else weight.shape[1] * groups)
        or (bias is not None and bias.dtype is not inputs.dtype)
    ):
        return None
    sizes = zip(inputs.shape[2:], weight.shape[2:], stride, padding, dilation, more or (0, 0), strict=True)
    if transposed:
        channels = weight.shape[1] * groups
        positions = [(size - 1) * step - 2 * pad + gap * (k - 1) + add + 1 for size, k, step, pad, gap, add in sizes]
    else:
        channels = weight.shape[0]
        positions = [(size + 2 * pad - gap * (k - 1) - 1) // step + 1 for size, k, step, pad, gap, _ in sizes]
    if not inputs.numel() or any(position <= 0 for position in positions):
        return None
    shape = (inputs.shape[0], channels, *positions)
    return torch.empty(shape, dtype=inputs.dtype, device="meta", memory_format=torch.channels_last)


def _normalized(inputs: torch.Tensor) -> torch.Tensor:
    """Without gaps, in the order of dimensions or with the channels innermost, as the input's memory has it."""
    format_ = _FORMATS.get(inputs.ndim)
    if format_ is not None and inputs.is_contiguous(memory_format=format_) and not inputs.is_contiguous():
        return torch.empty(inputs.shape, dtype=inputs.dtype, device="meta", memory_format=format_)
    return _empty(inputs.shape, inputs.dtype)


_HALVES = frozenset({torch.float16, torch.bfloat16})


def _dtype_of_statistics(inputs: torch.Tensor, others: Sequence[torch.Tensor | None]) -> torch.dtype | None:
    """That of parameters and running statistics, float32 beside an input in half precision too, or else the input's.

    None where there is no kernel for such a mixture.
    """
    dtypes = {item.dtype for item in others if item is not None} or {inputs.dtype}
    dtype = dtypes.pop()
    mixes = dtype is not inputs.dtype and not (dtype is torch.float32 and inputs.dtype in _HALVES)
    return None if dtypes or mixes or inputs.dtype not in _FLOATS else dtype


def _batch_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The output and what the backward pass reads of the batch: nothing where its statistics were not taken."""
    inputs = args[0]
    others = [item for item in args[1:] if isinstance(item, torch.Tensor)]
    dtype = _dtype_of_statistics(inputs, others)
    if kwargs or inputs.ndim < 2 or not inputs.numel() or dtype is None:  # noqa: PLR2004 -- batch, channels
        return None
    trains = next(item for item in args if isinstance(item, bool))
    channels = (inputs.shape[1],)
    if any(tuple(item.shape) != channels for item in others):
        return None
    statistics = channels if trains else (0,)
    return _normalized(inputs), _empty(statistics, dtype), _empty(statistics, dtype)


def _batch_norm_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The gradients of input, weight and bias, those that are asked for."""
    gradient, inputs, weight, *others, mask = args
    dtype = _dtype_of_statistics(inputs, [item for item in (weight, *others) if isinstance(item, torch.Tensor)])
    if kwargs or gradient.shape != inputs.shape or gradient.dtype is not inputs.dtype or not inputs.numel():
        return None
    if dtype is None:
        return None
    channels = (inputs.shape[1],)
    parameters = (_empty(channels, dtype) if asked else None for asked in mask[1:])
    return (_normalized(inputs) if mask[0] else None), *parameters


def group_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """In half precision."""
    if len(args) != 8 or kwargs or not _is_half_in_order(args[0]):  # noqa: PLR2004 -- all of its arguments
        return None
    inputs, weight, bias, batch, *_, groups, _ = args
    dtype = _dtype_of_statistics(inputs, (weight, bias))
    if dtype is None:
        return None
    return _empty(inputs.shape, inputs.dtype), _empty((batch, groups), dtype), _empty((batch, groups), dtype)


def _group_norm_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """In half precision: the gradients of input, weight and bias, those that are asked for."""
    if len(args) != 10 or kwargs or not _is_half_in_order(args[1]):  # noqa: PLR2004 -- all of its arguments
        return None
    gradient, inputs, _, _, weight, _, channels, _, _, mask = args
    if not _is_half_in_order(gradient) or gradient.shape != inputs.shape:
        return None
    dtype = inputs.dtype if weight is None else weight.dtype
    parameters = (_empty((channels,), dtype) if asked else None for asked in mask[1:])
    return (_empty(inputs.shape, inputs.dtype) if mask[0] else None), *parameters


def _is_half_in_order(tensor: torch.Tensor) -> bool:
    return tensor.dtype in _HALVES and bool(tensor.numel()) and tensor.is_contiguous() and not _is_channels_last(tensor)


def layer_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """In half precision."""
    if len(args) != 5 or kwargs or args[0].dtype not in _HALVES or not args[0].numel():  # noqa: PLR2004 -- all of its arguments
        return None
    inputs, normalized, weight, bias, _ = args
    dtype = _dtype_of_statistics(inputs, (weight, bias))
    if dtype is None or tuple(inputs.shape[-len(normalized) :]) != tuple(normalized):
        return None
    statistics = (*inputs.shape[: -len(normalized)], *(1,) * len(normalized))
    return _empty(inputs.shape, inputs.dtype), _empty(statistics, dtype), _empty(statistics, dtype)


def _layer_norm_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The gradients of input, weight and bias, those that are asked for, without gaps and in order."""
    if len(args) != 8 or kwargs:  # noqa: PLR2004 -- all of its arguments
        return None
    gradient, inputs, normalized, _, _, weight, bias, mask = args
    given = (inputs, weight, bias)
    if gradient.shape != inputs.shape or tuple(inputs.shape[-len(normalized) :]) != tuple(normalized):
        return None
    if any(asked and (item is None or item.dtype not in _FLOATS) for asked, item in zip(mask, given, strict=True)):
        return None
    return tuple(_empty(item.shape, item.dtype) if asked else None for asked, item in zip(mask, given, strict=True))


def _log_softmax_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Without gaps and in order."""
    gradient, output, _, dtype = args
    if kwargs or gradient.shape != output.shape or gradient.dtype is not dtype or output.dtype is not dtype:
        return None
    return _empty(gradient.shape, dtype)


def _loss(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """(input, target, …) → their loss's sum or mean, in the memory that the loss of each element had."""
    inputs, target, *others = args
    reduction = next((item for item in others if isinstance(item, int)), 1)
    weighted = [item for item in others if isinstance(item, torch.Tensor)]
    if kwargs or not reduction or inputs.dtype not in _FLOATS or not inputs.numel():
        return None
    if any(item.shape != inputs.shape or item.dtype is not inputs.dtype for item in (target, *weighted)):
        return None
    return _empty((inputs.numel(),), inputs.dtype).as_strided((), ())


def _loss_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """(gradient, input, target, …) → the gradient of the input, without gaps and in order."""
    tensors = args[:3]
    if kwargs or tensors[1].shape != tensors[2].shape or tensors[1].dtype not in _FLOATS:
        return None
    return _empty(args[1].shape, args[1].dtype) if len({tensor.dtype for tensor in tensors}) == 1 else None


def _layer_of_onednn(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """(steps, batch, hidden), the last states, and what the backward pass reads, if there may be one."""
    inputs, hidden, cell = args[0], args[5], args[6]
    kept = _empty((kept_bytes(inputs, hidden),), torch.uint8) if torch.is_grad_enabled() else None
    shape = (*inputs.shape[:-1], hidden.shape[-1])
    return _empty(shape, inputs.dtype), _empty(hidden.shape, hidden.dtype), _empty(cell.shape, cell.dtype), kept


def _layer_of_onednn_backward(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """The gradients of input, two weights, two biases and two states: all of them, in float32."""
    inputs, of_input, of_hidden, _, _, hidden, cell = args[:7]
    biases = of_input.shape[:1]
    shapes = (inputs.shape, of_input.shape, of_hidden.shape, biases, biases, hidden.shape, cell.shape)
    return tuple(_empty(shape, torch.float32) for shape in shapes)


#: The kinds of sums in bags of embeddings, as numbers: sum 0, mean 1, maximum 2.
_SUM, _MAXIMUM = 0, 2


def _bags(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """One row for each bag, and what the backward pass reads; plain sums need no bag of each index."""
    weight, indices, offsets = args[:3]
    defaults = (False, _SUM, False, None, False, -1)
    options: list[Any] = [*args[3:], *defaults[len(args) - 3 :]]
    _, mode, _, scales, ends, padding = options
    if kwargs or weight.dtype not in _FLOATS:
        return None
    bags, width = offsets.shape[0] - bool(ends), weight.shape[1]
    is_fast = (
        weight.dtype in (torch.float32, torch.float16)
        and weight.stride(1) == 1
        and padding < 0
        and (scales is None or scales.stride(0) == 1)
    )
    of_indices = (0,) if mode == _SUM and is_fast else indices.shape[:1]
    maxima = (bags, width) if mode == _MAXIMUM else (bags,)
    shapes = (of_indices, (bags,), maxima)
    return _empty((bags, width), weight.dtype), *(_empty(shape, offsets.dtype) for shape in shapes)


def _bags_forward_only(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Of plain sums, what would be noted of each bag is left as large as the offsets."""
    output = _bags(args, kwargs)
    mode = args[4] if len(args) > 4 else _SUM  # noqa: PLR2004 -- the fifth argument
    if output is None or mode != _SUM:
        return output
    rows, of_indices, _, _ = output
    offsets = args[2]
    return rows, of_indices, _empty(offsets.shape, offsets.dtype), _empty(offsets.shape, offsets.dtype)


OUTPUTS: Mapping[str, Callable[[Sequence[Any], Mapping[str, Any]], Any]] = {
    "aten._embedding_bag": _bags,
    "aten._embedding_bag_forward_only": _bags_forward_only,
    "aten._log_softmax_backward_data": _log_softmax_backward,
    "aten._native_batch_norm_legit": _batch_norm,
    "aten.binary_cross_entropy": _loss,
    "aten.convolution": convolution,
    "aten.huber_loss_backward": _loss_backward,
    "aten.mkldnn_rnn_layer": _layer_of_onednn,
    "aten.mkldnn_rnn_layer_backward": _layer_of_onednn_backward,
    "aten.mse_loss": _loss,
    "aten.mse_loss_backward": _loss_backward,
    "aten.native_batch_norm": _batch_norm,
    "aten.native_batch_norm_backward": _batch_norm_backward,
    "aten.native_group_norm": group_norm,
    "aten.native_group_norm_backward": _group_norm_backward,
    "aten.native_layer_norm": layer_norm,
    "aten.native_layer_norm_backward": _layer_norm_backward,
    "aten.smooth_l1_loss": _loss,
    "aten.smooth_l1_loss_backward": _loss_backward,
    "aten.soft_margin_loss": _loss,
}
