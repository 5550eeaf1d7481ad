"""Activations: the elements of the outputs of convolutions and matrix products."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


def products_outputs(call: Call) -> int:
    """The elements of the outputs of the products that one call consists of."""
    output = call.output[0] if isinstance(call.output, (tuple, list)) else call.output
    return output.numel() if isinstance(output, torch.Tensor) else 0
