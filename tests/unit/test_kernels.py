"""Compiled inner loops: cached on disk where possible, working where not, and compiled before the first frame."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

from casa import kernels

MODULE = """
    from casa.kernels import kernel

    @kernel
    def total(x):
        s = 0.0
        for value in x:
            s += value / 0.0
        return s
"""
CALL = "import loops, numpy; print(loops.total(numpy.ones(3)), sum(loops.total.stats.cache_hits.values()))"


def call(folder: Path, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CALL], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.getcwd()])} | environment,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


def test_machine_code_is_kept_and_found_again(tmp_path: Path):
    (tmp_path / "loops.py").write_text(textwrap.dedent(MODULE))
    assert call(tmp_path) == ["inf", "0"]
    assert call(tmp_path) == ["inf", "1"]


def test_it_runs_where_nothing_can_be_written(tmp_path: Path):
    (tmp_path / "loops.py").write_text(textwrap.dedent(MODULE))
    # numba is told to use none but a locator that finds no place: what a read-only machine comes to, also as root
    blocked = {"NUMBA_CACHE_LOCATOR_CLASSES": "IPythonCacheLocator"}
    assert call(tmp_path, **blocked) == ["inf", "0"]
    assert call(tmp_path, **blocked) == ["inf", "0"]


def test_warming_up_says_so_only_when_it_takes_long(monkeypatch, capsys):
    monkeypatch.setattr(kernels, "_QUIET_S", 0.01)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    kernels.warm_up(lambda: None)
    assert capsys.readouterr().err == ""
    kernels.warm_up(lambda: __import__("time").sleep(0.3))
    assert capsys.readouterr().err == "compiling inner loops (first time only)\n"


def test_a_kernel_gives_what_the_function_gives():
    @kernels.kernel
    def double(x):
        out = np.empty_like(x)
        for i in range(len(x)):
            out[i] = 2 * x[i]
        return out

    assert double(np.arange(4)).tolist() == [0, 2, 4, 6]


_A_SESSION = """
import sys
import numpy as np
from casa.config import Config
from casa.kinematics import KinematicsStage
from casa.track.stage import TrackStage
from casa.types import Calibration, Detections

def compiled():
    return {
        (name, kernel.__name__, str(signature))
        for name, module in list(sys.modules.items()) if name.startswith("casa.")
        for kernel in vars(module).values() if hasattr(kernel, "nopython_signatures") and kernel.__module__ == name
        for signature in kernel.nopython_signatures
    }

config, size = Config(), (640, 480)
scale = Calibration("test", 0.4, 0.4, width_px=640, height_px=480, chamber_depth_um=20.0)
track, kinematics = TrackStage(config.track, size), KinematicsStage(config.kinematics, scale, size)
for stage in (track, kinematics):
    stage.open()
before, rng = compiled(), np.random.default_rng(0)
start, speed = rng.uniform(40, 440, (12, 2)), rng.uniform(-60, 60, (12, 2))
for k in range(160):
    seen = rng.random(12) > 0.1
    seen[6:] &= k < 60  # six end
    xy = (start + speed * k / 50 + rng.normal(0, 0.3, (12, 2)))[seen]
    boxes = np.concatenate([xy - 10, xy + 10], axis=1).astype(np.float32)
    n = len(boxes)
    found = Detections(k, k * 20_000_000, boxes, np.full(n, 0.9, np.float32), np.zeros(n, np.int64))
    for tracks in track.process(found):
        kinematics.process(tracks)
for name, kernel, signature in sorted(compiled() - before):
    print(name, kernel, signature[:300])
assert before, "no kernel was found"
"""


def test_nothing_is_compiled_once_frames_come():
    """A kernel that meets another type than the one it was warmed up with stops a live session for half a second."""
    done = subprocess.run([sys.executable, "-c", _A_SESSION], capture_output=True, text=True, check=True)
    assert done.stdout == ""
