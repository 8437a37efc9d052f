"""Resident memory over a long, looped replay: flat, or growing by how much."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from casa.config import Config
from casa.errors import CasaError, InputError

#: A replay is called flat when its memory grows by less than this, MB in 10,000 frames.
FLAT_MB_PER_10000_FRAMES = 1.0
#: Shorter runs cannot tell: buffers and pools are still filling.
FRAMES_TO_TELL = 10_000
_STATM = Path("/proc/self/statm")


def resident_mb() -> float:
    """Resident memory of this process, MB (Linux).

    Raises
    ------
    CasaError : the system does not tell.
    """
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError as error:
        raise CasaError(f"{_STATM} cannot be read: memory is measured on Linux only") from error
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def memory_slope(frames: np.ndarray, rss_mb: np.ndarray, skip_fraction: float = 0.25) -> dict[str, float | bool | None]:
    """How memory grows, from samples (n,) of frame number and resident MB.

    The first ``skip_fraction`` of the run is left out: caches and pools fill there. The slope is Theil and Sen's
    (the median of the slopes of all pairs), which single peaks do not move. ``flat`` is None below 10,000 frames.
    """
    from scipy.stats import theilslopes

    late = frames >= frames[0] + skip_fraction * (frames[-1] - frames[0])
    fit: Any = theilslopes(rss_mb[late], frames[late])
    slope, _, low, high = (10_000 * float(value) for value in fit)
    return {
        "slope_mb_per_10000_frames": slope,
        "slope_low": low,
        "slope_high": high,
        "start_mb": float(rss_mb[late][0]),
        "end_mb": float(rss_mb[late][-1]),
        "peak_mb": float(rss_mb.max()),
        "flat": bool(slope < FLAT_MB_PER_10000_FRAMES) if frames[-1] - frames[0] >= 0.9 * FRAMES_TO_TELL else None,
    }


def bench_memory(
    clip: Path,
    config: Config,
    frames: int = 100_000,
    samples: int = 200,
    on_frame: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Replay a clip over and over, recording on, and follow the resident memory.

    Returns
    -------
    dict : `memory_slope`'s figures, ``frames``, ``fps``, ``recording_mb`` and the samples.

    Raises
    ------
    InputError : no such clip, or one of unknown length.
    """
    from casa.engine import replay
    from casa.sources import open_source

    if not clip.exists():
        raise InputError(f"{clip}: no such file; give a video or a folder of images")
    if frames < 1000:
        raise InputError(f"--frames {frames}: at least 1000 are needed to see a slope")
    with open_source(str(clip), config.source) as source:
        length = source.info.n_frames
    if not length:
        raise InputError(f"{clip}: its number of frames is not known, so it cannot be looped")
    looped = config.model_copy(
        update={"source": config.source.model_copy(update={"loop": -(-frames // length), "max_frames": frames})}
    )
    every = max(frames // samples, 1)
    seen: list[tuple[int, float]] = []
    count = 0

    def sample() -> None:
        nonlocal count
        if count % every == 0:
            seen.append((count, resident_mb()))
        count += 1
        on_frame()

    with tempfile.TemporaryDirectory(prefix="casa-bench-") as folder:
        output = Path(folder) / "memory.h5"
        with open_source(str(clip), looped.source) as source:
            result = replay(source, output, looped, on_frame=sample)
        recording_mb = output.stat().st_size / 2**20
    at, rss = np.array(seen).T
    return {
        "clip": str(clip),
        "frames": result.account.captured,
        "fps": result.fps_processed,
        "recording_mb": recording_mb,
        **memory_slope(at, rss),
        "samples": [[int(frame), round(mb, 1)] for frame, mb in seen],
    }
