"""Rules that compute the outputs of common operators faster than PyTorch's meta kernels, which are written in Python.

The first call of such a meta kernel also imports PyTorch's compiler. The import needs a second or more, which would be
most of the time of a process's first measurement. Each rule applies to simple cases only: one floating-point dtype, no
gaps in memory. In all other cases the meta kernel runs, if there is one. A test compares the rules with the meta
kernels on PyTorch's operator database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.registry import operator
from pytest_flopsbudget.counting.meta import cpu_layouts as _cpu_layouts  # noqa: F401 -- registers its rules
from pytest_flopsbudget.counting.meta.layouts import (
    FLOATS,
    INTEGERS,
    broadcasts_to,
    elementwise_output,
    empty,
    float32_like,
    may_be_channels_last,
    requests_no_format,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo


_OTHER_RESULTS_NAMES = """
eq ne lt le gt ge isnan isinf isfinite isposinf isneginf isreal signbit isclose logical_not logical_and logical_or
logical_xor frexp where real imag angle view_as_real _to_copy special_zeta bitwise_not bitwise_and bitwise_or
bitwise_xor heaviside nextafter complex polar masked_fill quantize_per_tensor dequantize native_dropout_backward
softplus_backward copy fill mvlgamma
"""
#: Pointwise operators whose output has another dtype or layout than their inputs, or that have several outputs.
_OTHER_RESULTS = frozenset(f"aten.{name}" for name in _OTHER_RESULTS_NAMES.split())
#: Operators that work element by element, although PyTorch does not tag them as pointwise.
_ELEMENTWISE_NAMES = """
clone elu_backward floor_divide gelu hardsigmoid_backward hardswish hardswish_backward hardtanh_backward mish
"""
_ELEMENTWISE = frozenset(f"aten.{name}" for name in _ELEMENTWISE_NAMES.split())

#: Pointwise operators that return truth values.
_COMPARISONS_NAMES = "eq ne lt le gt ge logical_and logical_or logical_xor logical_not"
_COMPARISONS = frozenset(f"aten.{name}" for name in _COMPARISONS_NAMES.split())
#: Pointwise operators that return truth values if all their arguments are truth values.
_OF_TRUTHS = frozenset(f"aten.bitwise_{name}" for name in ("and", "or", "xor", "not"))
#: Pointwise operators that return integers if all their arguments are integers.
_OF_INTEGERS = frozenset(
    f"aten.{name}" for name in ("add", "sub", "mul", "neg", "minimum", "maximum", "floor_divide", "remainder")
)


def infer_output(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the output of an operator on the meta device, or None if no rule applies (for example, for views)."""
    if info.behaviour == "inplace":
        is_elementwise = info.is_pointwise or info.name.removesuffix("_") in _ELEMENTWISE
        return _in_place(info, args, kwargs) if is_elementwise else None
    if info.behaviour != "functional":
        return None
    rule = info.facets.shape or info.facets.corrected_shape
    if rule is not None:
        return rule(args, kwargs)
    if info.name in _COMPARISONS:
        return _compared(args, kwargs)
    if info.name in _OF_TRUTHS:
        fits = all(isinstance(argument, torch.Tensor) and argument.dtype is torch.bool for argument in args)
        return _compared(args, kwargs) if fits else None
    if info.name in _ELEMENTWISE or (info.is_pointwise and info.name not in _OTHER_RESULTS):
        return _pointwise(info, args, kwargs)
    return None


def infer_corrected_output(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the output of an operator whose meta kernel in PyTorch is missing or wrong. Else, return None."""
    rule = info.facets.corrected_shape
    return None if rule is None else rule(args, kwargs)


def _pointwise(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if info.outputs != 1 or not set(kwargs) <= {"alpha", "value", "approximate", "rounding_mode"}:
        return None
    tensors = []
    for argument in (*args, *kwargs.values()):
        if isinstance(argument, torch.Tensor):
            tensors.append(argument)
        elif not isinstance(argument, (int, float, str, type(None))):
            return None
    if info.name == "aten.threshold_backward":
        tensors.reverse()  # the layout of the output follows the layout of the input, not of the gradient
    dtype = tensors[0].dtype
    if any(tensor.dtype is not dtype for tensor in tensors):
        return None
    if dtype not in FLOATS and not (
        dtype in INTEGERS
        and info.name in _OF_INTEGERS
        and all(isinstance(argument, torch.Tensor) or type(argument) is int for argument in args)
    ):
        return None
    return elementwise_output(tensors, dtype)


def _compared(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if kwargs or not all(isinstance(argument, (torch.Tensor, int, float)) for argument in args):
        return None
    return elementwise_output([argument for argument in args if isinstance(argument, torch.Tensor)], torch.bool)


def _in_place(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the tensor that the operator writes to, or None if the other arguments do not fit this tensor."""
    written = args[0]
    if info.returned != (0,) or kwargs or written.dtype not in FLOATS:
        return None
    for argument in args[1:]:
        if isinstance(argument, torch.Tensor):
            if argument.dtype is not written.dtype or not broadcasts_to(argument.shape, written.shape):
                return None
        elif not isinstance(argument, (int, float, type(None))):
            return None
    return written


def _moved(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return a contiguous tensor with the shape and dtype of the first argument.

    Return None if the first argument is not contiguous, or if its strides also fit channels last.
    """
    inputs = args[0]
    if kwargs or not inputs.is_contiguous() or may_be_channels_last(inputs):
        return None
    return empty(inputs.shape, inputs.dtype)


def _rolled(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    inputs, shifts, *dims = args
    dims = dims[0] if dims else []
    fits = len(shifts) == len(dims) and all(-inputs.ndim <= dim < inputs.ndim for dim in dims)
    return _moved(args, kwargs) if fits else None


def _triangle(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return _moved(args, kwargs) if args[0].ndim > 1 else None


def _filled(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the output of an operator that writes a number to the elements that a mask selects."""
    inputs, mask, value = args
    fits = mask.dtype is torch.bool and broadcasts_to(mask.shape, inputs.shape) and mask.is_contiguous()
    return _moved(args, kwargs) if fits and isinstance(value, (int, float)) and inputs.dtype in FLOATS else None


def _softmax_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    gradient, output, _, dtype = args
    same = gradient.shape == output.shape and gradient.dtype is output.dtype is dtype and output.is_contiguous()
    return _moved(args, kwargs) if same and dtype in FLOATS else None


def _padded(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the output of padding a contiguous tensor.

    The padding lists two sizes (before, after) for each dimension, starting with the last dimension.
    """
    inputs, padding, *_ = args
    if _moved(args[:1], kwargs) is None or len(padding) % 2 or len(padding) > 2 * inputs.ndim or not any(padding):
        return None
    shape = list(inputs.shape)
    for index in range(len(padding) // 2):
        shape[-1 - index] += padding[2 * index] + padding[2 * index + 1]
    return empty(shape, inputs.dtype) if all(size > 0 for size in shape) else None


def _resized(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return images (batch, channels, sizes) that are resized to other sizes, which are the second argument."""
    inputs, size, *_ = args
    if _moved(args[:1], kwargs) is None or inputs.dtype not in FLOATS or not isinstance(size, (list, tuple)):
        return None
    fits = len(size) == inputs.ndim - 2 and all(type(one) is int and one > 0 for one in (*size, *inputs.shape[1:]))
    return empty((*inputs.shape[:2], *size), inputs.dtype) if fits else None


def _sampled(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return samples of images (batch, channels, height, width) at a grid of places (batch, rows, columns, 2)."""
    inputs, grid, *_ = args
    fits = inputs.ndim == grid.ndim == 4 and inputs.shape[0] == grid.shape[0] and grid.shape[-1] == 2
    if not fits or inputs.dtype not in FLOATS or inputs.dtype is not grid.dtype or not all(inputs.shape[1:]):
        return None
    if _moved((inputs,), kwargs) is None or not grid.is_contiguous():
        return None
    return empty((*inputs.shape[:2], *grid.shape[1:3]), inputs.dtype)


def _stacked(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return tensors of one shape that are joined along a new dimension."""
    tensors, dim = args[0], args[1] if len(args) > 1 else 0
    first = tensors[0] if tensors else None
    if first is None or not -first.ndim - 1 <= dim <= first.ndim:
        return None
    for tensor in tensors:
        if tensor.shape != first.shape or tensor.dtype is not first.dtype or _moved((tensor,), kwargs) is None:
            return None
    dim %= first.ndim + 1
    return empty((*first.shape[:dim], len(tensors), *first.shape[dim:]), first.dtype)


def _over_everything(inputs: torch.Tensor, kwargs: Mapping[str, Any]) -> Any:
    return empty((), inputs.dtype) if inputs.dtype in FLOATS and not kwargs else None


def _all_or_any(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return empty((), torch.bool) if len(args) == 1 and not kwargs and args[0].dtype is not torch.uint8 else None


def _over_dimensions(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the output of a sum or mean over all or some of the dimensions."""
    if len(args) == 1:
        return _over_everything(args[0], kwargs)
    inputs, dims, *others = args
    keep = bool(others and others[0])
    if kwargs or len(others) > 1 or inputs.dtype not in FLOATS or not inputs.is_contiguous() or not dims:
        return None
    count = inputs.ndim
    if not all(-count <= dim < count for dim in dims):
        return None
    reduced = {dim % count for dim in dims}
    if len(reduced) != len(dims):
        return None
    sizes = enumerate(inputs.shape)
    return empty([1 if dim in reduced else size for dim, size in sizes if keep or dim not in reduced], inputs.dtype)


def _joined(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the concatenation of tensors whose shapes differ at most in the dimension of the concatenation."""
    # A tensor of shape (0,) may be concatenated with tensors of any shape: PyTorch ignores it.
    tensors = [tensor for tensor in args[0] if tensor.shape != (0,)]
    dim = args[1] if len(args) > 1 else 0
    first = tensors[0] if tensors else None
    if kwargs or first is None or not -first.ndim <= dim < first.ndim:
        return None
    dim %= first.ndim
    others = (*first.shape[:dim], *first.shape[dim + 1 :])
    for tensor in args[0]:
        fits = tensor.shape == (0,) or (
            tensor.ndim == first.ndim
            and (*tensor.shape[:dim], *tensor.shape[dim + 1 :]) == others
            and requests_no_format(tensor)
        )
        if not fits or tensor.dtype is not first.dtype:
            return None
    size = sum(tensor.shape[dim] for tensor in tensors)
    return empty((*first.shape[:dim], size, *first.shape[dim + 1 :]), first.dtype)


def _chosen(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the output of an elementwise choice between two tensors."""
    if kwargs or len(args) != 3 or not all(isinstance(item, torch.Tensor) for item in args):
        return None
    condition, one, other = args
    if condition.dtype is not torch.bool or one.dtype is not other.dtype:
        return None
    if not all(tensor.is_contiguous() and not may_be_channels_last(tensor) for tensor in args):
        return None
    return empty(torch.broadcast_shapes(condition.shape, one.shape, other.shape), one.dtype)


def _embedding(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    weight, indices, *_ = args
    if kwargs or weight.ndim != 2 or indices.dtype not in INTEGERS:
        return None
    return empty((*indices.shape, weight.shape[1]), weight.dtype)


def _range(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if not all(type(argument) is int for argument in args) or args[2:] == (0,):
        return None
    size = len(range(*args))
    dtype = kwargs.get("dtype") or torch.int64
    return empty((size,), dtype) if size and dtype in INTEGERS else None


def _accumulated(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    inputs = args[0]
    fits = -inputs.ndim <= args[1] < inputs.ndim and (inputs.dtype in FLOATS or inputs.dtype is torch.int64)
    return _moved(args, kwargs) if fits else None


def _softmax(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    inputs, dim, *converted = args
    if kwargs or any(converted) or not inputs.is_contiguous() or not -inputs.ndim <= dim < inputs.ndim:
        return None
    return float32_like(inputs)


def _product(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the product of (…, m, k) and (…, k, n). Both operands have two dimensions, or both have three."""
    left, right = args
    fits = left.ndim == right.ndim and left.shape[:-2] == right.shape[:-2] and left.shape[-1] == right.shape[-2]
    if kwargs or not fits or left.dtype not in FLOATS or left.dtype is not right.dtype:
        return None
    return empty((*left.shape[:-1], right.shape[-1]), left.dtype)


def _sum_and_product(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the sum of a product and a tensor that broadcasts to the shape of the product."""
    added, left, right = args
    output = _product((left, right), {}) if set(kwargs) <= {"alpha", "beta"} else None
    if output is None or added.dtype is not output.dtype:
        return None
    return output if broadcasts_to(added.shape, output.shape) else None


def _grouped_product(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Return the output of `_grouped_mm`, which multiplies matrices group by group."""
    left, right, *_ = args
    groups = kwargs.get("offs", args[2] if len(args) > 2 else None)
    out_dtype = kwargs.get("out_dtype", args[4] if len(args) > 4 else None)
    if left.shape[-1] != right.shape[-2] or left.dtype not in FLOATS or left.dtype is not right.dtype:
        return None
    shape = (*left.shape[-2:-1], right.shape[-1])
    if left.ndim == right.ndim == 3:
        shape = (left.shape[0], *shape)
    elif left.ndim == right.ndim == 2:
        if groups is None:
            return None
        shape = (groups.shape[0], *shape)
    return empty(shape, out_dtype or left.dtype)


def _fused_attention(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """Return the outputs of the CPU kernel: a tensor like the query, and log-sum-exps (batch, heads, length)."""
    query = args[0]
    batch, heads, length, _ = query.shape
    dtype = torch.float64 if query.dtype is torch.float64 else torch.float32
    return torch.empty_like(query), empty((batch, length, heads), dtype).transpose(1, 2)


def _fused_attention_backward(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """Return the gradients of query, key and value. In memory, their order is (batch, length, heads, width)."""
    return tuple(empty(item.transpose(1, 2).shape, item.dtype).transpose(1, 2) for item in args[1:4])


operator("aten._grouped_mm", corrected_shape=_grouped_product)
operator("aten._scaled_dot_product_flash_attention_for_cpu", shape=_fused_attention)
operator("aten._scaled_dot_product_flash_attention_for_cpu_backward", shape=_fused_attention_backward)
operator("aten.arange", shape=_range)
operator("aten.cat", shape=_joined)
operator("aten.cumsum", shape=_accumulated)
operator("aten.embedding", shape=_embedding)
operator("aten.where", shape=_chosen)
operator("aten.mean", "aten.sum", shape=_over_dimensions)
operator("aten.mm", "aten.bmm", shape=_product)
operator("aten.addmm", "aten.baddbmm", shape=_sum_and_product)
operator("aten.constant_pad_nd", shape=_padded)
operator("aten.masked_fill", shape=_filled)
operator("aten.roll", shape=_rolled)
operator("aten.all", "aten.any", shape=_all_or_any)
operator("aten.stack", shape=_stacked)
operator("aten.grid_sampler_2d", shape=_sampled)
operator(
    *(f"aten.upsample_{name}" for name in ("linear1d", "bilinear2d", "bicubic2d", "trilinear3d")),
    *(f"aten.upsample_nearest{dims}d" for dims in (1, 2, 3)),
    shape=_resized,
)
operator("aten.tril", "aten.triu", shape=_triangle)
operator("aten._softmax", "aten._log_softmax", "aten._safe_softmax", shape=_softmax)
operator("aten._softmax_backward_data", shape=_softmax_backward)


# PyTorch has no meta kernels for the operators below. Their outputs follow from their definitions.


def _like_self(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """Return the gradient of ``self``, from the arguments (grad_output, self, …)."""
    return empty(args[1].shape, args[1].dtype)


def _geqrf(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """Return a matrix like the input (…, m, n), stored by columns, and min(m, n) factors."""
    (matrix,) = args
    *batch, rows, columns = matrix.shape
    return empty((*batch, columns, rows), matrix.dtype).mT, empty((*batch, min(rows, columns)), matrix.dtype)


def _histogram(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    inputs = args[0]
    bins = args[1] if len(args) > 1 else 100
    count = bins.numel() - 1 if isinstance(bins, torch.Tensor) else bins
    return empty((count,), inputs.dtype), empty((count + 1,), inputs.dtype)


def _bin_edges(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    inputs, bins = args
    return [empty((count + 1,), inputs.dtype) for count in bins]


def _histogram_by_edges(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    inputs, bins = args
    return empty([edges.numel() - 1 for edges in bins], inputs.dtype)


def _histogram_by_counts(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    inputs, bins = args
    return empty(bins, inputs.dtype)


operator("aten.geqrf", corrected_shape=_geqrf)
operator("aten.histogram", corrected_shape=_histogram)
operator("aten._histogramdd_bin_edges", corrected_shape=_bin_edges)
operator("aten._histogramdd_from_bin_cts", corrected_shape=_histogram_by_counts)
operator("aten._histogramdd_from_bin_tensors", corrected_shape=_histogram_by_edges)
operator(
    "aten.fractional_max_pool3d_backward",
    "aten.multi_margin_loss_backward",
    "aten.multilabel_margin_loss_backward",
    corrected_shape=_like_self,
)
