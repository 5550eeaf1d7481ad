"""The models of vit-pytorch, made small."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from model_zoo.check import check, in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Row = dict[str, Any]
#: The arguments of the constructors, by name.
SETTINGS: dict[str, Any] = {
    "image_size": 64, "patch_size": 16, "image_patch_size": 16, "frame_patch_size": 2, "frames": 8, "num_classes": 10,
    "dim": 64, "depth": 2, "heads": 4, "mlp_dim": 128, "dim_head": 16, "seq_len": 64, "max_tokens_per_depth": (12, 8),
    "cls_depth": 2, "freq_patch_size": 16, "num_residual_streams": 2, "max_frames": 8, "sm_dim": 64, "lg_dim": 96,
    "spatial_depth": 2, "temporal_depth": 2, "window_size": 4, "mlp_mult": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Exceptional:
    """The settings and inputs of a class, if they do not follow from the names of its arguments."""

    #: Settings that replace those of `SETTINGS`. None removes a setting.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Makes the positional inputs. If it is None, usual shapes of images and videos are tried.
    inputs: Callable[[], tuple[Any, ...]] | None = None


def _image(size: int = 64) -> Callable[[], tuple[Any, ...]]:
    return lambda: (torch.rand(1, 3, size, size),)


def _net() -> Any:
    from vit_pytorch import ViT

    return ViT(image_size=64, patch_size=16, num_classes=10, dim=64, depth=2, heads=4, mlp_dim=128)


def _memory_net() -> Any:
    from vit_pytorch.learnable_memory_vit import ViT

    return ViT(image_size=64, patch_size=16, num_classes=10, dim=64, depth=2, heads=4, mlp_dim=128)


def _regional_net() -> Any:
    from vit_pytorch.cvt import CvT

    small = {f"s{stage}_{key}": value for stage in (1, 2, 3) for key, value in (("emb_dim", 32), ("depth", 1))}
    return CvT(num_classes=10, **small)


def _video_net() -> Any:
    from vit_pytorch.levjepa import VideoTransformer

    return VideoTransformer(
        dim=64, depth=2, heads=4, mlp_dim=128, image_size=32, patch_size=16, frames=4, dim_head=16, block_causal=False
    )


def _transformer() -> Any:
    from vit_pytorch.vit import Transformer

    return Transformer(dim=64, depth=2, heads=4, dim_head=16, mlp_dim=128)


#: The training wrappers change images at random, so that two runs differ; here they leave the images as they are.
_TRAINING: dict[str, Callable[[], Any]] = {"augment_fn": torch.nn.Identity, "augment_fn2": torch.nn.Identity}
_VOLUME = {"ndim": 3, "input_shape": (4, 32, 32), "patch_size": (2, 8, 8)}
_DENSE = {"depth": (1, 1), "window_size": 4, "dim": 32, "dim_head": 16}

#: Functions among the settings are called, once for each model that is built.
EXCEPTIONS: dict[str, Exceptional] = {
    "cct.TransformerClassifier": Exceptional(
        {"embedding_dim": 64, "num_layers": 2, "num_heads": 4, "sequence_length": 16}, lambda: (torch.rand(1, 16, 64),)
    ),
    "cct_3d.TransformerClassifier": Exceptional(
        {"embedding_dim": 64, "num_layers": 2, "num_heads": 4, "sequence_length": 16}, lambda: (torch.rand(1, 16, 64),)
    ),
    "cross_vit.CrossViT": Exceptional({"image_size": 48}, _image(48)),
    "dino.Dino": Exceptional({"net": _net, "hidden_layer": "to_latent", "num_classes_K": 1000, **_TRAINING}, _image()),
    "efficient.ViT": Exceptional({"transformer": _transformer}, _image()),
    "es_vit.EsViTTrainer": Exceptional(
        {"net": _regional_net, "hidden_layer": "layers", "num_classes_K": 1000, **_TRAINING}, _image()
    ),
    "jumbo_vit.JumboViT": Exceptional({"dim": 16, "mlp_dim": 32, "jumbo_cls_k": 2}, _image()),
    "learnable_memory_vit.Adapter": Exceptional({"vit": _memory_net}, _image()),
    "lejepa.LeJEPA": Exceptional(
        {"net": _net, "hidden_layer": "to_latent", "num_classes_K": 1000, **_TRAINING}, _image()
    ),
    "levjepa.LeVJEPA": Exceptional(
        {"encoder": _video_net, "image_size": 32, "local_size": 32}, lambda: (torch.rand(1, 3, 4, 32, 32),)
    ),
    # This version's mask does not fit the arguments that PyTorch expects of a mask.
    "levjepa.VideoTransformer": Exceptional({"block_causal": False}, lambda: (torch.rand(1, 3, 8, 64, 64),)),
    # The normalization fits only if a row has as many patches as the model has channels.
    "local_vit.LocalViT": Exceptional({"dim": 8, "heads": 2, "patch_size": 8}, _image()),
    "look_vit.LookViT": Exceptional({"highres_patch_size": 8}, _image()),
    "max_vit.MaxViT": Exceptional(_DENSE, _image()),
    "max_vit_with_registers.MaxViT": Exceptional(_DENSE, _image()),
    "mobile_vit.MobileViT": Exceptional(
        {
            "image_size": (64, 64),
            "dims": [16, 24, 32],
            "channels": [8, 8, 16, 16, 24, 24, 32, 32, 32, 32, 64],
            "patch_size": None,
        },
        _image(),
    ),
    "na_vit_nested_tensor_3d.NaViT": Exceptional({}, lambda: ([torch.rand(3, 8, 64, 64), torch.rand(3, 4, 32, 64)],)),
    "nest.NesT": Exceptional({"num_hierarchies": 2, "block_repeats": (1, 1), "patch_size": 4}, _image()),
    "pit.PiT": Exceptional({"depth": (1, 1)}, _image()),
    "rvt.Transformer": Exceptional({}, lambda: (torch.rand(1, 17, 64), {"h": 4, "w": 4})),
    "scalable_vit.ScalableViT": Exceptional(
        {"dim": 32, "depth": (1, 1), "heads": (2, 4), "reduction_factor": (4, 2), "window_size": (4, None)}, _image()
    ),
    "sep_vit.SepViT": Exceptional({**_DENSE, "window_size": 7, "heads": (2, 4)}, _image(112)),
    "twins_svt.TwinsSVT": Exceptional(
        {"s1_emb_dim": 16, "s2_emb_dim": 32, "s3_emb_dim": 32, "s4_emb_dim": 64, "s3_depth": 1, "s4_depth": 1},
        _image(224),
    ),
    "vit_nd.ViTND": Exceptional(_VOLUME, lambda: (torch.rand(1, 3, 4, 32, 32),)),
    "vit_nd_pope.ViTND": Exceptional(_VOLUME, lambda: (torch.rand(1, 3, 4, 32, 32),)),
    "vit_nd_rotary.ViTND": Exceptional(_VOLUME, lambda: (torch.rand(1, 3, 4, 32, 32),)),
    "wwt.AutoencodingHead": Exceptional(
        {},
        lambda: ([torch.rand(1, 16, 64), torch.rand(1, 8, 64)], [torch.rand(1, 1, 4, 16, 8)], [(0, 1)]),
    ),
    "wwt.WWT": Exceptional({"num_slots": (16, 8)}, _image()),
}


def names() -> list[str]:
    """Return the names of the models, as "file.Class"."""
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


def check_model(name: str) -> Row:
    """Check a small model with the inputs that are made for it, or else with the first ones that it accepts."""
    file, _, kind_name = name.partition(".")
    try:
        kind = getattr(importlib.import_module(f"vit_pytorch.{file}"), kind_name)
    except Exception as error:  # noqa: BLE001 -- it cannot be imported
        return {"skipped": [in_words(error)]}
    special = EXCEPTIONS.get(name, Exceptional())
    takes = inspect.signature(kind).parameters
    known = {key: value for key, value in (SETTINGS | dict(special.settings)).items() if value is not None}
    required = [
        key
        for key, value in takes.items()
        if value.default is value.empty and value.kind not in {value.VAR_KEYWORD, value.VAR_POSITIONAL}
    ]
    if missing := [key for key in required if key not in known]:
        return {"skipped": [f"no settings are made for {', '.join(missing)}"]}
    settings = {key: value for key, value in known.items() if key in takes or key in special.settings}
    problems: dict[str, None] = {}
    forms = [settings, {key: settings[key] for key in required}, {**settings, "image_size": 224}]
    for given in [settings] if special.inputs else forms:
        if not set(given) <= {*takes, *special.settings}:
            continue

        def build(given: dict[str, Any] = given) -> Any:
            torch.manual_seed(0)
            return kind(**{key: value() if callable(value) else value for key, value in given.items()})

        for inputs in _inputs(special, given.get("image_size", 224)):
            try:
                with torch.no_grad():
                    build().eval()(*inputs)
            except Exception as error:  # noqa: BLE001 -- these inputs do not fit
                problems[in_words(error)] = None
                continue
            return check(build().eval(), inputs, {}, build)
    return {"skipped": list(problems)}


def _inputs(special: Exceptional, size: int) -> Iterator[tuple[Any, ...]]:
    if special.inputs:
        yield special.inputs()
        return
    for shape in ((1, 3, size, size), (1, 3, 8, size, size), (1, 3, 64), (1, 8, 3, size, size), (1, 3, size)):
        yield (torch.rand(shape),)
