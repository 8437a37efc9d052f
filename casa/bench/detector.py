"""The detector in each of casa's backends beside ultralytics' own prediction: same weights, same clip, same run.

Each run is a process of its own, in turn, as in `casa.bench.replay`. Timed is all from decoding a frame to its boxes;
start-up is not. Both programs keep unsure detections (down to ``MIN_CONFIDENCE``), which average precision needs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from casa.bench.replay import ReplayRun, run_worker, summarise
from casa.config import Config
from casa.errors import CasaError, InputError
from casa.evaluate.boxes import first_fields, frames_between
from casa.evaluate.detection import detection_scores
from casa.evaluate.truth import read_truth
from casa.tables import read_detections

PEER = "ultralytics"
BACKENDS = ("openvino", "onnx", "torch")
MIN_CONFIDENCE = 0.01


def bench_detector(
    clip: Path,
    config: Config,
    *,
    truth: Path | None = None,
    frames: tuple[int | None, int | None] = (None, None),
    backends: tuple[str, ...] = BACKENDS,
    peer: bool = True,
    repeats: int = 3,
    on_run: Callable[[str, int], None] = lambda program, repeat: None,
) -> dict[str, Any]:
    """Measure every backend, and the peer in turn with them, ``repeats`` times each.

    Returns
    -------
    dict : ``programs`` {"casa BACKEND" or "ultralytics": ``fps_median``, ``fps_min``, ``fps_max``,
        ``cpu_ms_per_frame`` (whole process), ``ap50`` of class 0 in ``frames`` where ``truth`` is given, ``ratio`` and
        ``cpu_ratio`` (its rate by the peer's, the peer's CPU time by its)}; a backend that cannot run here has
        ``error`` alone.

    Raises
    ------
    InputError : no such clip, truth or backend. CasaError : every run of casa's failed, or one of the peer's.
    """
    if not clip.exists():
        raise InputError(f"{clip}: no such file; give a video or a folder of images")
    if repeats < 1:
        raise InputError(f"--repeats {repeats}: at least one run is needed")
    for backend in backends:
        if backend not in BACKENDS:
            raise InputError(f"--backend {backend}: expected one of {', '.join(BACKENDS)}")
    if truth is not None:
        read_truth(truth)  # a mistake in it is told before the long part
    detect = config.detect.model_copy(update={"confidence": MIN_CONFIDENCE})
    runs: dict[str, list[ReplayRun]] = {f"casa {backend}": [] for backend in backends} | ({PEER: []} if peer else {})
    failed: dict[str, str] = {}
    found: dict[str, Path] = {}
    with tempfile.TemporaryDirectory(prefix="casa-bench-") as folder:
        for repeat in range(repeats):
            for program in runs:
                if program in failed:
                    continue
                on_run(program, repeat)
                backend = program.removeprefix("casa ")
                own = config.model_copy(
                    update={"detect": detect if program == PEER else detect.model_copy(update={"backend": backend})}
                )
                found[program] = Path(folder) / f"{backend}.csv"
                task = {
                    "program": f"detect {PEER}" if program == PEER else "detect casa",
                    "clip": str(clip), "folder": folder, "config": own.model_dump(mode="json"),
                    "detections": str(found[program]),
                }  # fmt: skip
                try:
                    runs[program].append(run_worker(task))
                except CasaError as error:
                    if program == PEER:
                        raise
                    failed[program] = str(error)
        programs: dict[str, dict[str, Any]] = {}
        for program, of_program in runs.items():
            if program in failed:
                programs[program] = {"error": failed[program]}
                continue
            programs[program] = summarise(of_program)
            if truth is not None:
                programs[program]["ap50"] = _ap50(truth, found[program], frames)
    if len(failed) == len(backends) and failed:
        raise CasaError("; ".join(failed.values()))
    if peer:
        for of_program in programs.values():
            if "error" not in of_program:
                of_program["ratio"] = of_program["fps_median"] / programs[PEER]["fps_median"]
                of_program["cpu_ratio"] = programs[PEER]["cpu_ms_per_frame"] / of_program["cpu_ms_per_frame"]
    return {
        "clip": str(clip), "truth": str(truth) if truth else None, "frames_judged": list(frames), "repeats": repeats,
        "weights": config.detect.weights, "programs": programs,
    }  # fmt: skip


def _ap50(truth: Path, found: Path, frames: tuple[int | None, int | None]) -> float:
    true = frames_between(read_truth(truth).table, *frames)
    table = frames_between(first_fields(read_detections(found, 1.0), true), *frames)
    return detection_scores(true, table, class_ids=[0])["ap50"]
