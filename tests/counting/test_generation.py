"""The costs of text generation with a cache of keys and values equal formulas."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from zoo import both

from pytest_flopsbudget.counting.measure import measure
from pytest_flopsbudget.errors import UsageError

transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised by packages that transformers loads
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The sizes of a decoder, and formulas for its cost."""

    kind: str
    layers: int
    width: int
    heads: int
    key_heads: int
    inner: int
    vocabulary: int

    def build(self, device="cpu", attention="sdpa"):
        if self.kind == "llama":
            config = transformers.LlamaConfig(
                vocab_size=self.vocabulary,
                hidden_size=self.width,
                intermediate_size=self.inner,
                num_hidden_layers=self.layers,
                num_attention_heads=self.heads,
                num_key_value_heads=self.key_heads,
                eos_token_id=None,
                pad_token_id=0,
            )
            kind = transformers.LlamaForCausalLM
        else:
            config = transformers.GPT2Config(
                vocab_size=self.vocabulary,
                n_embd=self.width,
                n_layer=self.layers,
                n_head=self.heads,
                n_inner=self.inner,
                eos_token_id=None,
            )
            kind = transformers.GPT2LMHeadModel
        with torch.device(device):
            return kind._from_config(config, attn_implementation=attention).eval()

    def macs(self, tokens, keys, predicted=None):
        """Return the MACs for ``tokens`` new tokens, each of which attends to ``keys`` keys.

        ``predicted`` is the number of tokens that get logits. If it is None, all new tokens get logits.
        """
        matrices = 3 if self.kind == "llama" else 2  # a feed-forward layer with a gate has three matrices
        keys_and_values = 2 * self.width * (self.width // self.heads) * self.key_heads
        weights = 2 * self.width * self.width + keys_and_values + matrices * self.width * self.inner
        layer = tokens * weights + 2 * tokens * keys * self.width
        return self.layers * layer + (tokens if predicted is None else predicted) * self.width * self.vocabulary

    def filled(self, cache, length, device="cpu"):
        """Fill the cache with ``length`` tokens of zeros, and return it."""
        shape = (1, self.key_heads, length, self.width // self.heads)
        for layer in range(self.layers):
            cache.update(torch.zeros(shape, device=device), torch.zeros(shape, device=device), layer)
        return cache


TINY = {
    "llama": Decoder("llama", 2, width=32, heads=4, key_heads=2, inner=48, vocabulary=50),
    "gpt2": Decoder("gpt2", 2, width=32, heads=4, key_heads=4, inner=128, vocabulary=50),
}
REAL = {
    "llama-3.1-8b": Decoder("llama", 32, width=4096, heads=32, key_heads=8, inner=14336, vocabulary=128256),
    "gpt2": Decoder("gpt2", 12, width=768, heads=12, key_heads=12, inner=3072, vocabulary=50257),
}
tiny = pytest.mark.parametrize("decoder", TINY.values(), ids=TINY)


def tokens(count):
    return {"input_ids": torch.zeros(1, count, dtype=torch.long)}


def without_rotary(counted):
    # The rotary embedding is a matrix product in some versions of transformers only.
    return counted.macs - sum(module.macs for path, module in counted.modules.items() if path.endswith("rotary_emb"))


@tiny
def test_prefill(decoder):
    """In a prefill of six tokens, each token attends to six keys."""
    model = decoder.build()
    cache = transformers.DynamicCache(config=model.config)
    counted = both(model, (), {**tokens(6), "past_key_values": cache})
    assert without_rotary(counted) == decoder.macs(6, keys=6)
    assert cache.get_seq_length() == 0


@tiny
def test_decode(decoder):
    """If the cache holds six tokens, a new token attends to seven keys."""
    model = decoder.build()
    cache = decoder.filled(transformers.DynamicCache(config=model.config), 6)
    counted = both(model, (), {**tokens(1), "past_key_values": cache})
    assert without_rotary(counted) == decoder.macs(1, keys=7)
    assert cache.get_seq_length() == 6


@tiny
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_static_cache(decoder, attention):
    """With a static cache, a new token attends to all places of the cache, including empty places."""
    # In prefill, eager attention computes all 16 places too, but `sdpa` only the six filled ones.
    model = decoder.build(attention=attention)
    cache = transformers.StaticCache(config=model.config, max_cache_len=16)
    counted = both(model, (), {**tokens(6), "past_key_values": cache})
    assert without_rotary(counted) == decoder.macs(6, keys=6 if attention == "sdpa" else 16)
    decoder.filled(cache, 6)
    keys = [layer.keys.clone() for layer in cache.layers]
    counted = both(model, (), {**tokens(1), "past_key_values": cache})
    assert without_rotary(counted) == decoder.macs(1, keys=16)
    assert cache.get_seq_length() == 6
    assert all(torch.equal(layer.keys, before) for layer, before in zip(cache.layers, keys, strict=True))


@pytest.mark.parametrize("decoder", REAL.values(), ids=REAL)
def test_real_sizes(decoder):
    count = 2048 if decoder.kind == "llama" else 512
    model = decoder.build("meta")
    empty = transformers.DynamicCache(config=model.config)
    prefill = measure(model, (), {**tokens(count), "past_key_values": empty})
    filled = decoder.filled(transformers.DynamicCache(config=model.config), count, "meta")
    decode = measure(model, (), {**tokens(1), "past_key_values": filled})
    assert without_rotary(prefill) == decoder.macs(count, keys=count)
    assert without_rotary(decode) == decoder.macs(1, keys=count + 1)
    assert (prefill.execution, decode.execution) == ("shapes", "shapes")


@tiny
def test_both_in_one(decoder):
    """If one function runs a prefill and three decoding steps, the MACs of all four are added up."""
    model = decoder.build()

    def prefill_and_decode(input_ids):
        cache = transformers.DynamicCache(config=model.config)
        logits = model(input_ids=input_ids, past_key_values=cache).logits
        for _ in range(3):
            logits = model(input_ids=logits[:, -1:].argmax(-1), past_key_values=cache).logits

    counted = both(prefill_and_decode, tokens(6)["input_ids"])
    assert without_rotary(counted) == decoder.macs(6, keys=6) + sum(
        decoder.macs(1, keys=past + 1) for past in (6, 7, 8)
    )


def generation(model, count, **options):
    inputs = {**tokens(count), "attention_mask": torch.ones(1, count, dtype=torch.long)}
    return {**inputs, "max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, **options}


def generated_macs(decoder, count):
    """Return the MACs with which `generate` adds four tokens to a prompt of ``count`` tokens."""
    # The prefill computes logits for one token. Three steps follow, with one token each.
    steps = sum(decoder.macs(1, keys=count + step) for step in (1, 2, 3))
    return decoder.macs(count, keys=count, predicted=1) + steps


@tiny
@pytest.mark.parametrize("end", [None, 51])
def test_generate(decoder, end):
    model = decoder.build()
    counted = measure(model.generate, (), generation(model, 6, eos_token_id=end))
    assert without_rotary(counted) == generated_macs(decoder, 6)
    assert counted.execution == "real"
    assert not counted.unknown_operators


@pytest.mark.parametrize("decoder", REAL.values(), ids=REAL)
def test_generate_without_weights(decoder):
    """If `generate` has no end token, it can be counted on the meta device."""
    model = decoder.build("meta")
    model.generation_config.eos_token_id = None
    counted = measure(model.generate, (), generation(model, 32))
    assert without_rotary(counted) == generated_macs(decoder, 32)


def test_generate_that_reads_its_tokens():
    """If `generate` has an end token, it reads each new token, so a model without data is refused."""
    model = TINY["llama"].build("meta")
    with pytest.raises(UsageError, match=r"LlamaForCausalLM.generate needs data, and model.embed_tokens.weight"):
        measure(model.generate, (), generation(model, 6, eos_token_id=51))
