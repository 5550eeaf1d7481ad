"""Indexing that accumulates: one operation for each value that is added. Plain indexing is free.

Source: the definitions. Each value is added to a value that the output already holds, so n values cost n operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import is_float, real_numbers, real_parts
from pytest_flopsbudget.counting.costs.elementwise import operations, scaling
from pytest_flopsbudget.counting.costs.indexing_traffic import indexed_elements
from pytest_flopsbudget.counting.costs.registry import other_formula
from pytest_flopsbudget.counting.torch_private import values_of

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


@other_formula("aten.index_add", "aten.index_reduce", "aten.scatter_add", "aten.scatter_reduce")
def _from_source(call: Call) -> int:
    """Count one operation for each source value, which is combined with a value of the output.

    The products with ``alpha`` and the divisions of a mean are counted too.
    """
    source = call.tensor("source", "src")
    if not is_float(source):
        return 0
    count = call.tensor("index").numel() if call.name.startswith("aten.scatter") else source.numel()
    scaled = scaling(call["alpha"], complex_numbers=source.is_complex()) if "alpha" in call.names else 0
    mean = call.first_output.numel() if "reduce" in call.names and call["reduce"] == "mean" else 0
    return (real_parts(source) + scaled) * count + mean


@other_formula("aten.scatter")
def _scatter(call: Call) -> int:
    """Count one sum or product for each scattered value. Return 0 if the call passes no ``reduce``."""
    if "reduce" not in call.names or call["reduce"] is None:
        return 0
    target = call.tensor("self")
    name = "mul" if call["reduce"] == "multiply" else "add"
    return is_float(target) * operations(name, complex_numbers=target.is_complex()) * call.tensor("index").numel()


@other_formula(
    *("aten.index_put", "aten._index_put_impl", "aten._unsafe_index_put", "prims._unsafe_index_put", "aten.put")
)
def _put(call: Call) -> int:
    """Count one sum for each written value if ``accumulate`` is true. Otherwise, return 0."""
    target = call.tensor("self")
    if not call["accumulate"]:
        return 0
    if call.name.rstrip("_") == "aten.put":
        return real_parts(target) * call.tensor("index").numel()
    return real_parts(target) * indexed_elements(target, call["indices"])


@other_formula("aten._unsafe_masked_index_put_accumulate")
def _masked_put(call: Call) -> int:
    return real_numbers(call.tensor("values"))


@other_formula(
    *(f"aten.{kind}_pad{dims}d_backward" for kind in ("reflection", "replication") for dims in (1, 2, 3)),
    "aten.unfold_backward",
)
def _of_the_gradient(call: Call) -> int:
    """Count one sum for each value of the output's gradient: the value is added to an input's gradient."""
    return real_numbers(call.tensor("grad_output", "grad_in"))


@other_formula("aten.embedding_dense_backward")
def _embedding_backward(call: Call) -> int:
    """Count one sum for each value of the output's gradient.

    ``scale_grad_by_freq`` adds one division for each value.
    """
    return (2 if call["scale_grad_by_freq"] else 1) * call.tensor("grad_output").numel()


@other_formula("aten.col2im")
def _col2im(call: Call) -> int:
    """Count one sum for each value of the columns, because each value is added to one pixel."""
    return real_numbers(call.tensor("self"))


_MEAN, _MAX = 1, 2


@other_formula("aten._embedding_bag", "aten._embedding_bag_forward_only")
def _embedding_bag(call: Call) -> int:
    """Count the operations that combine the looked-up rows of each bag."""
    width = call.tensor("weight").shape[-1]
    count = call.tensor("indices").numel() * width
    weighted = count if call["per_sample_weights"] is not None else 0
    return count + weighted + (call.first_output.numel() if call["mode"] == _MEAN else 0)


@other_formula("aten._embedding_bag_backward", "aten._embedding_bag_dense_backward")
def _embedding_bag_backward(call: Call) -> int:
    """Count the operations of the gradient of the weight.

    The gradient of each bag is added to the gradient of each row in the bag.
    """
    gradient = call.tensor("grad")
    if call["mode"] == _MAX:  # each value is added to the gradient of one row only
        return gradient.numel()
    count = call.tensor("indices").numel() * gradient.shape[-1]
    factors = (call["per_sample_weights"] is not None) + int(call["mode"] == _MEAN) + bool(call["scale_grad_by_freq"])
    return (1 + factors) * count


@other_formula("aten._embedding_bag_per_sample_weights_backward")
def _embedding_bag_weights_backward(call: Call) -> int:
    """Count one dot product for each index: the row at this index times the gradient of its bag."""
    width = call.tensor("grad").shape[-1]
    # ``width`` products, and ``width`` - 1 sums
    return max(2 * width - 1, 0) * call.tensor("indices").numel()


@other_formula("aten._coalesce")
def _coalesce(call: Call) -> int:
    """Count one sum for each stored value, because values with equal indices are added.

    This is an upper bound, because the number of values with equal indices depends on data.
    """
    return real_numbers(values_of(call.tensor("self")))
