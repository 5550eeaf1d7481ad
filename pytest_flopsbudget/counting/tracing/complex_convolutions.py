"""Recognize convolutions of complex numbers, which PyTorch runs as three convolutions of real numbers.

PyTorch uses Gauss's trick: it computes (a + bi)(c + di) from ac, bd and (a + b)(c + d), with 3 real products instead of
4. But by definition a complex MAC counts 8 FLOPs, 2 for each of the products ac, bd, ad and bc. So the third
convolution counts twice, because it stands for ad and bc. It also counts twice in the backward pass. Only the output of
the third convolution counts as activations.

PyTorch runs the three real convolutions below autograd's composite operators, where no dispatch mode sees the complex
convolution. So they are recognized by their operands. The first convolution takes the real parts of two tensors. The
second takes the imaginary parts of the same tensors. The third takes two new tensors: the sums of the real and
imaginary parts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.counting.operators.work import Work
from pytest_flopsbudget.counting.tensors.storages import StorageTable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo

#: The maximum number of operators from one of the three convolutions to the next. Between them run the sums of the
#: parts of input, weight and bias, and composite operators that are seen under inference mode.
_NEAR = 8


class _Operand(NamedTuple):
    """Identifies an operand of a convolution. It holds no tensor, because that would keep the tensor alive."""

    storage: int
    offset: int
    shape: torch.Size
    stride: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> _Operand:
        return cls(tensor.untyped_storage()._cdata, int(tensor.storage_offset()), tensor.shape, tensor.stride())

    def is_followed_by(self, other: _Operand) -> bool:
        """Return whether this operand is the real part and ``other`` the imaginary part of one tensor."""
        return other == self._replace(offset=self.offset + 1) and not any(step % 2 for step in self.stride)


def _may_be_part(tensor: torch.Tensor) -> bool:
    """Return whether the last stride is even, as in the real or imaginary part of a complex tensor."""
    return tensor.layout is torch.strided and tensor.stride(-1) % 2 == 0


class ComplexConvolutions:
    """Follows the convolutions of one run, and counts the third convolution of each complex convolution twice."""

    def __init__(self) -> None:
        #: (number of the latest convolution's operator, its input, its weight, whether both were imaginary parts).
        self._latest: tuple[int, _Operand, _Operand, bool] | None = None
        #: The storages of the inputs of third convolutions.
        self._third: StorageTable[None] = StorageTable()
        #: Work of a third convolution → the work that counts for it.
        self._doubled: dict[Work, Work] = {}

    def counted(self, info: OperatorInfo, args: Sequence[Any], work: Work, number: int) -> Work:
        """Return the work that counts for a convolution or its backward pass.

        Args:
            info: the operator.
            args: the arguments of the operator.
            work: the work of the operator as a convolution of real numbers.
            number: the number of operators seen so far, including this one.
        """
        if info.name == "aten.convolution_backward":
            if not self._third or args[1].layout is not torch.strided:
                return work
            return self._twice(work) if args[1].untyped_storage()._cdata in self._third else work
        before = self._latest
        if not (before and before[-1]) and not _may_be_part(args[0]):  # nearly all convolutions of real numbers
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
            self._third.keep(args[0].untyped_storage(), None)
            # The first two convolutions counted one output each, but the complex convolution has only one output.
            return self._twice(work, activations=-work.activations)
        return work

    def _twice(self, work: Work, activations: int = 0) -> Work:
        known = self._doubled.get(work)
        if known is None:
            known = self._doubled[work] = Work(
                work.name,
                flops=2 * work.flops,
                other_flops=work.other_flops,
                activations=activations,
                bit_operations=2 * work.bit_operations,
                memory_traffic=work.memory_traffic,
                launches=work.launches,
                steps=work.steps,
                dtype=work.dtype,
            )
        return known
