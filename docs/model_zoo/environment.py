"""Import torchvision without its compiled operators, which may need another build of PyTorch."""

from __future__ import annotations

import torch

try:
    import torchvision  # noqa: F401 -- whether it loads is the question
except (ImportError, RuntimeError):
    for _name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{_name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
