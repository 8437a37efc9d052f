"""Frame rate of ``casa replay`` beside another program on the same clip, run by run in turn.

Each run is a process of its own, so that neither program's threads or memory are the other's; the runs
alternate, so that a machine that warms up or is busy for a while slows both. Start-up (imports, loading and
compiling the network, a short warm-up pass) is left out of both: casa's rate is its own ``fps_processed``, from
the first frame decoded to the last one recorded, the peer's is from its first result to its last.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from casa.config import Config
from casa.errors import CasaError, InputError

PEERS = ("ultralytics",)


@dataclass(frozen=True, slots=True)
class ReplayRun:
    """One run of one program: frames, their rate, CPU of the whole process and of its parts, per frame."""

    program: str
    frames: int
    fps: float
    cpu_ms_per_frame: float
    parts_cpu_ms_per_frame: dict[str, float]
    detail: dict[str, Any]


def run_worker(task: dict[str, Any], timeout_s: float = 3600.0) -> ReplayRun:
    """One measurement in a process of its own (``casa.bench.worker``).

    Raises
    ------
    CasaError : the process failed; the message has the last line it wrote.
    """
    environment = dict(os.environ, PYTHONUNBUFFERED="1", YOLO_VERBOSE="False")
    done = subprocess.run(
        [sys.executable, "-m", "casa.bench.worker"],
        input=json.dumps(task), capture_output=True, text=True, timeout=timeout_s, env=environment, check=False,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
        raise CasaError(f"the {task['program']} run on {task['clip']} failed (exit code {done.returncode}): {last}")
    return ReplayRun(**json.loads(lines[-1]))


def bench_replay(
    clip: Path,
    config: Config,
    *,
    peer: str | None = None,
    repeats: int = 3,
    on_run: Callable[[str, int], None] = lambda program, repeat: None,
) -> dict[str, Any]:
    """Measure casa, and the peer in turn with it, ``repeats`` times each.

    The peer gets the weights that casa runs, as a checkpoint of its own kind, and the same clip.

    Returns
    -------
    dict : ``casa`` and, with a peer, its name: ``fps_median``, ``fps_min``, ``fps_max``, ``cpu_ms_per_frame``
        (whole process, median), ``parts_cpu_ms_per_frame`` (medians), ``runs``; ``ratio`` of the medians and
        ``ratio_min`` (casa's slowest run by the peer's fastest); ``other_than_network_cpu_ms_per_frame`` of casa.

    Raises
    ------
    InputError : no such clip or peer. CasaError : a run failed.
    """
    if not clip.exists():
        raise InputError(f"{clip}: no such file; give a video or a folder of images")
    if peer is not None and peer not in PEERS:
        raise InputError(f"--peer {peer}: expected one of {', '.join(PEERS)}")
    if repeats < 1:
        raise InputError(f"--repeats {repeats}: at least one run is needed")
    runs: dict[str, list[ReplayRun]] = {name: [] for name in ("casa", peer) if name}
    with tempfile.TemporaryDirectory(prefix="casa-bench-") as folder:
        task: dict[str, Any] = {"clip": str(clip), "folder": folder, "config": config.model_dump(mode="json")}
        for repeat in range(repeats):
            for program in runs:
                on_run(program, repeat)
                runs[program].append(run_worker(task | {"program": program}))
    result: dict[str, Any] = {"clip": str(clip), "repeats": repeats, "peer": peer}
    result |= {program: summarise(of_program) for program, of_program in runs.items()}
    parts = result["casa"]["parts_cpu_ms_per_frame"]
    result["other_than_network_cpu_ms_per_frame"] = sum(ms for name, ms in parts.items() if name != "network")
    if peer is not None:
        result["ratio"] = result["casa"]["fps_median"] / result[peer]["fps_median"]
        result["ratio_min"] = result["casa"]["fps_min"] / result[peer]["fps_max"]
    return result


def summarise(runs: list[ReplayRun]) -> dict[str, Any]:
    """Medians and extremes of a program's runs."""
    fps = [run.fps for run in runs]
    names = runs[0].parts_cpu_ms_per_frame
    return {
        "fps_median": float(np.median(fps)),
        "fps_min": min(fps),
        "fps_max": max(fps),
        "frames": runs[0].frames,
        "cpu_ms_per_frame": float(np.median([run.cpu_ms_per_frame for run in runs])),
        "parts_cpu_ms_per_frame": {
            name: float(np.median([run.parts_cpu_ms_per_frame.get(name, 0.0) for run in runs])) for name in names
        },
        "runs": [asdict(run) for run in runs],
    }
