"""timm's models of images, with random weights, at small inputs and where possible with few layers."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.structure_board.cases import Case

FEW = {"depth": 2}
MODELS: Mapping[str, tuple[str, int, Mapping[str, Any]]] = {
    "ResNet-18": ("resnet18", 64, {}),
    "ResNet-50": ("resnet50", 64, {}),
    "ResNeXt-50": ("resnext50_32x4d", 64, {}),
    "Res2Net-50": ("res2net50_26w_4s", 64, {}),
    "DenseNet-121": ("densenet121", 64, {}),
    "VGG-11": ("vgg11_bn", 64, {"mlp_ratio": 0.125}),
    "Inception-V3": ("inception_v3", 96, {}),
    "Xception": ("legacy_xception", 96, {}),
    "MobileNet-V2": ("mobilenetv2_100", 64, {}),
    "MobileNet-V3": ("mobilenetv3_small_100", 64, {}),
    "EfficientNet-B0": ("efficientnet_b0", 64, {}),
    "RegNet-Y": ("regnety_002", 64, {}),
    "GhostNet": ("ghostnet_100", 64, {}),
    "RepVGG": ("repvgg_a0", 64, {}),
    "CSPDarkNet-53": ("cspdarknet53", 64, {}),
    "DPN-68": ("dpn68", 64, {}),
    "HRNet": ("hrnet_w18_small", 64, {}),
    "ConvNeXt": ("convnext_atto", 64, {}),
    "PoolFormer": ("poolformer_s12", 64, {}),
    "MLP-Mixer": ("mixer_s32_224", 224, {}),
    "ViT": ("vit_tiny_patch16_224", 224, FEW),
    "DeiT": ("deit_tiny_patch16_224", 224, FEW),
    "EVA-02": ("eva02_tiny_patch14_224", 224, FEW),
    "XCiT": ("xcit_nano_12_p16_224", 224, FEW),
    "MobileViT": ("mobilevit_xxs", 64, {}),
    "CoAtNet": ("coatnet_nano_rw_224", 224, {}),
    "Swin": ("swin_tiny_patch4_window7_224", 224, {"depths": (1, 1, 2, 1)}),
    "Swin V2": ("swinv2_tiny_window8_256", 256, {"depths": (1, 1, 2, 1)}),
    "MaxViT": ("maxvit_rmlp_pico_rw_256", 256, {}),
}


def cases() -> list[Case]:
    """All of them, if timm is installed."""
    if importlib.util.find_spec("timm") is None:
        return []
    return [Case(name, "timm", partial(_made, *model)) for name, model in MODELS.items()]


def load() -> None:
    """Import timm, with a torchvision that was built for another PyTorch if need be.

    Such a torchvision lacks its compiled operators, of which no model here uses any; what it tells of them is ignored.
    """
    register = torch.library.register_fake

    def forgiving(operator: Any, *arguments: Any, **named: Any) -> Callable[[Any], Any]:
        def decorate(function: Any) -> Any:
            try:
                return register(operator, *arguments, **named)(function)
            except RuntimeError:
                return function

        return decorate

    torch.library.register_fake = forgiving
    try:
        importlib.import_module("timm")
    finally:
        torch.library.register_fake = register


def _made(name: str, size: int, options: Mapping[str, Any]) -> tuple[nn.Module, Tensor]:
    load()
    import timm

    return timm.create_model(name, pretrained=False, num_classes=10, **options), torch.randn(2, 3, size, size)
