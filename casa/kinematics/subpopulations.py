"""Sub-populations: groups of sperm that swim alike, found in the kinematics of motile tracks.

Tracks of grades a to c that were seen for a whole grading window are placed by VCL, VSL, LIN, ALH and BCF; speeds and
ALH enter by their logarithm, everything standardised by median and quartiles. Gaussian mixtures of 1 to 6 groups are
fitted. The number of groups is the one with the lowest integrated completed likelihood (BIC plus twice the entropy of
the assignments; Biernacki, Celeux & Govaert 2000, IEEE PAMI 22:719), which, unlike BIC, does not part one skewed group
into overlapping halves; of these numbers only such count as come back when the tracks are drawn anew (adjusted Rand
index of bootstraps, Hennig 2007, Comput Stat Data Anal 52:258). Groups describe one sample; they are no WHO category.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from casa.kinematics.mixture import fit_mixture
from casa.types import FloatArray, IntArray, KinematicsFlag, KinematicsTable

MAX_GROUPS = 6
#: Fewer motile tracks than this are not grouped, and no group is smaller than so many tracks and such a part.
MIN_TRACKS, MIN_IN_GROUP, MIN_SHARE = 60, 15, 0.05
#: Adjusted Rand index from which a grouping counts as found again (Steinley 2004, Psychol Methods 9:386: moderate).
MIN_AGREEMENT = 0.65
_FIT_AT_MOST, _BOOTSTRAPS = 1500, 10
_CLIP = 4.0  # standard deviations: what lies further out is a wrong track, and would be a group of its own

_BY_LOG = ("VCL", "VSL", "ALH")
_COLUMNS = {"VCL": "vcl_um_s", "VSL": "vsl_um_s", "LIN": "lin", "ALH": "alh_mean_um", "BCF": "bcf_hz"}
#: Below 50 images/s ALH and BCF are not trustworthy.
_TRUSTED_AT_ANY_RATE = ("VCL", "VSL", "LIN")


@dataclass(frozen=True, slots=True, eq=False)
class Subpopulations:
    """Groups of tracks, the one with the highest median VSL first.

    Parameters
    ----------
    label : (n,) int64 group of each row of the table, from 0; -1 where it was left out (immotile, short, not measured).
    certainty : (n,) float64, probability of that group; NaN where left out.
    n_groups : 0 where there were too few tracks to look for groups, 1 where no grouping was found.
    features : what the groups were found by.
    scores : integrated completed likelihood by number of groups from 1, lower is better; empty without groups.
    agreement : median adjusted Rand index of the grouping when tracks are drawn anew; None for fewer than two groups.
    """

    label: IntArray
    certainty: FloatArray
    n_groups: int
    features: tuple[str, ...]
    scores: tuple[float, ...] = ()
    agreement: float | None = None

    @property
    def n_tracks(self) -> int:
        """How many tracks were grouped, or would have been."""
        return int((self.label >= 0).sum())


def find_subpopulations(kinematics: KinematicsTable, seed: int = 0) -> Subpopulations:
    """Groups of the motile tracks of a calibrated table; the same for the same table and seed."""
    low_rate = bool(np.any(kinematics.flags & KinematicsFlag.LOW_FRAME_RATE))
    features = _TRUSTED_AT_ANY_RATE if low_rate else tuple(_COLUMNS)
    values = np.column_stack([_shown(kinematics, name) for name in features])
    motile = np.isin(kinematics.motility_grade, ("a", "b", "c")) & (kinematics.flags & KinematicsFlag.SHORT == 0)
    rows = np.flatnonzero(motile & np.isfinite(values).all(axis=1))
    label = np.full(len(kinematics), -1, np.int64)
    certainty = np.full(len(kinematics), np.nan)
    if len(rows) < MIN_TRACKS:
        return Subpopulations(label, certainty, 0, features)
    points = _standardise(values[rows])
    rng = np.random.default_rng(seed)
    fitted = points if len(points) <= _FIT_AT_MOST else points[rng.choice(len(points), _FIT_AT_MOST, replace=False)]
    mixtures = [fit_mixture(fitted, k, rng) for k in range(1, MAX_GROUPS + 1)]
    scores = tuple(mixture.completed_likelihood(fitted) for mixture in mixtures)
    chosen, agreement = mixtures[0], None
    for k in np.argsort(scores, kind="stable").tolist():
        if k == 0:
            break
        found = mixtures[k].label(fitted)
        smallest = np.bincount(found, minlength=k + 1).min()
        if smallest < max(MIN_IN_GROUP, MIN_SHARE * len(fitted)):
            continue
        agreement = _agreement(fitted, found, k + 1, rng)
        if agreement >= MIN_AGREEMENT:
            chosen = mixtures[k]
            break
        agreement = None
    groups = chosen.label(points)
    by_speed = sorted(range(len(chosen.weight)), key=lambda g: (-_median(kinematics.vsl_um_s[rows[groups == g]]), g))
    label[rows] = np.argsort(by_speed)[groups]
    certainty[rows] = chosen.chances(points).max(axis=1)
    return Subpopulations(label, certainty, len(chosen.weight), features, scores, agreement)


def _shown(kinematics: KinematicsTable, name: str) -> FloatArray:
    values = getattr(kinematics, _COLUMNS[name])
    return np.log1p(values) if name in _BY_LOG else values


def _median(values: FloatArray) -> float:
    return float(np.median(values)) if len(values) else -1.0


def _standardise(values: FloatArray) -> FloatArray:
    """Each column about its median, in normal standard deviations by its quartiles, cut at ``_CLIP``."""
    q1, middle, q3 = np.percentile(values, [25, 50, 75], axis=0)
    spread = np.where(q3 > q1, (q3 - q1) / 1.349, 1.0)
    return np.clip((values - middle) / spread, -_CLIP, _CLIP)


def _agreement(points: FloatArray, found: IntArray, k: int, rng: np.random.Generator) -> float:
    """How well the grouping is found again in tracks drawn anew, with replacement."""
    again = []
    for _ in range(_BOOTSTRAPS):
        drawn = points[rng.integers(0, len(points), len(points))]
        again.append(adjusted_rand(found, fit_mixture(drawn, k, rng, starts=1).label(points)))
    return float(np.median(again))


def adjusted_rand(one: IntArray, two: IntArray) -> float:
    """Agreement of two groupings (n,) of the same things, 1 at best and 0 by chance (Hubert & Arabie 1985, Eq. 5)."""
    table = np.zeros((int(one.max()) + 1, int(two.max()) + 1))
    np.add.at(table, (one, two), 1)
    pairs = lambda counts: float((counts * (counts - 1) / 2).sum())  # noqa: E731
    rows, columns, whole = pairs(table.sum(axis=1)), pairs(table.sum(axis=0)), pairs(np.array([len(one)]))
    expected = rows * columns / whole
    highest = (rows + columns) / 2
    return 1.0 if highest == expected else (pairs(table) - expected) / (highest - expected)
