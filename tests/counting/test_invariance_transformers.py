"""In whichever way tiny models of common architectures run, their FLOPs are the same."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import transformers
from features import need
from ways_to_run import (
    Case,
    cases,
    check_backward,
    check_exported,
    check_modes,
    check_weights_without_data,
    either_mode,
)

from pytest_flopsbudget.counting.measure import measure

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # raised by packages that transformers loads
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

#: 2 sequences of 6 tokens.
BATCH, LENGTH = 2, 6
TOKENS = BATCH * LENGTH
IDS = {"input_ids": torch.zeros(BATCH, LENGTH, dtype=torch.long)}
MASK = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
WIDTH, INNER, VOCABULARY = 8, 16, 50
SIZES = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_hidden_layers": 2}
ENCODER = {
    "num_attention_heads": 2,
    "intermediate_size": INNER,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
HEAD = TOKENS * WIDTH * VOCABULARY


def attention(batch, length):
    return 2 * batch * length * length * WIDTH


def convnext():
    config = transformers.ConvNextConfig(hidden_sizes=[4, 8], depths=[1, 1], num_stages=2, num_labels=5)
    return transformers.ConvNextForImageClassification(config)


def vit():
    config = transformers.ViTConfig(
        hidden_size=WIDTH, num_hidden_layers=2, image_size=16, patch_size=4, num_labels=5, **ENCODER
    )
    return transformers.ViTForImageClassification(config)


def bert():
    return transformers.BertModel(transformers.BertConfig(**SIZES, **ENCODER))


def gpt_2():
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=WIDTH,
        n_layer=2,
        n_head=2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=0,
        eos_token_id=0,
    )
    return transformers.GPT2LMHeadModel(config)


def mixtral(experts="grouped_mm"):
    config = transformers.MixtralConfig(
        **SIZES,
        intermediate_size=INNER,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        num_experts_per_tok=2,
    )
    config._experts_implementation = experts
    return transformers.MixtralForCausalLM(config)


def mamba():
    config = transformers.MambaConfig(**SIZES, state_size=4, expand=2, conv_kernel=4, time_step_rank=3)
    return transformers.MambaForCausalLM(config)


#: MACs of a layer: attention with half as many key heads, a router for 4 experts, two experts per token.
MIXTRAL = TOKENS * (2 * WIDTH * WIDTH + 2 * WIDTH * WIDTH // 2 + WIDTH * 4 + 2 * 3 * WIDTH * INNER) + attention(
    BATCH, LENGTH
)
#: MACs of a layer: projections, a convolution with padding on both sides, step sizes and states, a scan over 4 states.
MAMBA = TOKENS * (WIDTH * 2 * 16 + 16 * (3 + 2 * 4) + 3 * 16 + 16 * 4 + 16 * WIDTH) + BATCH * (LENGTH + 3) * 16 * 4

CASES = {
    "convnext": Case(
        convnext,
        # Patches of 4; a stage on 8 by 8 and one on 4 by 4 positions, each with a depthwise 7 by 7 and layers 4 times
        # wider.
        64 * 4 * 3 * 16 + 64 * (4 * 49 + 2 * 4 * 16) + 16 * 8 * 4 * 4 + 16 * (8 * 49 + 2 * 8 * 32) + 8 * 5,
        (torch.randn(1, 3, 32, 32),),
    ),
    "vit": Case(
        vit,
        # 16 patches and one class token.
        16 * WIDTH * 3 * 16 + 2 * (17 * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER) + attention(1, 17)) + WIDTH * 5,
        (torch.randn(1, 3, 16, 16),),
    ),
    "bert": Case(
        bert,
        2 * (TOKENS * (4 * WIDTH * WIDTH + 2 * WIDTH * INNER) + attention(BATCH, LENGTH)) + BATCH * WIDTH * WIDTH,
        kwargs={**IDS, "attention_mask": MASK},
        needs_data="whether a mask masks anything is read from it",
    ),
    "gpt 2": Case(
        gpt_2,
        2 * (TOKENS * (4 * WIDTH * WIDTH + 2 * WIDTH * 4 * WIDTH) + attention(BATCH, LENGTH)) + HEAD,
        kwargs={**IDS, "use_cache": False},
    ),
    "mixtral": Case(
        mixtral,
        2 * MIXTRAL + HEAD,
        kwargs={**IDS, "use_cache": False},
        besides="model.rotary_emb",
        no_export="what is exported calls an operator of transformers' own; see below",
    ),
    "mamba": Case(mamba, 2 * MAMBA + HEAD, kwargs={**IDS, "use_cache": False}),
}


CASES = {
    name: dataclasses.replace(case, export_needs="exporting code that looks at its own variables")
    for name, case in CASES.items()
}


@either_mode
@cases(CASES)
def test_modes(case, train):
    check_modes(case, train)


@either_mode
@cases(CASES)
def test_weights_without_data(case, train):
    check_weights_without_data(case, train, inputs_without_data=not case.needs_data)


@cases(CASES, "no_export")
def test_exported(case):
    check_exported(case)


@cases(CASES)
def test_backward(case):
    check_backward(case)


def test_experts_in_a_loop():
    model = mixtral("eager")
    for mode in (torch.enable_grad, torch.inference_mode):
        with mode():
            CASES["mixtral"].check(measure(model, (), CASES["mixtral"].kwargs))


@pytest.mark.parametrize("backward", [False, True])
def test_grouped_products_as_exported(backward):
    """An exported model with experts costs as much as the original model."""
    need("exporting code that looks at its own variables")
    model = mixtral().train(backward)
    exported = torch.export.export(model, (), CASES["mixtral"].kwargs).module()
    counted = measure(exported, (), CASES["mixtral"].kwargs, backward=backward)
    assert not counted.unknown_operators
    assert "transformers.grouped_mm_fallback" in counted.operators
    plain = measure(model, (), CASES["mixtral"].kwargs, backward=backward)
    assert counted.flops == plain.flops
    if not backward:
        assert counted.macs == CASES["mixtral"].macs
