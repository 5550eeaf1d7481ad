"""Settings and inputs for architectures of transformers that the general rules do not fit."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TOKENS = 16


@dataclass(frozen=True)
class Architecture:
    """What one architecture needs. A dot in the name of a setting leads into an inner configuration or dictionary."""

    #: Settings that have no default, or a default that does not work.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: Settings of the small configuration. They are set last.
    small: Mapping[str, Any] = field(default_factory=dict)
    #: Makes the inputs of a model by name. If it is None, the names of the arguments decide.
    inputs: Callable[[Any], Mapping[str, Any]] | None = None
    #: The name of the inner configuration that the class takes, if it does not take the whole one.
    part: str = ""
    #: Runs a model on the inputs, if that takes more than one call of the model, or a call of another method.
    run: Callable[..., Any] | None = None


class Run(torch.nn.Module):
    """Runs a model of transformers by a function: ``run(model, **inputs)``."""

    def __init__(self, model: Any, run: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self._run = run

    @property
    def config(self) -> Any:
        return self.model.config

    def forward(self, **inputs: Any) -> Any:
        return self._run(self.model, **inputs)


DEFAULT = Architecture()


def _real(*sizes: int) -> torch.Tensor:
    return torch.rand(sizes)


def _whole(value: int, *sizes: int) -> torch.Tensor:
    return torch.full(sizes, value)


def _yes(*sizes: int) -> torch.Tensor:
    return torch.ones(sizes, dtype=torch.bool)


def _text() -> torch.Tensor:
    return _whole(5, 1, TOKENS)


def _positions(rows: int, columns: int) -> torch.Tensor:
    """Return the (column, row) of each patch of one image, of shape (1, rows * columns, 2)."""
    return torch.tensor([[(column, row) for row in range(rows) for column in range(columns)]])


def _words(_: Any) -> dict[str, Any]:
    return {"input_ids": _text()}


def _only(name: str, *sizes: int) -> Callable[[Any], dict[str, Any]]:
    return lambda _: {name: _real(*sizes)}


def _series(model: Any) -> dict[str, Any]:
    past, future = model.config.context_length + max(model.config.lags_sequence), model.config.prediction_length
    return {
        "past_values": _real(1, past),
        "past_time_features": _real(1, past, 1),
        "past_observed_mask": _real(1, past),
        "future_values": _real(1, future),
        "future_time_features": _real(1, future, 1),
    }


def _flat_patches(model: Any) -> dict[str, Any]:
    """Return one image of 4 x 4 patches. Each patch is one row of numbers."""
    vision = getattr(model.config, "vision_config", model.config)
    return {
        "pixel_values": _real(1, 16, vision.num_channels * vision.patch_size**2),
        "pixel_attention_mask": _whole(1, 1, 16),
        "spatial_shapes": torch.tensor([[4, 4]]),
    }


def _patch_rows(model: Any) -> dict[str, Any]:
    """Return one image of 4 x 4 patches, two frames deep. Each patch is one row of numbers."""
    return {"pixel_values": _real(16, 3 * 2 * model.config.patch_size**2), "grid_thw": torch.tensor([[1, 4, 4]])}


def _patch_strip(model: Any) -> dict[str, Any]:
    """Return one image of 4 x 4 patches that lie side by side."""
    size = model.config.patch_size
    return {"pixel_values": _real(1, 3, size, 16 * size), "target_sizes": torch.tensor([[4, 4]], dtype=torch.int32)}


def _session(model: Any, frames: torch.Tensor) -> Any:
    """Return a new session for a video of shape (frames, 3, height, width). The model writes its findings there."""
    module = sys.modules[type(model).__module__]
    kind = next(value for name, value in vars(module).items() if name.endswith("InferenceSession"))
    height, width = frames.shape[-2:]
    where = dict.fromkeys(("inference_device", "inference_state_device", "video_storage_device"), frames.device)
    return kind(video=frames, video_height=height, video_width=width, dtype=frames.dtype, **where)


def _tracked(model: Any, frames: torch.Tensor, points: torch.Tensor) -> list[torch.Tensor]:
    """Track one object through all frames. The object is given by points on the first frame.

    Args:
        model: a model that follows objects through a video.
        frames: of shape (frames, 3, height, width).
        points: (column, row) of points in pixels, of shape (1, objects, points, 2).
    """
    session = _session(model, frames)
    labels = torch.ones(points.shape[:-1], dtype=torch.int32, device=points.device)
    session.add_point_inputs(session.obj_id_to_idx(1), 0, {"point_coords": points, "point_labels": labels})
    session.obj_with_new_inputs = [1]
    return [model(inference_session=session, frame_idx=number).pred_masks for number in range(len(frames))]


def _searched(model: Any, frames: torch.Tensor, input_ids: torch.Tensor) -> list[Any]:
    """Search all frames for the objects that a text of shape (1, tokens) names, and track the found objects."""
    session = _session(model, frames)
    prompt = session.add_prompt("text")
    session.prompt_input_ids[prompt] = input_ids
    session.prompt_attention_masks[prompt] = torch.ones_like(input_ids)
    return [model(inference_session=session, frame_idx=number).object_ids for number in range(len(frames))]


def _spoken(model: Any, input_ids: torch.Tensor, codes: torch.Tensor) -> tuple[Any, ...]:
    """Run the three transformers of Bark once. In use, each one reads what the one before it generated."""
    return model.semantic(input_ids), model.coarse_acoustics(input_ids), model.fine_acoustics(2, codes)


_SERIES = Architecture(settings={"prediction_length": 8, "context_length": 16, "num_time_features": 1}, inputs=_series)
_SESSION = Architecture(
    run=_tracked,
    inputs=lambda model: {
        "frames": _real(2, 3, model.config.image_size, model.config.image_size),
        "points": _real(1, 1, 1, 2),
    },
)
_HALF_ROTARY = {"rope_parameters.partial_rotary_factor": 0.5}
_HALF_ROTARY_TEXT = {f"text_config.{key}": value for key, value in _HALF_ROTARY.items()}
_ROPES = {"full_attention": {"rope_type": "default", "rope_theta": 10_000.0}}
_STAGES = {"backbone_config.out_features": ["stage1", "stage2", "stage3", "stage4"]}
_STRIDED_STAGES = {
    "backbone_config.stem_channels": [3, 48, 96],
    "backbone_config.stage_out_channels": [96, 96, 192, 384],
    "backbone_config.block_configs": [
        [[3, 96, 96, 1, True]],
        [[3, 96, 96, 2, False]],
        [[3, 96, 192, 2, False]],
        [[3, 192, 384, 2, True]],
    ],
}
#: The size, stride and padding of each convolution of a block that looks along text lines, by name.
_TEXT_BLOCK = {
    "reduce_channel": [1, 1, 0],
    "return_channel": [1, 1, 0],
    **{
        key: value
        for size, ratio in ((7, "longratio"), (5, "midratio"), (3, "shortratio"))
        for key, value in {
            f"vertical_long_to_small_conv_{ratio}": [(size, 1), 1, (size // 2, 0)],
            f"horizontal_small_to_long_conv_{ratio}": [(1, size), 1, (0, size // 2)],
            f"symmetric_conv_long_{ratio}": [(size, size), 1, (size // 2, size // 2)],
        }.items()
    },
}
_QWEN4 = {
    "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 256, "indexer_budget": 64,
    "indexer_compress_ratio": 4, "ngram_vocab_size_base": 1000,
}  # fmt: skip
_QWEN4_TEXT = {f"text_config.{key}": value for key, value in _QWEN4.items()}
_IMAGE_WORDS = {"<image>": 3, "<|extra_200|>": 4}

ARCHITECTURES: dict[str, Architecture] = {
    "autoformer": _SERIES,
    "aya_vision": Architecture(settings={"vision_config.num_attention_heads": 16}),
    "blt": Architecture(
        small={"encoder_hash_byte_group_vocab": 2000}, inputs=lambda _: {"input_ids": _text(), "use_cache": False}
    ),
    "bark": Architecture(run=_spoken, inputs=lambda _: {"input_ids": _text(), "codes": _whole(5, 1, TOKENS, 8)}),
    "bamba": Architecture(settings={"attn_layer_indices": [1]}),
    "blip-2": Architecture(
        small={"image_token_index": 3}, inputs=lambda _: {"pixel_values": _real(1, 3, 224, 224), "input_ids": _text()}
    ),
    "blip_2_qformer": Architecture(
        inputs=lambda model: {
            "query_embeds": _real(1, TOKENS, model.config.hidden_size),
            "encoder_hidden_states": _real(1, TOKENS, model.config.encoder_hidden_size),
        }
    ),
    "chameleon": Architecture(settings={"vocabulary_map": _IMAGE_WORDS}),
    "cohere_compass": Architecture(settings={"text_config.rope_parameters": _ROPES}, inputs=_words),
    "cohere_compass_text": Architecture(settings={"rope_parameters": _ROPES}),
    "dbrx": Architecture(settings={"attn_config.rope_theta": 10_000.0, "attn_config.clip_qkv": 8.0}),
    "deepseek_ocr2": Architecture(small={"text_config.mlp_layer_types": ["dense", "sparse"]}, inputs=_words),
    "depth_pro": Architecture(inputs=_only("pixel_values", 1, 3, 1536, 1536)),
    "diffusion_gemma": Architecture(
        settings={
            "text_config.num_experts": 4,
            "text_config.top_k_experts": 2,
            "text_config.moe_intermediate_size": 64,
        }
    ),
    "dots1": Architecture(
        settings={"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
    ),
    "edgetam": Architecture(
        settings={"vision_config.backbone_config.architecture": "repvit_m1"},
        small={"vision_config.backbone_channel_list": [384, 192, 96, 48]},
    ),
    "edgetam_video": _SESSION,
    "edgetam_vision_model": Architecture(
        settings={"backbone_config.architecture": "repvit_m1"},
        small={"backbone_channel_list": [384, 192, 96, 48]},
        inputs=_only("pixel_values", 1, 3, 1024, 1024),
    ),
    "emu3": Architecture(settings={"vocabulary_map": _IMAGE_WORDS}, inputs=_words),
    "esm": Architecture(settings={"vocab_size": 33, "pad_token_id": 1, "mask_token_id": 32}),
    "fun_asr_nano_encoder": Architecture(
        inputs=lambda _: {"input_features": _real(1, 64, 560), "input_features_mask": _whole(1, 1, 64)}
    ),
    "gemma3n_audio": Architecture(
        inputs=lambda model: {
            "audio_mel": _real(1, 128, model.config.input_feat_size),
            "audio_mel_mask": ~_yes(1, 128),
        }
    ),
    "gemma4_vision": Architecture(
        inputs=lambda model: {
            "pixel_values": _real(1, 36, 3 * model.config.patch_size**2),
            "pixel_position_ids": _positions(6, 6),
        }
    ),
    "glm46v": Architecture(settings=_HALF_ROTARY_TEXT, inputs=_words),
    "glm4v": Architecture(settings=_HALF_ROTARY_TEXT, inputs=_words),
    "glm4v_moe": Architecture(settings={"text_config.head_dim": 128, **_HALF_ROTARY_TEXT}, inputs=_words),
    "glm4v_moe_text": Architecture(settings={"head_dim": 128, **_HALF_ROTARY}),
    "glm4v_text": Architecture(settings=_HALF_ROTARY),
    "glm_image": Architecture(settings=_HALF_ROTARY_TEXT, inputs=_words),
    "glm_image_text": Architecture(settings=_HALF_ROTARY),
    "glm_image_vqmodel": Architecture(
        run=lambda model, hidden_states: model.encode(hidden_states),
        inputs=lambda model: {"hidden_states": _real(1, model.model.quant_conv.in_channels, 8, 8)},
    ),
    "glmga": Architecture(settings=_HALF_ROTARY_TEXT, inputs=_words),
    "granite4_vision": Architecture(
        settings={"downsample_rate": "4/8", "deepstack_layer_map": [[1, 0]], "spatial_target_layers": [1]},
        inputs=_words,
    ),
    "granite_speech5_ctc": Architecture(inputs=_only("input_features", 1, 64, 320)),
    "granite_speech5_encoder": Architecture(inputs=_only("input_features", 1, 64, 320)),
    "granitemoehybrid": Architecture(settings={"layer_types": ["mamba", "attention"], "num_hidden_layers": 2}),
    "hunyuan_vl": Architecture(
        settings={"text_config.head_dim": 128, "text_config.rope_parameters.mrope_section": [16, 16, 16, 16]},
        inputs=_words,
    ),
    "hunyuan_vl_text": Architecture(
        settings={"head_dim": 128, "rope_parameters.mrope_section": [16, 16, 16, 16]}, inputs=_words
    ),
    "idefics": Architecture(
        inputs=lambda _: {
            "input_ids": _text(),
            "attention_mask": _whole(1, 1, TOKENS),
            "pixel_values": _real(1, 1, 3, 224, 224),
            "image_attention_mask": _whole(1, 1, TOKENS, 1),
        }
    ),
    "informer": _SERIES,
    "inkling2_vision": Architecture(
        inputs=lambda _: {"pixel_values": _real(16, 40, 40, 3), "image_grid_thw": torch.tensor([[1, 4, 4]])}
    ),
    "instructblip": Architecture(
        small={"image_token_index": 3},
        inputs=lambda _: {"pixel_values": _real(1, 3, 224, 224), "qformer_input_ids": _text(), "input_ids": _text()},
    ),
    "instructblipvideo": Architecture(
        small={"video_token_index": 3},
        inputs=lambda _: {"pixel_values": _real(1, 4, 3, 224, 224), "qformer_input_ids": _text(), "input_ids": _text()},
    ),
    "jamba": Architecture(settings={"attn_layer_offset": 1, "attn_layer_period": 2}),
    "kimi_k25_vision": Architecture(
        inputs=lambda model: {
            "pixel_values": _real(16, 3, model.config.patch_size, model.config.patch_size),
            "grid_thw": torch.tensor([[1, 4, 4]]),
        }
    ),
    "kosmos-2": Architecture(
        inputs=lambda _: {
            "pixel_values": _real(1, 3, 224, 224),
            "input_ids": _whole(5, 1, 80),
            "image_embeds_position_mask": torch.cat([_whole(1, 1, 64), _whole(0, 1, 16)], 1),
        }
    ),
    "lfm2_moe": Architecture(
        settings={"layer_types": ["conv", "full_attention"], "num_hidden_layers": 2}, small={"num_dense_layers": 1}
    ),
    "llama4": Architecture(inputs=_words),
    "lw_detr": Architecture(
        settings={"projector_scale_factors": [1.0]},
        small={"backbone_config.out_indices": [1, 2], "num_queries": 30},
        inputs=_only("pixel_values", 1, 3, 256, 256),
    ),
    "lxmert": Architecture(
        inputs=lambda model: {
            "input_ids": _text(),
            "visual_feats": _real(1, 8, model.config.visual_feat_dim),
            "visual_pos": _real(1, 8, 4),
        }
    ),
    "mimi_decoder": Architecture(inputs=lambda model: {"latents": _real(1, model.config.hidden_size, 8)}),
    "minicpm_ocr_vision": Architecture(inputs=_patch_strip),
    "minicpmv4_7_vision": Architecture(inputs=_patch_strip),
    "moonshine_streaming": Architecture(
        settings={"num_key_value_heads": 8},
        inputs=lambda _: {"input_values": _real(1, 16_000), "decoder_input_ids": _text()},
    ),
    "muse_glimmer_assistant": Architecture(
        inputs=lambda model: {
            "noise_embeds": _real(1, TOKENS, model.config.hidden_size),
            "context_hidden_states": _real(1, TOKENS, len(model.config.target_layer_ids) * model.config.hidden_size),
        }
    ),
    "muse_glimmer_vision": Architecture(inputs=_patch_rows),
    "muse_spark_audio": Architecture(inputs=_only("input_values", 1, 4 * 1920)),
    "muse_spark_vision": Architecture(inputs=_patch_rows),
    "musicgen": Architecture(part="decoder", inputs=lambda _: {"input_ids": _whole(5, 4, TOKENS)}),
    "musicgen_melody": Architecture(part="decoder", inputs=lambda _: {"input_ids": _whole(5, 4, TOKENS)}),
    "neucodec": Architecture(
        inputs=lambda _: {"input_values": _real(1, 1, 16_000), "input_features": _real(1, 50, 160)}
    ),
    "omdet-turbo": Architecture(
        inputs=lambda _: {
            "pixel_values": _real(1, 3, 640, 640),
            "classes_input_ids": _whole(5, 2, 77),
            "classes_attention_mask": _whole(1, 2, 77),
            "tasks_input_ids": _whole(5, 1, 77),
            "tasks_attention_mask": _whole(1, 1, 77),
            "classes_structure": torch.tensor([2]),
        }
    ),
    "pe_audio_video": Architecture(
        inputs=lambda _: {"pixel_values_videos": _real(1, 4, 3, 336, 336), "input_values": _real(1, 1, 16_000)}
    ),
    "pe_audio_video_encoder": Architecture(
        inputs=lambda _: {"pixel_values_videos": _real(1, 4, 3, 336, 336), "input_values": _real(1, 1, 16_000)}
    ),
    "pe_video": Architecture(inputs=lambda _: {"pixel_values_videos": _real(1, 4, 3, 336, 336), "input_ids": _text()}),
    "pe_video_encoder": Architecture(inputs=_only("pixel_values_videos", 1, 4, 3, 336, 336)),
    "perception_lm": Architecture(
        settings={
            "vision_config.architecture": "vit_tiny_patch16_224",
            "vision_config.model_args": {"embed_dim": 192},
        },
        inputs=_words,
    ),
    "pi0": Architecture(
        inputs=lambda model: {
            "action_embeds": _real(1, 51, model.config.dit_config.hidden_size),
            "input_ids": _text(),
            "attention_mask": _whole(1, 1, TOKENS),
            "pixel_values": _real(1, 1, 3, 224, 224),
            "pixel_attention_mask": _yes(1, 1),
        }
    ),
    "pocket_tts_audio_tokenizer_decoder": Architecture(
        inputs=lambda model: {"latents": _real(1, model.config.hidden_size, 8)}
    ),
    "pp_ocrv6_medium_det": Architecture(
        settings={
            **_STAGES,
            "intraclass_block_config": _TEXT_BLOCK,
            "scale_factor_list": [1, 2, 4, 8],
            "kernel_list": [3, 2, 2],
        },
        small=_STRIDED_STAGES,
    ),
    "pp_ocrv6_small_det": Architecture(
        settings=_STAGES,
        small={**_STRIDED_STAGES, "layer_list_out_channels": [96, 96, 192, 384]},
    ),
    "qwen3_asr_encoder": Architecture(
        inputs=lambda _: {"input_features": _real(1, 128, 200), "input_features_mask": _whole(1, 1, 200)}
    ),
    "qwen3_omni_moe_thinker": Architecture(settings={"text_config.head_dim": 128}, inputs=_words),
    "qwen4_exp": Architecture(settings=_QWEN4_TEXT, inputs=_words),
    "qwen4_exp_text": Architecture(settings=_QWEN4),
    "sam2_video": _SESSION,
    "sam3_tracker_video": _SESSION,
    "sam3_video": Architecture(
        small={"image_size": 336},
        run=_searched,
        inputs=lambda model: {
            "frames": _real(2, 3, model.config.image_size, model.config.image_size),
            "input_ids": _text(),
        },
    ),
    "seggpt": Architecture(
        inputs=lambda _: {
            name: _real(1, 3, 448, 448) for name in ("pixel_values", "prompt_pixel_values", "prompt_masks")
        }
    ),
    "siglip2": Architecture(inputs=lambda model: {"input_ids": _text(), **_flat_patches(model)}),
    "siglip2_vision_model": Architecture(inputs=_flat_patches),
    "speecht5": Architecture(
        inputs=lambda model: {
            "input_values": _real(1, TOKENS, model.config.hidden_size),
            "decoder_input_values": _real(1, TOKENS, model.config.hidden_size),
        }
    ),
    "step3p7": Architecture(settings={"text_config.sliding_window": 8}, inputs=_words),
    "t5gemma2_encoder": Architecture(settings={"text_config.dropout_rate": 0.0}, inputs=_words),
    "time_series_transformer": _SERIES,
    "timesfm": Architecture(
        inputs=lambda _: {
            "past_values": _real(1, 512),
            "past_values_padding": _real(1, 512) * 0,
            "freq": _whole(0, 1, 1),
        }
    ),
    "timm_backbone": Architecture(settings={"backbone": "resnet18", "use_pretrained_backbone": False}),
    "tvp": Architecture(
        settings={"num_frames": 4, "max_img_size": 224},
        inputs=lambda _: {
            "input_ids": _text(),
            "attention_mask": _whole(1, 1, TOKENS),
            "pixel_values": _real(1, 4, 3, 224, 224),
        },
    ),
    "udop": Architecture(
        inputs=lambda _: {
            "input_ids": _text(),
            "bbox": _real(1, TOKENS, 4),
            "pixel_values": _real(1, 3, 224, 224),
            "decoder_input_ids": _text(),
        }
    ),
    "uvdoc": Architecture(settings={"backbone_config.out_indices": [1, 2, 3, 4, 5, 6]}),
    "vibevoice_acoustic_tokenizer_encoder": Architecture(inputs=_only("hidden_states", 1, 1, 24_000)),
    "video_llama_3_vision": Architecture(
        inputs=lambda model: {
            "pixel_values": _real(16, 3 * model.config.patch_size**2),
            "grid_thw": torch.tensor([[1, 4, 4]]),
            "merge_sizes": torch.tensor([2]),
        }
    ),
    "voxtral_realtime_text": Architecture(
        inputs=lambda model: {"input_ids": _text(), "t_cond": _real(1, 1, model.config.hidden_size)}
    ),
    "wav2vec2-bert": Architecture(inputs=_only("input_features", 1, 64, 160)),
    "xcodec2": Architecture(
        inputs=lambda _: {"input_values": _real(1, 1, 16_000), "input_features": _real(1, 50, 160)}
    ),
    "xmod": Architecture(settings={"default_language": "en_XX"}),
}
