"""Work in forward and backward is credited to the right modules."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from squares import SQUARE, X, calls_of, flops_of, square
from torch import nn
from torch.utils.checkpoint import checkpoint
from zoo import both, for_real

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.counting.watch import watch


class TestShared:
    def test_a_module_called_twice(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = square()

            def forward(self, x):
                return self.layer(self.layer(x))

        counted = both(Twice(), X)
        assert flops_of(counted) == {"": 2 * SQUARE, "layer": 2 * SQUARE}
        assert calls_of(counted) == {"": 1, "layer": 2}
        assert (counted.params, counted["layer"].params) == (16, 16)

    def test_a_module_shared_by_two(self):
        shared = square()
        model = nn.Sequential(nn.Sequential(shared, square()), nn.Sequential(shared))
        counted = both(model, X)
        assert flops_of(counted) == {
            "": 3 * SQUARE,
            "0": 2 * SQUARE,
            "0.0": SQUARE,
            "0.1": SQUARE,
            "1": SQUARE,
            "1.0": SQUARE,
        }
        assert (counted.params, counted["0"].params, counted["1"].params) == (32, 32, 16)
        assert calls_of(counted)["1.0"] == 1

    def test_two_names_in_one_module(self):
        class Aliased(nn.Module):
            def __init__(self):
                super().__init__()
                self.first = square()
                self.second = self.first

            def forward(self, x):
                return self.second(self.first(x))

        counted = both(Aliased(), X)
        assert counted.flops == 2 * SQUARE
        assert counted["first"].flops == 2 * SQUARE
        assert counted.params == 16

    def test_a_parent_under_a_second_name(self):
        """If a module is called by its second name, the modules inside of it are counted."""
        block = nn.Sequential(square())
        model = nn.ModuleDict({"a": block, "b": nn.Sequential(block)})
        counted = both(lambda m, x: m["b"](x), (model, X))
        assert counted.flops == SQUARE


class TestHeld:
    def test_lists_and_dicts(self):
        """A container that is never called has the cost of the modules inside of it."""

        class Held(nn.Module):
            def __init__(self):
                super().__init__()
                self.layers = nn.ModuleList([square() for _ in range(3)])
                self.named = nn.ModuleDict({"a": square()})

            def forward(self, x):
                for layer in self.layers:
                    x = layer(x)
                return self.named["a"](x)

        counted = both(Held(), X)
        assert counted["layers"].flops == 3 * SQUARE
        assert (counted["layers"].type, counted["layers"].calls) == ("ModuleList", 0)
        assert counted["named.a"].flops == SQUARE
        assert counted["layers"].params == 48

    def test_a_module_that_is_not_called(self):
        model = nn.ModuleDict({"used": square(), "unused": square()})
        counted = both(lambda m, x: m["used"](x), (model, X))
        assert counted.flops == SQUARE

        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.unused = square()

            def forward(self, x):
                return x

        counted = both(Model(), X)
        assert (counted["unused"].flops, counted["unused"].calls, counted["unused"].params) == (0, 0, 16)

    def test_other_methods(self):
        """Work in a method other than forward is credited to the module whose forward called this method."""

        class Inner(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = square()
                self.weight = nn.Parameter(torch.ones(4, 4))

            def encode(self, x):
                return self.layer(x) @ self.weight

        class Outer(nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = Inner()

            def forward(self, x):
                return self.inner.encode(x)

        assert flops_of(both(Outer(), X)) == {"": 2 * SQUARE, "inner": SQUARE, "inner.layer": SQUARE}

    def test_a_module_hidden_in_a_list(self):
        class Hides(nn.Module):
            def __init__(self):
                super().__init__()
                self.hidden = [square(), square()]

            def forward(self, x):
                return self.hidden[1](self.hidden[0](x))

        counted = both(nn.Sequential(Hides()), X)
        assert counted["0.Linear"].flops == counted["0.Linear_2"].flops == SQUARE
        assert counted.params == 32

    def test_functions(self):
        """If a function calls modules, the modules are named by their classes."""
        first, second = nn.Sequential(square()), nn.Sequential(square())
        counted = both(lambda x: second(first(first(x))), X)
        assert flops_of(counted) == {
            "": 3 * SQUARE,
            "Sequential": 2 * SQUARE,
            "Sequential.0": 2 * SQUARE,
            "Sequential_2": SQUARE,
            "Sequential_2.0": SQUARE,
        }
        assert counted[""].type == "<lambda>"

    def test_order(self):
        """Each module is listed before its children."""
        model = nn.Sequential(nn.Sequential(square(), square()), square())
        assert list(both(model, X).modules) == ["", "0", "0.0", "0.1", "1"]

    def test_shapes(self):
        """For each module, the result has a text with the sizes that decide the cost of the module."""
        model = nn.Sequential(
            nn.Conv2d(4, 8, (1, 3), stride=2, dilation=(1, 2), padding=2, groups=2),
            nn.Flatten(),
            nn.LazyLinear(5),
            nn.LayerNorm(5),
        )
        counted = both(model, torch.randn(1, 4, 8, 8))
        assert counted["0"].shape == "4->8, 1x3, stride 2x2, dilation 1x2, groups 2"
        # (8 + 2 * 2 - 1) // 2 + 1 = 6 rows, (8 + 2 * 2 - 5) // 2 + 1 = 4 columns.
        assert counted["2"].shape == f"{8 * 6 * 4}->5"
        assert counted["3"].shape == "weight 5, bias 5"
        assert not counted["1"].shape


class Fails(nn.Module):
    """A module that calls its layer and then raises an exception."""

    def __init__(self):
        super().__init__()
        self.layer = square()

    def forward(self, x):
        self.layer(x)
        raise ValueError


class Catches(nn.Module):
    def __init__(self, *, called_by_hand):
        super().__init__()
        self.fails, self.layer = Fails(), square()
        self.called_by_hand = called_by_hand

    def forward(self, x):
        try:
            self.fails.forward(x) if self.called_by_hand else self.fails(x)
        except ValueError:
            return self.layer(x) @ torch.ones(4, 4)


class TestExceptions:
    @pytest.mark.parametrize("by_hand", [False, True])
    def test_a_module_that_raises(self, by_hand):
        assert flops_of(both(Catches(called_by_hand=by_hand), X)) == {
            "": 3 * SQUARE,
            "fails": SQUARE,
            "fails.layer": SQUARE,
            "layer": SQUARE,
        }

    def test_a_hook_that_raises(self):
        def fails(*_):
            raise ValueError

        model = Catches(called_by_hand=False)
        model.fails = square()
        model.fails.register_forward_hook(fails)
        assert flops_of(both(model, X)) == {"": 3 * SQUARE, "fails": SQUARE, "layer": SQUARE}


@st.composite
def trees(draw, depth=3):
    shared = square()

    def node(depth):
        kinds = ["layer", "shared", "sequence"] if depth else ["layer", "shared"]
        kind = draw(st.sampled_from(kinds))
        if kind == "layer":
            return square()
        if kind == "shared":
            return shared
        return sequence(depth - 1)

    def sequence(depth):
        parts = [node(depth) for _ in range(draw(st.integers(1, 3)))]
        # A sequence holds the shared layer at most once, because all calls would be credited to its first name.
        first = next((index for index, part in enumerate(parts) if part is shared), None)
        return nn.Sequential(
            *(square() if part is shared and index != first else part for index, part in enumerate(parts))
        )

    return sequence(depth)


def leaves_below(module):
    return sum(map(leaves_below, module)) if isinstance(module, nn.Sequential) else 1


def parameters_below(module):
    return sum(parameter.numel() for parameter in module.parameters())


class TestTree:
    @settings(max_examples=40, deadline=None)
    @given(trees())
    def test_every_module_holds_what_is_below_it(self, model):
        counted = both(model, X)
        for path, module in model.named_modules(remove_duplicate=False):
            assert counted[path].flops == SQUARE * leaves_below(module)
            assert counted[path].params == parameters_below(module)

    @settings(max_examples=40, deadline=None)
    @given(trees())
    def test_parts_and_own_work_make_the_whole(self, model):
        counted = both(model, X.clone().requires_grad_(), backward=True)
        assert counted.flops == 3 * SQUARE * leaves_below(model)
        for path, module in model.named_modules(remove_duplicate=False):
            if isinstance(module, nn.Sequential):
                prefix = f"{path}." if path else ""
                parts = [f"{prefix}{index}" for index in range(len(module))]
                assert counted[path].flops == sum(counted[part].flops for part in parts)
            # Only linear layers compute: one product in forward, and two in backward.
            assert counted[path].flops == 3 * SQUARE * leaves_below(module)


class TestBackward:
    def test_each_layer_has_its_own_gradients(self):
        model = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Sequential(nn.Linear(8, 6)), nn.Linear(6, 2))
        counted = both(model, X, backward=True)
        one = {"0": 2 * 3 * 4 * 8, "2": 2 * 3 * 8 * 6, "2.0": 2 * 3 * 8 * 6, "3": 2 * 3 * 6 * 2}
        assert flops_of(counted) == {
            "": 2 * one["0"] + 3 * one["2"] + 3 * one["3"],
            "0": 2 * one["0"],
            "1": 0,
            "2": 3 * one["2"],
            "2.0": 3 * one["2.0"],
            "3": 3 * one["3"],
        }

    def test_frozen_layers(self):
        # A frozen last layer costs only its input's gradient.
        model = nn.Sequential(square(), square(), square())
        model[0].weight.requires_grad_(requires_grad=False)
        model[2].weight.requires_grad_(requires_grad=False)
        assert flops_of(both(model, X, backward=True)) == {
            "": 5 * SQUARE,
            "0": SQUARE,
            "1": 2 * SQUARE,
            "2": 2 * SQUARE,
        }

    def test_work_of_a_parent(self):
        """Work of a module between the calls of its children is credited to the module."""

        class Parent(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.second = square(), square()
                self.weight = nn.Parameter(torch.ones(4, 4))

            def forward(self, x):
                return self.second(self.first(x) @ self.weight)

        assert flops_of(both(nn.Sequential(Parent()), X, backward=True)) == {
            "": 8 * SQUARE,
            "0": 8 * SQUARE,
            "0.first": 2 * SQUARE,
            "0.second": 3 * SQUARE,
        }

    @pytest.mark.parametrize("reentrant", [False, True])
    def test_checkpoints(self, reentrant):
        class Checkpointed(nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.block, self.last = square(), nn.Sequential(square(), nn.Tanh(), square()), square()

            def forward(self, x):
                return self.last(checkpoint(self.block, self.first(x), use_reentrant=reentrant))

        counted = both(Checkpointed(), X.clone().requires_grad_(), backward=True)
        # Without reentry, recomputation stops before the last product, because backward has what it needs.
        assert flops_of(counted) == {
            "": (3 + 4 + (4 if reentrant else 3) + 3) * SQUARE,
            "first": 3 * SQUARE,
            "block": (4 + (4 if reentrant else 3)) * SQUARE,
            "block.0": 4 * SQUARE,
            "block.1": 0,
            "block.2": (4 if reentrant else 3) * SQUARE,
            "last": 3 * SQUARE,
        }

    def test_gradients_within_the_model(self):
        class Penalty(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = square()

            def forward(self, x):
                x = x.detach().requires_grad_()
                (grad,) = torch.autograd.grad(self.layer(x).pow(2).sum(), x, create_graph=True)
                return grad

        forward = both(nn.Sequential(Penalty()), X)
        assert flops_of(forward) == {"": 2 * SQUARE, "0": 2 * SQUARE, "0.layer": 2 * SQUARE}
        assert measure(nn.Sequential(Penalty()), X, backward=True).flops > forward.flops


class TestHooksFromWithin:
    """A running model may add hooks to its modules."""

    # Clones of modules without hooks share one empty dict.

    @staticmethod
    def work(_module, _args, output):
        return output @ torch.ones(4, 4)

    @pytest.mark.parametrize("swallows", [False, True], ids=["raises", "swallows"])
    def test_forward_hook(self, swallows):
        class Hooking(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer, self.other = square(), square()

            def forward(self, x):
                handle = None
                try:
                    handle = self.layer.register_forward_hook(TestHooksFromWithin.work)
                except Exception:
                    if not swallows:
                        raise
                output = self.other(self.layer(x))
                if handle is not None:
                    handle.remove()
                return output

        model = Hooking()
        counted = both(model, X)
        assert counted.flops == 3 * SQUARE  # two layers, and the product in the hook
        assert counted.execution == "shapes"
        assert not model.layer._forward_hooks

    @pytest.mark.parametrize(
        ("copied", "execution"),
        [
            (copy.deepcopy, "shapes"),
            # Pickling reads the values of the parameters, so it needs data.
            (lambda layer: pickle.loads(pickle.dumps(layer)), "real"),  # noqa: S301 -- pickled on the same line
        ],
        ids=["deepcopy", "pickle"],
    )
    def test_copies(self, copied, execution):
        """If a running model copies one of its modules, a hook on the copy is not called for the original."""

        class Copying(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = square()

            def forward(self, x):
                part = copied(self.layer)
                part.register_forward_hook(TestHooksFromWithin.work)
                return part(x) + self.layer(x)

        counted = measure(Copying(), X)
        assert counted.execution == execution
        assert counted.flops == for_real(Copying(), X).flops == 3 * SQUARE
        assert counted["layer"].flops == SQUARE

    def test_backward_hook(self):
        class Hooking(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = square()

            def forward(self, x):
                self.layer.register_full_backward_hook(
                    lambda _module, _inputs, outputs: (outputs[0] @ torch.ones(4, 4),)
                )
                return self.layer(x)

        # Forward, both gradients, and the product in the hook.
        assert both(Hooking(), X.clone().requires_grad_(), backward=True).flops == 4 * SQUARE


class Named(nn.Module):
    """A module whose parts have the given names. A pair of names stands for a part within a part."""

    def __init__(self, *names):
        super().__init__()
        self.order = []
        for name in names:
            outer, *inner = name if isinstance(name, tuple) else (name,)
            part = self._modules.setdefault(outer, Named(inner[0]) if inner else square())
            self.order.append(part)

    def forward(self, x):
        for part in self.order:
            x = part(x)
        return x


@pytest.mark.parametrize("watches", [False, True])
@pytest.mark.parametrize(
    ("names", "paths"),
    [
        (("",), (".",)),
        (("", "."), (".", ":")),
        (("x", "x."), ("x", "x:")),
        ((".", "x"), (":", "x")),
        (("a.b",), ("a:b",)),
        (("a.b", ("a", "b")), ("a:b", "a.b")),
        ((("a", "b"), "a.b", "a.b.c"), ("a.b", "a:b", "a:b:c")),
        ((("a", "b"), ("a.b", "c")), ("a.b", "a:b.c")),
        ((("a", ""), "a."), ("a.", "a:")),
        (("a.b", "a:b"), ("a:b", "a:b:")),
        (("two words", "é"), ("two words", "é")),
    ],
)
def test_unusual_names(names, paths, watches):
    """If the name of a module is empty or has a dot, the module is listed apart from all others."""
    model = Named(*names)
    with watch() as watched:
        model(X)
    result = watched.complexity if watches else measure(model, X)
    assert [result.modules[path].flops for path in paths] == [SQUARE] * len(names)
    assert [result.modules[path].params for path in paths] == [16] * len(names)
    assert [result.modules[path].calls for path in paths] == [1] * len(names)
    assert (result.flops, result.params) == (len(names) * SQUARE, len(names) * 16)
    assert len(result.modules) == sum(1 for _ in model.modules())
