"""A simulated field from pixels to figures: render, detect, track, measure, and compare with the exact truth.

Beside the whole chain, casa's kinematics are run on the true tracks: what is wrong there already comes from the
definitions and the sampling, what is wrong only in the chain from detecting and tracking.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from casa.config import Config
from casa.errors import InputError
from casa.evaluate.detection import detection_scores
from casa.evaluate.field import field_scores
from casa.evaluate.tracking import tracking_scores
from casa.simulate.scene import PRESETS, Scene, simulate
from casa.simulate.truth import Visit, kinematics_table, visits
from casa.types import (
    DetectionTable,
    Frame,
    IntArray,
    KinematicsTable,
    MissingFrame,
    SourceInfo,
    TrackTable,
)

#: A found head within this of a true one is that head; a head is 4 um long.
MATCH_UM = 3.0


class SceneSource:
    """A scene as a source, for `casa.engine.replay`."""

    def __init__(self, scene: Scene) -> None:
        config = scene.config
        self._scene = scene
        self.info = SourceInfo(
            uri=f"simulator:{config.name}", width_px=config.width_px, height_px=config.height_px, fps_hz=config.fps_hz,
            n_frames=len(scene), timestamps="simulated", interlaced=config.interlaced,
        )  # fmt: skip

    def __iter__(self) -> Iterator[Frame | MissingFrame]:
        return self._scene.frames()

    def close(self) -> None:
        """Nothing to release."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def truth_over(scene: Scene) -> Callable[[IntArray, IntArray, IntArray], KinematicsTable]:
    """The exact kinematics of a scene's tracks over spans of frames, one row a span in the given order."""
    stays = {stay.track_id: stay for stay in visits(scene)}

    def over(track_id: IntArray, first: IntArray, last: IntArray) -> KinematicsTable:
        parts = []
        for row, (track, start, end) in enumerate(zip(track_id.tolist(), first.tolist(), last.tolist(), strict=True)):
            # Also frames in which the head's centre was out of view by a pixel: the path is known there too.
            parts.append(Visit(row, stays[track].swimmer, np.arange(start, end + 1)))
        return kinematics_table(scene, parts)

    return over


def truth_detections(truth: TrackTable) -> DetectionTable:
    """The boxes of a table of true tracks."""
    return DetectionTable(
        truth.frame, truth.field, truth.t_ns, truth.cx_px, truth.cy_px, truth.w_px, truth.h_px, truth.confidence,
        np.zeros(len(truth), np.int64),
    )  # fmt: skip


def bench_field(
    preset: str,
    seed: int,
    duration_s: float,
    config: Config,
    on_frame: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Render a scene, run casa on its pictures with recording on, and score every step.

    Returns
    -------
    dict : ``chain`` (`field_scores` of what casa found), ``from_true_tracks`` (the same of casa's kinematics on
        the true tracks), ``detection`` (AP, and precision and recall at the confidence of the tracker's first
        stage), ``tracking``, ``jitter_px_estimated`` (to hold to the chain's ``localisation``), ``concentration``
        (found, true, error in percent).

    Raises
    ------
    InputError : no such preset, or too short a duration.
    """
    from casa.engine import replay
    from casa.kinematics import analyse_tracks
    from casa.record import Recording

    if preset not in PRESETS:
        raise InputError(f"simulator preset {preset!r}: there is none; choose one of {', '.join(PRESETS)}")
    n_frames = round(duration_s * PRESETS[preset].fps_hz)
    if n_frames < 2 * PRESETS[preset].fps_hz:
        raise InputError(f"--duration {duration_s:g}: at least 2 s are needed for the 1 s windows of the grades")
    scene = simulate(preset, seed, n_frames)
    calibration = scene.calibration()
    with tempfile.TemporaryDirectory(prefix="casa-field-") as folder:
        output = Path(folder) / "field.h5"
        with SceneSource(scene) as source:
            summary = replay(source, output, config, calibration, on_frame=on_frame).summary
        with Recording(output) as recording:
            detections, tracks, kinematics = recording.detections(), recording.tracks(), recording.kinematics()
    truth = scene.truth()
    match_px = MATCH_UM / calibration.um_per_px_x
    boxes = detection_scores(
        truth_detections(truth), detections, class_ids=[0], confidence=config.track.high_confidence
    )
    over = truth_over(scene)
    size = (scene.config.width_px, scene.config.height_px)
    perfect_config = config.kinematics.model_copy(update={"jitter_px": 0.0})
    perfect, perfect_summary = analyse_tracks(truth, perfect_config, calibration, size, n_frames)
    return {
        "preset": preset,
        "seed": seed,
        "frames": n_frames,
        "chain": field_scores(truth, over, tracks, kinematics, match_px=match_px),
        "from_true_tracks": field_scores(truth, over, truth, perfect, match_px=match_px),
        "detection": {
            "ap50": boxes["ap50"],
            "ap50_95": boxes["ap50_95"],
            **{name: boxes["at_confidence"][name] for name in ("confidence", "precision", "recall")},
        },
        "tracking": {
            name: value for name, value in tracking_scores(truth, tracks).items()
            if name in ("hota", "idf1", "mota", "idsw", "ids_per_gt", "recall", "precision")
        },
        "jitter_px_estimated": summary.jitter_px,
        "concentration": _concentration(summary.concentration_m_per_ml, scene, perfect_summary.concentration_m_per_ml),
    }  # fmt: skip


def _concentration(found: float | None, scene: Scene, from_true_tracks: float | None) -> dict[str, float | None]:
    true = scene.concentration_truth()
    return {
        "found_m_per_ml": found,
        "true_m_per_ml": true,
        "error_percent": 100 * (found / true - 1) if found is not None and true > 0 else None,
        "from_true_tracks_m_per_ml": from_true_tracks,
    }
