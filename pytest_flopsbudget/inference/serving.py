"""`serving`: measure what a language model costs when it answers requests."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from msgspec.structs import replace

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.hardware.catalog import resolve_devices
from pytest_flopsbudget.inference.bounds import least_time, requests_that_fit, tokens_per_second
from pytest_flopsbudget.inference.step_counts import StepTrace, with_metrics
from pytest_flopsbudget.inference.steps import FunctionSteps, Sizes, device_of
from pytest_flopsbudget.inference.transformers_steps import TransformersSteps, is_of_transformers
from pytest_flopsbudget.laws.counts import Counts
from pytest_flopsbudget.laws.law import MOST_COUNTS, find_laws, read_domain
from pytest_flopsbudget.quantities.metrics import key_for, metric_of, name_in
from pytest_flopsbudget.quantities.parsing import nearest_spelling

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_flopsbudget.config.settings import ShapesMode
    from pytest_flopsbudget.counting.inputs import Inputs
    from pytest_flopsbudget.counting.tracing.tracer import Tracer
    from pytest_flopsbudget.hardware.profile import Device
    from pytest_flopsbudget.inference.steps import Call, Steps
    from pytest_flopsbudget.laws.law import Law
    from pytest_flopsbudget.results.complexity import Complexity

#: The names of the two measurements of `serving`.
PREFILL, DECODE = "prefill", "decode"
#: The metrics of which `Serving.law` gives laws. Laws of the others, which depend on kernels, would need many counts.
_METRICS_WITH_LAWS = ("flops", "macs", "kv_cache", "bytes_read")


class Serving:
    """What a language model costs in serving. ``print`` shows the numbers."""

    def __init__(self, server: Server, prefill: Complexity, decode: Complexity) -> None:
        self._server = server
        #: The measurement of the prefill: the model reads the prompts of all requests.
        self.prefill = prefill
        #: The measurement of one decoding step: the model makes one token for each request, when ``prompt`` +
        #: ``new_tokens`` tokens are in the context, this one included.
        self.decode = decode

    @property
    def kv_cache(self) -> int:
        """The bytes of the cache of all requests, with all ``prompt`` + ``new_tokens`` tokens in it."""
        return int(self.decode.value("kv_cache"))

    @property
    def kv_cache_per_token(self) -> int:
        """The bytes that each new token adds to the cache of one request, rounded up: the mean over all new tokens."""
        return int(self.decode.value("kv_cache_per_token"))

    @property
    def bytes_per_token(self) -> Fraction:
        """The bytes of weights and cache that the decoding step reads at least, divided by the number of requests."""
        return Fraction(self.decode.value("bytes_read")) / self._server.sizes.batch

    def requests(self, device: str) -> int:
        """Return the most requests that fit beside the weights on a device: an upper bound.

        Raises:
            KeyError: the device was not among ``devices``, or its memory is unknown.
        """
        return int(self.decode.value(key_for("requests", device)))

    def time_to_first_token(self, device: str) -> int:
        """Return the least time of the prefill on a device, in nanoseconds: a lower bound.

        Raises:
            KeyError: the device was not among ``devices``.
        """
        return int(self.prefill.value(key_for("time_to_first_token", device)))

    def tokens_per_second(self, device: str) -> int:
        """Return the most tokens that all requests together get a second in the decoding step: an upper bound.

        Raises:
            KeyError: the device was not among ``devices``.
        """
        return int(self.decode.value(key_for("tokens_per_second", device)))

    def law(self, step: str, **symbols: range) -> Law:
        """Return how FLOPs, MACs, the cache and the bytes read of a step grow with the sizes, as exact expressions.

        ::

            served.law("decode", batch=range(1, 65), length=range(128, 8193))["kv_cache"]

        Args:
            step: "prefill" or "decode".
            symbols: the ranges of ``batch`` and ``length``; for a model with an encoder, of ``prompt`` (the input of
                the encoder) and ``length`` (the tokens of the decoder) too. A size without a range is that of the
                measurement. ``length`` is the number of tokens in the cache after the step.

        Raises:
            UsageError: there is no such step or symbol, or the model refuses a size.
        """
        return self._server.law(step, symbols, on_data=self.prefill.execution == "real")

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return f"<Serving of {self.decode.model}: {self._server.text}>"

    def _lines(self) -> list[str]:
        from pytest_flopsbudget.quantities.formatting import bound_words, format_value  # noqa: PLC0415 -- only for printing

        lines = [f"{self.decode.model}: {self._server.text}"]
        for name, complexity in ((PREFILL, self.prefill), (DECODE, self.decode)):
            for key in ("flops", *(key for key in complexity.metrics if metric_of(key).of_serving)):
                metric, device = metric_of(key), name_in(key)
                bound = "" if device is None else f"{bound_words(metric)} "
                place = "" if device is None else f" on {device}"
                value = format_value(complexity.value(key), metric)
                lines.append(f"    {name:8}{metric.title:20}  {bound}{value}{place}")
        return lines


class Server:
    """A model, how it is called, and the sizes that are measured.

    Args:
        steps: how the model is called.
        sizes: the sizes of the decoding step.
        first: the number of tokens that the decoder has seen after the prefill.
        device: where the model is.
        devices: the devices for which bounds are computed.
        reuse_answers: see `measure`.
        shapes: see `measure`.
    """

    def __init__(  # noqa: PLR0913 -- the settings of a measurement
        self,
        steps: Steps,
        sizes: Sizes,
        *,
        first: int,
        device: torch.device,
        devices: Sequence[Device] = (),
        reuse_answers: bool = True,
        shapes: ShapesMode = "preferred",
    ) -> None:
        self.steps, self.sizes, self.first, self._device = steps, sizes, first, device
        self._devices, self._reuse_answers, self._shapes = devices, reuse_answers, shapes

    @cached_property
    def text(self) -> str:
        """The sizes in words: "batch 8, prompt 2048, 256 new tokens"."""
        sizes, first = self.sizes, self.first
        prompt = first if self.steps.first_tokens is None else sizes.prompt
        return f"batch {sizes.batch:,}, prompt {prompt:,}, {sizes.length - first:,} new tokens"

    def serve(self) -> Serving:
        """Measure the prefill and the decoding step."""
        sizes, first = self.sizes, self.first
        read, prefill = self._run(PREFILL, self.sizes_of(sizes, length=first))
        made, decode = self._run(DECODE, sizes)
        small = read.cache.bytes
        if small == made.cache.bytes:  # the size may be fixed: a cache for fewer tokens shows what a token takes
            small = self._run(PREFILL, self.sizes_of(sizes, length=first, capacity=first))[0].cache.bytes
        growth = Fraction(made.cache.bytes - small, sizes.batch * (sizes.length - first))
        per_token = max(0, math.ceil(growth))
        decode = with_metrics(decode, {"kv_cache_per_token": per_token})
        notes = list(decode.notes)
        for device in self._devices:
            first_token = least_time(device, read.products, int(prefill.value("bytes_read")))
            prefill = with_metrics(prefill, {key_for("time_to_first_token", device.name): int(first_token)})
            fits = requests_that_fit(device, made.weights, Fraction(made.cache.bytes, sizes.batch))
            rate = tokens_per_second(device, sizes.batch, made.products, int(decode.value("bytes_read")))
            bounds = {key_for("requests", device.name): fits, key_for("tokens_per_second", device.name): rate}
            decode = with_metrics(decode, {key: value for key, value in bounds.items() if value is not None})
            if fits is not None and fits < sizes.batch:
                notes.append(
                    f"{device.name} has no memory for {sizes.batch:,} requests of {sizes.length:,} tokens beside the "
                    f"weights; at most {fits:,} fit"
                )
        return Serving(self, prefill, replace(decode, notes=tuple(notes)))

    def law(self, step: str, symbols: Mapping[str, range], *, on_data: bool) -> Law:
        """Return the laws of a step; see `Serving.law`. ``on_data`` allows runs on data.

        Raises:
            UsageError: there is no such step or symbol, or the model refuses a size.
        """
        known = ("batch", "length") if self.steps.first_tokens is None else ("batch", "prompt", "length")
        for word, allowed in ((step, (PREFILL, DECODE)), *((symbol, known) for symbol in symbols)):
            if word not in allowed:
                near = nearest_spelling(str(word), allowed)
                hint = f"; did you mean {near!r}?" if near else ""
                raise UsageError(f"Serving.law: {word!r} is none of {', '.join(map(repr, allowed))}{hint}")
        law = _StepLaw(self, step)
        counts = Counts(
            None,
            law.make,
            read_domain(symbols),
            largest=MOST_COUNTS,
            on_data=on_data,
            trace=law.trace,
        )
        return find_laws(counts, _METRICS_WITH_LAWS, model_only=True)

    def call(self, step: str, sizes: Sizes) -> tuple[StepTrace, Call]:
        """Return what measures one step, and the call that it measures."""
        if step == PREFILL:
            return StepTrace(self.steps, sizes.batch * sizes.length), self.steps.prefill(sizes)
        before, _ = self._run(PREFILL, self.sizes_of(sizes, length=sizes.length - 1))
        state = before.state.restore(self._device if before.has_data else torch.device("meta"))
        return StepTrace(self.steps, sizes.batch), self.steps.decode(sizes, state)

    def sizes_of(self, sizes: Sizes, **changed: int) -> Sizes:
        """Return ``sizes`` with some changes. Without an encoder, the prompt is as long as ``length``."""
        sizes = sizes._replace(**changed)
        return sizes._replace(prompt=sizes.length) if self.steps.first_tokens is None else sizes

    def _run(self, step: str, sizes: Sizes) -> tuple[StepTrace, Complexity]:
        trace, call = self.call(step, sizes)
        complexity, _ = trace.run(
            call.function,
            call.inputs,
            reuse_answers=self._reuse_answers,
            shapes=self._shapes,
            devices=self._devices,
        )
        return trace, complexity


class _StepLaw:
    """Makes the inputs for each size of a law, and measures them."""

    def __init__(self, server: Server, step: str) -> None:
        self._server, self._step = server, step
        self._current: StepTrace

    def make(self, **sizes: int) -> tuple[Callable[..., Any], tuple[tuple[Any, ...], dict[str, Any]]]:
        """Return the function to measure, and its arguments. `trace` has to measure them next."""
        length = sizes.get("length", self._server.sizes.length if self._step == DECODE else self._server.first)
        chosen = self._server.sizes_of(self._server.sizes, **{"length": length, "capacity": length, **sizes})
        self._current, call = self._server.call(self._step, chosen)
        return call.function, (call.inputs.args, call.inputs.kwargs)

    def trace(self, model: Callable[..., Any], inputs: Inputs, **options: Any) -> tuple[Complexity, Tracer]:
        """Measure what `make` returned last."""
        return self._current.run(model, inputs, **options)


def serving(  # noqa: PLR0913 -- the options of a measurement
    model: torch.nn.Module,
    *,
    prompt: int,
    new_tokens: int,
    batch: int = 1,
    cache: str | Callable[[int], Any] = "dynamic",
    inputs: Callable[..., Mapping[str, Any]] | None = None,
    prefill: Callable[..., Any] | None = None,
    decode: Callable[..., Any] | None = None,
    devices: Sequence[str | Device] = (),
    shapes: ShapesMode = "preferred",
) -> Serving:
    """Measure what a language model costs when it answers requests: the prefill, one decoding step, and the cache.

    The model runs on shapes, like in `measure`. It needs no weights.

    ::

        served = serving(model, prompt=2048, new_tokens=256, batch=8, devices=["H100"])
        served.prefill.flops, served.decode.flops, served.kv_cache_per_token, served.requests("H100")

    Args:
        model: a model of transformers that generates text. Any other model needs ``prefill`` and ``decode``.
        prompt: the number of tokens in each prompt; for a model with an encoder, the length of the encoder's input.
        new_tokens: the number of tokens that each request gets. The decoding step is measured with ``prompt`` +
            ``new_tokens`` tokens in the context, the new token of the step included.
        batch: the number of requests that are served together. All have equal lengths.
        cache: "dynamic" for the cache that the model makes itself, "static" for transformers' `StaticCache`, or a
            function of the number of tokens that returns a new cache.
        inputs: for models that take more than token ids: a function of ``batch`` and ``prompt`` that returns the
            keyword arguments of a prefill.
        prefill: for models of other libraries: a function of the model and the token ids, of shape (batch, prompt),
            which returns the cache.
        decode: for models of other libraries: a function of the model, the token ids, of shape (batch, 1), and the
            cache, which returns the cache with one more token.
        devices: devices for which to compute bounds: names, or profiles (`Device`).
        shapes: "only" raises an error if a model cannot be counted on shapes alone, instead of a run on data.

    Raises:
        UsageError: a size is no whole number above zero, the model is no model of transformers and there are no
            ``prefill`` and ``decode``, it returns no cache, or it needs data that it does not have.
        Exception: any exception that the model raises.
    """
    return make_server(
        model,
        prompt=prompt,
        new_tokens=new_tokens,
        batch=batch,
        cache=cache,
        inputs=inputs,
        prefill=prefill,
        decode=decode,
        devices=resolve_devices(devices),
        shapes=shapes,
    ).serve()


def make_server(  # noqa: PLR0913 -- the options of `serving`
    model: torch.nn.Module,
    *,
    prompt: int,
    new_tokens: int,
    batch: int = 1,
    cache: str | Callable[[int], Any] = "dynamic",
    inputs: Callable[..., Mapping[str, Any]] | None = None,
    prefill: Callable[..., Any] | None = None,
    decode: Callable[..., Any] | None = None,
    devices: Sequence[Device] = (),
    reuse_answers: bool = True,
    shapes: ShapesMode = "preferred",
) -> Server:
    """Return what measures a model in serving. The arguments are those of `serving`.

    Raises:
        UsageError: an argument is wrong.
    """
    if not isinstance(model, torch.nn.Module):
        raise UsageError(
            f"serving(model, ...): the model is a value of type {type(model).__name__}; hand over a torch.nn.Module"
        )
    for name, size in (("prompt", prompt), ("new_tokens", new_tokens), ("batch", batch)):
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise UsageError(f"serving(..., {name}={size!r}): write a whole number above zero")
    steps: Steps
    if prefill is not None and decode is not None:
        steps = FunctionSteps(model, prefill, decode)
    elif prefill is not None or decode is not None:
        raise UsageError("serving(...): prefill and decode belong together; hand over both, or none of them")
    elif is_of_transformers(model):
        steps = TransformersSteps(model, cache, inputs)
    else:
        raise UsageError(
            f"serving({type(model).__name__}, ...): this is no model of transformers that takes a cache; say how it "
            "runs, with prefill=lambda model, tokens: cache, decode=lambda model, tokens, cache: cache"
        )
    length = (steps.first_tokens or prompt) + new_tokens
    sizes = Sizes(batch, length if steps.first_tokens is None else prompt, length, length)
    return Server(
        steps,
        sizes,
        first=steps.first_tokens or prompt,
        device=device_of(model),
        devices=devices,
        reuse_answers=reuse_answers,
        shapes=shapes,
    )
