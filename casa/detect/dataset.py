"""What the detector is trained on: simulated pictures, and the first frames of a labelled real clip.

All pictures are held in memory as gray uint8; a thousand of them take 300 MB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.detect.augment import LabelledImage
from casa.detect.preprocess import to_gray
from casa.errors import CasaError, InputError


class LabelledPicture(Protocol):
    """What the simulator gives: a picture of 8 or 16 bits, (h, w, 3) RGB, its white level, boxes and classes."""

    @property
    def image(self) -> NDArray[Any]:
        """(h, w, 3) RGB."""
        ...

    @property
    def xyxy(self) -> NDArray[np.float64]:
        """(n, 4), px."""
        ...

    @property
    def class_id(self) -> NDArray[np.int64]:
        """(n,)."""
        ...

    @property
    def white_level(self) -> int:
        """What becomes 255."""
        ...


def simulated_images(
    pictures: Iterable[LabelledPicture],
    count: int,
    recipe: str,
    cache: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[LabelledImage]:
    """The first ``count`` of the simulator's pictures, kept in ``cache`` (.npz), from which they are read again.

    Parameters
    ----------
    pictures : picture k must depend on ``recipe`` and k alone, so that a longer cache of the same recipe serves too.
        They are made gray, and 8 bits, as the detector does it.
    recipe : what the pictures follow from (seed, routes, revision of the simulator); a cache of another is not taken.
    """
    images = _read_cache(cache, recipe) if cache is not None else []
    if len(images) >= count:
        return images[:count]
    have = len(images)
    for k, picture in enumerate(islice(pictures, count)):
        if k >= have:
            gray = to_gray(picture.image, picture.white_level)
            images.append(LabelledImage(gray, picture.xyxy, picture.class_id))
        advance()
    if cache is not None:
        _write_cache(cache, recipe, images)
    return images


def _read_cache(path: Path, recipe: str) -> list[LabelledImage]:
    if not path.is_file():
        return []
    with np.load(path) as stored:
        if "recipe" not in stored or str(stored["recipe"]) != recipe:
            return []
        pictures, boxes, classes, n_boxes = (stored[key] for key in ("pictures", "boxes", "classes", "n_boxes"))
    ends = np.cumsum(n_boxes)[:-1]
    return [
        LabelledImage(*parts) for parts in zip(pictures, np.split(boxes, ends), np.split(classes, ends), strict=True)
    ]


def _write_cache(path: Path, recipe: str, images: list[LabelledImage]) -> None:
    try:
        np.savez(
            path,
            recipe=recipe,
            pictures=np.stack([item.image for item in images]),
            boxes=np.concatenate([item.xyxy for item in images]),
            classes=np.concatenate([item.class_id for item in images]),
            n_boxes=np.array([len(item.xyxy) for item in images]),
        )
    except OSError as error:
        raise CasaError(f"{path}: cannot be written ({error.strerror}); free space or choose another folder") from error


def clip_images(folder: Path, first: int, last: int, stride: int = 1) -> list[LabelledImage]:
    """Frames ``first`` to ``last`` (both included) of ``folder``'s clip.mp4, with the boxes of its tracks.csv.gz.

    Every ``stride``-th frame alone: neighbouring frames are much alike.

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
    images, seen = [], 0
    with av.open(str(video)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index > last:
                break
            seen = index + 1
            if index < first or (index - first) % stride:
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
    if seen <= last:
        raise InputError(f"{video}: has {seen} frames, frames {first} to {last} were asked for")
    return images
