"""How long things take, kept in fixed memory whatever the length of the session."""

from __future__ import annotations

import math

import numpy as np

_BINS_PER_DECADE = 50
_LOWEST_NS = 1_000
_DECADES = 9  # 1 us .. 1000 s


class LatencyHistogram:
    """Durations in logarithmic bins of 4.7 %, from 1 us to 1000 s; percentiles are right to within a bin."""

    def __init__(self) -> None:
        self._counts = [0] * (_BINS_PER_DECADE * _DECADES + 1)
        self.total_ns = 0
        self.n = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration, in ns; what is outside of the range goes to its first or last bin."""
        ratio = max(duration_ns, _LOWEST_NS) / _LOWEST_NS
        bin_index = min(int(math.log10(ratio) * _BINS_PER_DECADE), len(self._counts) - 1)
        self._counts[bin_index] += 1
        self.total_ns += duration_ns
        self.n += 1

    def percentile_ms(self, percent: float) -> float | None:
        """The duration that ``percent`` of all stay below, in ms (a bin's geometric middle); None without any."""
        if self.n == 0:
            return None
        bin_index = int(np.searchsorted(np.cumsum(self._counts), np.ceil(self.n * percent / 100)))
        return float(_LOWEST_NS * 10 ** ((bin_index + 0.5) / _BINS_PER_DECADE) / 1e6)

    @property
    def mean_ms(self) -> float | None:
        """The mean duration in ms; None without any."""
        return self.total_ns / self.n / 1e6 if self.n else None
