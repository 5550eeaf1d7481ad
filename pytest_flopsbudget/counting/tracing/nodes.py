"""The nodes of the module tree of a traced model."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch


def path_of_part(path: str, name: str) -> str:
    """Return the path of the part ``name`` of the module with this path.

    A dot in the name becomes a colon, because dots separate the names in a path. The empty path belongs to the model
    itself, so the path of a part of the model with an empty name is ".".
    """
    if "." in name:
        name = name.replace(".", ":")
    return f"{path}.{name}" if path else name or "."


def first_paths(model: torch.nn.Module) -> dict[int, str]:
    """Return the `id` of each module in the model → the module's first path."""
    found: dict[int, str] = {}
    waiting = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if id(module) not in found:
            found[id(module)] = path
            parts = [(name, part) for name, part in module._modules.items() if part is not None]
            waiting += [(path_of_part(path, name), part) for name, part in reversed(parts)]
    return found


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
