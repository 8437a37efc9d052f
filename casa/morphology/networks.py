"""Networks of head crops: encoders, the decoder that draws the head, and the classifier with one output a part.

Encoders give their feature maps from fine to coarse. Pretrained weights are read by path; nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from casa.errors import InputError

ENCODERS = ("small", "densenet201", "efficientnet-b0", "cbam-efficientnet-b0", "cbam-resnet50")


@dataclass(frozen=True, slots=True)
class Part:
    """Something that is judged of a head by itself: "acrosome" as normal or abnormal, or "class" as one of five."""

    name: str
    classes: tuple[str, ...]


class Residual(nn.Module):
    """Two 3x3 convolutions and a way past them (He et al. 2016); ``stride`` 2 halves the map."""

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False), nn.BatchNorm2d(n_out))
        self.past = nn.Identity() if stride == 1 and n_in == n_out else nn.Conv2d(n_in, n_out, 1, stride)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return F.relu(self.second(self.first(x)) + self.past(x))


class SmallEncoder(nn.Module):
    """A compact residual network for crops of 32 to 64 px, quick on a CPU.

    Widths are multiples of 8: PyTorch 2.15 writes past its buffers in the backward pass of others (channels last).
    """

    def __init__(self, width: int = 16, channels: int = 1) -> None:
        super().__init__()
        if width < 8 or width % 8:
            raise InputError(f"width {width}: the small network is 8, 16, 24, … channels wide")
        self.channels = channels
        self.widths = (width, 2 * width, 4 * width, 6 * width)
        stem = nn.Sequential(nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        steps = zip(self.widths, self.widths[1:], strict=False)
        self.stages = nn.ModuleList([nn.Sequential(stem, Residual(width, width, 1))])
        self.stages.extend(nn.Sequential(Residual(a, b, 2), Residual(b, b, 1)) for a, b in steps)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Four (or five) maps, each half as wide as the one before."""
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class TappedEncoder(nn.Module):
    """A torchvision network's ``features``, under torchvision's own names, tapped where the map gets smaller."""

    channels = 3

    def __init__(self, features: nn.Sequential, taps: Sequence[str], widths: Sequence[int]) -> None:
        super().__init__()
        self.features, self.taps, self.widths = features, frozenset(taps), tuple(widths)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Four (or five) maps, each half as wide as the one before."""
        maps = []
        for name, layer in self.features.named_children():
            x = layer(x)
            if name in self.taps:
                maps.append(x)
        return maps


def build_encoder(name: str, width: int = 16, channels: int = 1) -> Any:
    """An encoder of ``ENCODERS``, with random weights; ``width`` and ``channels`` are the small one's.

    Raises
    ------
    InputError : no such encoder.
    """
    if name == "small":
        return SmallEncoder(width, channels)
    if name == "densenet201":  # the paper's
        from torchvision.models import densenet201

        taps = ("relu0", "denseblock1", "denseblock2", "denseblock3", "norm5")
        return TappedEncoder(densenet201(weights=None).features, taps, (64, 256, 512, 1792, 1920))
    if name == "efficientnet-b0":
        from torchvision.models import efficientnet_b0

        return TappedEncoder(efficientnet_b0(weights=None).features, "12358", (16, 24, 40, 112, 1280))
    if name in ENCODERS:
        from casa.morphology.cbam import CbamEfficientNet, CbamResNet

        return CbamEfficientNet() if name == "cbam-efficientnet-b0" else CbamResNet()
    raise InputError(f"no encoder called {name!r}; known ones are {', '.join(ENCODERS)}")


class Decoder(nn.Module):
    """Feature maps to one plane of logits: bilinear upsampling and additive fusion, coarse to fine (paper 2.2)."""

    def __init__(self, widths: Sequence[int], width: int = 16) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(nn.Conv2d(n, width, 1) for n in widths)
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
            for _ in widths[1:]
        )
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """(n, 1, h, w) logits of the head, for a picture of ``size`` (h, w)."""
        x = self.lateral[-1](maps[-1])
        for lateral, smooth, finer in zip(self.lateral[-2::-1], self.smooth, maps[-2::-1], strict=True):
            x = smooth(_resized(x, finer.shape[-2:]) + lateral(finer))
        return _resized(self.out(x), size)


def _resized(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


class Segmenter(nn.Module):
    """Encoder f, decoder g, and the linear layer that tells four turns from the coarsest map (paper 2.2)."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = Decoder(encoder.widths)
        self.rotation = nn.Linear(encoder.widths[-1], 4)

    def forward(self, x: Tensor) -> Tensor:
        """(n, 1, h, w) logits of the head."""
        return self.decoder(self.encoder(x), x.shape[-2:])

    def turns(self, x: Tensor) -> Tensor:
        """(n, 4) logits of 0, 90, 180 and 270 degrees."""
        return self.rotation(self.encoder(x)[-1].mean((2, 3)))


class Classifier(nn.Module):
    """An encoder, its coarsest map averaged, and one linear layer a part; logits of all parts side by side."""

    def __init__(self, encoder: Any, parts: Sequence[Part], dropout: float = 0.2) -> None:
        super().__init__()
        self.encoder, self.parts = encoder, tuple(parts)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(encoder.widths[-1], sum(len(part.classes) for part in parts))

    def features(self, x: Tensor) -> Tensor:
        """(n, width) what the linear layer sees."""
        return self.encoder(x)[-1].mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """(n, classes of all parts) logits."""
        return self.head(self.dropout(self.features(x)))

    def split(self, logits: Tensor) -> tuple[Tensor, ...]:
        """The logits of each part."""
        return logits.split([len(part.classes) for part in self.parts], dim=1)


_OLD_DENSENET = re.compile(
    r"^(.*denselayer\d+\.(?:norm|relu|conv))\.((?:[12])\.(?:weight|bias|running_mean|running_var))$"
)
#: Layers of a torchvision classifier that have no place in an encoder.
_LEFT_OUT = ("classifier.", "fc.")


def load_pretrained(encoder: nn.Module, path: Path) -> list[str]:
    """Fill an encoder from a torchvision (ImageNet) state file; returns the encoder's keys that start anew (CBAM's).

    Every key of the file is either used or belongs to torchvision's classifier; every key of the encoder is filled or
    belongs to attention that torchvision does not have.

    Raises
    ------
    InputError : it cannot be read, or is of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path}: not a file of PyTorch weights ({type(error).__name__}); save a state_dict"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"{path}: expected a state_dict of tensors; save torchvision's model.state_dict()")
    renamed = {_OLD_DENSENET.sub(r"\1\2", key): value for key, value in state.items()}
    given = {key: value for key, value in renamed.items() if not key.startswith(_LEFT_OUT)}
    own = encoder.state_dict()
    strange = [key for key in given if key not in own or given[key].shape != own[key].shape]
    unfilled = [key for key in own if key not in given]
    # Files from before 2018 do not count batches; nothing depends on that number.
    anew = [key for key in unfilled if key.startswith("attention.")]
    lacking = [key for key in unfilled if key not in anew and not key.endswith("num_batches_tracked")]
    if strange or lacking:
        raise InputError(
            f"{path}: not the weights of this encoder ({len(strange)} keys do not fit, such as "
            f"{(strange or ['none'])[0]}; {len(lacking)} are lacking, such as {(lacking or ['none'])[0]})"
        )
    encoder.load_state_dict(given, strict=False)
    return anew
