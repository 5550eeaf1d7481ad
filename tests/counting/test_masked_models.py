"""The pairs that masks leave in models of transformers, on shapes, on data and watched, against closed forms."""

from __future__ import annotations

import pytest
import torch
from zoo import for_real

from pytest_flopsbudget import law, measure, shape_only, watch

transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised by packages that transformers loads
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

BATCH, LENGTH, HEADS, HEAD = 2, 70, 4, 8
WINDOW = CHUNK = 16
SIZES = {
    "vocab_size": 64,
    "hidden_size": HEADS * HEAD,
    "intermediate_size": 32,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "num_hidden_layers": 2,
    "head_dim": HEAD,
    "max_position_embeddings": 1 << 18,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def causal(length):
    return length * (length + 1) // 2


def windowed(length, window=WINDOW):
    return window * length - window * (window - 1) // 2 if length >= window else causal(length)


def chunked(length, chunk=CHUNK):
    return length // chunk * causal(chunk) + causal(length % chunk)


def build(name, attention, **changes):
    model, config, settings = {
        "gpt2": (
            transformers.GPT2LMHeadModel,
            transformers.GPT2Config,
            {"n_layer": 2, "n_embd": 32, "n_head": HEADS, "vocab_size": 64, "bos_token_id": 0, "eos_token_id": 0},
        ),
        "llama": (transformers.LlamaForCausalLM, transformers.LlamaConfig, SIZES),
        "mistral": (
            transformers.MistralForCausalLM,
            transformers.MistralConfig,
            SIZES | {"sliding_window": WINDOW},
        ),
        "gemma3": (
            transformers.Gemma3ForCausalLM,
            transformers.Gemma3TextConfig,
            SIZES | {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]},
        ),
        "llama4": (
            transformers.Llama4ForCausalLM,
            transformers.Llama4TextConfig,
            SIZES
            | {"intermediate_size_mlp": 32, "attention_chunk_size": CHUNK, "moe_layers": [], "no_rope_layers": [1, 0]}
            | {"layer_types": ["chunked_attention", "full_attention"]},
        ),
    }[name]
    return model._from_config(config(**settings | changes), attn_implementation=attention)


#: Model → the pairs in all layers, in one head and for one sequence.
PAIRS = {
    "gpt2": lambda length: 2 * causal(length),
    "llama": lambda length: 2 * causal(length),
    "mistral": lambda length: 2 * windowed(length),
    "gemma3": lambda length: windowed(length) + causal(length),
    "llama4": lambda length: chunked(length) + causal(length),
}


def removed(counted):
    """Return the number of pairs that the masks of a model of two layers remove, in all heads and sequences."""
    return (counted.flops - counted.masked_flops) // (2 * 2 * HEAD)


def tokens(length=LENGTH, batch=BATCH):
    return torch.arange(batch * length).reshape(batch, length) % 64


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", PAIRS)
def test_models(name, attention):
    """A model in training mode, forward and backward. (GPT-2 has dropout there, and then no fused kernel runs.)"""
    model, inputs = build(name, attention), {"input_ids": tokens(), "use_cache": False}
    model.train()
    expected = BATCH * HEADS * (2 * LENGTH**2 - PAIRS[name](LENGTH))
    counted = [measure(model, (), inputs, backward=True), for_real(model, (), inputs, backward=True)]
    with watch() as seen:
        model(**inputs).logits.sum().backward()
    for one in (*counted, seen.complexity):
        assert removed(one) == 3 * expected
        assert not [note for note in one.notes if "masked" in note]
    assert counted[0].execution == "shapes"


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_padding_and_packed_sequences(attention):
    model = build("llama", attention).eval()
    padding = torch.ones(BATCH, LENGTH, dtype=torch.int64)
    padding[0, :20] = 0
    positions = torch.cat([torch.arange(length) for length in (30, 25, 15)]).expand(BATCH, -1)
    for options, pairs in (
        ({"attention_mask": padding}, 2 * (causal(50) + causal(LENGTH))),
        ({"position_ids": positions}, 2 * BATCH * (causal(30) + causal(25) + causal(15))),
    ):
        inputs = {"input_ids": tokens(), "use_cache": False, **options}
        for way in (measure, for_real):
            assert removed(way(model, (), inputs)) == HEADS * (2 * BATCH * LENGTH**2 - pairs)


def test_long_sequences():
    """Masks of 131,072 queries and keys, which no machine holds."""
    length = 131_072
    for name in ("mistral", "gemma3", "llama4"):
        with shape_only():
            model = build(name, "sdpa")
        inputs = {"input_ids": torch.empty(1, length, dtype=torch.int64, device="meta"), "use_cache": False}
        assert removed(measure(model, (), inputs, shapes="only")) == HEADS * (2 * length**2 - PAIRS[name](length))


def test_laws():
    """From S = 16 on, a window of 16 leaves 16·S - 120 of S² pairs."""
    with shape_only():
        model = build("mistral", "sdpa")

    def inputs(sequence):
        return {"input_ids": torch.empty(1, sequence, dtype=torch.int64, device="meta"), "use_cache": False}

    found = law(model, inputs, sequence=range(16, 1025))
    pair = 2 * 2 * 2 * HEADS * HEAD  # two layers
    linear = measure(model, (), inputs(100)).flops // 100 - pair * 100
    assert str(found["flops"]) == f"{pair}·S² + {linear:,}·S"
    assert str(found["masked_flops"]) == f"{linear + 16 * pair:,}·S - {120 * pair:,}"


def test_a_formula_that_halves_the_sequence():
    """Windows and chunks in NVIDIA/Megatron-LM#3280, as average keys of a query in one layer.

    The formula there took half of the sequence: 2.29 times too many for a window of 512 in 2,048, and 7.97 times for
    chunks of 256. Half of the window, which replaced it, is 0.57 times the number that is right.
    """
    sequence, width = 2048, 16

    def keys(compare):
        def attention(query):
            i, j = torch.arange(sequence)[:, None], torch.arange(sequence)
            return torch.nn.functional.scaled_dot_product_attention(query, query, query, attn_mask=compare(i, j))

        counted = measure(attention, torch.empty(1, 1, sequence, width, device="meta"))
        return counted.masked_flops / (2 * 2 * width) / sequence

    window = keys(lambda i, j: (j <= i) & (i - j < 512))
    chunks = keys(lambda i, j: (j <= i) & (i // 256 == j // 256))
    assert (window, chunks) == (512 - 512 * 511 / 2 / sequence, (256 + 1) / 2)
    assert (round(1024 / window, 2), round(1024 / chunks, 2), round(256 / window, 2)) == (2.29, 7.97, 0.57)
