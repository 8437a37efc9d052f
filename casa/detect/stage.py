"""The detector as a stage of the graph: frames in, detections out, in order, a few frames behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from contextlib import suppress

import numpy as np

from casa.config import DetectConfig
from casa.detect import decode
from casa.detect.detector import Detector, ModelInfo, Pending
from casa.detect.load import load_detector
from casa.errors import CasaError
from casa.kernels import warm_up
from casa.types import Detections, Frame

#: A live picture of so many pixels is worked on by all cores; with smaller ones they get into each other's way.
_SHARED_OUT_PX = 1_000_000


class DetectStage:
    """Frame -> Detections. ``look_ahead`` frames may be under way; by default as many as the backend likes.

    A live session sets ``look_ahead`` to 0: every frame's detections come with the frame. Where ``frame_size_px``
    (width, height) is known beforehand, the network is compiled for it in ``open``, and no frame waits for that.
    """

    def __init__(
        self,
        config: DetectConfig,
        detector: Detector | None = None,
        look_ahead: int | None = None,
        frame_size_px: tuple[int, int] | None = None,
    ) -> None:
        self._config = config
        self._frame_size_px = frame_size_px
        self._detector = detector
        self._owned = detector is None
        self._look_ahead = look_ahead
        self._pending: deque[tuple[Frame, Pending]] = deque()

    def open(self) -> None:
        """Load and check the weights, and compile what runs on every frame."""
        warm_up(decode.warm_up)
        if self._detector is None:
            width, height = self._frame_size_px or (0, 0)
            alone = self._look_ahead == 0 and width * height >= _SHARED_OUT_PX
            self._detector = load_detector(self._config, one_at_a_time=alone)
        if self._frame_size_px is not None:
            with suppress(Exception):  # what is wrong will be told of a frame, not of this black picture
                self._detector.detect([np.zeros(self._frame_size_px[::-1], np.uint8)])

    @property
    def model(self) -> ModelInfo:
        """The network that runs; known once the stage is open."""
        return self._opened().model

    def _opened(self) -> Detector:
        if self._detector is None:
            raise CasaError("the detector's stage was used before it was opened")
        return self._detector

    def process(self, item: Frame) -> Iterable[Detections]:
        """Start with a frame, and give the detections of the oldest one where enough are under way."""
        detector = self._opened()
        try:
            self._pending.append((item, detector.start(item.image)))
        except CasaError as error:
            raise type(error)(f"frame {item.index}: {error}") from error
        limit = max(detector.depth - 1, 0) if self._look_ahead is None else min(self._look_ahead, detector.depth)
        return [self._finish_oldest() for _ in range(len(self._pending) - limit)]

    def flush(self) -> Iterable[Detections]:
        """The detections of the frames still under way."""
        return [self._finish_oldest() for _ in range(len(self._pending))]

    def close(self) -> None:
        """Wait for what is under way, and release the network."""
        if self._detector is None:
            return
        while self._pending:
            _, pending = self._pending.popleft()
            try:
                self._detector.finish(pending)
            except CasaError:
                continue  # the stage is being closed after a failure that was already reported
        if self._owned:
            self._detector.close()
            self._detector = None

    def _finish_oldest(self) -> Detections:
        frame, pending = self._pending.popleft()
        try:
            xyxy, confidence, class_id = self._opened().finish(pending)
        except CasaError as error:
            raise type(error)(f"frame {frame.index}: {error}") from error
        return Detections(frame.index, frame.t_ns, xyxy, confidence, class_id, frame.field)
