"""How a model runs in serving: the calls for the prompt and for one more token, and where the cache is."""

from __future__ import annotations

from itertools import chain
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch

from pytest_flopsbudget.counting.inputs import Inputs

if TYPE_CHECKING:
    from collections.abc import Callable


class Sizes(NamedTuple):
    """The sizes of one call, each as a number of tokens of one request."""

    #: The number of requests that are served together.
    batch: int
    #: For models with an encoder, the length of its input. For other models, equal to ``length``.
    prompt: int
    #: The tokens that the decoder has seen after the call. A prefill gives it all of them at once.
    length: int
    #: The tokens for which a cache of fixed size is made.
    capacity: int


class Call(NamedTuple):
    """A function and the arguments with which it is measured."""

    function: Callable[..., Any]
    inputs: Inputs


class Steps(Protocol):
    """How one kind of model is called."""

    #: The number of tokens that the decoder gets in a prefill; None for the whole prompt.
    first_tokens: int | None

    def prefill(self, sizes: Sizes) -> Call:
        """Return the call that reads the prompts and fills the cache."""

    def decode(self, sizes: Sizes, state: Any) -> Call:
        """Return the call that makes one more token for each request.

        ``state`` is what `state` returned after the call before, with zeros for its numbers.
        """

    def cache(self, output: Any) -> Any:
        """Return the cache in the output of a call."""

    def state(self, output: Any) -> Any:
        """Return everything in the output of a prefill that the next call needs, the cache included."""


class FunctionSteps:
    """A model that two functions of the user run.

    Args:
        model: the model.
        prefill: is called with the model and token ids of shape (batch, prompt). It returns the cache.
        decode: is called with the model, token ids of shape (batch, 1), and the cache. It returns the cache.
    """

    first_tokens: int | None = None

    def __init__(
        self, model: torch.nn.Module, prefill: Callable[[Any, torch.Tensor], Any], decode: Callable[..., Any]
    ) -> None:
        self._model, self._prefill, self._decode = model, prefill, decode

    def prefill(self, sizes: Sizes) -> Call:
        """Return the call of the user's function ``prefill``."""
        tokens = token_ids(self._model, sizes.batch, sizes.length)
        return Call(MethodType(self._prefill, self._model), Inputs((tokens,), {}))

    def decode(self, sizes: Sizes, state: Any) -> Call:
        """Return the call of the user's function ``decode``."""
        return Call(MethodType(self._decode, self._model), Inputs((token_ids(self._model, sizes.batch, 1), state), {}))

    def cache(self, output: Any) -> Any:
        """Return the cache, which is the output of both functions."""
        return output

    def state(self, output: Any) -> Any:
        """Return the cache, which is the output of both functions."""
        return output


def device_of(model: torch.nn.Module) -> torch.device:
    """Return the device of the model's first parameter or buffer; "meta" for a model without tensors."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("meta") if first is None else first.device


def token_ids(model: torch.nn.Module, batch: int, count: int) -> torch.Tensor:
    """Return token ids of shape (batch, count): zeros, on the model's device."""
    return torch.zeros(batch, count, dtype=torch.long, device=device_of(model))
