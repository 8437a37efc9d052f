"""The convolutional baselines of the paper's Table 2, behind the interface of the other networks.

Each is what the authors loaded, with five outputs in place of 1000 or 400: VGG16 from torchvision, on the first frame
alone (the paper's lower bound); R3D (there pytorchvideo's ``slow_r50``), R(2+1)D, X3D, I3D and SlowFast from
pytorchvideo. ``width`` is the number of channels after the first convolution: 64 (24 for X3D) is the published network,
fewer make it narrower throughout.
"""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from casa.grade.look import Look
from casa.grade.prediction import N_GRADES, Network, Prediction

ConvName = Literal["vgg16", "r3d", "r2plus1d", "x3d", "i3d", "slowfast"]


@dataclass(frozen=True, kw_only=True)
class ConvConfig(Look):
    """Sizes of a convolutional network."""

    network: ConvName
    width: int = 64
    dropout: float = 0.5


class ConvNet(Network):
    """One of the networks, as ``net``; its logits are of the clip as a whole."""

    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        self.config = config
        self.net = _BUILDERS[config.network](config)

    def forward(self, clips: Tensor) -> Prediction:
        """Clips (b, 3, t, h, w)."""
        net: Any = self.net
        x: Any = self.config.seen(clips)
        if self.config.network == "vgg16":
            features = net.avgpool(net.features(x[:, :, 0])).flatten(1)
            features = net.classifier[:-1](features)
            return Prediction(net.classifier[-1](features), features=(features,))
        if self.config.network == "slowfast":  # the slow path sees a fourth of the frames, from first to last
            frames = x.shape[2]
            x = [x[:, :, torch.linspace(0, frames - 1, frames // 4).long()], x]
        for block in net.blocks[:-1]:
            x = block(x)
        head = net.blocks[-1]
        features = (head.pool(x) if head.pool is not None else x).mean((2, 3, 4))
        return Prediction(head.proj(head.dropout(features)), features=(features,))


def _vgg16(config: ConvConfig) -> nn.Module:
    from torchvision.models.vgg import VGG, cfgs, make_layers

    if config.width == 64:
        return VGG(make_layers(cfgs["D"]), num_classes=N_GRADES, dropout=config.dropout)
    layers: list[Any] = [c if isinstance(c, str) else c * config.width // 64 for c in cfgs["D"]]
    # From scratch and narrow it needs batch norm to learn at all, and no 100 million weights after the convolutions.
    net = VGG(make_layers(layers, batch_norm=True), num_classes=N_GRADES)
    net.avgpool = nn.AdaptiveAvgPool2d(1)
    net.classifier = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(layers[-2], N_GRADES))
    return net


def _resnet(config: ConvConfig) -> nn.Module:
    kernels: dict[str, Any] = {"stem_conv_kernel_size": (1, 7, 7)}
    if config.network == "i3d":
        kernels = {
            "stem_conv_kernel_size": (5, 7, 7),
            "stage1_pool": nn.MaxPool3d,
            "stage_conv_a_kernel_size": (
                (3, 1, 1),
                [(3, 1, 1), (1, 1, 1)],
                [(3, 1, 1), (1, 1, 1)],
                [(1, 1, 1), (3, 1, 1)],
            ),
        }
    return _pytorchvideo("resnet").create_resnet(**kernels, **_common(config), stem_dim_out=config.width)


def _r2plus1d(config: ConvConfig) -> nn.Module:
    return _pytorchvideo("r2plus1d").create_r2plus1d(**_common(config), stem_dim_out=config.width, head_activation=None)


def _slowfast(config: ConvConfig) -> nn.Module:
    fast = max(config.width // 8, 1)
    return _pytorchvideo("slowfast").create_slowfast(
        **_common(config),
        slowfast_channel_reduction_ratio=(config.width // fast,),
        slowfast_fusion_conv_kernel_size=(7, 1, 1),
        stem_dim_outs=(config.width, fast),
    )


def _x3d(config: ConvConfig) -> nn.Module:
    return _pytorchvideo("x3d").create_x3d(
        input_clip_length=config.frames,
        input_crop_size=config.seen_px,
        model_num_class=N_GRADES,
        dropout_rate=config.dropout,
        stem_dim_in=config.width // 2,
        depth_factor=2.2,
        head_dim_out=2048 * config.width // 24,
        head_activation=None,
    )


def _common(config: ConvConfig) -> dict[str, Any]:
    return {"model_num_class": N_GRADES, "dropout_rate": config.dropout, "head_pool": nn.AdaptiveAvgPool3d}


def _pytorchvideo(module: str) -> Any:
    """A module of ``pytorchvideo.models``, without the warning that its use of TorchScript has become."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(f"pytorchvideo.models.{module}")


_BUILDERS = {
    "vgg16": _vgg16,
    "r3d": _resnet,
    "i3d": _resnet,
    "r2plus1d": _r2plus1d,
    "slowfast": _slowfast,
    "x3d": _x3d,
}
