"""Score the tracker with parts changed or left out, on real routes and on simulated manoeuvres.

    python tools/ablate_tracker.py --challenge DIR            real routes, the videos that were not tuned on
    python tools/ablate_tracker.py --simulated                simulated manoeuvres, nothing to download
    python tools/ablate_tracker.py --challenge DIR --scores   the shipped configuration alone, by rate and half

``DIR`` holds ``VIDEO_fpsRATE.det.csv.gz`` and ``.gt.csv.gz``. Parameters were chosen on TUNING_VIDEOS alone; the others
only report. The challenge's truth is linear between key frames, which flatters constant-velocity models: the
simulated cells beat, circle and turn, and carry the same detection noise.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from casa.config import TrackConfig
from casa.evaluate.tracking import combine_scores, tracking_scores
from casa.tables import read_detections, read_tracks
from casa.track.table import track_table
from casa.types import DetectionTable, FloatArray, TrackTable

TUNING_VIDEOS = ("12", "14", "19", "22", "29", "36")
REPORT_VIDEOS = ("13", "15", "21", "24", "35", "38")
RATES_HZ = (49.0, 24.5, 12.25)
KINDS = ("beating", "circling", "hyperactive")

WIDTH_PX, HEIGHT_PX, MARGIN_PX = 640.0, 480.0, 80.0
UM_PER_PX = 0.4
_STEP_S = 1 / 490  # motion is integrated finely, then sampled at the rate of the case

Case = tuple[DetectionTable, TrackTable]


def head_paths(kind: str, n_cells: int, duration_s: float, rng: np.random.Generator) -> FloatArray:
    """(steps, n, 2) px head centres every ``_STEP_S`` in a torus larger than the field.

    Integral of v (cos th, sin th) plus a beat across the heading; heading by mode: Ornstein-Uhlenbeck (beating),
    constant turning rate (circling), fast random turning with a wide slow beat (hyperactive). A tenth of the cells
    are immotile. Bands of speed, amplitude and beat follow the simulator's swimmers.
    """
    steps = round(duration_s / _STEP_S)
    uniform = rng.uniform
    if kind == "beating":
        speed, amplitude, beat_hz = uniform(30, 90, n_cells), uniform(0.6, 2.5, n_cells), uniform(8, 22, n_cells)
        turn, noise = np.zeros(n_cells), 0.8
    elif kind == "circling":
        speed, amplitude, beat_hz = uniform(30, 90, n_cells), uniform(0.4, 1.5, n_cells), uniform(8, 20, n_cells)
        turn, noise = uniform(1.5, 7.0, n_cells) * rng.choice([-1, 1], n_cells), 0.3
    elif kind == "hyperactive":
        speed, amplitude, beat_hz = uniform(30, 80, n_cells), uniform(2.5, 5.0, n_cells), uniform(3, 8, n_cells)
        turn, noise = np.zeros(n_cells), 4.0
    else:
        raise ValueError(f"expected one of {', '.join(KINDS)}, got {kind}")
    still = rng.random(n_cells) < 0.1
    speed[still], amplitude[still] = 0.0, 0.02
    heading = np.cumsum(
        turn * _STEP_S + noise * np.sqrt(_STEP_S) * rng.standard_normal((steps, n_cells)), axis=0
    ) + uniform(0, 2 * np.pi, n_cells)
    velocity = speed[None, :, None] * np.stack([np.cos(heading), np.sin(heading)], axis=2)
    t_s = np.arange(steps)[:, None] * _STEP_S
    beat = amplitude * np.sin(2 * np.pi * beat_hz * t_s + uniform(0, 2 * np.pi, n_cells))
    lateral = beat[:, :, None] * np.stack([-np.sin(heading), np.cos(heading)], axis=2)
    start = uniform(0, 1, (n_cells, 2)) * [WIDTH_PX + 2 * MARGIN_PX, HEIGHT_PX + 2 * MARGIN_PX]
    return start + (np.cumsum(velocity * _STEP_S, axis=0) + lateral) / UM_PER_PX


def simulated_case(kind: str, rate_hz: float, n_cells: int = 60, duration_s: float = 8.0, seed: int = 0) -> Case:
    """Detections and truth of one simulated field, with the challenge's detection noise.

    Jitter 1.2 px, 8 % of width and height; 9 % misses in bursts of 2.5 frames on average; one false alarm a frame;
    confidences Beta(6, 2) for cells and Beta(2, 3) for false alarms.
    """
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    fine = head_paths(kind, n_cells, duration_s, rng)
    path = fine[:: round(1 / (rate_hz * _STEP_S))]
    torus = np.array([WIDTH_PX, HEIGHT_PX]) + 2 * MARGIN_PX
    lap = np.floor(path / torus).astype(np.int64)
    xy = path - lap * torus - MARGIN_PX
    inside = np.all((xy >= 0) & (xy < [WIDTH_PX, HEIGHT_PX]), axis=2)
    # a cell that was away for long is another track when it comes back; a beat across the field's edge is not
    visit = np.zeros(inside.shape, np.int64)
    for k in range(n_cells):
        gaps = np.flatnonzero(np.diff(np.flatnonzero(inside[:, k])) > rate_hz * 0.25)
        visit[:, k] = np.searchsorted(np.flatnonzero(inside[:, k])[gaps], np.arange(len(inside)))
    size = np.exp(rng.normal(np.log(20.0), 0.12, (n_cells, 2)))
    frame, cell = np.nonzero(inside)
    truth = _truth(frame, cell * 1000 + visit[frame, cell], xy[frame, cell], size[cell], rate_hz)
    missed = np.zeros(inside.shape, bool)
    state = rng.random(n_cells) < 0.09
    for k in range(len(missed)):
        state = rng.random(n_cells) < np.where(state, 0.6, 0.0396)
        missed[k] = state
    seen = np.flatnonzero(~missed[frame, cell])
    alarms = np.repeat(np.arange(len(path)), rng.poisson(1.0, len(path)))
    n, m = len(seen), len(alarms)
    found_xy = np.concatenate(
        [truth_xy(truth)[seen] + rng.normal(0, 1.2, (n, 2)), rng.uniform(0, 1, (m, 2)) * [WIDTH_PX, HEIGHT_PX]]
    )
    found_size = np.concatenate([size[cell[seen]], np.exp(rng.normal(np.log(20.0), 0.12, (m, 2)))])
    found_size *= np.exp(rng.normal(0, 0.08, (n + m, 2)))
    confidence = np.concatenate([rng.beta(6, 2, n), rng.beta(2, 3, m)])
    found_frame = np.concatenate([frame[seen], alarms])
    order = np.argsort(found_frame, kind="stable")
    table = DetectionTable(
        frame=found_frame,
        field=np.zeros(n + m, np.int64),
        t_ns=np.round(found_frame * 1e9 / rate_hz).astype(np.int64),
        cx_px=found_xy[:, 0],
        cy_px=found_xy[:, 1],
        w_px=found_size[:, 0],
        h_px=found_size[:, 1],
        confidence=confidence,
        class_id=np.zeros(n + m, np.int64),
    )
    return table.select(order), truth


def truth_xy(truth: TrackTable) -> FloatArray:
    return np.stack([truth.cx_px, truth.cy_px], axis=1)


def _truth(frame: Any, track_id: Any, xy: FloatArray, size: FloatArray, rate_hz: float) -> TrackTable:
    n = len(frame)
    return TrackTable(
        frame=frame,
        field=np.zeros(n, np.int64),
        t_ns=np.round(frame * 1e9 / rate_hz).astype(np.int64),
        track_id=track_id,
        cx_px=xy[:, 0],
        cy_px=xy[:, 1],
        w_px=size[:, 0],
        h_px=size[:, 1],
        x_measured_px=xy[:, 0],
        y_measured_px=xy[:, 1],
        confidence=np.ones(n),
        predicted=np.zeros(n, bool),
    )


def challenge_case(folder: Path, video: str, rate_hz: float) -> Case:
    stem = f"{video}_fps{rate_hz:g}"
    return read_detections(folder / f"{stem}.det.csv.gz", rate_hz), read_tracks(folder / f"{stem}.gt.csv.gz", rate_hz)


def scores(config: TrackConfig, cases: Mapping[str, Case]) -> dict[str, float | int]:
    """Scores over several videos: means of ratios, sums of counts."""
    return combine_scores({name: tracking_scores(t, track_table(d, config)) for name, (d, t) in cases.items()})


CV = ("cv_low", "cv_high")
MODELS = TrackConfig().models
#: What is changed in each row of the ablation; the rest is as shipped.
VARIANTS: dict[str, dict[str, Any]] = {
    "as shipped": {},
    "models: cv_low": {"models": ("cv_low",)},
    "models: cv_high": {"models": ("cv_high",)},
    "models: cv_low, cv_high": {"models": CV},
    "models: without rest": {"models": (*CV, "beat", "ca")},
    "models: without beat": {"models": (*CV, "ca", "rest")},
    "models: without ca": {"models": (*CV, "beat", "rest")},
    "models: ct for ca": {"models": (*CV, "beat", "ct", "rest")},
    "models: circular for ca": {"models": (*CV, "beat", "circular", "rest")},
    "models: with circular": {"models": (*MODELS, "circular")},
    "models: all seven": {"models": (*CV, "beat", "circular", "ca", "ct", "rest")},
    "mode_weights: all alike": {"mode_weights": (1.0,) * len(MODELS)},
    "mode_redraw_s: 0.2": {"mode_redraw_s": 0.2},
    "mode_redraw_s: 2": {"mode_redraw_s": 2.0},
    "mode_redraws_s: calm modes 1.5, others 0.4": {"mode_redraws_s": (1.5, 0.4, 1.5, 0.4, 1.5)},
    "gate_d2: 14 (99.9 % of chi²)": {"gate_d2": 14.0},
    "gate_d2: 100": {"gate_d2": 100.0},
    "cost_limit: 25": {"cost_limit": 25.0},
    "cost_limit: 35": {"cost_limit": 35.0},
    "cost_tail: none (plain d²)": {"cost_tail": 1e6},
    "confidence_weight: 0": {"confidence_weight": 0.0},
    "size_weight: 0": {"size_weight": 0.0},
    "spread_weight: 0": {"spread_weight": 0.0},
    "miss_weight: 0": {"miss_weight": 0.0},
    "iou_weight: 4": {"iou_weight": 4.0},
    "heading_weight: 4": {"heading_weight": 4.0},
    "one stage for all confidences": {"high_confidence": 0.1},
    "confirm_confidence: 1.2": {"confirm_confidence": 1.2},
    "confirm_confidence: 2.4": {"confirm_confidence": 2.4},
    "max_miss_s: 0.4": {"max_miss_s": 0.4},
    "nothing predicted put out": {"max_predicted_s": 0.0},
}


def _cell(s: Mapping[str, float | int]) -> str:
    return f"{s['hota']:.3f} {s['idf1']:.3f} {s['idsw']:4d} {s['ids_per_gt']:.2f}"


def print_ablation(cases: Mapping[str, Mapping[str, Case]], variants: Sequence[str]) -> None:
    """A Markdown table, one row a variant, one column a set of cases: HOTA IDF1 IDSW ids/gt."""
    print("| variant | " + " | ".join(cases) + " |\n|---|" + "---|" * len(cases), flush=True)
    for name in variants:
        config = TrackConfig.model_validate(VARIANTS[name])
        row = " | ".join(_cell(scores(config, some)) for some in cases.values())
        print(f"| {name} | {row} |", flush=True)


def print_scores(folder: Path) -> None:
    """The shipped configuration on the challenge, by rate and half."""
    halves = {"tuning": TUNING_VIDEOS, "report": REPORT_VIDEOS, "all": TUNING_VIDEOS + REPORT_VIDEOS}
    print("| fps | videos | HOTA | IDF1 | IDSW | ids/gt |\n|---|---|---|---|---|---|")
    for rate_hz in RATES_HZ:
        by_video = {}
        for video in halves["all"]:
            found, truth = challenge_case(folder, video, rate_hz)
            by_video[video] = tracking_scores(truth, track_table(found))
        for name, videos in halves.items():
            s = combine_scores({video: by_video[video] for video in videos})
            print(f"| {rate_hz:g} | {name} | {s['hota']:.4f} | {s['idf1']:.4f} | {s['idsw']} | {s['ids_per_gt']:.3f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--challenge", type=Path, help="folder of the challenge's tables")
    parser.add_argument("--simulated", action="store_true", help="simulated manoeuvres")
    parser.add_argument("--scores", action="store_true", help="the shipped configuration alone, by rate and half")
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), help="these variants")
    options = parser.parse_args()
    if options.challenge is None and not options.simulated:
        parser.error("give --challenge DIR, --simulated, or both")
    if options.scores:
        if options.challenge is None:
            parser.error("--scores needs --challenge DIR")
        print_scores(options.challenge)
        return
    cases: dict[str, dict[str, Case]] = {}
    for rate_hz in (RATES_HZ[0], RATES_HZ[-1]):
        if options.challenge is not None:
            cases[f"real routes, {rate_hz:g} fps"] = {
                video: challenge_case(options.challenge, video, rate_hz) for video in REPORT_VIDEOS
            }
        if options.simulated:
            for kind in KINDS:
                cases[f"{kind}, {rate_hz:g} fps"] = {kind: simulated_case(kind, rate_hz)}
    print_ablation(cases, options.only)


if __name__ == "__main__":
    main()
