"""Inputs for a model of transformers, chosen by the names of the arguments of its ``forward``."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from model_zoo.configurations import parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TOKENS = 16
FRAMES = 128
SAMPLES = 16_000
Inputs = dict[str, torch.Tensor]


def candidates(model: Any, given: Callable[[Any], Mapping[str, Any]] | None) -> Iterator[Mapping[str, Any]]:
    """Yield the inputs to try. The most likely inputs come first.

    Args:
        model: a model of transformers.
        given: makes inputs that are known to fit. If it is None, inputs are chosen by the names of the arguments.
    """
    if given:
        yield given(model)
        return
    signature = inspect.signature(model.forward).parameters
    required = [
        name
        for name, value in signature.items()
        if value.default is value.empty and value.kind not in {value.VAR_KEYWORD, value.VAR_POSITIONAL}
    ]
    main = [name for name in (model.main_input_name,) if isinstance(name, str) and name in signature]
    decoder = ["decoder_input_ids"] if "decoder_input_ids" in signature else []
    choices = [
        {*required, *main},
        {*required, *main, *decoder},
        {*required, *(name for name in ("input_ids", "pixel_values") if name in signature)},
        {*required, *(name for name in ("input_ids", "input_features") if name in signature)},
        {*required, *(name for name in ("input_ids",) if name in signature)},
        {*required, *(name for name in ("inputs_embeds",) if name in signature)},
        {*required, *main, *(name for name in ("attention_mask", "bbox") if name in signature)},
        {*required, *main, *(n for n in ("attention_mask", "token_type_ids", "position_ids") if n in signature)},
        {name for name in signature if name in _known(model)},
    ]
    seen: list[tuple[set[str], int]] = []
    for names in choices:
        if not names:
            continue
        most = max(len(_known(model).get(name, ())) for name in names)
        for form in range(max(most, 1)):
            if (names, form) in seen:
                continue
            seen.append((names, form))
            made = {}
            for name in names:
                forms = _known(model).get(name)
                if not forms:
                    break
                made[name] = forms[min(form, len(forms) - 1)]
            else:
                yield {name: build() for name, build in made.items()}


def unknown_inputs(model: Any) -> list[str]:
    """Return the required arguments of ``forward`` for which no inputs are known."""
    signature = inspect.signature(model.forward).parameters
    return [
        name
        for name, value in signature.items()
        if value.default is value.empty
        and value.kind not in {value.VAR_KEYWORD, value.VAR_POSITIONAL}
        and name not in _known(model)
    ]


def _setting(model: Any, *names: str, default: int) -> int:
    for part in parts(model.config):
        for name in names:
            value = getattr(part, name, None)
            if isinstance(value, (list, tuple)) and value:
                value = value[0]
            if type(value) is int and value > 0:
                return value
    return default


def _known(model: Any) -> dict[str, tuple[Any, ...]]:  # the forms that an argument may have
    size = _setting(model, "image_size", "img_size", default=224)
    channels = _setting(model, "num_channels", default=3)
    frames = _setting(model, "num_frames", "frames_per_clip", default=4)
    width = _setting(model, "hidden_size", "d_model", "n_embd", default=64)
    mel = _setting(
        model, "num_mel_bins", "input_feat_per_channel", "input_feat_size", "feature_size", "n_mels", default=80
    )
    length = _setting(model, "context_length", "prediction_length", default=64)
    past = length + max([0, *(getattr(model.config, "lags_sequence", None) or ())])
    variables = _setting(model, "num_input_channels", "input_size", default=1)
    long_frames = 2 * _setting(model, "max_source_positions", default=1500)

    def of(dtype: torch.dtype, *sizes: int, fill: int = 1) -> Any:
        if dtype.is_floating_point:
            return lambda: torch.rand(sizes)
        return lambda: torch.full(sizes, fill, dtype=dtype)

    patch = _setting(model, "patch_size", default=14)
    temporal = _setting(model, "temporal_patch_size", default=1)
    in_channels = _setting(model, "in_channels", "num_channels", "in_chans", default=3)
    patches = in_channels * temporal * patch * patch
    integer, real = torch.long, torch.float32
    ids = of(integer, 1, TOKENS, fill=5)
    image = of(real, 1, channels, size, size)
    video = of(real, 1, frames, channels, size, size)
    return {
        "input_ids": (ids,),
        "decoder_input_ids": (ids,),
        "attention_mask": (of(integer, 1, TOKENS),),
        "token_type_ids": (of(integer, 1, TOKENS, fill=0),),
        "bbox": (of(integer, 1, TOKENS, 4, fill=3),),
        "inputs_embeds": (of(real, 1, TOKENS, width),),
        "decoder_inputs_embeds": (of(real, 1, TOKENS, width),),
        "encoder_hidden_states": (of(real, 1, TOKENS, width),),
        "hidden_states": (of(real, 16, patches), of(real, 1, TOKENS, width), of(real, TOKENS, width)),
        "grid_thw": (lambda: torch.tensor([[1, 4, 4]]),),
        "image_grid_thw": (lambda: torch.tensor([[1, 4, 4]]),),
        "query_embeds": (of(real, 1, TOKENS, width),),
        "qformer_input_ids": (ids,),
        "pixel_values": (
            image,
            video,
            of(real, 1, 1, channels, size, size),
            of(real, 1, 2, channels, size, size),
            of(real, 1, 3, 224, 224),
            of(real, 1, 3, 512, 512),
            of(real, 1, 3, 640, 640),
            of(real, 1, 3, 32, 128),
            of(real, 16, patches),
        ),
        "pixel_values_videos": (video, of(real, 1, 16, channels, size, size)),
        "input_features": (
            of(real, 1, FRAMES, mel),
            of(real, 1, mel, FRAMES),
            of(real, 1, mel, long_frames),
            of(real, 1, 1, 1024, mel),
            of(real, 1, 1, 1001, mel),
        ),
        "input_features_mask": (of(integer, 1, FRAMES),),
        "input_values": (
            of(real, 1, SAMPLES),
            of(real, 1, 1, SAMPLES),
            of(real, 1, 1024, mel),
            of(real, 1, 1, 24_000),
            of(real, 1, TOKENS, mel),
        ),
        "padding_mask": (of(integer, 1, SAMPLES),),
        "decoder_input_values": (of(real, 1, TOKENS, mel),),
        "audio_values": (of(real, 1, 128, 128),),
        "waveform": (of(real, 1, SAMPLES),),
        "spectrogram": (of(real, 1, FRAMES, mel),),
        "past_values": (
            of(real, 1, past),
            of(real, 1, length, variables),
            of(real, 1, past, variables),
            of(real, 1, 512),
        ),
        "past_time_features": (of(real, 1, past, max(1, getattr(model.config, "num_time_features", 1) or 1)),),
        "past_observed_mask": (of(real, 1, past), of(real, 1, past, variables)),
        "static_categorical_features": (of(integer, 1, 1, fill=0),),
        "inputs": (ids, of(real, 1, TOKENS, 768)),
        "visual_feats": (of(real, 1, 8, _setting(model, "visual_feat_dim", default=64)),),
        "visual_pos": (of(real, 1, 8, 4),),
        "visual_embeds": (of(real, 1, 8, _setting(model, "visual_embedding_dim", default=64)),),
        "image_embeds": (of(real, 1, 8, width),),
        "image": (of(real, 1, 3, 224, 224),),
        "states": (of(real, 1, TOKENS, _setting(model, "state_dim", default=17)),),
        "actions": (of(real, 1, TOKENS, _setting(model, "act_dim", default=4)),),
        "rewards": (of(real, 1, TOKENS, 1),),
        "returns_to_go": (of(real, 1, TOKENS, 1),),
        "timesteps": (of(integer, 1, TOKENS, fill=3),),
        "aatype": (of(integer, 1, TOKENS),),
        "task_inputs": (of(integer, 1, 77),),
        "audio_codes": (of(integer, 1, _setting(model, "num_codebooks", "n_codebooks", default=8), TOKENS),),
        "xpath_tags_seq": (of(integer, 1, TOKENS, 50),),
    }
