"""The bytes that an operator reads and writes, and whether it runs anything at all.

Every operand is read once and every output written once ("memory access cost", Ma et al., ShuffleNet V2, 2018, §2.1):
what has to pass between memory and processor however well the operator's own kernel uses its caches. An operand that is
handed over twice is read twice. Elements that are one in memory, as in an expanded tensor, count once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs import Call
from pytest_flopsbudget.counting.costs.recurrent import kept_bytes
from pytest_flopsbudget.counting.tensors.metadata import tensors_in
from pytest_flopsbudget.counting.torch_private import indices_of, values_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_flopsbudget.counting.operators.info import OperatorInfo


_MASKS = (torch.bool, torch.uint8)

#: They write to statistics only in training.
_BATCH_NORMS = frozenset(("aten.native_batch_norm", "aten._native_batch_norm_legit", "aten.cudnn_batch_norm"))


def _names(text: str) -> frozenset[str]:
    return frozenset(f"aten.{name}" for name in text.split())


#: They make room and fill it with nothing, or look at a tensor without its data.
_NO_KERNEL = _names(
    """
    empty empty_like empty_permuted empty_strided new_empty new_empty_strided _efficientzerotensor
    detach alias lift lift_fresh _unsafe_view set_ resize_ resize_as_ _resize_output_ record_stream is_same_size
    _has_same_storage_numel _fused_sdp_choice _assert_tensor_metadata _functional_sym_constrain_range
    _functional_sym_constrain_range_for_size sym_constrain_range sym_constrain_range_for_size
    _sparse_coo_tensor_with_dims_and_tensors sparse_dim dense_dim _dimI _dimV _nnz is_coalesced _coalesced_ is_pinned
    is_set_to qscheme q_scale q_zero_point q_per_channel_axis
    """
) | {f"_c10d_functional{name}" for name in (".wait_tensor", "._wrap_tensor_autograd", "_autograd.wait_tensor")}

#: Of the tensor that these are given, they want the shape alone.
_READS_NO_DATA = _names(
    """
    ones_like zeros_like full_like rand_like randn_like randint_like new_zeros new_ones new_full
    _new_zeros_with_same_feature_meta
    """
)

#: What these write to, they overwrite unseen.
_OVERWRITES = _names(
    """
    copy_ fill_ zero_ _foreach_copy_ _foreach_zero_ uniform_ normal_ log_normal_ exponential_ geometric_ cauchy_ random_
    bernoulli_ _fill_mem_eff_dropout_mask_
    """
)

#: They read, of this argument, what they return.
_SELECT = {
    "aten.embedding": "weight",
    "aten.gather": "self",
    "aten.index": "self",
    "aten._unsafe_index": "self",
    "aten.index_select": "self",
    "aten.take": "self",
}
#: They read a row for each index.
_BAGS = _names("_embedding_bag _embedding_bag_forward_only")

#: These write, to a part of their first argument, what comes in the others.
_SCATTER = _names(
    """
    index_put_ _index_put_impl_ index_copy_ index_add_ index_fill_ scatter_ scatter_add_ scatter_reduce_ put_
    """
)
#: Of them, those that always read what they write to, as the others do where they are told to accumulate.
_ADDS = _names("index_add_ scatter_add_ scatter_reduce_")

#: Layers of oneDNN's, which sizes as it likes what it keeps for the backward pass.
_KEPT = _names("mkldnn_rnn_layer mkldnn_rnn_layer_backward")


def bytes_touched(tensor: torch.Tensor) -> int:
    """The bytes of the tensor's elements, those that are one in memory once."""
    if tensor.is_nested:
        return tensor.numel() * tensor.element_size()
    if tensor.layout is not torch.strided:
        parts = _parts(tensor)
        return sum(part.nbytes for part in parts) if parts else tensor.numel() * tensor.element_size()
    if tensor.is_contiguous():
        return tensor.nbytes
    count = extent = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if size == 0:
            return 0
        if stride:
            count *= size
            extent += (size - 1) * stride
    return min(count, extent) * tensor.itemsize


def _parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """What a sparse tensor consists of."""
    if tensor.layout is torch.sparse_coo:
        return [indices_of(tensor), values_of(tensor)]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []  # oneDNN's own layout cannot be looked into: its elements, whatever is between them


def moves_nothing(info: OperatorInfo) -> bool:
    """Whether no call of the operator computes or moves data: views, questions, allocations."""
    if info.is_view or info.name in _NO_KERNEL or info.name.startswith(("prim.", "profiler.")):
        return True
    if torch.Tag.inplace_view in info.operator.tags:  # ``transpose_``
        return True
    return info.known and info.behaviour == "alias" and not (info.written or info.computes)


def launches(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
    """1 where the call computes or moves data: in eager mode, a kernel is launched. 0 where there is nothing to do."""
    if info.moves_nothing:
        return 0
    results = list(tensors_in(output))
    if info.written:
        results += info.writes_to(args, kwargs)
    if not results:  # an answer to Python: a number read back
        return int(info.takes_tensors)
    return int(any(tensor.numel() for tensor in results))


def memory_traffic(info: OperatorInfo, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> int:
    """Bytes that one call reads and writes."""
    if info.moves_nothing:
        return 0
    name = info.name
    if name in _READS_NO_DATA:
        return _size((output,))
    if name in _KEPT:
        return _with_kept(Call(info.operator, args, kwargs, output))
    if name in _SELECT or name in _SCATTER or name in _BAGS:
        return _partial(Call(info.operator, args, kwargs, output))
    written = sum(map(bytes_touched, info.writes_to(args, kwargs))) if info.written else 0
    read = _size(args) + _size(kwargs.values())
    if name in _OVERWRITES or info.writes_out:
        read -= written
    elif name in _BATCH_NORMS and not Call(info.operator, args, kwargs, output)["training"]:
        written = 0
    return read + written + (_size((output,)) if info.behaviour == "functional" else 0)


def _size(values: Iterable[Any]) -> int:
    total = 0
    for value in values:
        if isinstance(value, torch.Tensor):
            total += bytes_touched(value)
        elif isinstance(value, (list, tuple)):
            total += _size(value)
    return total


def _partial(call: Call) -> int:
    """The same for what touches a part of a tensor."""
    name = call.name
    if name in _SCATTER:
        target = call.tensor("self")
        touched = _places(call, target) * target.itemsize
        adds = name in _ADDS or ("accumulate" in call.names and bool(call["accumulate"]))
        return _size(_besides(call, "self")) + touched * (2 if adds else 1)
    if name in _BAGS:
        weight = call.tensor("weight")
        rows = call.tensor("indices").numel() * weight.size(1) * weight.itemsize
        return _size(_besides(call, "weight")) + rows + _size((call.output,))
    return _size(_besides(call, _SELECT[name])) + 2 * _size((call.output,))


def _with_kept(call: Call) -> int:
    """A layer of oneDNN's, which writes or reads what is kept for its backward pass."""
    kept = call["workspace"] if "workspace" in call.names else call.output[-1]
    size = _size(call[name] for name in call.names) + _size((call.output,))
    return (
        size
        if kept is None or not kept.nbytes
        else size - kept.nbytes + kept_bytes(call.tensor("input"), call.tensor("hx_"))
    )


def _besides(call: Call, name: str) -> list[Any]:
    return [call[other] for other in call.names if other != name]


def _places(call: Call, target: torch.Tensor) -> int:
    """How many elements of ``target`` are written to; of a mask, as many as it has."""
    if "indices" in call.names:
        indices = [index for index in call["indices"] if index is not None]
        positions: int = torch.broadcast_shapes(
            *(index.shape for index in indices if index.dtype not in _MASKS)
        ).numel()
        for index in indices:
            positions *= index.numel() if index.dtype in _MASKS else 1
        gone = _indexed_sizes(call["indices"], target)
        return positions * (target.numel() // gone if gone else 0)
    if "source" in call.names:
        return call.tensor("source").numel()
    index = call.tensor("index")
    if call.name == "aten.index_fill_":
        size: int = target.size(call["dim"])
        return index.numel() * (target.numel() // size if size else 0)
    return index.numel()


def _indexed_sizes(indices: Sequence[torch.Tensor | None], target: torch.Tensor) -> int:
    """The elements of the dimensions that are indexed."""
    product, dim = 1, 0
    for index in indices:
        dims = index.ndim if index is not None and index.dtype in _MASKS else 1
        if index is not None:
            product *= target.shape[dim : dim + dims].numel()
        dim += dims
    return product
