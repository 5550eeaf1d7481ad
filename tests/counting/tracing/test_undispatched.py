"""Functions that bypass PyTorch's dispatcher are reported as unknown operators."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget import UsageError, measure

pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch warns that they are deprecated


class HalfPrecision(nn.Module):
    """A linear layer that fbgemm computes in float16."""

    def __init__(self):
        super().__init__()
        self.packed = torch.fbgemm_pack_gemm_matrix_fp16(torch.randn(5, 4))
        self.bias = nn.Parameter(torch.zeros(5))

    def forward(self, x):
        return torch.fbgemm_linear_fp16_weight(x, self.packed, self.bias)


def test_named():
    counted = measure(nn.Sequential(nn.Linear(4, 4), HalfPrecision()), torch.randn(3, 4))
    assert counted.unknown_operators["torch.fbgemm_linear_fp16_weight"].modules == ("1",)
    assert counted.flops == 2 * 3 * 4 * 4
    assert counted.execution == "real"


def test_without_data():
    """If a model with a float16 kernel of fbgemm has no data, the model is refused."""
    # The kernel would crash the process if it got tensors without memory.
    with pytest.raises(UsageError, match="needs data"):
        measure(HalfPrecision(), torch.empty(3, 4, device="meta"))


def test_nothing_stays_replaced():
    function = torch.fbgemm_linear_fp16_weight
    measure(HalfPrecision(), torch.randn(3, 4))
    assert torch.fbgemm_linear_fp16_weight is function
