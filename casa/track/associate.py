"""Which detection belongs to which track: candidate pairs within reach, and the best assignment among them.

Only pairs within reach of each other are ever costed, so that thousands of detections in a frame make
thousands of pairs and not millions. This module knows nothing of filters: it takes positions, reaches and costs.
"""

from __future__ import annotations

from collections.abc import Iterator

import lap
import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from casa.types import FloatArray, IntArray

#: Up to this many tracks and detections together one dense problem is quicker than looking for its parts.
_DENSE_LIMIT = 100
#: Above this many tracks and detections together a connected part is solved sparsely.
_SPARSE_LIMIT = 400
#: Detections that a track may choose from in a sparsely solved part.
_CHOICES = 4
_NONE = np.empty(0, np.int64)


def pairs_in_reach(track_xy: FloatArray, reach_px: FloatArray, detection_xy: FloatArray) -> tuple[IntArray, IntArray]:
    """Pairs of tracks and detections no further apart along x, nor along y, than the track's reach.

    Detections are sorted by x, so that each track compares with those in its own strip alone.

    Parameters
    ----------
    track_xy : (2, n) px. reach_px : (n,). detection_xy : (2, m) px. All finite.

    Returns
    -------
    (p,), (p,) : track and detection numbers, in order of tracks.
    """
    if track_xy.shape[1] == 0 or detection_xy.shape[1] == 0:
        return _NONE, _NONE
    x, y = detection_xy
    order = x.argsort(kind="stable")
    sorted_x = x[order]
    first = sorted_x.searchsorted(track_xy[0] - reach_px)
    count = sorted_x.searchsorted(track_xy[0] + reach_px, side="right") - first
    track = np.arange(len(count)).repeat(count)
    detection = order[np.arange(len(track)) + (first - (count.cumsum() - count)).repeat(count)]
    near = np.flatnonzero(np.abs(y[detection] - track_xy[1, track]) <= reach_px[track])
    return track[near], detection[near]


def _compact(numbers: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct numbers, ascending, and for each number its place among them."""
    present = np.zeros(int(numbers.max()) + 1, bool)
    present[numbers] = True
    distinct = np.flatnonzero(present)
    place = np.empty(len(present), np.int64)
    place[distinct] = np.arange(len(distinct))
    return distinct, place[numbers]


def _solve_dense(track: IntArray, detection: IntArray, cost: FloatArray, limit: float) -> tuple[IntArray, IntArray]:
    tracks, row = _compact(track)
    detections, column = _compact(detection)
    lowest = min(float(cost.min()), limit)
    matrix = np.full((len(tracks), len(detections)), 4.0 * (limit - lowest) + 1.0)
    matrix[row, column] = cost - lowest
    column_of = np.asarray(lap.lapjv(matrix, extend_cost=True, cost_limit=limit - lowest)[1])
    matched = column_of >= 0
    return tracks[matched], detections[column_of[matched]]


def _solve_sparse(track: IntArray, detection: IntArray, cost: FloatArray, limit: float) -> tuple[IntArray, IntArray]:
    """The same optimum by ``lap.lapmod``: every row and column gets a partner of its own to stay alone with."""
    tracks, row = _compact(track)
    detections, column = _compact(detection)
    n, m = len(tracks), len(detections)
    lowest = min(float(cost.min()), limit)
    alone = (limit - lowest) / 2
    rows = np.concatenate([row, np.arange(n), n + np.arange(m), n + column])
    columns = np.concatenate([column, m + np.arange(n), np.arange(m), m + row])
    costs = np.concatenate([cost - lowest, np.full(n + m, alone), np.zeros(len(row))])
    by_row = np.lexsort((columns, rows))
    starts = np.searchsorted(rows[by_row], np.arange(n + m + 1))
    column_of = np.asarray(lap.lapmod(n + m, costs[by_row], starts, columns[by_row])[1])[:n]
    matched = column_of < m
    return tracks[matched], detections[column_of[matched]]


def assign(track: IntArray, detection: IntArray, cost: FloatArray, limit: float) -> tuple[IntArray, IntArray]:
    """The one-to-one choice among candidate pairs that has the lowest sum of ``cost - limit``.

    Parameters
    ----------
    track, detection : (p,) the pairs, each once. cost : (p,). limit : a pair that costs more is never chosen.

    Returns
    -------
    (k,), (k,) : the chosen tracks and their detections.
    """
    allowed = cost <= limit
    if not allowed.all():
        track, detection, cost = track[allowed], detection[allowed], cost[allowed]
    if len(track) == 0:
        return _NONE, _NONE
    alone = (np.bincount(track)[track] == 1) & (np.bincount(detection)[detection] == 1)
    if alone.all():
        return track, detection
    rest = np.flatnonzero(~alone)
    chosen = [(track[alone], detection[alone])]
    for part in _parts(track[rest], detection[rest]):
        pairs = rest[part]
        if _is_small(track[pairs], detection[pairs]):
            chosen.append(_solve_dense(track[pairs], detection[pairs], cost[pairs], limit))
        else:
            pairs = pairs[_cheapest(track[pairs], cost[pairs])]
            chosen.append(_solve_sparse(track[pairs], detection[pairs], cost[pairs], limit))
    return np.concatenate([t for t, _ in chosen]), np.concatenate([d for _, d in chosen])


def _is_small(track: IntArray, detection: IntArray) -> bool:
    """Whether the tracks and detections of a part are few enough for a dense problem."""
    return 2 * len(track) <= _SPARSE_LIMIT or len(_compact(track)[0]) + len(_compact(detection)[0]) <= _SPARSE_LIMIT


def _cheapest(track: IntArray, cost: FloatArray) -> IntArray:
    """The few cheapest pairs of each track: where hundreds of heads are all within reach, the rest never matters."""
    order = np.lexsort((cost, track))
    ordered = track[order]
    rank = np.arange(len(track)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < _CHOICES])


def _parts(track: IntArray, detection: IntArray) -> Iterator[IntArray]:
    """Pair numbers grouped into problems that share no track and no detection (few pairs stay together)."""
    if len(track) < _DENSE_LIMIT:
        yield np.arange(len(track))
        return
    tracks, row = _compact(track)
    detections, column = _compact(detection)
    n, m = len(tracks), len(detections)
    if n + m <= _DENSE_LIMIT:
        yield np.arange(len(track))
        return
    graph = coo_matrix((np.ones(len(row), np.int8), (row, n + column)), shape=(n + m, n + m))
    _, label = connected_components(graph, directed=False)
    # small parts are solved together, since each solution costs more than the matrix
    part_end = np.cumsum(np.bincount(label))
    of_pair = (part_end // _DENSE_LIMIT)[label[row]]
    order = np.argsort(of_pair, kind="stable")
    yield from np.split(order, np.flatnonzero(np.diff(of_pair[order])) + 1)
