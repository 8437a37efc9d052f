"""Encoders with convolutional block attention (CBAM, Woo et al. 2018), and the two phases they are trained in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from casa.morphology.crops import Crops
from casa.morphology.networks import Classifier
from casa.morphology.soft_tuning import TuneConfig, tune
from casa.morphology.train import Run


class ChannelAttention(nn.Module):
    """Which channels matter: one small network on the map's mean and on its maximum (Woo et al. 2018, Eq. 2)."""

    def __init__(self, width: int, reduction: int = 16) -> None:
        super().__init__()
        inner = max(1, width // reduction)
        self.shared = nn.Sequential(nn.Conv2d(width, inner, 1), nn.ReLU(), nn.Conv2d(inner, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, 1, 1) in (0, 1)."""
        return torch.sigmoid(self.shared(x.mean((2, 3), keepdim=True)) + self.shared(x.amax((2, 3), keepdim=True)))


class SpatialAttention(nn.Module):
    """Where it matters: a convolution of the mean and the maximum over channels (Woo et al. 2018, Eq. 3)."""

    def __init__(self, size: int = 7) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 1, size, padding=size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, h, w) in (0, 1)."""
        return torch.sigmoid(self.mix(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)))


class Attention(nn.Module):
    """CBAM: channels first, then places; the map keeps its shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels, self.places = ChannelAttention(width), SpatialAttention()

    def forward(self, x: Tensor) -> Tensor:
        """The map, weighed."""
        x = x * self.channels(x)
        return x * self.places(x)


class CbamEfficientNet(nn.Module):
    """EfficientNet-B0 with CBAM on its last map; torchvision's names, so that its weights can be read."""

    channels = 3
    widths = (16, 24, 40, 112, 1280)

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import efficientnet_b0

        self.features = efficientnet_b0(weights=None).features
        self.attention = Attention(self.widths[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Five maps, each half as wide as the one before."""
        maps = []
        for name, layer in self.features.named_children():
            x = layer(x)
            if name in "12358":
                maps.append(x)
        maps[-1] = self.attention(maps[-1])
        return maps


class CbamResNet(nn.Module):
    """ResNet-50 with CBAM after each of its four stages."""

    channels = 3
    widths = (64, 256, 512, 1024, 2048)

    def __init__(self) -> None:
        super().__init__()
        from torchvision.models import resnet50

        whole = resnet50(weights=None)
        self.conv1, self.bn1, self.relu, self.maxpool = whole.conv1, whole.bn1, whole.relu, whole.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = whole.layer1, whole.layer2, whole.layer3, whole.layer4
        self.attention = nn.ModuleList(Attention(width) for width in self.widths[1:])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Five maps, each half as wide as the one before."""
        x = self.relu(self.bn1(self.conv1(x)))
        maps = [x]
        x = self.maxpool(x)
        for stage, attention in zip((self.layer1, self.layer2, self.layer3, self.layer4), self.attention, strict=True):
            x = attention(stage(x))
            maps.append(x)
        return maps


def freeze(encoder: Any, frozen: bool = True) -> None:
    """Hold (or release) what came from pretraining: all but attention. Frozen layers also keep their statistics."""
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not frozen or name.startswith("attention."))


def tune_in_two_phases(
    model: Classifier, crops: Crops, heads: np.ndarray | None, first: TuneConfig, second: TuneConfig, run: Run
) -> Classifier:
    """Freeze, then unfreeze: attention and the last layer alone first, then everything at ``second``'s lower rate."""
    freeze(model.encoder)
    tune(model, crops, heads, first, run, "frozen")
    freeze(model.encoder, False)
    return tune(model, crops, heads, second, run, "unfrozen")
