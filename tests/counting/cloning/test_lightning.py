"""Lightning modules: their training steps and their example inputs."""

from __future__ import annotations

import copy

import pytest
import torch
from zoo import both

from pytest_flopsbudget.counting.measure import measure

X, LABELS = torch.randn(3, 4), torch.tensor([0, 1, 2])
BATCH = (X, LABELS)
#: FLOPs of two linear layers 4→6→5 on 3 rows, and of a training step. The first layer's input needs no gradient.
FIRST, SECOND = 2 * 3 * 4 * 6, 2 * 3 * 6 * 5
STEP = 3 * (FIRST + SECOND) - FIRST
#: FLOPs of one step of gradient descent: 2 for each weight and bias.
UPDATE = 2 * (4 * 6 + 6 + 6 * 5 + 5)


@pytest.fixture(scope="module")
def lightning():
    import lightning_modules

    return lightning_modules


def seen(model):
    return {name: value.clone() for name, value in model.state_dict().items()}, copy.copy(vars(model))


def check_as_before(model, before):
    state, attributes = before
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert vars(model) == attributes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_training_step(lightning):
    model = lightning.Classifier()
    before = seen(model)
    assert both(model.training_step, (BATCH, 0)).flops == FIRST + SECOND
    counted = both(model.training_step, (BATCH, 0), backward=True)
    assert (counted.flops, counted.model) == (STEP, "Classifier.training_step")
    assert counted["net.2"].flops == 3 * SECOND
    check_as_before(model, before)


def test_whole_step(lightning):
    """In a training loop with the module's own optimizer, the update of the weights is counted."""
    model = lightning.Classifier()
    optimizer = model.configure_optimizers()

    def step(batch):
        optimizer.zero_grad()
        model.training_step(batch, 0).backward()
        optimizer.step()

    loop = measure(model.training_step, (BATCH, 0), backward=True)
    counted = both(step, (BATCH,))
    assert (counted.flops, counted.other_flops) == (STEP, loop.other_flops + UPDATE)


@pytest.mark.filterwarnings("ignore")  # raised by the Trainer
def test_after_a_fit(lightning):
    model = lightning.fitted(lightning.Classifier())
    model.zero_grad()
    before = seen(model)
    assert both(model.training_step, (BATCH, 0), backward=True).flops == STEP
    check_as_before(model, before)


@pytest.mark.filterwarnings("ignore")
def test_manual_optimization(lightning):
    model = lightning.fitted(lightning.Manual())
    model.zero_grad()
    step, before = model.trainer.global_step, seen(model)
    counted = both(model.training_step, (BATCH, 0))
    automatic = measure(lightning.Classifier().training_step, (BATCH, 0), backward=True)
    assert (counted.flops, counted.other_flops) == (STEP, automatic.other_flops + UPDATE)
    assert model.trainer.global_step == step
    check_as_before(model, before)


@pytest.mark.parametrize("example", [X, (X,), {"x": X}], ids=["tensor", "tuple", "dict"])
def test_own_example(lightning, example):
    """If a test passes no inputs, the model runs on its `example_input_array`, and a note says so."""
    model = lightning.Classifier()
    model.example_input_array = example
    counted = measure(model)
    assert counted.flops == FIRST + SECOND
    assert counted.notes == ("inputs: the model's own example_input_array",)
    assert measure(model, X[:1]).notes == ()


def test_an_example_is_not_for_other_methods(lightning):
    with pytest.raises(TypeError, match="missing 2 required positional arguments"):
        measure(lightning.Classifier().training_step)


def test_a_log_of_its_own(lightning):
    """If a Lightning module overrides `log`, the work inside of this `log` is counted."""

    class Counts(lightning.Classifier):
        def log(self, name, value, **_options):
            self.net[0](X)

    assert measure(Counts().training_step, (BATCH, 0)).flops > FIRST + SECOND
