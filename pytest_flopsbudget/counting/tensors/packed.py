"""Packed weights: PyTorch keeps the weights of its quantized layers in C++ objects, which are no parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch

from pytest_flopsbudget.counting.torch_private import (
    script_attributes,
    script_method_exists,
    script_methods,
    script_type,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


#: The class names of such objects begin with one of these texts.
_CLASSES = tuple(f"__torch__.torch.classes.{name}." for name in ("quantized", "rnn", "sparse", "xnnpack", "mkldnn"))
#: The class for linear layers. When it unpacks half-precision weights, it returns single-precision weights.
_LINEAR = "__torch__.torch.classes.quantized.LinearPackedParamsBase"


class PackedSize(NamedTuple):
    """The size of the weights and biases in a packed weight. Scales and padding are left out."""

    elements: int
    #: The bytes of the elements in their packed dtypes.
    stored: int


def packed_weights(module: torch.nn.Module) -> dict[int, torch.ScriptObject]:
    """Return address of the C++ object → packed weight, for the packed weights that the module itself holds.

    TorchScript makes a new Python object each time that a packed weight is read. The hash of these objects is the
    address of the C++ object.
    """
    if isinstance(module, torch.jit.ScriptModule):
        values = script_attributes(module)
        for method in script_methods(module):
            values += _constants(method.graph)
    else:
        values = list(module.__dict__.values())
    return {hash(weight): weight for weight in find_packed_weights(values)}


def find_packed_weights(values: Iterable[Any]) -> Iterator[torch.ScriptObject]:
    """Yield the packed weights among the values, inside lists, tuples and dicts, and in graphs of TorchScript."""
    for value in values:
        kind = type(value)
        if kind is torch.ScriptObject:
            if is_packed_weight(value):
                yield value
        elif kind is list or kind is tuple:
            yield from (item for item in value if type(item) is torch.ScriptObject and is_packed_weight(item))
        elif kind is dict:
            yield from (item for item in value.values() if type(item) is torch.ScriptObject and is_packed_weight(item))
        elif kind is torch.jit.ScriptFunction:
            yield from find_packed_weights(_constants(value.graph))


def _constants(graph: Any) -> list[Any]:
    """Return the constants of a graph that may be or contain packed weights, such as the weights of a frozen module."""
    outputs = [node.output() for node in graph.findAllNodes("prim::Constant")]
    return [output.toIValue() for output in outputs if "__torch__.torch.classes" in output.type().annotation_str]


def is_packed_weight(value: torch.ScriptObject) -> bool:
    """Return whether a C++ object is a packed weight of PyTorch."""
    return _name(value).startswith(_CLASSES)


def packed_size(weight: torch.ScriptObject) -> PackedSize:
    """Return the size of a packed weight."""
    elements = stored = 0
    seen = set[tuple[int, torch.Size]]()  # a recurrent layer holds its biases twice
    for tensor, itemsize in _tensors(weight):
        identity = (tensor.data_ptr() if tensor.layout is torch.strided else id(tensor), tensor.shape)
        if identity not in seen:
            seen.add(identity)
            elements += tensor.numel()
            stored += tensor.numel() * itemsize
    return PackedSize(elements, stored)


def _tensors(weight: torch.ScriptObject) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield (tensor, bytes of one packed element) for each tensor of a packed weight."""
    waiting: list[Any] = [weight]
    kept = []  # the addresses of tensors are unique only while all the tensors are alive
    while waiting:
        value: Any = waiting.pop()
        if type(value) is torch.ScriptObject:
            parts: Any = cast("Any", value).unpack() if script_method_exists(value)("unpack") else value.__getstate__()
            kept.append(parts)
            if _name(value) == _LINEAR and parts[0].dtype is torch.float32:
                yield parts[0], torch.float16.itemsize
                parts = parts[1:]
            waiting.append(parts)
        elif isinstance(value, (list, tuple)):
            waiting.extend(value)
        elif isinstance(value, torch.Tensor):
            yield value, value.element_size()


def _name(value: torch.ScriptObject) -> str:
    return str(script_type(value)().qualified_name())
