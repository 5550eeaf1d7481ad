"""Lightning modules: their training steps and their example inputs."""

from __future__ import annotations

import copy

import pytest
import pytorch_lightning
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 -- its usual name
from zoo import both

from pytest_flopsbudget.counting.measure import measure

X, LABELS = torch.randn(3, 4), torch.tensor([0, 1, 2])
BATCH = (X, LABELS)
#: FLOPs of two linear layers 4→6→5 on 3 rows, and of a training step. The first layer's input needs no gradient.
FIRST, SECOND = 2 * 3 * 4 * 6, 2 * 3 * 6 * 5
STEP = 3 * (FIRST + SECOND) - FIRST
#: FLOPs of one step of gradient descent: 2 for each weight and bias.
UPDATE = 2 * (4 * 6 + 6 + 6 * 5 + 5)


class Classifier(pytorch_lightning.LightningModule):
    def __init__(self, rate=0.1):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5))
        self.example_input_array = X

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_index):
        x, labels = batch
        loss = F.cross_entropy(self(x), labels)
        self.log("loss", loss, prog_bar=True)
        self.log_dict({"again": loss})
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.hparams.rate)


class Manual(Classifier):
    """A classifier whose training step calls the optimizer itself."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_index):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_index))
        optimizer.step()


def fitted(model):
    trainer = pytorch_lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, torch.utils.data.DataLoader([(X[0], LABELS[0])] * 2, batch_size=2))
    return model


def seen(model):
    return {name: value.clone() for name, value in model.state_dict().items()}, copy.copy(vars(model))


def check_as_before(model, before):
    state, attributes = before
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert vars(model) == attributes
    assert all(parameter.grad is None for parameter in model.parameters())


def test_training_step():
    model = Classifier()
    before = seen(model)
    assert both(model.training_step, (BATCH, 0)).flops == FIRST + SECOND
    counted = both(model.training_step, (BATCH, 0), backward=True)
    assert (counted.flops, counted.model) == (STEP, "Classifier.training_step")
    assert counted["net.2"].flops == 3 * SECOND
    check_as_before(model, before)


def test_whole_step():
    """In a training loop with the module's own optimizer, the update of the weights is counted."""
    model = Classifier()
    optimizer = model.configure_optimizers()

    def step(batch):
        optimizer.zero_grad()
        model.training_step(batch, 0).backward()
        optimizer.step()

    loop = measure(model.training_step, (BATCH, 0), backward=True)
    counted = both(step, (BATCH,))
    assert (counted.flops, counted.other_flops) == (STEP, loop.other_flops + UPDATE)


@pytest.mark.filterwarnings("ignore")  # raised by the Trainer
def test_after_a_fit():
    model = fitted(Classifier())
    model.zero_grad()
    before = seen(model)
    assert both(model.training_step, (BATCH, 0), backward=True).flops == STEP
    check_as_before(model, before)


@pytest.mark.filterwarnings("ignore")
def test_manual_optimization():
    model = fitted(Manual())
    model.zero_grad()
    step, before = model.trainer.global_step, seen(model)
    counted = both(model.training_step, (BATCH, 0))
    automatic = measure(Classifier().training_step, (BATCH, 0), backward=True)
    assert (counted.flops, counted.other_flops) == (STEP, automatic.other_flops + UPDATE)
    assert model.trainer.global_step == step
    check_as_before(model, before)


@pytest.mark.parametrize("example", [X, (X,), {"x": X}], ids=["tensor", "tuple", "dict"])
def test_own_example(example):
    """If a test passes no inputs, the model runs on its `example_input_array`, and a note says so."""
    model = Classifier()
    model.example_input_array = example
    counted = measure(model)
    assert counted.flops == FIRST + SECOND
    assert counted.notes == ("inputs: the model's own example_input_array",)
    assert measure(model, X[:1]).notes == ()


def test_an_example_is_not_for_other_methods():
    with pytest.raises(TypeError, match="missing 2 required positional arguments"):
        measure(Classifier().training_step)


def test_a_log_of_its_own():
    """If a Lightning module overrides `log`, the work inside of this `log` is counted."""

    class Counts(Classifier):
        def log(self, name, value, **_options):
            self.net[0](X)

    assert measure(Counts().training_step, (BATCH, 0)).flops > FIRST + SECOND
