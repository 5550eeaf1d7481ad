"""Fill weights with repeated random numbers, because drawing all numbers would take too long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Sequence

_aten = torch.ops.aten
#: Operators by which initializers fill tensors, and which they apply to each value.
_SLOW = frozenset({_aten.normal_.default, _aten.uniform_.default, _aten.erfinv_.default})
BLOCK = 1 << 16


class RepeatedWeights(TorchDispatchMode):
    """A mode that fills large tensors with one random block, repeated."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func not in _SLOW or args[0].is_meta or args[0].numel() <= BLOCK or not args[0].is_contiguous():
            return func(*args, **kwargs)
        values = args[0].view(-1)
        func(values[:BLOCK], *args[1:], **kwargs)
        whole = values.numel() // BLOCK * BLOCK
        values[BLOCK:whole].view(-1, BLOCK).copy_(values[:BLOCK].expand(whole // BLOCK - 1, BLOCK))
        values[whole:].copy_(values[: values.numel() - whole])
        return args[0]
