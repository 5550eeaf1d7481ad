"""A watch that has ended keeps no object alive."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import weakref
from collections import Counter
from contextlib import nullcontext, suppress

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from pytest_flopsbudget.counting.watch import watch

TRACING = "pytest_flopsbudget.counting.tracing"


# Only objects that these tests make can be leaks.
pytestmark = pytest.mark.usefixtures("only_new_objects")


def mlp():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))


def forward(model, inputs):
    model(inputs)


def backward(model, inputs):
    model(inputs).sum().backward()


def training(model, inputs):
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        model(inputs).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    backward(model, inputs)


def accumulated(model, inputs):
    backward(model, inputs)
    backward(model, inputs)


def second_order(model, inputs):
    gradients = torch.autograd.grad(model(inputs).square().sum(), list(model.parameters()), create_graph=True)
    sum(gradient.sum() for gradient in gradients).backward()


def recomputed(model, inputs):
    checkpoint(model, inputs, use_reentrant=False).sum().backward()


def hooked(model, inputs):
    model.register_full_backward_hook(lambda *_args: None)
    model.register_forward_hook(lambda *_args: None)
    backward(model, inputs.requires_grad_())


def nested(model, inputs):
    with watch():
        backward(model, inputs)


def failing(model, inputs):
    with suppress(RuntimeError):
        model(inputs[:, :3])


def failing_step(model, inputs):
    class Failing(torch.optim.SGD):
        def step(self, closure=None):
            raise ArithmeticError

    backward(model, inputs)
    with suppress(ArithmeticError):
        Failing(model.parameters(), lr=0.1).step()


def compiled(model, inputs):
    torch.compile(model, backend="aot_eager")(inputs).sum().backward()
    torch._dynamo.reset()


WAYS = [
    forward,
    backward,
    training,
    accumulated,
    second_order,
    recomputed,
    hooked,
    nested,
    failing,
    failing_step,
    compiled,
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nothing_is_kept(way):
    def run(*, watched):
        model, inputs = mlp(), torch.ones(4, 8)
        with watch() if watched else nullcontext():
            way(model, inputs)
        kept = [model, inputs, *model.parameters()]
        kept += [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
        return [weakref.ref(value) for value in kept]

    for watched in (False, True):
        seen = run(watched=watched)
        gc.collect()
        assert [type(reference()) for reference in seen if reference() is not None] == []


@pytest.mark.parametrize("way", [forward, backward, training, nested], ids=lambda way: way.__name__)
def test_nothing_of_ours_is_kept(way):
    model, inputs = mlp(), torch.ones(4, 8)

    def ours():
        gc.collect()
        kinds = Counter(map(type, gc.get_objects()))
        return {kind: count for kind, count in kinds.items() if str(kind.__module__).startswith(TRACING)}

    with watch():
        way(model, inputs)
    before = ours()
    for _ in range(3):
        with watch():
            way(model, inputs)
    assert ours() == before


_TRAINING = """
import resource
import torch
from torch import nn
from pytest_flopsbudget import watch

torch.set_num_threads(1)
SIZE = 512  # 1 MB of weights a layer


def resident():
    with open("/proc/self/statm") as statistics:
        return int(statistics.read().split()[1]) * resource.getpagesize() / 2**20


def test():
    model = nn.Sequential(nn.Linear(SIZE, SIZE), nn.ReLU(), nn.Linear(SIZE, SIZE))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    with watch():
        model(torch.ones(2, SIZE)).sum().backward()
        optimizer.step()


for _ in range(20):
    test()
before = resident()
for _ in range(300):
    test()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the resident memory from /proc")
def test_resident_memory():
    """300 watched training steps leave less than 12 MB of memory behind."""
    # Each step has 6 MB of weights, gradients and momenta.
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_TRAINING)], capture_output=True, text=True, check=True, timeout=300
    )
    assert float(done.stdout) < 12
