"""The profile of a device: the peak rates at which it computes and moves bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


#: The dtypes for which profiles hold rates. "tfloat32" is FP32 with products in TF32. By default, PyTorch
#: allows TF32 in cuDNN's convolutions and recurrent layers, and not in matrix products.
DTYPES = ("float64", "float32", "tfloat32", "bfloat16", "float16", "float8", "float4", "int8")

#: dtype without a rate in a profile → other dtypes to compute in; the one with the fastest rate counts. Converting to
#: another dtype only adds time, so the estimate is still a lower bound.
_INSTEAD: Mapping[str, tuple[str, ...]] = {
    "float64": ("float32",),
    "tfloat32": ("float32",),
    "bfloat16": ("float16", "float32"),
    "float16": ("bfloat16", "float32"),
    "float8": ("float16", "bfloat16", "float32"),
    "float4": ("float8", "float16", "bfloat16", "float32"),
    "int8": ("float16", "bfloat16", "float32"),
}
#: Beginning of a dtype's name → the dtype whose rate applies. A complex number is computed as two real numbers.
_KINDS: Mapping[str, str] = {
    "float8": "float8",
    "float4": "float4",
    "qint8": "int8",
    "quint8": "int8",
    "uint8": "int8",
    "complex128": "float64",
    "complex64": "float32",
    "complex32": "float16",
}


@dataclass(frozen=True, slots=True)
class Device:
    """The peak rates of a device. Times that are computed from peak rates are lower bounds.

    Rates are published peaks without sparsity. Rates of half precision are for products that are summed in FP32, as
    PyTorch sums them by default. The rate of "float32" is without TF32, which has its own rate: "tfloat32".
    """

    #: The name in the pyproject and in reports: "A100", "raspberry-pi-5".
    name: str
    #: dtype → FLOPs per second in matrix products and convolutions. For integer dtypes: operations per second.
    rates: Mapping[str, int]
    #: dtype → FLOPs per second in all other work, which does not run on matrix units. TF32 does not occur here.
    vector_rates: Mapping[str, int]
    #: Bytes per second between the device's memory and its cores.
    bandwidth: int
    #: The bytes of memory of the largest variant that is sold; None if unknown.
    memory: int | None
    #: Nanoseconds that each operator takes in addition to its work.
    launch: int
    #: Words in the names by which drivers and systems report the device. A word with a final "$" must end the name.
    names: tuple[str, ...] = ()
    #: The sources of the figures, one text each: "rates of products, bandwidth: NVIDIA A100 data sheet, 2021".
    sources: tuple[str, ...] = ()

    def __hash__(self) -> int:
        """Return the hash of the device's name. The rates are mappings, which have no hash."""
        return hash(self.name)

    def rate(self, dtype: str) -> int:
        """Return the peak FLOPs per second of matrix products and convolutions in ``dtype``.

        If the profile has no rate for ``dtype``, values are assumed to be converted: the fastest rate of similar dtypes
        is returned, such as bfloat16 and float32 for float16. Without such rates, return the profile's fastest rate.

        Args:
            dtype: the dtype in PyTorch's spelling: "float32", "float8_e4m3fn".
        """
        return _rate(self.rates, dtype)

    def vector_rate(self, dtype: str) -> int:
        """Return the peak FLOPs per second of work other than products. If `vector_rates` is empty, `rates` applies."""
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
