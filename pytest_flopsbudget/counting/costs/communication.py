"""Operators that pass tensors between processes: free, but for the products that some of them are fused with.

A sum over processes is communication, not the model's arithmetic: what it costs hangs on how many there are and on how
the network is built. What it passes is the metric ``communication``, from `messages`.

Source of the products: as in `products`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import elements
from pytest_flopsbudget.counting.costs.registry import formula, other_formula

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch

    from pytest_flopsbudget.counting.costs.registry import Call

_C10D = """
_allgather_base _reduce_scatter_base allgather allgather_coalesced allgather_into_tensor_coalesced allreduce
allreduce_coalesced alltoall alltoall_base barrier broadcast gather monitored_barrier recv recv_any_source reduce
reduce_scatter reduce_scatter_tensor_coalesced scatter send
"""

_FUNCTIONAL = """
_wrap_tensor_autograd all_gather_into_tensor all_gather_into_tensor_coalesced all_gather_into_tensor_out all_reduce
all_reduce_coalesced all_to_all_single batch_p2p_ops broadcast irecv isend reduce_scatter_tensor
reduce_scatter_tensor_coalesced reduce_scatter_tensor_out wait_tensor
"""

_SYMMETRIC_MEMORY = """
_barrier _low_contention_all_gather _low_contention_reduce_scatter _rendezvous all_to_all_vdev all_to_all_vdev_2d
all_to_all_vdev_2d_offset get_remote_tensors memset32 multi_root_tile_reduce multimem_all_gather_out multimem_all_reduce
multimem_one_shot_all_reduce multimem_one_shot_all_reduce_out multimem_one_shot_reduce_out nccl_get nccl_put
nccl_put_signal nccl_put_with_signal nccl_reduce_scatter_offset nccl_wait_for_signal nccl_wait_signal nvshmem_all_to_all
nvshmem_broadcast nvshmem_get nvshmem_put nvshmem_put_with_signal nvshmem_wait_for_signal one_shot_all_reduce
one_shot_all_reduce_copy one_shot_all_reduce_copy_out one_shot_all_reduce_out reduce_scatter_out stream_write_value32
tile_reduce two_shot_all_reduce two_shot_all_reduce_out
"""

_SHARDS = "all_gather_copy_in chunk_cat copy split_with_sizes_copy"

#: Names as "c10d.allreduce", without overload and without the in-place underscore.
COLLECTIVES = frozenset(
    f"{namespace}.{name}"
    for namespace, names in (
        ("c10d", _C10D),
        ("_c10d_functional", _FUNCTIONAL),
        ("_c10d_functional_autograd", _FUNCTIONAL),
        ("c10d_functional", _FUNCTIONAL),
        ("symm_mem", _SYMMETRIC_MEMORY),
        ("fsdp", _SHARDS),
        ("_dtensor", "mesh_get_process_group shard_dim_alltoall"),
    )
    for name in names.split()
)


@formula("symm_mem._async_input_mm")
def _product(call: Call) -> int:
    """Input (m, k), which arrives in chunks, by (k, n)."""
    return 2 * call.tensor("a").numel() * call.tensor("b").shape[-1]


def _products(call: Call) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of an operand (k, n) and its product (…, n), of the rows of all processes."""
    return zip(call["Bs"], call.output[1], strict=True)


@formula("symm_mem.fused_all_gather_matmul", "symm_mem.fused_all_gather_scaled_matmul")
def _gathered_product(call: Call) -> int:
    """This process multiplies the rows that it gathered from all."""
    return sum(2 * output.numel() * right.shape[0] for right, output in _products(call))


@formula("symm_mem.fused_matmul_reduce_scatter", "symm_mem.fused_scaled_matmul_reduce_scatter")
def _scattered_product(call: Call) -> int:
    """This process multiplies all its rows before its share of the sum is left to it."""
    return 2 * call.tensor("A").numel() * call.tensor("B").shape[-1]


@other_formula("symm_mem.fused_all_gather_scaled_matmul")
def _scaled_gathered(call: Call) -> int:
    """For each product the scales of either operand, a bias, a scale of the result."""
    extras = zip(call["biases"], call["result_scales"], strict=True)
    return sum(
        (2 + sum(part is not None for part in extra)) * output.numel()
        for (_, output), extra in zip(_products(call), extras, strict=True)
    )


@other_formula("symm_mem.fused_scaled_matmul_reduce_scatter")
def _scaled_scattered(call: Call) -> int:
    """The same of all rows."""
    left, right = call.tensor("A"), call.tensor("B")
    outputs = left.shape[:-1].numel() * right.shape[-1]
    return (2 + sum(call[name] is not None for name in ("bias", "result_scale"))) * outputs


@other_formula("c10d.check_for_nan")
def _checked(call: Call) -> int:
    """Each number compared with itself."""
    return elements([call.tensor("tensor")])
