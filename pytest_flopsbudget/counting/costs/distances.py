"""Distances, cross products and histograms, counted from their definitions.

The p-norm of a difference of n components needs n subtractions, one term for each component, n - 1 additions and one
root. This definition is counted even if PyTorch computes the distance in another way. (For many points, PyTorch expands
the square into a matrix product.)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.costs.elementary import is_float, real_numbers, real_parts
from pytest_flopsbudget.counting.costs.registry import other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call

#: p → number of operations on each component x. For p = 0, this is the test x ≠ 0; for 1 and ±∞, |x|; for 2, x².
_TERMS = {0.0: 1, 1.0: 1, 2.0: 1, math.inf: 1, -math.inf: 1}
#: Number of operations on each component for any other p: |x|, and its power.
_OTHER_TERMS = 2
_WITHOUT_ROOT = frozenset({0.0, 1.0, math.inf, -math.inf})

#: p → (operations per component, operations per pair) for the gradient of a distance. Here d = x - y, g is the gradient
#: of the distance, and each sum is over pairs of points.
#:
#: - p = 1: per component, compute d, its sign, the product with g, and the sum.
#: - p = 2: per component, compute d, the product with g/distance, and the sum; per pair, the quotient g/distance.
#: - p = ∞: per component, compute d, |d|, the test whether |d| is the largest, the sign of d, the product with g, and
#:   the sum.
_GRADIENTS = {0.0: (0, 0), 1.0: (4, 0), 2.0: (3, 1), math.inf: (6, 0)}
#: Any other p: per component, compute d, |d|, the power p - 1 of |d|, the sign of d, the product of power and sign, the
#: product with g/distance^(p-1), and the sum; per pair, the power of the distance and the quotient.
_OTHER_GRADIENTS = (7, 2)


def norm_terms(p: float) -> int:
    """Return the number of operations that compute the term of one component x in a p-norm.

    For p = 2, the term is x², which costs one operation.
    """
    return _TERMS.get(p, _OTHER_TERMS)


def p_norm(p: float, components: int) -> int:
    """Return the number of operations of a p-norm of one vector.

    For n components, they are n terms, n - 1 additions or maxima, and the root if p needs one.
    """
    if components == 0:
        return 0
    return (norm_terms(p) + 1) * components - (p in _WITHOUT_ROOT)


def _distance(p: float, components: int) -> int:
    return components + p_norm(p, components)


@other_formula("aten._cdist_forward", "aten._euclidean_dist", "aten._pdist_forward")
def _distances(call: Call) -> int:
    """Count the operations of the distance of each pair of points.

    `cdist` of (…, p, m) and (…, r, m) has p·r pairs of rows. `pdist` of n rows has n(n - 1)/2 pairs.
    """
    inputs = call.tensor("x1", "self")
    p = float(call["p"]) if "p" in call.names else 2.0
    return real_parts(inputs) * call.first_output.numel() * _distance(p, inputs.shape[-1])


@other_formula("aten._cdist_backward")
def _distances_backward(call: Call) -> int:
    """Count the operations of the gradients of the points in ``x1``.

    The gradient of one point is a sum over all points in the other tensor.
    """
    inputs = call.tensor("x1")
    per_component, per_pair = _GRADIENTS.get(float(call["p"]), _OTHER_GRADIENTS)
    return real_parts(inputs) * call.tensor("cdist").numel() * (per_component * inputs.shape[-1] + per_pair)


@other_formula("aten._pdist_backward")
def _pairwise_distances_backward(call: Call) -> int:
    """Count the operations of the gradients of all points.

    Each pair contributes to the gradients of both of its points.
    """
    inputs = call.tensor("self")
    per_component, per_pair = _GRADIENTS.get(float(call["p"]), _OTHER_GRADIENTS)
    both = per_component + bool(per_component)
    return real_parts(inputs) * call.tensor("pdist").numel() * (both * inputs.shape[-1] + per_pair)


@other_formula("aten.dist")
def _dist(call: Call) -> int:
    """Count the operations of the norm of a - b, for two tensors a and b that are broadcast to one shape."""
    left, right = call.tensor("self"), call.tensor("other")
    parts = max(real_parts(left), real_parts(right))
    return parts * _distance(float(call["p"]), torch.broadcast_shapes(left.shape, right.shape).numel())


@other_formula("aten.linalg_cross")
def _cross(call: Call) -> int:
    """Count two products and their difference for each component of the cross product."""
    return 3 * real_numbers(call.first_output)


#: Operations that find the bin of a value x: two comparisons with the ends of the range, (x - min) / width, and its
#: floor.
_EQUAL_BINS = 5


def _value_range(values: int) -> int:
    """Count the comparisons that find the smallest and the largest of ``values`` numbers."""
    return 2 * max(values - 1, 0)


def _search(edges: int) -> int:
    """Count the comparisons of a binary search among ``edges`` sorted edges."""
    return edges.bit_length()


def _density(bins: list[int]) -> int:
    """Count the operations that turn a histogram into a density. ``bins`` is the number of bins in each dimension."""
    cells = math.prod(bins)
    # the sum of all cells; the widths of the bins; each cell divided by the sum, and by its width in each dimension
    return max(cells - 1, 0) + sum(bins) + cells * (1 + len(bins))


@other_formula("aten.histc")
def _histc(call: Call) -> int:
    """Count the comparisons that find the bin of each value, and one addition per value.

    If ``min`` equals ``max``, the comparisons that find the smallest and the largest value are counted too.
    """
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
    """Count the comparisons that find the smallest and the largest coordinate in each dimension.

    If the call passes ``range``, return 0.
    """
    inputs = call.tensor("self")
    dimensions = inputs.shape[-1]
    return dimensions * _value_range(inputs.shape[:-1].numel()) if call["range"] is None else 0


@other_formula("aten._histogramdd_from_bin_cts")
def _histogram_by_counts(call: Call) -> int:
    """Count one search per dimension and one addition for each point. The bins have equal width."""
    points, dimensions = _points(call)
    work = points * (_EQUAL_BINS * dimensions + 1)
    if call["range"] is None:
        work += dimensions * _value_range(points)
    return work + (_density(list(call["bins"])) if call["density"] else 0)


@other_formula("aten._histogramdd_from_bin_tensors")
def _histogram_by_edges(call: Call) -> int:
    """Count one search per dimension and one addition for each point. The call gives the edges of the bins."""
    points, _ = _points(call)
    edges = [tensor.numel() for tensor in call["bins"]]
    work = points * (sum(map(_search, edges)) + 1)
    return work + (_density([count - 1 for count in edges]) if call["density"] else 0)


def _points(call: Call) -> tuple[int, int]:
    """Return the number of points, and the number of dimensions of each point."""
    *points, dimensions = call.tensor("self").shape
    return math.prod(points), dimensions


@other_formula("aten.bincount")
def _bincount(call: Call) -> int:
    """Count one addition for each weight. Without weights, the operator adds integers, which is free."""
    return call.tensor("self").numel() if is_float(call.first_output) else 0
