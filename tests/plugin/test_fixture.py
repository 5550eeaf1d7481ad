"""Which measurements the ``flops_budget`` fixture keeps, and which calls it refuses."""

from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from pytest_flopsbudget import UsageError
from pytest_flopsbudget.plugin.fixture import FlopsBudget

WIDE = torch.empty(4, 3)
NARROW = torch.empty(1, 3)


@dataclass
class Batch:
    image: torch.Tensor


class TestMeasuring:
    def test_returns_the_measurement(self):
        measured = FlopsBudget()(nn.Linear(3, 5), WIDE)
        # FLOPs: 2 * 4 * 3 * 5; parameters: 3 * 5 weights, 5 biases
        assert (measured.flops, measured.macs, measured.params) == (120, 60, 20)

    def test_keeps_it(self):
        budget = FlopsBudget()
        measured = budget(nn.Linear(3, 5), WIDE)
        (kept,) = budget.close()
        assert (kept.name, kept.complexity, kept.times) == ("model", measured, 1)
        assert kept.seconds > 0

    def test_names(self):
        """Measurements are kept by name, in the order in which the names first occur."""
        budget = FlopsBudget()
        budget(nn.Linear(3, 5), WIDE, name="student")
        budget(nn.Linear(3, 9), WIDE, name="teacher")
        budget(nn.Linear(3, 7), WIDE)
        assert [kept.name for kept in budget.close()] == ["student", "teacher", "model"]

    def test_keyword_arguments(self):
        measured = FlopsBudget()(nn.Linear(3, 5), kwargs={"input": WIDE})
        assert (measured.flops, measured.inputs) == (120, ("input=float32[4, 3]",))

    def test_backward(self):
        """With ``backward=True``, the gradient of the weight adds as many FLOPs as the forward pass."""
        measured = FlopsBudget()(nn.Linear(3, 5), WIDE, backward=True)
        assert (measured.flops, measured.backward) == (240, True)

    def test_a_model_that_raises_leaves_nothing(self):
        budget = FlopsBudget()
        with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
            budget(nn.Linear(3, 5), torch.empty(4, 4))
        assert budget.close() == []


class TestSameNameAgain:
    @pytest.mark.parametrize("inputs", [(NARROW, WIDE, NARROW), (WIDE, NARROW, NARROW), (NARROW, NARROW, WIDE)])
    def test_the_largest_counts(self, inputs):
        """If one name is measured several times, the largest measurement is kept."""
        budget = FlopsBudget()
        model = nn.Linear(3, 5)
        for rows in inputs:
            budget(model, rows)
        (kept,) = budget.close()
        assert (kept.complexity.flops, kept.times) == (120, 3)

    def test_each_call_returns_its_own(self):
        budget = FlopsBudget()
        budget(nn.Linear(3, 5), WIDE)
        assert budget(nn.Linear(3, 5), NARROW).flops == 30

    def test_buffers_may_grow(self):
        """If a buffer of a model grows between two measurements, the fixture does not take it for another model."""
        model = nn.Linear(3, 5)
        budget = FlopsBudget()
        budget(model, NARROW)
        model.register_buffer("cache", torch.empty(100))
        budget(model, NARROW)
        assert budget.close()[0].times == 2

    @pytest.mark.parametrize(
        ("other", "told"),
        [
            (nn.Linear(3, 6), "Linear of 20 parameters, then Linear of 24 parameters"),
            (nn.Sequential(nn.Linear(3, 5)), "Linear of 20 parameters, then Sequential of 20 parameters"),
        ],
        ids=["size", "class"],
    )
    def test_another_model_is_refused(self, other, told):
        budget = FlopsBudget()
        budget(nn.Linear(3, 5), WIDE)
        with pytest.raises(UsageError) as caught:
            budget(other, WIDE)
        assert str(caught.value) == (
            f"two different models were measured as 'model': {told}; tell them apart with "
            'flops_budget(..., name="...")'
        )
        assert [kept.times for kept in budget.close()] == [1]


class TestRefusedCalls:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((nn.Linear(3, 5),), "there is no tensor among the arguments, which are ()"),
            ((nn.Linear(3, 5), 3), "there is no tensor among the arguments, which are 3"),
            ((nn.Linear(3, 5), (), {"size": 3}), "there is no tensor among the arguments, which are (), {'size': 3}"),
            ((WIDE, nn.Linear(3, 5)), "the model is a value of type Tensor, which cannot be called"),
            ((None, WIDE), "the model is a value of type NoneType, which cannot be called"),
            ((nn.Linear(3, 5), WIDE, WIDE), "kwargs is a value of type Tensor, not a dictionary"),
        ],
    )
    def test_message(self, arguments, message):
        """If an argument is wrong, the message names its value or type, and says what to pass."""
        with pytest.raises(UsageError) as caught:
            FlopsBudget()(*arguments)
        assert message in str(caught.value)
        assert "; " in str(caught.value)

    @pytest.mark.parametrize("inputs", [WIDE, {"input": WIDE}])
    def test_a_single_input_has_no_mean(self, inputs):
        """A batch is no list of inputs: its mean would be that of its rows."""
        with pytest.raises(UsageError, match="which is a single input; hand over a list of inputs"):
            FlopsBudget().mean(nn.Linear(3, 5), inputs)

    def test_no_tensor_among_many(self):
        """The error for a call without tensors is short, even if the call has many arguments."""
        with pytest.raises(UsageError) as caught:
            FlopsBudget()(nn.Linear(3, 5), list(range(10_000)))
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize("name", ["", 3])
    def test_name(self, name):
        with pytest.raises(UsageError, match=r"name=(''|3)\): a name is a text that is not empty"):
            FlopsBudget()(nn.Linear(3, 5), WIDE, name=name)

    def test_after_the_test(self):
        budget = FlopsBudget()
        budget.close()
        with pytest.raises(UsageError, match="called after the test's body"):
            budget(nn.Linear(3, 5), WIDE)


class TestTensorsAreFound:
    @pytest.mark.parametrize("batch", [Batch(WIDE), UserDict(image=WIDE), {"images": [(WIDE,)]}], ids=type)
    def test_inside(self, batch):
        """The fixture finds tensors in dataclasses, in a `UserDict`, and in nested dicts, lists and tuples."""

        def model(batch):
            match batch:
                case Batch():
                    image = batch.image
                case UserDict():
                    image = batch["image"]
                case _:
                    image = batch["images"][0][0]
            return image @ image.T

        assert FlopsBudget()(model, (batch,)).flops == 2 * 4 * 4 * 3
