"""The autoencoders, vocoders and upscalers of diffusers, made small."""

from __future__ import annotations

from typing import Any

from model_zoo.diffusers_inputs import real, whole, yes
from model_zoo.diffusers_small import Small


def _with_tiles(kind: Any) -> Any:
    """Build an autoencoder that encodes only by tiles."""
    model = kind(**_ALLEGRO)
    model.enable_tiling()
    return model


_ALLEGRO = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 2, "sample_size": 32}


# fmt: off
AUTOENCODERS: dict[str, Small] = {
    "AsymmetricAutoencoderKL": Small({"down_block_out_channels": (32,), "up_block_out_channels": (32,)}),
    "AutoencoderDC": Small(
        {"latent_channels": 4, "attention_head_dim": 2, "encoder_block_types": ("ResBlock",
         "EfficientViTBlock"), "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
         "encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8),
         "encoder_qkv_multiscales": ((), (5,)), "decoder_qkv_multiscales": ((), (5,)),
         "encoder_layers_per_block": (1, 1), "decoder_layers_per_block": [1, 1],
         "downsample_block_type": "conv", "upsample_block_type": "interpolate", "scaling_factor": 0.41407},
    ),
    "AutoencoderKL": Small(
        {"block_out_channels": [2, 4], "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
         "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"], "norm_num_groups": 2},
    ),
    "AutoencoderKLAllegro": Small(
        inputs={"sample": real(1, 3, 24, 32, 32)},
        build=_with_tiles,
    ),
    "AutoencoderKLCogVideoX": Small(
        {"block_out_channels": (8, 8, 8, 8), "latent_channels": 4, "layers_per_block": 1,
         "norm_num_groups": 2},
    ),
    "AutoencoderKLCosmos": Small(
        {"latent_channels": 4, "encoder_block_out_channels": (8, 8, 8, 8),
         "decode_block_out_channels": (8, 8, 8, 8), "attention_resolutions": (8,), "resolution": 64,
         "spatial_compression_ratio": 4, "temporal_compression_ratio": 4},
    ),
    "AutoencoderKLFlux2": Small(
        {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "latent_channels": 4,
         "norm_num_groups": 4, "sample_size": 32},
    ),
    "AutoencoderKLHunyuanImage": Small(
        {"in_channels": 3, "out_channels": 3, "latent_channels": 4, "block_out_channels": (32, 64, 64, 64),
         "layers_per_block": 1, "spatial_compression_ratio": 8, "sample_size": 32},
    ),
    "AutoencoderKLHunyuanImageRefiner": Small(
        {"latent_channels": 4, "block_out_channels": (16, 16), "layers_per_block": 1,
         "spatial_compression_ratio": 4, "temporal_compression_ratio": 2, "downsample_match_channel": False,
         "upsample_match_channel": False},
    ),
    "AutoencoderKLHunyuanVideo": Small(
        {"latent_channels": 4, "block_out_channels": (8, 8, 8, 8), "layers_per_block": 1,
         "norm_num_groups": 4},
    ),
    "AutoencoderKLHunyuanVideo15": Small(
        {"latent_channels": 4, "block_out_channels": (16, 16), "layers_per_block": 1,
         "spatial_compression_ratio": 4, "temporal_compression_ratio": 2, "downsample_match_channel": False,
         "upsample_match_channel": False},
    ),
    "AutoencoderKLKVAE": Small(
        {"channels": 32, "num_enc_blocks": 1, "num_dec_blocks": 1, "z_channels": 4, "ch_mult": (1, 2),
         "sample_size": 32},
    ),
    "AutoencoderKLKVAEAudio": Small(
        {"encoder_dim": 4, "encoder_rates": [2, 2], "latent_dim": 16, "codebook_dim": 8, "decoder_dim": 16,
         "decoder_rates": [2, 2], "attn_num_heads": 2},
        {"sample": real(1, 1, 64)},
    ),
    "AutoencoderKLKVAEVideo": Small(
        {"ch": 32, "ch_mult": (1, 2), "num_res_blocks": 1, "z_channels": 4, "temporal_compress_times": 2},
    ),
    "AutoencoderKLLTX2Audio": Small({"latent_channels": 4, "base_channels": 16, "resolution": 16, "mel_bins": 16}),
    "AutoencoderKLLTX2Video": Small(
        {"latent_channels": 8, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (16, 32, 64),
         "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1), "patch_size": 1,
         "decoder_causal": False, "decoder_spatial_padding_mode": "zeros"},
    ),
    "AutoencoderKLLTXVideo": Small(
        {"latent_channels": 8, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8, 8),
         "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1, 1),
         "spatio_temporal_scaling": (True, True, False, False), "decoder_spatio_temporal_scaling": (True,
         True, False, False), "patch_size": 1},
    ),
    "AutoencoderKLMagvit": Small(
        {"latent_channels": 4, "block_out_channels": [8, 8, 8, 8], "layers_per_block": 1,
         "norm_num_groups": 8},
    ),
    "AutoencoderKLMiniMaxH3": Small(
        {"latent_channels": 4, "block_out_channels": (8, 16), "layers_per_block": 1,
         "spatial_downsample_factors": (2, 2), "temporal_downsample_factors": (2, 2), "norm_num_groups": 8,
         "decoder_num_layers": 2, "decoder_num_attention_heads": 2, "decoder_attention_head_dim": 8,
         "decoder_num_register_tokens": 2, "decoder_ffn_mult": 2, "latents_mean": (0.0, 0.0, 0.0, 0.0),
         "latents_std": (1.0, 1.0, 1.0, 1.0)},
        {"sample": real(1, 3, 22, 8, 8)},
    ),
    "AutoencoderKLMiniMaxH3Audio": Small(
        {"encoder_dim": 4, "encoder_rates": (2, 2), "latent_dim": 32, "latent_channels": 8,
         "num_attention_heads": 2, "decoder_dim": 16, "decoder_rates": (2, 2), "decoder_kernel_sizes": (4, 4),
         "resblock_kernel_sizes": (3, 7), "resblock_dilation_sizes": ((1, 3), (1, 3)),
         "latents_mean": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0],
         "latents_std": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]},
        {"sample": real(1, 1, 32)},
    ),
    "AutoencoderKLMochi": Small(
        {"latent_channels": 4, "encoder_block_out_channels": (32, 32, 32, 32),
         "decoder_block_out_channels": (32, 32, 32, 32), "layers_per_block": (1, 1, 1, 1, 1)},
        {"sample": real(1, 3, 7, 16, 16)},
    ),
    "AutoencoderKLQwenImage": Small(
        {"base_dim": 24, "z_dim": 4, "dim_mult": [1, 2, 4], "num_res_blocks": 1,
         "temperal_downsample": [False, True], "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4},
    ),
    "AutoencoderKLQwenImage21": Small(
        {"base_dim": 8, "decoder_base_dim": 8, "z_dim": 4, "dim_mult": [1, 2, 2], "num_res_blocks": 1,
         "temperal_downsample": [False, True], "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4},
    ),
    "AutoencoderKLTemporalDecoder": Small(
        {"block_out_channels": [32, 64], "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
         "layers_per_block": 2},
    ),
    "AutoencoderKLWan": Small({"base_dim": 3, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}),
    "AutoencoderOobleck": Small(
        {"encoder_hidden_size": 6, "downsampling_ratios": [1, 2], "decoder_channels": 3,
         "decoder_input_channels": 3, "channel_multiples": [2, 4], "sampling_rate": 4},
        {"sample": real(1, 2, 24)},
    ),
    "AutoencoderRAE": Small(
        {"encoder_hidden_size": 64, "encoder_num_hidden_layers": 2, "decoder_hidden_size": 32,
         "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2, "decoder_intermediate_size": 64,
         "encoder_input_size": 56, "patch_size": 14},
        {"sample": real(1, 3, 56, 56)},
    ),
    "AutoencoderSAME": Small(
        {"patch_size": 4, "encoder_channels": 16, "encoder_c_mults": [1, 2], "encoder_strides": [2, 2],
         "encoder_transformer_depths": [1, 1], "latent_dim": 8, "use_differential_attention": False,
         "dim_heads": 8, "ff_mult": 2},
        {"sample": real(1, 2, 128)},
    ),
    "AutoencoderTiny": Small(
        {"encoder_block_out_channels": [32, 32], "decoder_block_out_channels": [32, 32],
         "num_encoder_blocks": [1, 1], "num_decoder_blocks": [1, 1]},
    ),
    "AutoencoderVidTok": Small({"ch": 32, "ch_mult": [1, 2, 2], "num_res_blocks": 1}),
    "ConsistencyDecoderVAE": Small(
        {"encoder_block_out_channels": [2, 4], "encoder_down_block_types": ["DownEncoderBlock2D",
         "DownEncoderBlock2D"], "decoder_block_out_channels": [2, 4],
         "decoder_down_block_types": ["ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D"],
         "decoder_layers_per_block": 1, "decoder_norm_num_groups": 2, "encoder_norm_num_groups": 2,
         "decoder_up_block_types": ["ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"], "scaling_factor": 1},
    ),
    "Cosmos3AVAEAudioTokenizer": Small(
        {"sampling_rate": 16, "hop_size": 4, "enc_dim": 4, "enc_num_blocks": 1, "enc_n_fft": 8,
         "enc_hop_length": 2, "enc_latent_dim": 8, "enc_c_mults": (1,), "enc_strides": (2,),
         "vocoder_input_dim": 4, "dec_dim": 4, "dec_c_mults": (1, 2), "dec_strides": (2, 2)},
        {"sample": real(1, 2, 16)},
    ),
    "Kandinsky6SRLatentUpscalerBank": Small(
        {"in_channels": 4, "stage_channels": (32, 32, 16), "num_pre_blocks": 1, "num_mid_blocks": 1,
         "num_post_blocks": 1, "num_x2_adapter_blocks": 1},
        {"latents": real(1, 4, 3, 8, 8), "scale": 2},
    ),
    "Kandinsky6SRVAE": Small(
        {"latent_channels": 4, "encoder_block_out_channels": (16, 16, 32, 32, 32),
         "decoder_block_out_channels": (16, 32, 32, 32, 32), "layers_per_block": 1},
    ),
    "LTX2VideoDiffusionDecoderModel": Small(
        {"latent_channels": 8, "patch_size": 2, "decoder_head_dim": 16,
         "decoder_stage_channels": (64, 32, 16, 16, 16), "decoder_stage_depths": (1, 1, 1, 1, 2),
         "decoder_stage_kernels": ((3, 3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
         "decoder_upsample_channel_reductions": (2, 2, 1, 1), "decoder_stage5_kernel": (3, 3, 3),
         "decoder_t_emb_dim": 32, "spatial_compression_ratio": 16},
        {"z": real(1, 8, 2, 3, 3)},
    ),
    "LongCatAudioDiTVae": Small(
        {"channels": 16, "c_mults": [1, 2], "strides": [2], "latent_dim": 8, "encoder_latent_dim": 16,
         "downsampling_ratio": 2},
    ),
    "MMAudioVAE": Small(
        {"mel_bins": 16, "latent_channels": 4, "hidden_channels": 16, "channel_multipliers": (1, 2),
         "layers_per_block": 1, "n_fft": 64, "hop_length": 16},
        {"sample": real(1, 1024)},
    ),
    "MMAudioVocoder": Small(
        {"num_mels": 16, "upsample_initial_channel": 32, "upsample_rates": (2, 2),
         "upsample_kernel_sizes": (4, 4)},
        {"mel": real(1, 16, 16)},
    ),
    "MiniMaxMusic3Vocoder": Small(
        {"latent_channels": 8, "decoder_input_dim": 16, "decoder_hidden_dim": 32,
         "upsampling_ratios": (2, 2)},
        {"latents": real(1, 8, 16)},
    ),
    "RFD4ProteinaAutoencoder": Small(
        {"atom37_mask": [[True] * 37] * 147, "allowed_residue_types": [[True] * 147] * 7, "latent_dim": 8,
         "nlayers": 2, "token_dim": 32, "nheads": 2, "dim_cond": 16, "pair_repr_dim": 16,
         "token_type_emb_dim": 8},
        {"z_latent": real(1, 16, 8), "ca_coors_nm": real(1, 16, 3), "padding_mask": yes(1, 16),
         "token_type": whole(0, 1, 16), "conditioning": {"is_in_context_conditioning": ~yes(1, 16),
         "supports_local_latent": yes(1, 16)}},
    ),
    "VQModel": Small(
        {"block_out_channels": [8, 16], "norm_num_groups": 8, "down_block_types": ["DownEncoderBlock2D",
         "DownEncoderBlock2D"], "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]},
    ),
}
