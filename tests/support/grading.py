"""A grading network of size T as training begins: its grades mean nothing, and everything else about it is real."""

from __future__ import annotations

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
