"""Whether two replicates of a sample agree (WHO 2021, sections 2.4.6 and 2.4.8)."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Cells to assess in each replicate (WHO 2021).
MIN_CELLS = 200
#: Largest difference between two replicates' percentages that sampling of 200 cells explains in 95 % of samples:
#: (highest average, limit), for averages up to 50 %; above, the same from the other end.
_LIMITS = ((0, 1), (1, 2), (2, 3), (4, 4), (7, 5), (11, 6), (16, 7), (23, 8), (34, 9), (50, 10))
_Z_95 = 1.96


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two replicates' figures; ``accepted`` where ``difference`` is at most ``limit``, in whole numbers."""

    first: float
    second: float
    limit: float

    @property
    def average(self) -> float:
        """Mean of both."""
        return (self.first + self.second) / 2

    @property
    def difference(self) -> float:
        """How far apart they are."""
        return abs(self.first - self.second)

    @property
    def accepted(self) -> bool:
        """Whether chance explains the difference."""
        return round(self.difference) <= round(self.limit)


def largest_difference_percent(average_percent: float) -> int:
    """The manual's limit for the difference of two percentages of at least 200 cells each, by their average."""
    nearest = round(min(average_percent, 100 - average_percent))
    return next(limit for highest, limit in _LIMITS if nearest <= highest)


def compare_percentages(first: float, second: float) -> Agreement:
    """Two replicates' percentages."""
    return Agreement(first, second, largest_difference_percent((first + second) / 2))


def compare_counts(first: float, second: float) -> Agreement:
    """Two replicates' counts from equal volumes: 1.96 times the square root of their sum."""
    return Agreement(first, second, _Z_95 * math.sqrt(first + second))
