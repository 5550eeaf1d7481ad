"""The small model of each class of diffusers. Most settings are those of diffusers' own tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model_zoo.diffusers_autoencoders import AUTOENCODERS
from model_zoo.diffusers_controls import CONTROLS
from model_zoo.diffusers_encoders import ENCODERS
from model_zoo.diffusers_images import IMAGES
from model_zoo.diffusers_unets import UNETS
from model_zoo.diffusers_videos import VIDEOS

if TYPE_CHECKING:
    from model_zoo.diffusers_small import Small

SMALL: dict[str, Small] = {**AUTOENCODERS, **CONTROLS, **ENCODERS, **IMAGES, **UNETS, **VIDEOS}
#: The classes that cannot run, with the reason.
NOT_RUN = {
    "ControlNetXSAdapter": "its forward raises: it runs only as a part of UNetControlNetXSModel",
    "MotionAdapter": "its forward computes nothing: it holds the parts that a UNetMotionModel loads",
}
