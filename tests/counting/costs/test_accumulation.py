"""Indexing operators that add values cost as much as a loop over single numbers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from definitions import Tally, elementary, maximum
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from zoo import BYTES, both, for_real

few = settings(max_examples=20)


def numbers(*shape):
    return torch.arange(1.0, 1 + math.prod(shape), dtype=torch.float64).reshape(shape) / 7


class Sums:
    """Adds values to single elements of a tensor, and counts the operations."""

    def __init__(self, target):
        self.tally = Tally()
        self.shape = target.shape
        self.places = {index: self.tally.numbers(target[index]) for index in self.indices(target.shape)}

    @staticmethod
    def indices(shape):
        return list(itertools.product(*map(range, shape)))

    def add(self, index, value):
        self.places[index] = self.places[index] + value

    @property
    def values(self):
        return torch.stack([one.value for one in self.places.values()]).reshape(self.shape)

    @property
    def count(self):
        return self.tally.count


def agrees(sums, function, args):
    """Check that ``function`` returns the values in ``sums`` and costs the operations that ``sums`` counted."""
    torch.testing.assert_close(function(*args), sums.values)
    assert both(function, args).other_flops == sums.count


class TestIndexAdd:
    @few
    @given(
        index=st.lists(st.integers(0, 3), min_size=1, max_size=6), dim=st.integers(-2, 1), alpha=st.sampled_from([1, 2])
    )
    def test_is_its_loop(self, index, dim, alpha):
        """`index_add` costs one addition for each value of the source, and one product if ``alpha`` is not 1."""
        positive = dim % 2
        target = torch.ones(4, 3) if positive == 0 else torch.ones(3, 4)
        target = target.double()
        shape = (len(index), 3) if positive == 0 else (3, len(index))
        source = numbers(*shape)
        sums = Sums(target)
        for place in sums.indices(shape):
            value = sums.tally.numbers(source[place]) * alpha
            target_place = list(place)
            target_place[positive] = index[place[positive]]
            sums.add(tuple(target_place), value)
        agrees(
            sums,
            lambda target, index, source: target.index_add(dim, index, source, alpha=alpha),
            (target, torch.tensor(index), source),
        )

    def test_in_place(self):
        index = torch.tensor([0, 2])
        work = both(lambda x, y: x.clone().index_add_(0, index.to(x.device), y), (torch.ones(3, 5), torch.ones(2, 5)))
        assert work.other_flops == 10

    def test_integers_are_free(self):
        args = torch.arange(3), torch.tensor([0, 0]), torch.tensor([1, 1])
        assert both(lambda x, i, y: x.index_add(0, i, y), args).other_flops == 0

    def test_complex_numbers(self):
        # Each of 4 values costs 2 FLOPs for a complex sum, and 2 for a product with a real number.
        z, index = torch.ones(4, dtype=torch.complex64), torch.tensor([0, 1, 1, 3])
        assert both(lambda z, i: z.index_add(0, i, z), (z, index)).other_flops == 2 * 4
        assert both(lambda z, i: z.index_add(0, i, z, alpha=2), (z, index)).other_flops == 4 * 4

    @pytest.mark.parametrize(("reduce", "count"), [("prod", 10), ("amax", 10), ("amin", 10), ("mean", 10 + 15)])
    @pytest.mark.filterwarnings("ignore:index_reduce")
    def test_other_reductions(self, reduce, count):
        # 1 FLOP for each of 2 · 5 values. A mean also divides each of 3 · 5 elements.
        args = torch.ones(3, 5), torch.tensor([0, 2]), torch.ones(2, 5)
        assert both(lambda x, i, y: x.index_reduce(0, i, y, reduce), args).other_flops == count


class TestScatter:
    @pytest.mark.filterwarnings("ignore:The reduce argument of torch.scatter")
    @few
    @given(height=st.integers(1, 3), width=st.integers(1, 3), extra=st.integers(0, 2), data=st.data())
    def test_add_is_its_loop(self, height, width, extra, data):
        """`scatter_add` costs one addition for each index, even if the source has more values."""
        places = st.lists(st.integers(0, 3), min_size=width, max_size=width)
        index = torch.tensor(data.draw(st.lists(places, min_size=height, max_size=height)))
        target, source = torch.ones(4, 3, dtype=torch.float64), numbers(height + extra, width)
        sums = Sums(target)
        for i, j in sums.indices(index.shape):
            sums.add((int(index[i, j]), j), sums.tally.numbers(source[i, j]))
        agrees(sums, lambda target, index, source: target.scatter_add(0, index, source), (target, index, source))
        agrees(
            sums, lambda target, index, source: target.scatter_reduce(0, index, source, "sum"), (target, index, source)
        )
        agrees(
            sums,
            lambda target, index, source: target.scatter(0, index, source, reduce="add"),
            (target, index, source),
        )

    @pytest.mark.parametrize(("reduce", "count"), [("prod", 6), ("amax", 6), ("amin", 6), ("mean", 6 + 12)])
    @pytest.mark.filterwarnings("ignore:scatter_reduce")
    def test_other_reductions(self, reduce, count):
        # 1 FLOP for each of 2 · 3 values. A mean also divides each of 4 · 3 elements.
        args = torch.ones(4, 3), torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3)
        assert both(lambda x, i, y: x.scatter_reduce(0, i, y, reduce), args).other_flops == count

    def test_without_a_reduction_is_free(self):
        args = torch.ones(4, 3), torch.zeros(2, 3, dtype=torch.int64), torch.ones(2, 3)
        assert both(lambda x, i, y: x.scatter(0, i, y), args).other_flops == 0
        assert both(lambda x, i, y: x.scatter(0, i, 3.0), args).other_flops == 0
        assert both(lambda x, i, y: x.scatter(0, i, 3.0, reduce="multiply"), args).other_flops == 6

    def test_backward_pass_of_gather(self):
        inputs, index = torch.ones(4, 3, requires_grad=True), torch.zeros(2, 3, dtype=torch.int64)
        assert both(lambda x, i: x.gather(0, i), (inputs, index)).other_flops == 0
        assert both(lambda x, i: x.gather(0, i), (inputs, index), backward=True).other_flops == 6


def elements_that_pytorch_writes(shape, indices, dtype):
    """Try all masks, and return {number of elements that ``index_put_`` writes: the index tensors of that call}."""
    # In ``indices``, "mask 2 3" stands for all masks of shape (2, 3), None selects a whole dimension, and a tuple is
    # the shape of an index tensor.
    found = {}
    masks = [[int(size) for size in part.split()[1:]] for part in indices if isinstance(part, str)]
    for values in itertools.product(*(itertools.product([0, 1], repeat=math.prod(mask)) for mask in masks)):
        remaining = (torch.tensor(value, dtype=dtype).reshape(mask) for value, mask in zip(values, masks, strict=True))
        tensors = [
            next(remaining) if isinstance(part, str) else None if part is None else torch.zeros(part, dtype=torch.int64)
            for part in indices
        ]
        target = torch.zeros(shape)
        try:
            torch.ops.aten.index_put_(target, tensors, torch.tensor(1.0), True)
        except IndexError:  # the masks and the positions do not broadcast
            continue
        found[int(target.sum())] = tensors
    return found


class TestIndexPut:
    @few
    @given(index=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=6))
    def test_pairs(self, index):
        """If `index_put` adds values at pairs of indices, each pair costs one addition."""
        rows, columns = (torch.tensor(part) for part in zip(*index, strict=True))
        target, values = torch.ones(4, 3, dtype=torch.float64), numbers(len(index))
        sums = Sums(target)
        for place, value in zip(index, values, strict=True):
            sums.add(place, sums.tally.numbers(value))
        agrees(
            sums,
            lambda target, rows, columns, values: target.index_put((rows, columns), values, accumulate=True),
            (target, rows, columns, values),
        )

    @few
    @given(index=st.lists(st.integers(0, 3), min_size=1, max_size=6), second=st.booleans())
    def test_slices(self, index, second):
        target = torch.ones(5, 4, 2, dtype=torch.float64) if second else torch.ones(4, 5, 2, dtype=torch.float64)
        sums = Sums(target)
        for one, i, j in itertools.product(index, range(5), range(2)):
            sums.add((i, one, j) if second else (one, i, j), 2.0)

        def put(target, index, value):
            return torch.ops.aten.index_put(target, [None, index] if second else [index], value, True)

        agrees(sums, put, (target, torch.tensor(index), torch.tensor(2.0, dtype=torch.float64)))

    def test_broadcast_indices(self):
        # The indices are broadcast to 2 · 3 pairs, and each pair selects a slice of 5 values.
        rows, columns = torch.tensor([[0], [1]]), torch.tensor([0, 1, 1])
        target = torch.ones(4, 3, 5)

        def put(x, i, j, v):
            return x.index_put((i, j), v, accumulate=True)

        assert both(put, (target, rows, columns, torch.ones(5))).other_flops == 30

    def test_a_mask_names_all_places(self):
        """A boolean mask is counted as if it selected all elements."""
        target, mask = torch.ones(4, 3), torch.tensor([True, False, True, False])
        work = for_real(lambda x, m: x.index_put((m,), torch.tensor(1.0), accumulate=True), (target, mask))
        assert work.other_flops == 12

    @pytest.mark.parametrize(
        ("shape", "indices"),
        [
            ((4, 3), ["mask 4", (3,)]),
            ((4, 3), ["mask 4", (2, 1)]),
            ((4, 3), ["mask 4", ()]),
            ((4, 3), ["mask 4", (1,)]),
            ((4, 3), ["mask 4", "mask 3"]),
            ((4, 3), ["mask 4", (0,)]),
            ((2, 3, 4), ["mask 2 3", (5,)]),
            ((2, 3, 4), [None, "mask 3", (3,)]),
            ((2, 3, 4), ["mask 2", None, (2,)]),
            ((2, 3, 4), ["mask 2", None, (3, 1)]),
            ((2, 3, 2), [(3, 2, 1), "mask 3", (1,)]),
            ((2, 3, 2), ["mask 2", "mask 3", (3, 1)]),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("dtype", [torch.bool, torch.uint8])
    @pytest.mark.filterwarnings("ignore:.*torch.uint8")
    def test_masks_with_other_indices(self, shape, indices, dtype):
        named = elements_that_pytorch_writes(shape, indices, dtype)
        target, value = torch.ones(shape), torch.tensor(1.0)
        most = max(named)

        work = for_real(lambda x: torch.ops.aten.index_put_(x.clone(), named[most], value, True), target)

        assert work.other_flops == most
        passed = sum(index.nbytes for index in named[most] if index is not None) + value.nbytes
        copied = 2 * target.nbytes
        assert work.memory_traffic == copied + passed + 2 * most * target.itemsize

    def test_without_accumulation_is_free(self):
        index = torch.tensor([0, 1])
        args = torch.ones(4, 3), index, torch.ones(2, 3)
        assert both(lambda x, i, v: x.index_put((i,), v), args).other_flops == 0

    def test_put(self):
        args = torch.ones(4, 3), torch.tensor([0, 5, 5]), torch.ones(3)
        assert both(lambda x, i, v: x.put(i, v, accumulate=True), args).other_flops == 3
        assert both(lambda x, i, v: x.put(i, v), args).other_flops == 0

    def test_backward_pass_of_indexing(self):
        inputs, index = torch.ones(4, 3, requires_grad=True), torch.tensor([0, 0, 1, 2, 2])
        assert both(lambda x, i: x[i], (inputs, index), backward=True).other_flops == 15
        assert both(lambda x, i: x.index_select(0, i), (inputs, index), backward=True).other_flops == 15


class TestEmbedding:
    def test_backward(self):
        """The backward pass of an embedding costs one addition for each value of the gradient."""
        # Looking up rows is free. With `scale_grad_by_freq`, each value is also multiplied by a factor.
        tokens = torch.tensor([[0, 1, 1], [2, 2, 2]])
        assert both(nn.Embedding(4, 5), tokens).other_flops == 0
        assert both(nn.Embedding(4, 5), tokens, backward=True).other_flops == 6 * 5
        assert both(nn.Embedding(4, 5, padding_idx=0), tokens, backward=True).other_flops == 6 * 5
        assert both(nn.Embedding(4, 5, scale_grad_by_freq=True), tokens, backward=True).other_flops == 2 * 6 * 5

    @pytest.mark.parametrize("mode", ["sum", "mean", "max"])
    @few
    @given(data=st.data())
    def test_bags(self, mode, data):
        """An embedding bag costs one FLOP for each value that it combines."""
        # The first row also costs FLOPs, because a bag starts at 0 or at minus infinity.
        sizes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
        tokens = torch.arange(sum(sizes)) % 4
        offsets = torch.tensor([0, *itertools.accumulate(sizes)][:-1])
        weight = numbers(4, 5)
        tally = Tally()
        rows = iter(tokens.tolist())
        expected = []
        for size in sizes:
            bag = tally.numbers(torch.full((5,), -math.inf if mode == "max" else 0.0, dtype=torch.float64))
            for _ in range(size):
                row = tally.numbers(weight[next(rows)])
                bag = maximum(bag, row) if mode == "max" else bag + row
            # PyTorch also divides a bag of one row.
            expected.append(elementary(torch.div, bag, size) if mode == "mean" else bag)

        def look_up(tokens, weight, offsets):
            return F.embedding_bag(tokens, weight, offsets, mode=mode)

        torch.testing.assert_close(look_up(tokens, weight, offsets), torch.stack([bag.value for bag in expected]))
        assert both(look_up, (tokens, weight, offsets), without=BYTES).other_flops == tally.count

    def test_weighted_bags(self):
        # 6 rows of 5 values: a product with the weight, and a sum.
        args = torch.tensor([[0, 1, 1], [2, 2, 2]]), torch.ones(4, 5), torch.ones(2, 3)

        def look_up(tokens, weight, weights):
            return F.embedding_bag(tokens, weight, per_sample_weights=weights, mode="sum")

        assert both(look_up, args, without=BYTES).other_flops == 2 * 6 * 5

    @pytest.mark.parametrize(("mode", "count"), [("sum", 6 * 5), ("mean", 2 * 6 * 5), ("max", 2 * 5)])
    def test_backward_of_bags(self, mode, count):
        # 1 FLOP for each of 6 rows of 5 values. A mean also divides each value. A maximum has one gradient for each of
        # 2 bags and 5 columns.
        tokens = torch.tensor([[0, 1, 1], [2, 2, 2]])
        bag = nn.EmbeddingBag(4, 5, mode=mode)
        added = (
            both(bag, tokens, backward=True, without=BYTES).other_flops - both(bag, tokens, without=BYTES).other_flops
        )
        assert added == count

    def test_backward_of_weighted_bags(self):
        # 6 rows of 5 values: a product with the weight, and a sum. The gradient of each of 6 weights sums 5 products.
        tokens = torch.tensor([[0, 1, 1], [2, 2, 2]])
        weight, weights = torch.ones(4, 5, requires_grad=True), torch.ones(2, 3, requires_grad=True)

        def look_up(tokens, weight, weights):
            return F.embedding_bag(tokens, weight, per_sample_weights=weights, mode="sum")

        added = both(look_up, (tokens, weight, weights), backward=True, without=BYTES).other_flops - 2 * 6 * 5
        assert added == 2 * 6 * 5 + 6 * (5 + 4)


PADS = {1: (1, 2), 2: (1, 2, 1, 0), 3: (1, 2, 1, 0, 1, 1)}


class TestGradientsThatOverlap:
    @pytest.mark.parametrize("mode", ["reflect", "replicate"])
    @pytest.mark.parametrize("dims", PADS)
    def test_padding(self, mode, dims):
        """Padding with repeated values is free. Its backward pass costs one addition for each value of the gradient."""
        inputs = torch.ones(2, 3, *(4, 5, 6)[:dims], requires_grad=True)
        padded = F.pad(inputs, PADS[dims], mode=mode)
        assert both(lambda x: F.pad(x, PADS[dims], mode=mode), inputs).other_flops == 0
        assert both(lambda x: F.pad(x, PADS[dims], mode=mode), inputs, backward=True).other_flops == padded.numel()

    def test_constant_padding(self):
        """The backward pass of constant padding is free, because it only slices the gradient."""
        inputs = torch.ones(2, 3, 4, requires_grad=True)
        assert both(lambda x: F.pad(x, (1, 1)), inputs, backward=True).other_flops == 0

    @few
    @given(kernel=st.integers(1, 3), stride=st.integers(1, 2), padding=st.integers(0, 1))
    def test_fold(self, kernel, stride, padding):
        # `unfold` is free. Its backward pass is a `fold`.
        padding = min(padding, kernel // 2)
        inputs = torch.ones(2, 3, 5, 5, requires_grad=True)
        columns = F.unfold(inputs, kernel, padding=padding, stride=stride).detach()

        def fold(columns):
            return F.fold(columns, (5, 5), kernel, padding=padding, stride=stride)

        def unfold(inputs):
            return F.unfold(inputs, kernel, padding=padding, stride=stride)

        assert both(fold, columns, without=BYTES).other_flops == columns.numel()
        assert both(fold, columns.clone().requires_grad_(), backward=True, without=BYTES).other_flops == columns.numel()
        assert both(unfold, inputs, without=BYTES).other_flops == 0
        assert both(unfold, inputs, backward=True, without=BYTES).other_flops == columns.numel()

    def test_windows(self):
        """The backward pass of `Tensor.unfold` costs one addition for each value of each window."""
        inputs = torch.ones(2, 6, requires_grad=True)
        assert both(lambda x: x.unfold(1, 3, 1), inputs).other_flops == 0
        assert both(lambda x: x.unfold(1, 3, 1), inputs, backward=True).other_flops == 2 * 4 * 3

    # PyTorch 2.12 warns that invariants are not checked, although the test asks for the check.
    @pytest.mark.filterwarnings("ignore:Sparse invariant checks:UserWarning")
    def test_coalescing(self):
        """Coalescing a sparse tensor is counted as one addition for each stored value."""
        place = torch.tensor([[0, 0, 1]])
        sparse = torch.sparse_coo_tensor(place, torch.ones(3), (4,), check_invariants=True)
        assert for_real(lambda x: x.coalesce(), (sparse,)).other_flops == 3
