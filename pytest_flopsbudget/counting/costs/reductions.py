"""Sums, means, extremes and sorting. A reduction of n values to one value costs at least n - 1 operations.

Sorting n values costs n · log2 n comparisons, as in XLA's `HloCostAnalysis::HandleSort`. Finding the k largest of n
values costs n · log2 k, with a heap of k values (Knuth, "The Art of Computer Programming", vol. 3, §5.2.3). Two things
are free: selecting a value without comparisons, and every reduction of integers or booleans.

Sources: the definitions of the operators, and the two sources named above.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.costs.elementary import elements, is_float, real_parts, reduction
from pytest_flopsbudget.counting.costs.elementwise import operations
from pytest_flopsbudget.counting.costs.registry import other_formula
from pytest_flopsbudget.counting.tensors.metadata import tensors_in

if TYPE_CHECKING:
    import torch

    from pytest_flopsbudget.counting.costs.registry import Call


def _inputs(call: Call) -> torch.Tensor:
    return next(tensors_in(call.args))


def _folds(call: Call) -> int:
    """Return the number of operations of a reduction: n - 1 for each output element that is reduced from n values."""
    return max(_inputs(call).numel() - call.first_output.numel(), 0)


@other_formula(
    *(
        f"aten.{name}"
        for name in [
            "_sparse_csr_sum",
            "_sparse_sum",
            "amax",
            "amin",
            "argmax",
            "argmin",
            "max",
            "min",
            "trace",
        ]
    )
)
def _one_pass(call: Call) -> int:
    """Count n - 1 operations for n values. `max` and `min` of two tensors cost 1 per element."""
    if "other" in call.names:
        return real_parts(_inputs(call)) * call.first_output.numel()
    if call.name == "aten.trace":
        return real_parts(_inputs(call)) * max(min(_inputs(call).shape) - 1, 0)
    return reduction(call)


@other_formula("aten.sum")
def _total(call: Call) -> int:
    """Count n - 1 sums for n values, in the dtype of the output."""
    return real_parts(call.first_output) * _folds(call)


@other_formula("aten.prod", "aten._sparse_csr_prod")
def _product(call: Call) -> int:
    """Count n - 1 products for n values, in the dtype of the output."""
    output = call.first_output
    return is_float(output) * operations("mul", complex_numbers=output.is_complex()) * _folds(call)


@other_formula("aten.nansum")
def _sum_of_numbers(call: Call) -> int:
    """Count one test for NaN per value, and n - 1 sums for n values."""
    return real_parts(call.first_output) * (_inputs(call).numel() + _folds(call))


@other_formula("aten.all", "aten.any", "aten.count_nonzero")
def _truths(call: Call) -> int:
    """Count one comparison with 0 per value. All other operations are on integers or booleans, which are free."""
    inputs = _inputs(call)
    return real_parts(inputs) * inputs.numel()


@other_formula("aten.segment_reduce")
def _segments(call: Call) -> int:
    """Count n - 1 operations per segment of n values. A mean adds one division per segment."""
    return reduction(call) + (elements([call.first_output]) if call["reduce"] == "mean" else 0)


@other_formula("aten.mean")
def _mean(call: Call) -> int:
    """Count n - 1 sums and one division for a mean of n values, in the dtype of the output."""
    return real_parts(call.first_output) * (_folds(call) + call.first_output.numel())


@other_formula("aten.aminmax", "aten._aminmax")
def _extremes(call: Call) -> int:
    return 2 * reduction(call)


@other_formula("aten.var", "aten.var_mean")
def _variance(call: Call) -> int:
    """Count 4 operations per real value: for the mean, the difference, its square, and the mean of the squares."""
    inputs = _inputs(call)
    # complex: the mean 2, the differences 2, a square 3 (2 products, 1 sum), the mean of real squares 1
    return (2 + 2 + 3 + 1 if inputs.is_complex() else 4) * inputs.numel() * is_float(inputs)


@other_formula("aten.std", "aten.std_mean")
def _deviation(call: Call) -> int:
    """Count the operations of the variance and of its square root."""
    return _variance(call) + call.first_output.numel()


def norm_operations(count: int, outputs: int, order: Any, *, complex_numbers: bool = False, root: bool = True) -> int:
    """Return the number of operations of ``outputs`` norms, which together read ``count`` values.

    A norm is the root of a sum of powers of absolute values. The ``order`` p decides which operations are needed:

    - p = 2: squares, sums, one root.
    - p = 1, ∞ or -∞: absolute values, then sums (p = 1) or extremes.
    - p = 0: comparisons with 0, and sums.
    - Any other p: absolute values, powers, sums, one root.

    For a complex z, |z|² needs 2 products and 1 sum, and |z| needs a root in addition.
    """
    sums = max(count - outputs, 0)
    if order == 0:
        return (2 if complex_numbers else 1) * count + sums
    if order == 2:  # noqa: PLR2004 -- Euclid's
        return (3 if complex_numbers else 1) * count + sums + (outputs if root else 0)
    magnitudes = (4 if complex_numbers else 1) * count
    if order in (1, float("inf"), float("-inf")):
        return magnitudes + sums
    return magnitudes + count + sums + (outputs if root else 0)


@other_formula("aten.linalg_vector_norm", "aten.norm", "aten.linalg__powsum")
def _norm(call: Call) -> int:
    """Count the operations of the norm. `linalg__powsum` computes no root."""
    inputs = _inputs(call)
    order = call["ord"] if "ord" in call.names else call["p"] if "p" in call.names else 2
    return norm_operations(
        inputs.numel(),
        call.first_output.numel(),
        2 if order is None else order,
        complex_numbers=inputs.is_complex(),
        root=call.name != "aten.linalg__powsum",
    )


@other_formula("aten.logsumexp")
def _logsumexp(call: Call) -> int:
    """Count the operations in m + log(Σ exp(x - m)), where m is the maximum of x."""
    inputs = _inputs(call)
    outputs = call.first_output.numel()
    return real_parts(call.first_output) * (2 * max(inputs.numel() - outputs, 0) + 2 * inputs.numel() + 2 * outputs)


@other_formula("aten._logcumsumexp", "aten.logcumsumexp")
def _logcumsumexp(call: Call) -> int:
    """Count 4 operations for every step. A step computes log(exp(a) + exp(b))."""
    return 4 * real_parts(_inputs(call)) * _steps(call)


@other_formula("aten.cummax", "aten.cummin", "aten._cummax_helper", "aten._cummin_helper")
def _running(call: Call) -> int:
    return real_parts(_inputs(call)) * _steps(call)


@other_formula("aten.cumsum")
def _running_sum(call: Call) -> int:
    """Count one sum for each step of a running sum, in the dtype of the output."""
    return real_parts(call.first_output) * _steps(call)


@other_formula("aten.cumprod")
def _running_product(call: Call) -> int:
    output = call.first_output
    return is_float(output) * operations("mul", complex_numbers=output.is_complex()) * _steps(call)


def _steps(call: Call) -> int:
    """Return the number of steps of a running sum: n - 1 for n values along ``dim``."""
    inputs = call.tensor("self")
    return _neighbours(inputs, inputs.shape[call["dim"]] if inputs.ndim else 1)


def _comparisons(count: int) -> int:
    """Return log2 of ``count``, rounded up: the comparisons that find one value among ``count`` values."""
    return (count - 1).bit_length() if count > 0 else 0


@other_formula("aten.sort", "aten.median", "aten.nanmedian", "aten.mode", "aten.kthvalue")
def _sort(call: Call) -> int:
    """Count the comparisons of a sort along ``dim``, or of all values if the call gives no ``dim``."""
    inputs = call.tensor("self")
    along_one = "dim" in call.names and inputs.ndim
    size = inputs.shape[call["dim"]] if along_one else inputs.numel()
    return is_float(inputs) * inputs.numel() * _comparisons(size)


@other_formula("aten._unique", "aten._unique2", "aten.unique_dim")
def _unique(call: Call) -> int:
    """Count the comparisons of a sort, and one comparison of each value with the value before it."""
    inputs = call.tensor("self")
    size = inputs.shape[call["dim"]] if "dim" in call.names else inputs.numel()
    return is_float(inputs) * (inputs.numel() * _comparisons(size) + _neighbours(inputs, size))


@other_formula("aten.unique_consecutive", "aten.unique_dim_consecutive")
def _unique_consecutive(call: Call) -> int:
    """Count one comparison of each value with the value before it."""
    inputs = call.tensor("self")
    dim = call["dim"]
    return is_float(inputs) * _neighbours(inputs, inputs.numel() if dim is None else inputs.shape[dim])


def _neighbours(inputs: torch.Tensor, size: int) -> int:
    """Return the number of pairs of values that are next to each other along a dimension of size ``size``."""
    return inputs.numel() - inputs.numel() // size if size else 0


@other_formula("aten.topk")
def _topk(call: Call) -> int:
    """Count n · log2 k comparisons, which a heap of k values needs.

    For k = 1, count one comparison per value. For k = 0, return 0.
    """
    inputs = call.tensor("self")
    count = call["k"]
    return is_float(inputs) * inputs.numel() * (max(_comparisons(count), 1) if count else 0)


@other_formula("aten.searchsorted", "aten.bucketize")
def _search(call: Call) -> int:
    """Count the comparisons of a binary search among the boundaries, for each value."""
    boundaries = call.tensor("sorted_sequence", "boundaries")
    values = call["self"]
    count = values.numel() if hasattr(values, "numel") else 1
    return is_float(boundaries) * count * _comparisons(boundaries.shape[-1] + 1)


@other_formula("aten.isin")
def _is_in(call: Call) -> int:
    """Count the comparisons of a sort of the test values, and of a binary search for each looked-up value."""
    values, wanted = (call[name] for name in call.names if name in _OPERANDS_OF_ISIN)
    count = wanted.numel() if hasattr(wanted, "numel") else 1
    several = values.numel() if hasattr(values, "numel") else 1
    floats = any(map(is_float, tensors_in(call.args)))
    return floats * (count * _comparisons(count) + several * _comparisons(count + 1))


_OPERANDS_OF_ISIN = frozenset({"elements", "element", "test_elements", "test_element"})


@other_formula("aten._segment_reduce_backward")
def _segment_reduce_backward(call: Call) -> int:
    """Count one product or quotient for each value of the input."""
    return elements([call.first_output])
