"""Video files, decoded in order with the container's own timestamps.

Frames are never sought: positions given by containers are not exact, so frames are decoded from the first on and
counted. What the container promises and the decoder cannot give comes as a MissingFrame at its own place.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import av.error
import numpy as np
from numpy.typing import NDArray

from casa.config import SourceConfig
from casa.errors import InputError
from casa.sources.container import (
    AVI,
    check_avi_rate,
    is_untimed,
    open_container,
    promised_frames,
    promised_seconds,
)
from casa.sources.decode import Lost, decode, frame_ticks
from casa.sources.interlace import Combing, measure_combing, separate_fields
from casa.sources.pixels import PixelReader, colour_of, has_colour
from casa.sources.protocol import Closing
from casa.sources.timeline import NS, Timeline, exact_rate
from casa.types import Frame, IntArray, MissingFrame, SourceInfo

# Frames looked at before the first is given out: for their size, timestamps and combing.
PROBED_FRAMES = 16
# A rate beyond this is a container's time base, or nonsense, and no microscope's camera.
MAX_FPS_HZ = 100_000


class _Decoded(NamedTuple):
    """A decoded frame's picture to analyse, and the ``av.VideoFrame`` where that has colours besides."""

    image: NDArray[Any]
    coloured: Any | None


class VideoSource(Closing):
    """A video file.

    Images are (h, w) gray, of files in colour the luma: uint8, or uint16 where the pixel format has more than 8 bits,
    scaled so that 0 is the format's black and 255 or 65535 its white; ``Frame.colour`` gives (h, w, 3) uint8 RGB. Only
    files that store RGB, or a palette, give that as the image too. Rotation tags and pixel aspect are not applied:
    coordinates are those of the stored picture.

    Parameters
    ----------
    path : the file; whatever FFmpeg reads.
    config : frame rate override, handling of fields, limit and loop.

    Attributes
    ----------
    info : as found out from the file's header and first frames.
    corrected_times : timestamps that had to be replaced so far in the running or last iteration.
    combing : what was measured in the first frames; None where ``interlaced`` is ``no``.

    Raises
    ------
    InputError : missing, empty, no video, no frame that can be decoded, or a frame rate of zero or none.
    """

    def __init__(self, path: Path, config: SourceConfig) -> None:
        self._path, self._config = path, config
        self.corrected_times = 0
        with open_container(path) as container:
            stream = container.streams.video[0]
            avi = container.format.name == AVI
            self._time_base = stream.time_base or Fraction(1, NS)
            self._promised = promised_frames(container, stream)
            self._seconds = promised_seconds(container, stream)
            stated_rate = stream.average_rate or stream.guessed_rate
            if config.fps_hz is None and is_untimed(container):
                raise InputError(f"{path}: a raw stream holds no frame rate of its own; give it with --fps")
        if config.fps_hz is None and avi:
            check_avi_rate(path)
        self._strict, self._reordered, frames = self._first_frames()
        self._shape = PixelReader().image(frames[0][1]).shape
        # An AVI file holds a rate and no times; what FFmpeg makes up for reordered frames is not even in order.
        ticks = [ticks for ticks, _ in frames]
        has_times = any(t is not None for t in ticks) and not (avi and self._reordered)
        self._use_timestamps = config.fps_hz is None and has_times
        self._interval = 1 / self._rate(stated_rate, [t for t in ticks if t is not None])
        self.combing: Combing | None = None
        self._separate, self._bottom_first = self._decide_fields([frame for _, frame in frames])
        self.info = self._describe("pts" if self._use_timestamps and not avi else "assumed")

    def __iter__(self) -> Iterator[Frame | MissingFrame]:
        self.check_open()
        self.corrected_times = 0
        index_shift = t_shift_ns = 0
        for _ in range(self._config.loop):
            limit = None if self._config.max_frames is None else self._config.max_frames - index_shift
            if limit == 0:
                return
            waiting = None
            for index, t_ns, picture in itertools.islice(self._one_pass(), limit):
                if waiting is not None:
                    yield from self._pictures(*waiting, next_t_ns=t_ns + t_shift_ns)
                    self.check_open()
                waiting = (index + index_shift, t_ns + t_shift_ns, picture)
            if waiting is None:
                return
            end_ns = waiting[1] + round(self._interval * NS)
            yield from self._pictures(*waiting, next_t_ns=end_ns)
            self.check_open()
            index_shift, t_shift_ns = waiting[0] + 1, end_ns

    def frame_times_ns(self) -> IntArray:
        """(n,) times of the container's frames, 0 to n - 1 of one pass, as iterating gives them, without decoding.

        For tables that know frames by number; a damaged file may have frames that its data does not show.
        """
        self.check_open()
        items = ((ticks, None) for ticks in frame_ticks(self._path, self._reordered))
        timeline: Timeline[None] = Timeline(str(self._path), self._time_base, self._interval, self._use_timestamps)
        times = [t_ns for t_ns, _ in timeline.place(items)]
        missing = self._missing_at_end(len(times), timeline.continue_by(1))
        return np.array(times + [timeline.continue_by(step + 1) for step in range(missing)], np.int64)

    def _one_pass(self) -> Iterator[tuple[int, int, _Decoded | Lost]]:
        """(index, t_ns, picture) of the file once, what is promised but cut off included."""
        timeline: Timeline[_Decoded | Lost] = Timeline(
            str(self._path), self._time_base, self._interval, self._use_timestamps
        )
        corrected_before, found = self.corrected_times, 0
        pixels = PixelReader()
        decoded = decode(self._path, self._strict, self._reordered)
        pictures = ((ticks, self._picture(frame, pixels)) for ticks, frame in decoded)
        for t_ns, picture in timeline.place(pictures):
            self.corrected_times = corrected_before + timeline.corrected
            yield found, t_ns, picture
            found += 1
        missing = self._missing_at_end(found, timeline.continue_by(1))
        for step in range(missing):
            lost = Lost(f"the file is cut off: the last {missing} of the frames it promises are not there")
            yield found + step, timeline.continue_by(step + 1), lost

    def _missing_at_end(self, found: int, end_ns: int) -> int:
        if self._promised is not None:
            return max(0, self._promised - found)
        if self._seconds is not None and self._use_timestamps:
            # A length in seconds is rounded by the container: less than one and a half intervals says nothing.
            intervals = (self._seconds - Fraction(end_ns, NS)) / self._interval
            return round(intervals) if intervals > Fraction(3, 2) else 0
        return 0

    def _pictures(
        self, index: int, t_ns: int, picture: _Decoded | Lost, next_t_ns: int
    ) -> Iterator[Frame | MissingFrame]:
        """A container's frame as one picture, or as two: the second field half an interval after the first."""
        times = [t_ns]
        if self._separate:
            times.append(t_ns + max(1, min(next_t_ns - t_ns, round(self._interval * NS)) // 2))
        if isinstance(picture, Lost):
            for field, time in enumerate(times):
                yield MissingFrame(index, time, picture.reason, picture.status, field)
            return
        image, coloured = picture
        images = separate_fields(image, self._bottom_first) if self._separate else (image,)
        for field, time in enumerate(times):
            make_colour = None if coloured is None else partial(self._colour, coloured, field)
            yield Frame(index, time, images[field], field, make_colour)

    def _colour(self, coloured: Any, field: int) -> NDArray[Any]:
        rgb = colour_of(coloured)
        return separate_fields(rgb, self._bottom_first)[field] if self._separate else rgb

    def _picture(self, frame: Any, pixels: PixelReader) -> _Decoded | Lost:
        if isinstance(frame, Lost):
            return frame
        image = pixels.image(frame)
        if image.shape != self._shape:
            return Lost(
                f"it is {frame.width}x{frame.height} px where the first frame is {self._shape[1]}x{self._shape[0]}"
            )
        return _Decoded(image, frame if has_colour(frame) else None)

    def _first_frames(self) -> tuple[bool, bool, list[tuple[int | None, Any]]]:
        """Whether decoding can be strict, whether frames are reordered, and the first frames with their ticks.

        A file of a slightly wrong encoder may have no frame that passes strict decoding; it is then read leniently.
        """
        for strict in (True, False):
            with open_container(self._path) as container:
                stream = container.streams.video[0]
                try:
                    first = list(itertools.islice((p for p in container.demux(stream) if p.size), 64))
                except av.error.FFmpegError:
                    first = []
                differ = any(p.dts is not None and p.pts is not None and p.pts != p.dts for p in first)
                reordered = bool(stream.codec_context.has_b_frames) or differ
            decoded = itertools.islice(decode(self._path, strict, reordered), 4 * PROBED_FRAMES)
            frames = list(itertools.islice((item for item in decoded if not isinstance(item[1], Lost)), PROBED_FRAMES))
            if frames:
                return strict, reordered, frames
        raise InputError(f"{self._path}: none of its first frames can be decoded; the file is damaged or cut off")

    def _rate(self, stated: Fraction | None, ticks: list[int]) -> Fraction:
        """The nominal frame rate in Hz: the user's, the container's, or that of the first frames' timestamps."""
        if self._config.fps_hz is not None:
            return exact_rate(self._config.fps_hz)
        if stated and 0 < stated <= MAX_FPS_HZ:
            return Fraction(stated)
        steps = [b - a for a, b in itertools.pairwise(ticks) if b > a]
        if self._use_timestamps and steps:
            return 1 / (Fraction(statistics.median(steps)) * self._time_base)
        raise InputError(f"{self._path}: has a frame rate of zero or none, and no timestamps; give it with --fps")

    def _decide_fields(self, frames: list[Any]) -> tuple[bool, bool]:
        """Whether to separate fields, and whether the bottom one comes first.

        The measurement decides where something moves; the container's flag, and top field first, where nothing does.
        """
        if self._config.interlaced == "no" or self._shape[0] < 4:
            return False, False
        images = [frame.to_ndarray(format="gray") for frame in frames]
        self.combing = measure_combing([image for image in images if image.shape == images[0].shape])
        bottom_first = self.combing.combed and self.combing.bottom_first
        if self._config.interlaced == "separate":
            return True, bottom_first
        flagged = sum(bool(frame.interlaced_frame) for frame in frames) * 2 > len(frames)
        return (self.combing.combed if self.combing.decided else flagged), bottom_first

    def _describe(self, timestamps: str) -> SourceInfo:
        n_frames = self._promised
        if n_frames is None and self._seconds is not None:
            n_frames = round(self._seconds / self._interval)
        if n_frames is not None:
            n_frames *= self._config.loop
        if self._config.max_frames is not None and n_frames is not None:
            n_frames = min(n_frames, self._config.max_frames)
        pictures = 2 if self._separate else 1
        return SourceInfo(
            uri=str(self._path),
            width_px=self._shape[1],
            height_px=self._shape[0],
            fps_hz=float(pictures / self._interval),
            n_frames=None if n_frames is None else n_frames * pictures,
            timestamps=timestamps,
            interlaced=self._separate,
        )
