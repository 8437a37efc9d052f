"""Random views of labelled pictures, for training: crops, scales, turns, and what microscopes and codecs do.

Everything is drawn from one ``numpy`` generator, so that a seed gives the same training again.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """A picture and what is in it: image (h, w) uint8; xyxy (n, 4) float64, px; class_id (n,) int64."""

    image: NDArray[np.uint8]
    xyxy: NDArray[np.float64]
    class_id: NDArray[np.int64]

    def of_classes(self, count: int) -> LabelledImage:
        """The same picture with the boxes of the first ``count`` classes alone."""
        keep = self.class_id < count
        return self if keep.all() else LabelledImage(self.image, self.xyxy[keep], self.class_id[keep])


def random_view(
    sample: LabelledImage,
    size_px: int,
    rng: np.random.Generator,
    scales: tuple[float, float],
    share: float = 1.0,
    turn: bool = True,
) -> LabelledImage:
    """A square view of ``sample``: a random place, scale, quarter turn and mirror (``turn``), photometric change.

    ``share`` in [0, 1] scales the odds of each photometric change: a simulated picture brings its own.
    """
    image, xyxy, class_id = _random_crop(sample, size_px, rng, scales)
    if turn:
        image, xyxy = _random_turn(image, xyxy, rng)
    return LabelledImage(_random_light(image, rng, share), xyxy, class_id)


def _random_crop(
    sample: LabelledImage, size_px: int, rng: np.random.Generator, scales: tuple[float, float]
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.int64]]:
    """A window at a random scale; half of the windows are centred near a box, since pictures may be sparse.

    The box is of any of the picture's classes alike, since some are rare.
    """
    height, width = sample.image.shape
    scale = float(np.exp(rng.uniform(np.log(scales[0]), np.log(scales[1]))))
    window = size_px / scale
    if len(sample.xyxy) and rng.random() < 0.5:
        box = sample.xyxy[_any_class(sample.class_id, rng)]
        centre = (box[:2] + box[2:]) / 2 + rng.uniform(-0.4, 0.4, 2) * window
    else:
        centre = rng.uniform(0, [width, height])
    # Stay inside the picture where it is larger than the window.
    low = np.array([width, height]) - window / 2
    centre = np.where(low > window / 2, np.clip(centre, window / 2, low), np.array([width, height]) / 2)
    origin = centre - window / 2
    matrix = np.array(
        [[scale, 0, -origin[0] * scale + (scale - 1) / 2], [0, scale, -origin[1] * scale + (scale - 1) / 2]]
    )
    view = cv2.warpAffine(
        sample.image, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT, borderValue=float(np.median(sample.image[::8, ::8])),
    )  # fmt: skip
    whole = (sample.xyxy - np.tile(origin, 2)) * scale
    clipped = np.clip(whole, 0, size_px)
    size = np.maximum(clipped[:, 2:] - clipped[:, :2], 0)
    whole_size = np.maximum(whole[:, 2:] - whole[:, :2], 1e-6)
    keep = (size.prod(axis=1) > 0.35 * whole_size.prod(axis=1)) & (size.min(axis=1, initial=np.inf) > 2.0)
    return view.astype(np.uint8, copy=False), clipped[keep], sample.class_id[keep]


def _any_class(class_id: NDArray[np.int64], rng: np.random.Generator) -> int:
    """The row of a box of a class drawn evenly among those that are there."""
    classes = np.unique(class_id)
    return int(rng.choice(np.flatnonzero(class_id == classes[rng.integers(len(classes))])))


def _random_turn(
    image: NDArray[np.uint8], xyxy: NDArray[np.float64], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """One of the eight turns and mirrors of a square."""
    size = image.shape[0]
    if rng.random() < 0.5:
        image = image[:, ::-1]
        xyxy = np.stack([size - xyxy[:, 2], xyxy[:, 1], size - xyxy[:, 0], xyxy[:, 3]], axis=1)
    if rng.random() < 0.5:
        image = image[::-1]
        xyxy = np.stack([xyxy[:, 0], size - xyxy[:, 3], xyxy[:, 2], size - xyxy[:, 1]], axis=1)
    if rng.random() < 0.5:
        image = image.T
        xyxy = xyxy[:, [1, 0, 3, 2]]
    return np.ascontiguousarray(image), xyxy


def _random_light(image: NDArray[np.uint8], rng: np.random.Generator, share: float) -> NDArray[np.uint8]:
    """Contrast, brightness, inversion, uneven light, blur, combing, noise, compression; each now and then."""
    size = image.shape[0]
    chance = rng.random(8) / max(share, 1e-9)
    # What maps gray levels to gray levels is one table of 256.
    levels = np.arange(256, dtype=np.float32)
    if chance[0] < 0.3:  # bright and dark change places between phase contrast, negative phase and brightfield
        levels = 255.0 - levels
    if chance[1] < 0.3:
        levels = 255.0 * np.power(levels / 255.0, float(np.exp(rng.uniform(-0.5, 0.5))))
    if chance[2] < 0.8:
        middle = float(levels[int(image.mean())])
        levels = (levels - middle) * float(np.exp(rng.uniform(-0.9, 0.5))) + middle + rng.uniform(-50, 50)
    x = levels.astype(np.float32)[image]
    if chance[3] < 0.3:
        slope = rng.uniform(-30, 30, 2) / size
        ramp = np.arange(size, dtype=np.float32) - size / 2
        x += (slope[0] * ramp)[None, :].astype(np.float32) + (slope[1] * ramp)[:, None].astype(np.float32)
    if chance[4] < 0.25:
        x = cv2.GaussianBlur(x, (0, 0), float(rng.uniform(0.4, 1.6)))
    elif chance[4] < 0.4:
        x += np.float32(rng.uniform(0.3, 1.2)) * (x - cv2.GaussianBlur(x, (0, 0), 1.2))
    if chance[5] < 0.08:  # the two fields of an interlaced picture, a moving cell apart
        x[1::2] = np.roll(x[1::2], int(rng.integers(-4, 5)), axis=1)
    if chance[6] < 0.5:
        x += rng.standard_normal(x.shape, np.float32) * np.float32(rng.uniform(0.5, 7.0))
    result = np.clip(x + 0.5, 0, 255).astype(np.uint8)
    if chance[7] < 0.25:
        encoded = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(35, 95))])[1]
        decoded = cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE)
        assert decoded is not None  # it was encoded a line above
        result = decoded.astype(np.uint8, copy=False)
    return result
