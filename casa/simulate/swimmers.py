"""How the simulated cells move: paths in closed form between random headings, and the wave that runs down the tail.

Head path = integral of v (cos theta, sin theta) dt + A sin(2 pi f t + phi) across the heading + flow. The heading
theta is piecewise linear in time on a fixed grid, so the integral is a chain of circular arcs and the path is known
exactly at any time. Lengths are um, times s. Knows nothing of pixels, cameras or frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Spacing of the headings' grid. Short against a beat (45 ms at 22 Hz) and against every heading noise's memory.
HEADING_STEP_S = 0.02


class Mode(StrEnum):
    """How a cell swims. Progressive comes rapid (WHO a) and slow (WHO b); circular cells are progressive too."""

    PROGRESSIVE = "progressive"
    SLOW = "slow"
    CIRCULAR = "circular"
    HYPERACTIVE = "hyperactive"
    NON_PROGRESSIVE = "non_progressive"
    IMMOTILE = "immotile"


MODES = tuple(Mode)

#: Shares of the modes in an ordinary ejaculate, near the WHO 2021 medians for fertile men.
ORDINARY_MIX: Mapping[Mode, float] = {
    Mode.PROGRESSIVE: 0.38,
    Mode.SLOW: 0.14,
    Mode.CIRCULAR: 0.06,
    Mode.HYPERACTIVE: 0.03,
    Mode.NON_PROGRESSIVE: 0.12,
    Mode.IMMOTILE: 0.27,
}


@dataclass(frozen=True, slots=True)
class Swimmers:
    """The constants of n swimmers; one entry an animal in each column.

    mode (n,) index into MODES; speed_um_s v; amplitude_um A; beat_hz f; beat_phase_rad phi; start_um (n, 2) where
    the path starts; heading_rad (n, k) on the grid; head_um (n, 2) length and width; tail_um length;
    wavelength_um; bend_rad the tail's beat as amplitude of its tangent's angle at the tip; curvature_per_um
    (n, 2) mean curvature at neck and tip; yaw_rad the head's swing; roll_hz, roll_phase_rad of its flashing;
    focus_um (n, 3) mean height over the focal plane, amplitude and period (s) of its slow change; vigour (n,)
    brightness factor of the head; variety (n, 10) uniform numbers in [0, 1) for the renderer's look.
    """

    mode: NDArray[np.int64]
    speed_um_s: FloatArray
    amplitude_um: FloatArray
    beat_hz: FloatArray
    beat_phase_rad: FloatArray
    start_um: FloatArray
    heading_rad: FloatArray
    head_um: FloatArray
    tail_um: FloatArray
    wavelength_um: FloatArray
    bend_rad: FloatArray
    curvature_per_um: FloatArray
    yaw_rad: FloatArray
    roll_hz: FloatArray
    roll_phase_rad: FloatArray
    focus_um: FloatArray
    vigour: FloatArray
    variety: FloatArray

    def __len__(self) -> int:
        return len(self.mode)

    def heading_at(self, t_s: float) -> FloatArray:
        """(n,) heading at one time, rad."""
        k, tau = _grid_position(t_s, self.heading_rad.shape[1])
        rate = (self.heading_rad[:, k + 1] - self.heading_rad[:, k]) / HEADING_STEP_S
        return self.heading_rad[:, k] + rate * tau

    def base_um(self, t_s: FloatArray) -> FloatArray:
        """(n, m, 2) positions of the average path (without beat and flow) at m times, um."""
        heading, speed = self.heading_rad, self.speed_um_s[:, None]
        arcs = _arc(heading[:, :-1], np.diff(heading, axis=1) / HEADING_STEP_S, HEADING_STEP_S, speed)
        knots = np.concatenate([np.zeros((len(self), 1, 2)), np.cumsum(arcs, axis=1)], axis=1)
        k = np.clip((t_s / HEADING_STEP_S).astype(np.int64), 0, heading.shape[1] - 2)
        tau = t_s - k * HEADING_STEP_S
        rate = (heading[:, k + 1] - heading[:, k]) / HEADING_STEP_S
        return self.start_um[:, None] + knots[:, k] + _arc(heading[:, k], rate, tau, speed)

    def beat_um(self, t_s: FloatArray) -> FloatArray:
        """(n, m, 2) displacement of the head across its heading at m times, um."""
        k = np.clip((t_s / HEADING_STEP_S).astype(np.int64), 0, self.heading_rad.shape[1] - 2)
        rate = (self.heading_rad[:, k + 1] - self.heading_rad[:, k]) / HEADING_STEP_S
        heading = self.heading_rad[:, k] + rate * (t_s - k * HEADING_STEP_S)
        phase = 2 * np.pi * self.beat_hz[:, None] * t_s + self.beat_phase_rad[:, None]
        offset = self.amplitude_um[:, None] * np.sin(phase)
        return np.stack([-offset * np.sin(heading), offset * np.cos(heading)], axis=-1)

    def head_um_at(self, t_s: FloatArray) -> FloatArray:
        """(n, m, 2) head centres at m times, um, without flow."""
        return self.base_um(t_s) + self.beat_um(t_s)

    def orientation_at(self, t_s: float) -> FloatArray:
        """(n,) direction the head points to, rad: its heading and the swing of the beat."""
        phase = 2 * np.pi * self.beat_hz * t_s + self.beat_phase_rad
        heading = self.heading_at(t_s)
        # An immotile cell's heading is the direction of its Brownian steps; its body turns a thousandth as fast.
        still = self.mode == MODES.index(Mode.IMMOTILE)
        heading = np.where(still, self.heading_rad[:, 0] + 0.03 * (heading - self.heading_rad[:, 0]), heading)
        return heading + self.yaw_rad * np.cos(phase)

    def tails_um(self, t_s: float, n_points: int) -> FloatArray:
        """(n, n_points, 2) tail points relative to the head centre, um, from the neck to the tip.

        A wave of the tangent's angle travels from neck to tip, growing with the square root of the arc length.
        """
        along = (np.arange(n_points) + 0.5) / n_points
        arc = along * self.tail_um[:, None]
        phase = 2 * np.pi * (self.beat_hz[:, None] * t_s - arc / self.wavelength_um[:, None])
        wave = self.bend_rad[:, None] * np.sqrt(along) * np.cos(phase + self.beat_phase_rad[:, None])
        bend = self.curvature_per_um[:, :1] + (self.curvature_per_um[:, 1:] - self.curvature_per_um[:, :1]) * along / 2
        angle = self.orientation_at(t_s)[:, None] + np.pi + bend * arc + wave
        step = (self.tail_um / n_points)[:, None]
        points = np.stack([np.cumsum(np.cos(angle) * step, 1), np.cumsum(np.sin(angle) * step, 1)], axis=-1)
        neck = self.head_um[:, 0] / 2
        front = self.orientation_at(t_s)
        return points - np.stack([np.cos(front) * neck, np.sin(front) * neck], axis=-1)[:, None]

    def defocus_um(self, t_s: float) -> FloatArray:
        """(n,) distance of each cell from the focal plane, um."""
        mean, amplitude, period = self.focus_um.T
        return mean + amplitude * np.sin(2 * np.pi * t_s / period + self.roll_phase_rad)

    def flash(self, t_s: float) -> FloatArray:
        """(n,) in [0, 1], 1 where the rolling head is seen edge-on and shines brightest."""
        return 0.5 + 0.5 * np.sin(2 * np.pi * self.roll_hz * t_s + self.roll_phase_rad)


def _grid_position(t_s: float, n_knots: int) -> tuple[int, float]:
    k = int(np.clip(int(t_s / HEADING_STEP_S), 0, n_knots - 2))
    return k, t_s - k * HEADING_STEP_S


def _arc(heading: FloatArray, rate: FloatArray, tau: FloatArray | float, speed: FloatArray) -> FloatArray:
    """Displacement after ``tau`` at constant speed and turning rate: the chord of an arc, exact for rate 0 too."""
    half_turn = rate * tau / 2
    chord = speed * tau * np.sinc(half_turn / np.pi)
    return np.stack([chord * np.cos(heading + half_turn), chord * np.sin(heading + half_turn)], axis=-1)


def beat_averaged_vcl_um_s(
    speed_um_s: float | FloatArray,
    amplitude_um: float | FloatArray,
    beat_hz: float | FloatArray,
    frame_interval_s: float,
) -> FloatArray:
    """Expected VCL of a straight swimmer seen at a frame interval: mean of hypot(v, lateral speed) over the beat."""
    phase = (np.arange(64) + 0.5) * (2 * np.pi / 64)
    speed, amplitude, beat = (np.asarray(x, float)[..., None] for x in (speed_um_s, amplitude_um, beat_hz))
    lateral = 2 * amplitude * np.sin(np.pi * beat * frame_interval_s) / frame_interval_s * np.cos(phase)
    return np.hypot(speed, lateral).mean(-1)


def _amplitude_for(vcl: float, speed: float, beat: float, interval: float, low: float, high: float) -> float:
    """The beat amplitude within [low, high] whose VCL is nearest to the wanted one; VCL grows with it."""
    amplitudes = np.linspace(low, high, 32)
    return float(np.interp(vcl, beat_averaged_vcl_um_s(speed, amplitudes, beat, interval), amplitudes))


def _movement(
    rng: np.random.Generator, mode: Mode, interval: float
) -> tuple[float, float, float, float, float, float, float]:
    """Speed, amplitude, beat, turning rate (rad/s), heading noise (rad) and memory (s), heading diffusion (rad2/s)."""
    u = rng.uniform
    if mode in (Mode.PROGRESSIVE, Mode.CIRCULAR):
        vcl, lin, beat = u(55, 110), u(0.65, 0.85), u(8, max(8, min(22, 0.45 / interval)))
        speed = vcl * lin
        amplitude = _amplitude_for(vcl, speed, beat, interval, 0.6, 2.5)
        if mode is Mode.CIRCULAR:
            return speed, amplitude, beat, rng.choice([-1, 1]) * speed / u(18, 60), 0.1, 1.0, 0.0
        return speed, amplitude, beat, u(-0.15, 0.15), u(0.05, 0.25), u(0.8, 2.5), 0.02
    if mode is Mode.SLOW:
        vcl, lin, beat = u(18, 38), u(0.55, 0.78), u(5, 14)
        speed = vcl * lin
        return speed, _amplitude_for(vcl, speed, beat, interval, 0.4, 1.8), beat, u(-0.2, 0.2), u(0.1, 0.3), 1.5, 0.02
    if mode is Mode.HYPERACTIVE:
        vcl, beat, speed = u(150, 220), u(6, 12), u(25, 60)
        return speed, _amplitude_for(vcl, speed, beat, interval, 3.0, 6.5), beat, 0.0, u(0.4, 0.7), u(0.4, 0.7), 0.3
    if mode is Mode.NON_PROGRESSIVE:
        vcl, lin, beat = u(12, 30), u(0.02, 0.16), u(3, 10)
        speed = vcl * lin
        return speed, _amplitude_for(vcl, speed, beat, interval, 0.3, 1.2), beat, u(-0.5, 0.5), 0.3, 1.0, 0.1
    return u(0.1, 0.9), 0.0, 1.0, 0.0, 0.0, 1.0, 20.0


def _heading(
    rng: np.random.Generator, n_knots: int, turn: float, noise: float, memory: float, diffusion: float
) -> FloatArray:
    """Ornstein-Uhlenbeck about a direction that itself turns steadily and diffuses."""
    direction = rng.uniform(-np.pi, np.pi)
    # Drawn in the order of time, so that a longer path begins as a shorter one does.
    white = rng.standard_normal((n_knots, 2)).T
    keep = float(np.exp(-HEADING_STEP_S / memory))
    drive = white[0] * noise * np.sqrt(1 - keep**2)
    drive[0] = white[0, 0] * noise
    noise_path = list(accumulate(drive.tolist(), lambda before, push: keep * before + push))
    wander = np.concatenate([[0.0], np.cumsum(white[1, 1:])]) * np.sqrt(2 * diffusion * HEADING_STEP_S)
    steady = turn * HEADING_STEP_S * np.arange(n_knots)
    return direction + steady + np.array(noise_path) + wander


def _one(
    rng: np.random.Generator, mode: Mode, area_um: tuple[float, float], n_knots: int, interval: float, defocus_um: float
) -> dict[str, object]:
    speed, amplitude, beat, turn, noise, memory, diffusion = _movement(rng, mode, interval)
    u, normal = rng.uniform, rng.normal
    moves = mode is not Mode.IMMOTILE
    tail = u(36, 46)
    bend = {Mode.IMMOTILE: 0.0, Mode.NON_PROGRESSIVE: u(0.3, 0.8), Mode.HYPERACTIVE: u(0.9, 1.3)}.get(
        mode, u(0.35, 0.8)
    )
    # A still tail keeps the shape it died in: bent more, and unevenly.
    curl = normal(0, 0.012 if moves else 0.03, 2) + (turn / max(speed, 1.0) if mode is Mode.CIRCULAR else 0.0)
    return {
        "mode": MODES.index(mode),
        "speed_um_s": speed,
        "amplitude_um": amplitude,
        "beat_hz": beat,
        "beat_phase_rad": u(0, 2 * np.pi),
        "start_um": (u(0, area_um[0]), u(0, area_um[1])),
        "head_um": (4.1 * np.exp(normal(0, 0.08)), 2.8 * np.exp(normal(0, 0.08))),
        "tail_um": tail,
        "wavelength_um": 0.65 * tail * u(0.85, 1.2),
        "bend_rad": bend,
        "curvature_per_um": curl,
        "yaw_rad": min(0.45, 0.12 * amplitude),
        "roll_hz": beat * u(0.3, 1.0) if moves else u(0.02, 0.2),
        "roll_phase_rad": u(0, 2 * np.pi),
        "focus_um": (normal(0, defocus_um), abs(normal(0, defocus_um / 3)), u(1.5, 6.0)),
        "vigour": np.exp(normal(0, 0.3)),
        "variety": rng.uniform(size=10),
        "heading_rad": _heading(rng, n_knots, turn, noise, memory, diffusion),
    }


def sample_swimmers(
    seeds: Sequence[np.random.SeedSequence],
    modes: Sequence[Mode],
    area_um: tuple[float, float],
    duration_s: float,
    frame_interval_s: float,
    defocus_um: float,
) -> Swimmers:
    """Draw one swimmer from each seed, so that each keeps its own stream whatever the others are.

    Parameters
    ----------
    seeds, modes : of each swimmer.
    area_um : width and height within which paths start.
    duration_s : how long headings are drawn for.
    frame_interval_s : the nominal one; amplitudes are chosen so that VCL seen at it lies in its band.
    defocus_um : standard deviation of the height over the focal plane.
    """
    n_knots = int(np.ceil(max(duration_s, 0.0) / HEADING_STEP_S)) + 3
    drawn = [
        _one(np.random.default_rng(seed), mode, area_um, n_knots, frame_interval_s, defocus_um)
        for seed, mode in zip(seeds, modes, strict=True)
    ]
    widths = {"start_um": (2,), "heading_rad": (n_knots,), "head_um": (2,), "curvature_per_um": (2,), "focus_um": (3,),
              "variety": (10,)}  # fmt: skip
    columns = {
        f.name: np.array([one[f.name] for one in drawn], np.int64 if f.name == "mode" else np.float64).reshape(
            (len(drawn), *widths.get(f.name, ()))
        )
        for f in fields(Swimmers)
    }
    return Swimmers(**columns)  # type: ignore[arg-type]
