"""How many clips a second a grading network grades, and on CUDA how much of the device's matrix rate it reaches.

Weights are at random: the numbers do not change the time. On a CPU the network runs as the grader runs it (OpenVINO)
and in PyTorch, in turn in the same run. On CUDA it runs in bfloat16, one clip for the latency and batches for the rate;
the matrix rate is that of a large bfloat16 product, measured on the same device just before.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from casa.errors import CasaError, InputError

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)
#: Clips of one measurement on a CPU last about this long, seconds.
CPU_SPELL_S = 1.0


def bench_grade(
    name: str = "rostfine",
    sizes: tuple[str, ...] = ("T",),
    *,
    devices: tuple[str, ...] = ("cpu", "cuda"),
    threads: int = 0,
    repeats: int = 5,
    on_run: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:
    """Measure ``name`` in ``sizes`` on each device that there is.

    Returns
    -------
    dict : ``networks``, a list with for each size ``network``, ``size``, ``frames``, ``size_px``, ``parameters``,
        ``gflop_per_clip``, and ``cpu`` and ``cuda`` where measured. ``cuda`` is null where there is no such device.

    Raises
    ------
    InputError : no such network, size or device.
    """
    import torch

    from casa.grade.build import build_network, flops, parameters

    if repeats < 1:
        raise InputError(f"--repeats {repeats}: expected at least 1")
    if not devices or set(devices) - {"cpu", "cuda"}:
        raise InputError(f"--devices {','.join(devices)}: expected cpu, cuda or both")
    cuda = "cuda" in devices and torch.cuda.is_available()
    if devices == ("cuda",) and not cuda:
        raise InputError("--devices cuda: PyTorch finds no CUDA device here")
    rate = _matrix_rate() if cuda else None
    found = []
    for size in sizes:
        torch.manual_seed(0)
        network = build_network(name, size)
        config = network.config
        entry: dict[str, Any] = {
            "network": name,
            "size": size,
            "frames": config.frames,
            "size_px": config.size_px,
            "parameters": parameters(network),
            "gflop_per_clip": flops(network) / 1e9,
        }
        if "cpu" in devices:
            on_run(f"{name} {size} on the CPU")
            entry["cpu"] = _on_cpu(network, threads, repeats)
        on_run(f"{name} {size} on CUDA")
        entry["cuda"] = _on_cuda(network, entry["gflop_per_clip"], rate, repeats) if rate else None
        found.append(entry)
    device = torch.cuda.get_device_name() if cuda else None
    return {"networks": found, "cuda_device": device, "cuda_matrix_tflop_s": rate}


def _on_cpu(network: Any, threads: int, repeats: int) -> dict[str, Any]:
    """Clips a second of OpenVINO and PyTorch in turn; PyTorch sees batches of 8."""
    from casa.grade.backends import GradeBackend, OpenVinoGrades, TorchGrades
    from casa.grade.checkpoints import save_network
    from casa.grade.export import export_onnx

    config = network.config
    runs: dict[str, list[float]] = {"openvino": [], "torch": []}
    cpu_ms: dict[str, list[float]] = {"openvino": [], "torch": []}
    with tempfile.TemporaryDirectory(prefix="casa-bench-") as folder:
        onnx, state = Path(folder) / "network.onnx", Path(folder) / "network.pt"
        save_network(network, state)
        export_onnx(network, onnx)
        backends: dict[str, GradeBackend] = {
            "openvino": OpenVinoGrades(onnx, threads),
            "torch": TorchGrades(state, "cpu", threads),
        }
        gray = np.random.default_rng(0).normal(size=(8, config.frames, config.size_px, config.size_px))
        gray = gray.astype(np.float32)
        clips = {}
        for program, backend in backends.items():
            backend.distributions(gray[:1])  # compilation and first touch are not timed
            start = time.perf_counter()
            backend.distributions(gray[:1])
            clips[program] = max(1, min(64, int(CPU_SPELL_S / (time.perf_counter() - start))))
        for _ in range(repeats):
            for program, backend in backends.items():
                batch = np.resize(gray, (clips[program], *gray.shape[1:]))
                start, cpu_start = time.perf_counter(), time.process_time()
                for first in range(0, len(batch), 8):
                    backend.distributions(batch[first : first + 8])
                runs[program].append(len(batch) / (time.perf_counter() - start))
                cpu_ms[program].append((time.process_time() - cpu_start) * 1e3 / len(batch))
    return {
        program: {
            "clips_s_median": statistics.median(rates),
            "clips_s_min": min(rates),
            "clips_s_max": max(rates),
            "cpu_ms_per_clip": statistics.median(cpu_ms[program]),
            "runs": len(rates),
        }
        for program, rates in runs.items()
    }


def _on_cuda(network: Any, gflop: float, rate: float, repeats: int) -> dict[str, Any]:
    """Milliseconds of one clip and clips a second by batch, bfloat16; shares of ``rate`` (TFLOP/s)."""
    import torch

    config = network.config
    network = network.to("cuda", torch.bfloat16).eval().requires_grad_(False)
    by_batch: dict[int, float] = {}
    for batch in BATCHES:
        try:
            clips = torch.randn(
                batch, 3, config.frames, config.size_px, config.size_px, device="cuda", dtype=torch.bfloat16
            )
            with torch.inference_mode():
                by_batch[batch] = _seconds(lambda clips=clips: network(clips), repeats)
        except torch.cuda.OutOfMemoryError:
            break
    if not by_batch:
        raise CasaError("one clip does not fit the CUDA device's memory; choose a smaller size")
    best = max(by_batch, key=lambda batch: batch / by_batch[batch])
    reached = best * gflop / 1e3 / by_batch[best]
    return {
        "precision": "bfloat16",
        "one_clip_ms": by_batch[1] * 1e3,
        "clips_s": {str(batch): batch / seconds for batch, seconds in by_batch.items()},
        "best_batch": best,
        "tflop_s": reached,
        "share_of_matrix_rate": reached / rate,
    }


def _matrix_rate(side: int = 8192) -> float:
    """TFLOP/s of a bfloat16 product of two square matrices on the CUDA device."""
    import torch

    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / _seconds(lambda: a @ b, 20) / 1e12


def _seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median time of ``work`` on the CUDA device, seconds, after it has warmed up."""
    import torch

    for _ in range(3):
        work()
    times = []
    for _ in range(max(repeats, 5)):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return statistics.median(times)
