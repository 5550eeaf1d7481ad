"""Elementwise operators on complex numbers cost as much as their definitions in real numbers."""

from __future__ import annotations

from types import MappingProxyType

import pytest
import torch
from definitions import (
    Tally,
    atan2,
    cos,
    exp,
    log,
    numbers,
    sin,
    sqrt,
)
from zoo import both

aten = torch.ops.aten


def complex_product(a, b, c, d):
    return a * c - b * d, a * d + b * c


def complex_quotient(a, b, c, d):
    square = c * c + d * d
    return (a * c + b * d) / square, (b * c - a * d) / square


def complex_exponential(a, b):
    e = exp(a)
    return e * cos(b), e * sin(b)


def complex_logarithm(a, b):
    return log(sqrt(a * a + b * b)), atan2(b, a)


def complex_sign(a, b):
    size = sqrt(a * a + b * b)
    return a / size, b / size


def complex_inverse(a, b):
    square = a * a + b * b
    return a / square, -b / square


def complex_inverse_times_two(a, b):
    square = a * a + b * b
    return 2 * a / square, -(2 * b) / square


class TestComplex:
    REAL, IMAGINARY = numbers(2, low=0.3, high=2.0)
    OTHER_REAL, OTHER_IMAGINARY = numbers(2, shape=(1, 5), low=0.3, high=2.0)

    UNARY = MappingProxyType(
        {
            "exp": (torch.exp, complex_exponential),
            "log": (torch.log, complex_logarithm),
            "sgn": (torch.sgn, complex_sign),
            "reciprocal": (torch.reciprocal, complex_inverse),
            "square": (torch.square, lambda a, b: complex_product(a, b, a, b)),
            "neg": (torch.neg, lambda a, b: (-a, -b)),
            "conj_physical": (torch.conj_physical, lambda a, b: (a, -b)),
            "by a number": (lambda z: z * 2, lambda a, b: (a * 2, b * 2)),
            "by a complex number": (
                lambda z: z * (2 + 3j),
                lambda a, b: (2 * a - 3 * b, 3 * a + 2 * b),
            ),
            "divided by a number": (lambda z: z / 2, lambda a, b: (a / 2, b / 2)),
            "a number divided by it": (
                lambda z: torch.tensor(2.0, dtype=torch.float64) / z,
                complex_inverse_times_two,
            ),
            "alpha": (lambda z: torch.add(z, z, alpha=2), lambda a, b: (a + 2 * a, b + 2 * b)),
        }
    )

    @pytest.mark.parametrize("case", UNARY)
    def test_unary(self, case):
        operator, definition = self.UNARY[case]
        tally = Tally()
        real, imaginary = definition(tally.numbers(self.REAL), tally.numbers(self.IMAGINARY))
        inputs = torch.complex(self.REAL, self.IMAGINARY)
        torch.testing.assert_close(operator(inputs), torch.complex(real.value, imaginary.value))
        assert both(operator, inputs).other_flops == tally.count

    BINARY = MappingProxyType(
        {
            "add": (torch.add, lambda a, b, c, d: (a + c, b + d)),
            "mul": (torch.mul, complex_product),
            "div": (torch.div, complex_quotient),
        }
    )

    @pytest.mark.parametrize("case", BINARY)
    def test_binary(self, case):
        """If an operand is broadcast, the definition is counted for each element of the result."""
        operator, definition = self.BINARY[case]
        tally = Tally()
        parts = (self.REAL, self.IMAGINARY, self.OTHER_REAL.expand(3, 5), self.OTHER_IMAGINARY.expand(3, 5))
        real, imaginary = definition(*map(tally.numbers, parts))
        operands = (
            torch.complex(self.REAL, self.IMAGINARY),
            torch.complex(self.OTHER_REAL, self.OTHER_IMAGINARY),
        )
        torch.testing.assert_close(operator(*operands), torch.complex(real.value, imaginary.value))
        assert both(operator, operands).other_flops == tally.count

    def test_ternary(self):
        # 2 FLOPs for a complex sum, 6 for a product, 11 for a quotient.
        z = torch.complex(self.REAL, self.IMAGINARY)
        assert both(torch.lerp, (z, z, z)).other_flops == (2 + 2 + 6) * 15
        assert both(torch.addcmul, (z, z, z)).other_flops == (6 + 2) * 15
        assert both(lambda *a: torch.addcdiv(*a, value=2), (z, z, z)).other_flops == (11 + 2 + 2) * 15

    def test_to_and_from_real_numbers(self):
        z = torch.complex(self.REAL, self.IMAGINARY)
        tally = Tally()
        a, b = tally.numbers(self.REAL), tally.numbers(self.IMAGINARY)
        torch.testing.assert_close(z.abs(), sqrt(a * a + b * b).value)
        assert both(torch.abs, z).other_flops == tally.count
        tally.count = 0
        real, imaginary = a * cos(b), a * sin(b)
        torch.testing.assert_close(torch.polar(self.REAL, self.IMAGINARY), torch.complex(real.value, imaginary.value))
        assert both(torch.polar, (self.REAL, self.IMAGINARY)).other_flops == tally.count
        assert both(torch.angle, z).other_flops == 15
