"""Make a default configuration of transformers small: fewer layers, narrower layers, fewer words and experts.

The width and the number of heads are divided by one factor, so that the size of a head stays the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from model_zoo.architectures import ARCHITECTURES, DEFAULT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WORDS = 2000
EXPERTS, CHOSEN = 4, 2
#: By how much a configuration may become narrower.
FACTORS = (16, 12, 8, 6, 4, 3, 2, 1)
#: Narrower layers than this are not divided.
NARROW = 32

_HEADS = re.compile(r"(heads|n_head|heads_per_stage|heads_per_layer)$")
_SHARED_HEADS = re.compile(r"(key_value|kv|group)")
_WIDTH = re.compile(
    r"(hidden_size|hidden_sizes|intermediate_size|d_model|d_ff|d_inner|n_embd|n_inner|ffn_dim|embed_dim|embed_dims|"
    r"(^|_)dim|dims|width|channels|embedding_size|embedding_dim|hidden_dim|mlp_dim|proj_dim|projection_dim|dim_feedforward|"
    r"projection_size|embed_dim_per_stage|backbone_channel_list|d_latents|_units|pos_feats|model_dim|output_dim|input_dim)$"
)
_NO_WIDTH = re.compile(
    r"(head_dim|head_size|rope|rotary|num_channels|audio_channels|in_channels$|input_channels|input_dim$|kernel|codebook|"
    r"cross_attention_shape|patch_dim|visual_pos|pos_emb)"
)
_LAYERS = re.compile(r"(^|_)(layers|layer|depth)$")
_NO_LAYERS = re.compile(
    r"(feat_extract|feature_layer|insert_layer|window_layers|cross_layer|conv_layers|adapter_layers|first|last|residual_layers)"
)
_EXPERTS = re.compile(
    r"^(num_experts|num_local_experts|n_routed_experts|moe_num_experts|zero_expert_num|num_moe_experts)$"
)
_CHOSEN = re.compile(r"^(num_experts_per_tok|moe_topk|moe_k|num_experts_per_token|top_k_experts|moe_top_k)$")
_GROUPS = re.compile(r"^(n_group|topk_group|num_expert_group)$")
_PLACES = re.compile(r"^(?!out_|_).*(indices|indexes|index|layer_ids|attention_layers|layer_idx)$")
_TOKEN = re.compile(r"(token_id|token_index|_token_ids)$")


def default(name: str) -> Any:
    """Return the default configuration of an architecture, with the settings that the model requires."""
    from transformers import CONFIG_MAPPING

    settings = ARCHITECTURES.get(name, DEFAULT).settings
    config = CONFIG_MAPPING[name](**{key: value for key, value in settings.items() if "." not in key})
    put(config, {key: value for key, value in settings.items() if "." in key})
    return config


def put(config: Any, settings: Mapping[str, Any]) -> None:
    """Set settings by name. A name with dots leads through configurations and dictionaries."""
    for key, value in settings.items():
        target, _, last = key.rpartition(".")
        part = config
        for step in filter(None, target.split(".")):
            part = part[step] if isinstance(part, dict) else getattr(part, step)
        if isinstance(part, dict):
            part[last] = value
        else:
            setattr(part, last, value)


def fill(config: Any) -> bool:
    """Give a value to each setting that is None. Return whether any setting was None."""
    found = False
    for part in parts(config):
        heads, width = getattr(part, "num_attention_heads", None), getattr(part, "hidden_size", None)
        wanted = {"num_experts_per_tok": CHOSEN, "n_routed_experts": EXPERTS, "num_key_value_heads": heads}
        if type(heads) is int and type(width) is int:
            wanted["head_dim"] = width // heads
        for key, value in wanted.items():
            if key in vars(part) and vars(part)[key] is None:
                _set(part, key, value)
                found = True
    return found


def parts(config: Any) -> Iterator[Any]:
    """Yield a configuration and all configurations inside of it."""
    from transformers import PreTrainedConfig

    yield config
    for value in list(vars(config).values()):
        if isinstance(value, PreTrainedConfig):
            yield from parts(value)


def divisor(config: Any) -> int:
    """Return the largest of `FACTORS` that divides every number of attention heads.

    If the model has no attention, return 4.
    """
    heads = [
        number
        for part in parts(config)
        for key, value in vars(part).items()
        if _HEADS.search(key) and not _SHARED_HEADS.search(key)
        for number in (value if isinstance(value, (list, tuple)) else [value])
        if isinstance(number, int) and number > 0
    ]
    if not heads:
        return 4
    return next(factor for factor in FACTORS if not any(number % factor for number in heads))


def shrink(config: Any, *, factor: int, layers: bool) -> None:
    """Make the configuration small in place.

    Args:
        config: a configuration of transformers.
        factor: the number by which widths and numbers of heads are divided.
        layers: whether to remove layers.
    """
    for part in parts(config):
        _fewer_words(part)
        _fewer_experts(part)
        if layers:
            _fewer_layers(part)
        if factor > 1:
            _narrower(part, factor)


def _set(part: Any, key: str, value: Any) -> None:
    try:
        setattr(part, key, value)
    except Exception:  # noqa: BLE001 -- a configuration that refuses a value keeps the one that it has
        return


def _fewer_words(part: Any) -> None:
    words = [key for key in vars(part) if key.endswith("vocab_size") and isinstance(vars(part)[key], int)]
    if not any(vars(part)[key] > WORDS for key in words):
        return
    for key in words:
        if vars(part)[key] > WORDS:
            _set(part, key, WORDS)
    moved: dict[int, int] = {}

    def small(number: Any) -> Any:
        if isinstance(number, bool) or not isinstance(number, int) or number < WORDS:
            return number
        return moved.setdefault(number, WORDS - 1 - len(moved))

    for key, value in list(vars(part).items()):
        if _TOKEN.search(key):
            _set(part, key, [small(item) for item in value] if isinstance(value, (list, tuple)) else small(value))


def _fewer_experts(part: Any) -> None:
    if not any(_EXPERTS.match(key) and isinstance(value, int) for key, value in vars(part).items()):
        return
    for key, value in list(vars(part).items()):
        if not isinstance(value, int) or isinstance(value, bool):
            continue
        if _EXPERTS.match(key):
            _set(part, key, min(value, EXPERTS))
        elif _CHOSEN.match(key):
            _set(part, key, min(value, CHOSEN))
        elif _GROUPS.match(key):
            _set(part, key, 1)


def _fewer_layers(part: Any) -> None:
    """Keep one layer of each type, but at least two layers."""
    values = dict(vars(part))
    numbers = {
        key: value
        for key, value in values.items()
        if _LAYERS.search(key) and not _NO_LAYERS.search(key) and type(value) is int and value > 2  # noqa: PLR2004
    }
    types = values.get("layer_types") or values.get("layers_block_type") or ()
    kept = sorted({list(types).index(kind) for kind in set(types)}) if types else []
    if len(kept) < 2:  # noqa: PLR2004
        kept = [0, 1] if not kept or kept == [0] else [0, kept[0]]
    for key, value in values.items():
        if type(value) in {list, tuple} and value and len(value) in set(numbers.values()) and not key.startswith("_"):
            _set(part, key, type(value)(value[place] for place in kept if place < len(value)))
        elif key == "depths" and isinstance(value, (list, tuple)) and all(type(item) is int for item in value):
            _set(part, key, type(value)(min(item, 2) for item in value))
        elif numbers and _PLACES.match(key) and isinstance(value, (list, tuple)) and value:
            _set(part, key, type(value)(place for place in value if place < len(kept)) or type(value)([len(kept) - 1]))
    for key in numbers:
        _set(part, key, len(kept))
    if "first_k_dense_replace" in values:
        _set(part, "first_k_dense_replace", 1)
    if "num_kv_shared_layers" in values:
        _set(part, "num_kv_shared_layers", 0)


def _narrower(part: Any, factor: int) -> None:
    for key, value in list(vars(part).items()):
        if _HEADS.search(key):
            _set(part, key, _divided(value, factor, 1))
        elif _WIDTH.search(key) and not _NO_WIDTH.search(key):
            _set(part, key, _divided(value, factor, NARROW))


def _divided(value: Any, factor: int, least: int) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_divided(item, factor, least) for item in value)
    if type(value) is not int or value < least:
        return value
    if least > 1 and value % factor:
        return value
    return max(1, value // factor)
