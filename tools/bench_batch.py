"""Frames a second of ``casa batch`` beside ``casa replay`` of the same recordings in turn, starts included.

    python tools/bench_batch.py VIDEO VIDEO ... [--runs 3] [--max-frames 150]

Both by turns in the same run, so that what else the machine does falls on both; one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def timed(commands: list[list[str]], folder: Path) -> dict[str, float]:
    """Run ``commands`` one after the other in ``folder``: their frames, wall and CPU seconds."""
    began, before, frames = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN), 0
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "casa", *command, "--json"], check=True, capture_output=True, text=True, cwd=folder
        )
        found: Any = json.loads(done.stdout)["frames"]
        frames += found if isinstance(found, int) else found["captured"]
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"frames": frames, "frames_per_s": frames / wall_s, "wall_s": wall_s, "cpu_s": cpu_s}


def main() -> None:
    """Both, by turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--max-frames", type=int, default=150)
    given = parser.parse_args()
    videos, most = [str(video.resolve()) for video in given.videos], ["--max-frames", str(given.max_frames)]
    replays = [["replay", video, "-o", f"{k}.h5", "--no-report", *most] for k, video in enumerate(videos)]
    runs: dict[str, list[dict[str, float]]] = {"in_turn": [], "batch": []}
    for _ in range(given.runs):
        for name, commands in (("in_turn", replays), ("batch", [["batch", *videos, "-o", "out", *most]])):
            with tempfile.TemporaryDirectory() as folder:
                runs[name].append(timed(commands, Path(folder)))
    rate = {name: statistics.median(run["frames_per_s"] for run in found) for name, found in runs.items()}
    result = {"frames_per_s": rate, "ratio": rate["batch"] / rate["in_turn"], "load": os.getloadavg()[0], "runs": runs}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
