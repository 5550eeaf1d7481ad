"""Budgets on unchanged models."""

import models
import pytest
import torch

IMAGE = torch.empty(1, 3, 224, 224)
TOKENS = torch.zeros(1, 128, dtype=torch.long)


@pytest.mark.flops_budget(
    flops="8.2 GFLOPs",
    params="25.6M",
    time={"A100": "440 us"},
    modules={"resnet.encoder.stages.3": {"flops": "1.7 GFLOPs"}},
)
def test_on_cpu_resnet50(flops_budget):
    flops_budget(models.resnet50(), IMAGE)


@pytest.mark.flops_budget(flops="17.6 GMACs")
def test_on_cpu_vit_b_16(flops_budget):
    flops_budget(models.vit_b_16(), IMAGE)


@pytest.mark.parametrize("build", [models.bert_base, models.gpt2], ids=lambda build: build.__name__)
def test_on_cpu_text(flops_budget, build):
    flops_budget(build(), TOKENS)


@pytest.mark.parametrize("build", [models.llama_3_1_8b, models.llama_3_1_405b], ids=lambda build: build.__name__)
def test_on_meta(flops_budget, build):
    # 405 billion parameters, none of them in memory.
    with torch.device("meta"):
        model = build()
        tokens = torch.zeros(1, 2048, dtype=torch.long)
    flops_budget(model, tokens)
