"""Rules for outputs whose layout or size differs between PyTorch's CPU kernels and its meta kernels.

We found the differences by comparing the kernels. A difference does not change the count of the operator itself. But it
changes later operators: for example, `reshape` views a contiguous tensor and copies some other tensors. It also changes
the bytes that are alive.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.registry import operator
from pytest_flopsbudget.counting.meta.layouts import (
    FLOATS,
    HALVES,
    empty,
    empty_in_format_of,
    float32_like,
    is_channels_last,
    is_plain,
)
from pytest_flopsbudget.counting.torch_private import suggest_memory_format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_CHANNELS_LAST = {torch.channels_last, torch.channels_last_3d}


def _channels_last_convolution(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the output of a 2d convolution if its input or weight is channels last. Otherwise, return None."""
    inputs, weight, bias, stride, padding, dilation, transposed, more, groups = args
    if (
        kwargs
        or not inputs.ndim == weight.ndim == 4
        or not 4 == 2 + len(stride) == 2 + len(padding) == 2 + len(dilation)
        or inputs.dtype not in FLOATS
        or inputs.dtype is not weight.dtype
        or not (is_channels_last(inputs) or is_channels_last(weight))
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


def _plain_convolution(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the output of a convolution whose input and weight are contiguous.

    Return None for a transposed convolution, and if the strides of input or weight fit channels last.
    """
    inputs, weight, bias, stride, padding, dilation, transposed, _, groups = args
    dims = inputs.ndim - 2
    if (
        kwargs
        or transposed
        or weight.ndim != inputs.ndim
        or inputs.shape[1] != weight.shape[1] * groups
        or weight.shape[0] % groups
        or (bias is not None and (tuple(bias.shape) != (weight.shape[0],) or bias.dtype is not inputs.dtype))
        or not len(stride) == len(padding) == len(dilation) == dims
        or inputs.dtype not in FLOATS
        or inputs.dtype is not weight.dtype
        or not is_plain(inputs)
        or not is_plain(weight)
        or dims > 2
    ):
        return None
    sizes = zip(inputs.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    positions = [(size + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for size, kernel, step, pad, gap in sizes]
    if not inputs.shape[0] or any(position <= 0 for position in positions):
        return None
    return empty((inputs.shape[0], weight.shape[0], *positions), inputs.dtype)


def _plain_convolution_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the requested gradients, which are contiguous. Return None if input or weight is not contiguous."""
    gradient, inputs, weight, bias_sizes, *_, mask = args
    plain = is_plain(inputs) and is_plain(weight) and inputs.ndim < 5
    if kwargs or not plain or gradient.dtype not in FLOATS:
        return None
    shapes = (inputs.shape, weight.shape, bias_sizes)
    if any(asked and shape is None for asked, shape in zip(mask, shapes, strict=True)):
        return None
    return tuple(empty(shape, gradient.dtype) if asked else None for asked, shape in zip(mask, shapes, strict=True))


def _channels_last_convolution_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the requested gradients if input or weight is channels last. Otherwise, return None.

    The meta kernel of PyTorch 2.6 returns contiguous gradients, which autograd would copy.
    """
    gradient, inputs, weight, bias_sizes, *_, mask = args
    formats = {suggest_memory_format(tensor) for tensor in (inputs, weight)} & _CHANNELS_LAST
    if kwargs or gradient.dtype not in FLOATS or len(formats) != 1 or (mask[2] and bias_sizes is None):
        return None
    (format_,) = formats
    of_both = (
        torch.empty(tensor.shape, dtype=gradient.dtype, device="meta", memory_format=format_) if asked else None
        for asked, tensor in zip(mask, (inputs, weight), strict=False)
    )
    return *of_both, empty(bias_sizes, gradient.dtype) if mask[2] else None


def _convolution_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    output = _plain_convolution_backward(args, kwargs)
    return _channels_last_convolution_backward(args, kwargs) if output is None else output


def _weight_norm_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the gradients of both parts of the weight. PyTorch 2.6 has no meta kernel."""
    if kwargs or len(args) != 5:
        return None
    _, direction, length, _, _ = args
    return tuple(empty(each.shape, each.dtype) for each in (direction, length))


operator("aten._weight_norm_interface_backward", corrected_shape=_weight_norm_backward)


def _convolution(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    output = _plain_convolution(args, kwargs)
    return _channels_last_convolution(args, kwargs) if output is None else output


operator("aten.convolution", shape=_convolution, corrected_shape=_channels_last_convolution)
operator("aten.convolution_backward", shape=_convolution_backward, corrected_shape=_channels_last_convolution_backward)


def _dtype_of_statistics(inputs: torch.Tensor, others: Sequence[torch.Tensor | None]) -> torch.dtype | None:
    """Return the dtype of the parameters and running statistics, or the dtype of the input if there are none.

    Return None if PyTorch has no kernel for this mix of dtypes.
    """
    dtypes = {item.dtype for item in others if item is not None} or {inputs.dtype}
    dtype = dtypes.pop()
    mixes = dtype is not inputs.dtype and not (dtype is torch.float32 and inputs.dtype in HALVES)
    return None if dtypes or mixes or inputs.dtype not in FLOATS else dtype


def _batch_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the output, and the batch's mean and 1/std. In inference, mean and 1/std are empty."""
    inputs = args[0]
    others = [item for item in args[1:] if isinstance(item, torch.Tensor)]
    dtype = _dtype_of_statistics(inputs, others)
    if kwargs or inputs.ndim < 2 or not inputs.numel() or dtype is None:
        return None
    trains = next(item for item in args if isinstance(item, bool))
    channels = (inputs.shape[1],)
    if any(tuple(item.shape) != channels for item in others):
        return None
    statistics = channels if trains else (0,)
    return empty_in_format_of(inputs), empty(statistics, dtype), empty(statistics, dtype)


def _batch_norm_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the requested gradients of input, weight and bias."""
    gradient, inputs, weight, *others, mask = args
    dtype = _dtype_of_statistics(inputs, [item for item in (weight, *others) if isinstance(item, torch.Tensor)])
    if kwargs or gradient.shape != inputs.shape or gradient.dtype is not inputs.dtype or not inputs.numel():
        return None
    if dtype is None:
        return None
    channels = (inputs.shape[1],)
    parameters = (empty(channels, dtype) if asked else None for asked in mask[1:])
    return (empty_in_format_of(inputs) if mask[0] else None), *parameters


def _half_group_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if len(args) != 8 or kwargs or not _is_half_in_order(args[0]):
        return None
    inputs, weight, bias, batch, *_, groups, _ = args
    dtype = _dtype_of_statistics(inputs, (weight, bias))
    if dtype is None:
        return None
    return empty(inputs.shape, inputs.dtype), empty((batch, groups), dtype), empty((batch, groups), dtype)


def _group_norm_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the requested gradients of input, weight and bias. Return None if the input is not half precision."""
    if len(args) != 10 or kwargs or not _is_half_in_order(args[1]):
        return None
    gradient, inputs, _, _, weight, _, channels, _, _, mask = args
    # The layout of the gradient does not matter: PyTorch 2.15 passes on expanded gradients, older versions copy them.
    if gradient.dtype not in HALVES or gradient.shape != inputs.shape:
        return None
    dtype = inputs.dtype if weight is None else weight.dtype
    parameters = (empty((channels,), dtype) if asked else None for asked in mask[1:])
    return (empty(inputs.shape, inputs.dtype) if mask[0] else None), *parameters


def _is_half_in_order(tensor: torch.Tensor) -> bool:
    return tensor.dtype in HALVES and bool(tensor.numel()) and tensor.is_contiguous() and not is_channels_last(tensor)


def _half_layer_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if len(args) != 5 or kwargs or args[0].dtype not in HALVES or not args[0].numel():
        return None
    inputs, normalized, weight, bias, _ = args
    dtype = _dtype_of_statistics(inputs, (weight, bias))
    if dtype is None or tuple(inputs.shape[-len(normalized) :]) != tuple(normalized):
        return None
    statistics = (*inputs.shape[: -len(normalized)], *(1,) * len(normalized))
    return empty(inputs.shape, inputs.dtype), empty(statistics, dtype), empty(statistics, dtype)


def _layer_norm_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the requested gradients of input, weight and bias. Each gradient is contiguous."""
    if len(args) != 8 or kwargs:
        return None
    gradient, inputs, normalized, _, _, weight, bias, mask = args
    given = (inputs, weight, bias)
    if gradient.shape != inputs.shape or tuple(inputs.shape[-len(normalized) :]) != tuple(normalized):
        return None
    if any(asked and (item is None or item.dtype not in FLOATS) for asked, item in zip(mask, given, strict=True)):
        return None
    return tuple(empty(item.shape, item.dtype) if asked else None for asked, item in zip(mask, given, strict=True))


def _layer_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if kwargs:
        return None
    inputs, normalized, *parameters = args
    if inputs.dtype is not torch.float32:
        return _half_layer_norm(args, kwargs)
    output = float32_like(inputs) if inputs.is_contiguous() else empty(inputs.shape, inputs.dtype)
    count = len(normalized)
    if tuple(inputs.shape[-count:]) != tuple(normalized):
        return None
    if any(item is not None and item.dtype is not torch.float32 for item in parameters[:2]):
        return None
    statistics = (*inputs.shape[:-count], *(1,) * count)
    return output, empty(statistics, torch.float32), empty(statistics, torch.float32)


def _group_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if args[0].dtype is not torch.float32:
        return _half_group_norm(args, kwargs)
    if len(args) != 8 or kwargs or not _plain_float32(*args[:3]):
        return None
    inputs, weight, bias, batch, channels, positions, groups, _ = args
    if inputs.numel() != batch * channels * positions or not inputs.numel() or channels % groups:
        return None
    if any(item is not None and tuple(item.shape) != (channels,) for item in (weight, bias)):
        return None
    statistics = (batch, groups)
    return empty(inputs.shape, inputs.dtype), empty(statistics, inputs.dtype), empty(statistics, inputs.dtype)


def _plain_float32(*tensors: torch.Tensor | None) -> bool:
    """Return whether each given tensor is float32 and contiguous, and has strides that do not fit channels last."""
    return all(item is None or (item.dtype is torch.float32 and is_plain(item)) for item in tensors)


operator("aten._native_batch_norm_legit", "aten.native_batch_norm", corrected_shape=_batch_norm)
operator("aten.native_batch_norm_backward", corrected_shape=_batch_norm_backward)
operator("aten.native_group_norm", shape=_group_norm, corrected_shape=_half_group_norm)
operator("aten.native_group_norm_backward", corrected_shape=_group_norm_backward)
operator("aten.native_layer_norm", shape=_layer_norm, corrected_shape=_half_layer_norm)
operator("aten.native_layer_norm_backward", corrected_shape=_layer_norm_backward)


def _log_softmax_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    gradient, output, _, dtype = args
    if kwargs or gradient.shape != output.shape or gradient.dtype is not dtype or output.dtype is not dtype:
        return None
    return empty(gradient.shape, dtype)


def _loss(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the sum or mean of the losses of (input, target, …).

    On the CPU, the storage of the output has room for one loss per element.
    """
    inputs, target, *others = args
    reduction = next((item for item in others if isinstance(item, int)), 1)
    weighted = [item for item in others if isinstance(item, torch.Tensor)]
    if kwargs or not reduction or inputs.dtype not in FLOATS or not inputs.numel():
        return None
    if any(item.shape != inputs.shape or item.dtype is not inputs.dtype for item in (target, *weighted)):
        return None
    return empty((inputs.numel(),), inputs.dtype).as_strided((), ())


def _loss_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the contiguous gradient of the input, from the arguments (gradient, input, target, …)."""
    tensors = args[:3]
    if kwargs or tensors[1].shape != tensors[2].shape or tensors[1].dtype not in FLOATS:
        return None
    return empty(args[1].shape, args[1].dtype) if len({tensor.dtype for tensor in tensors}) == 1 else None


operator("aten._log_softmax_backward_data", corrected_shape=_log_softmax_backward)
operator(
    "aten.binary_cross_entropy",
    "aten.mse_loss",
    "aten.smooth_l1_loss",
    "aten.soft_margin_loss",
    corrected_shape=_loss,
)
operator(
    "aten.huber_loss_backward",
    "aten.mse_loss_backward",
    "aten.smooth_l1_loss_backward",
    corrected_shape=_loss_backward,
)


def _with_room(elements: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Return a contiguous tensor, in a storage that has room for at least ``elements`` elements."""
    count = math.prod(shape)
    return empty((max(elements, count),), dtype)[:count].view(*shape)


# The CPU kernels of unfolding and folding allocate an output as large as the input, and then resize the output. A
# storage never shrinks.


def _unfolded(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the columns (N, C · kernel size, positions) of images (N, C, height, width). N may be absent."""
    images, *options = args
    kernel, dilation, padding, stride = options
    if kwargs or any(len(option) != 2 for option in options):
        return None
    sizes = zip(images.shape[-2:], kernel, dilation, padding, stride, strict=True)
    positions = [(size + 2 * pad - gap * (k - 1) - 1) // step + 1 for size, k, gap, pad, step in sizes]
    if not images.numel() or any(position <= 0 for position in positions):
        return None
    shape = (*images.shape[:-3], images.shape[-3] * math.prod(kernel), math.prod(positions))
    return _with_room(images.numel(), shape, images.dtype)


def _folded(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the images (N, C, height, width) of columns (N, C · kernel size, positions). N may be absent."""
    columns, size, kernel = args[:3]
    if kwargs or len(size) != 2 or len(kernel) != 2 or not columns.numel() or columns.shape[-2] % math.prod(kernel):
        return None
    shape = (*columns.shape[:-2], columns.shape[-2] // math.prod(kernel), *size)
    return _with_room(columns.numel(), shape, columns.dtype)


operator("aten.im2col", corrected_shape=_unfolded)
operator("aten.col2im", corrected_shape=_folded)


#: PyTorch's numbers of the ways in which a bag combines its embeddings. (The number of a mean is 1.)
_SUM, _MAXIMUM = 0, 2


def _bags(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return one row per bag, and three tensors for the backward pass: the bag of each index, bag sizes, and maxima."""
    weight, indices, offsets = args[:3]
    defaults = (False, _SUM, False, None, False, -1)
    options: list[Any] = [*args[3:], *defaults[len(args) - 3 :]]
    _, mode, _, scales, ends, padding = options
    if kwargs or weight.dtype not in FLOATS:
        return None
    bags, width = offsets.shape[0] - bool(ends), weight.shape[1]
    is_fast = (
        weight.dtype in (torch.float32, torch.float16)
        and weight.stride(1) == 1
        and padding < 0
        and (scales is None or scales.stride(0) == 1)
    )
    count, dtype = indices.shape[0], offsets.dtype
    return (
        empty((bags, width), weight.dtype),
        # The fast kernel for sums returns no bag of each index. Other kernels allocate one element more than they need.
        empty((0,), dtype) if mode == _SUM and is_fast else _with_room(count + 1, (count,), dtype),
        _with_room(offsets.shape[0], (bags,), dtype),  # the last offset may only mark the end of the last bag
        empty((bags, width) if mode == _MAXIMUM else (bags,), dtype),
    )


def _bags_forward_only(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the outputs of `_bags`. For sums, the last two outputs have the shape of the offsets."""
    output = _bags(args, kwargs)
    mode = args[4] if len(args) > 4 else _SUM
    if output is None or mode != _SUM:
        return output
    rows, of_indices, _, _ = output
    offsets = args[2]
    return rows, of_indices, empty(offsets.shape, offsets.dtype), empty(offsets.shape, offsets.dtype)


operator("aten._embedding_bag", corrected_shape=_bags)
operator("aten._embedding_bag_forward_only", corrected_shape=_bags_forward_only)
