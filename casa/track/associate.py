"""Which detection belongs to which track: gated candidate pairs, and the best assignment among them.

Only pairs within reach of each other are ever looked at, so that thousands of detections in a frame cost
thousands of pairs and not millions. This module knows nothing of filters: it takes positions, reaches and costs.
"""

from __future__ import annotations

import lap
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from casa.types import FloatArray, IntArray

#: Up to this many rows and columns together one dense problem is quicker than looking for its parts.
_DENSE_LIMIT = 48
#: Above this many rows and columns together a connected part is solved sparsely.
_SPARSE_LIMIT = 400
_NONE = np.empty(0, np.int64)


def pairs_in_reach(track_xy: FloatArray, reach_px: FloatArray, detection_xy: FloatArray) -> tuple[IntArray, IntArray]:
    """Pairs of tracks and detections no further apart along x, nor along y, than the track's reach.

    Detections are sorted by row of a grid as high as the longest reach and by x within it, so that each track
    finds its own in three runs.

    Parameters
    ----------
    track_xy : (2, n) px. reach_px : (n,). detection_xy : (2, m) px. All finite.

    Returns
    -------
    (p,), (p,) : track and detection numbers, in order of tracks.
    """
    n, m = track_xy.shape[1], detection_xy.shape[1]
    if n == 0 or m == 0:
        return _NONE, _NONE
    x, y = detection_xy
    height = max(float(reach_px.max()), 1e-6)
    row = np.floor(y / height)
    left = min(float(x.min()), float((track_xy[0] - reach_px).min()))
    width = max(float(x.max()), float((track_xy[0] + reach_px).max())) - left + 1.0
    key = row * width + (x - left)
    order = np.argsort(key)
    key = key[order]
    rows = (np.floor(track_xy[1] / height) + np.array([[-1.0], [0.0], [1.0]])) * width
    offset = track_xy[0] - left
    first = np.searchsorted(key, rows + (offset - reach_px)).ravel()
    last = np.searchsorted(key, rows + (offset + reach_px), side="right").ravel()
    count = last - first
    total = int(count.sum())
    if total == 0:
        return _NONE, _NONE
    track = np.repeat(np.tile(np.arange(n), 3), count)
    detection = order[np.arange(total) + np.repeat(first - (np.cumsum(count) - count), count)]
    close = np.abs(y[detection] - track_xy[1, track]) <= reach_px[track]
    track, detection = track[close], detection[close]
    by_track = np.lexsort((detection, track))
    return track[by_track], detection[by_track]


def _solve_dense(track: IntArray, detection: IntArray, cost: FloatArray, limit: float) -> tuple[IntArray, IntArray]:
    tracks, row = np.unique(track, return_inverse=True)
    detections, column = np.unique(detection, return_inverse=True)
    lowest = min(float(cost.min()), limit)
    matrix = np.full((len(tracks), len(detections)), 4.0 * (limit - lowest) + 1.0)
    matrix[row, column] = cost - lowest
    _, column_of, _ = lap.lapjv(matrix, extend_cost=True, cost_limit=limit - lowest)
    matched = column_of >= 0
    return tracks[matched], detections[column_of[matched]]


def _solve_sparse(track: IntArray, detection: IntArray, cost: FloatArray, limit: float) -> tuple[IntArray, IntArray]:
    """The same optimum with ``lap.lapmod``: every row and column gets a partner of its own to stay alone with."""
    tracks, row = np.unique(track, return_inverse=True)
    detections, column = np.unique(detection, return_inverse=True)
    n, m = len(tracks), len(detections)
    lowest = min(float(cost.min()), limit)
    alone = (limit - lowest) / 2
    rows = np.concatenate([row, np.arange(n), n + np.arange(m), n + column])
    columns = np.concatenate([column, m + np.arange(n), np.arange(m), m + row])
    costs = np.concatenate([cost - lowest, np.full(n + m, alone), np.zeros(len(row))])
    by_row = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[by_row], np.arange(n + m + 1))
    _, column_of, _ = lap.lapmod(n + m, costs[by_row], starts, columns[by_row])
    column_of = column_of[:n]
    matched = column_of < m
    return tracks[matched], detections[column_of[matched]]


def assign(track: IntArray, detection: IntArray, cost: FloatArray, limit: float) -> tuple[IntArray, IntArray, IntArray]:
    """The one-to-one choice among candidate pairs with the lowest sum of ``cost - limit``.

    Parameters
    ----------
    track, detection : (p,) the pairs, each once. cost : (p,). limit : a pair that costs more is never chosen.

    Returns
    -------
    (k,), (k,), (k,) : tracks, detections, and which of the pairs each is, in order of tracks.
    """
    allowed = np.flatnonzero(cost <= limit)
    if len(allowed) == 0:
        return _NONE, _NONE, _NONE
    t, d = track[allowed], detection[allowed]
    alone = (np.bincount(t)[t] == 1) & (np.bincount(d)[d] == 1)
    if alone.all():
        return t, d, allowed
    rest = np.flatnonzero(~alone)
    chosen_t, chosen_d = [t[alone]], [d[alone]]
    for part in _parts(t[rest], d[rest]):
        rows = rest[part]
        size = len(np.unique(t[rows])) + len(np.unique(d[rows]))
        solve = _solve_dense if size <= _SPARSE_LIMIT else _solve_sparse
        part_t, part_d = solve(t[rows], d[rows], cost[allowed[rows]], limit)
        chosen_t.append(part_t)
        chosen_d.append(part_d)
    found_t, found_d = np.concatenate(chosen_t), np.concatenate(chosen_d)
    order = np.argsort(found_t)
    found_t, found_d = found_t[order], found_d[order]
    # pairs are unique, so a combined key finds each chosen pair again
    stride = int(d.max()) + 1
    key = t * stride + d
    by_key = np.argsort(key)
    pair = allowed[by_key[np.searchsorted(key[by_key], found_t * stride + found_d)]]
    return found_t, found_d, pair


def _parts(track: IntArray, detection: IntArray) -> list[IntArray]:
    """Pair numbers grouped into problems that share no track and no detection (small ones stay together)."""
    tracks, row = np.unique(track, return_inverse=True)
    detections, column = np.unique(detection, return_inverse=True)
    n, m = len(tracks), len(detections)
    if n + m <= _DENSE_LIMIT:
        return [np.arange(len(track))]
    graph = coo_matrix((np.ones(len(row), np.int8), (row, n + column)), shape=(n + m, n + m))
    _, label = connected_components(graph, directed=False)
    of_pair = label[row]
    order = np.argsort(of_pair, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(of_pair[order])) + 1)
