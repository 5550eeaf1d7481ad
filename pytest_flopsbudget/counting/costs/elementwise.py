"""Elementwise operators: the number of elementary operations per element, from the definition of each operator.

Each elementary operation counts 1, as in `elementary.py`. If a definition has branches, the comparison and the most
expensive branch are counted. Comparisons that only keep numbers in range are not counted. A factor of 1 (`alpha`,
`beta`, `value`) costs no operation. A derivative is computed from the tensor that autograd saved and passes to the
operator: the input or the output.

A complex number consists of two real numbers, so an operation on it costs twice as much. `_COMPLEX` lists the
exceptions.

Source: the definitions in PyTorch's documentation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.elementary import computes_on_floats, elementary, elements, is_complex
from pytest_flopsbudget.counting.costs.registry import other_formula
from pytest_flopsbudget.counting.tensors.metadata import tensors_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.counting.costs.registry import Call

#: Operations per output element, for operators whose cost depends on no argument. Each comment gives the definition
#: whose operations are counted. An operator without entry costs 1.
_OPERATIONS: Mapping[str, int] = {
    "abs": 1,
    "copysign": 1,
    "eq": 1,
    "frac": 2,  # x - trunc(x)
    "ge": 1,
    "glu": 5,  # a · sigmoid(b)
    "glu_backward": 4,  # 8 for a pair of output elements: s(b), g·s, and (1 - s) · g·s · a
    "gt": 1,
    "hardshrink": 2,  # x > λ, x < -λ
    "hardshrink_backward": 2,
    "hardsigmoid": 4,  # min(max(x + 3, 0), 6) / 6
    "hardsigmoid_backward": 3,  # two comparisons, g / 6
    "hardswish": 5,  # x · min(max(x + 3, 0), 6) / 6
    "hardswish_backward": 5,  # two comparisons, g · (x / 3 + 1/2)
    "hardtanh": 2,  # min(max(x, a), b)
    "hardtanh_backward": 2,
    "hypot": 4,  # sqrt(a² + b²)
    "le": 1,
    "leaky_relu": 2,  # x > 0, times the slope
    "leaky_relu_backward": 2,
    "ldexp": 2,  # x · 2^k
    "log_sigmoid_backward": 5,  # g · exp(-x) / (1 + exp(-x))
    "log_sigmoid_forward": 5,  # -log(1 + exp(-x))
    "logaddexp": 4,  # log(exp(a) + exp(b))
    "logaddexp2": 4,
    "logit": 3,  # log(x / (1 - x))
    "logit_backward": 3,  # g / (x · (1 - x))
    "lt": 1,
    "mish": 5,  # x · tanh(log(1 + exp(x)))
    "mish_backward": 14,  # g · (t + x · s(x) · (1 - t²)), t = tanh(log(1 + exp(x)))
    "nan_to_num": 3,  # comparisons with NaN, infinity and minus infinity
    "ne": 1,
    "polar": 4,  # r · cos, r · sin
    "_prelu_kernel": 2,
    "_prelu_kernel_backward": 3,  # x > 0; g · w for the gradient of the input, g · x for the gradient of the weight
    "rrelu_with_noise": 2,
    "rrelu_with_noise_functional": 2,
    "sigmoid": 4,  # 1 / (1 + exp(-x))
    "sigmoid_backward": 3,  # g · y · (1 - y)
    "silu": 5,  # x · sigmoid(x)
    "silu_backward": 9,  # g · s · (1 + x · (1 - s))
    "sinc": 3,  # sin(πx) / πx
    "softshrink": 3,  # two comparisons, x - λ
    "softshrink_backward": 2,
    "special_entr": 3,  # -x · log(x)
    "special_xlog1py": 2,
    "tanh_backward": 3,  # g · (1 - y²)
    "threshold": 1,
    "threshold_backward": 1,
    "xlogy": 2,
    # Special functions and their derivatives: each counts as one elementary operation, like erf.
    "_dirichlet_grad": 1,
    "_standard_gamma_grad": 1,
    "heaviside": 1,
    # Operators on integers are free. PyTorch does not tag all of them as pointwise, so they are listed here.
    "__ilshift__": 1,
    "__irshift__": 1,
    "gcd": 1,
    "lcm": 1,
    # Dropout in its unfused form: the mask is divided by the probability to keep, and multiplied with the input. The
    # gradient needs one product.
    "_fused_dropout": 2,
    "_masked_scale": 1,
    "native_dropout_backward": 1,
    # Quantize: x / scale, rounding, + zero point, a maximum and a minimum. Dequantize: - zero point, · scale.
    "quantize_per_channel": 5,
    "quantize_per_tensor": 5,
    "quantize_per_tensor_dynamic": 7,  # 2 more than `quantize_per_tensor`: it finds the minimum and the maximum
    "dequantize": 2,
    "fake_quantize_per_channel_affine_cachemask": 7,
    "fake_quantize_per_tensor_affine_cachemask": 7,
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": 7,
    "_fake_quantize_learnable_per_channel_affine": 7,
    "_fake_quantize_learnable_per_tensor_affine": 7,
    # 13 operations: quantize (5), two comparisons with the ends of the range (2), and the gradients of the input (a
    # product), the scale (a difference, a product, a sum) and the zero point (a product, a sum). Source: Esser et al.,
    # "Learned Step Size Quantization", 2020, §2.1.
    "_fake_quantize_learnable_per_channel_affine_backward": 13,
    "_fake_quantize_learnable_per_tensor_affine_backward": 13,
    "_fused_moving_avg_obs_fq_helper": 9,
    "_fused_moving_avg_obs_fq_helper_functional": 9,
}

#: Operations per complex element, if they are not twice the operations of a real element:
#:
#: - (a + bi)(c + di) is 4 products and 2 sums.
#: - A quotient multiplies with the conjugate and divides by c² + d².
#: - |a + bi| = sqrt(a² + b²).
#: - exp(a + bi) = exp(a) · (cos b + i sin b).
#: - log(a + bi) = log|a + bi| + i · atan2(b, a). Logarithms to other bases divide both parts.
_COMPLEX: Mapping[str, int] = {
    "_conj_physical": 1,
    "abs": 4,
    "angle": 1,
    "conj_physical": 1,
    "div": 11,
    "exp": 5,
    "log": 6,
    "log10": 8,
    "log2": 8,
    "mul": 6,
    "polar": 4,
    "reciprocal": 6,
    "sgn": 6,
    "square": 6,
}

#: A real number divided by a complex number, a / (c + di): a · c, a · d, a change of sign, c² + d² (3), two quotients.
_REAL_BY_COMPLEX = 8


def _name(call: Call) -> str:
    return call.name.removeprefix("aten.").rstrip("_") or call.name


def _scaled(factor: Any) -> int:
    """Return the number of operations for a product with this factor: 0 for a factor of 1, otherwise 1."""
    return 0 if isinstance(factor, (int, float, bool)) and factor == 1 else 1


def scaling(factor: Any, *, complex_numbers: bool) -> int:
    """Return the number of operations that scale one element by an argument of the operator, such as ``alpha``."""
    if not isinstance(factor, torch.Tensor) and factor == 1:
        return 0
    if complex_numbers:
        return _COMPLEX["mul"] if isinstance(factor, complex) else 2
    return 1


def operations(name: str, *, complex_numbers: bool = False) -> int:
    """Return the operations per element of an operator such as "sigmoid", whose cost depends on no argument."""
    if complex_numbers and name in _COMPLEX:
        return _COMPLEX[name]
    return (2 if complex_numbers else 1) * _OPERATIONS.get(name, 1)


def _for_each(call: Call, count: int) -> int:
    """Count ``count`` operations for each output element, or twice as many if there are complex numbers.

    If the operator reads and returns only integers and booleans, return 0.
    """
    if not count or not computes_on_floats(call):
        return 0
    return (2 if is_complex(call) else 1) * count * call.first_output.numel()


@other_formula(
    *(f"aten.{name}" for name in _OPERATIONS),
    *(f"aten.{name}" for name in _COMPLEX if name not in _OPERATIONS and name not in ("div", "mul")),
)
def _fixed(call: Call) -> int:
    if not computes_on_floats(call):
        return 0
    return operations(_name(call), complex_numbers=is_complex(call)) * call.first_output.numel()


def product_or_quotient(name: str, left: Any, right: Any) -> int:
    """Return the operations per element of a product ("mul") or a quotient ("div") of two tensors or numbers."""
    complex_numbers = _is_complex(left), _is_complex(right)
    if all(complex_numbers):
        return _COMPLEX[name]
    if not any(complex_numbers):
        return 1
    return _REAL_BY_COMPLEX if name == "div" and complex_numbers[1] else 2  # one for each part of the complex number


def power(base: Any, exponent: Any) -> int:
    """Return the operations per element of a power.

    A real power costs 1. A complex square costs one product. Any other complex power is exp(exponent · log(base)).
    """
    if not _is_complex(base) and not _is_complex(exponent):
        return 1
    if not isinstance(exponent, torch.Tensor) and exponent in (1, 2):
        return 0 if exponent == 1 else _COMPLEX["mul"]
    logarithm = _COMPLEX["log"] if isinstance(base, torch.Tensor) else 0
    return logarithm + product_or_quotient("mul", base, exponent) + _COMPLEX["exp"]


def _is_complex(operand: Any) -> bool:
    return isinstance(operand, complex) or (isinstance(operand, torch.Tensor) and operand.is_complex())


@other_formula("aten.mul", "aten.div", "aten.true_divide", "aten.floor_divide")
def _product_or_quotient(call: Call) -> int:
    """Count the operations in a · b or in a / b, and a rounding if the call requests one."""
    if not computes_on_floats(call):
        return 0
    name = "mul" if _name(call) == "mul" else "div"
    rounded = _name(call) == "floor_divide" or ("rounding_mode" in call.names and call["rounding_mode"] is not None)
    return (product_or_quotient(name, call["self"], call["other"]) + rounded) * call.first_output.numel()


@other_formula("aten.pow")
def _power(call: Call) -> int:
    return power(call["self"], call["exponent"]) * call.first_output.numel() if computes_on_floats(call) else 0


@other_formula("aten.add", "aten.sub", "aten.rsub")
def _sum(call: Call) -> int:
    """Count the operations in a + alpha · b."""
    if not computes_on_floats(call):
        return 0
    complex_numbers = is_complex(call)
    sums = 2 if complex_numbers else 1
    return (sums + scaling(call["alpha"], complex_numbers=complex_numbers)) * call.first_output.numel()


@other_formula("aten._add_relu")
def _sum_and_relu(call: Call) -> int:
    return _sum(call) + elementary(call)


@other_formula("aten.addr")
def _sum_with_outer_product(call: Call) -> int:
    """Count the operations in beta · m + alpha · a · b, where a · b is an outer product.

    If beta is 0, count only alpha · a · b.
    """
    if not computes_on_floats(call):
        return 0
    complex_numbers = is_complex(call)
    work = operations("mul", complex_numbers=complex_numbers) + scaling(call["alpha"], complex_numbers=complex_numbers)
    if call["beta"] != 0:
        work += (2 if complex_numbers else 1) + scaling(call["beta"], complex_numbers=complex_numbers)
    return work * call.first_output.numel()


@other_formula("aten.lerp")
def _interpolation(call: Call) -> int:
    """Count the operations in a + w · (b - a), where w is the weight of b."""
    if not is_complex(call):
        return _for_each(call, 3)
    return (4 + (_COMPLEX["mul"] if _is_complex(call["weight"]) else 2)) * call.first_output.numel()


@other_formula("aten.addcmul", "aten.addcdiv")
def _sum_with_product(call: Call) -> int:
    """Count the operations in a + value · b · c, or in a + value · b / c."""
    if not computes_on_floats(call):
        return 0
    complex_numbers = is_complex(call)
    name = "mul" if _name(call) == "addcmul" else "div"
    work = operations(name, complex_numbers=complex_numbers) + (2 if complex_numbers else 1)
    return (work + scaling(call["value"], complex_numbers=complex_numbers)) * call.first_output.numel()


@other_formula("aten.clamp", "aten.clip")
def _clamp(call: Call) -> int:
    """Count one operation for each bound that the call gives."""
    return _for_each(call, (call["min"] is not None) + (call["max"] is not None))


@other_formula("aten.round")
def _round(call: Call) -> int:
    """Count one rounding per element. With ``decimals``, also count a product before it and a quotient after it."""
    return _for_each(call, 3 if "decimals" in call.names and call["decimals"] else 1)


@other_formula("aten.elu")
def _elu(call: Call) -> int:
    """Count the test x > 0, and the operations in scale · alpha · (exp(input_scale · x) - 1)."""
    factors = sum(_scaled(call[name]) for name in ("alpha", "scale", "input_scale"))
    return _for_each(call, 3 + factors)


@other_formula("aten.elu_backward")
def _elu_backward(call: Call) -> int:
    """Count the operations of the gradient of ELU, from the input x or from the output y."""
    scale, input_scale = call["scale"], call["input_scale"]
    inside = _scaled(input_scale)
    if call["is_result"]:  # x > 0, g · input_scale · (y + scale · alpha)
        return _for_each(call, 3 + inside)
    # x > 0, g · k · exp(input_scale · x), where k = scale · alpha · input_scale is one number
    return _for_each(call, 3 + inside + _scaled(call["alpha"] * scale * input_scale))


@other_formula("aten.rrelu_with_noise_backward")
def _rrelu_backward(call: Call) -> int:
    """Count the operations of the gradient of a leaky ReLU with random slopes."""
    # training: g · noise; inference: x > 0, g · slope
    return _for_each(call, 1 if call["training"] else 2)


@other_formula("aten.celu")
def _celu(call: Call) -> int:
    """Count the test x > 0, and the operations in alpha · (exp(x / alpha) - 1)."""
    return _for_each(call, 3 + 2 * _scaled(call["alpha"]))


@other_formula("aten.selu")
def _selu(call: Call) -> int:
    """Count the test x > 0, and the operations in scale · alpha · (exp(x) - 1)."""
    return _for_each(call, 5)


@other_formula("aten.gelu")
def _gelu(call: Call) -> int:
    """Count the operations of GELU. Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016, §2."""
    # tanh: x · (1 + tanh(√(2/π) · (x + c · x³))) / 2; otherwise: x · (1 + erf(x / √2)) / 2
    return _for_each(call, 9 if call["approximate"] == "tanh" else 5)


@other_formula("aten.gelu_backward")
def _gelu_backward(call: Call) -> int:
    # g · (Φ(x) + x · φ(x)): 4 for Φ(x), 4 for φ(x) = exp(-x²/2) / √(2π), 2 products, 1 sum.
    # tanh: g · ((1 + t)/2 + x/2 · (1 - t²) · k · (1 + 3c · x²)) with t = tanh(u) and u = k · (x + c · x³), where k and
    # c are constants: 5 for u, 1 for t, 2 + 2 + 3 for the three brackets, 3 products, 1 sum, 1 product with g.
    return _for_each(call, 18 if call["approximate"] == "tanh" else 11)


@other_formula("aten.softplus")
def _softplus(call: Call) -> int:
    """Count the operations in log(1 + exp(beta · x)) / beta."""
    return _for_each(call, 3 + 2 * _scaled(call["beta"]))


@other_formula("aten.softplus_backward")
def _softplus_backward(call: Call) -> int:
    """Count the operations in g · e / (1 + e) with e = exp(beta · x), where g is the output's gradient."""
    return _for_each(call, 4 + _scaled(call["beta"]))


@other_formula("aten.mvlgamma")
def _mvlgamma(call: Call) -> int:
    # each of p terms: a difference, log Γ, a sum
    return _for_each(call, 3 * int(call["p"]))


@other_formula("aten.native_dropout")
def _native_dropout(call: Call) -> int:
    return _for_each(call, 0 if call["train"] is False else 2)


@other_formula("aten._amp_foreach_non_finite_check_and_unscale")
def _unscale(call: Call) -> int:
    """Count two operations for each element: the test whether it is finite, and the division by the scale."""
    return 2 * elements(call["self"])


@other_formula("aten._amp_update_scale")
def _update_scale(call: Call) -> int:
    """Count one comparison and one product for the scale, which is a single number."""
    return 2 * call.tensor("self").numel()


@other_formula("aten.equal", "aten.allclose")
def _same(call: Call) -> int:
    """Count one comparison for each pair of elements.

    For ``allclose``, count |a - b| ≤ atol + rtol · |b| for each pair instead.
    """
    if not any(tensor.is_floating_point() or tensor.is_complex() for tensor in tensors_in(call.args)):
        return 0
    parts = 2 if is_complex(call) else 1
    return parts * (6 if _name(call) == "allclose" else 1) * call.tensor("self").numel()
