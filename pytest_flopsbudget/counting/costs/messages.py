"""Size in bytes of the message that each collective operator passes.

The message of a call is the larger of two numbers: the bytes that one rank sends, and the bytes that this rank
receives. For an all-reduce, this is the whole tensor; for an all-gather, the output; for a reduce-scatter, the input.
The message does not depend on the algorithm or on the network. The number of bytes that cross one link of a ring is the
message times a factor, for example 2(n - 1)/n for an all-reduce of n ranks. In a group of one rank, nothing is sent.

Source: "size" in NVIDIA's nccl-tests, doc/PERFORMANCE.md, which also derives the factors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_flopsbudget.counting.costs.registry import operator
from pytest_flopsbudget.counting.tensors.metadata import tensors_in
from pytest_flopsbudget.counting.torch_private import resolve_process_group, unbox_process_group

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pytest_flopsbudget.counting.costs.registry import Call


def _bytes(value: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors_in(value))


def _of(*names: str) -> Callable[[Call], int]:
    """Make a formula that returns the bytes of one argument: the first of ``names`` that the operator has."""

    def message(call: Call) -> int:
        return _bytes(call[next(name for name in names if name in call.names)])

    return message


def _output(call: Call) -> int:
    return _bytes(call.output)


def _exchanged(call: Call) -> int:
    """Return the larger of two numbers: the bytes sent and the bytes received. They differ if the splits are uneven."""
    sent = next(name for name in ("input_tensors", "input") if name in call.names)
    received = next((name for name in ("output_tensors", "output") if name in call.names), None)
    return max(_bytes(call[sent]), _bytes(call.output if received is None else call[received]))


def _parts(name: str) -> Callable[[Call], int]:
    """Make a formula that returns the bytes of the argument ``name`` times the number of ranks.

    Each rank passes only one part of the whole tensor in this argument.
    """

    def message(call: Call) -> int:
        return _bytes(call[name]) * group_size(call)

    return message


def _gathered_product(call: Call) -> int:
    """Return the bytes of the left operand on all ranks together."""
    # The call may not return the gathered tensor.
    return call.tensor("A").nbytes * group_size(call)


def _scattered_product(call: Call) -> int:
    """Return the bytes of the product A · B on one rank, before the ranks sum their products."""
    left, right = call.tensor("A"), call.tensor("B")
    return left.shape[:-1].numel() * right.shape[-1] * call.first_output.element_size()


def group_size(call: Call) -> int:
    """Return the number of ranks in the group of a call."""
    names = call.names
    if "group_size" in names:
        return int(call["group_size"])
    if "process_group" in names:
        return int(unbox_process_group()(call["process_group"]).size())
    if "group_name" in names:
        group: Any = call["group_name"]  # a group, or the name of a group
        return int((resolve_process_group()(group) if isinstance(group, str) else group).size())
    return _AT_LEAST


#: The number of ranks that is assumed for an operator that sends to another rank and has no argument for the group.
_AT_LEAST = 2

_C10D: Mapping[str, Callable[[Call], int]] = {
    "_allgather_base": _of("output_tensor"),
    "_reduce_scatter_base": _of("input_tensor"),
    "allgather": _of("output_tensors"),
    "allgather_coalesced": _of("output_lists"),
    "allgather_into_tensor_coalesced": _of("outputs"),
    "allreduce": _of("tensors"),
    "allreduce_coalesced": _of("tensors"),
    "alltoall": _exchanged,
    "alltoall_base": _exchanged,
    "broadcast": _of("tensors"),
    "gather": _parts("input_tensors"),
    "gather_into_tensor": _parts("input_tensor"),
    "recv": _of("tensors"),
    "recv_any_source": _of("tensors"),
    "reduce": _of("tensors"),
    "reduce_scatter": _of("input_tensors"),
    "reduce_scatter_tensor_coalesced": _of("inputs"),
    "scatter": _parts("output_tensors"),
    "send": _of("tensors"),
}

_FUNCTIONAL: Mapping[str, Callable[[Call], int]] = {
    "all_gather_into_tensor": _output,
    "all_gather_into_tensor_coalesced": _output,
    "all_gather_into_tensor_out": _output,
    "all_reduce": _of("input", "self"),
    "all_reduce_coalesced": _of("inputs", "self"),
    "all_to_all_single": _exchanged,
    "batch_p2p_ops": _of("tensors"),
    "broadcast": _of("input", "self"),
    "irecv": _of("tensor", "self"),
    "isend": _of("tensor", "self"),
    "reduce_scatter_tensor": _of("input"),
    "reduce_scatter_tensor_coalesced": _of("inputs"),
    "reduce_scatter_tensor_out": _of("input"),
}

#: Operators that also compute a matrix product. The formulas for their FLOPs are in `communication.py`.
_FUSED_WITH_PRODUCTS: Mapping[str, Callable[[Call], int]] = {
    "fused_all_gather_matmul": _gathered_product,
    "fused_all_gather_scaled_matmul": _gathered_product,
    "fused_matmul_reduce_scatter": _scattered_product,
    "fused_scaled_matmul_reduce_scatter": _scattered_product,
}

_SYMMETRIC_MEMORY: Mapping[str, Callable[[Call], int]] = {
    "_low_contention_all_gather": _output,
    "_low_contention_all_gather_ce_multicast": _output,
    "_low_contention_all_gather_ce_multicast_out": _of("out"),
    "_low_contention_reduce_scatter": _of("tensor"),
    "all_to_all_vdev": _of("input"),
    "all_to_all_vdev_2d": _of("input"),
    "all_to_all_vdev_2d_offset": _of("input"),
    "memcpy_to_multicast": _of("src"),
    "multi_root_tile_reduce": _of("in_tiles"),
    "multimem_all_gather_out": _of("out"),
    "multimem_all_reduce": _of("input"),
    "multimem_one_shot_all_reduce": _of("input"),
    "multimem_one_shot_all_reduce_out": _of("input"),
    "multimem_one_shot_reduce_out": _of("input"),
    "nccl_all_to_all_nd": _of("input"),
    "nccl_get": _of("tensor"),
    "nccl_get_out": _of("dst"),
    "nccl_put": _of("tensor"),
    "nccl_put_with_signal": _of("tensor"),
    "nccl_reduce_scatter_offset": _of("input"),
    "nvshmem_all_to_all": _of("input"),
    "nvshmem_broadcast": _of("input"),
    "nvshmem_get": _of("tensor"),
    "nvshmem_get_out": _of("dst"),
    "nvshmem_put": _of("tensor"),
    "nvshmem_put_with_signal": _of("tensor"),
    "one_shot_all_reduce": _of("input"),
    "one_shot_all_reduce_copy": _of("local_input"),
    "one_shot_all_reduce_copy_out": _of("local_input"),
    "one_shot_all_reduce_out": _of("input"),
    "reduce_scatter_out": _of("input"),
    "tile_reduce": _of("in_tile"),
    "two_shot_all_reduce": _of("input"),
    "two_shot_all_reduce_out": _of("input"),
}

for _namespace, _messages in (
    ("c10d", _C10D),
    ("_c10d_functional", _FUNCTIONAL),
    ("_c10d_functional_autograd", _FUNCTIONAL),
    ("c10d_functional", _FUNCTIONAL),
    ("symm_mem", _SYMMETRIC_MEMORY),
    ("_dtensor", {"shard_dim_alltoall": _of("input")}),
):
    for _name, _message in _messages.items():
        operator(f"{_namespace}.{_name}", message=_message, collective=True, free=True)

for _name, _message in _FUSED_WITH_PRODUCTS.items():
    operator(f"symm_mem.{_name}", message=_message)
