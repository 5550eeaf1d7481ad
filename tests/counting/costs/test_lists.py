"""Operators on lists of tensors (`_foreach_`), and optimizers, which run `_foreach_` operators."""

from __future__ import annotations

import itertools

import pytest
import torch
from definitions import Tally, maximum, sqrt
from zoo import both, for_real

SHAPES = ((3, 5), (2, 2, 2), (1,))
ELEMENTS = 15 + 8 + 1


def tensors(dtype=torch.float32):
    return [torch.full(shape, 0.5, dtype=dtype) for shape in SHAPES]


UNARY = """
abs acos asin atan ceil cos cosh erf erfc exp expm1 floor frac lgamma log log10 log1p log2 neg reciprocal round
rsqrt sigmoid sign sin sinh sqrt tan tanh trunc
"""
UNARY_OF_COMPLEX = """
abs acos asin atan cos cosh exp expm1 log log10 log1p log2 neg reciprocal rsqrt sigmoid sin sinh sqrt tan tanh
"""
BINARY = "add sub mul div maximum minimum clamp_max clamp_min pow"
BINARY_OF_COMPLEX = "add sub mul div pow"
REAL, COMPLEX = (torch.float32,), (torch.complex64,)


def product(names, dtypes):
    return itertools.product(names.split(), dtypes)


def of(name):
    return getattr(torch, f"_foreach_{name}")


def one_by_one(name):
    """Return a function that applies the operator ``name`` to each tensor of its lists."""
    operator = getattr(torch, name)

    def each(*lists):
        return [operator(*operands) for operands in zip(*lists, strict=True)]

    return each


class TestForeach:
    @pytest.mark.parametrize(("name", "dtype"), [*product(UNARY, REAL), *product(UNARY_OF_COMPLEX, COMPLEX)])
    def test_unary(self, name, dtype):
        expected = both(one_by_one(name), (tensors(dtype),)).other_flops
        assert both(of(name), (tensors(dtype),)).other_flops == expected > 0

    @pytest.mark.parametrize("name", UNARY.split())
    def test_in_place(self, name):
        def in_place(given):
            copies = [one.clone() for one in given]
            of(f"{name}_")(copies)
            return copies

        assert both(in_place, (tensors(),)).other_flops == both(of(name), (tensors(),)).other_flops

    @pytest.mark.parametrize(("name", "dtype"), [*product(BINARY, REAL), *product(BINARY_OF_COMPLEX, COMPLEX)])
    def test_binary(self, name, dtype):
        args = tensors(dtype), tensors(dtype)
        expected = both(one_by_one(name), args).other_flops
        assert both(of(name), args).other_flops == expected > 0

    @pytest.mark.parametrize(("name", "count"), [("add", 0), ("mul", 0), ("maximum", 0), ("div", ELEMENTS)])
    def test_integers(self, name, count):
        """Operators on lists of integers are free, except for division, which gives floating-point numbers."""
        args = [[torch.ones(shape, dtype=torch.int64) for shape in SHAPES] for _ in range(2)]
        assert both(of(name), tuple(args)).other_flops == count

    @pytest.mark.parametrize("name", ["add", "sub"])
    @pytest.mark.parametrize(("alpha", "each"), [(1, 1), (2, 2)])
    def test_alpha(self, name, alpha, each):
        """A factor ``alpha`` costs one product for each element, if it is not 1."""
        work = both(lambda x, y: of(name)(x, y, alpha=alpha), (tensors(), tensors()))
        assert work.other_flops == each * ELEMENTS

    @pytest.mark.parametrize("name", ["add", "mul", "div", "pow", "maximum"])
    def test_numbers(self, name):
        """The second operand of a list operator may be one number, or a list with one number for each tensor."""
        assert both(lambda x: of(name)(x, 0.5), (tensors(),)).other_flops == ELEMENTS
        assert both(lambda x: of(name)(x, [0.5, 2.0, 3.0]), (tensors(),)).other_flops == ELEMENTS
        integers = [torch.ones(shape, dtype=torch.int64) for shape in SHAPES]
        if name in ("add", "mul", "div"):
            assert both(lambda x: of(name)(x, 0.5), (integers,)).other_flops == ELEMENTS

    def test_number_to_the_power_of_tensors(self):
        assert both(lambda x: torch._foreach_pow(0.9, x), (tensors(),)).other_flops == ELEMENTS

    def test_complex_by_real_number(self):
        z = tensors(torch.complex64)
        assert both(lambda z: torch._foreach_mul(z, 2.0), (z,)).other_flops == 2 * ELEMENTS
        assert both(lambda z: torch._foreach_lerp(z, z, 0.5), (z,)).other_flops == 6 * ELEMENTS

    @pytest.mark.parametrize("weight", [0.5, None])
    def test_lerp(self, weight):
        # a + w · (b - a)
        work = both(lambda x, y: torch._foreach_lerp(x, y, y if weight is None else weight), (tensors(), tensors()))
        assert work.other_flops == 3 * ELEMENTS

    @pytest.mark.parametrize("name", ["addcmul", "addcdiv"])
    @pytest.mark.parametrize(
        ("value", "count"),
        [(1, 2 * ELEMENTS), (0.5, 3 * ELEMENTS), ([1, 2.0, 1], 2 * (15 + 1) + 3 * 8)],
    )
    def test_sums_with_products(self, name, value, count):
        """Adding a product or quotient costs two operations for each element, and a third one if ``value`` is not 1."""
        work = both(lambda x: of(name)(x, x, x, value), (tensors(),))
        assert work.other_flops == count

    def test_factors_in_a_tensor(self):
        work = for_real(lambda x, v: torch._foreach_addcmul(x, x, x, v), (tensors(), torch.ones(3)))
        assert work.other_flops == 3 * ELEMENTS

    @pytest.mark.parametrize("order", [0, 1, 2, 3, float("inf")])
    def test_norms(self, order):
        expected = both(lambda x: [torch.linalg.vector_norm(one, order) for one in x], (tensors(),))
        assert both(lambda x: torch._foreach_norm(x, order), (tensors(),)).other_flops == expected.other_flops

    def test_maximum(self):
        # n - 1 comparisons for each tensor of n values
        assert both(torch._foreach_max, (tensors(),)).other_flops == ELEMENTS - len(SHAPES)

    def test_copies_are_free(self):
        def copies(x, y):
            z = [one.clone() for one in x]
            torch._foreach_copy_(z, y)
            torch._foreach_zero_(z)
            return z

        assert both(copies, (tensors(), tensors())).other_flops == 0

    def test_clipping_gradients(self):
        def clip(x, *, foreach):
            parameters = [one.clone() for one in x]
            for parameter in parameters:
                parameter.grad = parameter.clone()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=foreach)

        norms = 2 * ELEMENTS + 2 * len(SHAPES)
        # The clipping factor is a sum with 1e-6, a quotient (in PyTorch a reciprocal and a product), and a minimum.
        expected = norms + 4 + ELEMENTS
        assert for_real(lambda x: clip(x, foreach=True), (tensors(),)).other_flops == expected
        assert both(lambda x: clip(x, foreach=False), (tensors(),)).other_flops == expected


def counted_update(name, options):
    """Return the number of operations for each element in the second step of an optimizer."""
    tally = Tally()
    p, g, m, v, s = (tally.numbers(torch.tensor(x)) for x in (0.5, 0.3, 0.1, 0.2, 0.4))
    lr, decay = 0.1, options.get("weight_decay", 0)
    beta1, beta2, epsilon, step = 0.9, 0.999, 1e-8, 2
    if options.get("maximize"):
        g = -g
    if name == "AdamW":
        p = p * (1 - lr * decay)
    elif decay:
        g = g + decay * p
    if name == "SGD":
        if options.get("momentum"):
            m = options["momentum"] * m + (1 - options.get("dampening", 0)) * g
            g = g + options["momentum"] * m if options.get("nesterov") else m
        p = p - lr * g
    elif name == "Adagrad":
        s = s + g * g
        p = p - lr * (g / (sqrt(s) + epsilon))
    else:
        m = m + (1 - beta1) * (g - m)
        v = beta2 * v + (1 - beta2) * (g * g)
        greatest = maximum(v, s) if options.get("amsgrad") else v
        p = p - lr / (1 - beta1**step) * (m / (sqrt(greatest) / (1 - beta2**step) ** 0.5 + epsilon))
    return tally.count


UPDATES = [
    *(
        ("SGD", options)
        for options in (
            {},
            {"weight_decay": 0.1},
            {"momentum": 0.9},
            {"momentum": 0.9, "dampening": 0.5},
            {"momentum": 0.9, "nesterov": True},
            {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
        )
    ),
    *(
        (name, {"amsgrad": amsgrad, "weight_decay": decay, "maximize": maximize})
        for name in ("Adam", "AdamW")
        for amsgrad, decay, maximize in itertools.product([False, True], [0, 0.1], [False, True])
        # Without decay, one form of AdamW multiplies by 1.
        if decay or name == "Adam"
    ),
    *(
        ("Adagrad", options)
        for options in ({}, {"weight_decay": 0.1}, {"maximize": True}, {"weight_decay": 0.1, "maximize": True})
    ),
]
FORMS = ({"foreach": True}, {"foreach": False}, {"fused": True})


def work_of(steps, name, options):
    """Return the `other_flops` of the first ``steps`` steps of an optimizer."""

    def train(values, gradients):
        parameters = [value.detach().clone().requires_grad_() for value in values]
        optimizer = getattr(torch.optim, name)(parameters, lr=0.1, **options)
        for _ in range(steps):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()

    return for_real(train, (tensors(), tensors())).other_flops


@pytest.mark.parametrize("form", FORMS, ids=["foreach", "single", "fused"])
class TestOptimizers:
    """A step of an optimizer costs the operations of its update rule."""

    @pytest.mark.parametrize(("name", "options"), UPDATES, ids=str)
    def test_second_step(self, name, options, form):
        # Each tensor has a step counter, except with SGD.
        options = options | form
        counters = 0 if name == "SGD" else len(SHAPES)
        expected = counted_update(name, options) * ELEMENTS + counters
        assert work_of(2, name, options) - work_of(1, name, options) == expected

    def test_first_step_with_momentum(self, form):
        """In the first step, SGD copies the gradient to the momentum buffer without FLOPs."""
        # p - η · g
        assert work_of(1, "SGD", {"momentum": 0.9} | form) == 2 * ELEMENTS
