"""The inputs of a model: all arguments that its call accepts, or the model's own example."""

from __future__ import annotations

import dataclasses
from collections import UserDict
from typing import NamedTuple

import pytest
import torch
import transformers
from torch import nn
from transformers.modeling_outputs import BaseModelOutput
from zoo import both

from pytest_flopsbudget import FlopsBudget, UsageError
from pytest_flopsbudget.counting.measure import measure

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised by packages that transformers loads
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

X = torch.randn(3, 4)
LINEAR = 2 * 3 * 4 * 5


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    name: str = "frozen"


@dataclasses.dataclass(slots=True)
class Slotted:
    x: torch.Tensor


class Named(NamedTuple):
    x: torch.Tensor
    scale: float = 1.0


class Reads(nn.Module):
    """A linear layer whose input is computed from the call's arguments by a given function."""

    def __init__(self, read):
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.read = read

    def forward(self, *args, **kwargs):
        return self.layer(self.read(*args, **kwargs))


#: Name → (positional arguments, keyword arguments, the function that finds the tensor in them).
KINDS = {
    "dict": (({"x": X},), {}, lambda batch: batch["x"]),
    "user dict": ((UserDict(x=X),), {}, lambda batch: batch["x"]),
    "frozen dataclass": ((Frozen(X),), {}, lambda batch: batch.x),
    "dataclass with slots": ((Slotted(X),), {}, lambda batch: batch.x),
    "named tuple": ((Named(X),), {}, lambda batch: batch.x * batch.scale),
    "batch encoding": ((transformers.BatchEncoding({"x": X}),), {}, lambda batch: batch["x"]),
    "batch feature": ((transformers.BatchFeature({"x": X}),), {}, lambda batch: batch.x),
    "model output": ((BaseModelOutput(last_hidden_state=X),), {}, lambda output: output.last_hidden_state + output[0]),
    "nested": (([{"images": [(X, None)]}, 3],), {}, lambda batch: batch[0]["images"][0][0]),
    "set and size": ((X, X.shape, {1, 2}, "text", None, torch.float32), {}, lambda x, *_rest: x),
    "keywords": ((), {"x": X, "scale": 2, "names": ["a"]}, lambda *, x, scale, names: x),
    "keywords of a batch": ((), transformers.BatchEncoding({"x": X}), lambda *, x: x),
}


@pytest.mark.parametrize(("args", "kwargs", "read"), KINDS.values(), ids=KINDS)
def test_kinds(args, kwargs, read):
    model = Reads(read)
    assert both(model, args, dict(kwargs)).flops == LINEAR
    assert both(model, args, dict(kwargs), backward=True).flops == 2 * LINEAR
    assert FlopsBudget()(model, args, kwargs).flops == LINEAR


def test_a_list_in_a_tuple_is_one_argument():
    assert measure(lambda items: items[0] @ items[1].T, ([X, X],)).flops == 2 * 3 * 3 * 4
    assert measure(lambda first, second: first @ second.T, [X, X]).flops == 2 * 3 * 3 * 4


def by_the_fixture(*args, **options):
    return FlopsBudget()(*args, **options)


def gpt2():
    return transformers.GPT2Model(transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=1, n_head=4))


class TestOwnExample:
    @pytest.mark.parametrize("measured", [measure, by_the_fixture])
    def test_of_transformers(self, measured):
        """If a test passes no inputs, a model of transformers runs on the example inputs of transformers."""
        macs = 15 * 12 * 32 * 32 + 2 * 3 * 5 * 5 * 32
        model = gpt2()
        for one in (model, model.forward, torch.compile(model, backend="eager")):
            counted = measured(one)
            assert counted.macs == macs
            assert counted.inputs == ("input_ids=int64[3, 5]",)
            assert counted.notes == ("inputs: the model's own dummy_inputs",)
        assert measured(model, backward=True).flops > 2 * counted.flops

    def test_of_an_encoder_and_decoder(self):
        """The example input of T5 contains inputs for the encoder and inputs for the decoder."""
        config = transformers.T5Config(vocab_size=50, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4)
        counted = measure(transformers.T5ForConditionalGeneration(config))
        assert {entry.partition("=")[0] for entry in counted.inputs} >= {"input_ids", "decoder_input_ids"}

    def test_of_an_exported_program(self):
        exported = torch.export.export(nn.Linear(4, 5), (X,))
        counted = measure(exported)
        assert (counted.flops, counted.params) == (LINEAR, 25)
        assert counted.notes == ("inputs: the model's own example_inputs",)
        assert measure(exported, X, backward=True).flops == 2 * LINEAR
        assert measure(exported, X).modules == measure(exported.module(), X).modules

    def test_given_inputs_go_before(self):
        counted = measure(gpt2(), kwargs={"input_ids": torch.zeros(1, 2, dtype=torch.long)})
        assert counted.inputs == ("input_ids=int64[1, 2]",)
        assert counted.notes == ()

    @pytest.mark.parametrize("measured", [measure, by_the_fixture])
    def test_one_for_other_models_is_refused(self, measured):
        """If the example input of a model does not fit its call, an error says which input the model needs."""
        config = transformers.ViTConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48
        )
        with pytest.raises(UsageError) as caught:
            measured(transformers.ViTModel(config))
        assert str(caught.value) == (
            "ViTModel takes pixel_values, and its own dummy_inputs hold input_ids; hand over its input, as in "
            "(model, kwargs={'pixel_values': torch.empty(...)})"
        )

    def test_a_method_of_that_name_is_none(self):
        class Model(nn.Module):
            def dummy_inputs(self):
                raise AssertionError

            def forward(self):
                return X @ X.T

        assert measure(Model()).notes == ()


class TestNoInputs:
    def test_none_are_needed(self):
        class Model(nn.Module):
            def __init__(self):
                super().__init__()
                self.embedding = nn.Parameter(torch.randn(3, 4))

            def forward(self, scale=1.0):
                return self.embedding @ self.embedding.T * scale

        model = Model()
        for one in (model, lambda: model(), lambda: model(scale=2.0)):  # noqa: PLW0108
            assert FlopsBudget()(one).flops == 2 * 3 * 3 * 4

    def test_some_are_needed(self):
        """If a model requires inputs and the test passes none, the error says what to pass."""
        with pytest.raises(UsageError) as caught:
            FlopsBudget()(nn.Linear(4, 5))
        assert str(caught.value) == (
            "flops_budget(model, args): there is no tensor among the arguments, which are (), and the model holds no "
            "example inputs (dummy_inputs, example_input_array); hand over the model's input, as in "
            "flops_budget(model, torch.empty(1, 3, 224, 224)); where it takes none, flops_budget(lambda: model(...))"
        )


def test_what_runs_the_tests_is_no_part_of_the_model(request, monkeypatch):
    """A measured function may use fixtures of pytest."""
    held = torch.nn.Linear(4, 5)

    def forward(x):
        monkeypatch.setattr(Frozen, "name", "patched")
        return held(x) if request.node.name else x

    assert measure(forward, X).flops == LINEAR
    monkeypatch.undo()
    assert Frozen.name == "frozen"
