"""When frames really come: rate, jitter and losses over a minute, and what such times are good for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError

#: Below it ALH and BCF are not to be trusted, and from the second on they are as usual in the field (Mortimer 2015).
TRUSTED_FPS_HZ, USUAL_FPS_HZ = 50.0, 60.0
MIN_FRAMES = 20


@dataclass(frozen=True, slots=True)
class TimingResult:
    """What `measure_timing` found.

    fps_hz : true rate, frames that were lost counted, with its uncertainty (about 95 %, per cent); nominal_hz : as the
    camera says. jitter_ms : sd of a frame's time about an even clock; interval_p99_ms, longest_ms : between frames that
    came. lost, frames : numbers. lost_percent. timestamps : whose times. clock_error_percent : of the camera's clock by
    this machine's; None where the times are the machine's own. seconds : how long. alh_bcf : whether rate and losses
    support ALH and BCF; why_not : the reason where they do not.
    intervals_ms (n,) : between frames that follow each other.
    """

    fps_hz: float
    uncertainty_percent: float
    nominal_hz: float
    jitter_ms: float
    interval_p99_ms: float
    longest_ms: float
    frames: int
    lost: int
    lost_percent: float
    timestamps: str
    clock_error_percent: float | None
    seconds: float
    alh_bcf: bool
    why_not: str
    intervals_ms: NDArray[np.float64]


def measure_timing(
    index: NDArray[np.int64],
    t_ns: NDArray[np.int64],
    lost: int,
    nominal_hz: float,
    timestamps: str,
    host_ns: NDArray[np.int64] | None = None,
) -> TimingResult:
    """Timing from the frames that came.

    Parameters
    ----------
    index, t_ns : (n,) number and time of each frame that came, ascending; numbers skip lost ones. lost : how many did
    not come. nominal_hz, timestamps : as in SourceInfo. host_ns : (n,) this machine's clock at the grab.

    Raises
    ------
    InputError : fewer than `MIN_FRAMES` frames.
    """
    n = len(index)
    if n < MIN_FRAMES:
        raise InputError(f"{n} frames came: at least {MIN_FRAMES} are needed to tell the timing; measure for longer")
    number = (index - index[0]).astype(np.float64)
    t_s = (t_ns - t_ns[0]) / 1e9
    interval_s, start = np.polyfit(number, t_s, 1)
    if interval_s <= 0:
        raise InputError("the frames' times do not rise: the source has no clock")
    jitter_s = t_s - (start + interval_s * number)
    error = float(jitter_s.std() / np.sqrt(((number - number.mean()) ** 2).sum())) / interval_s
    follows = np.diff(index) == 1
    gaps_ms = np.diff(t_s) * 1e3
    intervals = gaps_ms[follows] if follows.any() else gaps_ms
    clock_error = None
    if host_ns is not None and timestamps != "host":
        clock_error = 100 * (float(np.polyfit((host_ns - host_ns[0]) / 1e9, t_s, 1)[0]) - 1)
    fps_hz = float(1 / interval_s)
    lost_percent = 100 * lost / (n + lost)
    why_not = _why_not(fps_hz, float(jitter_s.std()) / interval_s, lost_percent)
    return TimingResult(
        fps_hz=fps_hz,
        uncertainty_percent=200 * error,
        nominal_hz=nominal_hz,
        jitter_ms=1e3 * float(jitter_s.std()),
        interval_p99_ms=float(np.quantile(intervals, 0.99)),
        longest_ms=float(gaps_ms.max()),
        frames=n,
        lost=lost,
        lost_percent=lost_percent,
        timestamps=timestamps,
        clock_error_percent=clock_error,
        seconds=float(t_s[-1]),
        alh_bcf=not why_not,
        why_not=why_not,
        intervals_ms=np.asarray(intervals, np.float64),
    )


def _why_not(fps_hz: float, jitter_of_interval: float, lost_percent: float) -> str:
    """Why ALH and BCF cannot be had; "" where they can. VSL and VAP can be had from less."""
    if fps_hz < 0.995 * TRUSTED_FPS_HZ:
        return f"{fps_hz:.3g} images/s are too few (below {TRUSTED_FPS_HZ:g})"
    if lost_percent > 2:
        return f"{lost_percent:.2g} % of the frames are lost"
    if jitter_of_interval > 0.25:
        return f"times scatter by {100 * jitter_of_interval:.0f} % of the interval"
    return ""
