"""From clips to what a network takes: some of the frames, resized, gray levels about zero (section 5.1 of the paper).

Gray levels / 255, mean 0.45, standard deviation 0.225, in three equal channels, as the published weights expect.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from casa.cells import CLIP_FRAMES, CLIP_SIZE_PX, Clip
from casa.errors import InputError

MEAN, SD = 0.45, 0.225


def frame_indices(length: int, frames: int) -> NDArray[np.int64]:
    """Which ``frames`` of a clip's ``length`` pictures a network sees: evenly spaced, first and last among them."""
    return np.linspace(0, length - 1, frames).astype(np.int64)


def clip_fault(clip: Clip) -> str | None:
    """Why a clip cannot be graded, in words; None where it can."""
    return images_fault(clip.images)


def images_fault(images: NDArray[np.generic]) -> str | None:
    """Why pictures (n, h, w) are no clip to grade, in words; None where they are."""
    if images.ndim != 3:
        return f"expected pictures (frames, height, width), got the shape {images.shape}"
    if len(images) != CLIP_FRAMES:
        return f"{len(images)} frames, expected {CLIP_FRAMES}"
    if images.shape[1:] != (CLIP_SIZE_PX, CLIP_SIZE_PX):
        return f"pictures of {images.shape[2]}x{images.shape[1]} px, expected {CLIP_SIZE_PX}x{CLIP_SIZE_PX}"
    if images.dtype != np.uint8:
        if np.issubdtype(images.dtype, np.floating) and not np.isfinite(images).all():
            return "gray levels that are not finite numbers"
        return f"gray levels as {images.dtype}, expected uint8"
    lowest, highest = int(images.min()), int(images.max())
    if highest == 0:
        return "all black"
    return f"all of one gray level ({lowest})" if lowest == highest else None


def check_clips(clips: Sequence[Clip]) -> None:
    """Refuse clips that cannot be graded.

    Raises
    ------
    InputError : of the first such clip: which, and why.
    """
    for clip in clips:
        fault = clip_fault(clip)
        if fault:
            raise InputError(f"clip {clip.clip_id} of track {clip.track_id}: {fault}; leave it out, or cut it again")


def gray_pictures(images: NDArray[np.uint8], frames: int, size_px: int) -> NDArray[np.float32]:
    """Clips (b, n, h, w) uint8 to (b, frames, size_px, size_px) float32, normalised; all channels are this one."""
    import cv2

    b, n, h, w = images.shape
    seen = images[:, frame_indices(n, frames)]
    if (h, w) != (size_px, size_px):
        # Bilinear, as in the authors' program; past one half that would skip pixels.
        how = cv2.INTER_AREA if 2 * size_px < h else cv2.INTER_LINEAR
        resized = np.empty((b * frames, size_px, size_px), np.float32)
        for target, picture in zip(resized, seen.reshape(-1, h, w), strict=True):
            cv2.resize(picture.astype(np.float32), (size_px, size_px), dst=target, interpolation=how)
        seen = resized.reshape(b, frames, size_px, size_px)
    return (seen * np.float32(1 / (255 * SD)) - np.float32(MEAN / SD)).astype(np.float32, copy=False)


def prepare(clips: Sequence[Clip], frames: int, size_px: int) -> NDArray[np.float32]:
    """Clips as a network takes them: (b, 3, frames, size_px, size_px) float32.

    Raises
    ------
    InputError : a clip of the wrong length or size, all black or of one gray level.
    """
    check_clips(clips)
    if not clips:
        return np.empty((0, 3, frames, size_px, size_px), np.float32)
    gray = gray_pictures(np.stack([clip.images for clip in clips]), frames, size_px)
    return np.repeat(gray[:, None], 3, axis=1)
