"""One sperm for a close-up: how it swims, what is wrong with its head, neck and tail, and how good it therefore is.

A defect has a severity in [0, 1] that changes the drawing continuously, from nothing to what the WHO
manual (6th ed. 2021, on sperm morphology) pictures. Lengths um, times s. Knows swimmers; nothing of pixels or votes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from casa.simulate.swimmers import Mode, Swimmers, beat_averaged_vcl_um_s, sample_swimmers

FloatArray = NDArray[np.float64]

#: Defects by part, with (how often, how much of the part's quality the worst one takes).
DEFECTS: dict[str, dict[str, tuple[float, float]]] = {
    "head": {
        "size": (0.10, 0.50),
        "tapered": (0.10, 0.55),
        "pyriform": (0.07, 0.60),
        "amorphous": (0.12, 0.80),
        "round": (0.05, 0.70),
        "vacuoles": (0.10, 0.45),
    },
    "neck": {
        "neck_bent": (0.08, 0.70),
        "neck_thick": (0.07, 0.50),
        "neck_asymmetric": (0.07, 0.50),
        "droplet": (0.08, 0.60),
    },
    "tail": {
        "tail_coiled": (0.05, 0.90),
        "tail_short": (0.05, 0.80),
        "tail_bent": (0.08, 0.60),
        "tail_double": (0.03, 0.70),
    },
}
#: All defects, in the order of a `Sperm`'s severities.
DEFECT_NAMES = tuple(name for defects in DEFECTS.values() for name in defects)
#: What quality is made of, in the order of `quality`.
PARTS = ("motility", *DEFECTS)

#: How often each way of swimming occurs at mean health, and how its odds change with health.
_MODES: dict[Mode, tuple[float, float]] = {
    Mode.PROGRESSIVE: (0.50, 0.7),
    Mode.SLOW: (0.18, 0.0),
    Mode.CIRCULAR: (0.08, -0.1),
    Mode.HYPERACTIVE: (0.05, 0.2),
    Mode.NON_PROGRESSIVE: (0.10, -0.6),
    Mode.IMMOTILE: (0.09, -1.0),
}
#: What a defect at its worst leaves of the speed.
_SLOWED = {
    "neck_bent": 0.7,
    "droplet": 0.85,
    "tail_coiled": 0.2,
    "tail_short": 0.4,
    "tail_bent": 0.6,
    "tail_double": 0.7,
}
#: VCL is as a camera of 50 frames/s sees it; a clip of 15 Hz cannot tell.
VCL_INTERVAL_S = 0.02
_HEALTH_ON_DEFECTS = 0.8  # change of a defect's log odds with health
_HEAD_UM = (4.2, 2.9)


@dataclass(frozen=True, slots=True)
class Sperm:
    """One sperm: its ``swimmer`` (a single row), how it swims, its health (unit normal over all samples), severity
    (14,) by `DEFECT_NAMES`, and ``chance`` (14, 4) uniform numbers that say where and which way a defect lies.
    """

    swimmer: Swimmers
    mode: Mode
    health: float
    severity: FloatArray
    chance: FloatArray

    def of(self, defect: str) -> tuple[float, FloatArray]:
        """Severity of a defect and its four chance numbers."""
        row = DEFECT_NAMES.index(defect)
        return float(self.severity[row]), self.chance[row]


def sample_sperm(rng: np.random.Generator, sample_health: float, duration_s: float) -> Sperm:
    """Draw one sperm of a sample (patient), whose own health (unit normal) is a part of that of all its sperm.

    Healthy sperm swim better and have fewer defects; three in a hundred are far worse than the rest of their sample.
    """
    health = 0.45 * sample_health + 0.9 * rng.normal()
    gross = rng.uniform() < 0.03
    health -= 2.5 * gross
    often = np.array([share for defects in DEFECTS.values() for share, _ in defects.values()])
    odds = often / (1 - often) * np.exp(-_HEALTH_ON_DEFECTS * health)
    marked = rng.uniform(size=len(often)) < odds / (1 + odds)
    severity = np.where(marked, rng.uniform(0.35, 1.0, len(often)), 0.2 * rng.uniform(size=len(often)) ** 2)
    weights = np.array([share * np.exp(by_health * health) for share, by_health in _MODES.values()])
    mode = list(_MODES)[int(rng.choice(len(_MODES), p=weights / weights.sum()))]
    seed = np.random.SeedSequence(int(rng.integers(1 << 60)))
    swimmer = sample_swimmers([seed], [mode], (0.0, 0.0), duration_s, VCL_INTERVAL_S, 0.45)
    sperm = Sperm(swimmer, mode, float(health), severity, rng.uniform(size=(len(often), 4)))
    return replace(sperm, swimmer=with_defects(sperm))


def with_defects(sperm: Sperm) -> Swimmers:
    """The swimmer with the sizes and the speed that its defects give it."""
    s = sperm.swimmer
    slower = float(np.prod([1 - (1 - left) * sperm.of(name)[0] for name, left in _SLOWED.items()]))
    head = np.array(_HEAD_UM) * np.exp(0.5 * np.log(s.head_um / np.array([4.1, 2.8])))
    size, chance = sperm.of("size")
    head *= np.exp((0.38 if chance[0] < 0.5 else -0.42) * size)
    tapered, pyriform, rounded = (sperm.of(name)[0] for name in ("tapered", "pyriform", "round"))
    head *= np.exp([[0.3 * tapered + 0.12 * pyriform - 0.26 * rounded, -0.38 * tapered + 0.17 * rounded]])
    coiled, chance = sperm.of("tail_coiled")
    short = sperm.of("tail_short")[0]
    side = 1 if chance[0] < 0.5 else -1
    # A coil winds up towards the tip: radius 2 to 3 um at the worst.
    curl = side * coiled * np.array([[0.08 + 0.1 * chance[1], 0.75 + 0.3 * chance[2]]])
    tail = s.tail_um * (1 - 0.75 * short) * (1 - 0.25 * coiled)
    speed, amplitude, bend = s.speed_um_s * slower, s.amplitude_um * np.sqrt(slower), s.bend_rad
    if sperm.mode is not Mode.IMMOTILE:  # the faster, the wider the tail beats
        vcl = beat_averaged_vcl_um_s(speed, amplitude, s.beat_hz, VCL_INTERVAL_S)
        bend = np.minimum(0.15 + vcl / 133, 1.3) * (0.9 + 0.2 * s.variety[:, 9])
    return replace(
        s,
        speed_um_s=speed,
        amplitude_um=amplitude,
        head_um=head,
        tail_um=tail,
        wavelength_um=np.minimum(s.wavelength_um, 0.8 * tail),
        bend_rad=bend * (1 - 0.8 * coiled),
        curvature_per_um=s.curvature_per_um * (1 - coiled) + curl,
    )


def tail_strands_um(sperm: Sperm, t_s: float, n_points: int) -> list[FloatArray]:
    """Tails as (n_points, 2) relative to the head's centre, um: one, or two where the tail is double."""
    front = float(sperm.swimmer.orientation_at(t_s)[0])
    ahead = np.array([np.cos(front), np.sin(front)])
    neck = -ahead * sperm.swimmer.head_um[0, 0] / 2
    bent, bent_chance = sperm.of("neck_bent")
    aside, aside_chance = sperm.of("neck_asymmetric")
    width = sperm.swimmer.head_um[0, 1]
    moved = neck + (1 if aside_chance[0] < 0.5 else -1) * 0.46 * aside * width * np.array([-ahead[1], ahead[0]])
    turn = (1 if bent_chance[0] < 0.5 else -1) * np.deg2rad(95) * bent
    kink, kink_chance = sperm.of("tail_bent")
    kink_at = int((0.25 + 0.35 * kink_chance[1]) * n_points)
    kink_turn = (1 if kink_chance[0] < 0.5 else -1) * np.deg2rad(130) * kink

    def shaped(swimmer: Swimmers) -> FloatArray:
        points = _turned(swimmer.tails_um(t_s, n_points)[0] - neck, turn)
        points[kink_at:] = points[kink_at] + _turned(points[kink_at:] - points[kink_at], kink_turn)
        return points + moved

    first = shaped(sperm.swimmer)
    double, chance = sperm.of("tail_double")
    if double < 0.25:
        return [first]
    s = sperm.swimmer
    other = shaped(replace(s, beat_phase_rad=s.beat_phase_rad + 1 + 3 * chance[1], tail_um=s.tail_um * double))
    apart = (1 if chance[0] < 0.5 else -1) * np.deg2rad(20 + 30 * chance[2])
    return [first, moved + _turned(other - moved, apart)]


def _turned(points: FloatArray, angle_rad: float) -> FloatArray:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return points @ np.array([[cos, sin], [-sin, cos]])


def velocities_um_s(sperm: Sperm, duration_s: float) -> tuple[float, float]:
    """VCL and VSL of the head over a clip, exactly."""
    duration = round(duration_s / VCL_INTERVAL_S) * VCL_INTERVAL_S
    times = np.arange(round(duration / VCL_INTERVAL_S) + 1, dtype=np.float64) * VCL_INTERVAL_S
    path = sperm.swimmer.head_um_at(times)[0]
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
    return float(steps) / duration, float(np.linalg.norm(path[-1] - path[0])) / duration


def quality(sperm: Sperm, duration_s: float) -> FloatArray:
    """(4,) true quality of motility, head, neck and tail, in [0, 1], of the sperm as it is in a clip of this duration.

    motility = 0.15 (1 - exp(-VCL / 40)) + 0.85 (1 - exp(-VSL / 35)), um/s: to get ahead counts, to move counts a
    little. Head, neck, tail: the product of ``1 - w severity`` over the part's defects, w as in `DEFECTS`.
    """
    vcl, vsl = velocities_um_s(sperm, duration_s)
    motility = 0.15 * (1 - np.exp(-vcl / 40)) + 0.85 * (1 - np.exp(-vsl / 35))
    parts = [
        np.prod([1 - worst * sperm.of(name)[0] for name, (_, worst) in defects.items()]) for defects in DEFECTS.values()
    ]
    return np.array([motility, *parts], np.float64)
