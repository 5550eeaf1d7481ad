"""Models of images: timm and segmentation-models-pytorch."""

from __future__ import annotations

from typing import Any

import torch

from model_zoo.check import check_built

Row = dict[str, Any]


def timm_names() -> list[str]:
    """Return the names of timm's models. The first names are one model from each file of timm."""
    import timm

    by_file = [timm.list_models(module=module) for module in timm.list_modules()]
    longest = max(len(names) for names in by_file)
    return [names[place] for place in range(longest) for names in by_file if place < len(names)]


def check_timm(name: str) -> Row:
    """Check a model of timm with an image of its usual size."""
    import timm

    def build() -> Any:
        return timm.create_model(name, pretrained=False)

    size = timm.get_pretrained_cfg(name)
    shape = tuple(getattr(size, "input_size", None) or (3, 224, 224))
    return check_built(build, lambda: (torch.rand(1, *shape),))


def segmentation_names() -> list[str]:
    """Return pairs of a decoder and an encoder, as "decoder on encoder"."""
    import segmentation_models_pytorch as smp

    decoders = sorted(smp.MODEL_ARCHITECTURES_MAPPING)
    return [f"{name} on resnet18" for name in decoders] + [f"unet on {name}" for name in sorted(smp.encoders.encoders)]


def check_segmentation(name: str) -> Row:
    """Check a model of segmentation_models_pytorch. ``name`` is "decoder on encoder"."""
    import segmentation_models_pytorch as smp

    decoder, _, encoder = name.partition(" on ")
    if decoder == "dpt":
        encoder = "tu-vit_tiny_patch16_224"

    def build() -> Any:
        return smp.create_model(decoder, encoder_name=encoder, encoder_weights=None)

    size = 224 if decoder == "dpt" else 128
    return check_built(build, lambda: (torch.rand(1, 3, size, size),))
