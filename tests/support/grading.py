"""A grading network of size T as training begins: its grades mean nothing, and everything else about it is real."""

from __future__ import annotations

import json
from pathlib import Path


def write_network(path: Path, seed: int = 1) -> Path:
    """Write one as ONNX (``path`` ends in .onnx) or as PyTorch's file (.pt)."""
    import torch

    from casa.grade.build import build_network
    from casa.grade.checkpoints import save_network
    from casa.grade.export import export_onnx

    torch.manual_seed(seed)
    network = build_network("rostfine", "T")
    if path.suffix == ".onnx":
        export_onnx(network, path)
    else:
        save_network(network, path)
    return path


def add_grades(path: Path, track_ids: list[int], clips: int) -> None:
    """Put grades of these tracks into a finished recording, and clips of the first ``clips`` of them."""
    import h5py
    import numpy as np
    import recordings

    from casa.cells import GradeTable
    from casa.record.clips import clip_payload
    from casa.record.schema import CLIP_BYTES, TABLES, grade_rows

    tables = [recordings.grades([number], track) for number, track in enumerate(track_ids, start=1)]
    rows = {"grades": grade_rows(GradeTable.concatenate(tables)), "clips": np.empty(0, TABLES["clips"])}
    size, data = TABLES["clips"].itemsize, b""
    for number, track in enumerate(track_ids[:clips], start=1):
        payload = clip_payload(recordings.kept_clip(number, track))
        row = np.frombuffer(payload[:size], TABLES["clips"]).copy()
        row["offset"], data = len(data), data + payload[size:]
        rows["clips"] = np.concatenate([rows["clips"], row])
    with h5py.File(path, "r+") as file:
        for table, values in rows.items():
            for column in values.dtype.names:
                dataset = file[f"{table}/{column}"]
                dataset.resize(len(values), axis=0)
                dataset[:] = values[column]
        file[CLIP_BYTES].resize(len(data), axis=0)
        file[CLIP_BYTES][:] = np.frombuffer(data, np.uint8)
        counts = {"taken": 9, "graded": 8, "failed": 1, "tracks": len(track_ids)}
        file.attrs["grading"] = json.dumps(counts)
