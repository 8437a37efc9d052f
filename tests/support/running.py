"""Videos that tests make themselves, and the command line as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np


def encode(path: Path, images: Iterable[np.ndarray], fps: int = 50) -> Path:
    """Write RGB images as an H.264 video, index first, as a camera's software does."""
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "18", "preset": "ultrafast", "g": "10"})
        stream.time_base = Fraction(1, fps)
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(images):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def casa(*arguments: str | Path, cwd: Path, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run ``casa`` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "casa", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=timeout_s, env=environment(),
    )  # fmt: skip


def start_casa(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """Start ``casa`` in the background; the caller ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "casa", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd, env=environment(),
    )  # fmt: skip
