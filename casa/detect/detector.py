"""The detector: weights, a backend, preprocessing, decoding and NMS behind two calls, ``start`` and ``finish``."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from casa.config import DetectConfig
from casa.detect.backends import Backend
from casa.detect.decode import decode, nms
from casa.detect.preprocess import Geometry, prepare
from casa.detect.weights import resolve_weights
from casa.errors import CasaError, InputError

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
        gray, geometry = prepare(
            image, self._backend.meta.size_multiple_px, self._config.scale, self._config.white_level
        )
        return Pending(self._backend.start(gray), geometry)

    def finish(self, pending: Pending) -> Found:
        """What is in a picture that was started; pictures are finished in the order in which they were started.

        Raises
        ------
        CasaError : the network failed, or gave numbers that are none. No sperm is an empty answer.
        """
        distances, logits = self._backend.finish(pending.ticket)
        config = self._config
        try:
            xyxy, confidence, class_id = decode(distances, logits, self._backend.meta.stride_px, config.confidence)
        except FloatingPointError as error:
            raise CasaError(
                f"the detector {self.model.name} gave numbers that are not finite ({self.model.precision})"
            ) from error
        keep = nms(xyxy, confidence, config.iou_nms, class_id if len(self.model.classes) > 1 else None)
        boxes = pending.geometry.to_picture(xyxy[keep])
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

    def close(self) -> None:
        """Release the device."""
        self._backend.close()


def load_detector(config: DetectConfig) -> Detector:
    """The detector that ``config`` asks for.

    ``backend: auto`` is PyTorch where there is a CUDA device, else OpenVINO; a path ending in .xml means OpenVINO.

    Raises
    ------
    InputError : no such weights, or a backend that cannot read them.
    CasaError : weights whose sum is not the manifest's.
    """
    kind, device = _choose_backend(config)
    backend: Backend
    if kind == "torch":
        from casa.detect.backend_torch import TorchBackend

        weights = resolve_weights(config.weights, ("state",))
        backend = TorchBackend(weights.path, device, config.half, config.threads)
    elif device == "cuda" or config.half:
        raise InputError(f"backend {kind} runs on the CPU in single precision; use --backend torch for CUDA")
    elif kind == "onnx":
        from casa.detect.backend_onnx import OnnxBackend

        weights = resolve_weights(config.weights, ("onnx",))
        backend = OnnxBackend(weights.path, config.threads)
    else:
        from casa.detect.backend_openvino import OpenVinoBackend

        weights = resolve_weights(config.weights, ("onnx", "ir"))
        backend = OpenVinoBackend(weights.path, config.threads)
    entry = weights.entry
    model = ModelInfo(
        name=entry.name,
        file=weights.path.name,
        sha256=weights.sha256,
        licence=entry.licence,
        backend=kind,
        device=backend.device,
        precision=backend.precision,
        classes=backend.meta.classes,
        trained_on=entry.trained_on,
        card=entry.card,
        scores=dict(entry.scores),
    )
    return Detector(backend, model, config)


def _choose_backend(config: DetectConfig) -> tuple[Literal["torch", "onnx", "openvino"], Literal["cpu", "cuda"]]:
    if config.backend == "torch" or (config.backend == "auto" and config.device == "cuda"):
        device = config.device if config.device != "auto" else ("cuda" if _cuda_available() else "cpu")
        return "torch", device
    if config.backend == "auto":
        suffix = Path(config.weights).suffix
        if suffix != ".xml" and suffix != ".onnx" and config.device == "auto" and _cuda_available():
            return "torch", "cuda"
        return "openvino", "cpu"
    return config.backend, "cpu" if config.device == "auto" else config.device


def _cuda_available() -> bool:
    """Whether PyTorch has a CUDA device; without NVIDIA's driver this is known without importing torch (3 s)."""
    import ctypes

    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()
