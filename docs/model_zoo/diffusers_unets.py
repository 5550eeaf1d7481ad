"""The U-Nets of diffusers and their blocks, made small."""

from __future__ import annotations

import torch

from model_zoo.diffusers_inputs import real, whole
from model_zoo.diffusers_small import Small

# fmt: off
UNETS: dict[str, Small] = {
    "AudioLDM2UNet2DConditionModel": Small(
        {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 8,
         "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"), "up_block_types": ("CrossAttnUpBlock2D",
         "UpBlock2D"), "cross_attention_dim": ((None, 8, 16), (None, 8, 16))},
        {"sample": real(1, 4, 16, 16), "timestep": whole(1, 1), "encoder_hidden_states": real(1, 8, 8),
         "encoder_hidden_states_1": real(1, 8, 16)},
    ),
    "DreamLiteTransformer2DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 32, "cross_attention_dim": 16},
    ),
    "DreamLiteUNetModel": Small(
        {"down_block_types": ("DreamLiteCrossAttnNoSelfAttnDownBlock2D", "DreamLiteCrossAttnDownBlock2D"),
         "up_block_types": ("DreamLiteCrossAttnUpBlock2D", "DreamLiteUpBlock2D"),
         "block_out_channels": (32, 64), "cross_attention_dim": 16, "attention_head_dim": 8,
         "layers_per_block": 1, "norm_num_groups": 8},
    ),
    "I2VGenXLUNet": Small(
        {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4,
         "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"), "up_block_types": ("UpBlock3D",
         "CrossAttnUpBlock3D"), "cross_attention_dim": 16, "attention_head_dim": 4,
         "num_attention_heads": None},
        {"sample": real(1, 4, 4, 16, 16), "timestep": torch.tensor(1), "fps": whole(4, 1),
         "image_latents": real(1, 4, 4, 16, 16), "image_embeddings": real(1, 1, 16),
         "encoder_hidden_states": real(1, 8, 16)},
    ),
    "Kandinsky3UNet": Small(
        {"time_embedding_dim": 4, "groups": 2, "attention_head_dim": 4, "block_out_channels": (32, 64),
         "cross_attention_dim": 4, "encoder_hid_dim": 32},
        {"sample": real(1, 4, 16, 16), "timestep": whole(1, 1), "encoder_hidden_states": real(1, 8, 32),
         "encoder_attention_mask": whole(1, 1, 8)},
    ),
    "StableCascadeUNet": Small(
        {"in_channels": 4, "out_channels": 4, "conditioning_dim": 16, "block_out_channels": (16, 32),
         "num_attention_heads": (2, 4), "down_num_layers_per_block": (1, 1),
         "up_num_layers_per_block": (1, 1), "clip_text_pooled_in_channels": 16,
         "timestep_ratio_embedding_dim": 16},
        {"sample": real(1, 4, 16, 16), "timestep_ratio": torch.tensor([0.5]),
         "clip_text_pooled": real(1, 1, 16)},
    ),
    "Transformer2DModel": Small(
        {"num_attention_heads": 2, "attention_head_dim": 16, "in_channels": 32, "cross_attention_dim": 16},
    ),
    "UNet1DModel": Small(
        {"block_out_channels": (8, 8, 16, 16), "in_channels": 14, "out_channels": 14,
         "time_embedding_type": "positional", "use_timestep_embedding": True, "flip_sin_to_cos": False,
         "freq_shift": 1.0, "out_block_type": "OutConv1DBlock", "mid_block_type": "MidResTemporalBlock1D",
         "down_block_types": ("DownResnetBlock1D", "DownResnetBlock1D", "DownResnetBlock1D",
         "DownResnetBlock1D"), "up_block_types": ("UpResnetBlock1D", "UpResnetBlock1D", "UpResnetBlock1D"),
         "act_fn": "swish"},
    ),
    "UNet2DConditionModel": Small(
        {"block_out_channels": (4, 8), "norm_num_groups": 4, "down_block_types": ("CrossAttnDownBlock2D",
         "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"), "cross_attention_dim": 8,
         "attention_head_dim": 2},
    ),
    "UNet2DModel": Small(
        {"block_out_channels": (4, 8), "norm_num_groups": 2, "down_block_types": ("DownBlock2D",
         "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"), "attention_head_dim": 3,
         "sample_size": 32},
    ),
    "UNet3DConditionModel": Small(
        {"block_out_channels": (4, 8), "norm_num_groups": 4, "down_block_types": ("CrossAttnDownBlock3D",
         "DownBlock3D"), "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"), "cross_attention_dim": 8,
         "attention_head_dim": 2, "layers_per_block": 1, "sample_size": 16},
    ),
    "UNetControlNetXSModel": Small(
        {"sample_size": 16, "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
         "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"), "block_out_channels": (4, 8),
         "cross_attention_dim": 8, "num_attention_heads": 2, "norm_num_groups": 4, "upcast_attention": False,
         "ctrl_block_out_channels": [2, 4], "ctrl_max_norm_num_groups": 2,
         "ctrl_conditioning_embedding_out_channels": (2, 2)},
        {"sample": real(1, 4, 16, 16), "timestep": whole(10, 1), "encoder_hidden_states": real(1, 4, 8),
         "controlnet_cond": real(1, 3, 32, 32)},
    ),
    "UNetMotionModel": Small(
        {"block_out_channels": (16, 32), "norm_num_groups": 16,
         "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
         "up_block_types": ("UpBlockMotion", "CrossAttnUpBlockMotion"), "cross_attention_dim": 16,
         "num_attention_heads": 2, "layers_per_block": 1, "sample_size": 16},
        {"sample": real(1, 4, 4, 16, 16), "timestep": whole(10, 1), "encoder_hidden_states": real(4, 4, 16)},
    ),
    "UNetSpatioTemporalConditionModel": Small(
        {"block_out_channels": (32, 64), "down_block_types": ("CrossAttnDownBlockSpatioTemporal",
         "DownBlockSpatioTemporal"), "up_block_types": ("UpBlockSpatioTemporal",
         "CrossAttnUpBlockSpatioTemporal"), "cross_attention_dim": 32, "num_attention_heads": 8,
         "in_channels": 4, "sample_size": 32, "projection_class_embeddings_input_dim": 96,
         "addition_time_embed_dim": 32},
        {"sample": real(1, 2, 4, 32, 32), "timestep": whole(10, 1), "encoder_hidden_states": real(1, 1, 32),
         "added_time_ids": torch.tensor([[6.0, 127.0, 0.019999999552965164]])},
    ),
    "UVit2DModel": Small(
        {"hidden_size": 32, "cond_embed_dim": 32, "micro_cond_encode_dim": 8, "micro_cond_embed_dim": 40,
         "encoder_hidden_size": 32, "vocab_size": 40, "codebook_size": 32, "in_channels": 32,
         "block_out_channels": 32, "num_res_blocks": 1, "block_num_heads": 2, "num_hidden_layers": 2,
         "num_attention_heads": 2, "intermediate_size": 64, "sample_size": 8},
        {"input_ids": whole(5, 1, 8, 8), "encoder_hidden_states": real(1, 8, 32),
         "pooled_text_emb": real(1, 32), "micro_conds": torch.full((1, 5), 8.0)},
    ),
    "UniDiffuserModel": Small(
        {"text_dim": 32, "clip_img_dim": 32, "num_text_tokens": 8, "num_attention_heads": 2,
         "attention_head_dim": 16, "in_channels": 4, "out_channels": 4, "num_layers": 2, "norm_num_groups": 4,
         "sample_size": 16, "patch_size": 2, "use_data_type_embedding": True},
        {"latent_image_embeds": real(1, 4, 16, 16), "image_embeds": real(1, 1, 32),
         "prompt_embeds": real(1, 8, 32), "timestep_img": torch.tensor(1), "timestep_text": torch.tensor(1)},
    ),
}
