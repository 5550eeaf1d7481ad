"""Run `scaled_dot_product_attention` on shapes as the CPU runs it: fused, if the CPU has a fused kernel for the call.

PyTorch chooses the kernel before autograd runs, and the choice depends on the device. On meta, PyTorch never chooses
the fused kernel. The choice does not change FLOPs. But the choice changes the operators, their memory traffic, and the
memory that they keep for the backward pass. Therefore attention on meta tensors asks PyTorch which kernel it would
choose on the CPU.
"""

from __future__ import annotations

import math
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend

from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, has_no_dispatcher
from pytest_flopsbudget.counting.torch_private import choose_attention, fused_attention_on_cpu, no_dispatch, unregister

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
#: These settings apply to every device, although they are in PyTorch's module for CUDA.
_math_is_allowed: Callable[[], bool] = torch.backends.cuda.math_sdp_enabled
_fused_is_allowed: Callable[[], bool] = torch.backends.cuda.flash_sdp_enabled

#: Fused kernels accept only tensors (batch, heads, length, width). PyTorch 2.14 and newer also choose them for tensors
#: (heads, length, width).
_DIMENSIONS = 4


def attention(  # noqa: PLR0913, PLR0917 -- the arguments of the operator
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Run `scaled_dot_product_attention` of meta tensors with the operators that the CPU would run."""
    options: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
    operands = (query, key, value) if attn_mask is None else (query, key, value, attn_mask)
    if not (
        query.ndim in {_DIMENSIONS - 1, _DIMENSIONS}
        and _fused_is_allowed()
        and all(type(operand) in PLAIN_TYPES or has_no_dispatcher(type(operand)) for operand in operands)
        # For masks of other dtypes, the composite operator raises an error, both on shapes and with data.
        and (attn_mask is None or attn_mask.dtype in (torch.bool, query.dtype, torch.float32))
        and _chooses_fused(operands, dropout_p, is_causal, options)
    ):
        return ATTENTION.decompose(query, key, value, attn_mask, dropout_p, is_causal, **options)
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        # The scalar gets no variable: a variable would keep it alive, and so count its memory. C++ does not keep it
        # alive.
        attn_mask = torch.where(attn_mask, 0.0, torch.scalar_tensor(-math.inf, dtype=query.dtype, device=query.device))
    if query.ndim == _DIMENSIONS:
        return fused_attention_on_cpu(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
    query, key, value = query.unsqueeze(0), key.unsqueeze(0), value.unsqueeze(0)
    if attn_mask is not None and attn_mask.ndim == _DIMENSIONS - 1:
        attn_mask = attn_mask.unsqueeze(0)
    output = fused_attention_on_cpu(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return output.squeeze(0)


def _chooses_fused(
    operands: tuple[torch.Tensor, ...], dropout_p: float, is_causal: bool, options: dict[str, Any]
) -> bool:
    """Ask PyTorch whether it would choose the fused kernel for tensors like these on the CPU."""
    with no_dispatch():
        query, key, value, *mask = map(_on_cpu, operands)
        arguments = (query, key, value, *(mask or (None,)), dropout_p, is_causal)
        if _math_is_allowed():
            return bool(choose_attention(*arguments, **options) == SDPBackend.FLASH_ATTENTION.value)
        # PyTorch warns and raises if the CPU has no kernel for the call. The user's device may have one, so the
        # composite operator is counted instead.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return bool(choose_attention(*arguments, **options) == SDPBackend.FLASH_ATTENTION.value)
            except RuntimeError:
                return False


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """Return a CPU tensor for which PyTorch chooses the same kernel as for ``tensor``."""
    in_order = tensor.ndim > 0 and tensor.stride(-1) == 1
    row = torch.empty(tensor.shape[-1] if in_order else 1, dtype=tensor.dtype, device="cpu")
    stride = (*(0,) * (tensor.ndim - 1), int(in_order)) if tensor.ndim else ()
    return row.as_strided(tensor.shape, stride).requires_grad_(tensor.requires_grad)


class _Threads:
    """The threads that are in a run on shapes.

    The kernel for meta tensors is registered while there is such a thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._depths: dict[int, int] = {}
        self._library: Any = None

    def enter(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            if not self._depths:
                self._library = torch.library.Library("aten", "IMPL")
                self._library.impl(ATTENTION, _on_meta, "AutogradMeta")
            self._depths[thread] = self._depths.get(thread, 0) + 1

    def leave(self) -> None:
        thread = threading.get_ident()
        with self._lock:
            self._depths[thread] -= 1
            if not self._depths[thread]:
                del self._depths[thread]
            if not self._depths:
                unregister(self._library)
                self._library = None

    def has_this(self) -> bool:
        return threading.get_ident() in self._depths


_THREADS = _Threads()


def _on_meta(*args: Any, **kwargs: Any) -> Any:
    return attention(*args, **kwargs) if _THREADS.has_this() else ATTENTION.decompose(*args, **kwargs)


@contextmanager
def cpu_attention_on_meta() -> Iterator[None]:
    """Inside the ``with`` block, attention of meta tensors on this thread runs the operators of the CPU.

    This function registers a kernel in the dispatcher instead of patching a Python function, because scripted modules
    and exported graphs also call the operator.
    """
    _THREADS.enter()
    try:
        yield
    finally:
        _THREADS.leave()
