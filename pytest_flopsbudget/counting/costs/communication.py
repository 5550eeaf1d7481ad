"""Operators that communicate between processes.

They are free. If a matrix product is fused into such an operator, the matrix product is counted.

A sum over processes is communication and not arithmetic of the model: its cost depends on the number of processes and
on the network. Its bytes are the metric ``communication``, which `messages.py` computes.

Source: the definition of matrix products in `products.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import elements
from pytest_flopsbudget.counting.costs.registry import formula, operator, other_formula

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from pytest_flopsbudget.counting.costs.registry import Call

#: Operators that wait, or that move data within one process. The operators that pass messages are in `messages.py`.
_WITHOUT_MESSAGE = {
    "c10d": "barrier monitored_barrier",
    "_c10d_functional": "_wrap_tensor_autograd wait_tensor wait_tensors",
    "_c10d_functional_autograd": "_wrap_tensor_autograd wait_tensor",
    "c10d_functional": "_wrap_tensor_autograd wait_tensor",
    "symm_mem": """
        _barrier _rendezvous get_remote_tensors memset32 nccl_put_signal nccl_wait_for_signal nccl_wait_signal
        nvshmem_wait_for_signal stream_write_value32
    """,
    "fsdp": "all_gather_copy_in chunk_cat chunk_cat_mixed_dtype copy record_grad_output_stream split_with_sizes_copy",
    "_dtensor": "mesh_get_process_group",
}

operator(
    *(f"{namespace}.{name}" for namespace, names in _WITHOUT_MESSAGE.items() for name in names.split()),
    collective=True,
    free=True,
)


@formula("symm_mem._async_input_mm")
def _product(call: Call) -> int:
    """Count the FLOPs of the input (m, k) times a matrix (k, n). Other processes send the input in chunks."""
    return 2 * call.tensor("a").numel() * call.tensor("b").shape[-1]


def _products(call: Call) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (right operand, product) for each matrix product. The product has the rows of all processes."""
    return zip(call["Bs"], call.output[1], strict=True)


def _gathered_product(call: Call) -> int:
    """Count the FLOPs of the matrix products of this process. Each product has the rows of all processes."""
    return sum(2 * output.numel() * right.shape[0] for right, output in _products(call))


def _gathered_outputs(call: Call) -> int:
    """Count the elements of all products. Each product has the rows of all processes."""
    return sum(int(output.numel()) for output in call.output[1])


operator(
    "symm_mem.fused_all_gather_matmul",
    "symm_mem.fused_all_gather_scaled_matmul",
    flops=_gathered_product,
    activations=_gathered_outputs,
)


def _scattered_product(call: Call) -> int:
    """Count the FLOPs of the product of all rows of ``A`` and the matrix ``B``.

    This process computes all rows, although it returns only a part of the sum over the processes.
    """
    return 2 * call.tensor("A").numel() * call.tensor("B").shape[-1]


def _scattered_outputs(call: Call) -> int:
    """Count the elements of the whole product ``A`` · ``B``, although the operator returns only a part of the sum."""
    return call.tensor("A").shape[:-1].numel() * call.tensor("B").shape[-1]


operator(
    "symm_mem.fused_matmul_reduce_scatter",
    "symm_mem.fused_scaled_matmul_reduce_scatter",
    flops=_scattered_product,
    activations=_scattered_outputs,
)


@other_formula("symm_mem.fused_all_gather_scaled_matmul")
def _scaled_gathered(call: Call) -> int:
    """Count the multiplications by the scales and the addition of the bias, for each output element."""
    # 2: the scales of the two operands
    extras = zip(call["biases"], call["result_scales"], strict=True)
    return sum(
        (2 + sum(part is not None for part in extra)) * output.numel()
        for (_, output), extra in zip(_products(call), extras, strict=True)
    )


@other_formula("symm_mem.fused_scaled_matmul_reduce_scatter")
def _scaled_scattered(call: Call) -> int:
    """Count the multiplications by the scales and the addition of the bias, for each element of the product.

    The product is not yet summed over the processes.
    """
    left, right = call.tensor("A"), call.tensor("B")
    outputs = left.shape[:-1].numel() * right.shape[-1]
    # 2: the scales of the two operands
    return (2 + sum(call[name] is not None for name in ("bias", "result_scale"))) * outputs


@other_formula("c10d.check_for_nan")
def _checked(call: Call) -> int:
    """Count one test for NaN for each element of the tensor."""
    return elements([call.tensor("tensor")])
