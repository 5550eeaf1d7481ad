"""FLOPs by definition: 2 for each multiply-accumulate, without biases and element-wise operations."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Stages of ResNet-50: blocks, width of the bottleneck, height and width of its output (He et al., 2015, table 1).
RESNET_50 = ((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7))
#: A bottleneck block's output is this many times wider than its bottleneck.
EXPANSION = 4


def product(*sizes: int) -> int:
    """Return 2 * the product of ``sizes``. For a matrix product, the sizes are batch, m, k and n."""
    return 2 * prod(sizes)


def convolution(positions: int, inputs: int, outputs: int, kernel: int, groups: int = 1) -> int:
    """Return the FLOPs of a convolution.

    ``positions`` is the number of positions in the output, or in the input if the convolution is transposed.
    """
    return product(positions, outputs, inputs // groups, kernel)


def attention(queries: int, keys: int, width: int) -> int:
    """Return the FLOPs of attention's scores and weighted sums. ``width`` is the width of all heads together."""
    return product(queries, keys, width) * 2


def self_attention(length: int, width: int) -> int:
    """Return the FLOPs of self-attention, with the projections to query, key, value and output."""
    return 4 * product(length, width, width) + attention(length, length, width)


def encoder_layer(length: int, width: int, hidden: int) -> int:
    """Return the FLOPs of a transformer layer: self-attention and two linear layers."""
    return self_attention(length, width) + 2 * product(length, width, hidden)


def lstm(steps: int, inputs: int, hidden: int, directions: int = 1) -> int:
    """Return the FLOPs of one LSTM layer, whose four gates read the input and the hidden state."""
    return product(steps, directions, 4, hidden, inputs + hidden)


def resnet_50() -> int:
    return bottleneck_resnet(RESNET_50)


def bottleneck_resnet(stages: Sequence[tuple[int, int, int]]) -> int:
    """Return the FLOPs of a ResNet with bottleneck blocks for an image of 224 x 224.

    ``stages`` has (number of blocks, width, side of the output) for each stage.
    """
    total = convolution(112 * 112, 3, 64, 7 * 7) + product(512 * EXPANSION, 1000)
    inputs, before = 64, 56
    for blocks, width, size in stages:
        outputs = width * EXPANSION
        total += convolution(size * size, inputs, outputs, 1)  # the shortcut's projection
        for block in range(blocks):
            total += convolution((size if block else before) ** 2, inputs, width, 1)
            total += convolution(size * size, width, width, 3 * 3)
            total += convolution(size * size, width, outputs, 1)
            inputs = outputs
        before = size
    return total


def vit_b_16() -> int:
    return vit_16(layers=12, width=768)


def vit_16(*, layers: int, width: int) -> int:
    """Return the FLOPs of a ViT for 196 patches and the class token (Dosovitskiy et al., 2020, table 1)."""
    patches = 14 * 14
    embedding = convolution(patches, 3, width, 16 * 16)
    return embedding + layers * encoder_layer(patches + 1, width, 4 * width) + product(width, 1000)


def bert_base(length: int) -> int:
    """Return the FLOPs of BERT-base: twelve layers of width 768, and the pooler (Devlin et al., 2018)."""
    return 12 * encoder_layer(length, 768, 4 * 768) + product(768, 768)


def gpt_2(length: int) -> int:
    """Return the FLOPs of GPT-2. Each word has scores for all words, although a causal mask hides some of them."""
    return 12 * encoder_layer(length, 768, 4 * 768) + product(length, 768, 50_257)


def mixture_of_experts(  # noqa: PLR0913 -- the sizes that a mixture of experts has
    *, length: int, layers: int, width: int, key_width: int, hidden: int, experts: int, chosen: int, vocabulary: int
) -> int:
    """Return the FLOPs of Mixtral. Each token passes through ``chosen`` experts (Jiang et al., 2024)."""
    projections = 2 * product(length, width, width) + 2 * product(length, width, key_width)
    routed = product(length, width, experts) + 3 * product(length, chosen, width, hidden)
    layer = projections + attention(length, length, width) + routed
    return layers * layer + product(length, width, vocabulary)
