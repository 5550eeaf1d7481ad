"""Distances, cross products and histograms, from their definitions.

The p-norm of a difference of n components: subtract, take each one's term, sum up by n - 1 additions, take the root.
However PyTorch goes about it (for many points it expands the square into a matrix product), the count is that of the
definition.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.costs.elementary import is_float, real_parts
from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call

#: p → operations on each component: whether it is 0; |x|; x²; |x|. For other p: |x|, and its power.
_TERMS = {0.0: 1, 1.0: 1, 2.0: 1, math.inf: 1, -math.inf: 1}
_OTHER_TERMS = 2
_WITHOUT_ROOT = frozenset({0.0, 1.0, math.inf, -math.inf})

#: p → (per component, per pair) of the gradient of a distance, with d = x - y and the sum over pairs.
#: 1: d, its sign, times g, sum. 2: d, times (g/distance), sum; the quotient. ∞: d, |d|, whether it is the largest, its
#: sign, times g, sum.
_GRADIENTS = {0.0: (0, 0), 1.0: (4, 0), 2.0: (3, 1), math.inf: (6, 0)}
#: d, |d|, its power p - 1, sign of d, their product, times (g/distance^(p-1)), sum; the power and the quotient.
_OTHER_GRADIENTS = (7, 2)


def norm_terms(p: float) -> int:
    """Operations on each component, before the p-norm sums them up."""
    return _TERMS.get(p, _OTHER_TERMS)


def p_norm(p: float, components: int) -> int:
    """Operations of the p-norm of a vector: terms, n - 1 additions or maxima, and the root, where it has one."""
    if components == 0:
        return 0
    return (norm_terms(p) + 1) * components - (p in _WITHOUT_ROOT)


def _distance(p: float, components: int) -> int:
    return components + p_norm(p, components)


@other_formula("aten._cdist_forward", "aten._euclidean_dist")
def _distances(call: Call) -> int:
    """Rows (…, p, m) and (…, r, m): a distance for each of the p·r pairs."""
    inputs = call.tensor("x1")
    p = float(call["p"]) if "p" in call.names else 2.0
    return real_parts(inputs) * call.first_output.numel() * _distance(p, inputs.shape[-1])


@other_formula("aten._cdist_backward")
def _distances_backward(call: Call) -> int:
    """The gradient of the first points, each summed over the second ones."""
    inputs = call.tensor("x1")
    per_component, per_pair = _GRADIENTS.get(float(call["p"]), _OTHER_GRADIENTS)
    return real_parts(inputs) * call.tensor("cdist").numel() * (per_component * inputs.shape[-1] + per_pair)


@other_formula("aten._pdist_forward")
def _pairwise_distances(call: Call) -> int:
    """Rows (n, m): a distance for each of the n(n - 1)/2 pairs."""
    inputs = call.tensor("self")
    return real_parts(inputs) * call.first_output.numel() * _distance(float(call["p"]), inputs.shape[-1])


@other_formula("aten._pdist_backward")
def _pairwise_distances_backward(call: Call) -> int:
    """Count the gradients of two sets; each pair adds to the gradients of both of its points."""
    inputs = call.tensor("self")
    per_component, per_pair = _GRADIENTS.get(float(call["p"]), _OTHER_GRADIENTS)
    both = per_component + bool(per_component)
    return real_parts(inputs) * call.tensor("pdist").numel() * (both * inputs.shape[-1] + per_pair)


@other_formula("aten.dist")
def _dist(call: Call) -> int:
    """The norm of the difference of two tensors, which are broadcast."""
    left, right = call.tensor("self"), call.tensor("other")
    parts = max(real_parts(left), real_parts(right))
    return parts * _distance(float(call["p"]), torch.broadcast_shapes(left.shape, right.shape).numel())


@other_formula("aten.linalg_cross")
def _cross(call: Call) -> int:
    """Each component is the difference of two products."""
    output = call.first_output
    return 3 * real_parts(output) * output.numel()


#: Count the test whether a value is in range (two comparisons), then (x - min) / width and its floor.
_EQUAL_BINS = 5


def _value_range(values: int) -> int:
    """The least and the greatest value, where the caller gave no range."""
    return 2 * max(values - 1, 0)


def _search(edges: int) -> int:
    """Comparisons of a binary search among sorted edges."""
    return edges.bit_length()


def _density(bins: list[int]) -> int:
    """Counts → density: the sum of all, the bins' widths, and a quotient by the sum and by each width."""
    cells = math.prod(bins)
    return max(cells - 1, 0) + sum(bins) + cells * (1 + len(bins))


@other_formula("aten.histc")
def _histc(call: Call) -> int:
    """Bins of equal width between ``min`` and ``max``, or the values' own where both are 0; a count is 1 addition."""
    inputs = call.tensor("self")
    if not is_float(inputs):
        return 0
    values = inputs.numel()
    searched = _value_range(values) if call["min"] == call["max"] else 0
    return searched + values * (_EQUAL_BINS + 1)


@other_formula("aten.histogram")
def _histogram(call: Call) -> int:
    inputs, bins = call.tensor("self"), call["bins"]
    values = inputs.numel()
    if isinstance(bins, torch.Tensor):
        count = bins.numel() - 1
        work = values * (_search(bins.numel()) + 1)
    else:
        count = int(bins)
        work = values * (_EQUAL_BINS + 1) + (_value_range(values) if call["range"] is None else 0)
    return work + (_density([count]) if call["density"] else 0)


@other_formula("aten._histogramdd_bin_edges")
def _bin_edges(call: Call) -> int:
    """Points (…, dimensions): the range of each coordinate; edges at equal distances are made from nothing."""
    inputs = call.tensor("self")
    dimensions = inputs.shape[-1]
    return dimensions * _value_range(inputs.shape[:-1].numel()) if call["range"] is None else 0


@other_formula("aten._histogramdd_from_bin_cts")
def _histogram_by_counts(call: Call) -> int:
    """Points (…, dimensions): a bin of equal width along each, and one addition."""
    points, dimensions = _points(call)
    work = points * (_EQUAL_BINS * dimensions + 1)
    if call["range"] is None:
        work += dimensions * _value_range(points)
    return work + (_density(list(call["bins"])) if call["density"] else 0)


@other_formula("aten._histogramdd_from_bin_tensors")
def _histogram_by_edges(call: Call) -> int:
    """Points (…, dimensions): a search among the edges along each, and one addition."""
    points, _ = _points(call)
    edges = [tensor.numel() for tensor in call["bins"]]
    work = points * (sum(map(_search, edges)) + 1)
    return work + (_density([count - 1 for count in edges]) if call["density"] else 0)


def _points(call: Call) -> tuple[int, int]:
    *points, dimensions = call.tensor("self").shape
    return math.prod(points), dimensions


@other_formula("aten.bincount")
def _bincount(call: Call) -> int:
    """Counting is integers' work; weights are summed up as floating-point numbers."""
    return call.tensor("self").numel() if is_float(call.first_output) else 0
