"""Utilization: the share of a device's peak that a measured latency reaches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget.counting.inputs import Inputs
from pytest_flopsbudget.counting.latency.utilization import add_utilization
from pytest_flopsbudget.counting.measure import trace_inputs
from pytest_flopsbudget.hardware.profile import Device
from pytest_flopsbudget.results.data import Latency

#: 1 GFLOP/s in FP32, 2 in TF32, 8 in BF16, 0.5 for work without products; 4 bytes per ns; 10 ns per launch.
DEVICE = Device(
    "plain",
    rates={"float32": 10**9, "tfloat32": 2 * 10**9, "bfloat16": 8 * 10**9},
    vector_rates={"float32": 10**9 // 2},
    bandwidth=4 * 10**9,
    memory=None,
    launch=10,
)
#: A linear layer 4→5 on 3 rows: FLOPs of the product, FLOPs of the bias, bytes of all operands.
PRODUCTS, ADDED, BYTES = 2 * 3 * 4 * 5, 3 * 5, 4 * (3 * 4 + 4 * 5 + 5 + 3 * 5)


def latency(median):
    return Latency(machine="plain", median_ns=median, q1_ns=median, q3_ns=median, runs=5, threads=1)


def reached(model, inputs, median, **options):
    _, tracer = trace_inputs(model, Inputs((inputs,), {}), **options)
    return add_utilization(latency(median), tracer.credits, DEVICE)


def test_of_the_roofline():
    """The share of the roofline is the shortest possible time divided by the latency."""
    # 120 ns for the product (more than for the bias or the bytes) and 10 ns for the launch, divided by 520 ns
    assert max(2 * ADDED, BYTES / 4) < PRODUCTS
    assert reached(nn.Linear(4, 5), torch.ones(3, 4), 520).share_of_roofline == 0.25


def test_of_the_rate_of_products():
    """MFU is the rate of the model's products divided by the peak rate of the device."""
    # 120 FLOPs in 480 ns are 0.25 GFLOP/s. The device reaches 1 GFLOP/s.
    assert reached(nn.Linear(4, 5), torch.ones(3, 4), 480).mfu == 0.25


def test_in_the_dtype_of_most_products():
    """MFU uses the peak rate of the dtype in which most FLOPs are computed."""
    # TF32 of the convolution, not FP32 of the linear layer
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(256, 1, bias=False))
    flops = 2 * 9 * 4 * 64 + 2 * 256
    assert reached(model, torch.ones(1, 1, 8, 8), flops).mfu == pytest.approx(0.5)


def test_recomputed_work_is_no_use():
    """MFU does not count recomputed products a second time."""
    from torch.utils.checkpoint import checkpoint

    layers = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 5, bias=False))
    inputs, first = torch.ones(3, 4), 2 * 3 * 4 * 4
    # Forward, the gradients of both weights (as expensive as forward), and the gradient of the second layer's input.
    flops = 2 * (first + PRODUCTS) + PRODUCTS
    plain = reached(layers, inputs, 2 * flops, backward=True)
    again = reached(lambda x: checkpoint(layers, x, use_reentrant=False), inputs, 2 * flops, backward=True)
    assert plain.mfu == again.mfu == 0.5
    assert again.share_of_roofline > plain.share_of_roofline


def test_no_products():
    """A model without products has a share of the roofline, but no MFU."""
    measured = reached(nn.ReLU(), torch.ones(3, 4), 480)
    assert measured.mfu is None
    # 12 FLOPs at 0.5 GFLOP/s take 24 ns, and 96 bytes take 24 ns; a launch adds 10 ns.
    assert measured.share_of_roofline == pytest.approx((24 + 10) / 480)


def test_no_time():
    assert reached(nn.Linear(4, 5), torch.ones(3, 4), 0) == latency(0)
