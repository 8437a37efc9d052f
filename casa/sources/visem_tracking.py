"""VISEM-Tracking: recordings of 30 s with a box and a track id for every sperm in every frame.

Layout (Thambawita et al. 2023, doi:10.1038/s41597-023-02173-4; Zenodo 7293726, CC BY 4.0), found at any depth::

    NN/NN.mp4
    NN/labels/NN_frame_K.txt                  class cx cy w h            (fractions of the frame)
    NN/labels_ftid/NN_frame_K_with_ftid.txt   track class cx cy w h      (the track's name comes first, and is text)

An empty label file says "looked at, nothing there"; no file at all says "not annotated": the two are kept apart.
Simulated data sets have the same layout (there, files in ``labels_ftid`` may lack the ``_with_ftid``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from casa.config import SourceConfig
from casa.errors import InputError
from casa.sources.images import natural_key
from casa.sources.video import VideoSource
from casa.types import DetectionTable, FloatArray, IntArray, TrackTable

#: Videos of the official validation split; all others are for training. There is no official test split.
VALIDATION_VIDEOS = ("82", "60", "54", "52")
CLASSES = ("sperm", "cluster", "small or pinhead")
SPERM = 0

_LABEL_NAME = re.compile(r"_frame_(\d+)(?:_with_ftid)?\.txt$")
_VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv")
# The published fractions are rounded in the last digit or two.
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """The rows of a folder of label files, sorted by frame, in fractions of the frame.

    Parameters
    ----------
    frame : (n,) int64. class_id : (n,) int64. cxcywh : (n, 4) float64 in [0, 1].
    track_name : n names as they are written; empty where the files have none.
    annotated_frames : (m,) int64, the frames that have a file, empty or not.
    """

    frame: IntArray
    class_id: IntArray
    cxcywh: FloatArray
    track_name: tuple[str, ...]
    annotated_frames: IntArray


@dataclass(frozen=True)
class TrackingRecording:
    """One annotated recording."""

    name: str
    folder: Path
    video: Path

    @property
    def split(self) -> str:
        """``validation`` or ``train``, by the official split."""
        return "validation" if self.name in VALIDATION_VIDEOS else "train"

    def open(self, config: SourceConfig) -> VideoSource:
        """The video as a source."""
        return VideoSource(self.video, config)

    @cached_property
    def labels(self) -> Labels:
        """Boxes without tracks, from ``labels/``."""
        return read_labels(self.folder / "labels", with_tracks=False)

    @cached_property
    def track_labels(self) -> Labels:
        """Boxes with tracks, from ``labels_ftid/``."""
        return read_labels(self.folder / "labels_ftid", with_tracks=True)

    @cached_property
    def track_names(self) -> tuple[str, ...]:
        """The tracks' published names in order of first appearance; track id k is the name at k - 1."""
        return tuple(dict.fromkeys(self.track_labels.track_name))

    def detections(self, classes: Sequence[int] | None = None) -> DetectionTable:
        """The boxes of ``labels/`` in px, with the times of the video's frames; confidence 1.

        Parameters
        ----------
        classes : class ids to keep; all by default.
        """
        labels = self.labels
        keep = _of_classes(labels, classes)
        px, t_ns = self._in_pixels(labels)
        n = int(keep.sum())
        return DetectionTable(
            frame=labels.frame[keep],
            field=np.zeros(n, np.int64),
            t_ns=t_ns[keep],
            cx_px=px[keep, 0],
            cy_px=px[keep, 1],
            w_px=px[keep, 2],
            h_px=px[keep, 3],
            confidence=np.ones(n),
            class_id=labels.class_id[keep],
        )

    def tracks(self, classes: Sequence[int] | None = (SPERM,)) -> TrackTable:
        """The tracks of ``labels_ftid/`` in px, sorted by track and time; sperm only by default, None for all.

        Between key frames (5-7 apart) the boxes were interpolated by the annotators' program: routes are real, the
        beat of the head is not in them.
        """
        labels = self.track_labels
        keep = _of_classes(labels, classes)
        px, t_ns = self._in_pixels(labels)
        numbers = {name: number for number, name in enumerate(self.track_names, start=1)}
        track_id = np.array([numbers[name] for name in labels.track_name], np.int64)
        order = np.flatnonzero(keep)
        order = order[np.lexsort((labels.frame[order], track_id[order]))]
        n = len(order)
        return TrackTable(
            frame=labels.frame[order],
            field=np.zeros(n, np.int64),
            t_ns=t_ns[order],
            track_id=track_id[order],
            cx_px=px[order, 0],
            cy_px=px[order, 1],
            w_px=px[order, 2],
            h_px=px[order, 3],
            x_measured_px=px[order, 0],
            y_measured_px=px[order, 1],
            confidence=np.ones(n),
            predicted=np.zeros(n, bool),
        )

    def _in_pixels(self, labels: Labels) -> tuple[FloatArray, IntArray]:
        """(n, 4) centre and size in px, and (n,) times, of the labels' rows."""
        width, height, times = self._video_facts
        last = int(labels.annotated_frames[-1]) if len(labels.annotated_frames) else -1
        if last >= len(times):
            raise InputError(f"{self.folder}: labels frame {last}, but {self.video.name} has only {len(times)} frames")
        return labels.cxcywh * np.array([width, height, width, height], np.float64), times[labels.frame]

    @cached_property
    def _video_facts(self) -> tuple[int, int, IntArray]:
        with self.open(SourceConfig(interlaced="no")) as source:
            return source.info.width_px, source.info.height_px, source.frame_times_ns()


def find_recordings(root: Path) -> list[TrackingRecording]:
    """All recordings in VISEM-Tracking's layout beneath a folder, in natural order of their names.

    Raises
    ------
    InputError : no such folder, no recording in it, or two of one name.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one that holds VISEM-Tracking's recordings")
    found: dict[str, TrackingRecording] = {}
    for labels in sorted({*root.rglob("labels"), *root.rglob("labels_ftid")}):
        folder = labels.parent
        video = next((p for s in _VIDEO_SUFFIXES if (p := folder / f"{folder.name}{s}").is_file()), None)
        if video is None or not labels.is_dir():
            continue
        known = found.get(folder.name)
        if known is not None and known.folder != folder:
            raise InputError(f"{folder}: there is a second recording {folder.name}, {known.folder}; keep one of them")
        found[folder.name] = TrackingRecording(folder.name, folder, video)
    if not found:
        raise InputError(f"{root}: holds no recording in VISEM-Tracking's layout (NN/NN.mp4 with NN/labels/)")
    return [found[name] for name in sorted(found, key=natural_key)]


def read_labels(folder: Path, with_tracks: bool) -> Labels:
    """Read a ``labels`` or ``labels_ftid`` folder.

    Raises
    ------
    InputError : no such folder, no label file in it, or a line that is not as it should be; the message names it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of labels")
    files: dict[int, Path] = {}
    for path in folder.glob("*.txt"):
        match = _LABEL_NAME.search(path.name)
        if match is None:
            raise InputError(f"{path}: expected a name like 82_frame_0.txt")
        frame = int(match[1])
        if frame in files:
            raise InputError(f"{path}: frame {frame} has a second label file, {files[frame].name}")
        files[frame] = path
    if not files:
        raise InputError(f"{folder}: holds no label files (NN_frame_K.txt)")
    rows: list[tuple[int, int, float, float, float, float]] = []
    names: list[str] = []
    for frame in sorted(files):
        in_frame: set[str] = set()
        for number, line in enumerate(_lines(files[frame]), start=1):
            if not line.strip():
                continue
            words = line.split()
            where = f"{files[frame]}:{number}"
            if len(words) != 5 + with_tracks:
                wanted = "track class cx cy w h" if with_tracks else "class cx cy w h"
                raise InputError(f"{where}: expected {wanted}, got {len(words)} values")
            if with_tracks:
                if words[0] in in_frame:
                    raise InputError(f"{where}: track {words[0]} has a second box in this frame")
                in_frame.add(words[0])
                names.append(words.pop(0))
            rows.append((frame, *_box(where, words)))
    table = np.array(rows, np.float64).reshape(len(rows), 6)
    return Labels(
        frame=table[:, 0].astype(np.int64),
        class_id=table[:, 1].astype(np.int64),
        cxcywh=table[:, 2:],
        track_name=tuple(names),
        annotated_frames=np.array(sorted(files), np.int64),
    )


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error})") from error


def _box(where: str, words: list[str]) -> tuple[int, float, float, float, float]:
    """Class and fractions of one line."""
    if words[0] not in ("0", "1", "2"):
        raise InputError(f"{where}: the class must be 0 ({CLASSES[0]}), 1 ({CLASSES[1]}) or 2 ({CLASSES[2]}), got "
                         f"{words[0]!r}")  # fmt: skip
    try:
        cx, cy, w, h = (float(word) for word in words[1:])
    except ValueError as error:
        raise InputError(f"{where}: holds what is no number ({error})") from error
    inside = all(math.isfinite(v) and -_ROUNDING <= v <= 1 + _ROUNDING for v in (cx, cy, w, h))
    if not inside or w <= 0 or h <= 0:
        raise InputError(f"{where}: expected fractions of the frame in [0, 1] and a size above 0, got {words[1:]}")
    return int(words[0]), cx, cy, w, h


def _of_classes(labels: Labels, classes: Sequence[int] | None) -> np.ndarray:
    return np.ones(len(labels.frame), bool) if classes is None else np.isin(labels.class_id, np.asarray(classes))
