"""`training_flops` against closed forms that are written out for each configuration."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget import UsageError, shape_only, training_flops
from pytest_flopsbudget.training.conventions import CONVENTIONS

transformers = pytest.importorskip("transformers")

#: Llama 3.1 8B (A. Dubey et al., 2024, table 3), with 3 of its 32 layers.
LAYERS, HIDDEN, FEED, HEADS, GROUPS, WIDTH, VOCABULARY, SEQUENCE = 3, 4_096, 14_336, 32, 8, 128, 128_256, 2_048


@pytest.fixture(scope="module")
def llama():
    with shape_only():
        model = transformers.LlamaForCausalLM(
            transformers.LlamaConfig(
                hidden_size=HIDDEN,
                intermediate_size=FEED,
                num_hidden_layers=LAYERS,
                num_attention_heads=HEADS,
                num_key_value_heads=GROUPS,
                vocab_size=VOCABULARY,
                use_cache=False,
            )
        )
    return training_flops(model, torch.zeros(2, SEQUENCE, dtype=torch.int64))


@pytest.fixture(scope="module")
def gpt2():
    with shape_only():
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(use_cache=False))
    return training_flops(model, torch.zeros(1, 1024, dtype=torch.int64))


WEIGHTS = LAYERS * (2 * HIDDEN * HEADS * WIDTH + 2 * HIDDEN * GROUPS * WIDTH + 3 * HIDDEN * FEED)
ATTENTION = 12 * LAYERS * HEADS * WIDTH * SEQUENCE
EMBEDDING = HIDDEN * VOCABULARY
NORMS = (2 * LAYERS + 1) * HIDDEN


def test_llama_by_every_convention(llama):
    exact = 6 * (WEIGHTS + EMBEDDING) + ATTENTION
    every = WEIGHTS + 2 * EMBEDDING + NORMS
    assert llama.tokens == 2 * SEQUENCE
    values, reasons = llama.available()
    assert reasons == {}
    assert values == {
        "exact": exact,
        "6nd": 6 * every,
        "palm": 6 * every + ATTENTION,
        "megatron": 3 * LAYERS * (24 * HIDDEN**2 + 4 * SEQUENCE * HIDDEN) + 6 * EMBEDDING,
        "torchtitan": 6 * (every - EMBEDDING) + ATTENTION,
        "nanogpt": 6 * every + ATTENTION,
        "hf": 6 * (every - EMBEDDING),
    }


def test_nanogpts_count_of_gpt_2(gpt2):
    """karpathy/nanoGPT, transformer_sizing.ipynb prints 874,944,921,600 FLOPs for 1,024 tokens."""
    assert gpt2.complexity.flops == 874_944_921_600
    assert gpt2.per_token("exact") == gpt2.per_token("megatron") == 854_438_400
    # The notebook's 135,629 tokens a second (100 sequences of 1,024 tokens in 0.755 s) on an A100 are 37.14 %.
    assert f"{float(gpt2.mfu(100 * 1024 / 0.755, 'A100')):.2%}" == "37.14%"


def rows(found, convention):
    return {one.path: (one.difference, one.reason) for one in found.differences(convention)}


def test_differences_by_module(llama):
    norm = 6 * HIDDEN, "its parameters are in no product"
    assert rows(llama, "palm") == {
        "model.embed_tokens": (6 * EMBEDDING, "an embedding is a look-up, without products"),
        "model.layers.*.input_layernorm": (LAYERS * norm[0], norm[1]),
        "model.layers.*.post_attention_layernorm": (LAYERS * norm[0], norm[1]),
        "model.norm": norm,
    }
    assert rows(llama, "hf")["model.layers.*.self_attn"] == (-ATTENTION, "the formula has no attention")
    assert [one.path for one in llama.differences("megatron")] == ["model.layers.*"]
    assert llama.differences("exact") == []


@pytest.mark.parametrize("model", ["llama", "gpt2", "mixtral"])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_differences_add_up(model, convention, request):
    found = request.getfixturevalue(model)
    total = sum(one.difference for one in found.differences(convention))
    assert total == found.per_token(convention) - found.per_token()


def test_tied_weights_and_biases(gpt2):
    found = rows(gpt2, "nanogpt")
    assert found["transformer.wte"][0] == -found["lm_head"][0] == 6 * 768 * 50_257
    assert found["lm_head"][1] == "its weight is that of transformer.wte"
    assert found["transformer.h.*.mlp.c_fc"] == (12 * 6 * 3_072, "a bias is in no product")
    assert "transformer.wpe" not in found
    assert rows(gpt2, "palm")["transformer.wpe"][0] == 6 * 768 * 1_024
    assert rows(gpt2, "megatron") == {}


@pytest.fixture(scope="module")
def mixtral():
    """Mixtral with 2 layers, 4 experts of which each token uses 1, and small sizes."""
    with shape_only():
        model = transformers.MixtralForCausalLM(
            transformers.MixtralConfig(
                hidden_size=64,
                intermediate_size=96,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                num_local_experts=4,
                num_experts_per_tok=1,
                vocab_size=100,
                use_cache=False,
            )
        )
    return training_flops(model, torch.zeros(1, 128, dtype=torch.int64))


def test_experts(mixtral):
    """Each token uses one expert of 3 * 64 * 96 parameters a layer, and the router's 64 * 4."""
    expert, attention = 3 * 64 * 96, 12 * 2 * 64 * 128
    shared = 2 * (2 * 64**2 + 2 * 64 * 32 + 64 * 4)
    assert mixtral.per_token() == 6 * (shared + 2 * expert + 6400) + attention
    norms = 5 * 64
    assert mixtral.per_token("6nd") == 6 * (shared + 2 * expert + 2 * 6400 + norms)
    assert mixtral.per_token("torchtitan") == mixtral.per_token() + 6 * norms
    # transformers counts all experts, nanoGPT too.
    assert mixtral.per_token("hf") == 6 * (shared + 8 * expert + 6400 + norms)
    assert rows(mixtral, "torchtitan").keys() == {
        "model.layers.*.input_layernorm",
        "model.layers.*.post_attention_layernorm",
        "model.norm",
    }
    assert rows(mixtral, "hf")["model.layers.*.mlp.experts"] == (
        6 * 6 * expert,
        "the formula counts experts that a token does not use",
    )


def test_texts(llama, gpt2):
    text = llama.text(signs=False)
    every = WEIGHTS + 2 * EMBEDDING + NORMS
    assert text.splitlines()[0] == (
        "LlamaForCausalLM: training FLOPs per token, for 4,096 tokens in sequences of 2,048"
    )
    assert f"6*N + 12*L*H*Q*T = 6*{every:,} + 12*3*32*128*2,048" in text
    assert str(llama).count("\n") == len(CONVENTIONS)
    why = gpt2.difference_text("palm", signs=False)
    assert "where N = active_params, L = layers, H = heads, Q = head_dim, T = sequence" in why
    assert "source: A. Chowdhery et al., PaLM" in why
    assert "transformer.h.*.mlp.c_fc (x12)" in why
    assert "equal to the count in every module" in gpt2.difference_text("megatron")


def test_more_than_the_peak(gpt2):
    """NVIDIA-NeMo/RL#1015: an MFU above 100 %. Here the tokens of eight devices, against the rate of one."""
    eight = 8 * 178_000
    text = gpt2.mfu(eight, "A100", "palm").text()
    assert "MFU 392.46% (palm) at 1.424e+06 tokens/s on A100, 312 TFLOP/s in bfloat16" in text
    assert "more than 100% is impossible: are the tokens per second those of more devices" in text
    right = gpt2.mfu(eight, "A100", "palm", devices=8)
    assert "8 x A100" in right.text()
    assert "impossible" not in right.text()


class Tokens(nn.Module):
    """A model without a configuration. Each token costs 2 * 8 * 5 FLOPs forward, and twice that backward."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(5, 8), nn.Linear(8, 5)

    def forward(self, tokens):
        return self.head(self.table(tokens))


def test_missing_sizes_are_named():
    found = training_flops(Tokens(), torch.zeros(2, 3, dtype=torch.int64))
    values, reasons = found.available()
    assert values == {"exact": 240, "6nd": 6 * 85, "hf": 6 * 45}
    assert reasons["palm"].startswith("convention 'palm' needs layers, the number of layers: the model has no config.")
    assert "  palm        needs layers, heads, head_dim, which the model does not give" in found.text()
    sizes = {"layers": 1, "heads": 1, "hidden": 8, "vocabulary": 5}
    given = training_flops(Tokens(), torch.zeros(2, 3, dtype=torch.int64), sizes=sizes)
    assert given.per_token("palm") == 6 * 85 + 12 * 8 * 3
    assert [one.path for one in given.differences("megatron")] == ["head"]


def test_tokens_have_to_be_known():
    with pytest.raises(UsageError, match="which input has the tokens"):
        training_flops(nn.Linear(4, 4), torch.empty(2, 4))
    found = training_flops(nn.Linear(4, 4), torch.empty(6, 4), tokens=6)
    assert found.per_token() == 2 * 2 * 16  # the gradient of the weight; nobody needs that of the input
    assert "sequence" not in found.sizes.values
    with pytest.raises(UsageError, match="tokens=0"):
        training_flops(nn.Linear(4, 4), torch.empty(6, 4), tokens=0)


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 8)
        self.layers = nn.Sequential(nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False))

    def forward(self, tokens):
        return torch.utils.checkpoint.checkpoint(self.layers, self.table(tokens), use_reentrant=False)


class Translator(Tokens):
    def forward(self, input_ids, decoder_input_ids):
        return super().forward(input_ids).mean(1, keepdim=True) + super().forward(decoder_input_ids)


def test_an_encoder_with_a_decoder():
    """The tokens of both could be meant, so the caller has to give their number."""
    ids = {"input_ids": torch.zeros(1, 4, dtype=torch.int64), "decoder_input_ids": torch.zeros(1, 2, dtype=torch.int64)}
    with pytest.raises(UsageError, match="which tokens count"):
        training_flops(Translator(), kwargs=ids)
    assert training_flops(Translator(), kwargs=ids, tokens=6).per_token() == 240


def test_a_parameter_that_a_module_shares_with_its_part():
    """BERT's head holds the bias of its output layer too. Differences of modules add up nevertheless."""
    with shape_only():
        config = transformers.BertConfig(
            hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=50
        )
        model = transformers.BertForMaskedLM(config)
    found = training_flops(model, torch.zeros(1, 8, dtype=torch.int64))
    assert rows(found, "torchtitan")["cls.predictions"] == (300, "its parameters are in no product")
    assert "" not in rows(found, "torchtitan")


def test_recomputation():
    """Each layer costs 2 * 64 FLOPs, three times. Only the first is repeated: nothing needs the second's output."""
    found = training_flops(Checkpointed(), torch.zeros(1, 4, dtype=torch.int64))
    assert (found.per_token(), found.per_token(recompute=True)) == (6 * 128, 7 * 128)
    assert found.mfu(1000, "A100", recompute=True).text().startswith("HFU")
