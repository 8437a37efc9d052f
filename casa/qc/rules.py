"""When a control is out: Westgard's rules on single runs, and a moving average for slow drifts.

All take deviations in sd of a baseline, oldest first, one control a run. Rules 1-2s, 1-3s and 2-2s are those of bead
counts (`casa.calibrate.control`). Source: Westgard et al. 1981, Clin Chem 27:493; Lucas & Saccucci 1990,
Technometrics 32:1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from casa.calibrate.control import REJECTING as REJECTING_ALONE
from casa.calibrate.control import westgard as rules_of_one_or_two

#: Rules that put a run out of control; 1-2s alone asks for a second look.
REJECTING = (*REJECTING_ALONE, "R-4s", "4-1s", "10-x")
#: Weight of the newest run in the moving average, and how many of its own sd it may be off.
EWMA_WEIGHT, EWMA_WIDTH = 0.2, 3.0


def westgard(deviations_sd: Sequence[float]) -> list[tuple[str, ...]]:
    """The rules that each run breaks.

    1-2s (a warning), 1-3s: beyond 2 or 3 sd. 2-2s: this and the one before beyond 2 sd on one side. R-4s: this and the
    one before beyond 2 sd on different sides (the rule is of two controls in one run; here of two runs in a row). 4-1s:
    the last four beyond 1 sd on one side. 10-x: the last ten on one side of the mean.
    """
    said = []
    for i, first in enumerate(rules_of_one_or_two(deviations_sd)):
        last = deviations_sd[: i + 1]
        rules = [first] if first else []
        if len(last) > 1 and abs(last[-1]) > 2 and abs(last[-2]) > 2 and last[-1] * last[-2] < 0:
            rules.append("R-4s")
        if _on_one_side(last[-4:], 4, 1.0):
            rules.append("4-1s")
        if _on_one_side(last[-10:], 10, 0.0):
            rules.append("10-x")
        said.append(tuple(rules))
    return said


def _on_one_side(values: Sequence[float], count: int, beyond: float) -> bool:
    return len(values) == count and (all(v > beyond for v in values) or all(v < -beyond for v in values))


def ewma(deviations_sd: Sequence[float], n_baseline: int) -> list[tuple[float, float]]:
    """Exponentially weighted moving average of each run, and the size at which it is an alarm, both in sd.

    z = w d + (1 - w) z of the run before, from 0. Its variance is w / (2 - w) (1 - (1 - w)^2t), and what the mean of
    ``n_baseline`` runs may itself be off by: (1 - (1 - w)^t)^2 / n.
    """
    found, z = [], 0.0
    for t, deviation in enumerate(deviations_sd, 1):
        z = EWMA_WEIGHT * deviation + (1 - EWMA_WEIGHT) * z
        forgotten = (1 - EWMA_WEIGHT) ** t
        variance = EWMA_WEIGHT / (2 - EWMA_WEIGHT) * (1 - forgotten**2) + (1 - forgotten) ** 2 / max(n_baseline, 1)
        found.append((z, EWMA_WIDTH * math.sqrt(variance)))
    return found
