"""The models of the benchmark, each with its FLOPs by definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypedDict

from peers import closed_forms as by_definition
from peers import whole_models
from peers.case import ELEMENT_WISE, Case
from performance import architectures
from performance import closed_forms as also_by_definition

if TYPE_CHECKING:
    from collections.abc import Callable

TOKENS = 128
LONG = 8192


class Llama(TypedDict):
    layers: int
    width: int
    hidden: int


#: "The Llama 3 Herd of Models", 2024, table 3.
LLAMA_8B: Final[Llama] = {"layers": 32, "width": 4096, "hidden": 14_336}
LLAMA_405B: Final[Llama] = {"layers": 126, "width": 16_384, "hidden": 53_248}
CONVNEXT_L = (3, 3, 27, 3), (192, 384, 768, 1536)
RESNET_152 = ((3, 64, 56), (8, 128, 28), (36, 256, 14), (3, 512, 7))
SWIN_T, SWIN_B = ((2, 2, 6, 2), 96), ((2, 2, 18, 2), 128)
UNET = (128, 256, 256, 256), 1
#: Some counters count 4 multiply-accumulates for each element of a batch normalization, which is this share of the
#: smaller MobileNetV2, whose convolutions are thin.
THIN = 0.2


@dataclass(frozen=True)
class Model:
    case: Case
    #: Whether it is built without weights, because it is too large for memory.
    without_weights: bool = False
    #: Whether PyTorch cannot run it on ``meta``.
    off_meta: bool = False

    @property
    def name(self) -> str:
        return self.case.name


def _model(  # noqa: PLR0913 -- what a case has
    name: str,
    build: Callable[[], whole_models.Built],
    flops: int,
    *,
    excess: float = ELEMENT_WISE,
    backward: bool = False,
    without_weights: bool = False,
    off_meta: bool = False,
) -> Model:
    case = Case(name, build, flops, excess=excess, backward=backward)
    return Model(case, without_weights=without_weights, off_meta=off_meta)


_STEM = by_definition.convolution(112 * 112, 3, 64, 7 * 7)

MODELS = {
    model.name: model
    for model in (
        _model(
            "MobileNetV2 ×0.35",
            lambda: architectures.mobilenet_v2(0.35),
            also_by_definition.mobilenet_v2(0.35),
            excess=THIN,
        ),
        _model(
            "MobileNetV2",
            lambda: architectures.mobilenet_v2(1.0),
            also_by_definition.mobilenet_v2(1.0),
            excess=THIN,
        ),
        _model("ResNet-18", architectures.resnet_18, also_by_definition.resnet_18()),
        _model("ResNet-50", whole_models.resnet_50, by_definition.resnet_50()),
        _model("ResNet-152", architectures.resnet_152, by_definition.bottleneck_resnet(RESNET_152)),
        _model("ConvNeXt-L", lambda: architectures.convnext(*CONVNEXT_L), also_by_definition.convnext(*CONVNEXT_L)),
        _model(
            "ViT-Ti/16",
            lambda: architectures.vit_16(layers=12, width=192),
            by_definition.vit_16(layers=12, width=192),
        ),
        _model("ViT-B/16", whole_models.vit_b_16, by_definition.vit_b_16()),
        _model(
            "ViT-L/16",
            lambda: architectures.vit_16(layers=24, width=1024),
            by_definition.vit_16(layers=24, width=1024),
        ),
        _model("Swin-T", lambda: architectures.swin(*SWIN_T), also_by_definition.swin(*SWIN_T)),
        _model("Swin-B", lambda: architectures.swin(*SWIN_B), also_by_definition.swin(*SWIN_B)),
        _model("U-Net (DDPM, 32×32)", lambda: architectures.ddpm_unet(*UNET), also_by_definition.ddpm_unet(*UNET)),
        _model("BERT-base", lambda: whole_models.bert_base(TOKENS), by_definition.bert_base(TOKENS)),
        _model("GPT-2", lambda: whole_models.gpt_2(TOKENS), by_definition.gpt_2(TOKENS)),
        _model(
            "LSTM, 2 layers, 2 directions",
            lambda: whole_models.lstm(TOKENS),
            by_definition.lstm(TOKENS, 512, 512, 2) + by_definition.lstm(TOKENS, 1024, 512, 2),
        ),
        _model(
            "mixture of experts",
            lambda: whole_models.mixture_of_experts(TOKENS),
            by_definition.mixture_of_experts(length=TOKENS, **whole_models.MIXTURE),
            off_meta=True,  # grouped products require bfloat16 there
        ),
        _model(
            # The image needs no gradient, so that the first convolution has one backward product and not two.
            "ResNet-50, forward and backward",
            whole_models.resnet_50,
            3 * by_definition.resnet_50() - _STEM,
            backward=True,
        ),
        _model(
            "GPT-2, forward and backward",
            lambda: whole_models.gpt_2(TOKENS),
            3 * by_definition.gpt_2(TOKENS),
            backward=True,
        ),
        _model(
            "Llama-3.1-8B",
            lambda: architectures.llama(length=LONG, **LLAMA_8B),
            also_by_definition.llama(length=LONG, **LLAMA_8B),
            without_weights=True,
        ),
        _model(
            "Llama-3.1-405B",
            lambda: architectures.llama(length=LONG, **LLAMA_405B),
            also_by_definition.llama(length=LONG, **LLAMA_405B),
            without_weights=True,
        ),
        _model(
            "Llama-3.1-405B, forward and backward",
            lambda: architectures.llama(length=LONG, **LLAMA_405B),
            3 * also_by_definition.llama(length=LONG, **LLAMA_405B),
            without_weights=True,
            backward=True,
        ),
    )
}
