"""Clips as a stage of the graph: Frames and their Tracks in, Clips out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from casa.cells import Clip
from casa.clips.assemble import ClipAssembler
from casa.config import ClipsConfig
from casa.kernels import warm_up
from casa.types import Calibration, Frame, Tracks

#: So many frames may wait for their tracks: more than a graph has under way. Past it the oldest is let go.
MAX_WAITING = 64


class ClipStage:
    """Frame, Tracks -> Clip. Frames and Tracks each come in order, but either may be ahead of the other.

    A frame without tracks (the detector failed), or tracks whose frame did not come, give no picture.

    Parameters
    ----------
    config : of the clips.
    calibration : scale of the frames; None: uncalibrated.
    frame_size_px : (width, height) of the frames, so that kernels are warmed up on such; None: any.
    white_level : gray level of a 16-bit frame that becomes 255 (``detect.white_level``).
    """

    def __init__(
        self,
        config: ClipsConfig | None = None,
        calibration: Calibration | None = None,
        frame_size_px: tuple[int, int] | None = None,
        *,
        white_level: int = 65535,
    ) -> None:
        scale = (calibration.um_per_px_x * calibration.um_per_px_y) ** 0.5 if calibration is not None else None
        self._make = lambda: ClipAssembler(config or ClipsConfig(), scale, white_level)
        self._size = frame_size_px or (640, 480)
        self._reset()

    def _reset(self) -> None:
        self._assembler = self._make()
        self._frames: deque[Frame] = deque()
        self._tracks: deque[Tracks] = deque()

    def open(self) -> None:
        """Start without tracks; clip ids start from 1."""
        warm_up(self._warm_up)
        self._reset()

    def _warm_up(self) -> None:
        """Two heads that swim out of the field, in pictures of 8 and 16 bits, so that every kernel is called."""
        width, height = self._size
        for dtype in (np.uint8, np.uint16):
            assembler = self._make()
            image = np.random.default_rng(0).integers(0, 255, (height, width)).astype(dtype)
            for k in range(20):
                x = np.array([20.0, 40.0]) + k
                boxes = np.stack([x, x, x + 20, x + 20], axis=1).astype(np.float32)
                at = (k, k * 66_666_667)
                tracks = Tracks(
                    *at, np.array([1, 2]), boxes, np.stack([x + 10, x + 10], axis=1), np.ones(2, np.float32),
                    np.zeros(2, np.bool_), np.zeros((2, 2)), np.empty(0, np.int64),
                )  # fmt: skip
                assembler.update(Frame(*at, image), tracks)

    def process(self, item: Frame | Tracks) -> Iterable[Clip]:
        """The clips that are complete."""
        if isinstance(item, Frame):
            self._frames.append(item)
            if len(self._frames) > MAX_WAITING:
                self._frames.popleft()
        else:
            self._tracks.append(item)
        clips: list[Clip] = []
        while self._frames and self._tracks:
            frame, tracks = self._frames[0], self._tracks[0]
            of_frame, of_tracks = (frame.index, frame.field), (tracks.frame, tracks.field)
            if of_frame <= of_tracks:
                self._frames.popleft()
            if of_tracks <= of_frame:
                self._tracks.popleft()
            if of_frame == of_tracks:
                clips += self._assembler.update(frame, tracks)
            elif of_tracks < of_frame:
                self._assembler.end(tracks.ended_ids)
        return clips

    def flush(self) -> Iterable[Clip]:
        """The clips of tracks that were under way."""
        return self._assembler.finish()

    def close(self) -> None:
        """Let the pictures go."""
        self._reset()
