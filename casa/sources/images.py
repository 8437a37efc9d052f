"""A folder of pictures as a source: one file a frame, in natural order, at a frame rate that has to be given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.config import SourceConfig
from casa.errors import InputError
from casa.sources.protocol import Closing
from casa.sources.timeline import NS, exact_rate
from casa.types import Frame, MissingFrame, SourceInfo

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which frame_2 comes before frame_10, and upper case beside lower."""
    parts = re.findall(r"\d+|\D+", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def pictures_in(folder: Path) -> list[Path]:
    """The pictures of a folder, not of its subfolders, in the order in which they are frames. Raises OSError."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    return sorted(files, key=lambda path: (natural_key(path.name), path.name))


class ImageFolderSource(Closing):
    """The pictures of a folder (not of its subfolders), 8 or 16 bits, gray or colour, all of one size.

    A picture that cannot be read, or is of another size or depth than the first, is a MissingFrame. Fields are not
    separated by ``interlaced: auto``; ``separate`` is refused.

    Raises
    ------
    InputError : no such folder, no picture in it, no frame rate given, or a first picture that cannot be read.
    """

    def __init__(self, folder: Path, config: SourceConfig) -> None:
        self._config = config
        try:
            self._files = pictures_in(folder)
        except OSError as error:
            raise InputError(f"{folder}: the folder cannot be read ({error.strerror})") from error
        if not self._files:
            raise InputError(f"{folder}: holds no pictures ({', '.join(SUFFIXES)})")
        if config.fps_hz is None:
            raise InputError(f"{folder}: pictures in a folder have no frame rate; give it with --fps")
        if config.interlaced == "separate":
            raise InputError(f"{folder}: fields are separated in videos only; leave out interlaced: separate")
        self._rate = exact_rate(config.fps_hz)
        first = read_picture(self._files[0])
        if isinstance(first, str):
            raise InputError(f"{self._files[0]}: {first}")
        self._shape, self._dtype = first.shape, first.dtype
        n_frames = len(self._files) * config.loop
        self._n_frames = n_frames if config.max_frames is None else min(n_frames, config.max_frames)
        self.info = SourceInfo(
            uri=str(folder),
            width_px=first.shape[1],
            height_px=first.shape[0],
            fps_hz=float(self._rate),
            n_frames=self._n_frames,
            timestamps="assumed",
        )

    def __iter__(self) -> Iterator[Frame | MissingFrame]:
        self.check_open()
        for index in range(self._n_frames):
            self.check_open()
            path = self._files[index % len(self._files)]
            t_ns = round(index * NS / self._rate)
            image = read_picture(path)
            if not isinstance(image, str) and (image.shape, image.dtype) != (self._shape, self._dtype):
                image = (
                    f"it is {image.dtype} {image.shape} where the first picture is {self._dtype} {self._shape} "
                    "(height, width, colours)"
                )
            yield (
                MissingFrame(index, t_ns, f"{path.name}: {image}")
                if isinstance(image, str)
                else Frame(index, t_ns, image)
            )


def read_picture(path: Path) -> NDArray[Any] | str:
    """A picture as (h, w) gray or (h, w, 3) RGB, uint8 or uint16; or, in one line, why it cannot be read."""
    import cv2

    try:
        data = np.fromfile(path, np.uint8)  # not cv2.imread: it cannot open every path, and prints warnings
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not data.size:
        return "the file is empty"
    try:
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        return f"cannot be decoded ({' '.join(str(error).split())})"
    if image is None:
        return "is no picture that can be decoded"
    if image.dtype not in (np.uint8, np.uint16):
        return f"its values are {image.dtype}; 8 or 16 bits unsigned are read"
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.ndim == 3:
        image = np.ascontiguousarray(image[:, :, 2::-1])  # BGR or BGRA to RGB
    return image
