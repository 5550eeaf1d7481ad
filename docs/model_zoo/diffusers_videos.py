"""The transformers of diffusers that make videos and audio, made small."""

from __future__ import annotations

from typing import Any

import torch

from model_zoo.diffusers_inputs import real, whole, yes
from model_zoo.diffusers_small import Small


def _animated(model: Any) -> dict[str, Any]:
    """Return the inputs of a model that writes its keys and values to a cache."""
    from diffusers.models.transformers.transformer_wan_animate_2 import WanAnimate2KVCache

    return {
        "hidden_states": [real(16, 2, 4, 4)],
        "timestep": torch.tensor([1.0]),
        "encoder_hidden_states": [real(8, 32)],
        "condition_latents": [real(20, 2, 4, 4)],
        "encoder_hidden_states_image": real(1, 4, 1280),
        "kv_cache": WanAnimate2KVCache(model.config.num_layers),
        "kv_cache_mode": "extract",
        "seq_len": 8,
        "offset_grid_sizes": whole(2, 1, 3),
    }


def _refined(model: Any) -> dict[str, Any]:
    """Return the inputs of a model that takes the rotary embeddings of its frames: two frames of 4 x 4 patches."""
    places = model.build_rotary_emb_for_absolute_positions(1, [0, 1], 4, 4, torch.device("cpu"), 24.0)
    return {
        "hidden_states": real(1, 32, 4),
        "encoder_hidden_states": real(1, 8, 16),
        "timestep": torch.ones(1, 32),
        "video_rotary_emb": places,
    }


# fmt: off
VIDEOS: dict[str, Small] = {
    "AceStepTransformer1DModel": Small(
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 8, "in_channels": 24, "audio_acoustic_hidden_dim": 8,
         "rope_theta": 10000.0, "sliding_window": 16},
        {"hidden_states": real(1, 8, 8), "timestep": torch.tensor([1.54]), "timestep_r": torch.tensor([1.54]),
         "encoder_hidden_states": real(1, 10, 32), "context_latents": real(1, 8, 16)},
    ),
    "AllegroTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "cross_attention_dim": 16,
         "sample_width": 8, "sample_height": 8, "sample_frames": 8, "caption_channels": 8},
    ),
    "AnyFlowFARTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4,
         "text_dim": 16, "ffn_dim": 32, "num_layers": 2, "rope_max_seq_len": 32},
        {"hidden_states": real(1, 4, 4, 16, 16), "timestep": torch.full((1, 4), 500.0),
         "r_timestep": torch.full((1, 4), 250.0), "encoder_hidden_states": real(1, 12, 16),
         "chunk_partition": [2, 2]},
    ),
    "AnyFlowTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4,
         "text_dim": 16, "ffn_dim": 32, "num_layers": 2, "rope_max_seq_len": 32},
        {"hidden_states": real(1, 2, 4, 16, 16), "timestep": torch.tensor([[500.0, 500.0]]),
         "r_timestep": torch.tensor([[250.0, 250.0]]), "encoder_hidden_states": real(1, 12, 16)},
    ),
    "ChronoEditTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 8, "text_dim": 32, "freq_dim": 16, "ffn_dim": 32,
         "num_layers": 2, "rope_max_seq_len": 64},
    ),
    "CogVideoXTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4,
         "time_embed_dim": 2, "text_embed_dim": 8, "num_layers": 2, "sample_width": 8, "sample_height": 8,
         "sample_frames": 8, "max_text_seq_length": 8},
    ),
    "ConsisIDTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 4,
         "time_embed_dim": 2, "text_embed_dim": 8, "num_layers": 1, "sample_width": 8, "sample_height": 8,
         "sample_frames": 8, "max_text_seq_length": 8, "cross_attn_interval": 1, "is_train_face": True,
         "cross_attn_dim_head": 1, "cross_attn_num_heads": 1, "LFE_id_dim": 2, "LFE_vit_dim": 2,
         "LFE_depth": 5, "LFE_dim_head": 8, "LFE_num_heads": 2, "LFE_num_id_token": 1, "LFE_num_querie": 1,
         "LFE_output_dim": 10, "LFE_ff_mult": 1, "LFE_num_scale": 1},
        {"hidden_states": real(1, 1, 4, 8, 8), "encoder_hidden_states": real(1, 8, 8),
         "timestep": whole(44, 1), "id_vit_hidden": [torch.ones(1, 2, 2)], "id_cond": torch.ones(1, 2)},
    ),
    "Cosmos3OmniTransformer": Small(
        {"head_dim": 6, "hidden_act": "relu2", "hidden_size": 12, "intermediate_size": 24,
         "latent_channel": 2, "latent_patch_size": 1, "num_attention_heads": 2, "num_hidden_layers": 2,
         "num_key_value_heads": 1, "patch_latent_dim": 2, "qk_norm_for_text": False, "rms_norm_eps": 1e-05,
         "rope_axes_dim": [1, 1, 1], "rope_theta": 100000000.0, "vocab_size": 32},
        {"input_ids": whole(1, 1), "text_indexes": torch.arange(1), "position_ids": whole(0, 3, 3),
         "und_len": 2, "sequence_length": 3, "vision_tokens": [real(1, 2, 1, 1, 1)],
         "vision_token_shapes": [(1, 1, 1)], "vision_sequence_indexes": whole(2, 1),
         "vision_mse_loss_indexes": whole(2, 1), "vision_timesteps": torch.tensor([1.0]),
         "vision_noisy_frame_indexes": [torch.arange(1)]},
    ),
    "CosmosTransformer3DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 12,
         "num_layers": 2, "mlp_ratio": 2, "text_embed_dim": 16, "adaln_lora_dim": 4, "max_size": (4, 32, 32)},
        {"hidden_states": real(1, 4, 1, 16, 16), "timestep": whole(44, 1),
         "encoder_hidden_states": real(1, 12, 16), "attention_mask": torch.ones(1, 12), "fps": 30,
         "padding_mask": torch.zeros(1, 1, 16, 16)},
    ),
    "EasyAnimateTransformer3DModel": Small(
        {"attention_head_dim": 16, "num_attention_heads": 2, "in_channels": 4, "mmdit_layers": 2,
         "num_layers": 2, "out_channels": 4, "patch_size": 2, "text_embed_dim": 16, "time_embed_dim": 8},
    ),
    "HeliosTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4,
         "text_dim": 16, "ffn_dim": 32, "num_layers": 2, "rope_dim": (4, 4, 4)},
    ),
    "HunyuanVideo15Transformer3DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8,
         "num_layers": 2, "num_refiner_layers": 1, "mlp_ratio": 2.0, "text_embed_dim": 16,
         "text_embed_2_dim": 8, "image_embed_dim": 12, "rope_axes_dim": (2, 2, 4), "target_size": 16,
         "task_type": "t2v"},
        {"hidden_states": real(1, 4, 1, 8, 8), "timestep": torch.tensor([1.0]),
         "encoder_hidden_states": real(1, 6, 16), "encoder_hidden_states_2": real(1, 4, 8),
         "encoder_attention_mask": torch.ones(1, 6), "encoder_attention_mask_2": torch.ones(1, 4),
         "image_embeds": torch.zeros(1, 3, 12)},
    ),
    "HunyuanVideoFramepackTransformer3DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 10,
         "num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1, "text_embed_dim": 16,
         "pooled_projection_dim": 8, "rope_axes_dim": (2, 4, 4), "has_image_proj": True, "image_proj_dim": 16,
         "has_clean_x_embedder": True},
        {"hidden_states": real(1, 4, 3, 4, 4), "timestep": whole(44, 1),
         "encoder_hidden_states": real(1, 12, 16), "pooled_projections": real(1, 8),
         "encoder_attention_mask": yes(1, 12), "guidance": whole(44, 1), "image_embeds": real(1, 12, 16),
         "indices_latents": torch.tensor([1.0, 1.0, 1.0]), "latents_clean": real(1, 4, 2, 4, 4),
         "indices_latents_clean": torch.tensor([1.0, 1.0]), "latents_history_2x": real(1, 4, 2, 4, 4),
         "indices_latents_history_2x": torch.tensor([1.0, 1.0]), "latents_history_4x": real(1, 4, 8, 4, 4),
         "indices_latents_history_4x": torch.ones(8)},
    ),
    "HunyuanVideoTransformer3DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 10,
         "num_layers": 1, "num_single_layers": 1, "num_refiner_layers": 1, "patch_size": 1,
         "text_embed_dim": 16, "pooled_projection_dim": 8, "rope_axes_dim": (2, 4, 4)},
    ),
    "JoyImageEditPlusTransformer3DModel": Small(
        {"hidden_size": 32, "num_attention_heads": 2, "text_dim": 16, "num_layers": 2,
         "rope_dim_list": [4, 6, 6]},
        {"hidden_states": real(1, 2, 16, 1, 2, 2), "encoder_hidden_states": real(1, 12, 16),
         "timestep": torch.tensor([1.0]), "shape_list": [[(1, 1, 1), (1, 1, 1)]]},
    ),
    "JoyImageEditTransformer3DModel": Small(
        {"hidden_size": 32, "num_attention_heads": 2, "text_dim": 16, "num_layers": 2,
         "rope_dim_list": [4, 6, 6]},
    ),
    "Kandinsky5Transformer3DModel": Small(
        {"in_text_dim": 32, "in_text_dim2": 16, "time_dim": 16, "model_dim": 16, "ff_dim": 32,
         "num_text_blocks": 1, "num_visual_blocks": 2, "axes_dims": (4, 6, 6)},
        {"hidden_states": real(1, 4, 8, 8, 4), "encoder_hidden_states": real(1, 8, 32),
         "timestep": torch.tensor([1.0]), "pooled_projections": real(1, 16),
         "visual_rope_pos": [torch.arange(4), torch.arange(4), torch.arange(4)],
         "text_rope_pos": torch.arange(8)},
    ),
    "Kandinsky6SRTransformer3DModel": Small(
        {"in_visual_dim": 4, "out_visual_dim": 4, "time_dim": 16, "model_dim": 16, "ff_dim": 32,
         "num_visual_blocks": 2, "axes_dims": (4, 6, 6)},
        {"hidden_states": real(1, 2, 16, 16, 9), "timestep": torch.tensor([1.0])},
    ),
    "Kandinsky6Transformer3DModel": Small(
        {"in_visual_dim": 4, "out_visual_dim": 4, "in_text_dim": 32, "in_text_dim2": 16, "time_dim": 16,
         "model_dim": 16, "ff_dim": 32, "num_text_blocks": 1, "num_visual_blocks": 2, "axes_dims": (4, 6, 6),
         "in_audio_dim": 4, "out_audio_dim": 4},
        {"hidden_states": real(1, 4, 8, 8, 9), "encoder_hidden_states": real(1, 8, 32),
         "pooled_projections": real(1, 16), "timestep": torch.tensor([1.0]),
         "audio_hidden_states": real(1, 8, 4)},
    ),
    "LTX2VideoTransformer3DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8,
         "cross_attention_dim": 16, "audio_in_channels": 4, "audio_out_channels": 4,
         "audio_num_attention_heads": 2, "audio_attention_head_dim": 4, "audio_cross_attention_dim": 8,
         "num_layers": 2, "caption_channels": 16, "rope_double_precision": False},
        {"hidden_states": real(1, 512, 4), "audio_hidden_states": real(1, 9, 4),
         "encoder_hidden_states": real(1, 16, 16), "audio_encoder_hidden_states": real(1, 16, 16),
         "timestep": torch.tensor([1541.0]), "encoder_attention_mask": yes(1, 16), "num_frames": 2,
         "height": 16, "width": 16, "audio_num_frames": 9, "fps": 25.0},
    ),
    "LTXVideoTransformer3DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8,
         "cross_attention_dim": 16, "num_layers": 1, "caption_channels": 16},
        {"hidden_states": real(1, 512, 4), "encoder_hidden_states": real(1, 16, 16), "timestep": whole(44, 1),
         "encoder_attention_mask": yes(1, 16), "num_frames": 2, "height": 16, "width": 16},
    ),
    "LatteTransformer3DModel": Small(
        {"sample_size": 8, "patch_size": 2, "attention_head_dim": 4, "num_attention_heads": 2,
         "caption_channels": 8, "in_channels": 4, "cross_attention_dim": 8, "out_channels": 8,
         "attention_bias": True, "activation_fn": "gelu-approximate", "num_embeds_ada_norm": 1000,
         "norm_type": "ada_norm_single", "norm_elementwise_affine": False, "norm_eps": 1e-06},
        {"hidden_states": real(1, 4, 1, 8, 8), "encoder_hidden_states": real(1, 8, 8),
         "timestep": whole(44, 1), "enable_temporal_attentions": True},
    ),
    "LongCatAudioDiTTransformer": Small(
        {"dit_dim": 64, "dit_depth": 2, "dit_heads": 4, "dit_text_dim": 32, "latent_dim": 8,
         "text_conv": False},
        {"hidden_states": real(1, 16, 8), "encoder_hidden_states": real(1, 10, 32),
         "encoder_attention_mask": yes(1, 10), "attention_mask": yes(1, 16), "timestep": torch.tensor([1.0])},
    ),
    "MiniMaxH3Transformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 16, "hidden_size": 24, "num_layers": 2,
         "ffn_dim": 32, "in_channels": 4, "audio_in_channels": 6, "text_dim": 8, "freq_dim": 8,
         "time_embed_hidden_dim": 24, "time_embed_dim": 16, "rope_freq_dim": 2},
        {"hidden_states": real(1, 8, 16), "audio_hidden_states": real(1, 6, 6),
         "encoder_hidden_states": real(1, 4, 8), "timestep": torch.tensor([0.7, 0.3]),
         "timestep_indices": torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
         "token_tags": torch.tensor([1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
         "position_ids": real(18, 3), "video_indices": torch.tensor([10, 11, 12, 13, 14, 15, 16, 17]),
         "audio_indices": torch.tensor([4, 5, 6, 7, 8, 9]), "text_indices": torch.arange(4)},
    ),
    "MiniMaxMusic3Transformer1DModel": Small(
        {"in_channels": 8, "condition_dim": 16, "num_layers": 2, "num_attention_heads": 2,
         "attention_head_dim": 8, "ff_inner_dim": 32, "rotary_dim": 4, "fourier_embedding_dim": 8},
        {"hidden_states": real(1, 8, 24), "encoder_hidden_states": real(1, 24, 16),
         "timestep": torch.tensor([0.5])},
    ),
    "MochiTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "pooled_projection_dim": 16,
         "in_channels": 4, "text_embed_dim": 16, "time_embed_dim": 4, "max_sequence_length": 16},
    ),
    "MotifVideoTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 1, "num_single_layers": 1,
         "patch_size": 1, "text_embed_dim": 32, "image_embed_dim": 4, "rope_axes_dim": (4, 4, 4)},
    ),
    "RFD4ProteinaTransformer": Small(
        {"nlayers": 2, "token_dim": 32, "nheads": 2, "dim_cond": 16, "pair_repr_dim": 16, "latent_dim": 8,
         "token_type_emb_dim": 8, "cath_emb_dim": 8, "t_emb_dim": 16, "tri_mult_c": 16,
         "feats_seq": ("xt_bb_ca", "xt_local_latents", "token_type"), "feats_cond_seq": ("time_emb_bb_ca",
         "time_emb_local_latents"), "feats_pair_repr": ("xt_bb_ca_pair_dists",)},
        {"bb_ca": real(1, 16, 3), "local_latents": real(1, 16, 8), "bb_ca_time": torch.tensor([0.5]),
         "local_latents_time": torch.tensor([0.5]), "padding_mask": yes(1, 16), "token_type": whole(0, 1, 16),
         "atom37_mask": yes(1, 16, 37), "conditioning": {"is_in_context_conditioning": ~yes(1, 16),
         "supports_local_latent": yes(1, 16)}},
    ),
    "SanaVideoTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "num_cross_attention_heads": 2,
         "cross_attention_head_dim": 12, "cross_attention_dim": 24, "caption_channels": 16, "sample_size": 8,
         "rope_max_seq_len": 32},
    ),
    "SanaWMLTX2RefinerTransformer3DModel": Small(
        {"in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8,
         "cross_attention_dim": 16, "num_layers": 1, "caption_channels": 16, "audio_in_channels": 4,
         "audio_out_channels": 4, "audio_num_attention_heads": 2, "audio_attention_head_dim": 4,
         "audio_cross_attention_dim": 8, "rope_double_precision": False},
        _refined,
    ),
    "SanaWMTransformer3DModel": Small(
        {"in_channels": 4, "num_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "softmax_every_n": 2,
         "linear_head_dim": 16, "caption_channels": 16, "chunk_plucker_channels": 6,
         "chunk_plucker_post_attn_blocks": 2, "mixed_precision": "no"},
        {"hidden_states": real(1, 4, 4, 8, 8), "timestep": torch.ones(1, 1, 4),
         "encoder_hidden_states": real(1, 1, 8, 16), "encoder_attention_mask": whole(1, 1, 8),
         "camera_conditions": real(1, 4, 20), "chunk_plucker": real(1, 6, 4, 8, 8)},
    ),
    "SkyReelsV2Transformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4,
         "text_dim": 16, "ffn_dim": 32, "num_layers": 2, "rope_max_seq_len": 32},
    ),
    "StableAudio3DiTModel": Small(
        {"io_channels": 8, "embed_dim": 32, "depth": 2, "num_heads": 4, "cond_token_dim": 16,
         "global_cond_dim": 12, "local_add_cond_dim": 5, "timestep_features_dim": 16, "ff_mult": 2,
         "num_memory_tokens": 3, "use_differential_attention": False},
        {"hidden_states": real(1, 8, 16), "timestep": torch.tensor([0.0]),
         "encoder_hidden_states": real(1, 4, 16), "global_hidden_states": real(1, 12)},
    ),
    "StableAudioDiTModel": Small(
        {"sample_size": 4, "in_channels": 3, "num_layers": 2, "attention_head_dim": 4,
         "num_attention_heads": 4, "num_key_value_attention_heads": 2, "out_channels": 3,
         "cross_attention_dim": 4, "time_proj_dim": 8, "global_states_input_dim": 8,
         "cross_attention_input_dim": 4},
        {"hidden_states": real(1, 3, 8), "timestep": whole(1, 1), "encoder_hidden_states": real(1, 8, 4),
         "global_hidden_states": real(1, 1, 8), "rotary_embedding": (real(9, 2), real(9, 2))},
    ),
    "T5FilmDecoder": Small(
        {"input_dims": 16, "targets_length": 16, "d_model": 32, "num_layers": 2, "num_heads": 2, "d_kv": 16,
         "d_ff": 64},
        {"encodings_and_masks": [(real(1, 8, 32), yes(1, 8))], "decoder_input_tokens": real(1, 16, 16),
         "decoder_noise_time": torch.tensor([0.5])},
    ),
    "WanAnimate2Transformer3DModel": Small(
        {"text_len": 16, "dim": 128, "ffn_dim": 256, "freq_dim": 64, "text_dim": 32, "num_heads": 4,
         "num_layers": 2},
        _animated,
    ),
    "WanAnimateTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 12, "latent_channels": 4,
         "out_channels": 4, "text_dim": 16, "ffn_dim": 32, "num_layers": 2, "image_dim": 16,
         "rope_max_seq_len": 32, "motion_encoder_channel_sizes": {"4": 16, "8": 16, "16": 16},
         "motion_encoder_size": 16, "motion_style_dim": 8, "motion_dim": 4, "motion_encoder_dim": 16,
         "face_encoder_hidden_dim": 16, "face_encoder_num_heads": 2, "inject_face_latents_blocks": 2},
        {"hidden_states": real(1, 12, 21, 16, 16), "timestep": whole(44, 1),
         "encoder_hidden_states": real(1, 12, 16), "encoder_hidden_states_image": real(1, 12, 16),
         "pose_hidden_states": real(1, 4, 20, 16, 16), "face_pixel_values": real(1, 3, 77, 16, 16)},
    ),
    "WanTransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4,
         "text_dim": 16, "ffn_dim": 32, "num_layers": 2, "rope_max_seq_len": 32},
    ),
    "WanVACETransformer3DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 12, "text_dim": 32, "ffn_dim": 32, "num_layers": 4,
         "rope_max_seq_len": 32, "vace_layers": [0, 2], "vace_in_channels": 48},
        {"hidden_states": real(1, 16, 2, 16, 16), "encoder_hidden_states": real(1, 12, 32),
         "control_hidden_states": real(1, 48, 2, 16, 16), "timestep": whole(44, 1)},
    ),
}
