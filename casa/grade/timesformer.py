"""TimeSformer with divided space-time attention (Bertasius et al. 2021): RoSTFine's video encoder, and a baseline.

Patches are kept as (b, t, n, d), clips by frames by patches by width, and [CLS] apart as (b, d), so that attention over
time and over space are each one transposition away. Modules bear the names that the published checkpoints give them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from casa.grade.look import Look
from casa.grade.prediction import N_GRADES, Network, Prediction


@dataclass(frozen=True, kw_only=True)
class TimeSformerConfig(Look):
    """Sizes of the encoder; those of the paper by default."""

    patch_px: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    drop_path: float = 0.1  # share of a clip's residual paths left out in training, rising from 0 over the layers

    @property
    def margin(self) -> int:
        """Patches on each side of a picture that are not looked at."""
        return (self.size_px - self.seen_px) // (2 * self.patch_px)

    @property
    def patches(self) -> int:
        """Patches of a frame, N in the paper."""
        return (self.seen_px // self.patch_px) ** 2


class Encoded(NamedTuple):
    """What the encoder gives (Eq. 3), and how [CLS] looked at the patches.

    ``cls`` (b, d), ``patches`` (b, t, n, d); ``attention`` has for each of the last layers that were asked for the
    rows of the spatial attention map that were asked for, (b, t, rows, 1 + n), summed over heads.
    """

    cls: Tensor
    patches: Tensor
    attention: list[Tensor]


class Attention(nn.Module):
    """Multi-head self-attention over the last axis but one."""

    def __init__(self, width: int, heads: int, qkv_bias: bool = True) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, rows: int = 0) -> tuple[Tensor, Tensor | None]:
        """Attend (b, n, d); gives also the first ``rows`` rows of the map (b, rows, n), summed over heads."""
        b, n, d = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, self.heads, self.width // self.heads).permute(2, 0, 3, 1, 4)
        scale = (self.width // self.heads) ** -0.5
        if torch.onnx.is_in_onnx_export():
            # Where there are as many tokens as heads, OpenVINO 2026.4 takes one for the other, and gives wrong
            # numbers; with clips and heads on one axis it cannot. As quick there.
            one = [part.reshape(b * self.heads, n, -1) for part in (q, k, v)]
            attended = ((one[0] * scale) @ one[1].transpose(1, 2)).softmax(-1) @ one[2]
            attended = attended.view(b, self.heads, n, -1)
        else:
            attended = F.scaled_dot_product_attention(q, k, v)
        asked = None
        if rows:  # only these rows are computed a second time, in the open
            asked = (q[:, :, :rows] @ k.transpose(-2, -1) * scale).softmax(-1).sum(1)
        return self.proj(attended.transpose(1, 2).reshape(b, n, d)), asked


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Each token for itself."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention over time, then over space, then the MLP, each with a residual path."""

    def __init__(self, config: TimeSformerConfig, drop_path: float) -> None:
        super().__init__()
        d, heads = config.width, config.heads
        self.temporal_norm1 = nn.LayerNorm(d, eps=1e-6)
        self.temporal_attn = Attention(d, heads)
        self.temporal_fc = nn.Linear(d, d)
        self.norm1 = nn.LayerNorm(d, eps=1e-6)
        self.attn = Attention(d, heads)
        self.norm2 = nn.LayerNorm(d, eps=1e-6)
        self.mlp = Mlp(d, 4 * d)
        self.drop_path = drop_path

    def forward(self, cls: Tensor, x: Tensor, rows: int = 0) -> tuple[Tensor, Tensor, Tensor | None]:
        """``cls`` (b, d) and patches ``x`` (b, t, n, d); ``rows`` of the spatial map (b, t, rows, 1 + n)."""
        b, t, n, d = x.shape
        # Over time: each patch attends to the one at its place in every frame; [CLS] takes no part.
        over_time, _ = self.temporal_attn(self.temporal_norm1(x).transpose(1, 2).reshape(b * n, t, d))
        over_time = self._drop(over_time.view(b, n, t, d)).transpose(1, 2)
        x = x + self.temporal_fc(over_time)
        # Over space: the patches of each frame and [CLS], which is in every frame and takes the mean of them.
        frames = torch.cat([cls[:, None, None].expand(b, t, 1, d), x], dim=2).view(b * t, 1 + n, d)
        over_space, asked = self.attn(self.norm1(frames), rows)
        over_space = self._drop(over_space.view(b, t, 1 + n, d))
        cls, x = cls + over_space[:, :, 0].mean(1), x + over_space[:, :, 1:]
        tokens = torch.cat([cls[:, None], x.flatten(1, 2)], dim=1)
        tokens = tokens + self._drop(self.mlp(self.norm2(tokens)))
        asked = asked.view(b, t, rows, 1 + n) if asked is not None else None
        return tokens[:, 0], tokens[:, 1:].view(b, t, n, d), asked

    def _drop(self, x: Tensor) -> Tensor:
        """Leave a residual path out for some clips of a batch, in training (stochastic depth)."""
        if not self.training or not self.drop_path:
            return x
        keep = torch.rand([len(x)] + [1] * (x.ndim - 1), device=x.device, dtype=x.dtype) >= self.drop_path
        return x * keep / (1 - self.drop_path)


class PatchEmbed(nn.Module):
    """Each patch of each frame to a vector: E x of Eq. 1."""

    def __init__(self, patch_px: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_px, stride=patch_px)

    def forward(self, clips: Tensor) -> Tensor:
        """(b, 3, t, h, w) to (b, t, n, d)."""
        b, _, t = clips.shape[:3]
        return self.proj(clips.transpose(1, 2).flatten(0, 1)).flatten(2).transpose(1, 2).unflatten(0, (b, t))


class TimeSformerEncoder(nn.Module):
    """Frames to [CLS] and patches (Eq. 1 to 3)."""

    def __init__(self, config: TimeSformerConfig) -> None:
        super().__init__()
        d = config.width
        self.config = config
        self.patch_embed = PatchEmbed(config.patch_px, d)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, d))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.patches, d))
        self.time_embed = nn.Parameter(torch.zeros(1, config.frames, d))
        drops = [config.drop_path * layer / max(config.depth - 1, 1) for layer in range(config.depth)]
        self.blocks = nn.ModuleList(Block(config, drop) for drop in drops)
        self.norm = nn.LayerNorm(d, eps=1e-6)
        self.apply(init_linear)
        for embedding in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(embedding, std=0.02)
        for block in list(self.blocks)[1:]:  # attention over time comes in as it is learned
            nn.init.zeros_(block.temporal_fc.weight)  # type: ignore[union-attr, arg-type]

    def forward(self, clips: Tensor, layers: int = 0, rows: int = 1) -> Encoded:
        """Clips (b, 3, t, h, w); ``rows`` of the spatial maps of the last ``layers`` layers."""
        x = self.patch_embed(self.config.seen(clips)) + self.pos_embed[:, None, 1:] + self.time_embed[:, :, None]
        cls = (self.cls_token + self.pos_embed[:, :1])[:, 0].expand(x.shape[0], -1)
        attention = []
        for index, block in enumerate(self.blocks):
            wanted = rows if index >= len(self.blocks) - layers else 0
            cls, x, asked = block(cls, x, wanted)
            if asked is not None:
                attention.append(asked)
        return Encoded(self.norm(cls), self.norm(x), attention)

    def space_attention(self, clips: Tensor) -> Tensor:
        """Every layer's whole spatial map, the mean over heads: (layers, b, t, 1 + n, 1 + n)."""
        everything = self(clips, layers=self.config.depth, rows=1 + self.config.patches)
        return torch.stack(everything.attention) / self.config.heads


def init_linear(module: nn.Module) -> None:
    """Weights from a truncated normal of sd 0.02 at width 768, as vision transformers begin, and no bias.

    Narrower layers get proportionally larger weights: branches have no residual paths, and at width 64 what comes out
    of layers of sd 0.02 is nothing at all.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02 * (768 / module.in_features) ** 0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class TimeSformer(Network):
    """The baseline: the encoder's [CLS] and one head."""

    def __init__(self, config: TimeSformerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = TimeSformerEncoder(config)
        self.head = nn.Linear(config.width, N_GRADES)
        init_linear(self.head)

    def forward(self, clips: Tensor) -> Prediction:
        """Clips (b, 3, t, h, w)."""
        cls = self.encoder(clips).cls
        return Prediction(self.head(cls), features=(cls,))

    def space_attention(self, clips: Tensor) -> Tensor:
        """See ``TimeSformerEncoder.space_attention``."""
        return self.encoder.space_attention(clips)
