"""The model libraries: the names of their models, and how to check a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from model_zoo import diffusers_models, image_models, transformers_models, vision_and_text, vit_models

if TYPE_CHECKING:
    from collections.abc import Callable

Row = dict[str, Any]

LIBRARIES: dict[str, tuple[Callable[[], list[str]], Callable[[str], Row]]] = {
    "transformers": (transformers_models.names, transformers_models.check_architecture),
    "timm": (image_models.timm_names, image_models.check_timm),
    "segmentation-models-pytorch": (image_models.segmentation_names, image_models.check_segmentation),
    "open_clip": (vision_and_text.open_clip_names, vision_and_text.check_open_clip),
    "vit-pytorch": (vit_models.names, vit_models.check_model),
    "x-transformers": (vision_and_text.x_transformers_names, vision_and_text.check_x_transformers),
    "diffusers": (diffusers_models.names, diffusers_models.check_class),
}


def check_model(library: str, name: str) -> Row:
    return LIBRARIES[library][1](name)
