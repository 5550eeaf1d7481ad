"""The transformers of diffusers that make images, made small."""

from __future__ import annotations

import torch

from model_zoo.diffusers_inputs import real, whole, yes
from model_zoo.diffusers_small import Small

# fmt: off
IMAGES: dict[str, Small] = {
    "AuraFlowTransformer2DModel": Small(
        {"sample_size": 32, "num_mmdit_layers": 1, "num_single_dit_layers": 1, "attention_head_dim": 8,
         "num_attention_heads": 4, "caption_projection_dim": 32, "joint_attention_dim": 32,
         "pos_embed_max_size": 256},
    ),
    "BriaFibo2Transformer2DModel": Small(
        {"in_channels": 4, "dim": 32, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "cap_feat_dim": 16,
         "injection_layer_ids": (0,), "perceiver_num_layers": 1, "min_num_gist_tokens": 4,
         "max_num_gist_tokens": 8, "gist_step": 2, "gist_min_text_len": 4, "gist_max_text_len": 32,
         "axes_dims": (8, 4, 4), "axes_lens": (64, 32, 32)},
        {"hidden_states": real(1, 4, 16, 16), "timestep": torch.tensor([0.5]),
         "encoder_hidden_states": real(1, 2, 8, 16)},
    ),
    "BriaFiboTransformer2DModel": Small(
        {"in_channels": 48, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8,
         "num_attention_heads": 2, "joint_attention_dim": 64, "text_encoder_dim": 32,
         "axes_dims_rope": [0, 4, 4]},
        {"hidden_states": real(1, 256, 48), "encoder_hidden_states": real(1, 32, 64), "img_ids": real(256, 3),
         "txt_ids": real(32, 3), "timestep": torch.tensor([1.0]), "text_encoder_layers": [real(1, 32, 32),
         real(1, 32, 32)]},
    ),
    "BriaTransformer2DModel": Small(
        {"in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 8,
         "num_attention_heads": 2, "joint_attention_dim": 32, "axes_dims_rope": [0, 4, 4]},
        {"hidden_states": real(1, 16, 4), "encoder_hidden_states": real(1, 48, 32), "img_ids": real(16, 3),
         "txt_ids": real(48, 3), "timestep": torch.tensor([1.0])},
    ),
    "ChromaTransformer2DModel": Small(
        {"in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
         "num_attention_heads": 2, "joint_attention_dim": 32, "axes_dims_rope": [4, 4, 8],
         "approximator_num_channels": 8, "approximator_hidden_dim": 16, "approximator_layers": 1},
    ),
    "CogView3PlusTransformer2DModel": Small(
        {"in_channels": 4, "num_layers": 2, "attention_head_dim": 4, "num_attention_heads": 2,
         "out_channels": 4, "text_embed_dim": 8, "time_embed_dim": 8, "condition_dim": 2,
         "pos_embed_max_size": 8, "sample_size": 8},
        {"hidden_states": real(1, 4, 8, 8), "encoder_hidden_states": real(1, 8, 8),
         "original_size": whole(64, 1, 2), "target_size": whole(64, 1, 2), "crop_coords": whole(0, 1, 2),
         "timestep": whole(44, 1)},
    ),
    "CogView4Transformer2DModel": Small(
        {"in_channels": 4, "num_layers": 2, "attention_head_dim": 4, "num_attention_heads": 4,
         "out_channels": 4, "text_embed_dim": 8, "time_embed_dim": 8, "condition_dim": 4},
        {"hidden_states": real(1, 4, 8, 8), "encoder_hidden_states": real(1, 8, 8), "timestep": whole(44, 1),
         "original_size": whole(64, 1, 2), "target_size": whole(64, 1, 2), "crop_coords": whole(0, 1, 2)},
    ),
    "DiTTransformer2DModel": Small(
        {"out_channels": 8, "num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 1,
         "num_embeds_ada_norm": 8, "sample_size": 8},
        {"hidden_states": real(1, 4, 8, 8), "timestep": whole(44, 1), "class_labels": torch.arange(1)},
    ),
    "ErnieImageTransformer2DModel": Small(
        {"hidden_size": 16, "num_attention_heads": 1, "num_layers": 1, "ffn_hidden_size": 16,
         "in_channels": 16, "out_channels": 16, "text_in_dim": 16, "rope_axes_dim": (8, 4, 4)},
        {"hidden_states": real(1, 16, 16, 16), "timestep": torch.tensor([1.0]), "text_bth": real(1, 16, 16),
         "text_lens": whole(16, 1)},
    ),
    "Flux2Transformer2DModel": Small(
        {"in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
         "num_attention_heads": 2, "joint_attention_dim": 32, "axes_dims_rope": [4, 4, 4, 4]},
    ),
    "Flux3Transformer2DModel": Small(
        {"in_channels": 4, "cond_in_channels": 4, "num_layers": 1, "num_single_layers": 1,
         "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 32,
         "axes_dims_rope": (4, 4, 4, 4)},
    ),
    "FluxTransformer2DModel": Small(
        {"in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
         "num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 32,
         "axes_dims_rope": [4, 4, 8]},
        {"hidden_states": real(1, 16, 4), "encoder_hidden_states": real(1, 48, 32),
         "pooled_projections": real(1, 32), "img_ids": real(16, 3), "txt_ids": real(48, 3),
         "timestep": torch.tensor([1.0])},
    ),
    "GlmImageTransformer2DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_layers": 1, "attention_head_dim": 8,
         "num_attention_heads": 2, "text_embed_dim": 32, "time_embed_dim": 16, "condition_dim": 8,
         "prior_vq_quantizer_codebook_size": 64},
        {"hidden_states": real(1, 4, 8, 8), "encoder_hidden_states": real(1, 12, 32),
         "prior_token_id": whole(44, 1), "prior_token_drop": torch.tensor([False]), "timestep": whole(44, 1),
         "target_size": torch.tensor([[8.0, 8.0]]), "crop_coords": torch.tensor([[0.0, 0.0]])},
    ),
    "HiDreamImageTransformer2DModel": Small(
        {"patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 1, "num_single_layers": 1,
         "attention_head_dim": 8, "num_attention_heads": 4, "caption_channels": [8, 4], "text_emb_dim": 8,
         "num_routed_experts": 2, "axes_dims_rope": (4, 2, 2), "max_resolution": (32, 32),
         "llama_layers": (0, 1), "force_inference_output": True},
        {"hidden_states": real(1, 4, 32, 32), "encoder_hidden_states_t5": real(1, 8, 8),
         "encoder_hidden_states_llama3": real(2, 1, 8, 4), "pooled_embeds": real(1, 8),
         "timesteps": whole(44, 1)},
    ),
    "HunyuanDiT2DModel": Small(
        {"sample_size": 8, "patch_size": 2, "in_channels": 4, "num_layers": 1, "attention_head_dim": 8,
         "num_attention_heads": 2, "cross_attention_dim": 8, "cross_attention_dim_t5": 8,
         "pooled_projection_dim": 4, "hidden_size": 16, "text_len": 4, "text_len_t5": 4},
        {"hidden_states": real(1, 4, 8, 8), "encoder_hidden_states": real(1, 4, 8),
         "text_embedding_mask": torch.ones(1, 4), "encoder_hidden_states_t5": real(1, 4, 8),
         "text_embedding_mask_t5": torch.ones(1, 4), "timestep": torch.tensor([44.0]),
         "image_meta_size": real(1, 6), "style": torch.arange(1), "image_rotary_emb": [torch.ones(1, 8),
         torch.zeros(1, 8)]},
    ),
    "HunyuanImageTransformer2DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8,
         "num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1, "text_embed_dim": 32,
         "text_embed_2_dim": 32, "rope_axes_dim": (4, 4)},
        {"hidden_states": real(1, 4, 16, 16), "timestep": torch.tensor([1.0]),
         "encoder_hidden_states": real(1, 8, 32), "encoder_attention_mask": yes(1, 8),
         "encoder_hidden_states_2": real(1, 8, 32), "encoder_attention_mask_2": yes(1, 8)},
    ),
    "Ideogram4Transformer2DModel": Small(
        {"in_channels": 16, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 4,
         "intermediate_size": 32, "adaln_dim": 16, "llm_features_dim": 24, "rope_theta": 10000,
         "mrope_section": (2, 1, 1)},
        {"hidden_states": real(1, 8, 16), "encoder_hidden_states": real(1, 8, 24),
         "timestep": torch.tensor([0.5]), "position_ids": torch.tensor([[[0, 0, 0], [1, 1, 1], [2, 2, 2],
         [3, 3, 3], [65536, 65536, 65536], [65536, 65536, 65537], [65536, 65537, 65536],
         [65536, 65537, 65537]]]), "segment_ids": whole(1, 1, 8),
         "indicator": torch.tensor([[3, 3, 3, 3, 2, 2, 2, 2]])},
    ),
    "Krea2Transformer2DModel": Small(
        {"in_channels": 16, "num_layers": 2, "attention_head_dim": 8, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 32, "timestep_embed_dim": 8, "text_hidden_dim": 16,
         "num_text_layers": 3, "text_num_attention_heads": 2, "text_num_key_value_heads": 1,
         "text_intermediate_size": 16, "num_layerwise_text_blocks": 1, "num_refiner_text_blocks": 1,
         "axes_dims_rope": (4, 2, 2)},
        {"hidden_states": real(1, 4, 16), "encoder_hidden_states": real(1, 4, 3, 16),
         "timestep": torch.tensor([0.5]), "position_ids": real(8, 3),
         "encoder_attention_mask": torch.tensor([[True, True, True, False]])},
    ),
    "LongCatImageTransformer2DModel": Small(
        {"in_channels": 4, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
         "num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 32,
         "axes_dims_rope": [4, 4, 8]},
    ),
    "Lumina2Transformer2DModel": Small(
        {"sample_size": 16, "in_channels": 4, "hidden_size": 24, "num_layers": 2, "num_refiner_layers": 1,
         "num_attention_heads": 3, "num_kv_heads": 1, "multiple_of": 2, "axes_dim_rope": (4, 2, 2),
         "axes_lens": (128, 128, 128), "cap_feat_dim": 32},
    ),
    "LuminaNextDiT2DModel": Small(
        {"sample_size": 16, "hidden_size": 24, "num_layers": 2, "num_attention_heads": 3, "num_kv_heads": 1,
         "multiple_of": 16, "learn_sigma": False, "cross_attention_dim": 32},
        {"hidden_states": real(1, 4, 16, 16), "encoder_hidden_states": real(1, 16, 32),
         "timestep": torch.tensor([0.5]), "encoder_mask": real(1, 16), "image_rotary_emb": real(384, 384, 4),
         "cross_attention_kwargs": {}},
    ),
    "NucleusMoEImageTransformer2DModel": Small(
        {"in_channels": 16, "out_channels": 4, "num_layers": 2, "attention_head_dim": 16,
         "num_attention_heads": 4, "joint_attention_dim": 16, "axes_dims_rope": (8, 4, 4),
         "moe_enabled": False, "capacity_factors": [8.0, 8.0]},
    ),
    "OmniGenTransformer2DModel": Small(
        {"hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 32,
         "num_layers": 20, "pad_token_id": 0, "vocab_size": 1000, "time_step_dim": 4,
         "rope_scaling": {"long_factor": [1, 2], "short_factor": [1, 2]}},
        {"hidden_states": real(1, 4, 8, 8), "timestep": torch.tensor([0.5]), "input_ids": whole(5, 1, 24),
         "input_img_latents": [real(1, 4, 8, 8)], "input_image_sizes": {0: [[0, 16]]},
         "attention_mask": torch.ones(1, 41, 41), "position_ids": torch.arange(41)[None]},
    ),
    "OvisImageTransformer2DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_layers": 1, "num_single_layers": 1,
         "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 32,
         "axes_dims_rope": (4, 4, 8)},
    ),
    "PRXTransformer2DModel": Small(
        {"in_channels": 4, "patch_size": 1, "context_in_dim": 8, "hidden_size": 8, "mlp_ratio": 2.0,
         "num_heads": 2, "depth": 2, "axes_dim": [2, 2]},
    ),
    "PixArtTransformer2DModel": Small(
        {"sample_size": 8, "num_layers": 1, "attention_head_dim": 2, "num_attention_heads": 2,
         "cross_attention_dim": 8, "num_embeds_ada_norm": 8, "use_additional_conditions": False},
    ),
    "PriorTransformer": Small(
        {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 2, "embedding_dim": 8,
         "num_embeddings": 7},
        {"hidden_states": real(1, 8), "timestep": 2, "proj_embedding": real(1, 8),
         "encoder_hidden_states": real(1, 7, 8)},
    ),
    "QwenImage21Transformer2DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_layers": 2, "attention_head_dim": 16,
         "num_attention_heads": 2, "context_in_dim": 32, "axes_dims_rope": (4, 6, 6)},
        {"hidden_states": real(1, 16, 4), "encoder_hidden_states": real(1, 8, 32),
         "timestep": torch.tensor([0.5]), "img_shapes": [[(1, 4, 4)]], "img_mask": torch.tensor([[False] * 8 +
         [True] * 4])},
    ),
    "QwenImageTransformer2DModel": Small(
        {"in_channels": 16, "out_channels": 4, "num_layers": 2, "attention_head_dim": 16,
         "num_attention_heads": 4, "joint_attention_dim": 16, "axes_dims_rope": (8, 4, 4)},
        {"hidden_states": real(1, 16, 16), "encoder_hidden_states": real(1, 8, 16),
         "encoder_hidden_states_mask": whole(1, 1, 8), "timestep": torch.tensor([1.0]),
         "img_shapes": [(1, 4, 4)]},
    ),
    "SD3Transformer2DModel": Small(
        {"sample_size": 32, "patch_size": 1, "in_channels": 4, "num_layers": 4, "attention_head_dim": 8,
         "num_attention_heads": 4, "caption_projection_dim": 32, "joint_attention_dim": 32,
         "pooled_projection_dim": 64, "out_channels": 4},
    ),
    "SanaTransformer2DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_layers": 1, "attention_head_dim": 4,
         "num_attention_heads": 2, "num_cross_attention_heads": 2, "cross_attention_head_dim": 4,
         "cross_attention_dim": 8, "caption_channels": 8},
    ),
    "TransformerTemporalModel": Small(
        {"num_attention_heads": 8, "attention_head_dim": 4, "in_channels": 4, "norm_num_groups": 1},
    ),
    "ZImageTransformer2DModel": Small(
        {"dim": 16, "n_layers": 1, "n_refiner_layers": 1, "n_heads": 1, "n_kv_heads": 2, "cap_feat_dim": 16,
         "axes_dims": [8, 4, 4], "axes_lens": [256, 32, 32]},
        {"x": [real(16, 1, 16, 16)], "cap_feats": [real(16, 16)], "t": torch.tensor([0.0])},
    ),
}
