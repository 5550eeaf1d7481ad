"""Laws of real architectures, small, with the FLOPs that follow by hand from their configurations."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pytest_flopsbudget import law, shape_only

transformers = pytest.importorskip("transformers")


def built(name, **settings):
    """Build a model of transformers without data. ``name`` is that of its class without "Model"."""
    with shape_only():
        config = getattr(transformers, f"{name}Config")(**settings)
        return getattr(transformers, f"{name}Model")(config).eval()


def words(sequence, batch=1):
    return torch.zeros(batch, sequence, dtype=torch.long)


def image(n):
    return torch.empty(1, 3, n, n, device="meta")


def up(number, divisor):
    return -(-number // divisor)


def test_llama():
    d, layers, heads, groups, inner = 32, 2, 4, 2, 48
    model = built(
        "Llama",
        hidden_size=d,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        intermediate_size=inner,
        vocab_size=16,
    )
    found = law(model, words, most_counts=40, batch=range(2, 33), sequence=range(16, 4097))["flops"]
    # Queries and outputs have d·d weights, keys and values d·d·groups/heads, and the gated MLP has three matrices.
    lines = 2 * layers * (2 * d * d + 2 * d * d * groups // heads + 3 * d * inner)
    assert str(found) == f"{4 * layers * d}·B·S² + {lines:,}·B·S"


def test_vision_transformer_of_each_resolution():
    d, layers, inner, patch = 16, 2, 32, 16

    def make(n):
        settings = {"hidden_size": d, "num_hidden_layers": layers, "num_attention_heads": 2, "intermediate_size": inner}
        return built("ViT", **settings, image_size=n, patch_size=patch), image(n)

    found = law(None, make, most_counts=40, n=range(32, 1025, patch))["flops"]
    assert found.order("n") == "n^4"
    for n in range(32, 1025, patch):
        patches = (n // patch) ** 2
        tokens = patches + 1  # and the class token
        layer = 2 * tokens * (4 * d * d + 2 * d * inner) + 2 * 2 * d * tokens**2
        # The pooler has a layer for the class token.
        assert found.at(n=n) == 2 * patches * 3 * patch**2 * d + layers * layer + 2 * d * d


def test_swin_pads_to_windows():
    d, depths, window, patch = 8, (1, 1), 4, 4
    settings = {"embed_dim": d, "depths": depths, "num_heads": (1, 2), "window_size": window, "patch_size": patch}
    model = built("Swin", **settings, image_size=64, mlp_ratio=4.0)

    def expected(n):
        side, width = up(n, patch), d
        total = 2 * side**2 * 3 * patch**2 * d
        for stage, depth in enumerate(depths):
            padded, tokens = (up(side, window) * window) ** 2, side**2
            attention = 2 * padded * 4 * width**2 + 2 * 2 * padded * window**2 * width
            total += depth * (attention + 2 * tokens * 2 * width * 4 * width)
            if stage + 1 < len(depths):
                side = up(side, 2)
                total += 2 * side**2 * 4 * width * 2 * width
                width *= 2
        return total

    # No stage pads multiples of 32: 4·4 pixels in each window, and a second stage of half the resolution.
    assert expected(64) == 304 * 64**2
    whole = law(model, image, most_counts=20, n=range(64, 1025, 32))["flops"]
    assert str(whole) == "304·n²"
    found = law(model, image, most_counts=40, n=range(64, 1025, 16))["flops"]
    assert found.order("n") == "n^2"
    assert all(found.at(n=n) == expected(n) for n in range(64, 1025, 16))


def test_mamba():
    d, state, kernel, rank = 8, 4, 4, 2
    inner = 2 * d
    settings = {"hidden_size": d, "num_hidden_layers": 2, "state_size": state, "conv_kernel": kernel}
    model = built("Mamba", **settings, time_step_rank=rank, vocab_size=16, use_cache=False)
    found = law(model, words, most_counts=20, sequence=range(8, 65))["flops"]
    # The depthwise convolution is padded at both ends; its last outputs are cut off.
    convolution = f"(S + {kernel - 1})·{2 * inner * kernel}"
    assert convolution == "(S + 3)·128"
    line = 2 * (d * 2 * inner + inner * kernel + inner * (rank + 2 * state) + rank * inner + inner * state + inner * d)
    assert str(found) == f"{2 * line:,}·S + {2 * 2 * inner * kernel * (kernel - 1)}"


class SpectralLayer(nn.Module):
    """A layer of a Fourier neural operator: the lowest modes are mixed, and a linear layer is added."""

    def __init__(self, width=4, modes=6):
        super().__init__()
        self.modes = modes
        self.weights = nn.Parameter(torch.zeros(width, width, modes, dtype=torch.complex64))
        self.linear = nn.Conv1d(width, width, 1)

    def forward(self, x):
        spectrum = torch.fft.rfft(x)
        mixed = torch.zeros_like(spectrum)
        mixed[:, :, : self.modes] = torch.einsum("bim,iom->bom", spectrum[:, :, : self.modes], self.weights)
        return torch.fft.irfft(mixed, n=x.shape[2]) + self.linear(x)


def test_fourier_neural_operator():
    width, modes = 4, 6
    found = law(SpectralLayer(), lambda n: torch.empty(1, width, n), n=range(16, 8193))
    # The product of the modes does not grow with the resolution. A complex product has 8 FLOPs.
    assert str(found["flops"]) == f"{2 * width * width}·n + {8 * width * width * modes}"
    assert found["other_flops"].order("n") == "n log n"


def test_resnet_50():
    with shape_only():
        model = transformers.ResNetForImageClassification(transformers.ResNetConfig(num_labels=1000)).eval()
    found = law(model, image, most_counts=20, n=range(64, 513, 32))["flops"]

    def pixels(stride):
        return 1 / stride**2  # of n²; exact, as these are powers of two

    squares, channels = 2 * 3 * 64 * 49 * pixels(2), 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        width, out, stride = 64 * 2**stage, 256 * 2**stage, 4 * 2**stage
        for block in range(depth):
            # The first block of the later stages halves the resolution in its middle convolution.
            before = stride // 2 if stage and not block else stride
            squares += 2 * channels * width * pixels(before)
            squares += 2 * (9 * width * width + width * out) * pixels(stride)
            squares += 0 if block else 2 * channels * out * pixels(stride)
            channels = out
    assert squares == 162_912
    assert str(found) == f"{int(squares):,}·n² + {2 * 2048 * 1000:,}"
    assert found.at(n=224) == 8_178_368_512  # 4.09 GMACs, as torchvision publishes
