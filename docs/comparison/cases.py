"""The cases of the comparison: models, each with its FLOPs by definition."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from comparison import models
from peers import closed_forms as by_definition
from peers import whole_models
from peers.case import ELEMENT_WISE, Case

if TYPE_CHECKING:
    from collections.abc import Callable

#: Tokens of a sequence, and the width of each token: large enough to keep element-wise work below one percent.
LENGTH, WIDTH = 64, 128
TOKENS = 128


def _sequence() -> tuple[torch.Tensor, ...]:
    return (torch.randn(1, LENGTH, WIDTH),)


def _rows() -> tuple[torch.Tensor, ...]:
    return (torch.randn(LENGTH, WIDTH),)


def _image(channels: int) -> tuple[torch.Tensor, ...]:
    return (torch.randn(1, channels, 16, 16),)


def _heads(query: int, key: int) -> tuple[torch.Tensor, ...]:
    return torch.randn(1, query, LENGTH, 32), torch.randn(1, key, LENGTH, 32), torch.randn(1, key, LENGTH, 32)


def _product(name: str, *operands: torch.Tensor) -> Callable[[], whole_models.Built]:
    return lambda: (models.Product(name), operands)


_LINEAR = by_definition.product(LENGTH, WIDTH, WIDTH)
_ATTENTION = by_definition.attention(LENGTH, LENGTH, 4 * 32)
_GROUPED = by_definition.convolution(16 * 16, 32, 64, 9, groups=8)
_TRANSPOSED = by_definition.convolution(16 * 16, 32, 16, 9)

KNOWN_MISCOUNTS = (
    Case(
        "attention on the CPU",
        lambda: (models.Calls(models.attention), _heads(4, 4)),
        _ATTENTION,
        "pytorch/pytorch#195460",
    ),
    Case(
        "attention, operands by keyword",
        lambda: (models.Calls(models.attention_by_keywords), _heads(4, 4)),
        _ATTENTION,
        "thu-ml/RoboticsDiffusionTransformer#120",
    ),
    Case(
        "grouped-query attention, 8 heads on 2",
        lambda: (models.Calls(models.grouped_query_attention), _heads(8, 2)),
        by_definition.attention(LENGTH, LENGTH, 8 * 32),
    ),
    Case(
        "`nn.MultiheadAttention`, eval, `no_grad`",
        lambda: (models.SelfAttention(WIDTH), _sequence()),
        by_definition.self_attention(LENGTH, WIDTH),
        "sovrasov/flops-counter.pytorch#101",
        surroundings=torch.no_grad,
        excess=ELEMENT_WISE,
    ),
    Case(
        "`nn.TransformerEncoder`, eval, `no_grad`",
        lambda: (models.encoder(WIDTH, 4 * WIDTH), _sequence()),
        2 * by_definition.encoder_layer(LENGTH, WIDTH, 4 * WIDTH),
        "facebookresearch/fvcore#153",
        surroundings=torch.no_grad,
        excess=ELEMENT_WISE,
    ),
    Case(
        "linear layers under `inference_mode`",
        lambda: (models.two_linear(WIDTH), _rows()),
        2 * _LINEAR,
        "pytorch/pytorch#126268",
        surroundings=torch.inference_mode,
    ),
    Case(
        "broadcast `matmul` under `inference_mode`",
        _product("matmul", torch.ones(3, 4), torch.ones(8, 4, 5)),
        by_definition.product(8, 3, 4, 5),
        "pytorch/pytorch#126268",
        surroundings=torch.inference_mode,
    ),
    Case(
        "a module that gets an expanded parameter, `no_grad`",
        lambda: (models.ClassToken(WIDTH), _sequence()),
        by_definition.product(WIDTH, WIDTH),
        surroundings=torch.no_grad,
    ),
    Case(
        "LSTM on the CPU",
        lambda: (models.lstm(WIDTH, 256), _sequence()),
        by_definition.lstm(LENGTH, WIDTH, 256),
        "meta-pytorch/tnt#624",
        excess=ELEMENT_WISE,
    ),
    Case(
        "grouped convolution, forward and backward",
        lambda: (models.grouped(32, 64, groups=8), _with_gradient(_image(32))),
        3 * _GROUPED,
        "pytorch/pytorch#183405",
        backward=True,
    ),
    Case(
        "transposed convolution",
        lambda: (models.transposed(32, 16), _image(32)),
        _TRANSPOSED,
        "sovrasov/flops-counter.pytorch#149",
    ),
    Case(
        "transposed convolution, forward and backward",
        lambda: (models.transposed(32, 16), _with_gradient(_image(32))),
        3 * _TRANSPOSED,
        "pytorch/pytorch#119806",
        backward=True,
    ),
    Case("`torch.mv`", _product("mv", torch.ones(30, 40), torch.ones(40)), by_definition.product(30, 40)),
    Case("`torch.dot`", _product("dot", torch.ones(40), torch.ones(40)), by_definition.product(40)),
    Case(
        "`torch.addbmm`",
        _product("addbmm", torch.ones(3, 5), torch.ones(2, 3, 4), torch.ones(2, 4, 5)),
        by_definition.product(2, 3, 4, 5),
    ),
    Case(
        "`nn.Bilinear`",
        lambda: (models.bilinear(16, 24, 32), (torch.randn(8, 16), torch.randn(8, 24))),
        by_definition.product(8, 32, 16, 24),
    ),
    Case(
        "grouped product (`_grouped_mm`)",
        lambda: (models.Calls(models.grouped_product), models.grouped_operands(tokens=64, experts=4, width=32)),
        by_definition.product(64, 32, 32),
    ),
    Case(
        "integer product (`_int_mm`)",
        _product("_int_mm", torch.ones(32, 8, dtype=torch.int8), torch.ones(8, 16, dtype=torch.int8)),
        by_definition.product(32, 8, 16),
    ),
    Case(
        "complex product",
        _product("matmul", torch.ones(30, 40, dtype=torch.complex64), torch.ones(40, 50, dtype=torch.complex64)),
        4 * by_definition.product(30, 40, 50),  # four multiplications and four additions each
    ),
    Case(
        "broadcast `matmul`, (3, 4) by (8, 4, 5)",
        _product("matmul", torch.ones(3, 4), torch.ones(8, 4, 5)),
        by_definition.product(8, 3, 4, 5),
    ),
    Case(
        "a linear layer on 3-D input",
        lambda: (models.linear(WIDTH), _sequence()),
        _LINEAR,
        "TylerYep/torchinfo#77",
    ),
    Case(
        "a module used twice",
        lambda: (models.used_twice(WIDTH), _rows()),
        2 * _LINEAR,
        "Lyken17/pytorch-OpCounter#98",
    ),
    Case(
        "a checkpointed submodule, forward and backward",
        lambda: (models.Checkpointed(WIDTH), _rows()),
        4 * 2 * _LINEAR,  # two layers: forward, forward once more, and two gradients each
        "pytorch/pytorch#134242",
        backward=True,
        module="region",
    ),
    Case(
        "a compiled module",
        lambda: (models.compiled(WIDTH), _rows()),
        2 * _LINEAR,
        "facebookresearch/fvcore#137",
    ),
    Case("a scripted module", lambda: (models.scripted(WIDTH), _rows()), 2 * _LINEAR),
    Case(
        "`torch.autograd.grad` inside the model",
        lambda: (models.GradientInside(WIDTH), _rows()),
        2 * _LINEAR,
        "pytorch/pytorch#131753",
    ),
    Case(
        "flex attention",
        lambda: (models.Calls(models.flexible_attention), _heads(4, 4)),
        _ATTENTION,
        "pytorch/pytorch#134385",
    ),
)

WHOLE_MODELS = (
    Case("ResNet-50, 224×224", whole_models.resnet_50, by_definition.resnet_50(), excess=ELEMENT_WISE),
    Case("ViT-B/16, 224×224", whole_models.vit_b_16, by_definition.vit_b_16(), excess=ELEMENT_WISE),
    Case(
        f"BERT-base, {TOKENS} tokens",
        lambda: whole_models.bert_base(TOKENS),
        by_definition.bert_base(TOKENS),
        excess=ELEMENT_WISE,
    ),
    Case(
        f"GPT-2, {TOKENS} tokens", lambda: whole_models.gpt_2(TOKENS), by_definition.gpt_2(TOKENS), excess=ELEMENT_WISE
    ),
    Case(
        f"LSTM, two layers, two directions, {TOKENS} tokens",
        lambda: whole_models.lstm(TOKENS),
        by_definition.lstm(TOKENS, 512, 512, 2) + by_definition.lstm(TOKENS, 1024, 512, 2),
        excess=ELEMENT_WISE,
    ),
    Case(
        f"mixture of experts (Mixtral, made small), {TOKENS} tokens",
        lambda: whole_models.mixture_of_experts(TOKENS),
        by_definition.mixture_of_experts(length=TOKENS, **whole_models.MIXTURE),
        excess=ELEMENT_WISE,
    ),
)

CASES = {case.name: case for case in KNOWN_MISCOUNTS + WHOLE_MODELS}


def _with_gradient(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(value.requires_grad_() for value in inputs)
