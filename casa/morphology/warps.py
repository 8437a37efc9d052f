"""Random transformations of batches with a known inverse: Eq. 2 of the AID paper compares masks after undoing them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from casa.config import Fraction, NonNegative, Positive, Section


class WarpRange(Section):
    """How far crops are changed; ranges are drawn from evenly.

    Parameters
    ----------
    degrees : largest turn either way. shift : largest, as a share of the side.
    scale : smallest and largest share of the picture's area in a view. aspect : of width to height.
    flip : turn half of them upside down (they face right: their sides are alike).
    brightness, contrast : largest change, in standard deviations and as a share.
    colour : largest change of each channel's gain, as a share. gray : share of colour crops made gray.
    noise : largest sd of white noise, in standard deviations of the crop.
    """

    degrees: NonNegative = 10.0
    shift: NonNegative = 0.1
    scale: tuple[Positive, Positive] = (0.6, 1.0)
    aspect: tuple[Positive, Positive] = (0.6, 1.5)
    flip: bool = True
    brightness: NonNegative = 0.5
    contrast: Fraction = 0.2
    colour: Fraction = 0.0
    gray: Fraction = 0.0
    noise: NonNegative = 0.0


def random_warps(n: int, ranges: WarpRange, generator: torch.Generator) -> Tensor:
    """(n, 2, 3) affine maps from a view's place to the picture's, both in [-1, 1]."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, generator=generator)

    angle = torch.deg2rad(uniform(-ranges.degrees, ranges.degrees))
    zoom = uniform(*ranges.scale).sqrt()
    stretch = torch.exp(uniform(*(float(torch.tensor(bound).log()) for bound in ranges.aspect)) / 2)
    mirrored = torch.rand(n, generator=generator) < (0.5 if ranges.flip else 0.0)
    up = torch.where(mirrored, -1, 1)
    cos, sin = angle.cos(), angle.sin()
    wide, high = zoom * stretch, zoom / stretch * up
    linear = torch.stack([cos * wide, -sin * high, sin * wide, cos * high], 1).reshape(n, 2, 2)
    shift = torch.stack([uniform(-2 * ranges.shift, 2 * ranges.shift) for _ in range(2)], 1)
    return torch.cat([linear, shift[:, :, None]], 2)


def inverse(maps: Tensor) -> Tensor:
    """The maps from the picture's place to the view's."""
    linear = torch.linalg.inv(maps[:, :, :2])
    return torch.cat([linear, -linear @ maps[:, :, 2:]], 2)


def warp(images: Tensor, maps: Tensor, padding: str = "border") -> Tensor:
    """(n, c, h, w) views of ``images``, bilinear; beyond them the border goes on ("border"), or is 0 ("zeros")."""
    grid = F.affine_grid(maps, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def repaint(images: Tensor, ranges: WarpRange, generator: torch.Generator) -> Tensor:
    """Another brightness, contrast, colour balance and noise; what is given is a crop of mean 0 and sd 1."""
    n, channels = images.shape[:2]

    def change(largest: float, *shape: int) -> Tensor:
        return largest * (2 * torch.rand(n, *shape, generator=generator) - 1)

    out = images * (1 + change(ranges.contrast, 1, 1, 1)) + change(ranges.brightness, 1, 1, 1)
    if channels == 3 and ranges.colour > 0:
        out = out * (1 + change(ranges.colour, 3, 1, 1))
    if channels == 3 and ranges.gray > 0:
        gray = (torch.rand(n, generator=generator) < ranges.gray)[:, None, None, None]
        out = torch.where(gray, out.mean(1, keepdim=True).expand_as(out), out)
    if ranges.noise > 0:
        sd = change(ranges.noise, 1, 1, 1).abs()
        out = out + sd * torch.randn(out.shape, generator=generator)
    return out.contiguous(memory_format=torch.channels_last)
