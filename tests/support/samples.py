"""Made-up fields and samples: recordings whose figures are known because they were written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from recordings import SESSION, STEP_NS, SUMMARY, grades, head_exam

from casa.record import Recorder, Recording
from casa.samples.sample import Sample, add_field, new_sample
from casa.types import FrameAccount, FrameStatus, KinematicsTable, Tracks

Cells = tuple[int, int, int, int]


def kinematics_of(cells: Cells, seed: int = 0) -> KinematicsTable:
    """``cells`` tracks in grades a to d, each seen for 2 s, with speeds about what such sperm have."""
    grade = np.repeat(np.arange(4), cells)
    n = len(grade)
    rng = np.random.default_rng(seed)
    vsl = np.array([50.0, 14.0, 2.5, 0.3])[grade] * rng.lognormal(0, 0.15, n)
    lin = np.array([0.75, 0.6, 0.12, 0.2])[grade] * rng.uniform(0.9, 1.1, n)
    columns: dict[str, Any] = dict.fromkeys(KinematicsTable.__dataclass_fields__, np.ones(n))
    columns |= {f"{name}_um_s": v for name, v in (("vcl", vsl / lin), ("vsl", vsl), ("vap", vsl / np.sqrt(lin)))}
    seconds = np.zeros((n, 4))
    seconds[np.arange(n), grade] = 2.0
    columns |= {
        "track_id": np.arange(1, n + 1),
        "n_frames": np.full(n, 100),
        "t_start_ns": np.zeros(n, np.int64),
        "duration_s": np.full(n, 2.0),
        "lin": lin,
        "alh_mean_um": np.array([3.0, 2.0, 1.5, 0.2])[grade] * rng.uniform(0.8, 1.2, n),
        "bcf_hz": np.array([15.0, 9.0, 6.0, 1.0])[grade] * rng.uniform(0.8, 1.2, n),
        "flags": np.zeros(n, np.int64),
        "motility_grade": np.array(["a", "b", "c", "d"])[grade],
        "time_by_grade_s": seconds,
    }
    return KinematicsTable(**columns)


def record_field(
    path: Path,
    cells: Cells,
    heads: float | None = 20.0,
    *,
    whole: bool = False,
    clips: range = range(1, 9),
    **session: object,
) -> str:
    """A recording of ``cells`` tracks in grades a to d, each seen for 2 s. Gives its id.

    ``whole``: with 2 s of frames, tracks, a picture, expert grades and forms of heads (of ``clips``; those of even
    number are such as the network knows) too, as a replay leaves them.
    """
    seed = sum(path.name.encode())
    kinematics = kinematics_of(cells, seed)
    n = len(kinematics)
    recorder = Recorder(path)
    recorder.open(SESSION | {"source": SESSION["source"] | {"sha256": f"{path.stem:0>64}"}} | session)
    for frame in range(101 if whole else 1):
        if whole:
            _record_frame(recorder, frame, kinematics, seed)
        recorder.frame(frame, 0, frame * STEP_NS, FrameStatus.PROCESSED)
    if whole:
        recorder.grades(grades(np.arange(1, 9)))
        for clip in clips:
            recorder.head(head_exam(clip, clip, reason="out of focus" if clip == 8 else ""))
    recorder.kinematics(kinematics)
    summary = type(SUMMARY)(n, heads, None, {}, 2.0 * n, None, None)
    n_frames = 101 if whole else 1
    recorder.finish("complete", FrameAccount(n_frames, n_frames), summary, {"p50": None, "p99": None})
    with Recording(path) as recording:
        return recording.recording_id


def _record_frame(recorder: Recorder, frame: int, kinematics: KinematicsTable, seed: int) -> None:
    """Tracks that go straight at their VSL from places all over the field, and a noisy picture in the middle."""
    n = len(kinematics)
    rng = np.random.default_rng(seed)
    start, heading = rng.uniform(20, 460, (n, 2)), rng.uniform(0, 2 * np.pi, n)
    along = kinematics.vsl_um_s / 0.5 * frame * STEP_NS / 1e9
    xy = start + along[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    boxes = np.concatenate([xy - 6, xy + 6], axis=1).astype(np.float32)
    sure, none = np.full(n, 0.8, np.float32), np.empty(0, np.int64)
    recorder.tracks(
        Tracks(frame, frame * STEP_NS, kinematics.track_id, boxes, xy, sure, np.zeros(n, bool), np.zeros((n, 2)), none)
    )
    if frame == 50:
        recorder.picture(frame, frame * STEP_NS, rng.integers(60, 90, (480, 640)).astype(np.uint8))


def sample_of(folder: Path, *replicates: tuple[Cells, ...], heads: float = 20.0, whole: bool = False) -> Sample:
    """A sample of made-up fields, by replicate."""
    sample = new_sample(folder, Sample("S-1", "me", volume_ml=2.0))
    for number, fields in enumerate(replicates, 1):
        for index, cells in enumerate(fields):
            path = folder / f"{number}-{index}.h5"
            sample = add_field(folder, sample, path, record_field(path, cells, heads, whole=whole), number)
    return sample
