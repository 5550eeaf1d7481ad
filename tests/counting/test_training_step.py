"""A training step costs the sum of its forward pass, its backward pass and the update of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its usual name
from zoo import both

from pytest_flopsbudget.counting.measure import measure

X, TARGET = torch.randn(3, 4), torch.zeros(3, 5)
#: FLOPs of two layers 4→6→5 on 3 rows.
FIRST, SECOND = 2 * 3 * 4 * 6, 2 * 3 * 6 * 5
PARAMETERS = 4 * 6 + 6 * 5
#: FLOPs of a step: forward, gradients of both weights, and the gradient of the second layer's input.
STEP = 3 * (FIRST + SECOND) - FIRST
#: Mean squared error of 15 elements: difference, square and sum in forward; difference and factor in backward.
LOSS = (3 + 2) * 15

#: SGD subtracts g·η for each parameter (2 FLOPs). AdamW decays (1), updates m += (g - m)(1 - β) (3) and v·β + g·g·(1 -
#: β) (4), computes √v / c + ε (3), and subtracts η·m divided by it (3). Adam has no decay here. Adam and AdamW also add
#: 1 to a step count for each of the two tensors.
OPTIMIZERS = {
    "sgd": (lambda parameters: torch.optim.SGD(parameters, 0.1), 2 * PARAMETERS),
    "adamw": (lambda parameters: torch.optim.AdamW(parameters, 0.1), 14 * PARAMETERS + 2),
    "adam": (lambda parameters: torch.optim.Adam(parameters, 0.1), 13 * PARAMETERS + 2),
    "foreach": (lambda parameters: torch.optim.AdamW(parameters, 0.1, foreach=True), 14 * PARAMETERS + 2),
    "fused": (lambda parameters: torch.optim.AdamW(parameters, 0.1, fused=True), 14 * PARAMETERS + 2),
}
each_optimizer = pytest.mark.parametrize(("make", "update"), OPTIMIZERS.values(), ids=OPTIMIZERS)


def layers():
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 5, bias=False))


def state_of(model, optimizer):
    """Return weights, gradients and optimizer state as Python lists and dicts."""
    return [
        (
            parameter.tolist(),
            None if parameter.grad is None else parameter.grad.tolist(),
            {name: value.tolist() for name, value in optimizer.state.get(parameter, {}).items()},
        )
        for parameter in model.parameters()
    ]


MODEL = layers()
OPTIMIZER = torch.optim.SGD(MODEL.parameters(), 0.1)


def step_of_globals():
    OPTIMIZER.zero_grad()
    F.mse_loss(MODEL(X), TARGET).backward()
    OPTIMIZER.step()


class Trainer:
    def __init__(self):
        self.model = layers()
        self.optimizer = torch.optim.SGD(self.model.parameters(), 0.1)
        self.steps = 0

    def step(self):
        self.steps += 1
        self.optimizer.zero_grad()
        F.mse_loss(self.model(X), TARGET).backward()
        self.optimizer.step()


TRAINER = Trainer()


@each_optimizer
def test_whole_step(make, update):
    """The first and the second training step have the same count."""
    model = layers()
    optimizer = make(model.parameters())

    def step():
        optimizer.zero_grad()
        F.mse_loss(model(X), TARGET).backward()
        optimizer.step()

    for _ in range(2):
        before = state_of(model, optimizer)
        for function in (step, lambda: step()):  # noqa: PLW0108 -- this tests a function in a function
            counted = measure(function)
            assert (counted.flops, counted.other_flops) == (STEP, LOSS + update)
            assert not counted.unknown_operators
            assert counted.notes == ()
        assert state_of(model, optimizer) == before
        step()
    assert state_of(model, optimizer) != before


@each_optimizer
def test_both_ways(make, update):
    """If the optimizer has state, a training step has equal counts on shapes and on data."""
    model = layers()
    optimizer = make(model.parameters())

    def step(x):
        optimizer.zero_grad()
        F.mse_loss(model(x), TARGET).backward()
        optimizer.step()

    step(X)
    # With foreach, PyTorch adds a tensor to step counts on the CPU, and a number elsewhere.
    assert both(step, X, without=("memory_traffic",) if optimizer.defaults["foreach"] else ()).flops == STEP


@each_optimizer
def test_update_alone(make, update):
    model = layers()
    optimizer = make(model.parameters())
    model(X).sum().backward()
    optimizer.step()
    before = state_of(model, optimizer)
    for function in (optimizer.step, lambda: optimizer.step()):  # noqa: PLW0108
        counted = measure(function)
        assert (counted.flops, counted.other_flops) == (0, update)
    assert state_of(model, optimizer) == before


def test_accumulated_gradients():
    """If a step does not clear existing gradients, the additions to these gradients are counted."""
    model = layers()

    def step():
        model(X).sum().backward()

    first = measure(step)
    step()
    assert measure(step).other_flops == first.other_flops + PARAMETERS
    assert measure(model, X, backward=True) == measure(layers(), X, backward=True)


def test_a_step_that_finds_no_gradients_is_named():
    optimizer = torch.optim.SGD(layers().parameters(), 0.1)
    counted = measure(lambda: optimizer.step())  # noqa: PLW0108
    assert counted.total_flops == 0
    assert counted.notes == (
        "a step of SGD found no gradients and cost nothing: call backward before it in the measured function",
    )


def test_a_step_that_asks_whether_it_trains():
    """If a measured function uses an optimizer, gradients are enabled in the function."""
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step():
        loss = F.mse_loss(model(X), TARGET)
        if loss.requires_grad:
            loss.backward()
            optimizer.step()

    assert measure(step).flops == STEP


def test_by_global_names():
    for function in (step_of_globals, lambda: step_of_globals(), lambda: TRAINER.step()):  # noqa: PLW0108
        counted = measure(function)
        assert (counted.flops, counted.other_flops) == (STEP, LOSS + 2 * PARAMETERS)
    function = step_of_globals
    assert measure(lambda: function()).flops == STEP  # noqa: PLW0108 -- the closure holds a function
    assert TRAINER.steps == 0
    assert MODEL[0].weight.grad is None


def test_schedules_clipping_and_scaling():
    """Clipping gradients by their norm costs 3 FLOPs for each element of a gradient."""
    # 2 FLOPs for the norm, 1 for the scaling
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)

    def step(*, clips):
        optimizer.zero_grad()
        F.mse_loss(model(X), TARGET).backward()
        if clips:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    plain, clipped = measure(step, kwargs={"clips": False}), measure(step, kwargs={"clips": True})
    assert plain.flops == clipped.flops == STEP
    # Clipping also computes the norm of the two norms, and a factor: a few FLOPs more.
    assert 3 * PARAMETERS <= clipped.other_flops - plain.other_flops < 3 * PARAMETERS + 20
    assert (schedule.last_epoch, optimizer.param_groups[0]["lr"]) == (0, 0.1)


def test_scaled_gradients():
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("cpu")

    def step():
        optimizer.zero_grad()
        scaler.scale(F.mse_loss(model(X), TARGET)).backward()
        scaler.step(optimizer)
        scaler.update()

    before = state_of(model, optimizer), scaler.state_dict()
    assert measure(step).flops == STEP
    assert (state_of(model, optimizer), scaler.state_dict()) == before
    assert scaler._scale is None
