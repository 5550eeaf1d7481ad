"""Inputs for models of diffusers, by the names of the arguments and the settings of the model."""

from __future__ import annotations

import inspect
import itertools
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The number of words of a text, and the rows and columns of an image that is given as a sequence.
WORDS, SIDE = 8, 4
#: The settings that say how wide the embedding of a text is. The first that a model has counts.
_TEXT = (
    "joint_attention_dim", "text_embed_dim", "caption_channels", "encoder_hid_dim", "text_dim", "cap_feat_dim",
    "context_in_dim", "cross_attention_dim",
)  # fmt: skip


def real(*sizes: int) -> torch.Tensor:
    """Return random numbers between 0 and 1."""
    return torch.rand(sizes)


def whole(value: int, *sizes: int) -> torch.Tensor:
    """Return a tensor of integers that are all ``value``."""
    return torch.full(sizes, value)


def yes(*sizes: int) -> torch.Tensor:
    """Return a mask that hides nothing."""
    return torch.ones(sizes, dtype=torch.bool)


def required(model: Any) -> list[str]:
    """Return the names of the arguments without a default."""
    return [
        key
        for key, value in inspect.signature(model.forward).parameters.items()
        if value.default is value.empty and value.kind not in {value.VAR_KEYWORD, value.VAR_POSITIONAL}
    ]


def candidates(model: Any) -> Iterator[dict[str, Any]]:
    """Yield inputs that may fit a model: first the required ones, then all whose names are known."""
    forms = _forms(model.config)
    names = required(model)
    if any(name not in forms for name in names):
        return
    takes = [name for name in inspect.signature(model.forward).parameters if name in forms]
    for chosen in (names, takes) if takes != names else (names,):
        for values in itertools.product(*(forms[name] for name in chosen)):
            yield dict(zip(chosen, values, strict=True))


def missing(model: Any) -> list[str]:
    forms = _forms(model.config)
    return [name for name in required(model) if name not in forms]


def _forms(config: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Return the forms that each argument may have, the most usual form first."""

    def setting(*keys: str, default: int) -> int:
        for key in keys:
            value = config.get(key)
            if isinstance(value, (list, tuple)) and value:
                value = value[0]
            if type(value) is int and value > 0:
                return value
        return default

    channels = setting("in_channels", default=3)
    axes = next((config[key] for key in ("axes_dims_rope", "axes_dim") if config.get(key)), (0, 0, 0))
    images = (
        real(1, channels, 16, 16), real(1, channels, 9, 16, 16), real(1, channels, 4, 16, 16),
        real(1, SIDE * SIDE, channels), real(1, channels, 64),
    )  # fmt: skip
    text = (real(1, WORDS, setting(*_TEXT, default=16)),)
    return {
        "sample": images,
        "hidden_states": images,
        "timestep": (whole(1, 1), torch.tensor(1)),
        "encoder_hidden_states": text,
        "encoder_attention_mask": (yes(1, WORDS),),
        "encoder_hidden_states_mask": (whole(1, 1, WORDS),),
        "pooled_projections": (real(1, setting("pooled_projection_dim", default=16)),),
        "guidance": (torch.tensor([1.0]),),
        "img_ids": (torch.zeros(SIDE * SIDE, len(axes)),),
        "txt_ids": (torch.zeros(WORDS, len(axes)),),
        "img_shapes": ([[(1, SIDE, SIDE)]],),
    }
