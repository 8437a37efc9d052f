"""The network in OpenVINO, on the CPU: several pictures at once, one a stream."""

from __future__ import annotations

from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.detect.backends import NetworkMeta, RawMaps
from casa.errors import CasaError, InputError
from casa.runtimes import import_openvino

#: Networks are compiled for a picture size; this many sizes are kept ready.
_SIZES_KEPT = 4


class _Pool:
    """The network compiled for one picture size, and its free inference requests."""

    def __init__(self, compiled: Any, n_requests: int) -> None:
        self.compiled = compiled
        self.free = deque(compiled.create_infer_request() for _ in range(n_requests))


class OpenVinoBackend:
    """OpenVINO; reads ONNX or IR. The picture goes in as uint8, what is done to it is part of the graph.

    Cores share out pictures (most of them a second), or with ``one_at_a_time`` each picture (the soonest).
    """

    device = "cpu"

    def __init__(self, path: Path, threads: int = 0, one_at_a_time: bool = False) -> None:
        openvino = import_openvino()
        self._core = openvino.Core()
        self._path = path
        try:
            model = self._core.read_model(str(path))
        except Exception as error:  # OpenVINO raises RuntimeError and its own kinds
            raise InputError(f"{path}: not a network OpenVINO reads ({' '.join(str(error).split())[:160]})") from error
        self.meta = NetworkMeta.from_text(_metadata(model, path), path)
        self.precision = self.meta.precision
        preprocessing = openvino.preprocess.PrePostProcessor(model)
        picture = preprocessing.input(0)
        picture.tensor().set_element_type(openvino.Type.u8)
        picture.preprocess().convert_element_type(openvino.Type.f32)
        self._model = preprocessing.build()
        self._properties: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY" if one_at_a_time else "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": "f32",
        }
        if threads:
            self._properties["INFERENCE_NUM_THREADS"] = threads
        self._pools: OrderedDict[tuple[int, int], _Pool] = OrderedDict()
        self.depth = 2

    def _pool(self, shape: tuple[int, int]) -> _Pool:
        pool = self._pools.get(shape)
        if pool is None:
            model = self._model.clone()
            model.reshape([1, 1, *shape])
            compiled = self._core.compile_model(model, "CPU", self._properties)
            # One more than run at a time, so that a stream finds its next picture waiting.
            n_requests = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")) + 1
            self.depth = n_requests
            pool = self._pools[shape] = _Pool(compiled, n_requests)
            if len(self._pools) > _SIZES_KEPT:
                self._pools.popitem(last=False)
        self._pools.move_to_end(shape)
        return pool

    def start(self, gray: NDArray[np.uint8]) -> tuple[_Pool, Any, NDArray[np.uint8]]:
        """Begin with a picture, without waiting."""
        pool = self._pool((gray.shape[0], gray.shape[1]))
        if not pool.free:
            raise CasaError(f"more than {self.depth} pictures were started and none was finished")
        request = pool.free.popleft()
        request.start_async({0: gray[None, None]}, share_inputs=True)
        return pool, request, gray  # the picture is shared with the request: keep it alive

    def finish(self, ticket: tuple[_Pool, Any, NDArray[np.uint8]]) -> RawMaps:
        """Wait for a picture's raw maps; they are overwritten when its request is used again."""
        pool, request, _ = ticket
        try:
            request.wait()
            return request.get_output_tensor(0).data[0], request.get_output_tensor(1).data[0]
        except RuntimeError as error:
            raise CasaError(f"{self._path}: OpenVINO failed ({' '.join(str(error).split())[:160]})") from error
        finally:
            pool.free.append(request)

    def batch(self, grays: NDArray[np.uint8]) -> RawMaps:
        """The raw maps of pictures (b, h, w) of one size: one a stream, which is quickest on a CPU."""
        waiting: deque[tuple[_Pool, Any, NDArray[np.uint8]]] = deque()
        done: list[RawMaps] = []

        def finish_oldest() -> None:
            distances, logits = self.finish(waiting.popleft())
            done.append((distances.copy(), logits.copy()))

        for gray in grays:
            if len(waiting) == self.depth:
                finish_oldest()
            waiting.append(self.start(gray))
        while waiting:
            finish_oldest()
        return np.stack([item[0] for item in done]), np.stack([item[1] for item in done])

    def close(self) -> None:
        """Release the compiled networks."""
        self._pools.clear()


def _metadata(model: Any, path: Path) -> dict[str, str]:
    """The exported network's ``casa.*`` metadata; OpenVINO keeps ONNX's under the key ``framework``."""
    try:
        found = model.get_rt_info(["framework"]).astype(dict)
        return {key: str(value.astype(str)) for key, value in found.items()}
    except Exception as error:  # a network without metadata: no common base of what is raised
        raise InputError(f"{path}: not a network exported by casa (it has no metadata)") from error
