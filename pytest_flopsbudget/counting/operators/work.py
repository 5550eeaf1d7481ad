"""The work of one call of an operator: arithmetic, bytes, launches."""

from __future__ import annotations

import copy
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.tensors.metadata import bits_of, tensors_in

if TYPE_CHECKING:
    from collections.abc import Iterable
    from fractions import Fraction

    from pytest_flopsbudget.counting.costs.registry import Choice


#: dtype of the elements → the real dtype in which arithmetic runs: of the parts of a complex number, or of the integers
#: of a quantized number.
_REAL = {
    torch.complex32: torch.float16,
    torch.complex64: torch.float32,
    torch.complex128: torch.float64,
    torch.qint8: torch.int8,
    torch.quint8: torch.uint8,
    torch.qint32: torch.int32,
}


class Work:
    """The work of one call of an operator, or of several equal calls. Objects are compared by identity, for speed."""

    __slots__ = (
        "activations",
        "bit_operations",
        "choice",
        "communication",
        "dtype",
        "flops",
        "grouped",
        "launches",
        "masked_flops",
        "memory_traffic",
        "name",
        "other_flops",
        "steps",
    )

    def __init__(  # noqa: PLR0913 -- what an operator does in all respects
        self,
        name: str,
        *,
        flops: int = 0,
        masked_flops: int | None = None,
        other_flops: int = 0,
        communication: int = 0,
        activations: int = 0,
        bit_operations: int = 0,
        memory_traffic: int = 0,
        launches: int = 0,
        steps: int | None = None,
        dtype: str = "",
        choice: Choice | None = None,
        grouped: bool = False,
    ) -> None:
        #: The name of the operator: "aten.mm".
        self.name = name
        self.flops = flops
        #: The part of ``flops`` for pairs of a query and a key that the masks of attention leave. Without a mask, this
        #: is equal to ``flops``.
        self.masked_flops = flops if masked_flops is None else masked_flops
        self.other_flops = other_flops
        #: Bytes of the messages between processes.
        self.communication = communication
        #: Number of elements in the outputs of convolutions and matrix products.
        self.activations = activations
        #: The multiply-accumulates, each times the bits of its two operands.
        self.bit_operations = bit_operations
        #: Bytes that the operator reads and writes.
        self.memory_traffic = memory_traffic
        #: 1 if the operator computes or moves data, otherwise 0.
        self.launches = launches
        #: How much the operator adds to the depth. This is equal to ``launches``, except for fused layers of many
        #: steps.
        self.steps = launches if steps is None else steps
        #: The dtype that the operator computes in, such as "float32". It is empty if the operator has no tensor.
        self.dtype = dtype
        #: What the operator chose from; None if it chose nothing.
        self.choice = choice
        #: Whether the operator multiplied groups of rows, each with its own matrix.
        self.grouped = grouped

    def part(self, share: Fraction | int) -> Work:
        """Return the fraction ``share`` of this work. The numbers of launches and steps stay the same."""
        return Work(
            self.name,
            flops=int(self.flops * share),
            masked_flops=int(self.masked_flops * share),
            other_flops=int(self.other_flops * share),
            communication=int(self.communication * share),
            activations=int(self.activations * share),
            bit_operations=int(self.bit_operations * share),
            memory_traffic=int(self.memory_traffic * share),
            launches=self.launches,
            steps=self.steps,
            dtype=self.dtype,
            choice=self.choice,
            grouped=self.grouped,
        )

    def masked(self, masked_flops: int) -> Work:
        """Return this work with another number of ``masked_flops``."""
        work = copy.copy(self)
        work.masked_flops = masked_flops
        return work


#: The work of views, queries about tensors, and allocations.
NOTHING = Work("")


#: Beginnings of names of operators whose float32 products PyTorch computes in TF32 by default, on devices that have
#: TF32.
_IN_TF32 = ("conv", "cudnn_", "_cudnn_rnn", "miopen_rnn")


def precision_of(name: str, dtype: str) -> str:
    """Return the dtype of the multiplications in the operator ``name``, which computes in ``dtype``.

    This is "tfloat32" for float32 in convolutions and in cuDNN's recurrent layers. Otherwise it is ``dtype``.
    """
    if dtype == "float32" and name.removeprefix("aten.").startswith(_IN_TF32):
        return "tfloat32"
    return dtype


def dtype_of(args: Iterable[Any], kwargs: Iterable[Any], output: Any) -> str:
    """Return the name of the dtype in which an operator computes.

    The first operand with floating-point, complex or quantized numbers decides. If there is none, the first operand
    decides. For a complex or quantized dtype, return the dtype of the numbers that represent one element.
    """
    deciding = _deciding(args, kwargs, output)
    return "" if deciding is None else _name_of(deciding)


def bits_of_operand(args: Iterable[Any], kwargs: Iterable[Any], output: Any) -> int:
    """Return the bits of one real number in the dtype that `dtype_of` names; 0 if the operator has no tensor."""
    deciding = _deciding(args, kwargs, output)
    return 0 if deciding is None else bits_of(_REAL.get(deciding, deciding))


def _deciding(args: Iterable[Any], kwargs: Iterable[Any], output: Any) -> torch.dtype | None:
    first: torch.dtype | None = None
    for values in (args, kwargs, (output,)):
        for value in values:
            for tensor in (value,) if isinstance(value, torch.Tensor) else tensors_in(value):
                dtype = tensor.dtype
                if dtype.is_floating_point or dtype in _REAL:
                    return dtype
                first = first or dtype
    return first


@cache  # PyTorch has only a few dtypes
def _name_of(dtype: torch.dtype) -> str:
    return str(_REAL.get(dtype, dtype)).removeprefix("torch.")
