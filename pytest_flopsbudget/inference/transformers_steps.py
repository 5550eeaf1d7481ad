"""How models of transformers run in serving, with the caches of that library."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.cloning.wrapped import unwrap_compiled
from pytest_flopsbudget.counting.inputs import Inputs
from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.inference.steps import Call, Sizes, token_ids
from pytest_flopsbudget.quantities.parsing import nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: The names of the argument and of the output that hold the cache, newest first.
_CACHES = ("cache", "past_key_values", "cache_params")
#: The caches that have a name. "dynamic" is the cache that the model makes itself.
CACHES = ("dynamic", "static")


def is_of_transformers(model: Any) -> bool:
    """Return whether the model is one of transformers, or wraps one as peft does."""
    config = getattr(_inner(model), "config", None)
    return hasattr(config, "is_encoder_decoder") and any(name in _parameters(model) for name in _CACHES)


class TransformersSteps:
    """A model of transformers.

    Args:
        model: the model, with or without data.
        cache: "dynamic", "static", or a function of the number of tokens that returns a new cache.
        inputs: a function of ``batch`` and ``prompt`` that returns the keyword arguments of a prefill; None for token
            ids, or for the spectrogram of a speech model.

    Raises:
        UsageError: there is no such cache.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        cache: str | Callable[[int], Any] = "dynamic",
        inputs: Callable[..., Mapping[str, Any]] | None = None,
    ) -> None:
        self._model, self._inputs = model, inputs
        inner = _inner(model)
        self._config = inner.config
        parameters = _parameters(model)
        self._cache_name = next(name for name in _CACHES if name in parameters)
        self._keeps_last_logits = "logits_to_keep" in parameters
        self._has_encoder = bool(self._config.is_encoder_decoder)
        self._main_input = getattr(inner, "main_input_name", "input_ids")
        self.first_tokens = 1 if self._has_encoder else None
        self._new_cache = self._find_cache(cache)

    def prefill(self, sizes: Sizes) -> Call:
        """Return the call that reads the prompts. It computes logits for the last token only, as `generate` does."""
        kwargs = self._prompts(sizes)
        if self._has_encoder:
            # Without the argument `use_cache`, which some encoders refuse, the decoder's configuration decides.
            kwargs["decoder_input_ids"] = token_ids(self._model, sizes.batch, sizes.length)
        else:
            kwargs["use_cache"] = True
            if self._keeps_last_logits:
                kwargs["logits_to_keep"] = 1
        if self._new_cache is not None:
            kwargs[self._cache_name] = self._new_cache(sizes)
        return Call(self._model, Inputs((), kwargs))

    def decode(self, sizes: Sizes, state: Any) -> Call:
        """Return the call that gets one token of each request and the cache."""
        tokens = token_ids(self._model, sizes.batch, 1)
        _set_length(state["cache"], sizes.length - 1)
        kwargs = {self._cache_name: state["cache"]}
        if self._has_encoder:
            from transformers.modeling_outputs import BaseModelOutput  # noqa: PLC0415 -- the user's package

            encoded = BaseModelOutput(last_hidden_state=state["encoded"])
            return Call(self._model, Inputs((), {**kwargs, "encoder_outputs": encoded, "decoder_input_ids": tokens}))
        return Call(self._model, Inputs((), {**kwargs, "input_ids": tokens, "use_cache": True}))

    def cache(self, output: Any) -> Any:
        """Return the cache in the output of a call.

        Raises:
            UsageError: the output has no cache.
        """
        found = next((value for name in _CACHES if (value := _field(output, name)) is not None), None)
        if found is None:
            raise UsageError(
                f"serving({type(self._model).__name__}, ...): the model returns no cache; hand over a model that "
                "generates text, such as one of AutoModelForCausalLM"
            )
        return found

    def state(self, output: Any) -> Any:
        """Return the cache, and for models with an encoder, the output of the encoder."""
        state = {"cache": self.cache(output)}
        if self._has_encoder:
            state["encoded"] = _field(output, "encoder_last_hidden_state")
        return state

    def _prompts(self, sizes: Sizes) -> dict[str, Any]:
        if self._inputs is not None:
            return dict(self._inputs(batch=sizes.batch, prompt=sizes.prompt))
        if self._main_input == "input_ids":
            return {"input_ids": token_ids(self._model, sizes.batch, sizes.prompt)}
        bins = getattr(self._config, "num_mel_bins", None)
        if self._main_input == "input_features" and bins:
            first = next(self._model.parameters())
            size = sizes.batch, bins, sizes.prompt
            return {"input_features": torch.zeros(size, dtype=first.dtype, device=first.device)}
        raise UsageError(
            f"serving({type(self._model).__name__}, ...): the model takes {self._main_input}; say how to make it, "
            f"as in serving(model, ..., inputs=lambda batch, prompt: {{{self._main_input!r}: torch.empty(batch, ...)}})"
        )

    def _find_cache(self, cache: Any) -> Callable[[Sizes], Any] | None:
        if cache == "dynamic":
            return None
        if cache == "static":
            return self._static
        if callable(cache):
            return lambda sizes: cache(sizes.capacity)
        near = nearest_spelling(str(cache), CACHES)
        hint = f"; did you mean {near!r}?" if near else ""
        raise UsageError(
            f"serving(..., cache={cache!r}): a cache is one of {', '.join(map(repr, CACHES))}, or a function of the "
            f"number of tokens that returns a new cache{hint}"
        )

    def _static(self, sizes: Sizes) -> Any:
        from transformers import EncoderDecoderCache, StaticCache  # noqa: PLC0415 -- the user's package

        own = StaticCache(config=self._config, max_cache_len=sizes.capacity)
        if not self._has_encoder:
            return own
        # Models for speech shorten their input to this number of positions.
        encoded = self._config.max_source_positions if self._main_input == "input_features" else sizes.prompt
        return EncoderDecoderCache(own, StaticCache(config=self._config, max_cache_len=encoded))


def _set_length(cache: Any, length: int) -> None:
    """Set the number of tokens in a static cache, which is a tensor there, and whose value a run on shapes forgets."""
    for layer in getattr(getattr(cache, "self_attention_cache", cache), "layers", ()):
        if isinstance(getattr(layer, "cumulative_length", None), torch.Tensor):
            layer.cumulative_length = torch.tensor(length)


def _inner(model: Any) -> Any:
    model = unwrap_compiled(model)
    base = getattr(model, "get_base_model", None)
    return base() if callable(base) else model


def _parameters(model: Any) -> Mapping[str, inspect.Parameter]:
    forward = getattr(_inner(model), "forward", None)
    return inspect.signature(forward).parameters if callable(forward) else {}


def _field(output: Any, name: str) -> Any:
    return output.get(name) if hasattr(output, "get") else getattr(output, name, None)
