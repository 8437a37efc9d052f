"""What a measurement was made on, for the record beside its figures."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from casa import __version__

#: Processor features that decide how fast networks and inner loops run.
FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd", "bf16")
_PACKAGES = ("numpy", "numba", "openvino", "onnxruntime", "torch", "ultralytics", "trackeval", "lap", "av")


def machine() -> dict[str, Any]:
    """Processor, cores, features, system, versions and the date (UTC)."""
    name, flags = _processor()
    return {
        "date_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": name,
        "cores": os.cpu_count(),
        "flags": [flag for flag in FLAGS if flag in flags],
        "system": platform.platform(),
        "python": platform.python_version(),
        "casa": __version__,
        "versions": {package: version(package) for package in _PACKAGES},
    }


def _processor() -> tuple[str, set[str]]:
    """The processor's name and features, as far as the system tells."""
    name, flags = platform.processor() or platform.machine(), set()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return name, flags
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = set(value.split())
    return name, flags
