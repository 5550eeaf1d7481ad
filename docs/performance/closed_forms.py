"""FLOPs, by definition, of the models that only the benchmark builds."""

from __future__ import annotations

from peers.closed_forms import attention, convolution, encoder_layer, product

#: Sides of the feature maps of an image of 224 x 224 after 4-, 8-, 16- and 32-fold reduction.
SIDES = (56, 28, 14, 7)
#: MobileNetV2: expansion, channels, blocks, stride of the first (Sandler et al., 2018, table 2).
MOBILENET_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
SWIN_WINDOW = 7 * 7


def mobilenet_v2(multiplier: float) -> int:
    """Return the FLOPs of MobileNetV2 for 224 x 224. ``multiplier`` scales the channels of its layers."""
    inputs, side = _divisible(32 * multiplier), 112
    total = convolution(side * side, 3, inputs, 3 * 3)
    for expansion, channels, blocks, stride in MOBILENET_V2:
        outputs = _divisible(channels * multiplier)
        for block in range(blocks):
            hidden = inputs * expansion
            if expansion > 1:
                total += convolution(side * side, inputs, hidden, 1)
            side //= 1 if block else stride
            total += convolution(side * side, hidden, hidden, 3 * 3, groups=hidden)
            total += convolution(side * side, hidden, outputs, 1)
            inputs = outputs
    return total + convolution(side * side, inputs, 1280, 1) + product(1280, 1000)


def _divisible(channels: float, by: int = 8) -> int:
    """Return the multiple of ``by`` nearest to ``channels``, or the next multiple if the nearest is below 90%."""
    nearest = max(by, int(channels + by / 2) // by * by)
    return nearest if nearest >= 0.9 * channels else nearest + by


def resnet_18() -> int:
    """Return the FLOPs of ResNet-18 for an image of 224 x 224 (He et al., 2015, table 1)."""
    total, inputs = convolution(112 * 112, 3, 64, 7 * 7) + product(512, 1000), 64
    for side, outputs in zip(SIDES, (64, 128, 256, 512), strict=True):
        positions = side * side
        total += convolution(positions, inputs, outputs, 3 * 3) + 3 * convolution(positions, outputs, outputs, 3 * 3)
        if inputs != outputs:
            total += convolution(positions, inputs, outputs, 1)
        inputs = outputs
    return total


def convnext(depths: tuple[int, ...], widths: tuple[int, ...]) -> int:
    """Return the FLOPs of ConvNeXt for an image of 224 x 224 (Liu et al., 2022, table 9)."""
    total, inputs, patch = product(widths[-1], 1000), 3, 4 * 4
    for side, depth, width in zip(SIDES, depths, widths, strict=True):
        positions = side * side
        block = convolution(positions, width, width, 7 * 7, groups=width) + 2 * product(positions, width, 4 * width)
        total += convolution(positions, inputs, width, patch) + depth * block
        inputs, patch = width, 2 * 2
    return total


def swin(depths: tuple[int, ...], width: int) -> int:
    """Return the FLOPs of Swin for an image of 224 x 224 (Liu et al., 2021, section 3.1)."""
    total = convolution(SIDES[0] ** 2, 3, width, 4 * 4)
    for stage, (side, depth) in enumerate(zip(SIDES, depths, strict=True)):
        windows = side * side // SWIN_WINDOW
        if stage:
            total += product(side * side, 4 * width, 2 * width)
            width *= 2
        total += depth * windows * encoder_layer(SWIN_WINDOW, width, 4 * width)
    return total + product(width, 1000)


def ddpm_unet(widths: tuple[int, ...], attention_at: int, side: int = 32) -> int:
    """Return the FLOPs of the U-Net of "Denoising Diffusion Probabilistic Models" (Ho et al., 2020, appendix B).

    Each level has two residual blocks on the way down and three on the way up. The level with the index
    ``attention_at`` and the middle have attention.
    """
    embedding = 4 * widths[0]
    total = (
        convolution(side * side, 3, widths[0], 3 * 3) + product(widths[0], embedding) + product(embedding, embedding)
    )
    inputs, skipped = widths[0], [widths[0]]
    for level, outputs in enumerate(widths):
        for _ in range(2):
            total += _residual(side, inputs, outputs, embedding)
            total += _attention(side, outputs) if level == attention_at else 0
            inputs = outputs
            skipped.append(outputs)
        if level < len(widths) - 1:
            side //= 2
            total += convolution(side * side, outputs, outputs, 3 * 3)
            skipped.append(outputs)
    total += 2 * _residual(side, inputs, inputs, embedding) + _attention(side, inputs)
    for level, outputs in reversed(list(enumerate(widths))):
        for _ in range(3):
            total += _residual(side, inputs + skipped.pop(), outputs, embedding)
            total += _attention(side, outputs) if level == attention_at else 0
            inputs = outputs
        if level:
            side *= 2
            total += convolution(side * side, outputs, outputs, 3 * 3)
    return total + convolution(side * side, inputs, 3, 3 * 3)


def _residual(side: int, inputs: int, outputs: int, embedding: int) -> int:
    positions = side * side
    total = convolution(positions, inputs, outputs, 3 * 3) + convolution(positions, outputs, outputs, 3 * 3)
    shortcut = convolution(positions, inputs, outputs, 1) if inputs != outputs else 0
    return total + product(embedding, outputs) + shortcut


def _attention(side: int, width: int) -> int:
    positions = side * side
    return 4 * product(positions, width, width) + attention(positions, positions, width)


def llama(*, length: int, layers: int, width: int, hidden: int) -> int:
    """Return the FLOPs of Llama 3.1, with 8 key-value heads of 128 ("The Llama 3 Herd of Models", 2024, table 3)."""
    projections = 2 * product(length, width, width) + 2 * product(length, width, 8 * 128)
    layer = projections + attention(length, length, width) + 3 * product(length, width, hidden)
    return layers * layer + product(length, width, 128_256)
