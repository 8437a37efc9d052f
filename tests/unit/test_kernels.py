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
