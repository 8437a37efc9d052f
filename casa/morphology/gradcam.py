"""Heat maps of what a classifier looked at.

Grad-CAM (Selvaraju et al. 2017) and Grad-CAM++ (Chattopadhay et al. 2018).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from casa.errors import InputError

Method = Literal["gradcam", "gradcam++"]
#: In what order they are offered.
METHODS: tuple[Method, ...] = ("gradcam++", "gradcam")


def heat_maps(
    network: Callable[[Tensor], Tensor],
    layer: nn.Module,
    x: Tensor,
    outputs: Tensor,
    method: Method = "gradcam++",
    level: int = -1,
) -> Tensor:
    """How much each place of ``layer``'s map spoke for an output.

    Parameters
    ----------
    network : gives (n, k) logits. layer : gives the (n, c, h', w') map, or a list of maps.
    x : (n, channels, h, w). outputs : (n,) which logit each crop's map is of. level : which map of such a list.

    Returns
    -------
    (n, h, w) float32 in [0, 1], bilinear from the map's size; all 0 where nothing spoke for it.

    Raises
    ------
    InputError : no such method. The network's gradients and mode are left as they were.
    """
    if method not in METHODS:
        raise InputError(f"no heat map called {method!r}; known ones are {', '.join(METHODS)}")
    kept: list[Tensor] = []

    def keep(_layer: nn.Module, _given: object, out: Any) -> None:
        kept.append(out[level] if isinstance(out, list) else out)

    hook = layer.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            logits = network(x.detach().requires_grad_(True))  # a frozen network gives gradients too
            chosen = logits.gather(1, outputs[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, kept[-1])
    finally:
        hook.remove()
    maps = kept[-1].detach()
    weights = gradient.mean((2, 3)) if method == "gradcam" else _plus_plus(gradient, maps)
    cam = F.relu((weights[:, :, None, None] * maps).sum(1, keepdim=True))
    cam = cam - cam.amin((2, 3), keepdim=True)
    cam = cam / cam.amax((2, 3), keepdim=True).clamp(min=1e-12)
    return F.interpolate(cam, size=x.shape[-2:], mode="bilinear", align_corners=False)[:, 0]


def _plus_plus(gradient: Tensor, maps: Tensor) -> Tensor:
    """(n, c) weights of Grad-CAM++ (its Eq. 19 and 21, for an output taken as exp of the logit)."""
    square, cube = gradient**2, gradient**3
    below = 2 * square + (maps * cube).sum((2, 3), keepdim=True)
    alpha = torch.where(square > 0, square / torch.where(below == 0, torch.ones_like(below), below), 0.0)
    return (alpha * F.relu(gradient)).sum((2, 3))
