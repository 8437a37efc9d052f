"""Single pictures of a source by number, exactly those that reading it in order gives; for looking, not analysing.

A container's own positions are not exact. Here a video is first read through without decoding, which gives every frame
its timestamp; a picture is then looked for from the key frame before it, and recognised by its timestamp. Where
timestamps are missing or repeat, the video is decoded from its beginning and counted.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import av.error
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from casa.config import SourceConfig
from casa.errors import InputError
from casa.sources.container import open_container
from casa.sources.decode import Lost, decode, frame_ticks
from casa.sources.interlace import separate_fields
from casa.types import MissingFrame

#: Begins the address of a video in parts: ``parts:{"1": "run.mkv"}``.
PARTS = "parts:"
#: Decoded frames kept around the last one asked for, in bytes.
KEPT_BYTES = 96 * 2**20
#: A frame further ahead than this is sought, a nearer one is decoded up to.
FAR_FRAMES = 48


class Pictures(Protocol):
    """Pictures by number: ``get`` gives (h, w) or (h, w, 3) uint8 or uint16, or one line on why there is none."""

    interlaced: bool

    def get(self, frame: int, field: int) -> NDArray[Any] | str:
        """The picture of a frame, and of its field where they are separated."""
        ...


def open_pictures(uri: str, config: SourceConfig) -> Pictures:
    """Pictures of a video file, a folder of pictures, or the simulator.

    Parameters
    ----------
    uri, config : as they were for the analysis, so that frames and fields have the same numbers. PARTS and a JSON
        object of video files by number stands for the video of a live session: there ``field`` is the file's number.

    Raises
    ------
    InputError : as `casa.sources.open_source`.
    """
    if uri.startswith(PARTS):
        return _PartsPictures({int(part): Path(name) for part, name in json.loads(uri.removeprefix(PARTS)).items()})
    if uri == "simulator" or uri.startswith("simulator:"):
        return _SimulatorPictures(uri, config)
    if Path(uri).is_dir():
        return _FolderPictures(Path(uri), config)
    if not Path(uri).exists():
        raise InputError(f"{uri}: no such file")
    return _of_video(Path(uri), config)


def _of_video(path: Path, config: SourceConfig) -> _VideoPictures:
    from casa.sources.video import VideoSource

    # one pass is enough: a looped recording shows the same frames again
    source = VideoSource(path, config.model_copy(update={"loop": 1, "max_frames": None}))
    separate = source._bottom_first if source._separate else None
    return _VideoPictures(path, source._strict, source._reordered, separate, source.info.interlaced)


class _SimulatorPictures:
    def __init__(self, uri: str, config: SourceConfig) -> None:
        from casa.sources.simulator import SimulatorSource

        source = SimulatorSource(uri, config)
        self.interlaced, self._scene = source.info.interlaced, source.scene

    def get(self, frame: int, field: int) -> NDArray[Any] | str:
        item = self._scene.frame(frame % len(self._scene))
        if isinstance(item, MissingFrame):
            return item.reason
        if self.interlaced:
            return separate_fields(item.image, bottom_first=False)[field]
        return item.image


class _FolderPictures:
    def __init__(self, folder: Path, config: SourceConfig) -> None:
        from casa.sources.images import SUFFIXES, ImageFolderSource, natural_key

        ImageFolderSource(folder, config)  # says what is wrong with it
        self.interlaced = False
        files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
        self._files = sorted(files, key=lambda path: (natural_key(path.name), path.name))

    def get(self, frame: int, field: int) -> NDArray[Any] | str:
        from casa.sources.images import read_picture

        return read_picture(self._files[frame % len(self._files)])


class _PartsPictures:
    def __init__(self, files: dict[int, Path]) -> None:
        self._files = files
        self._open: dict[int, _VideoPictures] = {}
        self.interlaced = False
        self._part(min(files))

    def _part(self, number: int) -> _VideoPictures:
        if number not in self._files or not self._files[number].exists():
            raise InputError(f"{self._files.get(number, number)}: this part of the video is missing")
        if number not in self._open:
            self._open = {number: _VideoPictures(self._files[number], True, False, None)}
        return self._open[number]

    def get(self, frame: int, field: int) -> NDArray[Any] | str:
        return self._part(field).get(frame, 0)


class _VideoPictures:
    """A video file; ``separate`` is whether the bottom field comes first, None where fields are not parted."""

    def __init__(
        self, path: Path, strict: bool, reordered: bool, separate: bool | None, interlaced: bool = False
    ) -> None:
        self.interlaced = interlaced
        self._path, self._strict, self._reordered, self._separate = path, strict, reordered, separate
        ticks = frame_ticks(path, self._reordered)
        self._n = len(ticks)
        known = [tick for tick in ticks if tick is not None]
        self._exact = len(known) == len(ticks) and len(set(known)) == len(known)
        self._ticks = known if self._exact else []
        self._number = {tick: number for number, tick in enumerate(self._ticks)}
        self._reader: Iterator[tuple[int, NDArray[Any] | Lost]] | None = None
        self._next = 0
        self._kept: OrderedDict[int, NDArray[Any] | Lost] = OrderedDict()

    def get(self, frame: int, field: int) -> NDArray[Any] | str:
        number = frame % self._n if self._n else frame
        picture = self._kept.get(number)
        if picture is None:
            picture = self._find(number)
        if isinstance(picture, Lost):
            return picture.reason
        return picture if self._separate is None else separate_fields(picture, self._separate)[field]

    def _find(self, number: int) -> NDArray[Any] | Lost:
        if self._reader is None or not self._next <= number < self._next + FAR_FRAMES:
            self._start(number)
        found = self._read_to(number)
        if found is None and self._exact:  # the container's index led past it: count from the beginning
            self._reader, self._next = self._from_beginning(), 0
            found = self._read_to(number)
        return found if found is not None else Lost("the video has no picture for it")

    def _start(self, number: int) -> None:
        if self._exact and FAR_FRAMES < number < len(self._ticks):
            self._reader, self._next = self._from_key_frame(self._ticks[number]), 0
        elif self._reader is None or number < self._next:
            self._reader, self._next = self._from_beginning(), 0

    def _read_to(self, number: int) -> NDArray[Any] | Lost | None:
        """Decode up to a frame, keeping those on the way; None where the reader is past it or at its end."""
        assert self._reader is not None
        for at, picture in self._reader:
            self._keep(at, picture)
            self._next = at + 1
            if at == number:
                return picture
            if at > number:
                break
        self._reader = None
        return None

    def _keep(self, number: int, picture: NDArray[Any] | Lost) -> None:
        self._kept[number] = picture
        self._kept.move_to_end(number)
        size = 0 if isinstance(picture, Lost) else picture.nbytes
        while len(self._kept) > max(2, KEPT_BYTES // max(size, 1)):
            self._kept.popitem(last=False)

    def _from_beginning(self) -> Iterator[tuple[int, NDArray[Any] | Lost]]:
        reformatter = VideoReformatter()
        for number, (_, frame) in enumerate(decode(self._path, self._strict, self._reordered)):
            yield number, frame if isinstance(frame, Lost) else image_of(frame, reformatter)

    def _from_key_frame(self, ticks: int) -> Iterator[tuple[int, NDArray[Any] | Lost]]:
        """Frames from the last key frame at or before ``ticks`` on."""
        reformatter = VideoReformatter()
        with open_container(self._path) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            try:
                container.seek(ticks, stream=stream, backward=True, any_frame=False)
                begun = False
                for frame in container.decode(stream):
                    begun = begun or bool(frame.key_frame)  # what comes before it may miss what it is made from
                    at = self._number.get(frame.pts if frame.pts is not None else -1)
                    if begun and at is not None and not frame.is_corrupt:
                        yield at, image_of(frame, reformatter)
            except av.error.FFmpegError:
                return


def image_of(frame: Any, reformatter: VideoReformatter) -> NDArray[Any]:
    """A decoded frame as `casa.sources.video.VideoSource` gives it: RGB, or gray of 8 or 16 bits."""
    name = frame.format.name
    gray = name.startswith("gray") and "f" not in name
    wanted = ("gray" if name == "gray" else "gray16le") if gray else "rgb24"
    return np.asarray(reformatter.reformat(frame, format=wanted, threads=1).to_ndarray())
