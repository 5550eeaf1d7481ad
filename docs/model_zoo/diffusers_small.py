"""What a small model of one class of diffusers is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Small:
    """A small model, and its inputs if they do not follow from the names of the arguments."""

    #: The settings of the constructor that differ from its defaults.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: The inputs by name, or a function of the model that makes them.
    inputs: Mapping[str, Any] | Callable[[Any], Mapping[str, Any]] | None = None
    #: Makes the model from its class, where that takes more than a call with the settings.
    build: Callable[[Any], Any] | None = None
