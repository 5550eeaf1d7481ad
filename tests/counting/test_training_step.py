"""A training step as one function: products as three forward passes, the optimizer's update by its definition."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its name everywhere
from zoo import both

from pytest_flopsbudget.counting.measure import measure

X, TARGET = torch.randn(3, 4), torch.zeros(3, 5)
#: Products of two layers 4→6→5 on 3 rows.
FIRST, SECOND = 2 * 3 * 4 * 6, 2 * 3 * 6 * 5
PARAMETERS = 4 * 6 + 6 * 5
#: All forward products, once for their weights and once for their inputs, of which the first layer's is not asked for.
STEP = 3 * (FIRST + SECOND) - FIRST
#: Mean squared error of 15 elements: difference, square, sum; the way back: difference and a factor.
LOSS = (3 + 2) * 15

#: By parameter: SGD subtracts g·η. AdamW decays (1), m += (g - m)(1 - β) 3, v·β + g·g·(1 - β) 4, √v / c + ε 3, and
#: subtracts η·m / that, 3. Adam does not decay here. Both count their steps, a sum for each of the two tensors.
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
    """Weights, gradients and the optimizer's state, as plain data."""
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
    """Holds what it trains, as trainers do."""

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
    """The first step, and one with gradients and a state from before; none of these is touched."""
    model = layers()
    optimizer = make(model.parameters())

    def step():
        optimizer.zero_grad()
        F.mse_loss(model(X), TARGET).backward()
        optimizer.step()

    for _ in range(2):
        before = state_of(model, optimizer)
        for function in (step, lambda: step()):  # noqa: PLW0108 -- a function within a function is the point
            counted = measure(function)
            assert (counted.flops, counted.other_flops) == (STEP, LOSS + update)
            assert not counted.unknown_operators
            assert counted.notes == ()
        assert state_of(model, optimizer) == before
        step()
    assert state_of(model, optimizer) != before


@each_optimizer
def test_both_ways(make, update):
    """On shapes, where a state is there, as for real."""
    model = layers()
    optimizer = make(model.parameters())

    def step(x):
        optimizer.zero_grad()
        F.mse_loss(model(x), TARGET).backward()
        optimizer.step()

    step(X)
    # Beside parameters on the CPU, PyTorch adds to the number of steps from a tensor, elsewhere from a number.
    assert both(step, X, without=("memory_traffic",) if optimizer.defaults["foreach"] else ()).flops == STEP


@each_optimizer
def test_update_alone(make, update):
    """A step over the gradients that are there, by any way to it."""
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
    """Without zeroing, a step adds its gradients to those that are there; the backward pass of a model does not."""
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
        "a step of SGD found no gradients and cost nothing: let a backward pass come before it in what is measured",
    )


def test_a_step_that_asks_whether_it_trains():
    """Where there is an optimizer, gradients are on, as they are where the step runs."""
    model = layers()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step():
        loss = F.mse_loss(model(X), TARGET)
        if loss.requires_grad:
            loss.backward()
            optimizer.step()

    assert measure(step).flops == STEP


def test_by_global_names():
    """Models, optimizers, and objects that hold both."""
    for function in (step_of_globals, lambda: step_of_globals(), lambda: TRAINER.step()):  # noqa: PLW0108
        counted = measure(function)
        assert (counted.flops, counted.other_flops) == (STEP, LOSS + 2 * PARAMETERS)
    function = step_of_globals
    assert measure(lambda: function()).flops == STEP  # noqa: PLW0108 -- held by a closure
    assert TRAINER.steps == 0
    assert MODEL[0].weight.grad is None


def test_schedules_clipping_and_scaling():
    """What stands around a step: the norm of all gradients 2 each, and the root; a product each for clipping."""
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
    # Of the two tensors' norms the norm again, and a few operations on it.
    assert 3 * PARAMETERS <= clipped.other_flops - plain.other_flops < 3 * PARAMETERS + 20
    assert (schedule.last_epoch, optimizer.param_groups[0]["lr"]) == (0, 0.1)


def test_scaled_gradients():
    """A scaler for half precision reads back whether gradients are finite, so it runs on data; it stays as it was."""
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
