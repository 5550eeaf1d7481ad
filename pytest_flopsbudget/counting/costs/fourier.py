"""Fourier transforms: 5·n·log2 n operations for n complex points, and half of that for n real points.

This is the convention by which FFTW reports speed. It is the cost of the radix-2 algorithm, and is used for every n. If
n is not a power of two, the result is rounded to the nearest integer. A transform in several dimensions has n = n1·n2·…
points, since the logarithms add up. The factor of a normalization is not counted, because FFTW does not count it.

Sources: Frigo and Johnson, "The Design and Implementation of FFTW3", 2005, for the convention; Cooley and Tukey, 1965,
for the algorithm.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call

_COMPLEX, _REAL = 5.0, 2.5


def _transforms(signal: torch.Tensor, dims: list[int], per_point: float) -> int:
    """Count one transform over the dimensions ``dims`` for each position in the other dimensions.

    A transform of n points costs ``per_point`` · n · log2 n operations.
    """
    points = math.prod(signal.shape[dim] for dim in dims)
    if points == 0:
        return 0
    return signal.numel() // points * round(per_point * points * math.log2(points))


@other_formula("aten._fft_c2c", "prims.fft_c2c")
def _complex_to_complex(call: Call) -> int:
    return _transforms(call.tensor("self"), call["dim"], _COMPLEX)


@other_formula("aten._fft_r2c", "prims.fft_r2c")
def _real_to_complex(call: Call) -> int:
    """Count the operations of a transform of real points. Their number is the size of the input."""
    return _transforms(call.tensor("self"), call["dim"], _REAL)


@other_formula("aten._fft_c2r", "prims.fft_c2r")
def _complex_to_real(call: Call) -> int:
    """Count the operations of a transform whose outputs are real numbers."""
    return _transforms(call.first_output, call["dim"], _REAL)
