"""Indexing that accumulates: one operation for each value that is added. Plain indexing is free.

Source: the definitions. Sums begin at what the output holds, so n values are n operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import elements, is_float, real_parts
from pytest_flopsbudget.counting.costs.elementwise import operations, scaling
from pytest_flopsbudget.counting.costs.indexing_traffic import indexed_elements
from pytest_flopsbudget.counting.costs.registry import other_formula
from pytest_flopsbudget.counting.torch_private import values_of

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


@other_formula("aten.index_add", "aten.index_reduce", "aten.scatter_add", "aten.scatter_reduce")
def _from_source(call: Call) -> int:
    """Of every value one; alpha scales each before, a mean divides every element of the output after."""
    source = call.tensor("source", "src")
    if not is_float(source):
        return 0
    count = call.tensor("index").numel() if call.name.startswith("aten.scatter") else source.numel()
    scaled = scaling(call["alpha"], complex_numbers=source.is_complex()) if "alpha" in call.names else 0
    mean = call.first_output.numel() if "reduce" in call.names and call["reduce"] == "mean" else 0
    return (real_parts(source) + scaled) * count + mean


@other_formula("aten.scatter")
def _scatter(call: Call) -> int:
    """Free, but with ``reduce``: a sum or a product for each value."""
    if "reduce" not in call.names or call["reduce"] is None:
        return 0
    target = call.tensor("self")
    name = "mul" if call["reduce"] == "multiply" else "add"
    return is_float(target) * operations(name, complex_numbers=target.is_complex()) * call.tensor("index").numel()


@other_formula("aten.index_put", "aten._index_put_impl", "aten._unsafe_index_put", "aten.put")
def _put(call: Call) -> int:
    """Free, but with ``accumulate``."""
    target = call.tensor("self")
    if not call["accumulate"]:
        return 0
    if call.name.rstrip("_") == "aten.put":
        return real_parts(target) * call.tensor("index").numel()
    return real_parts(target) * indexed_elements(target, call["indices"])


@other_formula("aten._unsafe_masked_index_put_accumulate")
def _masked_put(call: Call) -> int:
    values = call.tensor("values")
    return real_parts(values) * elements([values])


@other_formula(
    *(f"aten.{kind}_pad{dims}d_backward" for kind in ("reflection", "replication") for dims in (1, 2, 3)),
    "aten.unfold_backward",
)
def _of_the_gradient(call: Call) -> int:
    """Every value of the gradient is added to the place that it came from."""
    gradient = call.tensor("grad_output", "grad_in")
    return real_parts(gradient) * gradient.numel()


@other_formula("aten.embedding_dense_backward")
def _embedding_backward(call: Call) -> int:
    """Every value of the gradient is added to its row, divided before by how often the row was looked up if asked."""
    return (2 if call["scale_grad_by_freq"] else 1) * call.tensor("grad_output").numel()


@other_formula("aten.col2im")
def _col2im(call: Call) -> int:
    """Every value of the columns is added to its pixel."""
    return real_parts(call.tensor("self")) * elements([call.tensor("self")])


_MEAN, _MAX = 1, 2


@other_formula("aten._embedding_bag", "aten._embedding_bag_forward_only")
def _embedding_bag(call: Call) -> int:
    """Each row that is looked up is added (or compared) to its bag, after its weight; a mean divides each bag."""
    width = call.tensor("weight").shape[-1]
    count = call.tensor("indices").numel() * width
    weighted = count if call["per_sample_weights"] is not None else 0
    return count + weighted + (call.first_output.numel() if call["mode"] == _MEAN else 0)


@other_formula("aten._embedding_bag_backward", "aten._embedding_bag_dense_backward")
def _embedding_bag_backward(call: Call) -> int:
    """Each row that was looked up is given its bag's gradient, weighted or divided as it was.

    A maximum gives each value of the gradient to the one row that it came from.
    """
    gradient = call.tensor("grad")
    if call["mode"] == _MAX:
        return gradient.numel()
    count = call.tensor("indices").numel() * gradient.shape[-1]
    factors = (call["per_sample_weights"] is not None) + int(call["mode"] == _MEAN) + bool(call["scale_grad_by_freq"])
    return (1 + factors) * count


@other_formula("aten._embedding_bag_per_sample_weights_backward")
def _embedding_bag_weights_backward(call: Call) -> int:
    """For each row the product, element by element, of itself and its bag's gradient, summed."""
    width = call.tensor("grad").shape[-1]
    return max(2 * width - 1, 0) * call.tensor("indices").numel()


@other_formula("aten._coalesce")
def _coalesce(call: Call) -> int:
    """Values of one place are added up: at most all but one are."""
    values = values_of(call.tensor("self"))
    return real_parts(values) * elements([values])
