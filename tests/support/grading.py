"""A grading network of size T as training begins: its grades mean nothing, and everything else about it is real."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


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


def add_heads(path: Path, exams: list[Any], **model: Any) -> None:
    """Put what was found of heads into a finished recording, and what its session says of the network."""
    import h5py
    import numpy as np
    import recordings

    from casa.record.heads import head_payload
    from casa.record.schema import HEAD_BYTES, TABLES

    size, data, rows = TABLES["morphology"].itemsize, b"", []
    for exam in exams:
        payload = head_payload(exam)
        row = np.frombuffer(payload[:size], TABLES["morphology"]).copy()
        row["offset"], data = len(data), data + payload[size:]
        rows.append(row)
    table = np.concatenate(rows)
    with h5py.File(path, "r+") as file:
        for column in table.dtype.names:
            dataset = file[f"morphology/{column}"]
            dataset.resize(len(table), axis=0)
            texts = table[column].dtype.kind == "S"
            dataset[:] = [text.decode() for text in table[column]] if texts else table[column]
        file[HEAD_BYTES].resize(len(data), axis=0)
        file[HEAD_BYTES][:] = np.frombuffer(data, np.uint8)
        told = {"name": "shapes", "class_names": list(recordings.CLASSES), "abstain_below": 0.0, "outside": []} | model
        file.attrs["session"] = json.dumps(json.loads(file.attrs["session"]) | {"morphology_model": told})
        reasons = [str(exam.row.reason[0]) for exam in exams if exam.row.reason[0]]
        abstained = {reason: reasons.count(reason) for reason in reasons}
        counts = {"taken": len(exams) + 2, "graded": len(exams), "left_out": 2, "failed": 0, "abstained": abstained}
        file.attrs["examining"] = json.dumps(counts)
