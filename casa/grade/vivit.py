"""ViViT with a factorised encoder (Arnab et al. 2021, model 2): a baseline.

A transformer over the patches of each tubelet's time, then one over time. Modules bear the names of the checkpoints
that the paper's authors used (github.com/mx-mark/VideoTransformer-pytorch): there each time is the mean of its patches,
and [CLS] enters the second transformer as the first time's. (Their program takes it from other clips of the batch, if
there is more than one.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from casa.errors import InputError
from casa.grade.look import Look
from casa.grade.prediction import N_GRADES, Network, Prediction
from casa.grade.timesformer import Attention, init_linear


@dataclass(frozen=True, kw_only=True)
class ViViTConfig(Look):
    """Sizes; ``time_depth`` blocks follow over time."""

    patch_px: int = 16
    tubelet_frames: int = 2
    width: int = 768
    depth: int = 12
    time_depth: int = 4
    heads: int = 12

    def __post_init__(self) -> None:
        if self.tubelet_frames < 1 or self.frames % self.tubelet_frames:
            raise InputError(f"vivit: {self.frames} frames are no multiple of the {self.tubelet_frames} of a tubelet")


class _Attend(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attn = Attention(width, heads)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn(self.norm(x))[0]


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(width, 4 * width)), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers[1](F.gelu(self.layers[0](self.norm(x))))


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([_Attend(width, heads)])
        self.ffns = nn.ModuleList([_FeedForward(width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.ffns[0](self.attentions[0](x))


class _Transformer(nn.Module):
    def __init__(self, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class _Tubelets(nn.Module):
    def __init__(self, config: ViViTConfig) -> None:
        super().__init__()
        kernel = (config.tubelet_frames, config.patch_px, config.patch_px)
        self.projection = nn.Conv3d(3, config.width, kernel, stride=kernel)


class ViViT(Network):
    """Factorised encoder and one head."""

    def __init__(self, config: ViViTConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.patch_embed = _Tubelets(config)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (config.seen_px // config.patch_px) ** 2, d))
        self.time_embed = nn.Parameter(torch.zeros(1, 1 + config.frames // config.tubelet_frames, d))
        self.transformer_layers = nn.ModuleList(
            [_Transformer(d, config.heads, config.depth), _Transformer(d, config.heads, config.time_depth)]
        )
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.head = nn.Linear(d, N_GRADES)
        self.apply(init_linear)
        for embedding in (self.cls_token, self.pos_embed, self.time_embed):
            nn.init.trunc_normal_(embedding, std=0.02)

    def forward(self, clips: Tensor) -> Prediction:
        """Clips (b, 3, t, h, w)."""
        over_space, over_time = self.transformer_layers
        x = (
            self.patch_embed.projection(self.config.seen(clips)).flatten(3).permute(0, 2, 3, 1)
        )  # (b, t / tubelet, n, d)
        b, t, n, d = x.shape
        x = torch.cat([self.cls_token[:, None].expand(b, t, 1, d), x], dim=2) + self.pos_embed[:, None]
        x = over_space(x.view(b * t, 1 + n, d)).view(b, t, 1 + n, d)
        x = torch.cat([x[:, 0, :1], x[:, :, 1:].mean(2)], dim=1) + self.time_embed
        cls = self.norm(over_time(x))[:, 0]
        return Prediction(self.head(cls), features=(cls,))
