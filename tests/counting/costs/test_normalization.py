"""Normalizations and their gradients cost as much as loops over rows or channels."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from counted import Arithmetic, cost_of, gradient_flops, random, real_flops, tensor_of
from features import need, requires
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional
from zoo import BYTES, both

EPS = 1e-5


def statistics(arithmetic, values):
    """Return the mean, the reciprocal of the standard deviation, and the values minus the mean."""
    mean = arithmetic.total(values).value / len(values)
    centred = [value - mean for value in values]
    variance = arithmetic.total(value * value for value in centred).value / len(values)
    return mean, 1 / math.sqrt(variance + EPS), centred


def affine(values, weights, biases):
    if weights is not None:
        values = [value * weight for value, weight in zip(values, weights, strict=True)]
    if biases is not None:
        values = [value + bias for value, bias in zip(values, biases, strict=True)]
    return values


def normalized(arithmetic, values, weights, biases):
    _, rstd, centred = statistics(arithmetic, values)
    return affine([value * rstd for value in centred], weights, biases)


def gradients(arithmetic, values, grads, weights, asked):
    """Return the gradients of (values, weight, bias) for one row. Each is None unless ``asked`` (Ba et al., 2016)."""
    for_values, for_weight, for_bias = asked
    count = len(values)
    plain = [value.value for value in values]
    mean = sum(plain) / count
    rstd = 1 / math.sqrt(sum((value - mean) ** 2 for value in plain) / count + EPS)
    hats = [(value - mean) * rstd for value in values] if for_values or for_weight else []
    of_values, of_weight, of_bias = None, None, None
    if for_values:
        scaled = grads if weights is None else [g * w for g, w in zip(grads, weights, strict=True)]
        sum_1 = arithmetic.total(scaled).value / count
        sum_2 = arithmetic.total(h * x for h, x in zip(scaled, hats, strict=True)).value / count
        of_values = [(h - sum_1 - x * sum_2) * rstd for h, x in zip(scaled, hats, strict=True)]
    if for_weight:
        of_weight = [arithmetic.zero() + g * x for g, x in zip(grads, hats, strict=True)]
    if for_bias:
        of_bias = [arithmetic.zero() + g for g in grads]
    return of_values, of_weight, of_bias


SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(2, 4))
PARAMETERS = st.tuples(st.booleans(), st.booleans())


def parameters(shape, given_ones, *, grad=False):
    return [random(*shape, seed=seed, grad=grad) if given_one else None for seed, given_one in enumerate(given_ones)]


@settings(max_examples=15)
@given(shape=SHAPES, given_ones=PARAMETERS)
def test_layer_norm(shape, given_ones):
    inputs = random(*shape)
    weight, bias = parameters(shape[-1:], given_ones)
    arithmetic = Arithmetic()
    rows = arithmetic.numbers(inputs.flatten(0, 1))
    weights, biases = (None if item is None else item.tolist() for item in (weight, bias))
    expected = [normalized(arithmetic, row, weights, biases) for row in rows]
    output = functional.layer_norm(inputs, shape[-1:], weight, bias, EPS)
    torch.testing.assert_close(tensor_of(expected), output.flatten(0, 1))
    measured = both(lambda x: functional.layer_norm(x, shape[-1:], weight, bias, EPS), inputs)
    assert measured.other_flops == arithmetic.count


@settings(max_examples=15)
@given(shape=SHAPES, asked=st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any), weighted=st.booleans())
def test_layer_norm_backward(shape, asked, weighted):
    for_input, for_weight, for_bias = asked
    for_weight = for_weight and weighted
    if not (for_input or for_weight or for_bias):
        return
    inputs, grad = random(*shape, grad=for_input), random(*shape, seed=5)
    weight = random(shape[-1], seed=1, grad=for_weight) if weighted else None
    bias = random(shape[-1], seed=2, grad=for_bias)
    arithmetic = Arithmetic()
    rows, grads = (arithmetic.numbers(item.detach().flatten(0, 1)) for item in (inputs, grad))
    weights = weight.tolist() if weighted else None
    asked = for_input, for_weight, for_bias
    results = [gradients(arithmetic, row, g, weights, asked) for row, g in zip(rows, grads, strict=True)]

    def forward(x, w, b):
        return functional.layer_norm(x, shape[-1:], w, b, EPS)

    wanted = [item for item, flag in zip((inputs, weight, bias), asked, strict=True) if flag]
    actual = iter(torch.autograd.grad(forward(inputs, weight, bias), wanted, grad))
    for index in range(3):
        if asked[index]:
            naive = tensor_of([result[index] for result in results])
            naive = naive.view(shape) if index == 0 else naive.sum(0)
            torch.testing.assert_close(naive, next(actual))
    assert gradient_flops(forward, [inputs, weight, bias], grad) == arithmetic.count


@settings(max_examples=15)
@given(batch=st.integers(1, 2), groups=st.integers(1, 2), size=st.integers(2, 3), given_ones=PARAMETERS)
def test_group_norm(batch, groups, size, given_ones):
    channels = 2 * groups
    inputs = random(batch, channels, size)
    weight, bias = parameters((channels,), given_ones)
    arithmetic = Arithmetic()
    expected = []
    for image, group in itertools.product(range(batch), range(groups)):
        values = arithmetic.numbers(inputs[image, 2 * group : 2 * group + 2].flatten())
        spread = [
            None if item is None else item[2 * group : 2 * group + 2].repeat_interleave(size).tolist()
            for item in (weight, bias)
        ]
        expected.append(normalized(arithmetic, values, *spread))

    def forward(x, w, b):
        return functional.group_norm(x, groups, w, b, EPS)

    torch.testing.assert_close(tensor_of(expected).view(inputs.shape), forward(inputs, weight, bias))
    assert both(forward, (inputs, weight, bias)).other_flops == arithmetic.count


def test_group_norm_backward():
    # x̂ (2), the gradient of the input (7), its product with the weight (1), the gradients of weight (2) and bias (1)
    inputs, weight, bias = random(2, 4, 3, grad=True), random(4, grad=True), random(4, grad=True)
    grad = random(2, 4, 3)
    assert gradient_flops(lambda x, w, b: functional.group_norm(x, 2, w, b), [inputs, weight, bias], grad) == 13 * 24


def channels_of(tensor):
    return tensor.transpose(0, 1).flatten(1)


@settings(max_examples=15)
@given(shape=SHAPES, given_ones=PARAMETERS)
def test_batch_norm_in_training(shape, given_ones):
    inputs = random(*shape)
    weight, bias = parameters(shape[1:2], given_ones)
    arithmetic = Arithmetic()
    expected = []
    for channel, values in enumerate(arithmetic.numbers(channels_of(inputs))):
        spread = [None if item is None else [item[channel].item()] * len(values) for item in (weight, bias)]
        expected.append(normalized(arithmetic, values, *spread))

    def forward(x, w, b):
        return functional.batch_norm(x, None, None, w, b, training=True, eps=EPS)

    torch.testing.assert_close(tensor_of(expected), channels_of(forward(inputs, weight, bias)))
    assert both(forward, (inputs, weight, bias)).other_flops == arithmetic.count


@settings(max_examples=15)
@given(shape=SHAPES, given_ones=PARAMETERS)
def test_batch_norm_in_inference(shape, given_ones):
    """Batch norm in inference costs a product with a scale and a sum with a shift for each element."""
    # Computing the scale and the shift of each channel is not counted.
    inputs, mean, var = random(*shape), random(shape[1], seed=3), random(shape[1], seed=4).abs()
    weight, bias = parameters(shape[1:2], given_ones)
    scale = (var + EPS).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * scale
    arithmetic = Arithmetic()
    expected = [
        [value * scale[channel].item() + shift[channel].item() for value in values]
        for channel, values in enumerate(arithmetic.numbers(channels_of(inputs)))
    ]

    def forward(x):
        return functional.batch_norm(x, mean, var, weight, bias, eps=EPS)

    torch.testing.assert_close(tensor_of(expected), channels_of(forward(inputs)))
    assert both(forward, inputs).other_flops == arithmetic.count


@settings(max_examples=20)
@given(shape=SHAPES, asked=st.tuples(st.booleans(), st.booleans(), st.booleans()).filter(any))
def test_batch_norm_backward_in_training(shape, asked):
    # Two sums of a channel are also the gradients of its weight and its bias.
    inputs, weight, bias = (
        random(*size, seed=seed, grad=flag)
        for seed, (size, flag) in enumerate(zip((shape, shape[1:2], shape[1:2]), asked, strict=True))
    )
    grad = random(*shape, seed=7)
    for_input, for_weight, for_bias = asked
    arithmetic = Arithmetic()
    of_input, of_weight, of_bias = [], [], []
    for channel, values in enumerate(arithmetic.numbers(channels_of(inputs.detach()))):
        grads = arithmetic.numbers(channels_of(grad)[channel])
        plain = torch.tensor([value.value for value in values], dtype=torch.float64)
        mean, rstd = plain.mean().item(), (plain.var(correction=0) + EPS).rsqrt().item()
        if for_input or for_bias:
            of_bias.append(arithmetic.total(grads))
        if for_input or for_weight:
            hats = [(value - mean) * rstd for value in values]
            of_weight.append(arithmetic.total(g * x for g, x in zip(grads, hats, strict=True)))
        if for_input:
            scale, count = weight[channel].item() * rstd, len(values)
            sum_1, sum_2 = of_bias[-1].value / count, of_weight[-1].value / count
            of_input.append([(g - sum_1 - x * sum_2) * scale for g, x in zip(grads, hats, strict=True)])

    def forward(x, w, b):
        return functional.batch_norm(x, None, None, w, b, training=True, eps=EPS)

    wanted = [item for item in (inputs, weight, bias) if item.requires_grad]
    actual = iter(torch.autograd.grad(forward(inputs, weight, bias), wanted, grad))
    for item, naive in ((inputs, of_input), (weight, of_weight), (bias, of_bias)):
        if item.requires_grad:
            expected = next(actual)
            torch.testing.assert_close(tensor_of(naive), channels_of(expected) if item is inputs else expected)
    assert gradient_flops(forward, [inputs, weight, bias], grad) == arithmetic.count


@pytest.mark.parametrize(
    ("asked", "expected"),
    [((True, False, False), 1), ((False, True, False), 4), ((False, False, True), 1), ((True, True, True), 6)],
)
def test_batch_norm_backward_in_inference(asked, expected):
    # Input: g·scale costs 1. Weight: Σ g·x̂ costs 4, of which 2 are for x̂. Bias: Σ g costs 1.
    mean, var = random(3), random(3).abs()
    operands = [random(*shape, grad=flag) for shape, flag in zip(((2, 3, 2), (3,), (3,)), asked, strict=True)]

    def forward(x, w, b):
        return functional.batch_norm(x, mean, var, w, b)

    assert gradient_flops(forward, operands, random(2, 3, 2)) == expected * 12


def test_instance_norm():
    inputs, weight, bias = random(2, 3, 4), random(3), random(3)
    assert both(functional.instance_norm, inputs).other_flops == 5 * 24
    assert both(lambda x: functional.instance_norm(x, weight=weight, bias=bias), inputs).other_flops == 7 * 24


def test_batch_norm_over_processes():
    x, channels = random(2, 3, 4), random(3)
    aten = torch.ops.aten
    forward = [
        cost_of(aten.batch_norm_stats, (x, EPS), (channels, channels)),
        cost_of(aten.batch_norm_gather_stats, (x, x, x, None, None, 0.1, EPS, 8), (channels, channels)),
        cost_of(aten.batch_norm_elemt, (x, channels, channels, channels, channels, EPS), x),
    ]
    assert sum(forward) == 7 * 24
    for mask, expected in (((True, True, True), 5), ((False, True, False), 4), ((False, False, True), 1)):
        sums = (x, x, channels, channels, channels, *mask)
        assert cost_of(aten.batch_norm_backward_reduce, sums, [channels] * 4) == expected * 24
    assert cost_of(aten.batch_norm_backward_elemt, (x, x, *[channels] * 6), x) == 4 * 24


def test_kernels_of_other_devices():
    # FLOPs for each element: 7 in training, 2 in inference, 9 in the backward pass.
    x, channels = random(2, 3, 4), random(3)
    aten = torch.ops.aten
    for name in ("cudnn", "miopen"):
        forward, backward = (getattr(aten, f"{name}_batch_norm{suffix}") for suffix in ("", "_backward"))
        for training, expected in ((True, 7), (False, 2)):
            arguments = (x, channels, channels, channels, channels, training, 0.1, EPS)
            assert cost_of(forward, arguments, (x, channels, channels)) == expected * 24
        arguments = (x, x, channels, channels, channels, channels, channels, EPS, channels)
        assert cost_of(backward, arguments[: len(backward.default._schema.arguments)], (x, x, x)) == 9 * 24


@requires("aten._fused_rms_norm")
@pytest.mark.parametrize("of_input", [False, True])
@pytest.mark.parametrize("of_weight", [None, False, True])
def test_root_mean_square_in_one_kernel(of_input, of_weight):
    """RMS norm in one kernel costs as much as the CPU's separate operators."""
    inputs, rstd = random(2, 3, grad=of_input), random(2, 1)
    weight = None if of_weight is None else random(3, grad=of_weight)
    forward = both(functional.rms_norm, (inputs, (3,), weight, EPS)).other_flops
    kernel = torch.ops.aten._fused_rms_norm
    by_number = kernel.default._schema.arguments[1].name == "normalized_shape_ndim"
    assert cost_of(kernel, (inputs, 1 if by_number else [3], weight, EPS), (inputs, rstd)) == forward
    if of_input or of_weight:
        need("aten._fused_rms_norm_backward")  # all that is above has passed
        plain = both(functional.rms_norm, (inputs, (3,), weight, EPS), backward=True).other_flops
        arguments = (inputs, inputs, [3], rstd, weight, (of_input, bool(of_weight)))
        assert cost_of(torch.ops.aten._fused_rms_norm_backward, arguments, (inputs, weight)) == plain - forward


@settings(max_examples=10)
@given(rows=st.integers(1, 3), columns=st.integers(1, 4))
def test_weight_norm(rows, columns):
    """Weight norm costs as much as a loop over its definition (Salimans and Kingma, 2016, equation 3)."""
    v, g, grad = random(rows, columns, grad=True), random(rows, 1, seed=1, grad=True), random(rows, columns, seed=2)
    forward, backward = Arithmetic(), Arithmetic()
    expected, of_v, of_g = [], [], []
    for values, grads, scale in zip(v.tolist(), grad.tolist(), g[:, 0].tolist(), strict=True):
        row = forward.numbers(torch.tensor(values, dtype=torch.float64))
        norm = math.sqrt(forward.total(value * value for value in row).value)
        expected.append([value * (scale / norm) for value in row])
        row, row_grads = (backward.numbers(torch.tensor(item, dtype=torch.float64)) for item in (values, grads))
        product = backward.total(w * value for w, value in zip(row_grads, row, strict=True)).value
        of_g.append([product / norm])
        of_v.append(
            [(w - value * (product / norm**2)) * (scale / norm) for w, value in zip(row_grads, row, strict=True)]
        )
    output = torch._weight_norm(v, g, 0)
    torch.testing.assert_close(tensor_of(expected), output)
    for naive, actual in zip((of_v, of_g), torch.autograd.grad(output, (v, g), grad), strict=True):
        torch.testing.assert_close(tensor_of(naive), actual)

    def model(v, g):
        return torch._weight_norm(v, g, 0)

    assert both(model, (v.detach(), g.detach())).other_flops == forward.count
    assert gradient_flops(model, [v, g], grad) == backward.count


@pytest.mark.parametrize(("p", "terms"), [(1.0, 1), (2.0, 1), (math.inf, 1), (3.0, 2)])
def test_renorm(p, terms):
    # An embedding with `max_norm` renormalizes each row that is looked up.
    assert both(lambda x: torch.renorm(x, p, 0, 1.0), random(3, 4)).other_flops == (terms + 2) * 12
    indices = torch.tensor([0, 2, 2])

    def lookup(weight):
        return functional.embedding(indices, weight, max_norm=1.0, norm_type=p)

    assert both(lookup, random(5, 4)).other_flops == (terms + 2) * 12


def test_sparse_norm():
    # 3 squares, 2 sums and a root
    inputs = torch.sparse_coo_tensor([[0, 0, 1], [0, 2, 1]], [1.0, 2.0, 3.0], (2, 3), check_invariants=True).coalesce()
    assert real_flops(torch.ops.aten.native_norm, inputs) == 6


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # deprecated, but it still exists
def test_quantized_batch_norm():
    inputs = torch.quantize_per_tensor(random(1, 2, 3, 4).float(), 0.1, 10, torch.quint8)
    mean = random(2).abs().float()
    operator = torch.ops.aten.quantized_batch_norm.default
    assert real_flops(lambda x, m: operator(x, m, m, m, m, EPS, 0.1, 10), inputs, mean) == 48


@pytest.mark.parametrize(
    ("name", "switches", "expected"),
    [
        ("_batch_norm_with_update", (), 7),
        ("_batch_norm_with_update_functional", (), 7),
        ("_batch_norm_no_update", (), 2),
        ("_native_batch_norm_legit", (True,), 7),
        ("_native_batch_norm_legit", (False,), 2),
        ("_native_batch_norm_legit_functional", (True,), 7),
        ("_native_batch_norm_legit_no_training", (), 2),
    ],
)
def test_names_of_batch_norm(name, switches, expected):
    x, weight, mean, var = random(2, 3, 4), random(3), random(3), random(3).abs()
    operator = getattr(torch.ops.aten, name).default

    def model(x, weight, mean, var):
        return operator(x, weight, weight, mean, var, *switches, 0.1, EPS)

    assert both(model, (x, weight, mean, var), without=BYTES).other_flops == expected * 24
