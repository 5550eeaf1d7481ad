"""The models of diffusers that control another model by an image, made small."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from model_zoo.diffusers_inputs import real, whole
from model_zoo.diffusers_small import Small

if TYPE_CHECKING:
    from collections.abc import Callable


def _together(name: str, settings: dict[str, Any], number: int = 2) -> Callable[[Any], Any]:
    """Return a function that builds a model from several models of the class ``name``."""

    def build(kind: Any) -> Any:
        import diffusers

        return kind([getattr(diffusers, name)(**settings) for _ in range(number)])

    return build


def _beside_transformer(kind: Any) -> Any:
    """Build a model that takes most of its parts from the transformer that it controls."""
    from diffusers import ZImageTransformer2DModel

    settings = {
        "dim": 16, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 1, "n_kv_heads": 2, "cap_feat_dim": 16,
        "axes_dims": [8, 4, 4], "axes_lens": [256, 32, 32],
    }  # fmt: skip
    control = kind(control_layers_places=[0], control_in_dim=16, dim=16, n_refiner_layers=1, n_heads=1, n_kv_heads=2)
    return kind.from_transformer(control, ZImageTransformer2DModel(**settings))


_CONTROLNET = {
    "block_out_channels": (32, 64), "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "cross_attention_dim": 32, "conditioning_embedding_out_channels": (16, 32),
}  # fmt: skip
_IMAGE_CONTROL = {
    "sample": real(1, 4, 16, 16), "timestep": whole(1, 1), "encoder_hidden_states": real(1, 8, 32),
    "controlnet_cond": real(1, 3, 32, 32),
}  # fmt: skip
_FLUX = {
    "in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16, "num_attention_heads": 2,
    "joint_attention_dim": 32, "pooled_projection_dim": 32, "axes_dims_rope": [4, 4, 8],
}  # fmt: skip
_FLUX_CONTROL = {
    "hidden_states": real(1, 16, 4), "controlnet_cond": real(1, 16, 4), "encoder_hidden_states": real(1, 8, 32),
    "pooled_projections": real(1, 32), "img_ids": real(16, 3), "txt_ids": real(8, 3), "timestep": torch.ones(1),
}  # fmt: skip
_HUNYUAN = {
    "sample_size": 8, "patch_size": 2, "in_channels": 4, "transformer_num_layers": 2, "attention_head_dim": 8,
    "num_attention_heads": 2, "cross_attention_dim": 8, "cross_attention_dim_t5": 8, "pooled_projection_dim": 4,
    "hidden_size": 16, "text_len": 4, "text_len_t5": 4,
}  # fmt: skip
_HUNYUAN_CONTROL = {
    "hidden_states": real(1, 4, 8, 8), "timestep": torch.ones(1), "controlnet_cond": real(1, 4, 8, 8),
    "encoder_hidden_states": real(1, 4, 8), "text_embedding_mask": torch.ones(1, 4),
    "encoder_hidden_states_t5": real(1, 4, 8), "text_embedding_mask_t5": torch.ones(1, 4),
    "image_meta_size": real(1, 6), "style": whole(0, 1), "image_rotary_emb": [torch.ones(16, 8), torch.zeros(16, 8)],
}  # fmt: skip
_QWEN = {
    "in_channels": 16, "out_channels": 4, "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 3,
    "joint_attention_dim": 16, "axes_dims_rope": (8, 4, 4),
}  # fmt: skip
_QWEN_CONTROL = {
    "hidden_states": real(1, 16, 16), "controlnet_cond": real(1, 16, 16), "encoder_hidden_states": real(1, 8, 16),
    "encoder_hidden_states_mask": whole(1, 1, 8), "timestep": torch.ones(1), "img_shapes": [(1, 4, 4)],
}  # fmt: skip
_SD3 = {
    "sample_size": 32, "patch_size": 1, "in_channels": 8, "num_layers": 1, "attention_head_dim": 8,
    "num_attention_heads": 4, "joint_attention_dim": 32, "caption_projection_dim": 32, "pooled_projection_dim": 64,
    "out_channels": 8,
}  # fmt: skip
_SD3_CONTROL = {
    "hidden_states": real(1, 8, 16, 16), "controlnet_cond": real(1, 8, 16, 16),
    "encoder_hidden_states": real(1, 8, 32), "pooled_projections": real(1, 64), "timestep": whole(1, 1),
}  # fmt: skip


# fmt: off
CONTROLS: dict[str, Small] = {
    "ControlNetModel": Small(_CONTROLNET, _IMAGE_CONTROL),
    "ControlNetUnionModel": Small(
        {**_CONTROLNET, "num_trans_channel": 32, "num_trans_head": 2, "num_proj_channel": 32,
         "addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 48},
        {**_IMAGE_CONTROL, "controlnet_cond": [real(1, 3, 32, 32)],
         "control_type": torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]]), "control_type_idx": [0],
         "added_cond_kwargs": {}, "conditioning_scale": 1.0},
    ),
    "CosmosControlNetModel": Small(
        {"n_controlnet_blocks": 2, "in_channels": 18, "model_channels": 32, "num_attention_heads": 2,
         "attention_head_dim": 16, "mlp_ratio": 2, "text_embed_dim": 32, "adaln_lora_dim": 4,
         "max_size": (4, 32, 32), "img_context_dim_in": 32, "img_context_dim_out": 32},
        {"controls_latents": real(1, 16, 1, 16, 16), "latents": real(1, 16, 1, 16, 16),
         "timestep": torch.tensor([0.5]), "encoder_hidden_states": (real(1, 12, 32), real(1, 4, 32)),
         "condition_mask": torch.ones(1, 1, 1, 16, 16), "padding_mask": torch.zeros(1, 1, 16, 16)},
    ),
    "FluxControlNetModel": Small(_FLUX, _FLUX_CONTROL),
    "FluxMultiControlNetModel": Small(
        inputs={**_FLUX_CONTROL, "controlnet_cond": [real(1, 16, 4), real(1, 16, 4)],
         "controlnet_mode": [whole(0, 1), whole(0, 1)], "conditioning_scale": [1.0, 0.5]},
        build=_together("FluxControlNetModel", _FLUX),
    ),
    "HunyuanDiT2DControlNetModel": Small(_HUNYUAN, _HUNYUAN_CONTROL),
    "HunyuanDiT2DMultiControlNetModel": Small(
        inputs={**_HUNYUAN_CONTROL, "controlnet_cond": [real(1, 4, 8, 8), real(1, 4, 8, 8)],
         "conditioning_scale": [1.0, 0.5]},
        build=_together("HunyuanDiT2DControlNetModel", _HUNYUAN),
    ),
    "MultiControlNetModel": Small(
        inputs={**_IMAGE_CONTROL, "controlnet_cond": [real(1, 3, 32, 32), real(1, 3, 32, 32)],
         "conditioning_scale": [1.0, 0.5]},
        build=_together("ControlNetModel", _CONTROLNET),
    ),
    "QwenImageControlNetModel": Small(_QWEN, _QWEN_CONTROL),
    "QwenImageMultiControlNetModel": Small(
        inputs={**_QWEN_CONTROL, "controlnet_cond": [real(1, 16, 16)], "conditioning_scale": [1.0]},
        build=_together("QwenImageControlNetModel", _QWEN, 1),
    ),
    "SD3ControlNetModel": Small(_SD3, _SD3_CONTROL),
    "SD3MultiControlNetModel": Small(
        inputs={**_SD3_CONTROL, "controlnet_cond": [real(1, 8, 16, 16), real(1, 8, 16, 16)],
         "conditioning_scale": [1.0, 0.5]},
        build=_together("SD3ControlNetModel", _SD3),
    ),
    "SanaControlNetModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_layers": 1, "num_attention_heads": 2,
         "attention_head_dim": 4, "num_cross_attention_heads": 2, "cross_attention_head_dim": 4,
         "cross_attention_dim": 8, "caption_channels": 8},
        {"hidden_states": real(1, 4, 16, 16), "encoder_hidden_states": real(1, 8, 8), "timestep": whole(1, 1),
         "controlnet_cond": real(1, 4, 16, 16)},
    ),
    "SparseControlNetModel": Small(
        {"block_out_channels": (8, 16), "conditioning_channels": 3,
         "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"), "cross_attention_dim": 16,
         "conditioning_embedding_out_channels": (8, 8), "norm_num_groups": 4, "attention_head_dim": 4,
         "motion_num_attention_heads": 2, "use_simplified_condition_embedding": False},
        {"sample": real(1, 4, 4, 16, 16), "timestep": torch.tensor(1),
         "encoder_hidden_states": real(4, 8, 16), "controlnet_cond": real(1, 3, 4, 32, 32),
         "conditioning_mask": real(1, 1, 4, 32, 32)},
    ),
    "ZImageControlNetModel": Small(
        inputs={"x": [real(16, 1, 16, 16)], "t": torch.tensor([0.5]), "cap_feats": [real(16, 16)],
         "control_context": [real(16, 1, 16, 16)]},
        build=_beside_transformer,
    ),
}
