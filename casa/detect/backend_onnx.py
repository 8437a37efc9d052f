"""The network in ONNX Runtime, on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from casa.detect.backends import NetworkMeta, RawMaps
from casa.errors import InputError


class OnnxBackend:
    """ONNX Runtime; pictures are computed as they are started."""

    device = "cpu"
    depth = 0

    def __init__(self, path: Path, threads: int = 0) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime's own exceptions have no common base
            raise InputError(f"{path}: not a readable ONNX network ({_one_line(error)})") from error
        self.meta = NetworkMeta.from_text(self._session.get_modelmeta().custom_metadata_map, path)
        self.precision = self.meta.precision

    def start(self, gray: NDArray[np.uint8]) -> RawMaps:
        """Compute the raw maps."""
        distances, logits = self._session.run(["distances", "logits"], {"gray": gray[None, None].astype(np.float32)})
        return np.asarray(distances)[0], np.asarray(logits)[0]

    def finish(self, ticket: RawMaps) -> RawMaps:
        """The raw maps that ``start`` computed."""
        return ticket

    def batch(self, grays: NDArray[np.uint8]) -> RawMaps:
        """The raw maps of pictures (b, h, w) of one size."""
        distances, logits = self._session.run(["distances", "logits"], {"gray": grays[:, None].astype(np.float32)})
        return np.asarray(distances), np.asarray(logits)

    def close(self) -> None:
        """Nothing is held but memory."""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
