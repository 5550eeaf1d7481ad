"""The sizes of a language model that published formulas read: layers, width, heads, vocabulary, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_flopsbudget.errors import UsageError
from pytest_flopsbudget.quantities.parsing import nearest_spelling

#: Size → its names in configurations, in the order in which they are tried: those of transformers, nanoGPT, torchtitan.
CONFIG_NAMES: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "hidden": ("hidden_size", "n_embd", "d_model", "dim"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "head_dim": ("head_dim",),
    "value_dim": ("v_head_dim",),
    "vocabulary": ("vocab_size", "padded_vocab_size"),
}
#: Size → its meaning, for help texts and messages. The counts of parameters and tokens come from the measurement.
SIZES: Mapping[str, str] = {
    "layers": "the number of layers",
    "hidden": "the width of the hidden states",
    "heads": "the number of attention heads",
    "head_dim": "the width of a query head",
    "value_dim": "the width of a value head",
    "vocabulary": "the number of tokens in the vocabulary",
    "sequence": "the number of tokens in a sequence",
    "params": "the parameters",
    "active_params": "the parameters that one token uses",
    "embedding_params": "the parameters of embeddings",
    "position_params": "the parameters of position embeddings",
}


@dataclass(frozen=True, slots=True)
class ModelSizes:
    """Sizes of one model, each with its source."""

    #: Name, a key of `SIZES` → value.
    values: Mapping[str, int]
    #: Name → why the size is unknown, for sizes that a configuration has in another meaning.
    reasons: Mapping[str, str] = field(default_factory=dict)
    #: Name → where the value comes from: "config.num_hidden_layers", "given", "counted".
    sources: Mapping[str, str] = field(default_factory=dict)

    def need(self, name: str, formula: str) -> int:
        """Return a size.

        Args:
            name: a key of `SIZES`.
            formula: what needs the size, for the message.

        Raises:
            UsageError: the size is unknown. The message names it, and how to give it.
        """
        value = self.values.get(name)
        if value is None:
            read = " or ".join(f"config.{one}" for one in CONFIG_NAMES.get(name, ()))
            why = self.reasons.get(name) or (f"the model has no {read}" if read else "")
            raise UsageError(f"{formula} needs {name}, {SIZES[name]}{f': {why}' if why else ''}; {how_to_give(name)}")
        return value


def how_to_give(name: str) -> str:
    """Return how the caller gives a size."""
    return f"give it: sizes={{{name!r}: ...}}, or --{name.replace('_', '-')} N on the command line"


def read_config(config: Any) -> ModelSizes:
    """Return the sizes in a configuration: an object with attributes, or a mapping; None for a model without one.

    Of a transformers configuration of several models, the language model's part is read. If the configuration has no
    width of a head, it is the hidden width divided by the number of heads. Latent attention (`qk_nope_head_dim` and
    `qk_rope_head_dim`) has a query head of both widths. Published formulas are for a decoder, so the number of layers
    is not read from a configuration of an encoder with a decoder.
    """
    of_text = getattr(config, "get_text_config", None)
    config = of_text() if callable(of_text) else config
    values: dict[str, int] = {}
    sources: dict[str, str] = {}
    for size, names in CONFIG_NAMES.items():
        for name in names:
            value = _attribute(config, name)
            if type(value) is int and value > 0:
                values[size], sources[size] = value, f"config.{name}"
                break
    reasons = {}
    if _attribute(config, "is_encoder_decoder") and values.pop("layers", None):
        reasons["layers"] = "published formulas are for a decoder, and this model has an encoder too"
    parts = [_attribute(config, name) for name in ("qk_nope_head_dim", "qk_rope_head_dim")]
    if all(type(part) is int for part in parts):
        values["head_dim"], sources["head_dim"] = sum(parts), "config.qk_nope_head_dim + config.qk_rope_head_dim"
    if "head_dim" not in values and {"hidden", "heads"} <= values.keys():
        values["head_dim"], sources["head_dim"] = values["hidden"] // values["heads"], "hidden / heads"
    if "head_dim" in values:
        values.setdefault("value_dim", values["head_dim"])
        sources.setdefault("value_dim", "head_dim")
    return ModelSizes(values, reasons, sources)


def _attribute(config: Any, name: str) -> Any:
    return config.get(name) if isinstance(config, Mapping) else getattr(config, name, None)


def with_given(found: ModelSizes, given: Mapping[str, int]) -> ModelSizes:
    """Return the sizes, with those that the caller gave in place of those that were found.

    Raises:
        UsageError: a name is unknown, or a value is no whole number above 0.
    """
    for name, value in given.items():
        if name not in SIZES:
            near = nearest_spelling(name, SIZES)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(SIZES)}"
            raise UsageError(f"sizes: no size {name!r}; {hint}")
        if type(value) is not int or value < 1:
            raise UsageError(f"sizes: {name} is {value!r}, and not a whole number from 1 on")
    derived = dict(given)
    if "head_dim" not in given and {"hidden", "heads"} & given.keys():
        both = {**found.values, **given}
        if {"hidden", "heads"} <= both.keys():
            derived["head_dim"] = both["hidden"] // both["heads"]
    if "head_dim" in derived:
        derived.setdefault("value_dim", derived["head_dim"])
    sources = {name: "given" if name in given else "from the given sizes" for name in derived}
    return ModelSizes({**found.values, **derived}, found.reasons, {**found.sources, **sources})
