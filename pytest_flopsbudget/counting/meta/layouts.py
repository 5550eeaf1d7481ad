"""Memory layouts of tensors: order of dimensions, gaps, and the layout of the output of an elementwise operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.torch_private import suggest_memory_format

if TYPE_CHECKING:
    from collections.abc import Sequence

INTEGERS = frozenset({torch.int64, torch.int32})
HALVES = frozenset({torch.float16, torch.bfloat16})
FLOATS = frozenset({torch.float32, torch.float64}) | HALVES

_IMAGES, _VOLUMES = 4, 5
#: Number of dimensions → the memory format in which the channels are last.
_FORMATS = {_IMAGES: torch.channels_last, _VOLUMES: torch.channels_last_3d}


def empty(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    """Make a contiguous tensor on the meta device."""
    return torch.empty(shape, dtype=dtype, device="meta")


def empty_in_format_of(inputs: torch.Tensor) -> torch.Tensor:
    """Make a tensor on the meta device with the shape and dtype of ``inputs``, without gaps.

    The new tensor is channels last if ``inputs`` is channels last. Otherwise the new tensor is contiguous.
    """
    format_ = _FORMATS.get(inputs.ndim)
    if format_ is not None and inputs.is_contiguous(memory_format=format_) and not inputs.is_contiguous():
        return torch.empty(inputs.shape, dtype=inputs.dtype, device="meta", memory_format=format_)
    return empty(inputs.shape, inputs.dtype)


def float32_like(tensor: torch.Tensor) -> torch.Tensor | None:
    """Make a tensor on the meta device with the shape and strides of ``tensor``.

    Return None if ``tensor`` is not float32, or if it has gaps.
    """
    if tensor.dtype is torch.float32 and (tensor.is_contiguous() or may_be_channels_last(tensor)):
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return None


def may_be_channels_last(tensor: torch.Tensor) -> bool:
    """Return whether the strides fit channels last. They may also fit the usual order of dimensions."""
    return tensor.ndim == _IMAGES and tensor.is_contiguous(memory_format=torch.channels_last)


def is_channels_last(tensor: torch.Tensor) -> bool:
    """Return whether PyTorch treats the tensor as channels last.

    Return False if the strides also fit the usual order of dimensions.
    """
    return suggest_memory_format(tensor) is torch.channels_last


def is_plain(tensor: torch.Tensor) -> bool:
    """Return whether the tensor is contiguous and its strides do not fit channels last."""
    return tensor.is_contiguous() and not may_be_channels_last(tensor)


def requests_no_format(tensor: torch.Tensor) -> bool:
    """Return whether an operator with ``torch.preserve_format`` returns a contiguous output for this tensor."""
    if tensor.is_contiguous():
        return not may_be_channels_last(tensor) and tensor.ndim < _VOLUMES
    if tensor.ndim < _IMAGES:
        return True
    # in channels last, neighbours along the last dimension are not adjacent in memory
    return tensor.ndim == _IMAGES and tensor.stride(-1) == 1 and tensor.shape[1] > 1


def is_dense(shape: Sequence[int], stride: Sequence[int]) -> bool:
    """Return whether a tensor fills its memory without gaps or overlaps, in any order of its dimensions."""
    expected = 1
    for step, size in sorted((step, size) for step, size in zip(stride, shape, strict=True) if size != 1):
        if step != expected:
            return False
        expected *= size
    return True


def broadcasts_to(shape: Sequence[int], target: Sequence[int]) -> bool:
    """Return whether a tensor of ``shape`` broadcasts to exactly ``target``."""
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, full) for size, full in pairs)


def elementwise_output(tensors: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor | None:
    """Return the output of an elementwise operator, or None if this function does not know the output's layout."""
    shape = tensors[0].shape
    if any(tensor.shape != shape for tensor in tensors):
        shape = torch.broadcast_shapes(*(tensor.shape for tensor in tensors))
    if all(tensor.is_contiguous() for tensor in tensors):
        return empty(shape, dtype)
    # Tensors without dimensions have no layout, so they are ignored here.
    layouts = {tensor.stride() if tensor.shape == shape else None for tensor in tensors if tensor.ndim}
    stride: Sequence[int] | None = layouts.pop() if len(layouts) == 1 else None
    if stride is None or not is_dense(shape, stride):
        if len(tensors) == 1 and 0 in tensors[0].stride():
            return None
        stride = _common_stride(tensors, shape)
    return torch.empty_strided(shape, stride, dtype=dtype, device="meta")


def _common_stride(tensors: Sequence[torch.Tensor], shape: Sequence[int]) -> Sequence[int]:
    """Return the strides of an elementwise output whose inputs have different orders of dimensions.

    This follows TensorIterator's ``reorder_dimensions`` and
    `torch._prims_common.compute_elementwise_output_logical_to_physical_perm`.
    """
    count = len(shape)
    if all(tensor.shape == shape and may_be_channels_last(tensor) for tensor in tensors):
        order = [0, 2, 3, 1]
    else:
        strides = [_spread_stride(tensor, shape) for tensor in tensors]
        inwards = list(reversed(range(count)))  # the innermost dimension is the first
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
    """Return the strides of the tensor after it is broadcast to ``shape``."""
    if tensor.shape == shape:
        return tensor.stride()
    new = len(shape) - tensor.ndim
    sizes = zip(tensor.shape, tensor.stride(), shape[new:], strict=True)
    return (*(0,) * new, *(step if size == full else 0 for size, step, full in sizes))


def _order(strides: Sequence[Sequence[int]], shape: Sequence[int], inner: int, outer: int) -> int:
    """Return -1 if dimension ``inner`` is correctly inside dimension ``outer``, and 1 if the two must be swapped.

    The first tensor whose strides show the order decides. Return 0 if no tensor decides.
    """
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
