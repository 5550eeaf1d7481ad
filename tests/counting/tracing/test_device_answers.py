"""In a run on shapes, tensors report the device of the original tensors."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import nn

from pytest_flopsbudget import measure, shape_only
from tests.rows import ONES, TakesRows, rows_taken
from tests.zoo import both

pytestmark = pytest.mark.filterwarnings("ignore:TypedStorage")

ON_META = torch.empty(10, 8, device="meta")

FLOATS, FLOAT_TENSOR = "torch.FloatStorage", torch.FloatTensor

#: Questions about devices; for a model on the CPU, the answer to each is "yes".
ON_THE_CPU = {
    "device type": lambda m, x: x.device.type == "cpu",
    "device": lambda m, x: x.device == torch.device("cpu"),
    "text": lambda m, x: str(x.device) == "cpu",
    "is_cpu": lambda m, x: x.is_cpu,
    "is_meta": lambda m, x: not x.is_meta,
    "is_cuda": lambda m, x: not (x.is_cuda or x.is_xpu or x.is_mps),
    "get_device": lambda m, x: x.get_device() == -1,
    "weight": lambda m, x: m.layer.weight.device == x.device and m.layer.weight.is_cpu,
    "view": lambda m, x: x[1:].T.is_cpu,
    "output": lambda m, x: (x + 1)[0].sum().device.type == "cpu",
    "factory": lambda m, x: torch.zeros(2, device=x.device).is_cpu and x.new_ones(2).device == x.device,
    "gradient": lambda m, x: next(m.parameters()).device.type == "cpu",
    "type": lambda m, x: x.type() == "torch.FloatTensor" and x.type("torch.DoubleTensor").dtype is torch.float64,
    "class": lambda m, x: x.type(torch.LongTensor).is_cpu and x.type(torch.int32).type() == "torch.IntTensor",
    "same tensor": lambda m, x: x.to("cpu") is x and x.cpu() is x and x.to(x.device) is x and x.to(m.layer.bias) is x,
    "as_tensor": lambda m, x: torch.as_tensor(x, device=x.device) is x,
    "storage": lambda m, x: x.untyped_storage().device == x.storage().device == x.device,
    "storage on a GPU": lambda m, x: not (x.untyped_storage().is_cuda or x.storage().is_cuda),
    "class of a storage": lambda m, x: x.storage_type() is torch.FloatStorage and x.storage().type() == FLOATS,
    "instance": lambda m, x: isinstance(x, torch.FloatTensor) and isinstance(m.layer.weight, torch.FloatTensor),
    "instance of several": lambda m, x: isinstance(x.long(), (torch.IntTensor, torch.LongTensor)),
    "instance of another dtype": lambda m, x: not isinstance(x, (torch.HalfTensor, torch.DoubleTensor)),
    "instance on another device": lambda m, x: not isinstance(x, torch.cuda.FloatTensor),
    "call of a class": lambda m, x: isinstance(torch.LongTensor([1, 2]), torch.LongTensor),
    "attribute of a class": lambda m, x: torch.FloatTensor.dtype is x.dtype and torch.FloatTensor == FLOAT_TENSOR,
    "conversion to a class": lambda m, x: x.type(torch.DoubleTensor).dtype is torch.float64,
    "under autocast": lambda m, x: asked_under_autocast(x),
    "under a default device": lambda m, x: asked_under_default(x),
}


def asked_under_autocast(x):
    with torch.autocast("cpu"):
        return x.is_cpu and not x.is_meta and x.device.type == "cpu"


def asked_under_default(x):
    with torch.device("cpu"):
        return x.is_cpu and torch.zeros(2).is_cpu and not x.is_meta


@pytest.mark.parametrize("x", [ONES, ON_META], ids=["data", "meta"])
@pytest.mark.parametrize("name", ON_THE_CPU)
def test_on_the_cpu(name, x):
    question = ON_THE_CPU[name]
    assert rows_taken(lambda model, x: 3 if question(model, x) else 4, x) == (3, "shapes")


@pytest.mark.parametrize("name", ON_THE_CPU)
def test_while_building(name):
    """Within `shape_only`, a constructor gets the same answers about devices as outside of `shape_only`."""
    with shape_only():
        assert ON_THE_CPU[name](TakesRows(None), torch.rand(10, 8))


class RotaryTable(nn.Module):
    """A model whose constructor makes a table, except on the meta device."""

    def __init__(self, device=None):
        super().__init__()
        self.layer = nn.Linear(8, 8)
        frequencies = 1 / 10 ** (torch.arange(0, 8, 2, device=device).float() / 8)
        self.is_made = not frequencies.is_meta
        if self.is_made:
            scaled = [frequency / 2 if frequency > 0.3 else frequency for frequency in frequencies]
            self.register_buffer("table", torch.tensor(scaled, device=frequencies.device), persistent=False)

    def forward(self, x):
        return self.layer(x) if self.is_made else self.layer(self.layer(x))


@pytest.mark.parametrize("device", [None, "cpu", torch.device("cpu")])
def test_rotary_tables(device):
    with shape_only():
        model = RotaryTable(device)
    assert model.table.is_meta
    assert model.table.shape == RotaryTable().table.shape
    assert measure(model, ONES).flops == 2 * 10 * 64


@pytest.mark.parametrize("options", [{"enabled": False}, {}, {"dtype": torch.bfloat16}])
@pytest.mark.parametrize("x", [ONES, ON_META], ids=["data", "meta"])
def test_autocast_for_the_device_of_the_input(options, x):
    def forward(model, x):
        with torch.autocast(x.device.type, **options):
            lower = model.layer(x).dtype is torch.bfloat16
        return 3 if lower == (options != {"enabled": False}) else 4

    with shape_only():
        model = TakesRows(forward)
    result = measure(model, x)
    assert (result.flops, result.execution) == ((10 + 3) * 2 * 64, "shapes")


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.to(x.device).cpu(),
        lambda x: torch.zeros(10, 8).to(x.device) + x,
        lambda x: x.to("cpu", torch.float64).to(x),
        lambda x: x.new_tensor([1.0, 2.0]).to(device=x.device, dtype=torch.float32) + x[:, :2],
        lambda x: torch.as_tensor([1.0, 2.0], device=x.device) + x[:, :2],
        lambda x: torch.arange(8, device=x.device).to(x.dtype) + x,
        lambda x: x.to(torch.device("cpu"), copy=True),
    ],
)
def test_moves_cost_what_they_cost_for_real(move):
    both(lambda x: move(x) * 2, ONES, without=("memory_traffic", "peak_memory"))


def test_other_threads():
    seen = []
    with shape_only():
        tensor = torch.ones(2)
        thread = threading.Thread(target=lambda: seen.append((tensor.is_meta, torch.ones(2).tolist())))
        thread.start()
        thread.join()
    assert seen == [(True, [1, 1])]


def test_threads_that_end_crosswise():
    """After two overlapping threads have left `shape_only`, `torch.Tensor` is as before."""
    before = dict(vars(torch.Tensor))
    began, ended = threading.Event(), threading.Event()

    def second():
        with shape_only():
            began.set()
            ended.wait(10)

    thread = threading.Thread(target=second)
    with shape_only():
        thread.start()
        began.wait(10)
    ended.set()
    thread.join()
    assert dict(vars(torch.Tensor)) == before


@pytest.mark.parametrize(
    "question",
    [
        lambda x: isinstance(x.cuda(), torch.cuda.FloatTensor),
        lambda x: not isinstance(x.cuda(), torch.FloatTensor),
        lambda x: x.cuda().untyped_storage().is_cuda and x.cuda().storage().is_cuda,
        lambda x: x.cuda().untyped_storage().device == x.cuda().device,
    ],
)
def test_another_device(question):
    """If a model moves a tensor to another device, `isinstance` and storages report this device."""
    assert rows_taken(lambda model, x: 3 if question(x) else 4) == (3, "shapes")


def test_classes_after_the_run():
    """After a run on shapes, `torch.FloatTensor` is the usual class again."""
    rows_taken(lambda model, x: 3)
    assert torch.FloatTensor is FLOAT_TENSOR
    assert isinstance(ONES, torch.FloatTensor)


@pytest.mark.filterwarnings("ignore:torch.set_default_tensor_type")
@pytest.mark.parametrize("kind", ["torch.DoubleTensor", torch.DoubleTensor])
def test_default_class(kind):
    before = torch.get_default_dtype()
    try:
        with shape_only():
            # Inside of `shape_only`, PyTorch's classes are replaced.
            torch.set_default_tensor_type(kind if isinstance(kind, str) else torch.DoubleTensor)
            assert nn.Linear(2, 2).weight.dtype == torch.float64
    finally:
        torch.set_default_dtype(before)


def test_classes_that_a_model_keeps():
    """A class of tensors that a model keeps during a measurement still works after the measurement."""
    kept = []

    class Keeps(nn.Module):
        def forward(self, x):
            kept.append(torch.FloatTensor)
            return x.type(kept[-1])

    x = torch.ones(2, dtype=torch.float64)
    assert measure(Keeps(), x).execution == "shapes"
    assert x.type(kept[0]).dtype == torch.float32
    assert isinstance(kept[0]([1.0]), torch.FloatTensor)
    assert kept[0].__name__ == "FloatTensor"
