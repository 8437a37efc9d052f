"""What is known of every track beside its filter: one array a property, the track on the last axis."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from casa.types import FloatArray, IntArray


@dataclass
class Population:
    """The tracks alive, tentative ones too.

    Attributes
    ----------
    track_id : (n,) 0 while tentative.
    match : (n,) detection of the current frame, -1 where missed.
    hits : (n,) detections so far. confidence_sum : (n,) their confidences.
    born_ns, hit_ns : (n,) time of the first and the last detection.
    log_size : (2, n) filtered log width and height, px. size_variance : (n,) of either.
    miss_rate : (n,) recent share of missed time.
    predicted_sd_px : (n,) of the predicted centre, per axis.
    """

    track_id: IntArray
    match: IntArray
    hits: IntArray
    confidence_sum: FloatArray
    born_ns: IntArray
    hit_ns: IntArray
    log_size: FloatArray
    size_variance: FloatArray
    miss_rate: FloatArray
    predicted_sd_px: FloatArray

    def __len__(self) -> int:
        return len(self.track_id)

    @classmethod
    def empty(cls) -> Population:
        """No tracks."""
        return cls.born(np.empty(0, np.int64), np.empty(0), 0, np.empty((2, 0)), 0.0, 0.0)

    @classmethod
    def born(
        cls,
        detection: IntArray,
        confidence: FloatArray,
        t_ns: int,
        log_size: FloatArray,
        size_variance: float,
        miss_rate: float,
    ) -> Population:
        """Tentative tracks, each started by one detection at ``t_ns``."""
        k = len(detection)
        return cls(
            track_id=np.zeros(k, np.int64),
            match=detection,
            hits=np.ones(k, np.int64),
            confidence_sum=confidence,
            born_ns=np.full(k, t_ns),
            hit_ns=np.full(k, t_ns),
            log_size=log_size,
            size_variance=np.full(k, size_variance),
            miss_rate=np.full(k, miss_rate),
            predicted_sd_px=np.zeros(k),
        )

    def take(self, rows: IntArray) -> None:
        """Keep only the tracks ``rows``, in that order."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name).take(rows, axis=-1))

    def extend(self, other: Population) -> None:
        """Add the tracks of ``other`` behind these."""
        for f in fields(self):
            setattr(self, f.name, np.concatenate([getattr(self, f.name), getattr(other, f.name)], axis=-1))
