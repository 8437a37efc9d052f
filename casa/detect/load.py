"""Which backend, on which device, in which numbers: the detector that a configuration asks for."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Literal

from casa.config import DetectConfig
from casa.detect.backends import Backend
from casa.detect.detector import Detector, ModelInfo
from casa.errors import InputError
from casa.weights import Weights, resolve_weights

Kind = Literal["torch", "onnx", "openvino", "tensorrt"]


def load_detector(config: DetectConfig, one_at_a_time: bool = False) -> Detector:
    """The detector that ``config`` asks for.

    ``backend: auto`` is PyTorch in half precision where there is a CUDA device, else OpenVINO; a path ending in .xml
    means OpenVINO. ``int8: null`` is 8 bits in OpenVINO on x86-64 where the manifest has such weights, which were then
    found as exact as the others; elsewhere float32. ``one_at_a_time``: no picture is started before the last one is
    finished, so that all cores work on the one.

    Raises
    ------
    InputError : no such weights, or a backend that cannot read them.
    CasaError : weights whose sum is not the manifest's.
    """
    kind, device = _choose_backend(config)
    weights, backend = _load(config, kind, device, one_at_a_time)
    entry = weights.entry
    model = ModelInfo(
        name=entry.name,
        file=weights.path.name,
        sha256=weights.sha256,
        licence=entry.licence,
        backend=kind,
        device=backend.device,
        precision=backend.precision,
        classes=backend.meta.classes,
        trained_on=entry.trained_on,
        card=entry.card,
        scores=dict(entry.scores),
    )
    return Detector(backend, model, config)


def chosen_weights(config: DetectConfig) -> tuple[Kind, Literal["cpu", "cuda"], Weights]:
    """Backend, device and weights that ``load_detector`` would load here, checked but not loaded; raises as it does."""
    kind, device = _choose_backend(config)
    kinds = {"torch": ("state",), "tensorrt": ("onnx",)}.get(kind) or _kinds_on_cpu(config.int8, kind)
    return kind, device, resolve_weights(config.weights, kinds)


def _load(
    config: DetectConfig, kind: Kind, device: Literal["cpu", "cuda"], one_at_a_time: bool
) -> tuple[Weights, Backend]:
    if config.int8 and kind in ("torch", "tensorrt"):
        raise InputError(
            f"backend {kind} has no 8-bit weights; use --backend openvino or onnx, or leave detect.int8 empty"
        )
    if kind == "torch":
        from casa.detect.backend_torch import TorchBackend

        weights = resolve_weights(config.weights, ("state",))
        return weights, TorchBackend(weights.path, device, config.half, config.threads)
    if kind == "tensorrt":
        from casa.detect.backend_tensorrt import TensorRtBackend

        if device == "cpu":
            raise InputError("backend tensorrt runs on CUDA; use --device cuda, or --backend openvino for the CPU")
        weights = resolve_weights(config.weights, ("onnx",))
        return weights, TensorRtBackend(weights.path, config.half)
    if device == "cuda" or config.half:
        raise InputError(f"backend {kind} runs on the CPU in single precision; use --backend torch for CUDA")
    weights = resolve_weights(config.weights, _kinds_on_cpu(config.int8, kind))
    if kind == "onnx":
        from casa.detect.backend_onnx import OnnxBackend

        return weights, OnnxBackend(weights.path, config.threads)
    from casa.detect.backend_openvino import OpenVinoBackend

    return weights, OpenVinoBackend(weights.path, config.threads, one_at_a_time)


def _kinds_on_cpu(int8: bool | None, kind: Kind) -> tuple[str, ...]:
    """The kinds of weights to look for in a manifest, the wanted one first."""
    if int8:
        return ("int8",)
    plain = ("onnx",) if kind == "onnx" else ("onnx", "ir")
    # ONNX Runtime gains next to nothing by 8 bits without VNNI, and no other processor than x86-64 was measured.
    prefer = int8 is None and kind == "openvino" and platform.machine().lower() in ("x86_64", "amd64")
    return ("int8", *plain) if prefer else plain


def _choose_backend(config: DetectConfig) -> tuple[Kind, Literal["cpu", "cuda"]]:
    if config.backend == "torch" or (config.backend == "auto" and config.device == "cuda"):
        device = config.device if config.device != "auto" else ("cuda" if _cuda_available() else "cpu")
        return "torch", device
    if config.backend == "auto":
        suffix = Path(config.weights).suffix
        if suffix not in (".xml", ".onnx") and not config.int8 and config.device == "auto" and _cuda_available():
            return "torch", "cuda"
        return "openvino", "cpu"
    if config.backend == "tensorrt":
        return "tensorrt", "cuda" if config.device == "auto" else config.device
    return config.backend, "cpu" if config.device == "auto" else config.device


def _cuda_available() -> bool:
    """Whether PyTorch has a CUDA device; without NVIDIA's driver this is known without importing torch (3 s)."""
    import ctypes

    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    import torch

    return torch.cuda.is_available()
