"""Total, active and non-embedding parameters of published mixtures of experts, on shapes.

Each model has a closed form, written out from its configuration, and the numbers that its authors published.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from pytest_flopsbudget.counting.measure import measure

transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised by packages that transformers loads
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


class Case(NamedTuple):
    kind: str
    settings: dict
    #: Parameters of everything but the embedding table, the output layer and the routed experts.
    common: int
    #: Parameters of one routed expert, in all layers.
    expert: int
    experts: int
    chosen: int
    #: Parameters of the embedding table, and of the output layer, which has another matrix of equal size.
    table: int
    #: The published numbers, in billions.
    total: float
    active: float
    #: Whether the published number of active parameters counts the embedding table.
    with_table: bool = True


def attention(width, heads, groups, size):
    """Grouped-query attention without biases, and the two norms of a layer."""
    return 2 * width * heads * size + 2 * width * groups * size + 2 * width


def deepseek_attention():
    """Latent attention (DeepSeek-V3, arXiv 2412.19437, §2.1.1), with the sizes of its §4.2, and the norms."""
    width, heads, query, latent, plain, rotary, value = 7168, 128, 1536, 512, 128, 64, 128
    of_queries = width * query + query + query * heads * (plain + rotary)
    of_keys = width * (latent + rotary) + latent + latent * heads * (plain + value)
    return of_queries + of_keys + heads * value * width + 2 * width


def gpt_oss(layers, experts):
    """Each linear layer has biases, each head a sink, and each expert two matrices with biases."""
    width, heads, groups, size = 2880, 64, 8, 64
    mixing = attention(width, heads, groups, size) + (heads + 2 * groups) * size + width + heads
    return {
        "common": layers * (mixing + width * experts + experts) + width,
        "expert": layers * (width * 2 * width + 2 * width + width * width + width),
        "experts": experts,
        "table": 201_088 * width,
    }


#: DeepSeek's shared expert has the size of a routed one; the first three layers have no experts.
DEEPSEEK = 58 * (7168 * 256 + 3 * 7168 * 2048) + 3 * 3 * 7168 * 18432

CASES = {
    # Jiang et al., "Mixtral of Experts", arXiv 2401.04088; "46.7B total parameters but only uses 12.9B per token":
    # mistral.ai/news/mixtral-of-experts.
    "mixtral-8x7b": Case(
        "Mixtral",
        {},
        common=32 * (attention(4096, 32, 8, 128) + 4096 * 8) + 4096,
        expert=32 * 3 * 4096 * 14336,
        experts=8,
        chosen=2,
        table=32_000 * 4096,
        total=46.7,
        active=12.9,
    ),
    # "Qwen3 Technical Report", arXiv 2505.09388, table 2; the model card rounds 3.35 down.
    "qwen3-30b-a3b": Case(
        "Qwen3Moe",
        {
            "num_hidden_layers": 48,
            "hidden_size": 2048,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "moe_intermediate_size": 768,
            "num_experts": 128,
            "num_experts_per_tok": 8,
        },
        common=48 * (attention(2048, 32, 4, 128) + 2 * 128 + 2048 * 128) + 2048,
        expert=48 * 3 * 2048 * 768,
        experts=128,
        chosen=8,
        table=151_936 * 2048,
        total=30.5,
        active=3.35,
    ),
    "qwen3-235b-a22b": Case(
        "Qwen3Moe",
        {
            "num_hidden_layers": 94,
            "hidden_size": 4096,
            "num_attention_heads": 64,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "moe_intermediate_size": 1536,
            "num_experts": 128,
            "num_experts_per_tok": 8,
        },
        common=94 * (attention(4096, 64, 4, 128) + 2 * 128 + 4096 * 128) + 4096,
        expert=94 * 3 * 4096 * 1536,
        experts=128,
        chosen=8,
        table=151_936 * 4096,
        total=235.1,
        active=22.2,
    ),
    # "671B", "36.6B (including 0.9B for the output Head)": README_WEIGHTS.md beside the weights, commit 32950e4.
    "deepseek-v3": Case(
        "DeepseekV3",
        {},
        common=61 * deepseek_attention() + DEEPSEEK + 7168,
        expert=58 * 3 * 7168 * 2048,
        experts=256,
        chosen=8,
        table=129_280 * 7168,
        total=671.0,
        active=36.6,
        with_table=False,
    ),
    # "gpt-oss-120b & gpt-oss-20b Model Card", arXiv 2508.10925, table 1: the active ones are without the embedding.
    "gpt-oss-120b": Case("GptOss", {}, **gpt_oss(36, 128), chosen=4, total=116.83, active=5.13, with_table=False),
    "gpt-oss-20b": Case(
        "GptOss",
        {"num_hidden_layers": 24, "num_local_experts": 32},
        **gpt_oss(24, 32),
        chosen=4,
        total=20.91,
        active=3.61,
        with_table=False,
    ),
    # Muennighoff et al., "OLMoE", arXiv 2409.02060: 1.3B active and 6.9B total parameters. Norms of queries and keys.
    "olmoe": Case(
        "Olmoe",
        {"hidden_size": 2048, "intermediate_size": 1024, "num_experts": 64, "num_experts_per_tok": 8},
        common=16 * (attention(2048, 16, 16, 128) + 2 * 2048 + 2048 * 64) + 2048,
        expert=16 * 3 * 2048 * 1024,
        experts=64,
        chosen=8,
        table=50_304 * 2048,
        total=6.9,
        active=1.3,
    ),
}


def count(kind, config=None, **settings):
    config = getattr(transformers, config or f"{kind}Config")(**settings)
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForCausalLM")(config)
    return measure(model, (), {"input_ids": torch.zeros(1, 3, dtype=torch.long), "use_cache": False})


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_published_models(case):
    counted = count(case.kind, **case.settings)
    assert counted.execution == "shapes"
    assert counted.params == case.common + 2 * case.table + case.experts * case.expert
    assert counted.active_params == case.common + 2 * case.table + case.chosen * case.expert
    assert counted.non_embedding_params == counted.params - case.table
    assert rounded(counted.params, case.total) == case.total
    assert rounded(counted.active_params - (0 if case.with_table else case.table), case.active) == case.active
    assert not any("active_params" in note for note in counted.notes)


def rounded(value, like):
    """Return billions, with as many digits as the published number has."""
    return round(value / 1e9, len(str(like).partition(".")[2]))


def test_jamba():
    """Jamba has 52B parameters, of which 12B are active (Lieber et al., arXiv 2403.19887, §1)."""
    counted = count("Jamba", num_hidden_layers=8)
    # One block of 8 layers, four of them with 16 experts of which each token uses 2. Jamba has 4 such blocks.
    assert counted.params - counted.active_params == 4 * (16 - 2) * 3 * 4096 * 14336
    tables = 2 * 65_536 * 4096
    assert round((4 * (counted.params - tables) + tables) / 1e9) == 52
    assert round((4 * (counted.active_params - tables) + tables) / 1e9) == 12


def test_llama_4():
    """Llama 4 Scout has 17B active parameters; transformers runs all experts (ai.meta.com/blog/llama-4, April 2025)."""
    counted = count("Llama4", "Llama4TextConfig", num_hidden_layers=2)
    assert counted.params - counted.active_params == 2 * (16 - 1) * 3 * 5120 * 8192
    (note,) = [note for note in counted.notes if "active_params" in note]
    assert note.startswith("all 16 experts of 'model.layers.0.feed_forward.experts' and 1 more ran for each token")


SMALL = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("kind", "settings", "expert"),
    [
        ("Mixtral", {"num_local_experts": 4, "num_key_value_heads": 2}, 3 * 32 * 48),
        ("Phimoe", {"num_local_experts": 4, "num_key_value_heads": 2}, 3 * 32 * 48),
        ("Qwen2Moe", {"num_experts": 4, "num_key_value_heads": 2, "moe_intermediate_size": 16}, 3 * 32 * 16),
    ],
)
@pytest.mark.parametrize("way", ["eager", "grouped_mm", "batched_mm"])
def test_ways_to_run_experts(kind, settings, expert, way):
    """A loop over the experts needs data. Phi-MoE chooses twice, the best and then the best of the others."""
    config = getattr(transformers, f"{kind}Config")(**SMALL, **settings, num_experts_per_tok=2)
    config._experts_implementation = way
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    counted = measure(model, (), {"input_ids": torch.zeros(2, 5, dtype=torch.long)})
    assert counted.execution == ("real" if way == "eager" else "shapes")
    assert counted.params - counted.active_params == 2 * (4 - 2) * expert


@pytest.mark.parametrize(("groups", "chosen"), [(1, 1), (2, 1), (2, 2), (4, 2)])
@pytest.mark.parametrize("experts", [8, 16])
def test_routers_that_choose_groups_first(groups, chosen, experts):
    """The scores of groups of experts choose no parameters. Shared experts count in full."""
    sizes = {**SMALL, "num_hidden_layers": 3, "num_key_value_heads": 4, "moe_intermediate_size": 16}
    heads = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
    routing = {"n_routed_experts": experts, "num_experts_per_tok": 2, "n_group": groups, "topk_group": chosen}
    counted = count("DeepseekV3", **sizes, **heads, **routing, first_k_dense_replace=1)
    assert counted.params - counted.active_params == 2 * (experts - 2) * 3 * 32 * 16


def test_switch_transformers():
    """A dictionary of experts of which `argmax` chooses one, in an encoder and a decoder."""
    sizes = {"vocab_size": 50, "d_model": 32, "d_ff": 48, "d_kv": 8, "num_heads": 4, "num_experts": 4}
    layers = {"num_layers": 2, "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1}
    config = transformers.SwitchTransformersConfig(**sizes, **layers)
    model = transformers.SwitchTransformersForConditionalGeneration(config)
    ids = torch.zeros(2, 4, dtype=torch.long)
    counted = measure(model, (), {"input_ids": ids, "decoder_input_ids": ids})
    sparse = sum(path.endswith(".experts") for path in counted.modules)
    assert sparse == 2
    assert counted.params - counted.active_params == sparse * (4 - 1) * 2 * 32 * 48
