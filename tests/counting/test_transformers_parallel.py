"""If a Llama is tensor-parallel, the costs of one rank equal formulas."""

from __future__ import annotations

import pytest
import torch
from features import requires
from parallel import FLOAT, mesh_of, messages
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.distributed.tensor_parallel import apply_tensor_parallelism

from pytest_flopsbudget import measure, world

#: transformers shards weights by it.
pytestmark = requires("distribute_tensor without communication")

BATCH, LENGTH = 1, 16


def _llama(size: int, config: LlamaConfig) -> LlamaForCausalLM:
    model = LlamaForCausalLM(config)
    plan = model._expand_parallel_plan(model.tp_plan)
    apply_tensor_parallelism(model, mesh_of(size, names=("tp",)), plan)
    return model


def _products(config: LlamaConfig, length: int) -> int:
    """Return the FLOPs of all products in a forward pass on one sequence of ``length`` tokens."""
    width, hidden, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    keys = width // heads * config.num_key_value_heads
    matrices = 2 * width * width + 2 * width * keys + 3 * width * hidden
    attention = 2 * length * length * 2 * width
    return config.num_hidden_layers * (2 * length * matrices + attention) + 2 * length * width * config.vocab_size


def _held(config: LlamaConfig, size: int) -> int:
    """Return the number of parameters that one of ``size`` ranks holds."""
    # 1/size of each matrix, and all norms
    width, hidden, heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
    keys = width // heads * config.num_key_value_heads
    matrices = 2 * width * width + 2 * width * keys + 3 * width * hidden
    layers = config.num_hidden_layers
    return (layers * matrices + 2 * config.vocab_size * width) // size + (2 * layers + 1) * width


_TINY = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 128,
    "tie_word_embeddings": False,
}
#: Llama 3.1 8B: Grattafiori et al., 2024, table 3.
_8B = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
}


@pytest.mark.parametrize(("size", "rank"), [(2, 0), (4, 3)])
class TestTiny:
    def test_forward(self, size: int, rank: int) -> None:
        # Ranks sum the embedding and each layer's attention and MLP outputs, and gather the logits.
        config = LlamaConfig(**_TINY)
        with world(size, rank):
            part = measure(_llama(size, config), torch.zeros(BATCH, LENGTH, dtype=torch.long))
        assert (part.execution, part.flops) == ("shapes", _products(config, LENGTH) // size)
        assert part.params == _held(config, size)
        assert not part.unknown_operators
        activation = BATCH * LENGTH * config.hidden_size * FLOAT
        logits = BATCH * LENGTH * config.vocab_size * FLOAT
        assert part.communication == (1 + 2 * config.num_hidden_layers) * activation + logits
        assert part["model.layers.0"].communication == 2 * activation

    def test_training_step(self, size: int, rank: int) -> None:
        # In backward, ranks also sum the input gradients of column-wise layers: five per layer, one in the head.
        config = LlamaConfig(**_TINY)
        with world(size, rank):
            part = measure(_llama(size, config), torch.zeros(BATCH, LENGTH, dtype=torch.long), backward=True)
        assert (part.execution, part.flops) == ("shapes", 3 * _products(config, LENGTH) // size)
        activation = BATCH * LENGTH * config.hidden_size * FLOAT
        logits = BATCH * LENGTH * config.vocab_size * FLOAT
        assert messages(part) == {
            "_c10d_functional.all_gather_into_tensor": (1, logits),
            "_c10d_functional.all_reduce": (16, 16 * activation),
        }


def test_eight_billion_parameters() -> None:
    """Llama 3.1 8B can be measured on eight ranks without its weights in memory."""
    config = LlamaConfig(**_8B)
    with world(8, 3):
        with torch.device("meta"):
            model = _llama(8, config)
        part = measure(model, torch.empty(1, 128, dtype=torch.long, device="meta"))
    assert _held(config, 1) == 8_030_261_248  # Meta's model card says 8.03 B
    assert (part.params, part.flops) == (_held(config, 8), _products(config, 128) // 8)
    assert part.communication == 65 * 128 * 4096 * FLOAT + 128 * 128256 * FLOAT
