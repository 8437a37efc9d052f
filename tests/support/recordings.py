"""Made-up messages for recordings, from a frame number alone, so that a reader knows what a writer must have written.

Run as a program it starts writer processes: for each line ``RUN.h5 N_FRAMES PAUSE_S [finish]`` on standard input one,
whose process id it prints, and which writes each frame's number into RUN.h5.log once it is recorded. (They are forked
from a process that has imported everything, since importing takes longer than most tests.)
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from casa.cells import HEAD_MEASURES, Clip, GradeTable, HeadExam, MorphologyTable
from casa.record import Recorder
from casa.record.clips import KeptClip
from casa.types import (
    Detections,
    FrameAccount,
    FrameStatus,
    KinematicsTable,
    Summary,
    Tracks,
)

STEP_NS = 20_000_000

SESSION: dict[str, Any] = {
    "casa_version": "0",
    "created_utc": "2026-01-01T00:00:00+00:00",
    "command": "replay x.mp4",
    "source": {
        "uri": "x.mp4", "width_px": 640, "height_px": 480, "fps_hz": 50.0, "n_frames": 100, "timestamps": "pts",
        "interlaced": False, "sha256": "00",
    },
    "config": {"kinematics": {}},
    "calibration": {"name": "c", "um_per_px_x": 0.5, "um_per_px_y": 0.5, "chamber_depth_um": 20.0},
    "model": {"name": "m", "sha256": "11"},
    "machine": {},
}  # fmt: skip

SUMMARY = Summary(
    n_tracks=3,
    heads_per_frame=2.5,
    concentration_m_per_ml=None,
    motility_percent={"a": 50.0, "b": 25.0, "c": 0.0, "d": 25.0, "pr": 75.0, "total": 75.0},
    graded_time_s=4.5,
    drift_px_s=(0.1, -0.2),
    jitter_px=None,
    flags=("low_frame_rate",),
)


def detections(frame: int, n: int = 40) -> Detections:
    """Detections of a frame; some of the numbers do not fit a float32 exactly before they are rounded to it."""
    rng = np.random.default_rng(frame % 64)
    corner = rng.uniform(0, 600, (n, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(5, 20, (n, 2))], axis=1).astype(np.float32)
    return Detections(frame, frame * STEP_NS, boxes, rng.random(n).astype(np.float32), rng.integers(0, 3, n))


def tracks(frame: int, n: int = 40) -> Tracks:
    """Tracks of a frame; every seventh is a prediction."""
    d = detections(frame, n)
    boxes = d.xyxy.astype(np.float64)
    predicted = np.arange(n) % 7 == 6
    measured = np.where(predicted[:, None], np.nan, (boxes[:, :2] + boxes[:, 2:]) / 2)
    confidence = np.where(predicted, 0, d.confidence)
    ids = np.arange(1, n + 1)
    velocity = np.ones((n, 2)) * frame
    return Tracks(frame, d.t_ns, ids, d.xyxy, measured, confidence, predicted, velocity, np.empty(0, np.int64))


def kinematics(ids: Any) -> KinematicsTable:
    """Rows of tracks; um columns are NaN for odd ids."""
    ids = np.asarray(ids)
    values = ids * 1.25
    columns: dict[str, Any] = dict.fromkeys(KinematicsTable.__dataclass_fields__, values)
    for name in columns:
        if "_um" in name:
            columns[name] = np.where(ids % 2, np.nan, values)
    columns |= {
        "track_id": ids,
        "n_frames": ids + 10,
        "t_start_ns": ids * STEP_NS,
        "motility_grade": np.array(["a", "b", "c", "d", ""])[ids % 5],
        "time_by_grade_s": np.outer(ids, [0.5, 0.25, 0.0, 1.0]),
        "flags": ids % 256,
    }
    return KinematicsTable(**columns)


def picture(frame: int) -> np.ndarray:
    """A small colour picture."""
    return np.random.default_rng(frame).integers(0, 256, (24, 32, 3)).astype(np.uint8)


def kept_clip(clip_id: int, track_id: int = 1, attention: bool = True) -> KeptClip:
    """A clip of noise; every picture is another, and flags and scores differ too."""
    rng = np.random.default_rng(clip_id)
    at = np.arange(16) + clip_id
    images = np.repeat(np.repeat(rng.integers(0, 256, (16, 15, 15)).astype(np.uint8), 10, axis=1), 10, axis=2)
    clip = Clip(
        clip_id, track_id, at * 3, at * 3 * STEP_NS, images, np.stack([at, at / 3], axis=1),
        at.astype(np.float32) / 100, at % 32, None if clip_id % 2 else 0.5,
    )  # fmt: skip
    return KeptClip(clip, rng.integers(0, 256, (8, 7, 7)).astype(np.uint8) if attention else None)


def grades(clip_ids: Any, track_id: int = 1) -> GradeTable:
    """Grades of clips; the temporal part is missing."""
    ids = np.asarray(clip_ids)
    shares = np.random.default_rng(0).dirichlet(np.ones(5), (ids.max(initial=0) + 1, 2))[ids]
    return GradeTable(
        ids, np.full(len(ids), track_id), ids * 3, ids * 3 * STEP_NS, shares.mean(axis=1), shares[:, 0], shares[:, 1],
        np.full((len(ids), 5), np.nan), ids % 32,
    )  # fmt: skip


#: Classes of the heads below.
CLASSES = ("head:normal", "head:abnormal", "vacuole:normal", "vacuole:abnormal")


def head_exam(clip_id: int, track_id: int = 1, reason: str = "", pictures: bool = True, n_crops: int = 3) -> HeadExam:
    """A head as it was found in a clip: what is said of it follows from the clip's number."""
    rng = np.random.default_rng(clip_id)
    first, second = rng.random(2)
    shares = np.array([[first, 1 - first, second, 1 - second]]) if not reason else np.full((1, 4), np.nan)
    figures = {name: np.array([np.nan if reason else clip_id + k / 10]) for k, name in enumerate(HEAD_MEASURES)}
    row = MorphologyTable(
        np.array([clip_id]), np.array([track_id]), np.array([clip_id * 3]), np.array([clip_id * 3 * STEP_NS]),
        np.array([0 if reason else n_crops]), np.array([reason]), np.array([clip_id % 2 == 0]), shares,
        np.array([np.nan if reason else clip_id / 100]), **figures, class_names=CLASSES,
    )  # fmt: skip
    crop, heat = rng.integers(0, 256, (2, 64, 64)).astype(np.uint8)
    return HeadExam(row, crop, heat if clip_id % 3 else None) if pictures and not reason else HeadExam(row)


def record_frame(recorder: Recorder, frame: int, n: int = 40) -> None:
    """All the messages of a frame, in the engine's order."""
    if frame % 50 == 0:
        recorder.picture(frame, frame * STEP_NS, picture(frame))
    recorder.detections(detections(frame, n))
    recorder.tracks(tracks(frame, n))
    if frame % 10 == 9:
        recorder.kinematics(kinematics([frame]))
    recorder.frame(frame, 0, frame * STEP_NS, FrameStatus.PROCESSED)


def write_recording(path: Path, n_frames: int = 100, n: int = 10, status: str = "complete") -> Path:
    """A whole recording."""
    recorder = Recorder(path)
    recorder.open(SESSION)
    for frame in range(n_frames):
        record_frame(recorder, frame, n)
    recorder.finish(status, FrameAccount(n_frames, n_frames), SUMMARY, {"p50": 1.5, "p99": None})
    return path


def leave_unfinished(path: Path, n_frames: int = 20, n: int = 5) -> Path:
    """What a crash leaves: the files of a recorder that was never finished. Gives the journal."""
    recorder = Recorder(path)
    recorder.open(SESSION)
    for frame in range(n_frames):
        record_frame(recorder, frame, n)
    recorder._give_up()  # the locks and file handles go as they would with the process; nothing is written
    return path.with_name(path.name + ".journal")


def write_and_tell(path: Path, n_frames: int, pause_s: float, finish: bool) -> None:
    """Write a recording, and into its log how far it has come."""
    with open(path.with_name(path.name + ".log"), "w", buffering=1) as log:
        recorder = Recorder(path)
        print("starting", file=log)
        recorder.open(SESSION)
        print("open", file=log)
        for frame in range(n_frames):
            record_frame(recorder, frame)
            print(frame, file=log)
            time.sleep(pause_s)
        print("finishing", file=log)
        if finish:
            recorder.finish("complete", FrameAccount(n_frames, n_frames), SUMMARY, None)
            print("finished", file=log)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # ended writers leave no zombies
    print("ready", flush=True)
    for line in sys.stdin:
        path, n_frames, pause_s, *more = line.rstrip("\n").split("\t")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                write_and_tell(Path(path), int(n_frames), float(pause_s), bool(more))
                code = 0
            finally:
                os._exit(code)
        print(pid, flush=True)


if __name__ == "__main__":
    main()
