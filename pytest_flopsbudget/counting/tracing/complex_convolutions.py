"""Recognize convolutions of complex numbers, which PyTorch runs as three convolutions of real numbers.

With the trick of Gauss, PyTorch computes (a + bi)(c + di) from ac, bd and (a + b)(c + d): 3 real products instead of 4.
The trick is PyTorch's own choice, and a complex MAC counts 8 FLOPs by definition, as in all other products: 2 each for
ac and bd, and 4 for ad + bc, which the third product stands for. So the third convolution counts twice, forward and
backward. Its output is the output of the complex convolution; the outputs of the other two are no activations.

PyTorch runs the three below autograd's composite operators, where no dispatch mode sees the complex convolution. They
are recognized by their operands: first the real parts of two tensors, right afterwards the imaginary parts of the same
two, and then, after the sums of these parts, two new tensors of the same shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from pytest_flopsbudget.counting.operators.work import Work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo

#: The most operators from one of the three convolutions to the next: sums of the parts of input, weight and bias, and
#: the composite operators that are seen under inference mode.
_NEAR = 8


class _Operand(NamedTuple):
    """What tells an operand from others; it holds no tensor, which would be kept alive."""

    storage: int
    offset: int
    shape: torch.Size
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Operand:
        return cls(tensor.untyped_storage()._cdata, int(tensor.storage_offset()), tensor.shape, tensor.stride())

    def is_followed_by(self, other: _Operand) -> bool:
        """Return whether the two are the real and the imaginary part of one tensor."""
        return other == self._replace(offset=self.offset + 1) and not any(step % 2 for step in self.stride)


def _may_be_part(tensor: torch.Tensor) -> bool:
    """Return whether the tensor may be the real or the imaginary part of another one, whose steps are twice as long."""
    return tensor.layout is torch.strided and tensor.stride(-1) % 2 == 0


class ComplexConvolutions:
    """Follows the convolutions of one run, and counts the third one of each complex convolution twice."""

    def __init__(self) -> None:
        #: The number of the latest convolution's operator, its input and weight, and whether it had imaginary parts.
        self._latest: tuple[int, _Operand, _Operand, bool] | None = None
        #: `_cdata` of the inputs of third convolutions. The weak reference keeps the `_cdata` from being used again.
        self._third: dict[int, StorageWeakRef] = {}
        #: Work of a third convolution → work that counts.
        self._doubled: dict[Work, Work] = {}

    def counted(self, info: OperatorInfo, args: Sequence[Any], work: Work, number: int) -> Work:
        """Return the work that counts for a convolution or its backward pass.

        Args:
            info: the operator.
            args: its arguments.
            work: its work as a convolution of real numbers.
            number: the number of operators that were seen, with this one.
        """
        if info.name == "aten.convolution_backward":
            if not self._third or args[1].layout is not torch.strided:
                return work
            known = self._third.get(args[1].untyped_storage()._cdata)
            return work if known is None or known.expired() else self._twice(work)
        before = self._latest
        if not (before and before[-1]) and not _may_be_part(args[0]):  # as for nearly all convolutions of real numbers
            self._latest = None
            return work
        if any(operand.layout is not torch.strided for operand in args[:2]):
            return work
        images, weight = _Operand.of(args[0]), _Operand.of(args[1])
        if before is None:
            self._latest = number, images, weight, False
            return work
        since, images_before, weight_before, had_imaginary_parts = before
        follows = images_before.is_followed_by(images) and weight_before.is_followed_by(weight)
        self._latest = number, images, weight, follows and number - since <= _NEAR
        if (
            had_imaginary_parts
            and number - since <= _NEAR
            and (images.shape, weight.shape) == (images_before.shape, weight_before.shape)
            and images.storage != images_before.storage
            and weight.storage != weight_before.storage
        ):
            self._third[images.storage] = StorageWeakRef(args[0].untyped_storage())
            return self._twice(work, activations=-work.activations)
        return work

    def _twice(self, work: Work, activations: int = 0) -> Work:
        """Return the work with twice the FLOPs of its products."""
        known = self._doubled.get(work)
        if known is None:
            known = self._doubled[work] = Work(
                work.name,
                flops=2 * work.flops,
                other_flops=work.other_flops,
                activations=activations,
                memory_traffic=work.memory_traffic,
                launches=work.launches,
                steps=work.steps,
                dtype=work.dtype,
            )
        return known
