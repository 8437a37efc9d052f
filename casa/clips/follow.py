"""Finding one sperm's head again from picture to picture, by a template that is refreshed and does not drift.

Three places hold each other: the **boxes** of the track, right on average but scattered; the **template**, which finds
the same place again to within a tenth of a pixel, but does not know where in it the head's middle is; the **anchor**,
an earlier template against which each new one is checked. The head's middle is where the template was found plus the
mean of what the boxes say beyond that, so that a template can be off, but cannot carry the clip away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from casa.clips.match import cut_template, find_template
from casa.config import ClipsConfig

Point = tuple[float, float]

#: A template smaller than this (px) has nothing to hold on to; a larger one costs more than it says.
_SIDE_PX = (9, 41)
_REACH_PX = (2, 12)


class Sighting(NamedTuple):
    """Where the head was found: ``template_xy`` the middle of the template, px; ``score`` the correlation there.

    ``found``: False where the score is too low or the best place is on the rim of the search.
    """

    template_xy: Point
    score: float
    found: bool


@dataclass(slots=True)
class Correction:
    """How far boxes have moved the head's middle since a template was first taken, px; it goes on changing."""

    xy: Point = (0.0, 0.0)


class HeadTemplate:
    """The template of one track.

    Parameters
    ----------
    image : (h, w) contiguous. box_xy : middle of the measured box, px. size_px : mean of its width and height.
    t_s : the frame's time.
    """

    def __init__(self, config: ClipsConfig, image: NDArray[Any], box_xy: Point, size_px: float, t_s: float) -> None:
        self._config = config
        self.size_px = size_px
        self.side = int(np.clip(round(config.template_of_size * size_px), *_SIDE_PX))
        self.reach = int(np.clip(round(config.search_of_size * size_px), *_REACH_PX))
        self._half = self.side / 2
        self.start(image, box_xy, t_s)

    def start(self, image: NDArray[Any], box_xy: Point, t_s: float) -> None:
        """Take template and anchor anew from where the box is."""
        left, top = round(box_xy[0] - self._half), round(box_xy[1] - self._half)
        self._template = self._anchor = cut_template(image, left, top, self.side)
        # From the template's middle to the head's; from the template's middle to that of the anchor.
        self.offset = (box_xy[0] - left - self._half, box_xy[1] - top - self._half)
        self._to_anchor = (0.0, 0.0)
        self.correction = Correction()
        self._n_boxes, self._t_s, self._refreshed_s = 1, t_s, t_s

    def find(self, image: NDArray[Any], box_xy: Point, measured: bool) -> Sighting:
        """Look for the head about where the track says."""
        expected = (box_xy[0] - self.offset[0], box_xy[1] - self.offset[1])
        return self._look(image, self._template, expected, self.reach if measured else 2 * self.reach)

    def _look(self, image: NDArray[Any], template: NDArray[np.float32], expected: Point, reach: int) -> Sighting:
        left, top = round(expected[0] - self._half), round(expected[1] - self._half)
        dx, dy, score, inside = find_template(image, template, left, top, reach)
        xy = (left + dx + self._half, top + dy + self._half)
        return Sighting(xy, score, bool(inside and score >= self._config.min_score))

    def head_xy(self, sighting: Sighting) -> Point:
        """The head's middle, by all that the boxes have said so far, px."""
        return sighting.template_xy[0] + self.offset[0], sighting.template_xy[1] + self.offset[1]

    def learn(self, sighting: Sighting, box_xy: Point, t_s: float) -> None:
        """Let a measured box say where in the template the head's middle is.

        A running mean at first, then one that forgets over ``centre_memory_s``; a box further off than the search
        reaches counts as one at its edge.
        """
        self._n_boxes += 1
        gain = max(1 / self._n_boxes, min((t_s - self._t_s) / self._config.centre_memory_s, 1.0))
        self._t_s = t_s
        x, y = self.head_xy(sighting)
        far = float(self.reach)
        dx, dy = gain * min(max(box_xy[0] - x, -far), far), gain * min(max(box_xy[1] - y, -far), far)
        self.offset = (self.offset[0] + dx, self.offset[1] + dy)
        self.correction.xy = (self.correction.xy[0] + dx, self.correction.xy[1] + dy)

    def refresh(self, image: NDArray[Any], sighting: Sighting, t_s: float) -> None:
        """Take the template anew where it was found, when it is due and the anchor says the same place.

        The new template's middle is put where the anchor says, so that errors do not add up from one to the next.
        Where the anchor is no longer found at all, since the head has turned, the old template becomes the anchor.
        """
        if t_s - self._refreshed_s < self._config.refresh_every_s:
            return
        self._refreshed_s = t_s
        x, y = sighting.template_xy
        seen = self._look(image, self._anchor, (x + self._to_anchor[0], y + self._to_anchor[1]), 2)
        if seen.found:
            error = (seen.template_xy[0] - self._to_anchor[0] - x, seen.template_xy[1] - self._to_anchor[1] - y)
            if np.hypot(*error) > max(self._config.refresh_within_of_size * self.size_px, 0.5):
                return
            x, y = x + error[0], y + error[1]
        else:
            self._anchor, self._to_anchor = self._template, (0.0, 0.0)
        left, top = round(x - self._half), round(y - self._half)
        self._template = cut_template(image, left, top, self.side)
        moved = (x - left - self._half, y - top - self._half)
        self.offset = (self.offset[0] + moved[0], self.offset[1] + moved[1])
        self._to_anchor = (self._to_anchor[0] + moved[0], self._to_anchor[1] + moved[1])
