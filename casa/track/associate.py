"""Which detection belongs to which track: the best assignment among pairs that have a cost.

This module knows nothing of filters: it takes pairs and costs.
"""

from __future__ import annotations

import lap
import numpy as np

from casa.kernels import kernel
from casa.types import FloatArray, IntArray

#: Parts of the problem are solved together up to this many tracks and detections: each solution costs more than that.
_TOGETHER = 100
#: A part with more tracks and detections than this is solved sparsely.
_SPARSE_LIMIT = 400
#: Detections that a track may choose from in a sparsely solved part.
_CHOICES = 4
_NONE = np.empty(0, np.int64)


@kernel
def _root(parent, k):
    """The smallest member of the part that ``k`` belongs to, in a forest of parts (union-find)."""
    while parent[k] != k:
        parent[k] = parent[parent[k]]
        k = parent[k]
    return k


@kernel
def _parts(track, detection, cost, limit, n_tracks, n_detections):
    """Sort out what needs a solver.

    Returns
    -------
    (a,) allowed pairs whose track and detection have no other; (b,) the other allowed pairs, ordered by problem, those
    of one problem in order; (q + 1,) where each of the q problems starts in them. Problems share no track and no
    detection.
    """
    of_track, of_detection = np.zeros(n_tracks, np.int64), np.zeros(n_detections, np.int64)
    parent = np.arange(n_tracks + n_detections)
    for k in range(len(cost)):
        if cost[k] <= limit:
            of_track[track[k]] += 1
            of_detection[detection[k]] += 1
            a, b = _root(parent, track[k]), _root(parent, n_tracks + detection[k])
            parent[max(a, b)] = min(a, b)
    alone, rest = np.empty(len(cost), np.int64), np.empty(len(cost), np.int64)
    n_alone = n_rest = 0
    for k in range(len(cost)):
        if cost[k] <= limit:
            if of_track[track[k]] == 1 and of_detection[detection[k]] == 1:
                alone[n_alone] = k
                n_alone += 1
            else:
                rest[n_rest] = k
                n_rest += 1
    # nodes of each part that needs solving; parts in order of their smallest member, small ones together
    size = np.zeros(n_tracks + n_detections, np.int64)
    for k in range(n_tracks + n_detections):
        size[_root(parent, k)] += 1
    problem = np.empty(len(size), np.int64)
    together, n_problems = 0, 0
    for k in range(len(size)):
        if size[k] > 2:
            if together > 0 and together + size[k] > _TOGETHER:
                n_problems += 1
                together = 0
            together += size[k]
            problem[k] = n_problems
    n_problems += together > 0
    starts = np.zeros(n_problems + 1, np.int64)
    for k in rest[:n_rest]:
        starts[problem[_root(parent, track[k])] + 1] += 1
    filled = np.zeros(n_problems + 1, np.int64)
    for k in range(n_problems):
        starts[k + 1] += starts[k]
        filled[k + 1] = starts[k + 1]
    ordered = np.empty(n_rest, np.int64)
    for k in rest[:n_rest]:
        of = problem[_root(parent, track[k])]
        ordered[filled[of]] = k
        filled[of] += 1
    return alone[:n_alone], ordered, starts


def _solve_dense(track: IntArray, detection: IntArray, cost: FloatArray, limit: float) -> tuple[IntArray, IntArray]:
    """The optimum by ``lap.lapjv``."""
    tracks, row = np.unique(track, return_inverse=True)
    detections, column = np.unique(detection, return_inverse=True)
    lowest = min(float(cost.min()), limit)
    matrix = np.full((len(tracks), len(detections)), 4.0 * (limit - lowest) + 1.0)
    matrix[row, column] = cost - lowest
    column_of = np.asarray(lap.lapjv(matrix, extend_cost=True, cost_limit=limit - lowest)[1])
    matched = column_of >= 0
    return tracks[matched], detections[column_of[matched]]


def _solve_sparse(track: IntArray, detection: IntArray, cost: FloatArray, limit: float) -> tuple[IntArray, IntArray]:
    """The same optimum by ``lap.lapmod``: every row and column gets a partner of its own to stay alone with."""
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
    column_of = np.asarray(lap.lapmod(n + m, costs[by_row], starts, columns[by_row])[1])[:n]
    matched = column_of < m
    return tracks[matched], detections[column_of[matched]]


def _cheapest(track: IntArray, cost: FloatArray) -> IntArray:
    """The few cheapest pairs of each track: where hundreds of heads are all within reach, the rest never matters."""
    order = np.lexsort((cost, track))
    ordered = track[order]
    rank = np.arange(len(track)) - np.searchsorted(ordered, ordered)
    return np.sort(order[rank < _CHOICES])


def assign(
    track: IntArray, detection: IntArray, cost: FloatArray, limit: float, n_tracks: int, n_detections: int
) -> tuple[IntArray, IntArray]:
    """The one-to-one choice among candidate pairs that has the lowest sum of ``cost - limit``.

    Parameters
    ----------
    track, detection : (p,) the pairs, each once, below ``n_tracks`` and ``n_detections``. cost : (p,).
    limit : a pair that costs more is never chosen.

    Returns
    -------
    (k,), (k,) : the chosen tracks and their detections.
    """
    if len(track) == 0:
        return _NONE, _NONE
    alone, rest, starts = _parts(track, detection, cost, limit, n_tracks, n_detections)
    if len(rest) == 0:
        return track[alone], detection[alone]
    chosen = [(track[alone], detection[alone])]
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        pairs = rest[start:end]
        of_track, of_detection, of_cost = track[pairs], detection[pairs], cost[pairs]
        if 2 * len(pairs) <= _SPARSE_LIMIT or len(np.unique(of_track)) + len(np.unique(of_detection)) <= _SPARSE_LIMIT:
            chosen.append(_solve_dense(of_track, of_detection, of_cost, limit))
        else:
            few = _cheapest(of_track, of_cost)
            chosen.append(_solve_sparse(of_track[few], of_detection[few], of_cost[few], limit))
    return np.concatenate([t for t, _ in chosen]), np.concatenate([d for _, d in chosen])
