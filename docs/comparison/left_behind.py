"""Find what a counter changed in the model and in PyTorch and did not restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from torch.nn.modules import module as global_hooks

from peers.case import Case
from peers.counters import COUNTERS
from peers.isolation import isolated

if TYPE_CHECKING:
    from peers.counters import Counter

NOTHING = "nothing"
_FUNCTIONS = {F: ("linear", "conv2d", "relu"), torch: ("matmul", "bmm"), torch.Tensor: ("matmul", "__matmul__", "add")}
_CASE = Case("left behind", build=lambda: (nn.Identity(), ()), flops=0)


class _Model(nn.Module):
    def __init__(self, *, fails: bool) -> None:
        super().__init__()
        self.layer, self.normalization = nn.Linear(16, 8), nn.BatchNorm1d(8)
        self.fails = fails

    def forward(self, x: torch.Tensor) -> Any:
        x = self.normalization(self.layer(x))
        if self.fails:
            raise ArithmeticError
        return F.relu(x)


def left_behind(counter: Counter, *, fails: bool) -> str:
    """Return what the counter changed and did not restore, as text. If ``fails``, the model raises an exception."""
    ended = isolated(_differences, counter.name, fails)
    return ended.failure or ", ".join(ended.value or ()) or NOTHING


def _differences(counter: str, fails: bool) -> list[str]:
    model = _Model(fails=fails).train()
    before = _state(model)
    try:
        COUNTERS[counter].asked(model, (torch.randn(4, 16),), _CASE)
    except Exception:  # the model's exception, or one that the counter raised because of it
        if not fails:
            raise
    after = _state(model)
    return [what for what, value in before.items() if value != after[what]]


def _state(model: nn.Module) -> dict[str, Any]:
    parts = list(model.modules())
    return {
        "hooks": [[len(hooks) for hooks in (part._forward_hooks, part._forward_pre_hooks)] for part in parts]  # noqa: SLF001 -- PyTorch has no public way to see them
        + [len(hooks) for hooks in (global_hooks._global_forward_hooks, global_hooks._global_forward_pre_hooks)],  # noqa: SLF001
        "buffers": [name for name, _ in model.named_buffers()],
        "running statistics": model.state_dict()["normalization.running_mean"].tolist(),
        "attributes": [sorted(vars(part)) for part in parts],
        "eval mode": [part.training for part in parts],
        "patched functions": [id(getattr(owner, name)) for owner, names in _FUNCTIONS.items() for name in names],
    }
