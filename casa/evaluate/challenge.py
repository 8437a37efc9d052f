"""The tracker alone: tables of detections with misses and false alarms, beside the true tracks they were made from.

A challenge folder holds, for each video and frame rate, ``VIDEO_fpsRATE.det.csv[.gz]`` and
``VIDEO_fpsRATE.gt.csv[.gz]``. The tracker comes in as a function: this module knows none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from casa.errors import InputError
from casa.evaluate.tracking import combine_scores, tracking_scores
from casa.tables import read_detections, read_tracks
from casa.types import DetectionTable, TrackTable

_NAME = re.compile(r"(?P<video>.+)_fps(?P<fps>\d+(?:\.\d+)?)\.det\.csv(?P<gz>\.gz)?")


@dataclass(frozen=True, slots=True)
class ChallengeCase:
    """One table of detections and its truth."""

    video: str
    fps_hz: float
    detections: Path
    truth: Path


def challenge_cases(folder: Path, fps_hz: float | None = None, videos: Iterable[str] = ()) -> list[ChallengeCase]:
    """The cases in a folder, ordered by frame rate (highest first) and video.

    Raises
    ------
    InputError : no such folder, a truth table is missing, or nothing there fits ``fps_hz`` and ``videos``.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one that holds VIDEO_fpsRATE.det.csv.gz tables")
    wanted = set(videos)
    cases = []
    for path in folder.iterdir():
        name = _NAME.fullmatch(path.name)
        if not name or (wanted and name["video"] not in wanted):
            continue
        if fps_hz is not None and float(name["fps"]) != fps_hz:
            continue
        truth = path.with_name(path.name.replace(".det.", ".gt."))
        if not truth.is_file():
            raise InputError(f"{truth}: missing; every table of detections needs its truth beside it")
        cases.append(ChallengeCase(name["video"], float(name["fps"]), path, truth))
    found = {case.video for case in cases}
    if not cases or wanted - found:
        missing = ", ".join(sorted(wanted - found)) or "no VIDEO_fpsRATE.det.csv[.gz] table"
        at = f" at {fps_hz:g} fps" if fps_hz is not None else ""
        raise InputError(f"{folder}: {missing}{at} is not there")
    return sorted(cases, key=lambda case: (-case.fps_hz, len(case.video), case.video))


def challenge_scores(
    cases: list[ChallengeCase],
    track: Callable[[DetectionTable], TrackTable],
    on_case: Callable[[ChallengeCase], None] = lambda case: None,
) -> dict[float, dict[str, dict[str, float | int]]]:
    """Run a tracker over the cases: {frame rate: {video: scores, …, "mean": scores put together}}.

    ``mean`` has means of the ratios and sums of the counts, identity switches among them.
    """
    by_rate: dict[float, dict[str, dict[str, float | int]]] = {}
    for case in cases:
        on_case(case)
        detections = read_detections(case.detections, case.fps_hz)
        truth = read_tracks(case.truth, case.fps_hz)
        by_rate.setdefault(case.fps_hz, {})[case.video] = tracking_scores(truth, track(detections))
    return {fps: {**videos, "mean": combine_scores(videos)} for fps, videos in by_rate.items()}
