"""Metadata of tensors: keys of calls, meta clones, and outputs that are made from remembered metadata."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from pytest_flopsbudget.counting.torch_private import FakeTensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


#: (shape, strides, dtype) of a tensor.
TensorSpec = tuple[torch.Size, tuple[int, ...], torch.dtype]


_META = torch.device("meta")

#: Functions that return whether a tensor is on the meta device, and the device of a tensor. A run on shapes replaces
#: these attributes of `torch.Tensor` (see `device_answers.py`). The functions here always return PyTorch's values.
is_on_meta: Callable[[torch.Tensor], bool] = torch.Tensor.is_meta.__get__  # type: ignore[attr-defined] # a descriptor
true_device: Callable[[torch.Tensor], torch.device] = torch.Tensor.device.__get__
#: Returns the device of a storage, like `true_device`.
true_storage_device: Callable[[torch.UntypedStorage], torch.device] = torch.UntypedStorage.device.__get__

#: Returns the shape with which PyTorch computes. A class of quantized weights may report another one as its ``shape``.
true_shape: Callable[[torch.Tensor], torch.Size] = torch.Tensor.shape.__get__  # type: ignore[attr-defined] # a descriptor

_INTEGERS = frozenset((int,))

#: The ``__torch_dispatch__`` of `torch.Tensor`. A class with this value leaves operators to the dispatcher.
_NOT_OVERRIDDEN = torch.Tensor.__torch_dispatch__

#: The classes of nearly all tensors.
PLAIN_TYPES = (torch.Tensor, torch.nn.Parameter)


def has_no_dispatcher(kind: type) -> bool:
    """Return whether the class has no ``__torch_dispatch__``. PyTorch dispatches its tensors like plain tensors."""
    rule = getattr(kind, "__torch_dispatch__", None)
    return rule is _NOT_OVERRIDDEN


def is_fake(tensor: torch.Tensor) -> bool:
    """Return whether the tensor is one of PyTorch's fake tensors. They report a device, but hold no data."""
    return isinstance(tensor, FakeTensor)


def has_data(tensor: torch.Tensor) -> bool:
    """Return whether the tensor holds values: it is neither on the meta device nor fake."""
    return not (tensor.is_meta or is_fake(tensor))


def is_wrapper(tensor: torch.Tensor) -> bool:
    """Return whether the tensor wraps other tensors that PyTorch can unwrap, as in quantized weights of torchao."""
    return type(tensor) not in PLAIN_TYPES and hasattr(tensor, "__tensor_flatten__") and not tensor.is_nested


def wrapped_tensors(tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return attribute → tensor for the tensors inside of a wrapper tensor (`is_wrapper`)."""
    wrapper: Any = tensor
    return {name: getattr(tensor, name) for name in wrapper.__tensor_flatten__()[0]}


#: The classes of uninitialized parameters and buffers. Lazy modules have them until their first call.
UNINITIALIZED: tuple[type, ...] = (UninitializedParameter, UninitializedBuffer)

#: dtype → the number of values in one element, for dtypes that pack several values into a byte.
_PACKED = {getattr(torch, "float4_e2m1fn_x2", None): 2}
#: Beginnings of the names of dtypes whose values take fewer bits than the byte that holds each of them.
_SUB_BYTE = re.compile(r"torch\.u?int([1-7])\Z")


def values_per_element(dtype: torch.dtype) -> int:
    """Return how many values one element holds: 2 for float4_e2m1fn_x2, 1 for nearly all dtypes."""
    return _PACKED.get(dtype, 1)


def count_values(tensor: torch.Tensor) -> int:
    """Return the number of values in a tensor. An element may hold several, such as two numbers of four bits."""
    return tensor.numel() * values_per_element(tensor.dtype)


@cache  # PyTorch has only a few dtypes
def bits_of(dtype: torch.dtype) -> int:
    """Return the bits of one value: 32 for float32, 4 for float4_e2m1fn_x2, of which a byte holds two."""
    narrow = _SUB_BYTE.match(str(dtype))
    return int(narrow[1]) if narrow else 8 * dtype.itemsize // values_per_element(dtype)


def stored_bytes(tensor: torch.Tensor) -> int:
    """Return the bytes of the tensor; for a wrapper tensor, the sum over its inner tensors."""
    if type(tensor) in PLAIN_TYPES or not is_wrapper(tensor):
        return tensor.nbytes
    return sum(map(stored_bytes, wrapped_tensors(tensor).values()))


class NoMetaCloneError(Exception):
    """A tensor has no meta clone: it is sparse, nested or quantized."""


def make_meta_clone(tensor: torch.Tensor) -> torch.Tensor:
    """Return a tensor of equal shape, strides and dtype that holds no data.

    Raises:
        NoMetaCloneError: the tensor cannot be described by shape, strides and dtype alone.
    """
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.is_quantized:
        raise NoMetaCloneError(f"a tensor of layout {tensor.layout} and dtype {tensor.dtype}")
    return torch.empty_strided(true_shape(tensor), tensor.stride(), dtype=tensor.dtype, device=_META)


def to_meta(value: Any) -> Any:
    """Replace each tensor in ``value`` by a meta clone, also in lists and tuples. Plain meta tensors are kept."""
    if isinstance(value, torch.Tensor):
        return value if is_on_meta(value) and type(value) in PLAIN_TYPES else make_meta_clone(value)
    if isinstance(value, (list, tuple)) and not _INTEGERS.issuperset(map(type, value)):
        return type(value)(map(to_meta, value))
    return value


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors in an argument or output of an operator, also those in lists and tuples."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from tensors_in(item)


def append_key(parts: list[Any], tensors: list[torch.Tensor], values: Any) -> None:
    """Append to ``parts`` all properties of the arguments that may change the metadata of an operator's output.

    1, 1.0 and True are equal in Python but not for an operator. So the type of a number belongs to the key.

    Args:
        parts: a list to which the properties are added.
        tensors: a list to which the tensors among the arguments are added.
        values: the arguments of the operator.
    """
    for value in values:
        kind = type(value)
        if kind is torch.Tensor:
            parts += (value.shape, value.stride(), value.dtype)
            tensors.append(value)
        elif kind is not int and isinstance(value, torch.Tensor):
            parts += (true_shape(value), value.stride(), value.dtype)
            tensors.append(value)
        elif kind is int or value is None:
            parts.append(value)
        elif kind is list or kind is tuple:
            if _INTEGERS.issuperset(map(type, value)):
                parts.append(tuple(value))
            else:
                parts.append(len(value))
                append_key(parts, tensors, value)
        else:
            parts += (kind, value)


def spec_of(output: Any) -> Any:
    """Return a spec, from which `restore_output` makes an output with the same metadata. The spec holds no tensor.

    Raises:
        NoMetaCloneError: a tensor in the output is not strided, for example sparse.
    """
    if isinstance(output, torch.Tensor):
        if output.layout is not torch.strided:
            raise NoMetaCloneError(f"an output of layout {output.layout}")
        spec = (output.shape, output.stride(), output.dtype)
        room = output.untyped_storage().nbytes()
        # A loss summed in place keeps the storage of its elements, which is larger than the sum.
        return _RoomySpec((*spec, room)) if room > output.nbytes and output.is_contiguous() else _Spec(spec)
    if isinstance(output, (list, tuple)):
        return type(output)(map(spec_of, output))
    return output


class _Spec(tuple[Any, ...]):  # a separate class, because outputs may be plain tuples
    __slots__ = ()


class _RoomySpec(tuple[Any, ...]):  # a `_Spec`, and the bytes of a storage that is larger than necessary
    __slots__ = ()


def restore_output(spec: Any) -> Any:
    """Return a new output with the metadata in ``spec``."""
    kind = type(spec)
    if kind is _Spec:
        shape, stride, dtype = spec
        return torch.empty_strided(shape, stride, dtype=dtype, device=_META)
    if kind is tuple or kind is list:
        return kind(map(restore_output, spec))
    if kind is _RoomySpec:
        shape, stride, dtype, room = spec
        return torch.empty(room // dtype.itemsize, dtype=dtype, device=_META).as_strided(shape, stride)
    return spec
