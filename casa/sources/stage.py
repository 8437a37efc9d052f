"""The simulated stage and focus drive, which take time to move and do not quite stop where they are told."""

from __future__ import annotations

import threading
import time

import numpy as np

from casa.config import MicroscopeConfig


class SimulatedStage:
    """A stage with backlash, scatter and drift; ``shift_px`` is what the camera sees of it.

    Backlash: of the gap between drive and table, the table stays at the side from which it is pushed.
    """

    def __init__(self, config: MicroscopeConfig, um_per_px: float, seed: int) -> None:
        self._config = config
        matrix = config.stage_um_to_px
        self.um_to_px = np.eye(2) / um_per_px if matrix is None else np.array(matrix, float)
        self._rng = np.random.default_rng((seed, 0x57A6E))
        self._lock = threading.Lock()
        self._told = self._from = self._to = np.zeros(2)
        self._began_s = self._arrives_s = self._created_s = time.monotonic()

    def position(self) -> tuple[float, float]:
        """Where the drive was told to go, um."""
        with self._lock:
            return float(self._told[0]), float(self._told[1])

    def move_to(self, x_um: float, y_um: float) -> None:
        """Go there, and wait until it stands still."""
        with self._lock:
            told = np.array([x_um, y_um], float)
            here = self._table_um(time.monotonic())
            gap = np.array(self._config.backlash_um) / 2
            to = np.clip(here, told - gap, told + gap) + self._rng.normal(0, 1, 2) * self._config.stage_noise_um
            self._told, self._from, self._to = told, here, to
            self._began_s = time.monotonic()
            self._arrives_s = self._began_s + float(np.linalg.norm(to - here)) / self._config.stage_speed_um_s
            wait_s = self._arrives_s - self._began_s
        time.sleep(wait_s)

    def table_um(self) -> tuple[float, float]:
        """Where the table truly is, um; for tests of what measures it."""
        with self._lock:
            x, y = self._table_um(time.monotonic())
        return float(x), float(y)

    def shift_px(self) -> tuple[float, float]:
        """How far the picture is shifted now, px."""
        with self._lock:
            now = time.monotonic()
            drift = np.array(self._config.stage_drift_um_s) * (now - self._created_s)
            x, y = self.um_to_px @ (self._table_um(now) + drift)
        return float(x), float(y)

    def _table_um(self, now_s: float) -> np.ndarray:
        if now_s >= self._arrives_s:
            return self._to
        part = (now_s - self._began_s) / (self._arrives_s - self._began_s)
        return self._from + part * (self._to - self._from)


class SimulatedFocus:
    """A focus drive that goes where it is told, at the stage's speed."""

    def __init__(self, config: MicroscopeConfig) -> None:
        self._config = config
        self._z_um = config.start_focus_um

    def position(self) -> float:
        """Where the drive is, um."""
        return self._z_um

    def move_to(self, z_um: float) -> None:
        """Go there, and wait until it stands still."""
        time.sleep(abs(z_um - self._z_um) / self._config.stage_speed_um_s)
        self._z_um = float(z_um)

    def over_sample_um(self) -> float:
        """How far the focal plane is from the sample, um."""
        return self._z_um - self._config.focus_um
