"""PyTorch's own counter, run on symbolic shapes, gives the polynomials that `law` finds from numbers."""

from __future__ import annotations

import pytest
import torch
from features import requires
from growing import Attention, LinearAttention, Strided, VisionTransformer
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from pytest_flopsbudget import law

#: Whether PyTorch's counter knows the attention kernel that models without weights on the CPU use.
COUNTS_ATTENTION = any("flash_attention_for_cpu" in str(operator) for operator in flop_registry)


def counted_by_torch(model, make, **sizes):
    """Return PyTorch's FLOPs as a function of the sizes. ``sizes`` is the place at which shapes become symbols.

    A dimension is a symbol if it changes when one size changes.
    """
    example = make(**sizes)
    dimensions = {}
    for name, size in sizes.items():
        other = make(**{**sizes, name: size + 16})
        dimensions |= {
            place: name for place, (a, b) in enumerate(zip(example.shape, other.shape, strict=True)) if a != b
        }
    kinds = [DimDynamic.DYNAMIC if place in dimensions else DimDynamic.STATIC for place in range(example.dim())]
    with FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(example, symbolic_context=StatelessSymbolicContext(dynamic_sizes=kinds))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(fake)
    flops = counter.get_total_flops()
    assert isinstance(flops, torch.SymInt)
    symbols = {place: fake.shape[place].node.expr for place in dimensions}
    return lambda **at: int(flops.node.expr.subs({symbols[place]: at[name] for place, name in dimensions.items()}))


def tokens(b=1, *, n):
    return torch.empty(b, n, 8)


def words(b=1, *, n):
    return torch.zeros(b, n, dtype=torch.long)


def image(n):
    return torch.empty(1, 3, n, n)


def signal(n):
    return torch.empty(1, 3, n)


SMALL = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 16}


def of_transformers(name):
    import transformers

    configs = {
        "GPT2": {"n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": 16, "n_positions": 4096},
        "Llama": {**SMALL, "num_key_value_heads": 1, "max_position_embeddings": 4096, "use_cache": False},
        "Bert": {**SMALL, "max_position_embeddings": 4096},
    }
    ends = {} if name == "Bert" else {"bos_token_id": 0, "eos_token_id": 0}
    config = getattr(transformers, f"{name}Config")(**configs[name], **ends)
    config.use_cache = False
    how = "sdpa" if COUNTS_ATTENTION else "eager"
    return transformers.AutoModel.from_config(config, attn_implementation=how).eval()


MODELS = {
    "attention": (Attention, tokens),
    "linear attention": (LinearAttention, tokens),
    "MLP": (lambda: nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)), tokens),
    "encoder": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), tokens),
    "convolutions": (lambda: nn.Sequential(nn.Conv1d(3, 4, 5, padding=2), nn.Conv1d(4, 2, 3, stride=2)), signal),
    "strides": (lambda: Strided(2), image),
    "ViT": (VisionTransformer, image),
    **{name: (lambda name=name: of_transformers(name), words) for name in ("GPT2", "Llama", "Bert")},
}


#: Models that call no `matmul`.
LAYERS_ALONE = {"MLP", "convolutions", "strides"}


def case(name):
    return pytest.param(name, marks=() if name in LAYERS_ALONE else requires("matmul on symbolic shapes"))


@pytest.mark.parametrize("name", [case(name) for name in MODELS])
def test_one_size(name):
    build, make = MODELS[name]
    model, sizes = build(), range(32, 400)
    found = law(model, make, most_counts=60, n=sizes)["flops"]
    expected = counted_by_torch(model, make, n=37)
    assert found.found
    # Polynomials of degree 4, for each remainder of 16, are equal if they agree at 5 sizes of each remainder.
    for n in (*range(32, 112), 399):
        assert found.at(n=n) == expected(n=n)


@pytest.mark.parametrize("name", [case("attention"), case("Llama")])
def test_batch_and_size(name):
    build, make = MODELS[name]
    model = build()
    found = law(model, make, most_counts=40, b=range(2, 65), n=range(32, 400))["flops"]
    expected = counted_by_torch(model, make, b=5, n=37)
    points = [(b, n) for b in (2, 3, 4) for n in (32, 33, 34, 35)]
    for b, n in [*points, (64, 399), (17, 203)]:
        assert found.at(b=b, n=n) == expected(b=b, n=n)
