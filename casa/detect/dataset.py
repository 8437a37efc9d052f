"""What the detector is trained on: simulated pictures, and the first frames of a labelled real clip.

All pictures are held in memory as gray uint8; a thousand of them take 300 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.detect.augment import LabelledImage
from casa.errors import CasaError, InputError


def simulated_images(
    pictures: Iterable[tuple[NDArray[np.uint8], NDArray[np.float64]]],
    count: int,
    seed: int,
    cache: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[LabelledImage]:
    """The first ``count`` of the simulator's pictures, kept in ``cache`` (.npz), from which they are read again.

    Parameters
    ----------
    pictures : (h, w, 3) RGB uint8 and boxes (n, 4) xyxy; picture k must depend on ``seed`` and k alone, so that a
        longer cache of the same seed serves too.
    """
    images = _read_cache(cache, seed) if cache is not None else []
    if len(images) >= count:
        return images[:count]
    have = len(images)
    for k, (picture, boxes) in enumerate(islice(pictures, count)):
        if k >= have:
            gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
            images.append(LabelledImage(gray, boxes, np.zeros(len(boxes), np.int64)))
        advance()
    if cache is not None:
        _write_cache(cache, seed, images)
    return images


def _read_cache(path: Path, seed: int) -> list[LabelledImage]:
    if not path.is_file():
        return []
    with np.load(path) as stored:
        if int(stored["seed"]) != seed:
            return []
        pictures, boxes, n_boxes = stored["pictures"], stored["boxes"], stored["n_boxes"]
    parts = np.split(boxes, np.cumsum(n_boxes)[:-1])
    return [
        LabelledImage(picture, part, np.zeros(len(part), np.int64))
        for picture, part in zip(pictures, parts, strict=True)
    ]


def _write_cache(path: Path, seed: int, images: list[LabelledImage]) -> None:
    try:
        np.savez(
            path,
            seed=seed,
            pictures=np.stack([item.image for item in images]),
            boxes=np.concatenate([item.xyxy for item in images]),
            n_boxes=np.array([len(item.xyxy) for item in images]),
        )
    except OSError as error:
        raise CasaError(f"{path}: cannot be written ({error.strerror}); free space or choose another folder") from error


def clip_images(folder: Path, first: int, last: int) -> list[LabelledImage]:
    """Frames ``first`` to ``last`` (both included) of ``folder``'s clip.mp4, with the boxes of its tracks.csv.gz.

    Boxes of class 0 (sperm) alone.

    Raises
    ------
    InputError : the folder holds no such clip, or the clip ends before ``last``.
    """
    import av

    from casa.tables import read_tracks

    video, table = folder / "clip.mp4", folder / "tracks.csv.gz"
    for path in (video, table):
        if not path.is_file():
            raise InputError(f"{path}: missing; --real takes a folder with clip.mp4 and tracks.csv.gz")
    truth = read_tracks(table, fps_hz=1.0)
    images = []
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index > last:
                break
            if index < first:
                continue
            rows = truth.frame == index
            centre = np.stack([truth.cx_px[rows], truth.cy_px[rows]], axis=1)
            half = np.stack([truth.w_px[rows], truth.h_px[rows]], axis=1) / 2
            gray = cv2.cvtColor(frame.to_ndarray(format="rgb24"), cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
            images.append(
                LabelledImage(
                    gray, np.concatenate([centre - half, centre + half], axis=1), np.zeros(rows.sum(), np.int64)
                )
            )
    if len(images) != last - first + 1:
        raise InputError(f"{video}: has {first + len(images)} frames, frames {first} to {last} were asked for")
    return images
