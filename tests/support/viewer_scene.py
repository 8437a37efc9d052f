"""A recording of a simulated field, made from the scene's truth: no detector is needed, and all is known."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from running import encode

from casa.kinematics import KinematicsAccumulator
from casa.record import Recorder
from casa.simulate.scene import PRESETS, simulate
from casa.types import FrameAccount, FrameStatus, KinematicsTable, SourceInfo, Tracks

N_FRAMES = 110


def record_scene(path: Path, n_frames: int = N_FRAMES, cells: float = 11.0, seed: int = 11) -> Path:
    """Write RUN.h5 and RUN.mp4 of a simulated field, its tracks measured with 0.3 px of noise."""
    config = replace(
        PRESETS["default"], name="test", width_px=480, height_px=360, cells_per_frame=cells, dots=50, n_frames=n_frames
    )
    scene = simulate(config, seed)
    encode(path.with_suffix(".mp4"), (np.asarray(frame.image) for frame in scene.frames()))
    truth = scene.truth()
    rng = np.random.default_rng(seed)
    calibration = scene.calibration()
    size = (config.width_px, config.height_px)
    accumulator = KinematicsAccumulator(None, calibration, size)
    recorder = Recorder(path)
    source = SourceInfo(path.with_suffix(".mp4").name, *size, config.fps_hz, n_frames, "simulated")
    recorder.open(
        {
            "casa_version": "0", "created_utc": "2026-01-01T00:00:00+00:00", "command": "test",
            "source": asdict(source) | {"sha256": None}, "config": {"kinematics": {}, "source": {}},
            "calibration": asdict(calibration), "model": {}, "machine": {},
        }
    )  # fmt: skip
    last = {int(k): int(truth.frame[truth.track_id == k].max()) for k in np.unique(truth.track_id)}
    rows: list[KinematicsTable] = []
    for frame in range(n_frames):
        t = truth.select(truth.frame == frame)
        half = np.stack([t.w_px, t.h_px], axis=1) / 2
        centre = np.stack([t.x_measured_px, t.y_measured_px], axis=1)
        measured = centre + rng.normal(0, 0.3, centre.shape)
        predicted = (t.track_id + frame) % 29 == 0
        measured[predicted] = np.nan
        tracks = Tracks(
            frame=frame, t_ns=int(scene.t_ns[frame]), track_id=t.track_id,
            xyxy=np.concatenate([centre - half, centre + half], axis=1).astype(np.float32), measured_xy_px=measured,
            confidence=np.where(predicted, 0, 0.9).astype(np.float32), predicted=predicted,
            velocity_px_s=np.zeros_like(centre),
            ended_ids=np.array([k for k, end in last.items() if end == frame - 1], np.int64),
        )  # fmt: skip
        if frame == n_frames // 3:
            recorder.picture(frame, tracks.t_ns, np.asarray(scene.frame(frame).image))
        recorder.tracks(tracks)
        rows.append(accumulator.add(tracks))
        if len(rows[-1]):
            recorder.kinematics(rows[-1])
        recorder.frame(frame, 0, tracks.t_ns, FrameStatus.PROCESSED)
    rest = accumulator.finish()
    if len(rest):
        recorder.kinematics(rest)
    recorder.finish("complete", FrameAccount(n_frames, n_frames), accumulator.summary(), None)
    return path
