"""The network in TensorRT, on NVIDIA's GPUs, in half precision unless told otherwise. Optional extra ``tensorrt``.

Written to TensorRT 11's documented Python interface. An engine is built for each picture size when it is first seen,
for batches of 1 to ``MAX_BATCH``; buffers are PyTorch's.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.detect.backends import NetworkMeta, RawMaps
from casa.errors import CasaError, InputError

#: Pictures of one batch at most; more are taken in several passes.
MAX_BATCH = 16
_SIZES_KEPT = 4


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What was queued: buffers that must live until the device is done, and the event it then sets."""

    gray: Any
    distances: Any
    logits: Any
    done: Any


class TensorRtBackend:
    """TensorRT on CUDA; reads ONNX exported by casa in float32."""

    device = "cuda"

    def __init__(self, path: Path, half: bool | None = None) -> None:
        try:
            import tensorrt  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise InputError(
                f"backend tensorrt needs TensorRT; pip install 'casa-engine[tensorrt]' or use --backend torch ({error})"
            ) from error
        import torch

        if not torch.cuda.is_available():
            raise InputError("backend tensorrt needs a CUDA device, and PyTorch finds none; use --backend auto")
        self._trt, self._torch, self._path = tensorrt, torch, path
        self._half = half is not False
        self.meta = NetworkMeta.from_text(_metadata(path), path)
        if self.meta.precision != "float32":
            raise InputError(f"{path}: is {self.meta.precision}; TensorRT takes the float32 network")
        self.precision = "float16" if self._half else "float32"
        # Kernels run behind Python's back: a second picture keeps the device busy.
        self.depth = 1
        self._logger = tensorrt.Logger(tensorrt.Logger.ERROR)
        self._stream = torch.cuda.Stream()
        self._engines: OrderedDict[tuple[int, int], tuple[Any, Any]] = OrderedDict()

    def start(self, gray: NDArray[np.uint8]) -> _Ticket:
        """Queue a picture."""
        return self._queue(gray[None])

    def finish(self, ticket: _Ticket) -> RawMaps:
        """Wait for a picture's raw maps."""
        distances, logits = self._wait(ticket)
        return distances[0], logits[0]

    def batch(self, grays: NDArray[np.uint8]) -> RawMaps:
        """The raw maps of pictures (b, h, w) of one size, ``MAX_BATCH`` in a pass."""
        parts = [self._wait(self._queue(grays[k : k + MAX_BATCH])) for k in range(0, len(grays), MAX_BATCH)]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def close(self) -> None:
        """Release the engines."""
        self._engines.clear()

    def _queue(self, grays: NDArray[np.uint8]) -> _Ticket:
        torch = self._torch
        batch, height, width = grays.shape
        context = self._context((height, width))
        s = self.meta.stride_px
        rows, columns = height // s, width // s
        try:
            with torch.cuda.stream(self._stream):
                gray = torch.from_numpy(np.ascontiguousarray(grays)).to("cuda").float()[:, None].contiguous()
                distances = torch.empty((batch, rows, columns, 4 * self.meta.reg_max), device="cuda")
                logits = torch.empty((batch, rows, columns, len(self.meta.classes)), device="cuda")
                if not context.set_input_shape("gray", tuple(gray.shape)):
                    raise CasaError(f"TensorRT refuses pictures of {width}x{height}, {batch} at once")
                for name, tensor in (("gray", gray), ("distances", distances), ("logits", logits)):
                    context.set_tensor_address(name, tensor.data_ptr())
                if not context.execute_async_v3(self._stream.cuda_stream):
                    raise CasaError(f"{self._path}: TensorRT could not run the network")
                done = torch.cuda.Event()
                done.record(self._stream)
        except RuntimeError as error:
            raise CasaError(f"the detector failed on cuda ({' '.join(str(error).split())[:160]})") from error
        return _Ticket(gray, distances, logits, done)

    def _wait(self, ticket: _Ticket) -> RawMaps:
        try:
            ticket.done.synchronize()
            return ticket.distances.cpu().numpy(), ticket.logits.cpu().numpy()
        except RuntimeError as error:
            raise CasaError(f"the detector failed on cuda ({' '.join(str(error).split())[:160]})") from error

    def _context(self, shape: tuple[int, int]) -> Any:
        kept = self._engines.get(shape)
        if kept is None:
            kept = self._engines[shape] = self._build(shape)
            if len(self._engines) > _SIZES_KEPT:
                self._engines.popitem(last=False)
        self._engines.move_to_end(shape)
        return kept[1]

    def _build(self, shape: tuple[int, int]) -> tuple[Any, Any]:
        """The engine and its context for a picture size (height, width)."""
        from casa.detect.half import half_precision_onnx

        trt = self._trt
        builder = trt.Builder(self._logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, self._logger)
        if not parser.parse(half_precision_onnx(self._path) if self._half else self._path.read_bytes()):
            reason = "; ".join(str(parser.get_error(k)) for k in range(parser.num_errors))
            raise CasaError(f"{self._path}: TensorRT cannot read it ({' '.join(reason.split())[:160]})")
        profile = builder.create_optimization_profile()
        profile.set_shape("gray", (1, 1, *shape), (1, 1, *shape), (MAX_BATCH, 1, *shape))
        config = builder.create_builder_config()
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        engine = plan and trt.Runtime(self._logger).deserialize_cuda_engine(plan)
        context = engine and engine.create_execution_context()
        if not context:
            raise CasaError(f"{self._path}: TensorRT cannot build it for {shape[1]}x{shape[0]}; use --backend torch")
        return engine, context  # the engine must outlive its context


def _metadata(path: Path) -> dict[str, str]:
    import onnx

    try:
        return {item.key: item.value for item in onnx.load(str(path)).metadata_props}
    except Exception as error:  # protobuf's own kinds, OSError
        raise InputError(f"{path}: not a readable ONNX network ({' '.join(str(error).split())[:120]})") from error
