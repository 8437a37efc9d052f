"""What it costs to take a detection for a track's: the detections worth a look, and the gated pairs.

Only pairs within reach of each other are ever costed, so that thousands of detections in a frame make
thousands of pairs and not millions.
"""

from __future__ import annotations

import numpy as np

from casa.kernels import kernel


@kernel
def usable_detections(xyxy, confidence, class_id, classes, low_confidence, field):
    """The boxes of tracked classes, and how many detections were none.

    Parameters
    ----------
    xyxy : (n, 4) float32. confidence : (n,) float32. class_id : (n,) int64. classes : (c,) int64.
    field : (4,) left, top, right, bottom of the field, px; infinite where unknown.

    Returns
    -------
    (m, 2) centres, (m, 2) log width and height, (m,) confidence, float64; how many of the n were no boxes (not
    finite, or without area); how many had their centre outside the field.
    """
    n = len(confidence)
    xy, log_size, kept = np.empty((n, 2)), np.empty((n, 2)), np.empty(n)
    m = bad = outside = 0
    for k in range(n):
        left, top = np.float64(xyxy[k, 0]), np.float64(xyxy[k, 1])
        right, bottom = np.float64(xyxy[k, 2]), np.float64(xyxy[k, 3])
        w, h, x, y = right - left, bottom - top, (left + right) / 2, (top + bottom) / 2
        if not (w > 0 and h > 0 and np.isfinite(w + h + x + y) and np.isfinite(confidence[k])):
            bad += 1
            continue
        if x < field[0] or y < field[1] or x > field[2] or y > field[3]:
            outside += 1
            continue
        tracked = False
        for wanted in classes:
            tracked |= class_id[k] == wanted
        if tracked and confidence[k] >= low_confidence:
            xy[m, 0], xy[m, 1] = x, y
            log_size[m, 0], log_size[m, 1] = np.log(w), np.log(h)
            kept[m] = confidence[k]
            m += 1
    return xy[:m], log_size[:m], kept[:m], bad, outside


@kernel
def _overlap(x, y, log_w, log_h, other_x, other_y, other_log_w, other_log_h):
    """Intersection over union of two boxes."""
    w, h, other_w, other_h = np.exp(log_w), np.exp(log_h), np.exp(other_log_w), np.exp(other_log_h)
    common_w = min(x + w / 2, other_x + other_w / 2) - max(x - w / 2, other_x - other_w / 2)
    common_h = min(y + h / 2, other_y + other_h / 2) - max(y - h / 2, other_y - other_h / 2)
    common = max(common_w, 0.0) * max(common_h, 0.0)
    return common / (w * h + other_w * other_h - common)


@kernel
def _astray(ahead_x, ahead_y, found_x, found_y, variance):
    """How far off its way a track would have gone: 1 - cos of the angle between the way foreseen and the way found.

    Both are counted from where it was last seen. The shorter the way against its ``variance``, the less it says.
    """
    ahead2, found2 = ahead_x * ahead_x + ahead_y * ahead_y, found_x * found_x + found_y * found_y
    if found2 == 0.0 or ahead2 == 0.0:
        return 0.0
    cosine = (ahead_x * found_x + ahead_y * found_y) / np.sqrt(ahead2 * found2)
    return (1.0 - cosine) * ahead2 / (ahead2 + variance)


@kernel
def _grown(array):
    """The array with twice the room."""
    larger = np.empty(2 * len(array), array.dtype)
    for k in range(len(array)):
        larger[k] = array[k]
    return larger


@kernel
def pair_costs(tracks, mean, covariance, xy, log_size, confidence, by_x, settings):
    """Gated pairs of tracks and detections, and what each would cost.

    cost = (nu + 2) ln(1 + d²/nu) + spread_weight ln(det S / R²) + size_weight s² + iou_weight (1 - IoU)
           + heading_weight astray + miss_weight miss_rate - confidence_weight ln(confidence)

    d is the Mahalanobis distance to the predicted centre under S = predicted covariance + R; the first two
    terms are -2 times the log-density of Student's t with nu = ``cost_tail`` degrees of freedom (Lange, Little
    & Taylor 1989), whose tail forgives the turn that no model foresaw. s is the size mismatch over its sd.

    Parameters
    ----------
    tracks : (n,) of `TRACK`. mean : (n, 2), covariance : (n, 3) of the predicted centres. xy : (m, 2),
    log_size : (m, 2), confidence : (m,) of the detections. by_x : (m,) the detections from left to right, so that a
    track is compared with those in its own strip alone. settings : (1,) of `SETTINGS`.

    Returns
    -------
    (p,) tracks, (p,) detections, (p,) costs, in order of tracks.
    """
    c = settings[0]
    r = c.measurement_sd_px**2
    sorted_x = np.empty(len(by_x))
    for k in range(len(by_x)):
        sorted_x[k] = xy[by_x[k], 0]
    track, detection = np.empty(64 + 4 * len(tracks), np.int64), np.empty(64 + 4 * len(tracks), np.int64)
    cost = np.empty(len(track))
    n = 0
    for k in range(len(tracks)):
        xx, s_xy, yy = covariance[k, 0] + r, covariance[k, 1], covariance[k, 2] + r
        det = xx * yy - s_xy * s_xy
        reach = min(np.sqrt(c.gate_d2 * max(xx, yy)), c.max_reach_px)
        of_track = c.spread_weight * np.log(det / r**2) + c.miss_weight * tracks[k].miss_rate
        size_scale = c.size_weight / (2 * c.size_noise**2 + tracks[k].size_variance)
        place = np.searchsorted(sorted_x, mean[k, 0] - reach)
        while place < len(by_x) and sorted_x[place] <= mean[k, 0] + reach:
            j = by_x[place]
            place += 1
            dx, dy = xy[j, 0] - mean[k, 0], xy[j, 1] - mean[k, 1]
            if abs(dy) > reach:
                continue
            d2 = (yy * dx * dx - 2 * s_xy * dx * dy + xx * dy * dy) / det
            if d2 > c.gate_d2:
                continue
            total = (c.cost_tail + 2) * np.log1p(d2 / c.cost_tail) + of_track
            total -= c.confidence_weight * np.log(max(confidence[j], 1e-3))
            dw, dh = log_size[j, 0] - tracks[k].log_w, log_size[j, 1] - tracks[k].log_h
            total += size_scale * (dw * dw + dh * dh)
            if c.iou_weight > 0:
                iou = _overlap(
                    mean[k, 0], mean[k, 1], tracks[k].log_w, tracks[k].log_h,
                    xy[j, 0], xy[j, 1], log_size[j, 0], log_size[j, 1],
                )  # fmt: skip
                total += c.iou_weight * (1.0 - iou)
            if c.heading_weight > 0:
                x, y = tracks[k].last_x, tracks[k].last_y
                astray = _astray(mean[k, 0] - x, mean[k, 1] - y, xy[j, 0] - x, xy[j, 1] - y, xx + yy)
                total += c.heading_weight * astray
            if n == len(track):
                track, detection, cost = _grown(track), _grown(detection), _grown(cost)
            track[n], detection[n], cost[n] = k, j, total
            n += 1
    return track[:n], detection[:n], cost[:n]
