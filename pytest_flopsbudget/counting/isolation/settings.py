"""Restore settings of PyTorch that belong to the process and that a model may change while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import deterministic

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack


def _set_deterministic(modes: tuple[bool, bool]) -> None:
    enabled, warn_only = modes
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)


def _set_anomaly_detection(modes: tuple[bool, bool]) -> None:
    torch.set_anomaly_enabled(*modes)


#: (function that returns a setting, function that sets it).
_FUNCTIONS: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_warn_always_enabled, torch.set_warn_always),
    (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        _set_deterministic,
    ),
    (lambda: (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()), _set_anomaly_detection),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
)
#: (owner, attribute).
_ATTRIBUTES: tuple[tuple[Any, str], ...] = (
    (torch.backends.cudnn, "enabled"),
    (torch.backends.cudnn, "benchmark"),
    (torch.backends.cudnn, "deterministic"),
    (torch.backends.cudnn, "allow_tf32"),
    (torch.backends.mkldnn, "enabled"),
    (torch.backends.cuda.matmul, "allow_tf32"),
    (deterministic, "fill_uninitialized_memory"),
)


def restore_settings(stack: ExitStack) -> None:
    """Make ``stack`` restore all settings to their present values. It sets only settings that changed."""
    before = [get() for get, _ in _FUNCTIONS], [getattr(owner, name) for owner, name in _ATTRIBUTES]
    stack.callback(_restore, *before)


def _restore(values: list[Any], attributes: list[Any]) -> None:
    for (get, put), value in zip(_FUNCTIONS, values, strict=True):
        if get() != value:
            put(value)
    for (owner, name), value in zip(_ATTRIBUTES, attributes, strict=True):
        if getattr(owner, name) != value:
            setattr(owner, name, value)
