"""Build large models from transformers' configurations, without a download."""

from __future__ import annotations

from typing import Any, Final, TypedDict

import torch
from torch import nn

#: A model and its positional arguments.
Built = tuple[nn.Module, tuple[torch.Tensor, ...]]


class First(nn.Module):
    """A module that returns only the first output of a model, because some counters need plain tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> Any:
        return self.model(inputs)[0]


class Mixture(TypedDict):
    """The sizes of a mixture of experts."""

    layers: int
    width: int
    key_width: int
    hidden: int
    experts: int
    chosen: int
    vocabulary: int


MIXTURE: Final[Mixture] = {
    "layers": 4,
    "width": 512,
    "key_width": 128,
    "hidden": 1024,
    "experts": 8,
    "chosen": 2,
    "vocabulary": 1000,
}


def _image() -> tuple[torch.Tensor]:
    return (torch.randn(1, 3, 224, 224),)


def _tokens(length: int) -> tuple[torch.Tensor]:
    return (torch.arange(length)[None],)


def _classes(config: Any) -> Any:
    config.num_labels = 1000
    return config


def resnet_50() -> Built:
    from transformers import ResNetConfig, ResNetForImageClassification

    # The configuration's defaults are ResNet-50's.
    return First(ResNetForImageClassification(_classes(ResNetConfig()))), _image()


def vit_b_16() -> Built:
    from transformers import ViTConfig, ViTForImageClassification

    return First(ViTForImageClassification(_classes(ViTConfig()))), _image()


def bert_base(length: int) -> Built:
    from transformers import BertConfig, BertModel

    return First(BertModel(BertConfig())), _tokens(length)


def gpt_2(length: int) -> Built:
    from transformers import GPT2Config, GPT2LMHeadModel

    return First(GPT2LMHeadModel(GPT2Config())), _tokens(length)


def lstm(length: int) -> Built:
    return nn.LSTM(512, 512, num_layers=2, bidirectional=True, batch_first=True), (torch.randn(1, length, 512),)


def mixture_of_experts(length: int) -> Built:
    from transformers import MixtralConfig, MixtralForCausalLM

    heads = 8
    config = MixtralConfig(
        hidden_size=MIXTURE["width"],
        intermediate_size=MIXTURE["hidden"],
        num_hidden_layers=MIXTURE["layers"],
        num_attention_heads=heads,
        num_key_value_heads=MIXTURE["key_width"] * heads // MIXTURE["width"],
        num_local_experts=MIXTURE["experts"],
        num_experts_per_tok=MIXTURE["chosen"],
        vocab_size=MIXTURE["vocabulary"],
    )
    return First(MixtralForCausalLM(config)), _tokens(length)
