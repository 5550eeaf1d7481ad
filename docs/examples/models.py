"""Models that are built from the configurations of transformers, without a download.

New models are in training mode. The budgets are for inference, so each model is put in evaluation mode.
"""

import transformers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)


def resnet50():
    # The configuration's defaults are ResNet-50's: depths 3, 4, 6, 3 of bottleneck blocks.
    return ResNetForImageClassification(ResNetConfig(num_labels=1000)).eval()


def vit_b_16():
    return ViTForImageClassification(ViTConfig(num_labels=1000)).eval()


def bert_base():
    return BertModel(BertConfig()).eval()


def gpt2():
    return GPT2LMHeadModel(GPT2Config()).eval()


def llama_3_1(*, hidden, intermediate, layers, heads):
    # "The Llama 3 Herd of Models", 2024, table 3; vocabulary 128K, 8 heads for keys and values, untied output layer.
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=8,
            vocab_size=128_256,
            max_position_embeddings=131_072,
        )
    ).eval()


def llama_3_1_8b():
    return llama_3_1(hidden=4096, intermediate=14_336, layers=32, heads=32)


def llama_3_1_405b():
    return llama_3_1(hidden=16_384, intermediate=53_248, layers=126, heads=128)


transformers.logging.set_verbosity_error()
