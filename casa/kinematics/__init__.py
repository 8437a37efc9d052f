"""How sperm move: velocities, head displacement, beat, motility grades, concentration (docs/kinematics.md)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from casa.kinematics.accumulator import KinematicsAccumulator
    from casa.kinematics.stage import KinematicsStage
    from casa.kinematics.table import analyse_tracks

__all__ = ["KinematicsAccumulator", "KinematicsStage", "analyse_tracks"]

_FROM = {"KinematicsAccumulator": "accumulator", "KinematicsStage": "stage", "analyse_tracks": "table"}


def __getattr__(name: str) -> Any:
    """What measures is loaded when it is asked for: its compiler is not needed to read what was measured."""
    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
