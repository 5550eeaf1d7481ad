"""A model whose cost is known, as counters are asked for it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from peers.whole_models import Built

#: Where a model has biases, normalization, activations or softmax. ResNet-50's batch normalization alone, at the 2
#: multiply-accumulates per element that some counters take for it, is 1.1 percent.
ELEMENT_WISE = 0.02


@dataclass(frozen=True)
class Case:
    """A model with its inputs, and its FLOPs in closed form."""

    name: str
    #: Makes the model and its positional arguments: only in the process that measures them.
    build: Callable[[], Built]
    flops: int
    #: Where the miscount was reported; empty where it was only reproduced.
    reported: str = ""
    #: What surrounds the count.
    surroundings: Callable[[], AbstractContextManager[Any]] = nullcontext
    #: Forward and backward pass are asked for.
    backward: bool = False
    #: The number is that of this submodule alone.
    module: str = ""
    #: Excess that passes, as a share: element-wise work, which several counters add. Never a lack.
    excess: float = 0.0
