"""Wrong arguments of `measure`: the model's own error, with a hint on how the call was probably meant."""

from __future__ import annotations

import pytest
import torch

from pytest_flopsbudget import UsageError, measure

X = torch.zeros(1, 3)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, image):
        return self.linear(image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((Net, X), r"measure\(model, args\): the model is the class Net; hand over an instance, as in measure\(Net\("),
        ((X, Net()), r"measure\(model, args\): the model is a value of type Tensor, which cannot be called"),
        ((Net(), X, X), r"kwargs is a value of type Tensor, not a dictionary; .* measure\(model, \(image, mask\)\)"),
        ((Net(), X, (X,)), "kwargs is a value of type tuple, not a dictionary"),
    ],
)
def test_refused_arguments(arguments, message):
    with pytest.raises(UsageError, match=message) as caught:
        measure(*arguments)
    assert "call_hints" not in str(caught.traceback[-1].path)


@pytest.mark.parametrize(
    ("model", "args", "hint"),
    [
        (Net(), {"image": X}, "hint: the dict was passed to the model as one argument; *measure(model, kwargs={...})"),
        (Net(), (X, X), "hint: the two items were passed *measure(model, batch[0])"),
        (Net(), [X, X, X], "hint: the 3 items were passed *measure(model, batch[0])"),
        (lambda a, b: a + b, X, "hint: pass several inputs as a tuple, measure(model, (a, b)), or by name *"),
        (Net(), 3, "hint: there is no tensor among the arguments, which are 3"),
        (Net(), (1, 8), "hint: (1, 8) is no tensor; for an input of this shape, pass torch.empty(1, 8)"),
        (Net(), [3], "hint: [3] is no tensor; for an input of this shape, pass torch.empty(3)"),
        (Net(), (1, "a"), "hint: there is no tensor among the arguments, which are (1, 'a')"),
        (Net(), "image.png", "hint: there is no tensor among the arguments, which are 'image.png'"),
    ],
)
def test_hints(model, args, hint):
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the model's own error
        measure(model, args)
    start, _, end = hint.partition("*")
    (note,) = caught.value.__notes__
    assert note.startswith(start)
    assert note.endswith(end)


def test_no_hint_on_a_wrong_shape():
    """The model's own message says what is wrong with the shape."""
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        measure(Net(), torch.zeros(1, 4))
    assert not hasattr(caught.value, "__notes__")


def test_an_error_of_a_model_without_arguments():
    def model():
        raise LookupError

    with pytest.raises(LookupError) as caught:
        measure(model)
    assert not hasattr(caught.value, "__notes__")
