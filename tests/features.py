"""Parts of PyTorch and pytest that some supported versions lack, and a mark for the tests that need one.

Each part is looked for; no version numbers are compared. docs/compatibility.md lists the skipped tests.
"""

from __future__ import annotations

import importlib.util
from inspect import signature
from typing import TYPE_CHECKING

import pytest
import torch
from torch.distributed.tensor import distribute_tensor
from torch.nn.attention import SDPBackend
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable


def fuses_attention_without_batch() -> bool:
    """Return whether the CPU has a fused attention kernel for operands (heads, length, width)."""
    operand = torch.zeros(2, 3, 4)
    return bool(torch._fused_sdp_choice(operand, operand, operand) == SDPBackend.FLASH_ATTENTION.value)


#: Name of a feature → a function that returns whether this version of PyTorch has it.
FEATURES: dict[str, Callable[[], bool]] = {
    "functions compiled under a watch": lambda: hasattr(TorchDispatchMode, "ignore_compile_internals"),
    "torch._grouped_mm": lambda: hasattr(torch, "_grouped_mm"),
    "torch._foreach_mm": lambda: hasattr(torch.ops.aten, "_foreach_mm"),
    "torch.nn.attention.varlen": lambda: importlib.util.find_spec("torch.nn.attention.varlen") is not None,
    "upsampling by Lanczos": lambda: hasattr(torch.ops.aten, "_upsample_lanczos2d_aa"),
    "c10d::check_for_nan": lambda: hasattr(torch.ops.c10d, "check_for_nan"),
    "FSDP2 on the CPU": lambda: hasattr(torch.cpu.Stream, "record_event"),
    "distribute_tensor without communication": lambda: "src_data_rank" in signature(distribute_tensor).parameters,
    "torch.linalg.polar": lambda: hasattr(torch.linalg, "polar"),
    "torch.cholesky": lambda: _works(lambda: torch.cholesky(torch.eye(2))),
}

#: Name of a feature → a function that returns whether this version of pytest has it, or a plugin that is installed.
OF_PYTEST: dict[str, Callable[[], bool]] = {
    "subtests": lambda: any(importlib.util.find_spec(name) for name in ("_pytest.subtests", "pytest_subtests")),
}


def _works(function: Callable[[], object]) -> bool:
    try:
        function()
    except RuntimeError:
        return False
    return True


def has(feature: str) -> bool:
    """Return whether this version of PyTorch or pytest has a feature in `FEATURES` or `OF_PYTEST`."""
    return {**FEATURES, **OF_PYTEST}[feature]()


def requires(feature: str) -> pytest.MarkDecorator:
    """Return a mark that skips a test if PyTorch or pytest lacks a feature in `FEATURES` or `OF_PYTEST`."""
    owner = "pytest" if feature in OF_PYTEST else "PyTorch"
    return pytest.mark.skipif(not has(feature), reason=f"this {owner} lacks {feature}")
