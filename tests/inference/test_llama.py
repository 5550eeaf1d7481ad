"""Llama 3.1 8B with two of its 32 layers: every number of serving follows from the configuration."""

from __future__ import annotations

import pytest
import torch

from pytest_flopsbudget import UsageError, serving, shape_only
from pytest_flopsbudget.hardware.catalog import find_device

transformers = pytest.importorskip("transformers")

LAYERS, WIDTH, HEADS, GROUPS, HEAD, INNER, WORDS = 2, 4096, 32, 8, 128, 14_336, 128_256
BATCH, PROMPT, NEW = 8, 2048, 256
LENGTH = PROMPT + NEW
#: Weights of one layer: queries and outputs, keys and values, the gated feed-forward layer.
LAYER = 2 * WIDTH * WIDTH + 2 * WIDTH * GROUPS * HEAD + 3 * WIDTH * INNER
TOKEN_BYTES = LAYERS * 2 * GROUPS * HEAD * 2


def llama(layers=LAYERS):
    config = transformers.LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=GROUPS,
        vocab_size=WORDS,
        max_position_embeddings=131_072,
    )
    with shape_only():
        return transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()


@pytest.fixture(scope="module")
def model():
    return llama()


@pytest.fixture(scope="module")
def served(model):
    return serving(model, prompt=PROMPT, new_tokens=NEW, batch=BATCH, devices=["H100", "T4"])


def rotary(complexity):
    # The rotary embedding is a matrix product in some versions of transformers only.
    return sum(module.flops for path, module in complexity.modules.items() if path.endswith("rotary_emb"))


def test_prefill(served):
    # Each token meets every weight and all tokens of its prompt; only the last one gets logits.
    layer = 2 * BATCH * PROMPT * LAYER + 2 * 2 * BATCH * PROMPT**2 * WIDTH
    assert served.prefill.flops - rotary(served.prefill) == LAYERS * layer + 2 * BATCH * WIDTH * WORDS


def test_decode(served):
    layer = 2 * BATCH * LAYER + 2 * 2 * BATCH * LENGTH * WIDTH
    assert served.decode.flops - rotary(served.decode) == LAYERS * layer + 2 * BATCH * WIDTH * WORDS


def test_cache(served):
    assert served.prefill.metrics["kv_cache"] == BATCH * PROMPT * TOKEN_BYTES
    assert served.kv_cache == served.decode.metrics["kv_cache"] == BATCH * LENGTH * TOKEN_BYTES
    assert served.kv_cache_per_token == TOKEN_BYTES  # 128 KiB with all 32 layers


def test_bytes_read(served):
    # The embedding is read where tokens choose its rows, which may all be one row.
    norms, frequencies = (2 * LAYERS + 1) * WIDTH * 2, HEAD // 2 * 2
    weights = 2 * (LAYERS * LAYER + WIDTH * WORDS + WIDTH) + norms + frequencies
    assert served.decode.metrics["bytes_read"] == weights + BATCH * LENGTH * TOKEN_BYTES
    assert served.bytes_per_token == weights / BATCH + LENGTH * TOKEN_BYTES


def test_bounds_on_a_device(served):
    h100 = find_device("H100")
    products, read = served.decode.flops / h100.rate("bfloat16"), served.decode.metrics["bytes_read"] / h100.bandwidth
    assert served.tokens_per_second("H100") == pytest.approx(BATCH / max(products, read), abs=1)
    assert read > products
    products = served.prefill.flops / h100.rate("bfloat16")
    assert served.time_to_first_token("H100") == pytest.approx(products * 1e9, rel=1e-3)
    weights = served.decode.param_bytes + served.decode.buffer_bytes
    assert served.requests("H100") == (h100.memory - weights) // (LENGTH * TOKEN_BYTES)


def test_a_batch_that_does_not_fit(model):
    served = serving(model, prompt=131_000, new_tokens=72, batch=64, devices=["T4"])
    fits = (find_device("T4").memory - served.decode.param_bytes - served.decode.buffer_bytes) // (
        131_072 * TOKEN_BYTES
    )
    assert served.requests("T4") == fits
    assert [note for note in served.decode.notes if "T4" in note] == [
        f"T4 has no memory for 64 requests of 131,072 tokens beside the weights; at most {fits} fit"
    ]


def test_law(served):
    found = served.law("decode", batch=range(1, 65), length=range(128, 8193))
    assert str(found["kv_cache"]) == f"{TOKEN_BYTES:,}·B·L"
    fixed = 2 * (LAYERS * LAYER + WIDTH * WORDS)
    assert found["flops"].at(batch=3, length=1000) == 3 * (fixed + LAYERS * 4 * 1000 * WIDTH)


def test_law_of_a_size_alone(served):
    """A size without a range is that of the measured step."""
    assert str(served.law("prefill", batch=range(1, 9))["kv_cache"]) == f"{PROMPT * TOKEN_BYTES:,}·B"
    assert str(served.law("decode", batch=range(1, 9))["kv_cache"]) == f"{LENGTH * TOKEN_BYTES:,}·B"


def test_static_cache(model):
    """A static cache has its final size after the prefill, and attention computes all of its places."""
    served = serving(model, prompt=100, new_tokens=28, batch=2, cache="static")
    assert served.prefill.metrics["kv_cache"] == served.kv_cache == 2 * 128 * TOKEN_BYTES
    assert served.kv_cache_per_token == TOKEN_BYTES
    assert str(served.law("prefill", batch=range(1, 9), length=range(8, 257))["kv_cache"]) == f"{TOKEN_BYTES:,}·B·L"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompt": 0}, "prompt=0"),
        ({"batch": 2.0}, "batch=2.0"),
        ({"new_tokens": True}, "new_tokens=True"),
        ({"cache": "statik"}, "did you mean 'static'"),
        ({"prefill": len}, "belong together"),
        ({"devices": ["H1000"]}, "H1000"),
    ],
)
def test_mistakes(model, changed, message):
    with pytest.raises(UsageError, match=message):
        serving(model, **{"prompt": 8, "new_tokens": 2, **changed})


def test_mistakes_in_laws(served):
    with pytest.raises(UsageError, match="did you mean 'decode'"):
        served.law("decoding", batch=range(1, 9))
    with pytest.raises(UsageError, match="did you mean 'length'"):
        served.law("decode", lenght=range(1, 9))


def test_models_without_a_cache():
    with pytest.raises(UsageError, match="prefill=lambda"):
        serving(torch.nn.Linear(2, 2), prompt=8, new_tokens=2)
    with pytest.raises(UsageError, match=r"torch\.nn\.Module"):
        serving(len, prompt=8, new_tokens=2)
