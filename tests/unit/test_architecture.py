"""The rules of docs/architecture.md that a machine can hold: who imports whom, and what importing costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "casa"

BASE = {"types", "cells", "errors", "config", "tables", "progress", "resources", "kernels"}
BASE |= {"weights", "statistics", "runtimes", "lifeline", "audit"}
ALLOWED = {
    "types": set(),
    "cells": {"types"},
    "errors": set(),
    "progress": set(),
    "resources": {"errors"},
    "kernels": set(),
    "lifeline": set(),
    "runtimes": set(),
    "statistics": set(),
    "weights": {"errors", "resources"},
    "audit": {"errors"},
    "config": {"errors", "resources"},
    "tables": {"errors", "types", "cells"},
    "graph": {"types", "errors"},
    "bus": {"types", "cells", "errors", "config", "lifeline"},
    "sources": BASE | {"simulate"},
    "detect": BASE | {"simulate", "evaluate", "sources"},  # training makes its data and scores itself
    "track": BASE,
    "kinematics": BASE,
    "clips": BASE,
    "grade": BASE | {"clips", "evaluate", "simulate"},  # reads clips; training scores itself and makes the panel
    "morphology": BASE | {"clips", "evaluate", "simulate"},
    "calibrate": BASE,
    "record": BASE | {"bus"},  # the recorder is a process on the bus
    "report": BASE | {"record", "samples", "kinematics"},
    "samples": BASE | {"record"},
    "interchange": BASE | {"record", "report", "samples"},  # figures are taken from where reports take them
    "qc": BASE | {"record", "calibrate"},  # control samples of beads, and their chart's rules
    "simulate": BASE,
    "evaluate": BASE,
    "viewer": BASE | {"bus", "record", "kinematics"},  # nothing of torch or cv2: tests/gui holds that
}
FREE = {"engine", "cli", "batch", "bench", "__init__", "__main__"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def casa_imports(path: Path) -> set[str]:
    parts = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module or ""]
        else:
            continue
        parts |= {name.split(".")[1] for name in names if name.startswith("casa.")}
    return parts


SOURCES = sorted(PACKAGE.rglob("*.py"))


def test_the_package_was_found():
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_knows_more_than_they_may(path: Path):
    part = part_of(path)
    if part in FREE:
        return
    assert part in ALLOWED, f"casa/{part} is not in docs/architecture.md's rules"
    assert casa_imports(path) - {part} <= ALLOWED[part]


@pytest.mark.parametrize("module", ["casa", "casa.cli.main"])
def test_importing_is_cheap(module: str):
    heavy = ["numpy", "cv2", "torch", "PySide6", "matplotlib", "av", "h5py", "pydantic", "openvino"]
    heavy += ["ultralytics", "numba", "ray", "pyarrow", "fsspec"]
    code = f"import sys, {module}; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_no_module_is_past_500_lines():
    long = {str(p.relative_to(ROOT)): n for p in SOURCES if (n := len(p.read_text().splitlines())) > 500}
    assert not long
