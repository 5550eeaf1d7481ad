"""Build the models of the benchmark from configurations of transformers and diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from peers.whole_models import First

if TYPE_CHECKING:
    from peers.whole_models import Built


class WithStep(First):
    """A module that passes the time step to a diffusion model as a tensor, as in training."""

    def forward(self, image: torch.Tensor, step: torch.Tensor) -> Any:  # type: ignore[override]
        return self.model(image, step, return_dict=False)[0]


def _of_images(kind: str, **settings: Any) -> Built:
    import transformers

    config = getattr(transformers, f"{kind}Config")(num_labels=1000, **settings)
    return First(getattr(transformers, f"{kind}ForImageClassification")(config)), (torch.randn(1, 3, 224, 224),)


def mobilenet_v2(multiplier: float) -> Built:
    return _of_images("MobileNetV2", depth_multiplier=multiplier)


def resnet_18() -> Built:
    return _of_images("ResNet", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], layer_type="basic")


def resnet_152() -> Built:
    return _of_images("ResNet", depths=[3, 8, 36, 3])


def convnext(depths: tuple[int, ...], widths: tuple[int, ...]) -> Built:
    return _of_images("ConvNext", depths=list(depths), hidden_sizes=list(widths))


def vit_16(*, layers: int, width: int) -> Built:
    sizes = {"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
    return _of_images("ViT", num_hidden_layers=layers, **sizes)


def swin(depths: tuple[int, ...], width: int) -> Built:
    heads = [width // 32 * 2**stage for stage in range(len(depths))]
    return _of_images("Swin", depths=list(depths), embed_dim=width, num_heads=heads)


def ddpm_unet(widths: tuple[int, ...], attention_at: int, side: int = 32) -> Built:
    from diffusers import UNet2DModel

    down = ["AttnDownBlock2D" if level == attention_at else "DownBlock2D" for level in range(len(widths))]
    model = UNet2DModel(
        sample_size=side,
        block_out_channels=widths,
        layers_per_block=2,
        down_block_types=tuple(down),
        up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
        downsample_padding=0,
        attention_head_dim=None,  # one head
    )
    return WithStep(model), (torch.randn(1, 3, side, side), torch.tensor([10]))


def llama(*, length: int, layers: int, width: int, hidden: int) -> Built:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=width // 128,
        num_key_value_heads=8,
        vocab_size=128_256,
        max_position_embeddings=131_072,
    )
    return First(LlamaForCausalLM(config)), (torch.zeros(1, length, dtype=torch.long),)
