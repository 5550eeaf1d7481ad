"""Matrix products and related operators: 2 FLOPs per multiply-accumulate. Adding a bias counts as `other_flops`.

Source: the definition of the matrix product. A matrix (m, k) times a matrix (k, n) needs m·k·n multiply-accumulates
(Golub and Van Loan, "Matrix Computations", 4th ed., §1.1.15). PyTorch's `torch.utils.flop_counter` uses the same
formula.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.costs.compiled import outputs_of_each
from pytest_flopsbudget.counting.costs.elementary import real_parts, stored_elements
from pytest_flopsbudget.counting.costs.elementwise import scaling
from pytest_flopsbudget.counting.costs.registry import formula, operator, other_formula, per_mac
from pytest_flopsbudget.counting.tensors.metadata import count_values, values_per_element

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


def _product(left: torch.Tensor, right: torch.Tensor) -> int:
    """Return the FLOPs of left (…, m, k) times right (…, k, n) or (…, k).

    For a sparse operand, only the stored elements are counted.
    """
    columns = right.shape[-1] if right.ndim > 1 else 1
    if left.layout is not torch.strided:
        return per_mac(left) * stored_elements(left) * columns
    if right.layout is not torch.strided:
        return per_mac(left) * left.shape[-2] * stored_elements(right)
    return per_mac(left) * count_values(left) * columns


@formula(
    *("aten.mm", "aten.bmm", "aten._int_mm", "aten._scaled_mm", "aten._scaled_mm_v2", "aten.mv", "aten.hspmm"),
    *("aten.addmm", "aten._addmm_activation", "aten._sparse_addmm", "aten.addmv", "aten.baddbmm", "aten.addbmm"),
    "aten._sparse_mm_reduce_impl",
)
def _two_operands(call: Call) -> int:
    """Count the FLOPs of the product of two operands, whose names differ between operators.

    If the operator has ``mat1``, then ``self`` is no operand of the product.
    """
    # `_sparse_mm_reduce_impl` may take the mean or the maximum of the products. Both count like the sum.
    return _product(call.tensor("mat1", "batch1", "mat", "self"), call.tensor("mat2", "batch2", "vec", "other"))


@formula("aten.matmul")
def _matmul(call: Call) -> int:
    """Count the FLOPs of `aten.matmul` for nested tensors.

    For all other tensors, PyTorch runs `aten.mm`, `aten.bmm` or similar operators instead of `aten.matmul`.
    """
    left = call.tensor("self")
    return per_mac(left) * call.first_output.numel() * left.shape[-1]


@formula("aten.dot", "aten.vdot")
def _dot(call: Call) -> int:
    vector = call.tensor("self")
    return per_mac(vector) * vector.numel()


def _foreach_mm(call: Call) -> int:
    return sum(_product(left, right) for left, right in zip(call["self"], call["mat2"], strict=True))


operator("aten._foreach_mm", flops=_foreach_mm, activations=outputs_of_each)


@formula("aten._grouped_mm", "aten._scaled_grouped_mm", "aten._scaled_grouped_mm_v2")
def _grouped_mm(call: Call) -> int:
    """Count the FLOPs of the products of all groups. The sizes of the groups do not change the cost."""
    # In groups are: the rows (2-D by 3-D), the columns (3-D by 2-D), or the summed dimension (2-D by 2-D). 3-D by 3-D
    # is a batched product.
    left = call.tensor("self", "mat_a")
    right = call.tensor("mat2", "mat_b")
    if left.ndim == 3 and right.ndim == 2:  # noqa: PLR2004 -- (groups, m, k) by (k, all columns)
        return per_mac(left) * left.shape[1] * left.shape[2] * values_per_element(left.dtype) * right.shape[1]
    return _product(left, right)


@formula("aten._trilinear")
def _trilinear(call: Call) -> int:
    """Count one multiply-accumulate for each element of the shape to which the three operands broadcast.

    Example: `nn.Bilinear` with x1 (b, i), x2 (b, j) and weight (o, i, j) costs 2·b·o·i·j FLOPs.
    """
    operands = [call.tensor(name) for name in ("i1", "i2", "i3")]
    shapes = []
    for operand, expand in zip(operands, (call["expand1"], call["expand2"], call["expand3"]), strict=True):
        shape = list(operand.shape)
        for dim in sorted(expand):
            shape.insert(dim, 1)
        shapes.append(shape)
    points: torch.Size = torch.broadcast_shapes(*shapes)
    return per_mac(operands[0]) * points.numel()


@formula("aten.linear", "aten.mkldnn_linear", "aten._mixed_dtypes_linear", "aten._sparse_semi_structured_linear")
def _linear(call: Call) -> int:
    """Count the FLOPs of input (…, in) times weight (out, in). Half of a 2:4-sparse weight counts."""
    inputs, weight = call.tensor("input", "self"), call.tensor("weight")
    return per_mac(inputs) * (inputs.numel() // max(inputs.shape[-1], 1)) * weight.numel()


@formula("aten._weight_int8pack_mm", "aten._weight_int4pack_mm", "aten._weight_int4pack_mm_for_cpu")
def _packed_weight_mm(call: Call) -> int:
    """Count the FLOPs of a matrix (m, k) times a packed weight (k, n).

    The packed weight hides its shape, so n is read from the output (m, n).
    """
    left = call.tensor("self")
    return 2 * call.first_output.numel() * left.shape[-1]


@formula("aten._dyn_quant_matmul_4bit")
def _packed_features_mm(call: Call) -> int:
    return 2 * call.first_output.numel() * int(call["in_features"])


@formula("aten._sparse_semi_structured_mm", "aten._sparse_semi_structured_addmm")
def _semi_structured_mm(call: Call) -> int:
    return 2 * call.tensor("mat1").numel() * call.tensor("mat2").shape[-1]


@formula("aten._cslt_sparse_mm")
def _compressed_mm(call: Call) -> int:
    """Count the FLOPs of a 2:4-sparse matrix (m, k), compressed to one dimension, times a dense matrix (k, n).

    Half of the sparse matrix is stored and counts.
    """
    return call.first_output.numel() * call.tensor("dense_B").shape[0]


@other_formula("aten._cslt_sparse_mm")
def _around_compressed_mm(call: Call) -> int:
    return ((call["bias"] is not None) + (call["alpha"] is not None)) * call.first_output.numel()


@formula("aten.sparse_sampled_addmm")
def _sampled_addmm(call: Call) -> int:
    """Count a sum of k products for each stored position of ``self``. The operator computes only these positions."""
    left = call.tensor("mat1")
    return per_mac(left) * stored_elements(call.tensor("self")) * left.shape[-1]


@formula("aten._sparse_mm_reduce_impl_backward")
def _reduced_mm_backward(call: Call) -> int:
    """Count the FLOPs of the requested gradients of a product of a sparse matrix and a dense matrix.

    Each gradient costs one multiply-accumulate for each stored element and each column of the output's gradient.
    """
    gradients = sum(map(bool, call["output_mask"]))
    return gradients * _product(call.tensor("self"), call.tensor("grad_out"))


@formula("aten._compute_linear_combination")
def _linear_combination(call: Call) -> int:
    """Count the FLOPs of m weighted sums of n tensors of equal shape. The coefficients are (m, n).

    PyTorch's matrix exponential uses this operator.
    """
    inputs, coefficients = call.tensor("input"), call.tensor("coefficients")
    return per_mac(inputs) * coefficients.shape[0] * inputs.numel()


@formula("aten.linear_backward", "aten.mkldnn_linear_backward")
def _linear_backward(call: Call) -> int:
    grad, weight = call.tensor("grad_output"), call.tensor("weight")
    products = sum(map(bool, call["output_mask"][:2]))
    return products * per_mac(grad) * grad.numel() * weight.shape[-1]


@formula("aten.mkldnn_linear_backward_input", "aten.mkldnn_linear_backward_weights")
def _mkldnn_linear_backward(call: Call) -> int:
    return 2 * call.tensor("grad_output").numel() * call.tensor("weight").shape[-1]


@formula("aten.matmul_backward")
def _matmul_backward(call: Call) -> int:
    """Count the FLOPs of one product for each requested gradient. Each costs as much as the forward product."""
    grad, left = call.tensor("grad"), call.tensor("self")
    products = sum(map(bool, call["mask"]))
    return products * per_mac(grad) * grad.numel() * left.shape[-1]


def _linear_cross_entropy(call: Call) -> int:
    """Count the FLOPs of the product that gives the logits, and of an equal product for each requested gradient."""
    gradients = bool(call["compute_input_grad"]) + bool(call["compute_linear_weight_grad"])
    return (1 + gradients) * _logits(call)


def _logits(call: Call) -> int:
    """Count the FLOPs of the matrix product whose result is the logits (n, classes)."""
    return _product(call.tensor("input"), call.tensor("linear_weight").mT)


@other_formula(
    "aten.addmm", "aten._sparse_addmm", "aten.baddbmm", "aten.addbmm", "aten.addmv", "aten.sparse_sampled_addmm"
)
def _added(call: Call) -> int:
    """Count the operations in beta · self + alpha · product, except the product itself. A factor of 1 costs nothing.

    If beta is 0, there is no sum.
    """
    outputs = call.first_output
    parts, complex_numbers = real_parts(outputs), outputs.is_complex()
    if not parts:
        return 0
    work = scaling(call["alpha"], complex_numbers=complex_numbers)
    if call["beta"] != 0:
        work += parts + scaling(call["beta"], complex_numbers=complex_numbers)
    return work * stored_elements(outputs)


@other_formula("aten._addmm_activation")
def _added_and_activated(call: Call) -> int:
    """Count the operations of the bias and the activation."""
    # GELU with tanh: 9; ReLU: 1
    return _added(call) + (9 if call["use_gelu"] else 1) * call.first_output.numel()


@other_formula("aten.linear", "aten.mkldnn_linear", "aten._mixed_dtypes_linear", "aten._sparse_semi_structured_linear")
def _bias(call: Call) -> int:
    """Count 1 operation per output element if there is a bias, and 1 if there is a fused activation."""
    activated = "activation" in call.names and call["activation"] not in (None, "none")
    output = call.first_output
    return real_parts(output) * ((call["bias"] is not None) + activated) * output.numel()


@other_formula("aten.linear_backward", "aten.mkldnn_linear_backward", "aten.mkldnn_linear_backward_weights")
def _bias_backward(call: Call) -> int:
    """Count the sums of the bias's gradient: the output's gradient is summed over all dimensions but the features."""
    gradient = call.tensor("grad_output")
    asked = call["bias_defined"] if "bias_defined" in call.names else call["output_mask"][2]
    features = call.tensor("weight").shape[0]  # read from the weight, because a nested gradient does not know this size
    return real_parts(gradient) * max(gradient.numel() - features, 0) if asked else 0


@other_formula("aten._scaled_mm", "aten._scaled_mm_v2", "aten._scaled_grouped_mm", "aten._scaled_grouped_mm_v2")
def _scaled_back(call: Call) -> int:
    """Count the multiplications by the scales and the addition of the bias, for each output element."""
    # 2: the scales of the two operands
    return (2 + (call["bias"] is not None)) * call.first_output.numel()


@other_formula("aten._sparse_semi_structured_addmm")
def _semi_structured_added(call: Call) -> int:
    return call.first_output.numel()


def _cross_entropy(call: Call) -> int:
    """Count the operations of the bias, of log-softmax (5 per logit), and of the loss of one class per row."""
    rows, logits = call.tensor("input").shape[0], _logits_elements(call)
    weighted, reduction = call["weight"] is not None, call["reduction"] if "reduction" in call.names else "none"
    # A negation, the sum over the rows, the product with the class weight, and the sum of the class weights.
    per_row = 1 + (reduction != "none") + weighted + (weighted and reduction == "mean")
    return (call["linear_bias"] is not None) * logits + 5 * logits + per_row * rows


def _cross_entropy_and_gradients(call: Call) -> int:
    """Count the operations of the loss and of its requested gradients, except for the matrix products."""
    work, rows, logits = _cross_entropy(call), call.tensor("input").shape[0], _logits_elements(call)
    if call["compute_input_grad"] or call["compute_linear_weight_grad"] or call["compute_linear_bias_grad"]:
        # The gradient of the logits: the backward pass of log-softmax, and the product with the class weight.
        work += 4 * logits + (call["weight"] is not None) * rows
    if call["compute_linear_bias_grad"] and rows:
        # The gradient of the bias is the sum of the gradients of the logits over the rows.
        work += logits - logits // rows
    return work


def _logits_elements(call: Call) -> int:
    # Gradients that the operator computes early belong to the backward pass, so they are no activations.
    return call.tensor("input").shape[0] * call.tensor("linear_weight").shape[0]


operator(  # this operator computes the gradients in the forward pass
    "torch_nn._linear_cross_entropy_batch_chunked",
    flops=_linear_cross_entropy,
    other=_cross_entropy_and_gradients,
    activations=_logits_elements,
)
operator(  # here, products in the backward pass compute the gradients, and are counted there
    "torch_nn._linear_cross_entropy_batch_chunked_no_reduction",
    flops=_logits,
    other=_cross_entropy,
    activations=_logits_elements,
)
