"""Serving of one rank of a model whose heads are spread over ranks: its part of the cache and of the weights."""

from __future__ import annotations

import pytest
from features import requires
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from pytest_flopsbudget import serving, world

transformers = pytest.importorskip("transformers")

pytestmark = requires("distribute_tensor without communication")

WIDTH, INNER, LAYERS = 32, 48, 2
SPLIT = dict.fromkeys(("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), ColwiseParallel())
SPLIT |= {"mlp.gate_proj": ColwiseParallel(), "mlp.up_proj": ColwiseParallel()}
SPLIT |= {"self_attn.o_proj": RowwiseParallel(), "mlp.down_proj": RowwiseParallel()}


def build():
    config = transformers.LlamaConfig(
        vocab_size=64,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=INNER,
    )
    return transformers.LlamaForCausalLM(config).eval()


def test_tensor_parallel():
    whole = serving(build(), prompt=12, new_tokens=3, batch=2)
    with world(2):
        model = build()
        for layer in model.model.layers:
            parallelize_module(layer, init_device_mesh("cpu", (2,)), SPLIT)
        rank = serving(model, prompt=12, new_tokens=3, batch=2)
    split = 4 * LAYERS * (4 * WIDTH * WIDTH + 3 * WIDTH * INNER)
    assert rank.kv_cache_per_token * 2 == whole.kv_cache_per_token == LAYERS * 2 * WIDTH * 4
    assert rank.kv_cache * 2 == whole.kv_cache
    assert whole.decode.bytes_read - rank.decode.bytes_read == split // 2 + rank.kv_cache
