"""A plain video, of a head at its middle, as the pictures of a clip."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casa.cells import CLIP_FRAMES, CLIP_RATE_HZ, CLIP_SIZE_PX, ClipFlag
from casa.errors import InputError
from casa.types import IntArray

VIDEO_SUFFIXES = (".mp4", ".mkv", ".avi", ".mov", ".webm")


def read_video(path: Path) -> tuple[NDArray[np.uint8], IntArray, IntArray, IntArray]:
    """Pictures (16, 150, 150) uint8, their frames, times (ns) and flags (16,): the frames nearest to 1/15 s apart.

    Raises
    ------
    InputError : it cannot be read, is of another size than 150 x 150 px, or shorter than the 16 pictures.
    """
    import av
    import av.error

    images, t_s = [], []
    ticks_s = np.arange(CLIP_FRAMES) / CLIP_RATE_HZ
    try:
        with av.open(str(path)) as container:
            rate = container.streams.video[0].average_rate
            for frame in container.decode(video=0):
                images.append(frame.to_ndarray(format="gray"))
                fallback = len(t_s) / float(rate) if rate else 0.0
                t_s.append(frame.time if frame.time is not None else fallback)
                if t_s[-1] - t_s[0] >= ticks_s[-1] + 1 / CLIP_RATE_HZ:
                    break
    except (av.error.FFmpegError, IndexError, OSError) as error:
        raise InputError(f"{path}: cannot be read as a video ({error})") from error
    if not images:
        raise InputError(f"{path}: the video has no pictures")
    height, width = images[0].shape
    if (height, width) != (CLIP_SIZE_PX, CLIP_SIZE_PX):
        raise InputError(
            f"{path}: pictures are {width} x {height} px, expected {CLIP_SIZE_PX} x {CLIP_SIZE_PX} about a head; "
            "`casa clips` cuts such from a whole video"
        )
    away = np.abs(np.subtract.outer(ticks_s, np.array(t_s) - t_s[0]))
    nearest = away.argmin(axis=1)
    if away[-1].min() > 1 / CLIP_RATE_HZ:
        raise InputError(
            f"{path}: {len(images)} pictures in {t_s[-1] - t_s[0]:.2f} s, expected {CLIP_FRAMES} in {ticks_s[-1]:.2f} s"
        )
    late = away.min(axis=1) > 0.5 / CLIP_RATE_HZ
    t_ns = np.round(np.array(t_s)[nearest] * 1e9).astype(np.int64)
    flags = np.where(late, ClipFlag.REPEATED, 0).astype(np.int64)
    return np.stack([images[k] for k in nearest]), nearest.astype(np.int64), t_ns, flags
