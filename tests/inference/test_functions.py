"""Models of the user in serving: two functions run them, and their caches may be of any kind."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pytest_flopsbudget import Device, UsageError, serving

WIDTH, KEYS, WORDS = 8, 4, 10
PROMPT, NEW, BATCH = 6, 2, 3


class Decoder(nn.Module):
    """A decoder with one head, which takes earlier keys and values and returns all of them."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.queries, self.keys, self.values = (nn.Linear(WIDTH, KEYS, bias=False) for _ in range(3))
        self.head = nn.Linear(KEYS, WORDS, bias=False)

    def forward(self, tokens, earlier=None):
        x = self.embed(tokens)
        keys, values = self.keys(x), self.values(x)
        if earlier is not None:
            keys, values = torch.cat([earlier[0], keys], 1), torch.cat([earlier[1], values], 1)
        self.head(((self.queries(x) @ keys.mT).softmax(-1) @ values)[:, -1])
        return keys, values


class Keeper(Decoder):
    """A decoder that keeps keys and values in buffers of fixed size."""

    def __init__(self, places):
        super().__init__()
        self.register_buffer("cache", torch.zeros(2, BATCH, places, KEYS))

    def forward(self, tokens, place):
        x = self.embed(tokens)
        count = tokens.shape[1]
        self.cache[0, :, place : place + count] = self.keys(x)
        self.cache[1, :, place : place + count] = self.values(x)
        self.head(((self.queries(x) @ self.cache[0].mT).softmax(-1) @ self.cache[1])[:, -1])
        return self.cache


def serve(model, prefill, decode):
    return serving(model, prompt=PROMPT, new_tokens=NEW, batch=BATCH, prefill=prefill, decode=decode)


def step(tokens, keys):
    """Return the FLOPs of ``tokens`` tokens of each request that meet ``keys`` tokens; the last one gets logits."""
    return 2 * BATCH * (tokens * 3 * WIDTH * KEYS + 2 * tokens * keys * KEYS + KEYS * WORDS)


#: How a cache is handed on → from keys and values, and back.
CACHES = {
    "tuple": (lambda pair: pair, lambda cache: cache),
    "dict": (lambda pair: {"keys": pair[0], "rest": [pair[1]]}, lambda cache: (cache["keys"], *cache["rest"])),
    "object": (lambda pair: SimpleNamespace(pair=pair, count=pair[0].shape[1]), lambda cache: cache.pair),
}


@pytest.mark.parametrize("kind", CACHES)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_caches(kind, device):
    pack, unpack = CACHES[kind]
    with torch.device(device):
        model = Decoder()
    served = serve(
        model,
        lambda model, tokens: pack(model(tokens)),
        lambda model, tokens, cache: pack(model(tokens, unpack(cache))),
    )
    token = 2 * KEYS * 4
    assert served.kv_cache_per_token == token
    assert (served.prefill.kv_cache, served.kv_cache) == (BATCH * PROMPT * token, BATCH * (PROMPT + NEW) * token)
    assert (served.prefill.flops, served.decode.flops) == (step(PROMPT, PROMPT), step(1, PROMPT + NEW))
    assert served.prefill.modules["head"].flops == 2 * BATCH * KEYS * WORDS
    weights = 4 * (3 * WIDTH * KEYS + KEYS * WORDS + WIDTH)  # with one row of the embedding
    assert served.decode.bytes_read == weights + served.kv_cache


def test_a_cache_of_a_local_class():
    """Classes of caches need no name that Python's pickle finds."""

    class Cache:
        def __init__(self, pair):
            self.pair = pair

    served = serve(
        Decoder(),
        lambda model, tokens: Cache(model(tokens)),
        lambda model, tokens, cache: Cache(model(tokens, cache.pair)),
    )
    assert served.kv_cache == BATCH * (PROMPT + NEW) * 2 * KEYS * 4


def test_a_cache_in_buffers():
    """A cache in the model's buffers is no weight: it counts once in the bytes read, and not among the weights."""
    places = 16
    served = serve(
        Keeper(places), lambda model, tokens: model(tokens, 0), lambda model, tokens, _: model(tokens, PROMPT + NEW - 1)
    )
    size = 2 * BATCH * places * KEYS * 4
    assert served.prefill.kv_cache == served.kv_cache == size
    assert served.kv_cache_per_token == 0  # nothing is added
    weights = 4 * (3 * WIDTH * KEYS + KEYS * WORDS + WIDTH)
    assert served.decode.bytes_read == weights + size


def test_keys_that_are_values():
    """Tensors that share their elements count once."""

    class Shared(Decoder):
        def forward(self, tokens, earlier=None):
            keys, _ = super().forward(tokens, earlier)
            return keys, keys

    served = serve(Shared(), lambda model, tokens: model(tokens), lambda model, tokens, cache: model(tokens, cache))
    assert served.kv_cache_per_token == KEYS * 4


def test_a_cache_that_cannot_be_copied():
    with pytest.raises(UsageError, match=r"cache of type tuple cannot be copied.*list, a dict or a simple object"):
        serve(Decoder(), lambda model, tokens: (model(tokens), threading.Lock()), lambda model, tokens, cache: cache)


def test_a_model_that_fails():
    with pytest.raises(ZeroDivisionError):
        serve(Decoder(), lambda model, tokens: 1 / 0, lambda model, tokens, cache: cache)


class Reader(Decoder):
    """A decoder that reads a number, so that it runs on data."""

    def forward(self, tokens, earlier=None):
        assert self.head.weight.sum().item() < 1e9
        return super().forward(tokens, earlier)


def test_a_model_that_needs_data():
    """The decoding step gets a cache with data, and the model stays as it was."""
    model = Reader()
    before = model.head.weight.clone()
    served = serve(model, lambda model, tokens: model(tokens), lambda model, tokens, cache: model(tokens, cache))
    assert served.prefill.execution == served.decode.execution == "real"
    assert served.decode.flops == step(1, PROMPT + NEW)
    assert served.kv_cache == BATCH * (PROMPT + NEW) * 2 * KEYS * 4
    assert str(served.law("decode", batch=range(1, 9))["kv_cache"]) == f"{(PROMPT + NEW) * 2 * KEYS * 4}·B"
    assert torch.equal(model.head.weight, before)


def test_a_model_that_needs_data_and_has_none():
    with pytest.raises(UsageError, match="needs data"), torch.device("meta"):
        serve(Reader(), lambda model, tokens: model(tokens), lambda model, tokens, cache: model(tokens, cache))


class TestHybrid:
    """A cache of a constant state and of keys and values, as in vllm-project/vllm#40691.

    There, a server logged the size of its cache in tokens, which did not fit to the number of requests that it logged.
    """

    STATE = 1000

    def serve(self, memory):
        device = Device("box", rates={"float32": 10**12}, vector_rates={}, bandwidth=10**9, memory=memory, launch=0)
        return serving(
            Decoder(),
            prompt=PROMPT,
            new_tokens=NEW,
            prefill=lambda model, tokens: (model(tokens), torch.zeros(len(tokens), self.STATE)),
            decode=lambda model, tokens, cache: (model(tokens, cache[0]), cache[1]),
            devices=[device],
        )

    def test_requests(self):
        weights = 4 * (WORDS * WIDTH + 3 * WIDTH * KEYS + KEYS * WORDS)
        request = 4 * self.STATE + (PROMPT + NEW) * 2 * KEYS * 4
        assert self.serve(weights + 7 * request).requests("box") == 7
        assert self.serve(weights + 7 * request - 1).requests("box") == 6
        assert self.serve(weights - 1).requests("box") == 0

    def test_tokens_that_fit_do_not_follow_from_the_bytes_of_a_token(self):
        served = self.serve(10**6)
        assert served.kv_cache_per_token == 2 * KEYS * 4
        by_tokens = 10**6 // served.kv_cache_per_token // (PROMPT + NEW)
        assert by_tokens > 16 * served.requests("box")  # the state of each request was forgotten

    def test_unknown_memory(self):
        with pytest.raises(KeyError, match=r"'requests\[box\]' was not measured"):
            self.serve(None).requests("box")
