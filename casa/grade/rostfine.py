"""RoSTFine (Fujii et al. 2023, section 4): patches that matter, looked at by frame and over time, beside the whole.

Equations are those of the paper. Where the authors' program differs, the variant ``authors`` does as it does:

| | paper | authors |
|---|---|---|
| scores (Eq. 4) | [CLS] rows of the last two layers | of the last layer |
| patches (Eq. 5) | those the scores are of | others: tokens lie patch by patch, and are read as if frame by frame |
| block (Eq. 7, 10) | LN, attention, (LN,) MLP, repeated | LN (one for all), attention, repeated; then LN, one MLP |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from casa.grade.prediction import N_GRADES, Network, Prediction
from casa.grade.timesformer import Attention, Mlp, TimeSformerConfig, TimeSformerEncoder, init_linear

BranchName = Literal["global", "spatial", "temporal"]


@dataclass(frozen=True, kw_only=True)
class RoSTFineConfig(TimeSformerConfig):
    """Sizes; ``selected`` is K of the paper, ``branch_depth`` its L and ``branch_heads`` its H.

    ``branches`` (Table 3) and ``aggregation`` (Table 4) are for ablation: with ``concat`` and ``sum`` the features are
    put together before one head, whose logits are then ``Prediction.global_``.
    """

    variant: Literal["paper", "authors"] = "paper"
    selected: int = 3
    branch_depth: int = 6
    branch_heads: int = 8
    branches: tuple[BranchName, ...] = ("global", "spatial", "temporal")
    aggregation: Literal["mean", "concat", "sum"] = "mean"


class PaperBranch(nn.Module):
    """L attention blocks as Eq. 7 (spatial) or Eq. 10 (temporal: a second LN) write them, without residual paths."""

    def __init__(self, width: int, depth: int, heads: int, norm_before_mlp: bool) -> None:
        super().__init__()
        self.norm1 = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.attention = nn.ModuleList(Attention(width, heads, qkv_bias=False) for _ in range(depth))
        self.norm2 = nn.ModuleList(nn.LayerNorm(width) if norm_before_mlp else nn.Identity() for _ in range(depth))
        self.mlp = nn.ModuleList(Mlp(width, width) for _ in range(depth))

    def forward(self, g: Tensor) -> Tensor:
        """Tokens (b, 1 + k, d) to [CLS] of the last block (b, d)."""
        for norm1, attention, norm2, mlp in zip(self.norm1, self.attention, self.norm2, self.mlp, strict=True):
            g = mlp(norm2(attention(norm1(g))[0]))
        return g[:, 0]


class AuthorsBranch(nn.Module):
    """The authors' program: attention again and again behind one LN, then one MLP behind another."""

    def __init__(self, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = nn.ModuleList(Attention(width, heads, qkv_bias=False) for _ in range(depth))
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, width)

    def forward(self, g: Tensor) -> Tensor:
        """Tokens (b, 1 + k, d) to [CLS] (b, d)."""
        for attention in self.attention:
            g = attention(self.norm1(g))[0]
        return self.mlp(self.norm2(g[:, 0]))


class RoSTFine(Network):
    """Encoder, patch selection module, role-separated branch, heads."""

    def __init__(self, config: RoSTFineConfig) -> None:
        super().__init__()
        self.config = config
        d, depth, heads = config.width, config.branch_depth, config.branch_heads
        self.encoder = TimeSformerEncoder(config)
        authors = config.variant == "authors"
        if "spatial" in config.branches:
            self.spatial = AuthorsBranch(d, depth, heads) if authors else PaperBranch(d, depth, heads, False)
        if "temporal" in config.branches:
            self.temporal = AuthorsBranch(d, depth, heads) if authors else PaperBranch(d, depth, heads, True)
        if config.aggregation == "mean":
            self.heads = nn.ModuleDict({name: nn.Linear(d, N_GRADES) for name in config.branches})
        else:
            joint = d * len(config.branches) if config.aggregation == "concat" else d
            self.heads = nn.ModuleDict({"joint": nn.Linear(joint, N_GRADES)})
        for part in (*self.heads.values(), *(getattr(self, n) for n in config.branches if n != "global")):
            part.apply(init_linear)

    def forward(self, clips: Tensor) -> Prediction:
        """Clips (b, 3, t, h, w)."""
        layers = 1 if self.config.variant == "authors" else 2
        encoded = self.encoder(clips, layers=layers)
        scores = torch.stack(encoded.attention).sum(0)[:, :, 0, 1:]  # (b, t, n), Eq. 4
        selected = scores.topk(self.config.selected, dim=-1).indices  # (b, t, k)
        f = self._select(encoded.patches, selected)  # (b, t, k, d), Eq. 5
        b, t, k, d = f.shape
        features: dict[str, Tensor] = {"global": encoded.cls}
        if "spatial" in self.config.branches:
            by_frame = torch.cat([encoded.cls[:, None, None].expand(b, t, 1, d), f], dim=2)  # Eq. 6
            features["spatial"] = self.spatial(by_frame.view(b * t, 1 + k, d)).view(b, t, d).mean(1)  # Eq. 7, 8
        if "temporal" in self.config.branches:
            over_time = torch.cat([encoded.cls[:, None], f.view(b, t * k, d)], dim=1)  # Eq. 9
            features["temporal"] = self.temporal(over_time)  # Eq. 10, 11
        return self._grade({name: features[name] for name in self.config.branches}, selected)

    def _select(self, patches: Tensor, selected: Tensor) -> Tensor:
        """Patches (b, t, k, d) at ``selected`` (b, t, k) of each frame (Eq. 5)."""
        b, t, n, d = patches.shape
        if self.config.variant == "authors":
            patches = patches.transpose(1, 2).reshape(b, t, n, d)
        return patches.gather(2, selected[..., None].expand(*selected.shape, d))

    def _grade(self, features: dict[str, Tensor], selected: Tensor) -> Prediction:
        vectors = tuple(features.values())
        if self.config.aggregation == "mean":
            logits = {name: self.heads[name](v) for name, v in features.items()}
            parts = (logits.get("global"), logits.get("spatial"), logits.get("temporal"))
            return Prediction(*parts, features=vectors, selected=selected)
        joint = torch.cat(vectors, dim=-1) if self.config.aggregation == "concat" else torch.stack(vectors).sum(0)
        return Prediction(self.heads["joint"](joint), features=vectors, selected=selected)

    def space_attention(self, clips: Tensor) -> Tensor:
        """See ``TimeSformerEncoder.space_attention``."""
        return self.encoder.space_attention(clips)
