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
    """Count the operations that combine source values with the output, for example one sum for each value.

    Each value costs one operation, and one product if ``alpha`` scales it. A mean adds one division per output element.
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
    """Count one sum or product for each scattered value if ``reduce`` is given.

    Without ``reduce``, the operator only copies the values, which is free.
    """
    if "reduce" not in call.names or call["reduce"] is None:
        return 0
    target = call.tensor("self")
    name = "mul" if call["reduce"] == "multiply" else "add"
    return is_float(target) * operations(name, complex_numbers=target.is_complex()) * call.tensor("index").numel()


@other_formula(
    *("aten.index_put", "aten._index_put_impl", "aten._unsafe_index_put", "prims._unsafe_index_put", "aten.put")
)
def _put(call: Call) -> int:
    """Count one sum for each value that is written if ``accumulate`` is set.

    Without ``accumulate``, the operator only copies the values, which is free.
    """
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
    """Count one sum for each value of the output's gradient, which is added to the gradient of one input element."""
    return real_numbers(call.tensor("grad_output", "grad_in"))


@other_formula("aten.embedding_dense_backward")
def _embedding_backward(call: Call) -> int:
    """Count one sum for each value of the output's gradient.

    With ``scale_grad_by_freq``, each value is also divided by the number of times that its row was looked up. This adds
    one division for each value.
    """
    return (2 if call["scale_grad_by_freq"] else 1) * call.tensor("grad_output").numel()


@other_formula("aten.col2im")
def _col2im(call: Call) -> int:
    """Count one sum for each value of the columns, because each value is added to one pixel."""
    return real_numbers(call.tensor("self"))


_MEAN, _MAX = 1, 2


@other_formula("aten._embedding_bag", "aten._embedding_bag_forward_only")
def _embedding_bag(call: Call) -> int:
    """Count one operation for each element of each looked-up row, to combine the row with the other rows of its bag.

    The operation is an addition, or a comparison if the bag is a maximum. If there are weights per sample, each element
    also costs one product. A mean adds one division per output element.
    """
    width = call.tensor("weight").shape[-1]
    count = call.tensor("indices").numel() * width
    weighted = count if call["per_sample_weights"] is not None else 0
    return count + weighted + (call.first_output.numel() if call["mode"] == _MEAN else 0)


@other_formula("aten._embedding_bag_backward", "aten._embedding_bag_dense_backward")
def _embedding_bag_backward(call: Call) -> int:
    """Count the gradient of the weight: the gradient of each bag is added to the gradient of each row in the bag.

    Each value that is added costs one sum, and one product or quotient for each factor. There are up to three factors:
    the weight per sample, the size of the bag (for a mean), and the frequency of the row. If the bag is a maximum,
    there are no factors, and each value of a bag's gradient is added to one row only.
    """
    gradient = call.tensor("grad")
    if call["mode"] == _MAX:
        return gradient.numel()
    count = call.tensor("indices").numel() * gradient.shape[-1]
    factors = (call["per_sample_weights"] is not None) + int(call["mode"] == _MEAN) + bool(call["scale_grad_by_freq"])
    return (1 + factors) * count


@other_formula("aten._embedding_bag_per_sample_weights_backward")
def _embedding_bag_weights_backward(call: Call) -> int:
    """Count the gradients of the weights per sample. Each is the dot product of a row and the gradient of its bag.

    For n columns, one dot product costs n products and n - 1 sums.
    """
    width = call.tensor("grad").shape[-1]
    return max(2 * width - 1, 0) * call.tensor("indices").numel()


@other_formula("aten._coalesce")
def _coalesce(call: Call) -> int:
    """Count one sum for each stored value, because values with equal indices are added.

    This is an upper bound, because the number of values with equal indices depends on data.
    """
    return real_numbers(values_of(call.tensor("self")))
