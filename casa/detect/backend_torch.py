"""The network in PyTorch: the reference the other backends are held to, and the one for CUDA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.detect.backends import NetworkMeta, RawMaps
from casa.errors import CasaError, InputError


class TorchBackend:
    """PyTorch on the CPU or on CUDA, there in half precision unless told otherwise."""

    def __init__(self, path: Path, device: str = "cpu", half: bool | None = None, threads: int = 0) -> None:
        import torch

        from casa.detect import network

        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("device cuda was asked for, and PyTorch finds no CUDA device; use --device cpu")
        if threads and device == "cpu":
            torch.set_num_threads(threads)
        self._torch = torch
        self._half = device == "cuda" if half is None else half
        if self._half and device == "cpu":
            raise InputError("half precision is for CUDA; on the CPU leave detect.half empty")
        model, _, classes = network.load_state(path)
        head: Any = model.model[-1]
        self.meta = NetworkMeta(
            stride_px=int(head.stride[0]),
            reg_max=int(head.reg_max),
            size_multiple_px=network.size_multiple_px(model),
            classes=tuple(classes),
        )
        self._dtype = torch.float16 if self._half else torch.float32
        self._network = network.raw_heads(network.fused(model)).to(device, self._dtype)
        self.device = device
        self.precision = "float16" if self._half else "float32"
        # Kernels run behind Python's back on CUDA: a second picture keeps the device busy.
        self.depth = 1 if device == "cuda" else 0

    def start(self, gray: NDArray[np.uint8]) -> Any:
        """Compute (CPU) or queue (CUDA) a picture."""
        torch = self._torch
        try:
            with torch.inference_mode():
                picture = torch.from_numpy(gray).to(self.device).to(self._dtype).div_(255.0)
                return self._network(picture[None, None])
        except RuntimeError as error:
            raise CasaError(f"the detector failed on {self.device} ({' '.join(str(error).split())[:160]})") from error

    def finish(self, ticket: Any) -> RawMaps:
        """Wait for a picture's raw maps."""
        distances, logits = ticket
        return distances[0].float().cpu().numpy(), logits[0].float().cpu().numpy()

    def batch(self, grays: NDArray[np.uint8]) -> RawMaps:
        """The raw maps of pictures (b, h, w) of one size, in one pass."""
        torch = self._torch
        try:
            with torch.inference_mode():
                pictures = torch.from_numpy(grays).to(self.device).to(self._dtype).div_(255.0)
                distances, logits = self._network(pictures[:, None])
                return distances.float().cpu().numpy(), logits.float().cpu().numpy()
        except RuntimeError as error:
            raise CasaError(f"the detector failed on {self.device} ({' '.join(str(error).split())[:160]})") from error

    def close(self) -> None:
        """Nothing is held but memory."""
