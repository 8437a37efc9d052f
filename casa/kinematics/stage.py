"""Kinematics as a stage of the graph: Tracks in, rows of ended tracks out."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from casa.config import KinematicsConfig
from casa.kernels import warm_up
from casa.kinematics.accumulator import KinematicsAccumulator
from casa.kinematics.order import medians_of_seven
from casa.types import Calibration, KinematicsTable, Summary, Tracks


class KinematicsStage:
    """Measures tracks as they end; ``summary`` gives the figures of the field at any time."""

    def __init__(
        self,
        config: KinematicsConfig | None = None,
        calibration: Calibration | None = None,
        frame_size_px: tuple[int, int] | None = None,
    ) -> None:
        self._make = lambda: KinematicsAccumulator(config, calibration, frame_size_px)
        self._accumulator = self._make()

    def open(self) -> None:
        """Begin with an empty field, and compile what runs on every frame."""
        warm_up(lambda: self._make().add(_one_track()), lambda: medians_of_seven(np.zeros((1, 2))))
        self._accumulator = self._make()

    def process(self, item: Tracks) -> Iterable[KinematicsTable]:
        """Take the tracks of one frame; gives the rows that have become ready, if any."""
        rows = self._accumulator.add(item)
        return [rows] if len(rows) else []

    def flush(self) -> Iterable[KinematicsTable]:
        """The rows of the tracks still in view."""
        rows = self._accumulator.finish()
        return [rows] if len(rows) else []

    def close(self) -> None:
        """Nothing to release."""

    def summary(self) -> Summary:
        """The figures of the field so far."""
        return self._accumulator.summary()


def _one_track() -> Tracks:
    """A frame to warm up with."""
    one, two = np.zeros(1), np.zeros((1, 2))
    return Tracks(0, 0, np.ones(1), np.ones((1, 4)), two, one, one, two, np.empty(0))  # type: ignore[arg-type]
