"""One module of the model while it is traced."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Node:
    """One place in the tree: a module under one of its names, or the function that was measured."""

    __slots__ = ("calls", "module", "parent", "path", "peak_growth", "type")

    def __init__(self, path: str, type_name: str, module: torch.nn.Module | None, parent: Node | None = None) -> None:
        self.path = path
        self.type = type_name
        self.module = module
        #: The place above, where it is known already.
        self.parent = parent
        self.calls = 0
        #: The most bytes that a call had alive at once beyond those that were when it began.
        self.peak_growth = 0
