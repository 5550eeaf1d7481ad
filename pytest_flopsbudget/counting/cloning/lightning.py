"""Turn off the logging of Lightning's modules: outside of a Trainer's loop, logging fails."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch


_PACKAGES = ("lightning", "pytorch_lightning")


def disable_logging(clones: Iterable[torch.nn.Module]) -> None:
    """Make ``self.log`` do nothing. It warns if there is no Trainer, and fails if the Trainer is not in a loop."""
    if not any(package in sys.modules for package in _PACKAGES):
        return
    for module in clones:
        log = getattr(type(module), "log", None)
        if getattr(log, "__module__", "").partition(".")[0] in _PACKAGES:
            module.__dict__["log"] = _discard


def _discard(*_args: Any, **_kwargs: Any) -> None:
    """Accept the arguments of `LightningModule.log`, and do nothing."""
