"""Models with LoRA adapters of peft."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from zoo import both

from pytest_flopsbudget.counting.measure import measure

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # raised by packages that peft loads
    import peft
    import transformers

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(autouse=True)
def _no_old_torchao(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide torchao from peft if peft refuses it. An older PyTorch works with an older torchao only."""
    from peft.tuners.lora import torchao

    try:
        torchao.is_torchao_available()
    except ImportError:
        monkeypatch.setattr(torchao, "is_torchao_available", lambda: False)


ROWS, RANK = 3, 4
X = torch.randn(ROWS, 16)
#: Two layers 16→32→8: FLOPs of the products, number of parameters, other FLOPs (biases and ReLU).
BASE = 2 * ROWS * (16 * 32 + 32 * 8)
PARAMETERS = 16 * 32 + 32 + 32 * 8 + 8
OTHER = ROWS * (32 + 8 + 32)
#: Two adapters: FLOPs of their products, number of parameters, FLOPs to scale the outputs and to add them.
ADAPTERS = 2 * ROWS * RANK * ((16 + 32) + (32 + 8))
ADAPTERS_PARAMETERS = RANK * ((16 + 32) + (32 + 8))
ADDITION = 2 * ROWS * (32 + 8)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 32)
        self.second = nn.Linear(32, 8)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def adapted(**options):
    return peft.get_peft_model(Net(), peft.LoraConfig(r=RANK, target_modules=["first", "second"], **options))


def test_adapters():
    counted = both(adapted(), X)
    assert (counted.flops, counted.other_flops) == (BASE + ADAPTERS, OTHER + ADDITION)
    assert (counted.params, counted.trainable_params) == (PARAMETERS + ADAPTERS_PARAMETERS, ADAPTERS_PARAMETERS)
    assert counted["base_model.model.second.lora_A.default"].flops == 2 * ROWS * 32 * RANK
    assert not counted.unknown_operators


def test_dropout():
    """In training, the dropout of an adapter costs 2 FLOPs for each element of its input."""
    # One FLOP scales an element of the mask, and one multiplies the input by this element.
    counted = both(adapted(lora_dropout=0.1).train(), X)
    assert (counted.flops, counted.other_flops) == (BASE + ADAPTERS, OTHER + ADDITION + 2 * ROWS * (16 + 32))


def test_backward():
    """If only adapters are trained, the backward pass does not compute gradients of the model's own weights."""
    # The gradient passes through the frozen second layer, because the adapter of the first layer needs it.
    counted = both(adapted(), X, backward=True)
    first = 2 * ROWS * RANK * (16 + 2 * 32)  # down: the weight's gradient; up: the weight's and the input's gradients
    second = 2 * ROWS * RANK * (2 * 32 + 2 * 8) + 2 * ROWS * 32 * 8
    assert counted.flops == BASE + ADAPTERS + first + second


@pytest.mark.parametrize("unload", [True, False])
def test_merged(unload):
    """If the adapters are merged into the weights, the model costs as much as the original model."""
    model = adapted()
    if unload:
        model = model.merge_and_unload()
        assert both(model, X).params == PARAMETERS
    else:
        model.merge_adapter()
    counted = both(model, X)
    assert (counted.flops, counted.other_flops) == (BASE, OTHER)


def test_switched_off():
    model = adapted()
    with model.disable_adapter():
        assert both(model, X).flops == BASE
    assert both(model, X).flops == BASE + ADAPTERS


def test_causal_model():
    """A Llama with adapters costs as much as the Llama and the adapters together."""
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    inputs = {"input_ids": torch.zeros(1, 10, dtype=torch.long)}
    base, example = measure(model, kwargs=inputs), measure(model)
    lora = peft.LoraConfig(r=RANK, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    wrapped = peft.get_peft_model(model, lora)
    # Parameters of the adapters in both layers (32→32 and 32→16). Each parameter takes one MAC per token.
    adapters = 2 * RANK * ((32 + 32) + (32 + 16))
    counted = measure(wrapped, kwargs=inputs)
    assert counted.macs == base.macs + 10 * adapters
    assert (counted.params, counted.trainable_params) == (base.params + adapters, adapters)
    carried = measure(wrapped)
    assert carried.macs == example.macs + 3 * 5 * adapters  # the example has three texts of five tokens
    assert carried.notes == ("inputs: the model's own dummy_inputs",)
