"""Reductions, running sums, sorting and searches cost as much as plain loops."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from definitions import Tally, branch, elementary, exp, free, isnan, log, maximum, minimum, sqrt
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo import both, for_real, on_shapes

INFINITY = math.inf
few = settings(max_examples=15)


@st.composite
def reduced(draw, *, one=False):
    """Draw a tensor, the dimensions to reduce, and ``keepdim``. If ``one``, draw a single dimension."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    count = 1 if one else len(shape)
    dims = draw(st.lists(st.integers(0, len(shape) - 1), min_size=1, max_size=count, unique=True))
    keepdim = draw(st.booleans())
    generator = torch.Generator().manual_seed(draw(st.integers(0, 3)))
    values = torch.rand(shape, generator=generator, dtype=torch.float64) + 0.25
    negative = draw(st.booleans())
    return values, [dim - len(shape) if negative else dim for dim in dims], keepdim


def rows(x, dims):
    """Yield the slices of ``x`` that a reduction over ``dims`` combines."""
    positive = [dim % len(x.shape) for dim in dims]
    for index in itertools.product(*(range(x.shape[dim]) for dim in positive)):
        place = [slice(None)] * len(x.shape)
        for dim, position in zip(positive, index, strict=True):
            place[dim] = position
        yield x[tuple(place)]


def fold(function, slices):
    slices = list(slices)
    result = slices[0]
    for other in slices[1:]:
        result = function(result, other)
    return result


def total(slices):
    return fold(lambda a, b: a + b, slices)


def mean(slices):
    slices = list(slices)
    return elementary(torch.div, total(slices), len(slices))


def variance(slices):
    slices = list(slices)
    middle = mean(slices)
    differences = [one - middle for one in slices]
    return mean([one * one for one in differences])


def logsumexp(slices):
    slices = list(slices)
    greatest = fold(maximum, slices)
    return log(total(exp(one - greatest) for one in slices)) + greatest


def norm(slices, order):
    slices = list(slices)
    if order == 0:
        return total(elementary(lambda a: (a != 0).double(), one) for one in slices)
    if order == 2:
        return sqrt(total(one * one for one in slices))
    if abs(order) == INFINITY:
        return fold(maximum if order > 0 else minimum, (abs(one) for one in slices))
    return total(abs(one) ** order for one in slices) ** (1 / order)


REDUCTIONS = {
    "sum": (torch.sum, total),
    "mean": (torch.mean, mean),
    "amax": (torch.amax, lambda slices: fold(maximum, slices)),
    "amin": (torch.amin, lambda slices: fold(minimum, slices)),
    "nansum": (
        torch.nansum,
        lambda slices: total([branch(isnan(one), lambda: 0.0, lambda one=one: one) for one in slices]),
    ),
    "var": (lambda x, dims, keepdim: torch.var(x, dims, correction=0, keepdim=keepdim), variance),
    "std": (
        lambda x, dims, keepdim: torch.std(x, dims, correction=0, keepdim=keepdim),
        lambda slices: sqrt(variance(slices)),
    ),
    "logsumexp": (torch.logsumexp, logsumexp),
    **{
        f"norm {order}": (
            lambda x, dims, keepdim, order=order: torch.linalg.vector_norm(x, order, dims, keepdim),
            lambda slices, order=order: norm(slices, order),
        )
        for order in (0, 1, 2, 3, 0.5, INFINITY, -INFINITY)
    },
}


class TestOverDimensions:
    @pytest.mark.parametrize("case", REDUCTIONS)
    @few
    @given(given=reduced())
    def test_is_its_loop(self, case, given):
        """A reduction returns the values of a plain loop and costs the operations of this loop."""
        values, dims, keepdim = given
        operator, loop = REDUCTIONS[case]
        tally = Tally()
        expected = loop(rows(tally.numbers(values), dims))
        result = operator(values, dims, keepdim)
        torch.testing.assert_close(result.reshape(expected.shape), expected.value)
        assert both(lambda x: operator(x, dims, keepdim), values).other_flops == tally.count

    @few
    @given(given=reduced())
    def test_with_the_mean_beside_it(self, given):
        values, dims, keepdim = given
        tally = Tally()
        variance(rows(tally.numbers(values), dims))
        work = both(lambda x: torch.var_mean(x, dims, correction=0, keepdim=keepdim), values)
        assert work.other_flops == tally.count
        sqrt(tally.numbers(torch.sum(values, dims)))
        work = both(lambda x: torch.std_mean(x, dims, correction=0, keepdim=keepdim), values)
        assert work.other_flops == tally.count

    @pytest.mark.parametrize(
        ("operator", "loop"),
        [
            (torch.max, maximum),
            (torch.min, minimum),
            (torch.argmax, maximum),
            (torch.argmin, minimum),
            (torch.prod, lambda a, b: a * b),
        ],
    )
    @few
    @given(given=reduced(one=True))
    def test_over_one_dimension(self, operator, loop, given):
        """A reduction of n values costs n - 1 operations."""
        values, (dim,), keepdim = given
        tally = Tally()
        fold(loop, rows(tally.numbers(values), [dim]))
        assert both(lambda x: operator(x, dim, keepdim), values).other_flops == tally.count

    @few
    @given(given=reduced(one=True))
    def test_extremes(self, given):
        values, (dim,), keepdim = given
        tally = Tally()
        for function in (minimum, maximum):
            fold(function, rows(tally.numbers(values), [dim]))
        assert both(lambda x: torch.aminmax(x, dim=dim, keepdim=keepdim), values).other_flops == tally.count

    @pytest.mark.parametrize("operator", [torch.any, torch.all, torch.count_nonzero])
    @few
    @given(given=reduced(one=True))
    def test_truth(self, operator, given):
        """`any`, `all` and `count_nonzero` cost one comparison for each floating-point value."""
        values, (dim,), _ = given
        assert both(lambda x: operator(x, dim), values).other_flops == values.numel()
        assert both(lambda x: operator(x, dim), values > 1).other_flops == 0


#: Reductions over a whole tensor of 3 · 5 values, with their cost.
OVER_ALL = {
    "sum": (torch.sum, 14),
    "prod": (torch.prod, 14),
    "max": (torch.max, 14),
    "argmin": (torch.argmin, 14),
    "mean": (torch.mean, 15),
    "var": (torch.var, 60),
    "std": (torch.std, 61),
    "norm": (torch.linalg.vector_norm, 15 + 14 + 1),
    "Tensor.norm": (torch.Tensor.norm, 15 + 14 + 1),
    "trace": (torch.trace, 2),
    "any": (torch.any, 15),
}


class TestOverAll:
    @pytest.mark.parametrize("case", OVER_ALL)
    def test_without_a_dimension(self, case):
        operator, count = OVER_ALL[case]
        assert both(operator, torch.ones(3, 5)).other_flops == count

    def test_distance(self):
        # 15 differences, 15 squares, 14 sums and a root
        assert both(torch.dist, (torch.ones(3, 5), torch.zeros(3, 5))).other_flops == 15 + 15 + 14 + 1
        assert both(torch.dist, (torch.ones(3, 1), torch.zeros(1, 5))).other_flops == 15 + 15 + 14 + 1

    @pytest.mark.parametrize("operator", [torch.sum, torch.prod])
    def test_nothing(self, operator):
        assert both(operator, torch.ones(0, 5)).other_flops == 0
        assert both(lambda x: operator(x, 0), torch.ones(0, 5)).other_flops == 0

    @pytest.mark.parametrize("operator", [torch.sum, torch.prod, torch.mean, torch.max, torch.amax])
    def test_one_value(self, operator):
        """A reduction of one value is free, except for the division of a mean."""
        assert both(operator, torch.tensor(2.0)).other_flops == (operator is torch.mean)


class TestDtypes:
    @pytest.mark.parametrize("operator", [torch.sum, torch.prod, torch.amax, torch.argmax])
    @pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
    def test_integers_are_free(self, operator, dtype):
        if operator is torch.argmax and dtype is torch.bool:
            dtype = torch.int32
        assert both(operator, torch.ones(6, dtype=dtype)).other_flops == 0

    @pytest.mark.parametrize(
        ("operator", "count"), [(torch.sum, 5), (torch.prod, 5), (torch.mean, 6), (torch.nansum, 11)]
    )
    def test_integers_cast_first(self, operator, count):
        assert both(lambda x: operator(x, dtype=torch.float32), torch.arange(6)).other_flops == count
        assert both(lambda x: torch.cumsum(x, 0, dtype=torch.float32), torch.arange(6)).other_flops == 5

    def test_integers_become_floating_point_numbers(self):
        assert both(lambda x: torch.logsumexp(x, 0), torch.arange(6)).other_flops == 4 * 6

    def test_complex_numbers(self):
        # A complex sum costs 2, and a complex product costs 6. |z|² costs 2 products and a sum.
        z = torch.ones(6, dtype=torch.complex64)
        assert both(torch.sum, z).other_flops == 2 * 5
        assert both(torch.mean, z).other_flops == 2 * 5 + 2
        assert both(torch.prod, z).other_flops == 6 * 5
        assert both(lambda z: z.cumsum(0), z).other_flops == 2 * 5
        assert both(lambda z: z.cumprod(0), z).other_flops == 6 * 5
        assert both(torch.linalg.vector_norm, z).other_flops == 3 * 6 + 5 + 1
        assert both(lambda z: torch.linalg.vector_norm(z, 1), z).other_flops == 4 * 6 + 5
        # The mean costs 12, the differences 12, |z|² costs 18, and the mean of |z|² costs 6.
        assert both(torch.var, z).other_flops == 12 + 12 + 18 + 6


def running(function, x, dim):
    """Return the results of combining each value along ``dim`` with all values before it."""
    results = []
    for one in rows(x, [dim]):
        results.append(function(results[-1], one) if results else one)
    return free(lambda *values: torch.stack(values, dim % len(x.shape)), *results)


RUNNING = {
    "cumsum": (torch.cumsum, lambda a, b: a + b),
    "cumprod": (torch.cumprod, lambda a, b: a * b),
    "cummax": (lambda x, dim: torch.cummax(x, dim)[0], maximum),
    "cummin": (lambda x, dim: torch.cummin(x, dim)[0], minimum),
    "logcumsumexp": (torch.logcumsumexp, lambda a, b: log(exp(a) + exp(b))),
}


class TestRunning:
    @pytest.mark.parametrize("case", RUNNING)
    @few
    @given(given=reduced(one=True))
    def test_is_its_loop(self, case, given):
        values, (dim,), _ = given
        operator, function = RUNNING[case]
        tally = Tally()
        expected = running(function, tally.numbers(values), dim)
        torch.testing.assert_close(operator(values, dim), expected.value)
        assert both(lambda x: operator(x, dim), values).other_flops == tally.count

    def test_in_place(self):
        assert both(lambda x: x.clone().cumsum_(0), torch.ones(3, 5)).other_flops == 10

    def test_of_nothing(self):
        assert both(lambda x: torch.cumsum(x, 0), torch.ones(0, 5)).other_flops == 0
        assert both(lambda x: torch.cumsum(x, 0), torch.tensor(1.0)).other_flops == 0


def comparisons_of_merges(count):
    """Return an upper bound for the number of comparisons in a merge sort of ``count`` values."""
    comparisons, run = 0, 1
    while run < count:
        comparisons += count
        run *= 2
    return comparisons


def comparisons_of_a_heap(depth_of, count):
    """Return the number of comparisons for putting ``count`` values into a heap of ``depth_of`` values."""
    levels, nodes = 0, 1
    while nodes < depth_of:
        levels += 1
        nodes *= 2
    return count * max(levels, 1)


def comparisons_of_a_search(count):
    """Return the largest number of comparisons in a binary search among ``count`` values."""
    low, high, comparisons = 0, count, 0
    while low < high:
        comparisons += 1
        # Continue with the larger half. This is the half below the middle value, which is excluded.
        high = (low + high) // 2
    return comparisons


def merge_sort(values):
    """Return the sorted values and the number of comparisons."""
    if len(values) < 2:
        return values, 0
    middle = len(values) // 2
    (left, first), (right, second) = merge_sort(values[:middle]), merge_sort(values[middle:])
    merged, comparisons = [], first + second
    while left and right:
        comparisons += 1
        merged.append(left.pop(0) if left[0] <= right[0] else right.pop(0))
    return merged + left + right, comparisons


class TestOrder:
    @pytest.mark.parametrize(
        "operator",
        [
            torch.sort,
            lambda x, dim: torch.sort(x, dim=dim, descending=True, stable=True),
            torch.argsort,
            torch.median,
            torch.nanmedian,
            torch.mode,
            lambda x, dim: torch.kthvalue(x, 1, dim),
        ],
    )
    @few
    @given(given=reduced(one=True))
    def test_along_a_dimension(self, operator, given):
        """Sorting, a median, a mode or a k-th value costs one sort of each slice."""
        values, (dim,), _ = given
        size = values.shape[dim]
        expected = values.numel() // size * comparisons_of_merges(size)
        assert both(lambda x: operator(x, dim), values).other_flops == expected

    @few
    @given(values=st.lists(st.integers(0, 50), max_size=60))
    def test_a_real_sort_takes_no_more(self, values):
        """A sort is counted with at least as many comparisons as a real merge sort makes."""
        ordered, comparisons = merge_sort(values)
        assert ordered == sorted(values)
        measured = both(torch.sort, torch.tensor(values, dtype=torch.float32)).other_flops
        assert comparisons <= measured == comparisons_of_merges(len(values))

    def test_median_of_all(self):
        assert both(torch.median, torch.ones(3, 5)).other_flops == comparisons_of_merges(15)

    @few
    @given(size=st.integers(1, 20), data=st.data())
    def test_largest(self, size, data):
        """`topk` costs the comparisons of a heap of k values."""
        k = data.draw(st.integers(0, size))
        expected = 3 * comparisons_of_a_heap(k, size) if k else 0
        assert both(lambda x: torch.topk(x, k), torch.ones(3, size)).other_flops == expected

    @few
    @given(count=st.integers(0, 20), size=st.integers(0, 20))
    def test_search(self, count, size):
        """`searchsorted` and `bucketize` cost a binary search for each value."""
        values, boundaries = torch.ones(count), torch.arange(float(size))
        expected = count * comparisons_of_a_search(size)
        assert both(torch.searchsorted, (boundaries, values)).other_flops == expected
        assert both(torch.bucketize, (values, boundaries)).other_flops == expected
        assert both(lambda b: torch.searchsorted(b, 3.0), boundaries).other_flops == comparisons_of_a_search(size)

    @few
    @given(several=st.integers(1, 20), wanted=st.integers(1, 20))
    def test_membership(self, several, wanted):
        """`isin` costs a sort of the wanted values, and a binary search for each value of the tensor."""
        expected = comparisons_of_merges(wanted) + several * comparisons_of_a_search(wanted)
        assert both(torch.isin, (torch.ones(several), torch.ones(wanted))).other_flops == expected

    @few
    @given(size=st.integers(1, 20))
    def test_different_values(self, size):
        """`unique` costs a sort and a comparison of each value with the value before."""
        values = torch.arange(float(size)) % 3
        expected = comparisons_of_merges(size) + size - 1
        assert for_real(torch.unique, (values,)).other_flops == expected
        assert for_real(torch.unique_consecutive, (values,)).other_flops == size - 1

    def test_different_rows(self):
        rows_of_three = torch.arange(15.0).reshape(5, 3)
        expected = 3 * comparisons_of_merges(5) + 3 * 4
        assert for_real(lambda x: torch.unique(x, dim=0), (rows_of_three,)).other_flops == expected
        assert for_real(lambda x: torch.unique_consecutive(x, dim=0), (rows_of_three,)).other_flops == 3 * 4

    @pytest.mark.parametrize(
        "operator", [torch.sort, torch.median, torch.argsort, torch.unique, lambda x: torch.topk(x, 2)]
    )
    def test_integers_are_free(self, operator):
        assert for_real(operator, (torch.arange(6),)).other_flops == 0

    def test_search_among_integers_is_free(self):
        assert both(torch.searchsorted, (torch.arange(6), torch.arange(3))).other_flops == 0


def test_backward_pass_of_a_sum():
    """The gradient of a mean costs one division for each element, and the gradient of a sum is free."""
    inputs = torch.ones(3, 5, requires_grad=True)
    assert both(torch.sum, inputs, backward=True).other_flops == 14
    assert both(torch.mean, inputs, backward=True).other_flops == 15 + 15


def test_no_shape_needs_data():
    x = torch.ones(3, 5, device="meta")
    assert on_shapes(lambda x: x.sort(1)[0].cumsum(0).amax(1).sum(), x).other_flops == 45 + 10 + 12 + 2
