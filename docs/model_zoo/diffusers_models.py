"""The models of diffusers, with their default configurations made small."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from model_zoo.check import check, in_words, moved

Row = dict[str, Any]
#: Settings that make a model small, where its constructor has them.
SMALL: dict[str, Any] = {
    "num_layers": 2, "num_single_layers": 2, "num_refiner_layers": 1, "n_layers": 2, "n_refiner_layers": 1, "depth": 2,
    "num_double_layers": 2, "num_mmdit_layers": 2, "num_single_dit_layers": 2,
}  # fmt: skip
#: Models with more parameters are run on meta alone.
LARGE = 40_000_000


def names() -> list[str]:
    """Return the names of the model classes."""
    import diffusers
    from diffusers import ModelMixin

    found = []
    for name in dir(diffusers):
        try:
            kind = getattr(diffusers, name)
        except Exception:  # noqa: BLE001, S112 -- a class whose requirements are not installed
            continue
        if inspect.isclass(kind) and issubclass(kind, ModelMixin) and kind is not ModelMixin:
            found.append(name)
    return found


def check_class(name: str) -> Row:
    """Check one class with the first inputs that the model accepts."""
    import diffusers

    kind = getattr(diffusers, name)
    takes = inspect.signature(kind).parameters
    given = {key: value for key, value in SMALL.items() if key in takes and type(takes[key].default) is int}
    problems: dict[str, None] = {}
    for settings in (given, {}):

        def build(settings: dict[str, Any] = settings) -> Any:
            return kind(**settings)

        try:
            with torch.device("meta"):
                model = build().eval()
        except Exception as error:  # noqa: BLE001 -- it cannot be built
            problems[in_words(error)] = None
            continue
        large = sum(value.numel() for value in model.parameters()) > LARGE
        model = model if large else build().eval()
        for inputs in _candidates(model):
            values = moved(inputs) if large else inputs
            try:
                with torch.no_grad():
                    model(**values)
            except Exception as error:  # noqa: BLE001 -- these inputs do not fit
                problems[in_words(error)] = None
                continue
            return {
                "model": name,
                "inputs": [f"{key}{list(value.shape)}" for key, value in inputs.items()],
                "form": "on meta alone" if large else "",
                **check(model, (), values, build),
            }
        missing = [key for key in _required(model) if key not in _known(model)]
        if missing:
            problems[f"no inputs are made for {', '.join(missing)}"] = None
    return {"model": name, "skipped": list(problems)}


def _required(model: Any) -> list[str]:
    return [
        key
        for key, value in inspect.signature(model.forward).parameters.items()
        if value.default is value.empty and value.kind not in {value.VAR_KEYWORD, value.VAR_POSITIONAL}
    ]


def _candidates(model: Any) -> Any:
    known = _known(model)
    takes = inspect.signature(model.forward).parameters
    for names in (_required(model), [key for key in takes if key in known]):
        if any(key not in known for key in names):
            continue
        for form in range(max([1, *(len(known[key]) for key in names)])):
            yield {key: known[key][min(form, len(known[key]) - 1)] for key in names}


def _known(model: Any) -> dict[str, tuple[Any, ...]]:
    config = model.config

    def setting(*keys: str, default: int) -> int:
        for key in keys:
            value = config.get(key)
            if isinstance(value, (list, tuple)) and value:
                value = value[0]
            if type(value) is int and value > 0:
                return value
        return default

    channels = setting("in_channels", default=4)
    text = setting(
        "joint_attention_dim", "cross_attention_dim", "text_embed_dim", "caption_channels", "encoder_hid_dim",
        "text_dim", "cap_feat_dim", "caption_projection_dim", "text_in_dim", "text_states_dim", default=64,
    )  # fmt: skip
    patch = setting("patch_size", default=1)
    rows = 8
    images = (
        torch.rand(1, channels, 32, 32), torch.rand(1, channels, 4, 32, 32), torch.rand(1, 5, channels, 32, 32),
        torch.rand(1, 16, channels), torch.rand(1, channels, 64, 64), torch.rand(1, channels, 5, 64, 64),
        torch.rand(1, channels, 64), torch.rand(1, channels, 1024),
    )  # fmt: skip
    latents = torch.rand(1, 16, channels)
    del patch, rows, latents
    return {
        "sample": (torch.rand(1, channels, 64, 64), torch.rand(1, channels, 5, 64, 64), *images),
        "hidden_states": images,
        "x": images,
        "timestep": (torch.tensor([1]), torch.tensor(1)),
        "timesteps": (torch.tensor([1]),),
        "t": (torch.tensor([0.5]),),
        "encoder_hidden_states": (torch.rand(1, 8, text),),
        "encoder_attention_mask": (torch.ones(1, 8),),
        "pooled_projections": (torch.rand(1, setting("pooled_projection_dim", default=64)),),
        "class_labels": (torch.tensor([1]),),
        "guidance": (torch.tensor([1.0]),),
        "img_ids": (torch.zeros(16, 3),),
        "txt_ids": (torch.zeros(8, 3),),
        "added_time_ids": (torch.ones(1, 3),),
        "proj_embedding": (torch.rand(1, setting("embedding_dim", default=64)),),
    }
