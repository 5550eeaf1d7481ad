"""The blocks that docs/beyond-flops.md compares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from pytest_flopsbudget import measure
from pytest_flopsbudget.hardware.catalog import DEVICES

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flopsbudget import Complexity

BATCH = 32
#: A device with much compute, and a device with little.
SERVER, BOARD = DEVICES["A100"], DEVICES["raspberry-pi-5"]


@dataclass(frozen=True)
class Place:
    """The sizes of the tensors of a block, at its place in a network."""

    channels: int
    #: Rows and columns of the image.
    side: int
    #: How many times wider the middle of an inverted residual block is.
    expansion: int = 1


#: The early layer where the dense block is faster, and wider layers in which the dense block has as many FLOPs.
EARLY = Place(64, 112)
WIDTHS = (EARLY, Place(128, 56), Place(256, 28), Place(512, 14))

#: Stages 2 to 6 of EfficientNetV2-S for images of 224 by 224: M. Tan, Q. V. Le, "EfficientNetV2", 2021, table 4.
STAGES = {2: Place(48, 56, 4), 3: Place(64, 28, 4), 4: Place(128, 14, 4), 5: Place(160, 14, 6), 6: Place(256, 7, 6)}


def dense(place: Place) -> nn.Sequential:
    """Build a 3x3 convolution of all channels."""
    return nn.Sequential(*_convolution(place.channels, place.channels, 3), *_around(place.channels))


def separable(place: Place) -> nn.Sequential:
    """Build the separable form: a 3x3 convolution of each channel, then a 1x1 convolution of all channels."""
    channels = place.channels
    return nn.Sequential(
        *_convolution(channels, channels, 3, groups=channels),
        *_around(channels),
        *_convolution(channels, channels, 1),
        *_around(channels),
    )


def dense_alone(place: Place) -> nn.Sequential:
    """Build the dense block without batch norm and ReLU, as if a compiler had fused them into the convolution."""
    return nn.Sequential(*_convolution(place.channels, place.channels, 3))


def separable_alone(place: Place) -> nn.Sequential:
    """Build the separable block without batch norms and ReLUs, as if a compiler had fused them into convolutions."""
    channels = place.channels
    return nn.Sequential(*_convolution(channels, channels, 3, groups=channels), *_convolution(channels, channels, 1))


class _Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.add(x, self.inner(x))


def fused_mbconv(place: Place) -> nn.Module:
    wide = place.channels * place.expansion
    return _Residual(
        nn.Sequential(
            *_convolution(place.channels, wide, 3),
            *_around(wide, nn.SiLU),
            *_convolution(wide, place.channels, 1),
            nn.BatchNorm2d(place.channels),
        )
    )


def mbconv(place: Place) -> nn.Module:
    wide = place.channels * place.expansion
    return _Residual(
        nn.Sequential(
            *_convolution(place.channels, wide, 1),
            *_around(wide, nn.SiLU),
            *_convolution(wide, wide, 3, groups=wide),
            *_around(wide, nn.SiLU),
            *_convolution(wide, place.channels, 1),
            nn.BatchNorm2d(place.channels),
        )
    )


def counted(build: Callable[[Place], nn.Module], place: Place, dtype: torch.dtype) -> Complexity:
    """Count one forward pass of a block in inference, with the estimated times on `SERVER` and `BOARD`."""
    with torch.device("meta"):
        model = build(place).to(dtype).eval()
        images = torch.empty(BATCH, place.channels, place.side, place.side, dtype=dtype)
    return measure(model, images, devices=[SERVER, BOARD])


def _convolution(inputs: int, outputs: int, kernel: int, groups: int = 1) -> tuple[nn.Module]:
    return (nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False),)


def _around(channels: int, activation: type[nn.Module] = nn.ReLU) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), activation()
