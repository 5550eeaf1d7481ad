"""Attention on shapes, as the CPU runs it: one fused operator where it has a kernel for the call.

PyTorch chooses above autograd, by where the tensors are, and on meta never the fused kernel. FLOPs do not hang on that,
but what the operators are, what they read, write and keep for the backward pass does. So while shapes are run,
`scaled_dot_product_attention` on meta tensors asks what PyTorch would choose for tensors on the CPU.
"""

from __future__ import annotations

import math
import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.attention import SDPBackend
from torch.utils._mode_utils import no_dispatch

from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, has_no_dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


ATTENTION = torch.ops.aten.scaled_dot_product_attention.default
_fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default  # noqa: SLF001 -- torch names it so
_choice = torch._fused_sdp_choice  # noqa: SLF001 -- what chooses
_math_is_allowed: Callable[[], bool] = torch.backends.cuda.math_sdp_enabled  # which holds for every device
_fused_is_allowed: Callable[[], bool] = torch.backends.cuda.flash_sdp_enabled

#: (batch, heads, length, width): what a fused kernel is there for.
_DIMENSIONS = 4


def attention(  # noqa: PLR0913, PLR0917 -- as the operator's schema
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
    """`scaled_dot_product_attention` of meta tensors, in the operators that the CPU runs for it."""
    options: dict[str, Any] = {"scale": scale, "enable_gqa": enable_gqa}
    operands = (query, key, value) if attn_mask is None else (query, key, value, attn_mask)
    if not (
        query.ndim == _DIMENSIONS
        and _fused_is_allowed()
        and all(type(operand) in PLAIN_TYPES or has_no_dispatcher(type(operand)) for operand in operands)
        # Masks of other dtypes are refused, by what refuses them for real.
        and (attn_mask is None or attn_mask.dtype in (torch.bool, query.dtype, torch.float32))
        and _chooses_fused(operands, dropout_p, is_causal, options)
    ):
        return ATTENTION.decompose(query, key, value, attn_mask, dropout_p, is_causal, **options)
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        # Nothing keeps the number, as nothing does in C++.
        attn_mask = torch.where(attn_mask, 0.0, torch.scalar_tensor(-math.inf, dtype=query.dtype, device=query.device))
    return _fused(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)[0]


def _chooses_fused(
    operands: tuple[torch.Tensor, ...], dropout_p: float, is_causal: bool, options: dict[str, Any]
) -> bool:
    """What PyTorch says of such tensors on the CPU."""
    with no_dispatch():
        query, key, value, *mask = map(_on_cpu, operands)
        arguments = (query, key, value, *(mask or (None,)), dropout_p, is_causal)
        if _math_is_allowed():
            return bool(_choice(*arguments, **options) == SDPBackend.FLASH_ATTENTION.value)
        # Where that has no kernel it warns and raises. Other devices may have one, so the plain form is counted.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return bool(_choice(*arguments, **options) == SDPBackend.FLASH_ATTENTION.value)
            except RuntimeError:
                return False


def _on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor on the CPU that is like this one to whoever chooses, with memory for a row at most."""
    in_order = tensor.ndim > 0 and tensor.stride(-1) == 1
    row = torch.empty(tensor.shape[-1] if in_order else 1, dtype=tensor.dtype, device="cpu")
    stride = (*(0,) * (tensor.ndim - 1), int(in_order)) if tensor.ndim else ()
    return row.as_strided(tensor.shape, stride).requires_grad_(tensor.requires_grad)


class _Threads:
    """On which threads shapes are run, and the dispatcher's kernel that is there as long as there is one."""

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
                self._library._destroy()  # noqa: SLF001 -- what PyTorch itself calls to take it back
                self._library = None

    def has_this(self) -> bool:
        return threading.get_ident() in self._depths


_THREADS = _Threads()


def _on_meta(*args: Any, **kwargs: Any) -> Any:
    return attention(*args, **kwargs) if _THREADS.has_this() else ATTENTION.decompose(*args, **kwargs)


@contextmanager
def cpu_attention_on_meta() -> Iterator[None]:
    """Let attention of meta tensors run on this thread as it runs on the CPU, whoever calls it.

    By a kernel of the dispatcher's, since not only Python calls it: scripted modules and exported graphs do too. Under
    inference mode the dispatcher leaves autograd's kernels out, so that the operator reaches the tracer whole.
    """
    _THREADS.enter()
    try:
        yield
    finally:
        _THREADS.leave()
