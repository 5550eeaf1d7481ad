"""Small models of transformers, with every kind of cache: real runs cost what `serving` says."""

from __future__ import annotations

import inspect

import pytest
import torch

from pytest_flopsbudget import serving, watch

transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised by packages that transformers loads
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

BATCH, PROMPT, NEW = 2, 12, 3

TINY = {
    "vocab_size": 50,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "eos_token_id": None,
    "pad_token_id": 0,
}
MIXTURE = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
STATE = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "eos_token_id": None}
ENCODER = {
    "vocab_size": 50,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
}
#: Kind of cache → configuration, and its settings. PROMPT is longer than each window and each convolution.
MODELS = {
    "grouped": ("Llama", TINY),
    "all windows": ("Mistral", {**TINY, "sliding_window": 8}),
    "some windows": (
        "Gemma3Text",
        {**TINY, "sliding_window": 8, "head_dim": 8, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "experts": ("Mixtral", {**TINY, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "latent": ("DeepseekV3", {**TINY, **MIXTURE, **LATENT}),
    "state": ("Mamba", STATE),
    "state of heads": (
        "Mamba2",
        {**STATE, "num_heads": 8, "head_dim": 8, "n_groups": 2, "expand": 2, "chunk_size": 4},
    ),
    "states and attention": (
        "Jamba",
        {**TINY, "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 2, "mamba_d_state": 8},
    ),
    "linear attention": (
        "Qwen3Next",
        {
            **TINY,
            **MIXTURE,
            "head_dim": 8,
            "num_experts": 4,
            "shared_expert_intermediate_size": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 8,
            "linear_value_head_dim": 8,
            "layer_types": ["linear_attention", "full_attention"],
        },
    ),
    "encoder": (
        "T5",
        {"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
        | {"decoder_start_token_id": 0, "eos_token_id": None},
    ),
    "encoder of sounds": ("Whisper", {**ENCODER, "max_source_positions": 8, "num_mel_bins": 8}),
}


def build(kind):
    name, settings = MODELS[kind]
    config = getattr(transformers, f"{name}Config", None)
    if config is None:
        pytest.skip(f"this version of transformers has no {name}")
    class_name = name.removesuffix("Text") + ("ForConditionalGeneration" if "encoder" in kind else "ForCausalLM")
    torch.manual_seed(0)
    return getattr(transformers, class_name)(config(**settings)).eval()


def prompt(kind):
    """Return the prompt of a kind of model, and its length."""
    if kind == "encoder of sounds":
        return {"input_features": torch.randn(BATCH, 8, 16)}, 16
    return {"input_ids": torch.randint(3, 50, (BATCH, PROMPT))}, PROMPT


def bytes_in(value):
    """Return the bytes of all tensors in a cache, without its lengths, which are tensors of one whole number."""
    if isinstance(value, torch.Tensor):
        return value.nbytes if value.ndim or value.is_floating_point() else 0
    if isinstance(value, dict):
        return sum(map(bytes_in, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(bytes_in, value))
    return bytes_in(vars(value)) if type(value).__module__.startswith("transformers.") else 0


def cache_of(output):
    return next(output[name] for name in ("cache", "past_key_values", "cache_params") if output.get(name) is not None)


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind not in {"all windows", "state"}])
def test_generation(kind):
    """`generate` costs a prefill and one step less than new tokens, because it does not read its last token."""
    model, (inputs, length) = build(kind), prompt(kind)
    settings = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "return_dict_in_generate": True}
    with watch() as watched:
        output = model.generate(**inputs, **settings)
    steps = [serving(model, prompt=length, new_tokens=new, batch=BATCH) for new in range(1, NEW)]
    assert watched.complexity.flops == steps[0].prefill.flops + sum(step.decode.flops for step in steps)
    assert bytes_in(cache_of(output)) == steps[-1].kv_cache
    assert {step.decode.execution for step in steps} == {"shapes"}
    assert not steps[-1].decode.unknown_operators


def test_images():
    """A model for images and text says with ``inputs`` what a prefill gets. Only the prefill has the images."""
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8
    )
    text = transformers.LlamaConfig(**TINY)
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_id=7)
    model = transformers.LlavaForConditionalGeneration(config).eval()

    def inputs(batch, prompt):
        ids = torch.zeros(batch, prompt, dtype=torch.long)
        ids[:, :4] = 7  # one place for each patch
        return {"input_ids": ids, "pixel_values": torch.zeros(batch, 3, 16, 16)}

    served = serving(model, prompt=PROMPT, new_tokens=1, batch=BATCH, inputs=inputs)
    with watch() as watched:
        model.generate(**inputs(BATCH, PROMPT), max_new_tokens=2, min_new_tokens=2, do_sample=False)
    assert watched.complexity.flops == served.prefill.flops + served.decode.flops
    assert served.prefill.modules["model.vision_tower"].flops > 0
    assert served.decode.modules["model.vision_tower"].calls == 0


def check_steps(model, served, inputs, cache):
    """Check real runs of the prefill and of all steps with ``cache``, which is empty, against ``served``."""
    name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
    token = torch.randint(3, 50, (BATCH, 1))
    with torch.no_grad():
        model(**inputs, **{name: cache}, use_cache=True, logits_to_keep=1)
        assert bytes_in(cache) == served.prefill.kv_cache
        for _ in range(NEW - 1):
            model(token, **{name: cache}, use_cache=True)
        with watch() as last:
            model(token, **{name: cache}, use_cache=True)
    assert bytes_in(cache) == served.kv_cache
    assert last.complexity.flops == served.decode.flops


@pytest.mark.parametrize("kind", ["grouped", "some windows", "latent"])
def test_static_caches(kind):
    model, (inputs, length) = build(kind), prompt(kind)
    served = serving(model, prompt=length, new_tokens=NEW, batch=BATCH, cache="static")
    check_steps(model, served, inputs, transformers.StaticCache(config=model.config, max_cache_len=length + NEW))


def test_static_cache_of_an_encoder():
    model, (inputs, length) = build("encoder"), prompt("encoder")
    served = serving(model, prompt=length, new_tokens=NEW, batch=BATCH, cache="static")
    own, cross = (transformers.StaticCache(config=model.config, max_cache_len=size) for size in (1 + NEW, length))
    cache = transformers.EncoderDecoderCache(own, cross)
    start = torch.zeros(BATCH, 1, dtype=torch.long)
    with watch() as prefill, torch.no_grad():
        model(**inputs, decoder_input_ids=start, past_key_values=cache, use_cache=True)
    assert prefill.complexity.flops == served.prefill.flops
    assert bytes_in(cache) == served.prefill.kv_cache == served.kv_cache


def test_quantized_cache():
    """In a cache of float8, each number has one byte, and each layer two scales of four bytes."""
    model, (inputs, length) = build("grouped"), prompt("grouped")

    def quantized(_):
        return transformers.QuantizedCache("fp8", model.config)

    try:
        cache = quantized(0)
    except (TypeError, ValueError):
        pytest.skip("this version of transformers has no cache in float8")
    served = serving(model, prompt=length, new_tokens=NEW, batch=BATCH, cache=quantized)
    token = 2 * 2 * 2 * 8  # layers, keys and values, heads, width of a head
    assert served.kv_cache_per_token == token
    assert served.kv_cache == BATCH * (length + NEW) * token + 2 * 2 * 4
    check_steps(model, served, inputs, cache)


def test_the_model_stays_as_it_was():
    """A model with data has the same weights, random state and caches after `serving`."""
    model = build("some windows")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    serving(model, prompt=PROMPT, new_tokens=NEW)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


WINDOW = 2 * 2 * 8 * 4  # bytes of a token in one layer: keys and values, heads, width of a head, float32


def test_law_of_windows():
    """Up to the window, all layers grow with the tokens. Beyond it, only the layers without a window do."""
    served = serving(build("some windows"), prompt=PROMPT, new_tokens=NEW)
    found = served.law("prefill", batch=range(1, 4), length=range(2, 65))["kv_cache"]
    kept = 7  # a window of eight tokens has seven of the cache
    assert str(found) == (
        f"B = 1 … 3, L = 2 … 7: {2 * WINDOW}·B·L; B = 1 … 3, L = 8 … 64: {WINDOW}·B·L + {kept * WINDOW}·B"
    )


def test_law_of_a_state():
    served = serving(build("state"), prompt=PROMPT, new_tokens=NEW)
    found = served.law("decode", batch=range(1, 5), length=range(2, 65))["kv_cache"]
    # Channels of the convolution by its kernel, and channels by the width of the state, in two layers.
    assert str(found) == f"{2 * (64 * 4 + 64 * 8) * 4:,}·B"


def test_law_of_an_encoder():
    served = serving(build("encoder"), prompt=PROMPT, new_tokens=NEW)
    found = served.law("decode", batch=range(1, 5), prompt=range(4, 32), length=range(2, 32))
    token = 2 * 2 * 4 * 8 * 4  # layers, keys and values, heads, width of a head, float32
    assert str(found["kv_cache"]) == f"{token}·B·L + {token}·B·P"


def test_sum_over_tokens():
    """The law of a step gives the FLOPs of all steps of a generation."""
    model, (inputs, length) = build("grouped"), prompt("grouped")
    served = serving(model, prompt=length, new_tokens=8, batch=BATCH)
    law = served.law("decode", length=range(length + 1, length + 9))["flops"]
    with watch() as watched:
        model.generate(**inputs, max_new_tokens=8, min_new_tokens=8, do_sample=False)
    steps = sum(law.at(length=length + made) for made in range(1, 8))
    assert watched.complexity.flops == served.prefill.flops + steps
