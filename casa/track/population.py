"""What is known of every track beside its filter: one record a track."""

from __future__ import annotations

from typing import Any

import numpy as np

from casa.config import TrackConfig
from casa.kernels import kernel

Records = np.ndarray[Any, Any]

#: track_id: 0 while tentative. match: detection of the current frame, -1 where missed. hits: detections so far;
#: confidence_sum: of them. born_ns, hit_ns: time of the first and the last one. log_w, log_h: filtered log width and
#: height, px; size_variance: of either. miss_rate: recent share of missed time. predicted_sd_px: of the predicted
#: centre, per axis. last_x, last_y: where it was last measured, px. outside: the predicted centre
#: is outside the field.
TRACK = np.dtype(
    [
        ("track_id", np.int64),
        ("match", np.int64),
        ("hits", np.int64),
        ("confidence_sum", np.float64),
        ("born_ns", np.int64),
        ("hit_ns", np.int64),
        ("log_w", np.float64),
        ("log_h", np.float64),
        ("size_variance", np.float64),
        ("miss_rate", np.float64),
        ("predicted_sd_px", np.float64),
        ("last_x", np.float64),
        ("last_y", np.float64),
        ("outside", np.bool_),
    ],
    align=True,
)

_NUMBERS = [name for name, field in TrackConfig.model_fields.items() if isinstance(field.default, int | float)]
#: The numbers of a `TrackConfig`, as the kernels read them.
SETTINGS = np.dtype([(name, np.float64) for name in _NUMBERS])


def settings_of(config: TrackConfig) -> Records:
    """(1,) of `SETTINGS`."""
    return np.array([tuple(getattr(config, name) for name in _NUMBERS)], SETTINGS)


def with_room(array: Records, rows: int) -> Records:
    """The array itself, or, where it has fewer than so many rows, one with at least twice its own."""
    if len(array) >= rows:
        return array
    larger = np.zeros((max(rows, 2 * len(array)), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


@kernel
def begin(tracks, first, rows, xy, log_size, confidence, t_ns, settings):
    """Write tentative tracks from ``tracks[first]`` on, each started by one of the detections ``rows``."""
    c = settings[0]
    for k in range(len(rows)):
        t, row = tracks[first + k], rows[k]
        t.track_id, t.match, t.hits, t.confidence_sum = 0, row, 1, confidence[row]
        t.born_ns = t.hit_ns = t_ns
        t.log_w, t.log_h, t.size_variance = log_size[row, 0], log_size[row, 1], c.size_noise**2
        t.miss_rate, t.predicted_sd_px, t.outside = c.new_track_miss_rate, 0.0, False
        t.last_x, t.last_y = xy[row, 0], xy[row, 1]
