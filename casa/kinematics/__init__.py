"""How sperm move: velocities, head displacement, beat, motility grades, concentration (docs/kinematics.md)."""

from casa.kinematics.accumulator import KinematicsAccumulator
from casa.kinematics.stage import KinematicsStage
from casa.kinematics.table import analyse_tracks

__all__ = ["KinematicsAccumulator", "KinematicsStage", "analyse_tracks"]
