"""The grader: clips in, grade distributions and attention maps out. Imports PyTorch only where it runs on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from casa.cells import NO_NUMBERS, Clip, GradeTable
from casa.errors import CasaError, InputError
from casa.grade.backends import PARTS, GradeBackend, OpenVinoGrades, TorchGrades
from casa.grade.prepare import check_clips, clip_fault, frame_indices, gray_pictures
from casa.weights import Weights, resolve_weights

__all__ = ["Grader", "GraderInfo", "clip_fault", "frame_indices"]


@dataclass(frozen=True, slots=True)
class GraderInfo:
    """Which network grades, and how: goes into every recording."""

    name: str
    file: str
    sha256: str
    licence: str
    network: str  # such as "rostfine T (paper)"
    backend: str
    device: str
    precision: str
    frames: int
    size_px: int
    trained_on: str = "unknown"
    card: str = ""
    scores: dict[str, float] = field(default_factory=dict)


class Grader:
    """Grades clips. One thread may use it at a time.

    Parameters
    ----------
    weights : name in casa's manifest, or path of a .pt or .onnx file. A file that a manifest names is checked.
    device : ``auto`` is CUDA where there is one, else the CPU.
    backend : ``auto`` is OpenVINO on the CPU where there is an .onnx file, else PyTorch.
    threads : of the CPU; 0: all.
    batch : clips at once.

    Raises
    ------
    InputError : no such weights, not those of the manifest, or not of a grading network.
    """

    def __init__(
        self,
        weights: str = "grade",
        *,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        backend: Literal["auto", "openvino", "torch"] = "auto",
        threads: int = 0,
        batch: int = 16,
    ) -> None:
        if batch < 1:
            raise InputError(f"batch {batch}: expected at least 1")
        self._batch = batch
        found, self._backend = _load(weights, device, backend, threads)
        entry = found.entry
        self.info = GraderInfo(
            name=entry.name,
            file=found.path.name,
            sha256=found.sha256,
            licence=entry.licence,
            network=self._backend.network,
            backend="openvino" if isinstance(self._backend, OpenVinoGrades) else "torch",
            device=self._backend.device,
            precision=self._backend.precision,
            frames=self._backend.frames,
            size_px=self._backend.size_px,
            trained_on=entry.trained_on,
            card=entry.card,
            scores=dict(entry.scores),
        )

    def grade(self, clips: Sequence[Clip]) -> GradeTable:
        """The distribution that experts would give to each clip, and its parts.

        A clip of which the network gives no finite numbers has no row; the others do not suffer from it.

        Raises
        ------
        InputError : a clip of the wrong length or size, all black or of one gray level (``clip_fault`` tells before).
        CasaError : the network failed.
        """
        check_clips(clips)
        if not clips:
            return GradeTable.empty()
        found = np.concatenate([self._grade(clips[k : k + self._batch]) for k in range(0, len(clips), self._batch)])
        known = np.flatnonzero(np.isfinite(found).all(axis=(1, 2)))
        found, clips = found[known], [clips[row] for row in known.tolist()]
        if not clips:
            return GradeTable.empty()
        parts = {name: np.full((len(clips), 5), np.nan) for name in PARTS}
        for column, name in enumerate(self._backend.parts):
            parts[name] = found[:, column]
        return GradeTable(
            clip_id=np.array([clip.clip_id for clip in clips], np.int64),
            track_id=np.array([clip.track_id for clip in clips], np.int64),
            frame=np.array([clip.frames[-1] for clip in clips], np.int64),
            t_ns=np.array([clip.t_ns[-1] for clip in clips], np.int64),
            distribution=found.mean(axis=1),
            part_global=parts["global"],
            part_spatial=parts["spatial"],
            part_temporal=parts["temporal"],
            clip_flags=np.array([np.bitwise_or.reduce(clip.flags) for clip in clips], np.int64),
        )

    def _grade(self, clips: Sequence[Clip]) -> NDArray[np.float64]:
        """The parts' distributions (b, p, 5), each summing to one; not finite where the network gave no numbers."""
        found = self._backend.distributions(self._pictures(clips)).astype(np.float64)
        with np.errstate(invalid="ignore"):
            return found / found.sum(-1, keepdims=True)

    def attention(self, clip: Clip) -> NDArray[np.float32]:
        """Where the network looked: (t, rows, columns) in [0, 1], the strongest patch of each frame being 1.

        Of the pictures ``frame_indices(len(clip), t)``; rows and columns are patches, from the top left.

        Raises
        ------
        InputError : as ``grade``, or a network that has no attention to space.
        """
        check_clips([clip])
        maps = self._backend.rollout(self._pictures([clip]))
        if maps is None:
            raise InputError(f"{self.info.name}: {self.info.network} has no attention to show; use rostfine")
        if not np.isfinite(maps).all():
            raise CasaError(f"the grading network {self.info.name}: {NO_NUMBERS}")
        side = round(maps.shape[-1] ** 0.5)
        return maps[0].reshape(-1, side, side).clip(0, 1)

    def _pictures(self, clips: Sequence[Clip]) -> NDArray[np.float32]:
        return gray_pictures(np.stack([clip.images for clip in clips]), self._backend.frames, self._backend.size_px)


def _load(weights: str, device: str, backend: str, threads: int) -> tuple[Weights, GradeBackend]:
    if backend == "openvino" and device == "cuda":
        raise InputError("backend openvino runs on the CPU; use backend torch, or device cpu")
    if device == "auto":
        device = "cpu" if backend == "openvino" else _best_device()
    if device == "cuda":
        found = resolve_weights(weights, ("state",), "grade")
        return found, TorchGrades(found.path, "cuda")
    kinds = {"auto": ("onnx", "state"), "openvino": ("onnx",), "torch": ("state",)}[backend]
    found = resolve_weights(weights, kinds, "grade")
    if found.path.suffix == ".onnx":
        return found, OpenVinoGrades(found.path, threads)
    return found, TorchGrades(found.path, "cpu", threads)


def _best_device() -> str:
    """CUDA where there is a device; PyTorch, which takes seconds to load, is asked only where a driver is installed."""
    import ctypes.util

    if ctypes.util.find_library("cuda") is None and ctypes.util.find_library("nvcuda") is None:
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
