"""The nodes of the module tree of a traced model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


class Node:
    """One path of a module in the traced model, or the measured function."""

    __slots__ = ("calls", "module", "outputs", "parent", "path", "peak_growth", "type")

    def __init__(self, path: str, type_name: str, module: torch.nn.Module | None, parent: Node | None = None) -> None:
        self.path = path
        self.type = type_name
        self.module = module
        #: The node of the module that contains this module, if that node is known.
        self.parent = parent
        self.calls = 0
        #: The maximum number of bytes that one call allocated and kept alive at the same time.
        self.peak_growth = 0
        #: (dtype, shape) of the tensors that the first call returned; None before the first call has returned.
        self.outputs: Sequence[tuple[torch.dtype, torch.Size]] | None = None
