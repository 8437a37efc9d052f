"""The detector: weights, a backend, preprocessing, decoding and NMS behind two calls, ``start`` and ``finish``."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.config import DetectConfig
from casa.detect.backends import Backend
from casa.detect.decode import decode, nms
from casa.detect.preprocess import Geometry, prepare
from casa.errors import CasaError

#: Boxes (n, 4) float32 xyxy px of the picture, confidence (n,) float32, class_id (n,) int64; best first.
Found = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Which network ran, and how: goes into every recording."""

    name: str
    file: str
    sha256: str
    licence: str
    backend: str
    device: str
    precision: str
    classes: tuple[str, ...] = ("sperm",)
    trained_on: str = "unknown"
    card: str = ""
    scores: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pending:
    """A picture that was started."""

    ticket: Any
    geometry: Geometry


class Detector:
    """Finds sperm in pictures. One thread may use it at a time."""

    def __init__(self, backend: Backend, model: ModelInfo, config: DetectConfig) -> None:
        self.model = model
        self._backend = backend
        self._config = config

    @property
    def depth(self) -> int:
        """How many pictures may be under way at once, and are when the backend is to be kept busy."""
        return self._backend.depth

    def start(self, image: NDArray[Any]) -> Pending:
        """Begin with a picture, (h, w) or (h, w, 3), uint8 or uint16."""
        gray, geometry = self._prepare(image)
        return Pending(self._backend.start(gray), geometry)

    def _prepare(self, image: NDArray[Any]) -> tuple[NDArray[np.uint8], Geometry]:
        config = self._config
        return prepare(image, self._backend.meta.size_multiple_px, config.scale, config.white_level)

    def finish(self, pending: Pending) -> Found:
        """What is in a picture that was started; pictures are finished in the order in which they were started.

        Raises
        ------
        CasaError : the network failed, or gave numbers that are none. No sperm is an empty answer.
        """
        return self._found(*self._backend.finish(pending.ticket), pending.geometry)

    def _found(self, distances: NDArray[np.float32], logits: NDArray[np.float32], geometry: Geometry) -> Found:
        config = self._config
        try:
            xyxy, confidence, class_id = decode(distances, logits, self._backend.meta.stride_px, config.confidence)
        except FloatingPointError as error:
            raise CasaError(
                f"the detector {self.model.name} gave numbers that are not finite ({self.model.precision})"
            ) from error
        keep = nms(xyxy, confidence, config.iou_nms, class_id if len(self.model.classes) > 1 else None)
        boxes = geometry.to_picture(xyxy[keep])
        # A box whose centre the padding moved out of the picture is none.
        inside = (boxes[:, 2:] - boxes[:, :2] > 0.5).all(axis=1)
        if not inside.all():
            boxes, keep = boxes[inside], keep[inside]
        boxes, keep = boxes[: config.max_detections], keep[: config.max_detections]
        return boxes, confidence[keep], class_id[keep]

    def detect(self, images: Sequence[NDArray[Any]]) -> list[Found]:
        """What is in each of the pictures, several of them under way at once where the backend can."""
        pending: deque[Pending] = deque()
        found = []
        for image in images:
            pending.append(self.start(image))
            if len(pending) > self.depth - 1:
                found.append(self.finish(pending.popleft()))
        return found + [self.finish(item) for item in pending]

    def detect_batch(self, images: Sequence[NDArray[Any]]) -> list[Found]:
        """What is in pictures that came at once, from several streams: those of one size in one pass of the device."""
        prepared = [self._prepare(image) for image in images]
        by_size: dict[tuple[int, ...], list[int]] = {}
        for k, (gray, _) in enumerate(prepared):
            by_size.setdefault(gray.shape, []).append(k)
        found: dict[int, Found] = {}
        for members in by_size.values():
            distances, logits = self._backend.batch(np.stack([prepared[k][0] for k in members]))
            for row, k in enumerate(members):
                found[k] = self._found(distances[row], logits[row], prepared[k][1])
        return [found[k] for k in range(len(images))]

    def close(self) -> None:
        """Release the device."""
        self._backend.close()
