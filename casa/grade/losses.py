"""What a grade network is trained to make small (Fujii et al. 2023, section 4.5).

Distributions are (n, 5) tensors that sum to 1 along the last axis, best grade first; every distance gives one value a
clip, (n,).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import torch
from torch import Tensor

from casa.errors import InputError


def mean_squared_error(found: Tensor, true: Tensor) -> Tensor:
    """Mean of the squared differences over the grades (Eq. 12)."""
    return (found - true).square().mean(-1)


def jensen_shannon(found: Tensor, true: Tensor) -> Tensor:
    """Jensen-Shannon divergence in nats, in [0, ln 2] (Eq. 14, 15): half of *both* terms."""
    middle = (found + true) / 2
    return (_kullback_leibler(found, middle) + _kullback_leibler(true, middle)) / 2


def _kullback_leibler(p: Tensor, q: Tensor) -> Tensor:
    """Eq. 14, with 0 log 0 = 0; ``q`` is 0 only where ``p`` is."""
    tiny = torch.finfo(p.dtype).tiny
    return (p * (p.clamp_min(tiny).log() - q.clamp_min(tiny).log())).sum(-1)


def earth_movers(found: Tensor, true: Tensor) -> Tensor:
    """Squared earth mover's distance on the ordered grades: mean of the squared differences of the cumulated
    distributions (Hou, Yu, Samaras 2016). A vote that is two grades off costs more than one that is next door.
    """
    return (found.cumsum(-1) - true.cumsum(-1)).square().mean(-1)


DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": mean_squared_error,
    "js": jensen_shannon,
    "emd": earth_movers,
}


def grade_loss(parts: Sequence[Tensor], true: Tensor, distance: str) -> Tensor:
    """Mean over clips and over a network's ``parts``, each (n, 5), of their distance to the votes (Eq. 13, 16).

    Raises
    ------
    InputError : ``distance`` is none of mse, js, emd.
    """
    if distance not in DISTANCES:
        raise InputError(f"loss {distance}: expected one of {', '.join(DISTANCES)}")
    return torch.stack([DISTANCES[distance](part, true) for part in parts]).mean()


def diversity_loss(features: Sequence[Tensor]) -> Tensor:
    """Mean absolute cosine over all pairs of a network's features, each (n, d), and over clips (Eq. 17, 18).

    0 where there are fewer than two features, as of networks with a single head.
    """
    pairs = [torch.nn.functional.cosine_similarity(a, b, dim=-1).abs() for a, b in combinations(features, 2)]
    if not pairs:
        return torch.zeros(()) if not features else features[0].new_zeros(())
    return torch.stack(pairs).mean()
