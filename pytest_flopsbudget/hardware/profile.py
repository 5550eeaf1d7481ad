"""The profile of a device: the most that it can compute and move in a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


#: The dtypes for which profiles hold rates. "tfloat32" is FP32 with products in TF32, as PyTorch lets cuDNN compute
#: convolutions and recurrent layers unless it is told otherwise, and matrix products only where it is told to.
DTYPES = ("float64", "float32", "tfloat32", "bfloat16", "float16", "float8", "int8")

#: dtype without a rate of its own → those that it may be computed in instead, of which the fastest counts. What no
#: device computes natively is converted first, and never takes less time for it.
_INSTEAD: Mapping[str, tuple[str, ...]] = {
    "float64": ("float32",),
    "tfloat32": ("float32",),
    "bfloat16": ("float16", "float32"),
    "float16": ("bfloat16", "float32"),
    "float8": ("float16", "bfloat16", "float32"),
    "int8": ("float16", "bfloat16", "float32"),
}
#: How a dtype's name begins → the dtype whose rate it has. A complex number is computed as two real ones.
_KINDS: Mapping[str, str] = {
    "float8": "float8",
    "qint8": "int8",
    "quint8": "int8",
    "uint8": "int8",
    "complex128": "float64",
    "complex64": "float32",
    "complex32": "float16",
}


@dataclass(frozen=True, slots=True)
class Device:
    """What a device can do at best, so that no work takes less time on it than follows from this.

    Rates are published peaks, without sparsity, at PyTorch's default precision: products of halves are summed up in
    FP32, and products in FP32 are computed in FP32 unless they are asked for as "tfloat32".
    """

    #: As it is written in the pyproject and in reports: "A100", "raspberry-pi-5".
    name: str
    #: dtype → FLOPs a second in matrix products and convolutions (for integers, operations).
    rates: Mapping[str, int]
    #: dtype → FLOPs a second in everything else, which matrix units cannot do. There is no TF32 in it.
    vector_rates: Mapping[str, int]
    #: Bytes a second between the device's memory and its cores.
    bandwidth: int
    #: Bytes of memory, the most that it is sold with; None where a profile does not say.
    memory: int | None
    #: Nanoseconds that pass for every operator beside its work.
    launch: int
    #: What drivers and operating systems call it: words that stand in the name, at its end where they end in "$".
    names: tuple[str, ...] = ()
    #: Where the figures are from, one text a source: "rates of products, bandwidth: NVIDIA A100 data sheet, 2021".
    sources: tuple[str, ...] = ()

    def __hash__(self) -> int:
        """By the name, which no two devices share."""
        return hash(self.name)

    def rate(self, dtype: str) -> int:
        """The most FLOPs a second in products of ``dtype``, written as PyTorch does: "float32", "float8_e4m3fn".

        A dtype without a rate of its own has the fastest of those that it may be computed in, or of all.
        """
        return _rate(self.rates, dtype)

    def vector_rate(self, dtype: str) -> int:
        """The same for all work besides products. A profile without such rates has none but those of products."""
        return _rate(self.vector_rates or self.rates, dtype)


def _rate(rates: Mapping[str, int], dtype: str) -> int:
    own = rates.get(dtype)
    if own is not None:
        return own
    kind = next((kind for start, kind in _KINDS.items() if dtype.startswith(start)), dtype)
    if kind in rates:
        return rates[kind]
    instead = [rates[other] for other in _INSTEAD.get(kind, ()) if other in rates]
    return max(instead or rates.values())
