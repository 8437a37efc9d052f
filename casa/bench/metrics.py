"""The figures of accuracy that may only get better, measured on fixed inputs: what ``tests/bench/metrics.json`` holds.

A figure is worse when it falls (or, where lower is better, rises) by more than its tolerance, which covers what
rounding on another processor or library does and no more: never the time a machine takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from casa.bench.defaults import CHALLENGE, CLIP, CLIP_TEST_FRAMES, CLIP_TRUTH
from casa.bench.tracker import casa_trackers
from casa.config import Config
from casa.evaluate.boxes import first_fields, frames_between, table_from_detections
from casa.evaluate.challenge import challenge_cases, challenge_scores
from casa.evaluate.detection import detection_scores
from casa.evaluate.tracking import tracking_scores
from casa.evaluate.truth import read_truth
from casa.types import Detections, DetectionTable, Frame

#: Videos of the challenge that are run: two that were tuned on, two that were not.
VIDEOS = ("12", "15", "24", "36")
#: Pictures of the foreign clips that are looked at.
MIAMIA_FRAMES, NJIT_FRAMES = 20, 30
#: Seconds of the simulated field; shorter than what docs/results.md reports.
FIELD_S = 4.0

#: By the last part of a figure's name: what is better, and how much worse is no change.
KINDS: dict[str, tuple[str, float]] = {
    "hota": ("higher", 0.003),
    "idf1": ("higher", 0.003),
    "idsw": ("lower", 1.0),
    "ids_off_per_gt": ("lower", 0.01),
    "ap50": ("higher", 0.005),
    "ap_5px": ("higher", 0.005),
    "f1_5px": ("higher", 0.005),
    "error_percent": ("lower", 0.5),
    "error_um_s": ("lower", 0.2),
    "grades_right_percent": ("higher", 1.0),
}


def measure_tracker(shared: Path) -> dict[str, float]:
    """The tracker alone, online and offline, on four videos of the challenge at each frame rate."""
    cases = challenge_cases(shared / CHALLENGE, videos=VIDEOS)
    figures = {}
    for name, track in casa_trackers(Config()).items():
        for rate_hz, scores in challenge_scores(cases, track).items():
            mean = scores["mean"]
            figures |= {
                f"{name}.{rate_hz:g}.hota": mean["hota"],
                f"{name}.{rate_hz:g}.idf1": mean["idf1"],
                f"{name}.{rate_hz:g}.idsw": mean["idsw"],
                f"{name}.{rate_hz:g}.ids_off_per_gt": abs(mean["ids_per_gt"] - 1.0),
            }
    return {key.replace("casa offline", "offline").replace("casa", "online"): float(v) for key, v in figures.items()}


def measure_chain(shared: Path) -> dict[str, float]:
    """The shipped detector on the clip's last frames, and the tracks made of all its detections."""
    from casa.tables import read_tracks

    found = _detect(shared / CLIP, Config(), None)
    truth = frames_between(read_truth(shared / CLIP_TRUTH).table, *CLIP_TEST_FRAMES)
    figures = {"clip.ap50": detection_scores(truth, frames_between(found, *CLIP_TEST_FRAMES), class_ids=[0])["ap50"]}
    true_tracks = frames_between(read_tracks(shared / CLIP_TRUTH, 1.0), *CLIP_TEST_FRAMES)
    for name, track in casa_trackers(Config()).items():
        scores = tracking_scores(true_tracks, frames_between(track(found), *CLIP_TEST_FRAMES))
        kind = "offline" if name.endswith("offline") else "online"
        figures |= {f"clip.{kind}.{key}": float(scores[key]) for key in ("hota", "idf1", "idsw")}
    return figures


def measure_detector(shared: Path) -> dict[str, float]:
    """The shipped detector on pictures of microscopes that it was not trained on."""
    miamia, njit = shared / "miamia_svds", shared / "njit_simulated"
    figures = {}
    for clip in ("S_0001", "S_0002", "S_0004"):
        truth = read_truth(next(miamia.glob(f"{clip}*.csv*"))).table
        found = first_fields(_detect(miamia / f"{clip}.mp4", Config(), MIAMIA_FRAMES), truth)
        scores = detection_scores(frames_between(truth, 0, MIAMIA_FRAMES), found, class_ids=[0])
        figures[f"miamia.{clip}.ap50"] = scores["ap50"]
    truth = read_truth(next(njit.glob("60fps*.csv*")), (500, 500)).table
    found = _detect(njit / "60fps.mp4", Config(), NJIT_FRAMES)
    scores = detection_scores(frames_between(truth, 0, NJIT_FRAMES), found, class_ids=[0], match_px=5.0)
    return figures | {"njit.ap_5px": scores["ap"], "njit.f1_5px": scores["f1"]}


def measure_field(shared: Path) -> dict[str, float]:
    """Errors of kinematics, grades and concentration from the pixels of a simulated field."""
    from casa.bench.field import bench_field

    result = bench_field("default", 0, FIELD_S, Config())
    errors: dict[str, Any] = result["chain"]["errors"]
    return {
        "field.vsl.error_percent": abs(errors["vsl"]["mean_percent"]),
        "field.vap.error_percent": abs(errors["vap"]["mean_percent"]),
        "field.vcl_from_40.error_percent": abs(errors["vcl_from_40"]["mean_percent"]),
        "field.vcl_0_to_40.error_um_s": abs(errors["vcl_0_to_40"]["bias_um_s"]),
        "field.concentration.error_percent": abs(result["concentration"]["error_percent"]),
        "field.grades_right_percent": result["chain"]["grades"]["right_percent"],
        "field.ap50": result["detection"]["ap50"],
        "field.idf1": result["tracking"]["idf1"],
    }


#: What is measured, by the part of casa it speaks for. Only ``field`` needs no shared recordings.
GROUPS: dict[str, Callable[[Path], dict[str, float]]] = {
    "tracker": measure_tracker,
    "chain": measure_chain,
    "detector": measure_detector,
    "field": measure_field,
}


def worse_by(name: str, old: float, new: float) -> float:
    """By how much a figure got worse (negative: better)."""
    better, _ = KINDS[name.rsplit(".", 1)[-1]]
    return old - new if better == "higher" else new - old


def is_worse(name: str, old: float, new: float) -> bool:
    """Whether a figure got worse by more than its tolerance; a figure that is no number any more did."""
    return not worse_by(name, old, new) <= KINDS[name.rsplit(".", 1)[-1]][1]


def best_of(old: Mapping[str, float], new: Mapping[str, float]) -> dict[str, float]:
    """The better value of every figure; new figures as they are. Tolerances cannot add up over updates."""
    return {
        name: old[name] if name in old and not worse_by(name, old[name], value) < 0 else value
        for name, value in {**old, **new}.items()
    }


def _detect(clip: Path, config: Config, n_frames: int | None) -> DetectionTable:
    """Detections of a clip's first frames, unsure ones too."""
    from casa.detect import DetectStage
    from casa.sources import open_source

    stage = DetectStage(config.detect.model_copy(update={"confidence": 0.001}))
    found: list[Detections] = []
    with open_source(str(clip), config.source) as source:
        stage.open()
        try:
            for item in source:
                if n_frames is not None and item.index >= n_frames:
                    break
                if isinstance(item, Frame):
                    found.extend(stage.process(item))
            found.extend(stage.flush())
        finally:
            stage.close()
    return table_from_detections(found)
