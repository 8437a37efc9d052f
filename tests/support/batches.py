"""Archives of simulated recordings, and what a batch has made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from running import encode

from casa.simulate.scene import simulate


def write_archive(folder: Path, n: int, frames: int) -> Path:
    """``n`` short recordings of the simulated field, each another one, the last in a folder below."""
    (folder / "below").mkdir()
    for seed in range(n):
        images = []
        for frame in simulate("default", seed=seed + 1).frames():
            images.append(np.repeat(frame.image[..., None], 3, 2) if frame.image.ndim == 2 else np.asarray(frame.image))
            if len(images) == frames:
                break
        encode(folder / ("below" if seed == n - 1 else "") / f"field{seed}.mp4", images)
    return folder


def tables_in(output: Path) -> dict[str, bytes]:
    """The files of a data set by name."""
    folder = output / "dataset"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def rows_in(output: Path, table: str) -> list[dict[str, Any]]:
    """The rows of a table of a data set, of all recordings."""
    import pyarrow.parquet as pq

    return pq.read_table(output / "dataset" / table).to_pylist()


def marks_in(output: Path) -> dict[str, bytes]:
    """The marks of finished recordings by name."""
    return {path.name: path.read_bytes() for path in sorted((output / "_casa" / "done").glob("[!.]*.json"))}


def children_of(pid: int) -> list[int]:
    """Processes that a process has started and that are alive."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found.update(int(child) for child in task.read_text().split())
        except OSError:
            continue
    return sorted(found)
