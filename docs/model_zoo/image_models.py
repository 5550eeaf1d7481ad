"""Models of images: timm, segmentation-models-pytorch and vit-pytorch."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import torch

from model_zoo.check import check, check_built, in_words

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


#: The arguments of vit-pytorch's constructors, by name.
VIT_SETTINGS: dict[str, Any] = {
    "image_size": 64, "patch_size": 16, "image_patch_size": 16, "frame_patch_size": 2, "frames": 8, "num_classes": 10,
    "dim": 64, "depth": 2, "heads": 4, "mlp_dim": 128, "dim_head": 16, "channels": 3, "seq_len": 64,
    "max_tokens_per_depth": (12, 8), "cls_depth": 2, "block_repeats": (1, 1), "num_hierarchies": 2,
    "freq_patch_size": 16, "num_residual_streams": 2, "max_frames": 8, "reduction_factor": (8, 4, 2, 1),
    "sm_dim": 64, "lg_dim": 96, "spatial_depth": 2, "temporal_depth": 2, "window_size": 4, "mlp_mult": 2,
}  # fmt: skip


def vit_names() -> list[str]:
    """Return the names of the models of vit-pytorch, as "file.Class"."""
    import vit_pytorch

    found = []
    for info in pkgutil.iter_modules(vit_pytorch.__path__):
        try:
            module = importlib.import_module(f"vit_pytorch.{info.name}")
        except Exception:  # noqa: BLE001 -- it is named when it is checked
            found.append(info.name)
            continue
        for name, kind in vars(module).items():
            if inspect.isclass(kind) and issubclass(kind, torch.nn.Module) and kind.__module__ == module.__name__:
                takes = inspect.signature(kind).parameters
                if "num_classes" in takes or "image_size" in takes:
                    found.append(f"{info.name}.{name}")
    return found


def check_vit(name: str) -> Row:
    """Check a small model of vit-pytorch with the first inputs that the model accepts."""
    file, _, kind_name = name.partition(".")
    try:
        kind = getattr(importlib.import_module(f"vit_pytorch.{file}"), kind_name)
    except Exception as error:  # noqa: BLE001 -- it cannot be imported
        return {"skipped": [in_words(error)]}
    takes = inspect.signature(kind).parameters
    required = [key for key, value in takes.items() if value.default is value.empty and value.kind != value.VAR_KEYWORD]
    if missing := [key for key in required if key not in VIT_SETTINGS]:
        return {"skipped": [f"no settings are made for {', '.join(missing)}"]}
    settings = {key: VIT_SETTINGS[key] for key in takes if key in VIT_SETTINGS and key != "channels"}
    problems: dict[str, None] = {}
    for given in (settings, {key: settings[key] for key in required}, {**settings, "image_size": 224}):
        if not set(given) <= set(takes):
            continue

        def build(given: dict[str, Any] = given) -> Any:
            return kind(**given)

        size = given.get("image_size", 224)
        for shape in ((1, 3, size, size), (1, 3, 8, size, size), (1, 3, 64), (1, 8, 3, size, size), (1, 3, size)):
            try:
                with torch.no_grad():
                    build().eval()(torch.rand(shape))
            except Exception as error:  # noqa: BLE001 -- these inputs do not fit
                problems[in_words(error)] = None
                continue
            return check(build().eval(), (torch.rand(shape),), {}, build)
    return {"skipped": list(problems)}
