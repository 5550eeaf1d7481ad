"""If a run on shapes fails, the model runs on data, and a note says why."""

import pytest
import torch
from torch import nn

from pytest_flopsbudget import UsageError, measure
from pytest_flopsbudget.counting.meta import shape_rules
from pytest_flopsbudget.results.data import PLEASE_REPORT

#: The beginning of the note on a run on shapes that failed.
NOTE = f"could not be counted on shapes with PyTorch {torch.__version__} "


class Keeps(nn.Module):
    """A model that keeps only the rows whose first output is positive."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        y = self.layer(x)
        return y[y[:, 0] > 0]


class Picks(nn.Module):
    """A model that applies its layer to the first ``count`` rows of ``x``."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x, count):
        return self.layer(x[: int(count)])


class Broken(nn.Module):
    """A model that raises an exception on the meta device, but not on other devices."""

    def forward(self, x):
        if torch._C._dispatch_keys(x).has(torch._C.DispatchKey.Meta):
            raise LookupError("not on meta")
        return x @ x.mT


def test_who_asked_for_data():
    result = measure(nn.Sequential(nn.Identity(), Keeps()), torch.ones(3, 4))
    assert result.execution == "real"
    assert result.notes == (
        "ran on real data, because aten.index in '1' needs data; the count may depend on that data",
    )


def test_values_of_integers():
    """If a model reads the value of an integer input, a note says so."""
    result = measure(Picks(), (torch.ones(10, 4), torch.tensor(3)))
    assert result.flops == 2 * 3 * 4 * 4
    (note,) = result.notes
    assert note == (
        "the values of integer inputs were used, because aten._local_scalar_dense in 'the model itself' needs data; "
        "the count may depend on them"
    )


@pytest.mark.fails_on_shapes
def test_an_error_in_a_shape_rule(monkeypatch):
    def divide(*_args):
        return 1 / 0

    monkeypatch.setattr(shape_rules, "infer_output", divide)
    result = measure(nn.Linear(5, 7), torch.ones(11, 5))
    assert (result.flops, result.execution) == (2 * 11 * 5 * 7, "real")
    (note,) = result.notes
    assert note.startswith(
        f"could not be counted on shapes with PyTorch {torch.__version__} (ZeroDivisionError in test_attempts.py:"
    )
    assert f"division by zero); {PLEASE_REPORT}, with this text; ran on real data instead" in note


@pytest.mark.fails_on_shapes
def test_a_model_that_fails_on_meta():
    (note,) = measure(Broken(), torch.ones(2, 4)).notes
    assert note.startswith(
        f"could not be counted on shapes with PyTorch {torch.__version__} (LookupError in test_attempts.py:"
    )
    assert f"test_attempts.py:43: not on meta); {PLEASE_REPORT}" in note


def test_no_note_on_shapes():
    assert measure(nn.Linear(4, 4), torch.ones(3, 4), shapes="only").notes == ()


def test_gradients_in_the_forward_pass_are_no_failure():
    def forward(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad((x @ x.mT).sum(), x)[0]

    result = measure(forward, torch.ones(3, 4))
    assert (result.execution, result.notes) == ("shapes", ())


def test_shapes_only():
    with pytest.raises(UsageError, match=r'shapes = "only" demands: aten.index in .the model itself. needs data'):
        measure(Keeps(), torch.ones(3, 4), shapes="only")
    with pytest.raises(UsageError, match=r"aten._local_scalar_dense"):
        measure(Picks(), (torch.ones(10, 4), torch.tensor(3)), shapes="only")
    with pytest.raises(LookupError, match="not on meta"):
        measure(Broken(), torch.ones(2, 4), shapes="only")


def test_error_of_the_model_itself():
    """If a model fails in every attempt, the caller gets the model's own exception."""
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        measure(nn.Linear(4, 4), torch.ones(3, 5))


class ReadsMask(nn.Module):
    """A module that runs its convolution only if the value of ``make(image)`` is true."""

    def __init__(self, make):
        super().__init__()
        self.layer, self.make = nn.Conv2d(3, 4, 1), make

    def forward(self, image):
        return self.layer(image) if self.make(image).item() else image


MASKS = {
    "ones": lambda x: torch.ones(x.shape[2:], dtype=torch.bool, device=x.device).all(),
    "zeros": lambda x: (torch.zeros(x.shape[2:]) == 0).all(),
    "a range": lambda x: torch.arange(x[0, 0].numel())[-1] > 5,
    "a triangle": lambda x: torch.full(x.shape[2:], 2).tril().max(),
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
@pytest.mark.parametrize("size", [8, 100, 800])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_a_large_mask_of_python_numbers(mask, size, device):
    """If the values of a mask follow from the size of the image, the model is counted on shapes."""
    result = measure(ReadsMask(mask).to(device), torch.ones(1, 3, size, size, device=device), shapes="only")
    assert result.macs == size * size * 3 * 4
    assert (result.execution, result.notes) == ("shapes", ())


def test_a_mask_that_is_too_large():
    """If a mask has more than a million elements, the model runs on data."""
    model = ReadsMask(lambda _: torch.ones(1100, 1100).all())
    assert measure(model, torch.ones(1, 3, 8, 8)).execution == "real"
    with pytest.raises(UsageError, match="needs data"):
        measure(model.to("meta"), torch.empty(1, 3, 8, 8, device="meta"))


def test_a_large_mask_of_data():
    model = ReadsMask(lambda image: (image > 0).all())
    assert measure(model, torch.ones(1, 3, 100, 100)).execution == "real"
