"""Elementwise operators cost as many operations as their definitions for single numbers."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from definitions import (
    Tally,
    branch,
    elementary,
    erf,
    exp,
    exp2,
    floor,
    free,
    isnan,
    lgamma,
    log,
    log2,
    maximum,
    minimum,
    numbers,
    round_,
    sin,
    sqrt,
    tanh,
    trunc,
)
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from zoo import BYTES, both

from pytest_flopsbudget.counting.costs import elementwise, registry
from pytest_flopsbudget.counting.costs.registry import Call
from pytest_flopsbudget.counting.operators.info import operator_info

aten = torch.ops.aten


def sigmoid(x):
    return 1 / (1 + exp(-x))


def gelu_tanh_inner(x):
    """Compute the argument of tanh in GELU like `torch._refs.nn.functional.gelu`."""
    return math.sqrt(2 / math.pi) * (x + 0.044715 * (x * x * x))


def gelu_tanh_backward(g, x):
    """Compute the gradient of GELU (with tanh) like PyTorch's `torch._decomp.decompositions.gelu_backward`."""
    square = x * x
    inner = tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * (square * x)))
    left, right = 0.5 * x, 1 + inner
    outer_derivative = 1 - inner * inner
    inner_derivative = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * square)
    return g * (0.5 * right + left * outer_derivative * inner_derivative)


def gelu_backward(g, x):
    distribution = 0.5 * (1 + erf(x * math.sqrt(0.5)))
    density = exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return g * (distribution + x * density)


def elu(x, alpha=1, scale=1, input_scale=1):
    return scale * branch(x > 0, lambda: x, lambda: alpha * (exp(input_scale * x) - 1))


def elu_backward(g, x, alpha=1, scale=1, input_scale=1):
    # The product of the three factors is a Python number and costs nothing.
    return branch(x > 0, lambda: g * scale, lambda: g * (exp(input_scale * x) * (scale * alpha * input_scale)))


def elu_backward_of_result(g, y, alpha, scale, input_scale):
    return branch(y > 0, lambda: g * scale, lambda: g * ((y + scale * alpha) * input_scale))


def between(x, low, high, value):
    return branch(x > low, lambda: branch(x < high, value, lambda: 0.0), lambda: 0.0)


def mish(x):
    return x * tanh(log(1 + exp(x)))


def mish_backward(g, x):
    t, s = tanh(log(1 + exp(x))), sigmoid(x)
    return g * (t + x * s * (1 - t * t))


def silu_backward(g, x):
    s = sigmoid(x)
    return g * s * (1 + x * (1 - s))


def glu(x):
    a, b = free(lambda v: v[:, :2], x), free(lambda v: v[:, 2:], x)
    return a * sigmoid(b)


def glu_backward(g, x):
    a, b = free(lambda v: v[:, :2], x), free(lambda v: v[:, 2:], x)
    s = sigmoid(b)
    first = g * s
    return free(lambda *parts: torch.cat(parts, 1), first, (1 - s) * first * a)


def nan_to_num(x):
    greatest = torch.finfo(torch.float64).max
    within = branch(x > greatest, lambda: greatest, lambda: branch(x < -greatest, lambda: -greatest, lambda: x))
    return branch(isnan(x), lambda: 0.0, lambda: within)


def hardshrink(x, bound, value):
    return branch(x > bound, value, lambda: branch(x < -bound, value, lambda: 0.0))


def softplus_backward(g, x, beta):
    e = exp(beta * x)
    return g * e / (1 + e)


def log_sigmoid_backward(g, x):
    e = exp(-x)
    return g * e / (1 + e)


def mvlgamma(x, p):
    total = p * (p - 1) / 4 * math.log(math.pi)
    for j in range(p):
        total = total + lgamma(x - j / 2)
    return total


def places(x, decimals):
    return round_(x * 10.0**decimals) / 10.0**decimals


def outer(a, b):
    return free(lambda v: v[:, None], a) * b


def quotient_of_itself(function, x):
    return function(x) / x


def beside(first, _second):
    """Return ``first``. The caller computes ``_second`` only in order to count its operations."""
    return first


X, Y, Z = numbers(3)
POSITIVE, MORE = numbers(2, low=0.2, high=3.0)
UNIT = numbers(1, low=0.05, high=0.95)[0]
ODD = torch.tensor([[0.5, math.inf, -math.inf, math.nan, 2.0]], dtype=torch.float64)
PAIRS = numbers(1, shape=(3, 4))[0]
HALF = numbers(1, shape=(3, 2))[0]

#: Name of a case → (operator, its tensors, its definition).
CASES = {
    "abs": (torch.abs, [X], abs),
    "add": (torch.add, [X, Y], lambda x, y: x + y),
    "add by alpha": (lambda x, y: torch.add(x, y, alpha=3), [X, Y], lambda x, y: x + 3 * y),
    "add by alpha 1": (lambda x, y: torch.add(x, y, alpha=1.0), [X, Y], lambda x, y: x + y),
    "add a number": (lambda x: x + 2, [X], lambda x: x + 2),
    "sub": (torch.sub, [X, Y], lambda x, y: x - y),
    "sub by alpha": (lambda x, y: torch.sub(x, y, alpha=0.5), [X, Y], lambda x, y: x - 0.5 * y),
    "rsub": (lambda x: 2 - x, [X], lambda x: 2 - x),
    "rsub by alpha": (lambda x, y: torch.rsub(x, y, alpha=0.5), [X, Y], lambda x, y: y - 0.5 * x),
    "mul": (torch.mul, [X, Y], lambda x, y: x * y),
    "div": (torch.div, [X, Y], lambda x, y: x / y),
    "div, floor": (lambda x, y: torch.div(x, y, rounding_mode="floor"), [X, Y], lambda x, y: floor(x / y)),
    "div, trunc": (lambda x, y: torch.div(x, y, rounding_mode="trunc"), [X, Y], lambda x, y: trunc(x / y)),
    "floor_divide": (torch.floor_divide, [X, Y], lambda x, y: floor(x / y)),
    "pow": (torch.pow, [POSITIVE, X], lambda x, y: x**y),
    "square": (torch.square, [X], lambda x: x**2),
    "reciprocal": (torch.reciprocal, [X], lambda x: 1 / x),
    "addcmul": (torch.addcmul, [X, Y, Z], lambda x, y, z: x + y * z),
    "addcmul by value": (lambda *a: torch.addcmul(*a, value=2), [X, Y, Z], lambda x, y, z: x + 2 * (y * z)),
    "addcdiv": (torch.addcdiv, [X, Y, Z], lambda x, y, z: x + y / z),
    "addcdiv by value": (lambda *a: torch.addcdiv(*a, value=2), [X, Y, Z], lambda x, y, z: x + 2 * (y / z)),
    "lerp": (torch.lerp, [X, Y, UNIT], lambda a, b, w: a + w * (b - a)),
    "lerp by a number": (lambda a, b: torch.lerp(a, b, 0.3), [X, Y], lambda a, b: a + 0.3 * (b - a)),
    "addr": (torch.addr, [X, X[:, 0], Y[0]], lambda m, a, b: m + outer(a, b)),
    "addr by factors": (
        lambda *a: torch.addr(*a, beta=2, alpha=3),
        [X, X[:, 0], Y[0]],
        lambda m, a, b: 2 * m + 3 * outer(a, b),
    ),
    "addr by beta 0": (lambda *a: torch.addr(*a, beta=0), [X, X[:, 0], Y[0]], lambda m, a, b: outer(a, b)),
    "outer": (torch.outer, [X[:, 0], Y[0]], outer),
    "ldexp": (torch.ldexp, [X, Y], lambda x, y: x * exp2(y)),
    "hypot": (torch.hypot, [X, Y], lambda x, y: sqrt(x * x + y * y)),
    "maximum": (torch.maximum, [X, Y], maximum),
    "minimum": (torch.minimum, [X, Y], minimum),
    "max of two": (torch.max, [X, Y], maximum),
    "clamp": (lambda x: torch.clamp(x, -1, 2), [X], lambda x: minimum(maximum(x, -1.0), 2.0)),
    "clamp below": (lambda x: torch.clamp(x, min=-1), [X], lambda x: maximum(x, -1.0)),
    "clamp above": (lambda x: torch.clip(x, max=1), [X], lambda x: minimum(x, 1.0)),
    "clamp by tensors": (torch.clamp, [X, Y - 4, Y + 4], lambda x, a, b: minimum(maximum(x, a), b)),
    "clamp_min": (lambda x: torch.clamp_min(x, 0.5), [X], lambda x: maximum(x, 0.5)),
    "nan_to_num": (torch.nan_to_num, [ODD], nan_to_num),
    "frac": (torch.frac, [X], lambda x: x - trunc(x)),
    "round to places": (lambda x: torch.round(x, decimals=2), [X], lambda x: places(x, 2)),
    "deg2rad": (torch.deg2rad, [X], lambda x: x * (math.pi / 180)),
    "rad2deg": (torch.rad2deg, [X], lambda x: x * (180 / math.pi)),
    "gt": (torch.gt, [X, Y], lambda x, y: x > y),
    "ge": (torch.ge, [X, Y], lambda x, y: x >= y),
    "lt": (torch.lt, [X, Y], lambda x, y: x < y),
    "le": (torch.le, [X, Y], lambda x, y: x <= y),
    "eq": (torch.eq, [X, Y], lambda x, y: elementary(torch.eq, x, y)),
    "ne": (torch.ne, [X, Y], lambda x, y: elementary(torch.ne, x, y)),
    "exp": (torch.exp, [X], exp),
    "log": (torch.log, [POSITIVE], log),
    "log2": (torch.log2, [POSITIVE], log2),
    "log10": (torch.log10, [POSITIVE], lambda x: elementary(torch.log10, x)),
    "round": (torch.round, [X], round_),
    "copysign": (torch.copysign, [X, Y], lambda x, y: elementary(torch.copysign, x, y)),
    "heaviside": (torch.heaviside, [X, Y], lambda x, y: elementary(torch.heaviside, x, y)),
    "sgn": (torch.sgn, [X], lambda x: elementary(torch.sign, x)),
    "sigmoid": (torch.sigmoid, [X], sigmoid),
    "sigmoid_backward": (aten.sigmoid_backward, [X, UNIT], lambda g, y: g * y * (1 - y)),
    "tanh_backward": (aten.tanh_backward, [X, UNIT], lambda g, y: g * (1 - y * y)),
    "logit": (torch.logit, [UNIT], lambda x: log(x / (1 - x))),
    "logit in range": (lambda x: torch.logit(x, 1e-9), [UNIT], lambda x: log(x / (1 - x))),
    "logit_backward": (aten.logit_backward, [X, UNIT], lambda g, x: g / (x * (1 - x))),
    "logaddexp": (torch.logaddexp, [X, Y], lambda a, b: log(exp(a) + exp(b))),
    "logaddexp2": (torch.logaddexp2, [X, Y], lambda a, b: log2(exp2(a) + exp2(b))),
    "xlogy": (torch.xlogy, [X, POSITIVE], lambda x, y: x * log(y)),
    "xlog1py": (torch.special.xlog1py, [X, POSITIVE], lambda x, y: x * elementary(torch.log1p, y)),
    "entr": (torch.special.entr, [POSITIVE], lambda x: -x * log(x)),
    "sinc": (torch.sinc, [X], lambda x: quotient_of_itself(sin, math.pi * x)),
    "mvlgamma": (lambda x: torch.mvlgamma(x, 3), [POSITIVE + 2], lambda x: mvlgamma(x, 3)),
    "relu": (torch.relu, [X], lambda x: maximum(x, 0.0)),
    "relu6": (F.relu6, [X], lambda x: minimum(maximum(x, 0.0), 6.0)),
    "threshold": (lambda x: F.threshold(x, 1.0, 9.0), [X], lambda x: branch(x > 1.0, lambda: x, lambda: 9.0)),
    "threshold_backward": (
        lambda g, x: aten.threshold_backward(g, x, 1.0),
        [X, Y],
        lambda g, x: branch(x > 1.0, lambda: g, lambda: 0.0),
    ),
    "leaky_relu": (
        lambda x: F.leaky_relu(x, 0.1),
        [X],
        lambda x: branch(x > 0, lambda: x, lambda: 0.1 * x),
    ),
    "leaky_relu_backward": (
        lambda g, x: aten.leaky_relu_backward(g, x, 0.1, False),
        [X, Y],
        lambda g, x: branch(x > 0, lambda: g, lambda: 0.1 * g),
    ),
    "rrelu in inference": (
        lambda x: F.rrelu(x, 0.1, 0.3),
        [X],
        lambda x: branch(x > 0, lambda: x, lambda: 0.2 * x),
    ),
    "rrelu_backward in inference": (
        lambda g, x: aten.rrelu_with_noise_backward(g, x, torch.zeros_like(x), 0.1, 0.3, False, False),
        [X, Y],
        lambda g, x: branch(x > 0, lambda: g, lambda: 0.2 * g),
    ),
    "rrelu_backward in training": (
        lambda g, x, noise: aten.rrelu_with_noise_backward(g, x, noise, 0.1, 0.3, True, False),
        [X, Y, UNIT],
        lambda g, x, noise: g * noise,
    ),
    "prelu": (
        F.prelu,
        [X, UNIT[0, :1]],
        lambda x, w: branch(x > 0, lambda: x, lambda: w * x),
    ),
    "prelu_backward": (
        lambda g, x, w: aten._prelu_kernel_backward(g, x, w)[0],
        [X, Y, UNIT],
        lambda g, x, w: branch(x > 0, lambda: g, lambda: beside(g * w, g * x)),
    ),
    "elu": (F.elu, [X], elu),
    "elu by alpha": (lambda x: F.elu(x, 0.7), [X], lambda x: elu(x, 0.7)),
    "elu by all": (lambda x: aten.elu(x, 2, 3, 0.5), [X], lambda x: elu(x, 2, 3, 0.5)),
    "elu_backward": (lambda g, x: aten.elu_backward(g, 1, 1, 1, False, x), [X, Y], elu_backward),
    "elu_backward by alpha": (
        lambda g, x: aten.elu_backward(g, 0.7, 1, 1, False, x),
        [X, Y],
        lambda g, x: elu_backward(g, x, 0.7),
    ),
    "elu_backward by all": (
        lambda g, x: aten.elu_backward(g, 2, 3, 0.5, False, x),
        [X, Y],
        lambda g, x: elu_backward(g, x, 2, 3, 0.5),
    ),
    "elu_backward of the result": (
        lambda g, y: aten.elu_backward(g, 2, 3, 0.5, True, y),
        [X, Y],
        lambda g, y: elu_backward_of_result(g, y, 2, 3, 0.5),
    ),
    "selu": (F.selu, [X], lambda x: elu(x, 1.6732632423543772848170429916717, 1.0507009873554804934193349852946)),
    "celu": (F.celu, [X], lambda x: branch(x > 0, lambda: x, lambda: exp(x) - 1)),
    "celu by alpha": (
        lambda x: F.celu(x, 0.7),
        [X],
        lambda x: branch(x > 0, lambda: x, lambda: 0.7 * (exp(x / 0.7) - 1)),
    ),
    "gelu": (F.gelu, [X], lambda x: x * (1 + erf(x / math.sqrt(2))) / 2),
    "gelu, tanh": (
        lambda x: F.gelu(x, approximate="tanh"),
        [X],
        lambda x: 0.5 * x * (1 + tanh(gelu_tanh_inner(x))),
    ),
    "gelu_backward": (aten.gelu_backward, [X, Y], gelu_backward),
    "gelu_backward, tanh": (
        lambda g, x: aten.gelu_backward(g, x, approximate="tanh"),
        [X, Y],
        gelu_tanh_backward,
    ),
    "glu": (F.glu, [PAIRS], glu),
    "glu_backward": (lambda g, x: aten.glu_backward(g, x, -1), [HALF, PAIRS], glu_backward),
    "silu": (F.silu, [X], lambda x: x * sigmoid(x)),
    "silu_backward": (aten.silu_backward, [X, Y], silu_backward),
    "mish": (F.mish, [X], mish),
    "mish_backward": (aten.mish_backward, [X, Y], mish_backward),
    "softplus": (F.softplus, [X], lambda x: log(1 + exp(x))),
    "softplus by beta": (lambda x: F.softplus(x, 2), [X], lambda x: log(1 + exp(2 * x)) / 2),
    "softplus_backward": (
        lambda g, x: aten.softplus_backward(g, x, 1, 20),
        [X, Y],
        lambda g, x: softplus_backward(g, x, 1),
    ),
    "softplus_backward by beta": (
        lambda g, x: aten.softplus_backward(g, x, 2, 20),
        [X, Y],
        lambda g, x: softplus_backward(g, x, 2),
    ),
    "logsigmoid": (F.logsigmoid, [X], lambda x: -log(1 + exp(-x))),
    "log_sigmoid_backward": (
        lambda g, x: aten.log_sigmoid_backward(g, x, torch.exp(-x.abs())),
        [X, Y],
        # The definition also computes the operator's buffer: an absolute value, its negative, and the exponential.
        lambda g, x: beside(log_sigmoid_backward(g, x), exp(-abs(x))),
    ),
    "hardtanh": (F.hardtanh, [X], lambda x: minimum(maximum(x, -1.0), 1.0)),
    "hardtanh_backward": (
        lambda g, x: aten.hardtanh_backward(g, x, -1, 1),
        [X, Y],
        lambda g, x: between(x, -1, 1, lambda: g),
    ),
    "hardsigmoid": (F.hardsigmoid, [X], lambda x: minimum(maximum(x + 3, 0.0), 6.0) / 6),
    "hardsigmoid_backward": (
        aten.hardsigmoid_backward,
        [X, Y],
        lambda g, x: between(x, -3, 3, lambda: g / 6),
    ),
    "hardswish": (F.hardswish, [X], lambda x: x * minimum(maximum(x + 3, 0.0), 6.0) / 6),
    "hardswish_backward": (
        aten.hardswish_backward,
        [X, Y],
        lambda g, x: branch(x < -3, lambda: 0.0, lambda: branch(x > 3, lambda: g, lambda: g * (x / 3 + 0.5))),
    ),
    "hardshrink": (lambda x: F.hardshrink(x, 1), [X], lambda x: hardshrink(x, 1, lambda: x)),
    "hardshrink_backward": (
        lambda g, x: aten.hardshrink_backward(g, x, 1),
        [X, Y],
        lambda g, x: hardshrink(x, 1, lambda: g),
    ),
    "softshrink": (
        lambda x: F.softshrink(x, 1),
        [X],
        lambda x: branch(x > 1, lambda: x - 1, lambda: branch(x < -1, lambda: x + 1, lambda: 0.0)),
    ),
    "softshrink_backward": (
        lambda g, x: aten.softshrink_backward(g, x, 1),
        [X, Y],
        lambda g, x: hardshrink(x, 1, lambda: g),
    ),
    "tanhshrink": (F.tanhshrink, [X], lambda x: x - tanh(x)),
    "softsign": (F.softsign, [X], lambda x: x / (abs(x) + 1)),
}


@functools.cache
def measured(case):
    operator, tensors, _ = CASES[case]
    return both(operator, tuple(tensors), without=BYTES)


@pytest.mark.parametrize("case", CASES)
def test_is_its_definition(case):
    # The values are compared with a tolerance, because some of PyTorch's constants have 32 bits.
    operator, tensors, definition = CASES[case]
    tally = Tally()
    expected = definition(*map(tally.numbers, tensors))
    torch.testing.assert_close(operator(*tensors), expected.value, rtol=1e-7, atol=1e-7, equal_nan=True)
    assert measured(case).other_flops == tally.count > 0
    assert measured(case).flops == 0


#: Name of an operator's case above → a module whose backward pass is this one operator.
ACTIVATIONS = {
    "elu_backward": nn.ELU(),
    "gelu_backward": nn.GELU(),
    "gelu_backward, tanh": nn.GELU("tanh"),
    "hardsigmoid_backward": nn.Hardsigmoid(),
    "hardswish_backward": nn.Hardswish(),
    "hardtanh_backward": nn.Hardtanh(),
    "mish_backward": nn.Mish(),
    "sigmoid_backward": nn.Sigmoid(),
    "silu_backward": nn.SiLU(),
    "tanh_backward": nn.Tanh(),
}


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_backward_pass_of_a_module(case):
    module = ACTIVATIONS[case]
    inputs = X.clone().requires_grad_()
    tally = Tally()
    CASES[case][2](*map(tally.numbers, (Y, X)))
    forward = both(module, inputs)
    assert both(module, inputs, backward=True).other_flops - forward.other_flops == tally.count


#: Operators that PyTorch runs either whole or decomposed into other operators.
TAKEN_APART = {
    "mish_backward": [X, Y],
    "silu_backward": [X, Y],
    "selu": [X],
    "square": [X],
    "true_divide": [X, Y],
}


@pytest.mark.parametrize("name", TAKEN_APART)
def test_whole_or_taken_apart(name):
    """An operator costs as much as the operators into which PyTorch can decompose it."""
    tensors = TAKEN_APART[name]
    packet = getattr(aten, name)
    operator = packet.Tensor if "Tensor" in packet.overloads() else packet.default
    parts = both(packet, tuple(tensors), without=BYTES)
    assert f"aten.{name}" not in parts.operators
    whole = Call(operator, tensors, {}, X)
    assert registry.REGISTRY.facets(f"aten.{name}").other(whole) == parts.other_flops


#: Operators in the tables that have no case above. A comment gives the reason for each group.
NO_DEFINITION = {
    # These operators compute on integers, or are gradients of random sampling.
    "__ilshift__ __irshift__ gcd lcm _dirichlet_grad _standard_gamma_grad",
    # These operators are tested in other files: complex numbers, random masks, operators that return Python values.
    "_conj_physical angle conj_physical polar native_dropout native_dropout_backward equal allclose",
    "rrelu_with_noise_functional",
    # These operators run only on other devices, or only in TorchScript.
    "_add_relu _fused_dropout _masked_scale _amp_foreach_non_finite_check_and_unscale _amp_update_scale",
    # These operators decompose into operators that the cases above count.
    "clip mish_backward selu silu_backward square true_divide",
    # Operators for quantization are tested in another file.
    "dequantize quantize_per_channel quantize_per_tensor quantize_per_tensor_dynamic",
    "fake_quantize_per_tensor_affine_cachemask",
    "fake_quantize_per_channel_affine_cachemask _fake_quantize_per_tensor_affine_cachemask_tensor_qparams",
    "_fake_quantize_learnable_per_channel_affine _fake_quantize_learnable_per_tensor_affine",
    "_fake_quantize_learnable_per_channel_affine_backward _fake_quantize_learnable_per_tensor_affine_backward",
    "_fused_moving_avg_obs_fq_helper _fused_moving_avg_obs_fq_helper_functional",
}


def test_every_operator_of_the_tables_has_a_definition():
    tables = {
        name.removeprefix("aten.")
        for name, facets in registry.REGISTRY.items()
        if getattr(facets.other, "__module__", None) == elementwise.__name__
    }
    seen = {name.removeprefix("aten.").rstrip("_") for case in CASES for name in measured(case).operators}
    undefined, expected = tables - seen, set(" ".join(NO_DEFINITION).split())
    assert undefined >= expected
    # An older PyTorch has some operators only as several others, which the cases count.
    assert all(_consists_of_others(name) for name in undefined - expected)


def _consists_of_others(name):
    overloads = getattr(torch.ops.aten, name)
    return operator_info(getattr(overloads, overloads.overloads()[0])).decomposes
