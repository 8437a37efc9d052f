"""Compiled loops over pixels: cutting windows out of a frame, and finding a template in it.

Coordinates are px from the frame's top-left corner, so that pixel ``i`` covers [i, i + 1) and the middle of a window of
n pixels from ``i`` is at i + n / 2. Pictures are (h, w), contiguous, read-only, uint8 or uint16.
"""

from __future__ import annotations

import numpy as np

from casa.kernels import kernel

#: The window's background is taken from every so many pixels in both directions.
_SAMPLE_STEP = 4


@kernel
def _background(image, left, right, top, bottom):
    """Median gray level of a part of the picture."""
    rows = (bottom - top + _SAMPLE_STEP - 1) // _SAMPLE_STEP
    columns = (right - left + _SAMPLE_STEP - 1) // _SAMPLE_STEP
    if rows <= 0 or columns <= 0:
        return 0.0
    sample = np.empty(rows * columns, image.dtype)
    for r in range(rows):
        for c in range(columns):
            sample[r * columns + c] = image[top + r * _SAMPLE_STEP, left + c * _SAMPLE_STEP]
    return np.median(sample)


@kernel
def cut_window(image, left, top, gain, out):
    """Copy the window whose first pixel is (left, top) to ``out`` (s, s) uint8, each level times ``gain``.

    What lies outside of the picture becomes the median of what lies inside; so does all where nothing does (0).
    """
    height, width = image.shape
    size = out.shape[0]
    x0, x1 = min(max(left, 0), width), max(min(left + size, width), 0)
    y0, y1 = min(max(top, 0), height), max(min(top + size, height), 0)
    if x1 - x0 < size or y1 - y0 < size:
        out[:] = np.uint8(min(_background(image, x0, x1, y0, y1) * gain + 0.5, 255.0))
    if x1 <= x0:
        return
    factor = np.float32(gain)
    for y in range(y0, y1):
        source, target = image[y, x0:x1], out[y - top, x0 - left : x1 - left]
        if gain == 1.0:
            for x in range(len(source)):
                target[x] = source[x]
        else:
            for x in range(len(source)):
                target[x] = np.uint8(min(np.float32(source[x]) * factor + np.float32(0.5), np.float32(255.0)))


@kernel
def _cubic(f):
    """Weights of the pixels before, at, after and after that, ``f`` in [0, 1) of a pixel on."""
    before = ((-0.5 * f + 1.0) * f - 0.5) * f
    at = (1.5 * f - 2.5) * f * f + 1.0
    after = ((-1.5 * f + 2.0) * f + 0.5) * f
    last = (0.5 * f - 0.5) * f * f
    return np.float32(before), np.float32(at), np.float32(after), np.float32(last)


@kernel
def cut_shifted(window, left, top, out):
    """Cut ``out`` (n, n) uint8 from ``window`` (s, s) uint8 where its first pixel is at (left, top), by fractions.

    Cubic convolution (Keys 1981, a = -1/2); at whole numbers the pixels are untouched. 1 <= left, top <= s - n - 2.
    """
    n = out.shape[0]
    x0, y0 = int(np.floor(left)), int(np.floor(top))
    u0, u1, u2, u3 = _cubic(left - x0)
    v0, v1, v2, v3 = _cubic(top - y0)
    row = np.empty(n + 3, np.float32)
    for y in range(n):
        above, at = window[y0 - 1 + y, x0 - 1 : x0 + n + 2], window[y0 + y, x0 - 1 : x0 + n + 2]
        below, last = window[y0 + 1 + y, x0 - 1 : x0 + n + 2], window[y0 + 2 + y, x0 - 1 : x0 + n + 2]
        for x in range(n + 3):
            row[x] = v0 * above[x] + v1 * at[x] + v2 * below[x] + v3 * last[x]
        target = out[y]
        for x in range(n):
            level = u0 * row[x] + u1 * row[x + 1] + u2 * row[x + 2] + u3 * row[x + 3] + np.float32(0.5)
            target[x] = np.uint8(min(max(level, np.float32(0.0)), np.float32(255.0)))


@kernel
def cut_template(image, left, top, size):
    """(size, size) float32 of the picture about its mean, of norm 1 (all 0 where it is flat); borders are repeated."""
    height, width = image.shape
    out = np.empty((size, size), np.float32)
    mean = 0.0
    for r in range(size):
        y = min(max(top + r, 0), height - 1)
        for c in range(size):
            out[r, c] = image[y, min(max(left + c, 0), width - 1)]
            mean += out[r, c]
    mean /= size * size
    norm = 0.0
    for r in range(size):
        for c in range(size):
            out[r, c] -= mean
            norm += out[r, c] ** 2
    out *= np.float32(1.0 / np.sqrt(norm) if norm > 0.0 else 0.0)
    return out


@kernel
def _products(patch, side, template, n):
    """Sums of template times patch at all n x n shifts, with what lies between them: the shift (x, y) at y * side + x.

    One loop over all shifts for four pixels of the template at a time, which a compiler makes wide.
    """
    size = template.shape[0]
    m = (n - 1) * side + n
    total = np.zeros(m, np.float32)
    for r in range(size):
        c = 0
        while c + 4 <= size:
            part = patch[r * side + c : r * side + c + m + 3]
            w0, w1, w2, w3 = template[r, c], template[r, c + 1], template[r, c + 2], template[r, c + 3]
            for k in range(m):
                total[k] += (w0 * part[k] + w1 * part[k + 1]) + (w2 * part[k + 2] + w3 * part[k + 3])
            c += 4
        while c < size:
            part = patch[r * side + c : r * side + c + m]
            weight = template[r, c]
            for k in range(m):
                total[k] += weight * part[k]
            c += 1
    return total


@kernel
def correlate(image, template, left, top, reach):
    """Normalised cross-correlation (2 reach + 1, 2 reach + 1) float32 of a template with the windows about one.

    ``template`` (s, s) as `cut_template` makes it; the middle value is of the window whose first pixel is (left, top).
    0 where a window is flat (Lewis 1995, Eq. 2).
    """
    height, width = image.shape
    size, n = template.shape[0], 2 * reach + 1
    side = size + n - 1
    patch = np.empty((side + 1, side), np.float32)  # the last row is never used, but read with the one before
    for r in range(side + 1):
        y = min(max(top - reach + r, 0), height - 1)
        for c in range(side):
            patch[r, c] = image[y, min(max(left - reach + c, 0), width - 1)]
    middle = patch[side // 2, side // 2]  # a level close to all others keeps the sums small
    for r in range(side + 1):
        for c in range(side):
            patch[r, c] -= middle
    product = _products(patch.reshape((side + 1) * side), side, template, n)
    sums, squares = np.zeros((side + 1, side + 1)), np.zeros((side + 1, side + 1))
    for r in range(side):
        of_row = squares_of_row = 0.0
        for c in range(side):
            level = np.float64(patch[r, c])
            of_row += level
            squares_of_row += level * level
            sums[r + 1, c + 1] = sums[r, c + 1] + of_row
            squares[r + 1, c + 1] = squares[r, c + 1] + squares_of_row
    found = np.zeros((n, n), np.float32)
    for r in range(n):
        for c in range(n):
            total = sums[r + size, c + size] - sums[r, c + size] - sums[r + size, c] + sums[r, c]
            square = squares[r + size, c + size] - squares[r, c + size] - squares[r + size, c] + squares[r, c]
            energy = square - total * total / (size * size)
            if energy > 1e-6 * square:
                found[r, c] = product[r * side + c] / np.sqrt(energy)
    return found


@kernel
def peak(surface):
    """Where a correlation surface (n, n) is highest: x, y (px from its middle, by fractions), the height, and whether.

    The fraction is that of the paraboloid through the 3 x 3 values about the highest one, in least squares. A highest
    value on the rim is no peak: what was looked for may be outside.
    """
    n = surface.shape[0]
    r = c = 0
    for k in range(n):
        for j in range(n):
            if surface[k, j] > surface[r, c]:
                r, c = k, j
    height = np.float64(surface[r, c])
    half = n // 2
    if r == 0 or c == 0 or r == n - 1 or c == n - 1:
        return float(c - half), float(r - half), height, False
    s = surface[r - 1 : r + 2, c - 1 : c + 2].astype(np.float64)
    left, right, up, down = s[:, 0].sum(), s[:, 2].sum(), s[0].sum(), s[2].sum()
    middle_x, middle_y = s[:, 1].sum(), s[1].sum()
    gx, gy = (right - left) / 6.0, (down - up) / 6.0
    xx, yy = (left + right - 2.0 * middle_x) / 3.0, (up + down - 2.0 * middle_y) / 3.0
    xy = (s[0, 0] + s[2, 2] - s[0, 2] - s[2, 0]) / 4.0
    det = xx * yy - xy * xy
    if not (det > 0.0 and xx < 0.0):
        return float(c - half), float(r - half), height, True
    dx, dy = (xy * gy - yy * gx) / det, (xy * gx - xx * gy) / det
    return c - half + min(max(dx, -1.0), 1.0), r - half + min(max(dy, -1.0), 1.0), height, True


@kernel
def find_template(image, template, left, top, reach):
    """`peak` of `correlate`: how far from (left, top) the template is, its correlation, and whether it is a peak."""
    return peak(correlate(image, template, left, top, reach))


@kernel
def crowded(xyxy, of_size):
    """(n,) whether another box's middle is nearer than ``of_size`` times the mean size of the two; xyxy (n, 4)."""
    n = len(xyxy)
    found = np.zeros(n, np.bool_)
    for k in range(n):
        x, y = (xyxy[k, 0] + xyxy[k, 2]) / 2, (xyxy[k, 1] + xyxy[k, 3]) / 2
        size = (xyxy[k, 2] - xyxy[k, 0] + xyxy[k, 3] - xyxy[k, 1]) / 4
        for j in range(k):
            other = (xyxy[j, 2] - xyxy[j, 0] + xyxy[j, 3] - xyxy[j, 1]) / 4
            limit = of_size * (size + other)
            dx, dy = (xyxy[j, 0] + xyxy[j, 2]) / 2 - x, (xyxy[j, 1] + xyxy[j, 3]) / 2 - y
            if dx * dx + dy * dy < limit * limit:
                found[k] = found[j] = True
    return found
