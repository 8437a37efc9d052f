"""A grading network on a device: OpenVINO for CPUs, PyTorch for CUDA and as the reference that the other is held to."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from casa.errors import CasaError, InputError
from casa.runtimes import import_openvino

PARTS = ("global", "spatial", "temporal")


class GradeBackend(Protocol):
    """What runs a network on pictures (b, t, h, w) float32 as ``casa.grade.prepare.gray_pictures`` makes them."""

    network: str
    frames: int
    size_px: int
    parts: tuple[str, ...]
    device: str
    precision: str

    def distributions(self, gray: NDArray[np.float32]) -> NDArray[np.float32]:
        """The parts' distributions (b, p, 5)."""
        ...

    def rollout(self, gray: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """Attention rollout (b, t, n); None of a network without attention to space."""
        ...


class TorchGrades:
    """PyTorch: float32 on the CPU, bfloat16 on CUDA."""

    def __init__(self, path: Path, device: str = "cpu", threads: int = 0) -> None:
        import torch

        from casa.grade.checkpoints import load_network
        from casa.grade.export import part_names

        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("device cuda was asked for, and PyTorch finds no CUDA device; use cpu")
        if threads and device == "cpu":
            torch.set_num_threads(threads)
        network, self.about = load_network(path)
        self._dtype = torch.bfloat16 if device == "cuda" else torch.float32
        self._net = network.to(device, self._dtype).requires_grad_(False)
        self.network = f"{network.name} {network.size} ({network.variant})"
        self.frames, self.size_px = network.config.frames, network.config.size_px
        self.parts = tuple(part_names(network))
        self.device, self.precision = device, "bfloat16" if device == "cuda" else "float32"

    def distributions(self, gray: NDArray[np.float32]) -> NDArray[np.float32]:
        """See ``GradeBackend``."""
        import torch

        with torch.inference_mode(), _told(self.device):
            parts = self._net(self._clips(gray)).parts
            return torch.stack([part.float().softmax(-1) for part in parts], dim=1).cpu().numpy()

    def rollout(self, gray: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """See ``GradeBackend``."""
        import torch

        from casa.grade.rollout import rollout

        if not hasattr(self._net, "space_attention"):
            return None
        with torch.inference_mode(), _told(self.device):
            maps = self._net.space_attention(self._clips(gray)).float()  # type: ignore[operator]
            return rollout(maps, getattr(self._net.config, "margin", 0)).cpu().numpy()

    def _clips(self, gray: NDArray[np.float32]) -> Any:
        import torch

        return torch.from_numpy(gray).to(self.device, self._dtype)[:, None].expand(-1, 3, -1, -1, -1)


class OpenVinoGrades:
    """OpenVINO on the CPU: one clip a thread."""

    device = "cpu"
    precision = "float32"

    def __init__(self, path: Path, threads: int = 0) -> None:
        openvino = import_openvino()
        self._core = openvino.Core()
        self._path = path
        try:
            self._model = self._core.read_model(str(path))
            found = self._model.get_rt_info(["framework"]).astype(dict)
            meta = {key: str(value.astype(str)) for key, value in found.items()}
            self.network = "{} {} ({})".format(*json.loads(meta["casa.network"]))
            self.frames, self.size_px = int(meta["casa.frames"]), int(meta["casa.size_px"])
            self.parts = tuple(json.loads(meta["casa.parts"]))
            self.about = json.loads(meta["casa.about"])
        except (KeyError, ValueError) as error:
            raise InputError(f"{path}: not a grading network exported by casa (its metadata lack {error})") from error
        except Exception as error:  # OpenVINO raises RuntimeError and its own kinds
            raise InputError(f"{path}: not a grading network that OpenVINO reads ({_one_line(error)})") from error
        self._outputs = [output.any_name for output in self._model.outputs]
        self._properties = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            self._properties["INFERENCE_NUM_THREADS"] = threads  # type: ignore[assignment]
        self._requests: dict[str, list[Any]] = {}

    def distributions(self, gray: NDArray[np.float32]) -> NDArray[np.float32]:
        """See ``GradeBackend``."""
        return self._run("parts", gray)

    def rollout(self, gray: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """See ``GradeBackend``."""
        return self._run("rollout", gray) if "rollout" in self._outputs else None

    def _run(self, output: str, gray: NDArray[np.float32]) -> NDArray[np.float32]:
        """One output for each clip, computing what it needs and no more."""
        free = deque(self._compiled(output))
        running: deque[tuple[Any, Any]] = deque()
        done = []
        try:
            for clip in gray:
                if not free:
                    request, _ = running.popleft()
                    request.wait()
                    done.append(request.get_output_tensor(0).data[0].copy())
                    free.append(request)
                request, clip = free.popleft(), np.ascontiguousarray(clip[None])
                request.start_async({0: clip}, share_inputs=True)
                running.append((request, clip))  # what is shared is kept alive
            for request, _ in running:
                request.wait()
                done.append(request.get_output_tensor(0).data[0].copy())
        except RuntimeError as error:
            raise CasaError(f"{self._path}: OpenVINO failed ({_one_line(error)})") from error
        return np.stack(done)

    def _compiled(self, output: str) -> list[Any]:
        if output not in self._requests:
            openvino = import_openvino()
            model = openvino.Model([self._model.output(output)], self._model.get_parameters())
            compiled = self._core.compile_model(model, "CPU", self._properties)
            n_requests = int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            self._requests[output] = [compiled.create_infer_request() for _ in range(n_requests)]
        return self._requests[output]


class _told:
    """PyTorch's failures (out of memory, a lost device) as casa's."""

    def __init__(self, device: str) -> None:
        self.device = device

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RuntimeError):
            raise CasaError(f"the grading network failed on {self.device} ({_one_line(error)})") from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160]
