"""Casa's tracker, online and with the offline pass, beside other programs' trackers on the same detections."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from casa.config import Config
from casa.evaluate.challenge import ChallengeCase, challenge_scores
from casa.types import DetectionTable, TrackTable

TableTracker = Callable[[DetectionTable], TrackTable]

#: What casa wants of its online output, means over the challenge's twelve videos: bounds by frame rate.
WANTED: dict[float, dict[str, float]] = {
    49.0: {"hota": 0.810, "idf1": 0.970, "idsw": 56, "ids_per_gt": 1.05},
    24.5: {"hota": 0.775, "idf1": 0.945, "idsw": 75, "ids_per_gt": 1.08},
    12.25: {"hota": 0.725, "idf1": 0.890, "idsw": 115, "ids_per_gt": 1.20},
}
#: The name that the wanted figures go by in a result, beside the trackers'.
WANTED_NAME = "wanted"


def casa_trackers(config: Config, offline: bool = True) -> dict[str, TableTracker]:
    """``casa``, and with ``offline`` also ``casa offline``: the same tracks, refined."""
    from casa.track import track_table
    from casa.track.offline import refine

    def online(table: DetectionTable) -> TrackTable:
        return track_table(table, config.track)

    def refined(table: DetectionTable) -> TrackTable:
        return refine(online(table), table, track=config.track, offline=config.offline)

    return {"casa": online, "casa offline": refined} if offline else {"casa": online}


def bench_tracker(
    cases: list[ChallengeCase],
    trackers: Mapping[str, TableTracker],
    on_case: Callable[[str, ChallengeCase], None] = lambda name, case: None,
) -> dict[str, dict[str, Any]]:
    """Scores and CPU time of every tracker over the cases: {frame rate: {tracker: {video: …, "mean": …}}}.

    ``mean`` also has ``cpu_ms_per_frame`` (this process, all its threads) and ``cpu_ratio`` (casa's by this
    tracker's; the first tracker is casa's own). Each tracker tracks the first case once before, not counted, so that
    nobody's imports or compiling are. The wanted figures are in the result as a tracker named "wanted".
    """
    from casa.tables import read_detections

    results: dict[str, dict[str, Any]] = {}
    for name, track in trackers.items():
        track(read_detections(cases[0].detections, cases[0].fps_hz))
        for rate_hz in dict.fromkeys(case.fps_hz for case in cases):
            spent_s = 0.0
            # a peer that runs in a process of its own tells the time itself
            cpu_s = getattr(track, "cpu_s", time.process_time)

            def timed(
                table: DetectionTable, track: TableTracker = track, cpu_s: Callable[[], float] = cpu_s
            ) -> TrackTable:
                nonlocal spent_s
                start_s = cpu_s()
                tracks = track(table)
                spent_s += cpu_s() - start_s
                return tracks

            at_rate = [case for case in cases if case.fps_hz == rate_hz]
            (scores,) = challenge_scores(at_rate, timed, lambda case, name=name: on_case(name, case)).values()
            by_video: dict[str, Any] = dict(scores)
            by_video["mean"]["cpu_ms_per_frame"] = spent_s * 1e3 / by_video["mean"]["frames"]
            results.setdefault(f"{rate_hz:g}", {})[name] = by_video
    for rate, by_tracker in results.items():
        own = next(iter(by_tracker.values()))["mean"]["cpu_ms_per_frame"]
        for by_video in by_tracker.values():
            by_video["mean"]["cpu_ratio"] = own / by_video["mean"]["cpu_ms_per_frame"]
        if float(rate) in WANTED:
            by_tracker[WANTED_NAME] = {"mean": WANTED[float(rate)]}
    return results
