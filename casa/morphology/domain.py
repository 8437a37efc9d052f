"""What a set of weights has learnt from, and whether a session's pictures are such. Outside of it classes are a guess.

The manifest says it of each set of weights, under ``knows``: ``um_per_px`` (least and greatest scale of its pictures),
``looks`` (how these were stained and lit), ``photographs`` (false: it has seen rendered heads alone).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from casa.errors import InputError

#: How sperm may be stained and lit, as ``morphology.look`` and ``--look`` take it.
LOOKS = ("phase contrast", "unstained", "stained", "Diff-Quik")
#: Pictures may be finer than those learnt from (they are reduced) by so much, but hardly coarser.
_FINER, _COARSER = 0.5, 1.25
UNKNOWN = "what these weights have learnt from is not known"


def checked_look(look: str | None) -> str | None:
    """A look in any case, as ``LOOKS`` has it. Raises InputError, which lists them."""
    found = next((known for known in LOOKS if look is not None and known.lower() == look.lower()), None)
    if look is not None and found is None:
        raise InputError(f"--look {look}: expected one of {', '.join(LOOKS)}")
    return found


def outside(
    knows: Mapping[str, Any], um_per_px: float | None, look: str | None, simulated: bool = False
) -> tuple[str, ...]:
    """Why a session's pictures are not such as the weights know, in words; () where they are.

    Parameters
    ----------
    knows : of the manifest's entry. um_per_px : scale of the pictures, None where uncalibrated.
    look : how the sperm are stained and lit, None where it is not said. simulated : a field drawn by casa.
    """
    if not knows or "um_per_px" not in knows:
        return (UNKNOWN,)
    reasons = []
    low, high = (float(value) for value in knows["um_per_px"])
    scales = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    if um_per_px is None:
        reasons.append(f"the scale is not known, and the network knows pictures of {scales} µm/px")
    elif not low * _FINER <= um_per_px <= high * _COARSER:
        reasons.append(f"{um_per_px:.3g} µm/px, and the network knows {scales}")
    looks = [str(name) for name in knows.get("looks", ())]
    if look is not None and look not in looks:
        reasons.append(f"{look}, and the network knows {', '.join(looks) or 'nothing that is stated'}")
    elif look is None and not simulated:
        reasons.append("how the sperm are stained and lit is not said (morphology.look, --look)")
    if simulated:
        reasons.append("a simulated field draws heads otherwise than those the network has seen")
    elif not knows.get("photographs", False):
        reasons.append("the network has seen rendered heads alone, no photograph")
    return tuple(reasons)
