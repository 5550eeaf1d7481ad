"""Models that use a device which this machine lacks are counted on shapes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget import UsageError, measure, shape_only
from tests.rows import A_ROW, ONES, TakesRows, rows_taken

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is there"),
    pytest.mark.filterwarnings("ignore:`torch.cuda.amp", "ignore:PyTorch was compiled without cuDNN"),
]


def after_waiting():
    torch.cuda.synchronize()
    start = torch.cuda.Event(enable_timing=True)
    start.record()
    with torch.cuda.device(0), torch.cuda.stream(torch.cuda.Stream()):
        return 3


#: Name → (what the model computes, the number of rows that it takes then).
READS = {
    "cuda()": (lambda m, x: 3 if x.cuda().is_cuda else 4, 3),
    "to": (lambda m, x: 3 if x.to("cuda").device == torch.device("cuda") and not x.is_cuda else 4, 3),
    "index": (lambda m, x: x.cuda(1).get_device() + x.to("cuda:2").get_device(), 3),
    "outputs": (lambda m, x: 3 if (x.cuda() + 1)[0].sum().device.type == "cuda" else 4, 3),
    "keeps its device": (lambda m, x: 3 if x.cuda().half().to(torch.float32).is_cuda else 4, 3),
    "back": (lambda m, x: 3 if x.cuda().cpu().is_cpu else 4, 3),
    "factory": (lambda m, x: 3 if torch.zeros(2, device="cuda").is_cuda else 4, 3),
    "values": (lambda m, x: torch.tensor([1, 4], device="cuda").sum(), 5),
    "values on the CPU": (lambda m, x: torch.arange(4, device="cuda:0").cpu().numpy().max(), 3),
    "new": (lambda m, x: 3 if x.new_zeros(3, device="cuda").is_cuda else 4, 3),
    "type": (lambda m, x: 3 if x.type("torch.cuda.HalfTensor").type() == "torch.cuda.HalfTensor" else 4, 3),
    "pinned": (lambda m, x: 3 if x.pin_memory().cuda(non_blocking=True).is_cuda else 4, 3),
    "mps": (lambda m, x: 3 if x.to("mps").is_mps else 4, 3),
    "xpu": (lambda m, x: 3 if torch.ones(2, device="xpu").is_xpu else 4, 3),
    "module": (lambda m, x: 3 if nn.Linear(2, 2, device="cuda").weight.is_cuda else 4, 3),
    "waiting": (lambda m, x: after_waiting(), 3),
    "is it there": (lambda m, x: 4 if torch.cuda.is_available() else 3, 3),
}


@pytest.mark.parametrize("name", READS)
def test_on_shapes(name):
    read, value = READS[name]
    assert rows_taken(read) == (value, "shapes")


def moved(model, x):
    return model.cuda()(x.cuda())


def placed(model, x):
    return model.to("cuda")(x + torch.zeros(8, device="cuda"))


def inside(model, x):
    with torch.device("cuda"):
        return model(x + torch.zeros(8).to(x.device))


@pytest.mark.parametrize("run", [moved, placed, inside])
@pytest.mark.parametrize("backward", [False, True])
def test_whole_models(run, backward):
    result = measure(run, (nn.Linear(8, 8), ONES), backward=backward)
    assert (result.flops, result.execution) == (10 * A_ROW * (2 if backward else 1), "shapes")


def test_recurrent_layers():
    result = measure(lambda layer, x: layer.cuda()(x.cuda())[0], (nn.LSTM(8, 8), ONES))
    assert (result.flops, result.execution) == (10 * 2 * 4 * 8 * 16, "shapes")


@pytest.mark.parametrize(
    ("autocast", "dtype"),
    [
        (torch.cuda.amp.autocast, torch.float16),
        (lambda: torch.autocast("cuda"), torch.float16),
        (lambda: torch.autocast("cuda", dtype=torch.bfloat16), torch.bfloat16),
    ],
)
def test_autocast(autocast, dtype):
    """If CUDA is absent, autocast for CUDA still applies only to tensors on CUDA."""

    def run(model, x):
        with autocast():
            assert model(x).dtype is torch.float32
            assert model.cuda()(x.cuda()).dtype is dtype

    assert measure(run, (nn.Linear(8, 8), ONES)).flops == 2 * 10 * A_ROW


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Linear(8, 8, device="cuda"),
        lambda: nn.Linear(8, 8).cuda(),
        lambda: nn.Linear(8, 8).to("cuda:1"),
    ],
)
def test_while_building(build):
    with shape_only():
        model = build()
        assert model.weight.is_cuda
    assert model.weight.is_meta
    assert measure(model, ONES).flops == 10 * A_ROW


@pytest.mark.parametrize(
    "read",
    [
        lambda m, x: x.cuda().sum(),
        lambda m, x: torch.zeros(3, device="cuda").shape[0] * x[0, 0],
        lambda m, x: m.cuda().layer.bias.numel() * x.to("cuda")[0, 0],
    ],
)
def test_on_data(read):
    """If the count needs values from an absent device, an error says so."""
    with pytest.raises(UsageError, match=r"uses a device that this machine does not have .* needs data; measure it on"):
        measure(TakesRows(read), ONES)
