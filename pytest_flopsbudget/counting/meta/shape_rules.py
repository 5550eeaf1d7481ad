"""What common operators return, worked out here: PyTorch's meta kernels for them are Python and slow.

The first of those kernels that is called also imports PyTorch's compiler, a second or more, which would be most of what
the first measurement of a process takes. Each rule holds for plain cases only (one floating-point dtype, no gaps in
memory); everything else goes to the meta kernel, where there is one. A test compares the two on PyTorch's operator
database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.meta import cpu_layouts, missing_kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo

    Rule = Callable[[Sequence[Any], Mapping[str, Any]], Any]


_OTHER_RESULTS_NAMES = """
eq ne lt le gt ge isnan isinf isfinite isposinf isneginf isreal signbit isclose logical_not logical_and logical_or
logical_xor frexp where real imag angle view_as_real _to_copy special_zeta bitwise_not bitwise_and bitwise_or
bitwise_xor heaviside nextafter complex polar masked_fill quantize_per_tensor dequantize native_dropout_backward
softplus_backward copy fill mvlgamma
"""
#: Pointwise operators whose output is of another dtype or layout than their inputs, or that have several outputs.
_OTHER_RESULTS = frozenset(f"aten.{name}" for name in _OTHER_RESULTS_NAMES.split())
#: Operators that work element by element without being tagged so.
_ELEMENTWISE_NAMES = """
clone elu_backward gelu hardsigmoid_backward hardswish hardswish_backward hardtanh_backward mish
"""
_ELEMENTWISE = frozenset(f"aten.{name}" for name in _ELEMENTWISE_NAMES.split())

#: Those of them that tell two values apart.
_COMPARISONS = frozenset(f"aten.{name}" for name in ("eq", "ne", "lt", "le", "gt", "ge"))
#: Pointwise operators that return integers for integers.
_OF_INTEGERS = frozenset(
    f"aten.{name}" for name in ("add", "sub", "mul", "neg", "minimum", "maximum", "floor_divide", "remainder")
)

_INTEGERS = frozenset({torch.int64, torch.int32})
_FLOATS = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})


def infer_output(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The output of an operator on the meta device; None where no rule here holds, as for what returns views."""
    if info.behaviour != "functional":
        return _in_place(info, args, kwargs) if info.behaviour == "inplace" and info.is_pointwise else None
    rule = _RULES.get(info.name)
    if rule is not None:
        return rule(args, kwargs)
    if info.name in _COMPARISONS:
        return _compared(args, kwargs)
    if info.name in _ELEMENTWISE or (info.is_pointwise and info.name not in _OTHER_RESULTS):
        return _pointwise(info, args, kwargs)
    return None


def infer_corrected_output(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The output of an operator for which PyTorch has no meta kernel, or one that is not right."""
    rule = _CORRECTIONS.get(info.name)
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
        tensors.reverse()  # the input tells before its gradient how the output is laid out
    dtype = tensors[0].dtype
    if any(tensor.dtype is not dtype for tensor in tensors):
        return None
    if dtype not in _FLOATS and not (
        dtype in _INTEGERS
        and info.name in _OF_INTEGERS
        and all(isinstance(argument, torch.Tensor) or type(argument) is int for argument in args)
    ):
        return None
    return _element_by_element(tensors, dtype)


def _compared(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if kwargs or not all(isinstance(argument, (torch.Tensor, int, float)) for argument in args):
        return None
    return _element_by_element([argument for argument in args if isinstance(argument, torch.Tensor)], torch.bool)


def _element_by_element(tensors: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor | None:
    """What an operator on the elements of these makes, laid out as they are."""
    shape = tensors[0].shape
    if any(tensor.shape != shape for tensor in tensors):
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    if all(tensor.is_contiguous() for tensor in tensors):
        return _empty(shape, dtype)
    # Numbers in tensors of no dimension follow whatever the others are laid out like.
    layouts = {tensor.stride() if tensor.shape == shape else None for tensor in tensors if tensor.ndim}
    stride: Sequence[int] | None = layouts.pop() if len(layouts) == 1 else None
    if stride is None or not _is_dense(shape, stride):
        if len(tensors) == 1 and 0 in tensors[0].stride():
            return None
        stride = _common_stride(tensors, shape)
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")


def _common_stride(tensors: Sequence[torch.Tensor], shape: Sequence[int]) -> Sequence[int]:
    """How the output of an operator on the elements of tensors in different orders of dimensions is laid out.

    Dimensions are sorted by how far apart their elements lie, by the first tensor that tells (TensorIterator's
    ``reorder_dimensions``, `torch._prims_common.compute_elementwise_output_logical_to_physical_perm`).
    """
    count = len(shape)
    if all(tensor.shape == shape and _is_channels_last(tensor) for tensor in tensors):
        order = [0, 2, 3, 1]
    else:
        strides = [_spread_stride(tensor, shape) for tensor in tensors]
        inwards = list(reversed(range(count)))  # the innermost first
        for index in range(1, count):
            at = index
            for before in reversed(range(index)):
                verdict = _order(strides, shape, inwards[before], inwards[at])
                if verdict > 0:
                    inwards[before], inwards[at] = inwards[at], inwards[before]
                    at = before
                elif verdict < 0:
                    break
        order = inwards[::-1]
    stride, step = [0] * count, 1
    for dim in reversed(order):
        stride[dim] = step
        step *= max(shape[dim], 1)
    return stride


def _spread_stride(tensor: torch.Tensor, shape: Sequence[int]) -> Sequence[int]:
    """The strides of the tensor once it is broadcast."""
    if tensor.shape == shape:
        return tensor.stride()
    new = len(shape) - tensor.ndim
    own = zip(tensor.shape, tensor.stride(), shape[new:], strict=True)
    return (*(0,) * new, *(step if size == full else 0 for size, step, full in own))


def _order(strides: Sequence[Sequence[int]], shape: Sequence[int], inner: int, outer: int) -> int:
    """-1 if the two dimensions stand in the right order, 1 if not, 0 if no tensor tells."""
    for stride in strides:
        a, b = stride[inner], stride[outer]
        if not a or not b:
            continue
        if a == b:
            if _reaches(shape[outer], shape[inner]):
                continue
            return 1
        return -1 if _reaches(b, a) else 1
    return 0


def _reaches(a: int, b: int) -> bool:
    return b == 0 or (a != 0 and (a >= b or a % b == 0))


def _in_place(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What is written to stays as it is, where what is computed fits into it."""
    written = args[0]
    if info.returned != (0,) or kwargs or written.dtype not in _FLOATS:
        return None
    for argument in args[1:]:
        if isinstance(argument, torch.Tensor):
            if argument.dtype is not written.dtype or not _spreads(argument.shape, written.shape):
                return None
        elif not isinstance(argument, (int, float, type(None))):
            return None
    return written


def _spreads(shape: Sequence[int], over: Sequence[int]) -> bool:
    """Whether a tensor of that shape broadcasts to exactly the other."""
    pairs = zip(reversed(shape), reversed(over), strict=False)
    return len(shape) <= len(over) and all(size in (1, full) for size, full in pairs)


def _empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether a tensor fills its memory without gaps or overlaps, in whatever order of its dimensions."""
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


def _is_channels_last(tensor: torch.Tensor) -> bool:
    return tensor.ndim == 4 and tensor.is_contiguous(memory_format=torch.channels_last)  # noqa: PLR2004 -- images


def _like(tensor: torch.Tensor) -> torch.Tensor | None:
    """A twin of a plain float32 tensor."""
    if tensor.dtype is torch.float32 and (tensor.is_contiguous() or _is_channels_last(tensor)):
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return None


def _layer_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if kwargs:
        return None
    inputs, normalized, *parameters = args
    if inputs.dtype is not torch.float32:
        return cpu_layouts.layer_norm(args, kwargs)
    if inputs.is_contiguous():
        output = _like(inputs)
    else:
        output = _empty(inputs.shape, inputs.dtype) if inputs.dtype is torch.float32 else None
    count = len(normalized)
    fits = tuple(inputs.shape[-count:]) == tuple(normalized)
    if (
        output is None
        or not fits
        or any(item is not None and item.dtype is not torch.float32 for item in parameters[:2])
    ):
        return None
    statistics = (*inputs.shape[:-count], *(1,) * count)
    return output, _empty(statistics, torch.float32), _empty(statistics, torch.float32)


def _group_norm(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if args[0].dtype is not torch.float32:
        return cpu_layouts.group_norm(args, kwargs)
    if len(args) != 8 or kwargs or not _plain_float32(*args[:3]):  # noqa: PLR2004 -- all of its arguments
        return None
    inputs, weight, bias, batch, channels, positions, groups, _ = args
    if inputs.numel() != batch * channels * positions or not inputs.numel() or channels % groups:
        return None
    if any(item is not None and tuple(item.shape) != (channels,) for item in (weight, bias)):
        return None
    statistics = (batch, groups)
    return _empty(inputs.shape, inputs.dtype), _empty(statistics, inputs.dtype), _empty(statistics, inputs.dtype)


def _plain_float32(*tensors: torch.Tensor | None) -> bool:
    """Whether those that are there hold float32, without gaps and in one order of dimensions only."""
    return all(
        item is None or (item.dtype is torch.float32 and item.is_contiguous() and not _is_channels_last(item))
        for item in tensors
    )


def _moved(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The same elements in other places of a tensor like the first."""
    inputs = args[0]
    if kwargs or not inputs.is_contiguous() or _is_channels_last(inputs):
        return None
    return _empty(inputs.shape, inputs.dtype)


def _rolled(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    inputs, shifts, *dims = args
    dims = dims[0] if dims else []
    fits = len(shifts) == len(dims) and all(-inputs.ndim <= dim < inputs.ndim for dim in dims)
    return _moved(args, kwargs) if fits else None


def _triangle(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    return _moved(args, kwargs) if args[0].ndim > 1 else None


def _filled(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Where a mask says, a number."""
    inputs, mask, value = args
    fits = mask.dtype is torch.bool and _spreads(mask.shape, inputs.shape) and mask.is_contiguous()
    return _moved(args, kwargs) if fits and isinstance(value, (int, float)) and inputs.dtype in _FLOATS else None


def _softmax_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    gradient, output, _, dtype = args
    same = gradient.shape == output.shape and gradient.dtype is output.dtype is dtype and output.is_contiguous()
    return _moved(args, kwargs) if same and dtype in _FLOATS else None


def _padded(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """As many elements before and after, beginning with the last dimension."""
    inputs, padding, *_ = args
    if _moved(args[:1], kwargs) is None or len(padding) % 2 or len(padding) > 2 * inputs.ndim or not any(padding):
        return None
    shape = list(inputs.shape)
    for index in range(len(padding) // 2):
        shape[-1 - index] += padding[2 * index] + padding[2 * index + 1]
    return _empty(shape, inputs.dtype) if all(size > 0 for size in shape) else None


def _convolution(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """(N, C, *spatial) by (out, C / groups, *kernel), without gaps in memory and in one order of dimensions only."""
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
        or inputs.dtype not in _FLOATS
        or inputs.dtype is not weight.dtype
        or not inputs.is_contiguous()
        or not weight.is_contiguous()
        or _is_channels_last(inputs)
        or _is_channels_last(weight)
        or dims > 2  # noqa: PLR2004 -- volumes have an order of dimensions of their own
    ):
        return None
    sizes = zip(inputs.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True)
    positions = [(size + 2 * pad - gap * (kernel - 1) - 1) // step + 1 for size, kernel, step, pad, gap in sizes]
    if not inputs.shape[0] or any(position <= 0 for position in positions):
        return None
    return _empty((inputs.shape[0], weight.shape[0], *positions), inputs.dtype)


def _any_convolution(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    output = _convolution(args, kwargs)
    return cpu_layouts.convolution(args, kwargs) if output is None else output


def _convolution_backward(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The gradients of input, weight and bias, those that are asked for, in order where these are."""
    gradient, inputs, weight, bias_sizes, *_, mask = args
    plain = all(item.is_contiguous() and not _is_channels_last(item) for item in (inputs, weight)) and inputs.ndim < 5  # noqa: PLR2004 -- as for `_convolution`
    if kwargs or not plain or gradient.dtype not in _FLOATS:
        return None
    shapes = (inputs.shape, weight.shape, bias_sizes)
    if any(asked and shape is None for asked, shape in zip(mask, shapes, strict=True)):
        return None
    return tuple(_empty(shape, gradient.dtype) if asked else None for asked, shape in zip(mask, shapes, strict=True))


def _over_dimensions(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """A sum or a mean over some dimensions."""
    if len(args) == 1:
        return None  # over all of them
    inputs, dims, *others = args
    keep = bool(others and others[0])
    if kwargs or len(others) > 1 or inputs.dtype not in _FLOATS or not inputs.is_contiguous() or not dims:
        return None
    count = inputs.ndim
    if not all(-count <= dim < count for dim in dims):
        return None
    reduced = {dim % count for dim in dims}
    if len(reduced) != len(dims):
        return None
    sizes = enumerate(inputs.shape)
    return _empty([1 if dim in reduced else size for dim, size in sizes if keep or dim not in reduced], inputs.dtype)


def _joined(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Tensors that differ in the size of one dimension at most, one after the other."""
    # One of size 0 and of one dimension goes with all others: what lists of activations begin with.
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
            and _asks_for_no_format(tensor)
        )
        if not fits or tensor.dtype is not first.dtype:
            return None
    size = sum(tensor.shape[dim] for tensor in tensors)
    return _empty((*first.shape[:dim], size, *first.shape[dim + 1 :]), first.dtype)


def _asks_for_no_format(tensor: torch.Tensor) -> bool:
    """Whether an operator that goes by its inputs' memory format returns its elements in order for this one."""
    if tensor.is_contiguous():
        return not _is_channels_last(tensor) and tensor.ndim < 5  # noqa: PLR2004 -- volumes have formats of their own
    if tensor.ndim < 4:  # noqa: PLR2004 -- images
        return True
    # With the channels last, the last dimension's elements are apart.
    return tensor.ndim == 4 and tensor.stride(-1) == 1 and tensor.shape[1] > 1  # noqa: PLR2004


def _chosen(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """One of two, element by element."""
    if kwargs or len(args) != 3 or not all(isinstance(item, torch.Tensor) for item in args):  # noqa: PLR2004 -- as said
        return None
    condition, one, other = args
    if condition.dtype is not torch.bool or one.dtype is not other.dtype:
        return None
    if not all(tensor.is_contiguous() and not _is_channels_last(tensor) for tensor in args):
        return None
    return _empty(torch.broadcast_shapes(condition.shape, one.shape, other.shape), one.dtype)


def _embedding(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    weight, indices, *_ = args
    if kwargs or weight.ndim != 2 or indices.dtype not in _INTEGERS:  # noqa: PLR2004 -- a table
        return None
    return _empty((*indices.shape, weight.shape[1]), weight.dtype)


def _range(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    if not all(type(argument) is int for argument in args) or args[2:] == (0,):
        return None
    size = len(range(*args))
    dtype = kwargs.get("dtype") or torch.int64
    return _empty((size,), dtype) if size and dtype in _INTEGERS else None


def _accumulated(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    inputs = args[0]
    fits = -inputs.ndim <= args[1] < inputs.ndim and (inputs.dtype in _FLOATS or inputs.dtype is torch.int64)
    return _moved(args, kwargs) if fits else None


def _softmax(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    inputs, dim, *converted = args
    if kwargs or any(converted) or not inputs.is_contiguous() or not -inputs.ndim <= dim < inputs.ndim:
        return None
    return _like(inputs)


def _product(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """(…, m, k) by (…, k, n), of two or of three dimensions."""
    left, right = args
    fits = left.ndim == right.ndim and left.shape[:-2] == right.shape[:-2] and left.shape[-1] == right.shape[-2]
    if kwargs or not fits or left.dtype not in _FLOATS or left.dtype is not right.dtype:
        return None
    return _empty((*left.shape[:-1], right.shape[-1]), left.dtype)


def _sum_and_product(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The same, with something added that has the product's shape once it is spread."""
    added, left, right = args
    output = _product((left, right), {}) if set(kwargs) <= {"alpha", "beta"} else None
    if output is None or added.dtype is not output.dtype:
        return None
    return output if _spreads(added.shape, output.shape) else None


def _grouped_product(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Ragged groups along the rows, the columns or the summed dimension, or plain batches.

    The meta kernel takes bfloat16 only, while the real ones take more.
    """
    left, right, *_ = args
    groups = kwargs.get("offs", args[2] if len(args) > 2 else None)  # noqa: PLR2004 -- the third argument
    out_dtype = kwargs.get("out_dtype", args[4] if len(args) > 4 else None)  # noqa: PLR2004 -- the fifth argument
    if left.shape[-1] != right.shape[-2] or left.dtype not in _FLOATS or left.dtype is not right.dtype:
        return None
    shape = (*left.shape[-2:-1], right.shape[-1])
    if left.ndim == right.ndim == 3:  # noqa: PLR2004 -- batches
        shape = (left.shape[0], *shape)
    elif left.ndim == right.ndim == 2:  # noqa: PLR2004 -- groups along the summed dimension
        if groups is None:
            return None
        shape = (groups.shape[0], *shape)
    return _empty(shape, out_dtype or left.dtype)


def _fused_attention(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """The CPU's: its output is laid out as the query, (batch, heads, length, width); the scores' sums length first."""
    query = args[0]
    batch, heads, length, _ = query.shape
    dtype = torch.float64 if query.dtype is torch.float64 else torch.float32
    return torch.empty_like(query), _empty((batch, length, heads), dtype).transpose(1, 2)


def _fused_attention_backward(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """The gradients of query, key and value, in memory (batch, length, heads, width)."""
    return tuple(_empty(item.transpose(1, 2).shape, item.dtype).transpose(1, 2) for item in args[1:4])


_CORRECTIONS: Mapping[str, Rule] = {
    "aten._grouped_mm": _grouped_product,
    **missing_kernels.OUTPUTS,
    **cpu_layouts.OUTPUTS,
}
_RULES: Mapping[str, Rule] = {
    **_CORRECTIONS,
    "aten._scaled_dot_product_flash_attention_for_cpu": _fused_attention,
    "aten._scaled_dot_product_flash_attention_for_cpu_backward": _fused_attention_backward,
    "aten.arange": _range,
    "aten.cat": _joined,
    "aten.cumsum": _accumulated,
    "aten.embedding": _embedding,
    "aten.where": _chosen,
    "aten.convolution": _any_convolution,
    "aten.convolution_backward": _convolution_backward,
    "aten.mean": _over_dimensions,
    "aten.sum": _over_dimensions,
    "aten.mm": _product,
    "aten.bmm": _product,
    "aten.addmm": _sum_and_product,
    "aten.baddbmm": _sum_and_product,
    "aten.constant_pad_nd": _padded,
    "aten.masked_fill": _filled,
    "aten.native_group_norm": _group_norm,
    "aten.native_layer_norm": _layer_norm,
    "aten.roll": _rolled,
    "aten.tril": _triangle,
    "aten.triu": _triangle,
    "aten._softmax": _softmax,
    "aten._softmax_backward_data": _softmax_backward,
    "aten._log_softmax": _softmax,
    "aten._safe_softmax": _softmax,
}
