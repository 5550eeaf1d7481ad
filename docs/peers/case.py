"""A model whose cost is known, with the settings of its count."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from peers.whole_models import Built

#: Allowed excess if a model has biases, normalization, activation functions or softmax. Some counters count 2
#: multiply-accumulates for each element of a batch normalization, which is 1.1 percent of ResNet-50.
ELEMENT_WISE = 0.02


@dataclass(frozen=True)
class Case:
    """A model with its inputs, and its FLOPs in closed form."""

    name: str
    #: Builds the model and its positional arguments; called only in the process that measures them.
    build: Callable[[], Built]
    flops: int
    #: Issue that reports the miscount; empty if it was only reproduced here.
    reported: str = ""
    #: Context manager around the count.
    surroundings: Callable[[], AbstractContextManager[Any]] = nullcontext
    #: Whether forward and backward pass are counted.
    backward: bool = False
    #: Path of the submodule whose number is judged; empty for the whole model.
    module: str = ""
    #: Allowed excess, as a share: element-wise work, which several counters add. Less is never allowed.
    excess: float = 0.0
