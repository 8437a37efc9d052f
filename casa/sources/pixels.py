"""From a decoded frame to pixels: the gray picture that is analysed, and the colour one for who wants to look.

Video is stored as luma and colour apart (YUV), so its gray picture is there already: nothing goes through RGB.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from casa.kernels import kernel

#: Formats whose first plane is luma of 8 bits, one byte a pixel.
_LUMA_FIRST = frozenset(
    [f"{kind}{sampling}p" for kind in ("yuv", "yuvj", "yuva") for sampling in (410, 411, 420, 422, 440, 444)]
    + ["nv12", "nv16", "nv21", "nv24", "nv42"]
)
#: Luma of studio range (ITU-R BT.601, 2.5.3): black and white of 8 bits.
_BLACK, _WHITE = np.uint8(16), np.uint8(235)


class PixelReader:
    """Reads frames of one stream; holds what FFmpeg's converter would else make anew for each. For one thread."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def image(self, frame: Any) -> NDArray[Any]:
        """The picture of an ``av.VideoFrame`` to analyse; read-only where it is the decoder's own memory.

        (h, w) gray of YUV and gray formats: uint8, or uint16 where they have more than 8 bits; 0 is black and 255 or
        65535 white, whatever range the file uses. (h, w, 3) RGB uint8 of all others.
        """
        name, plane = frame.format.name, frame.planes[0]
        if plane.line_size > 0:
            if name in _LUMA_FIRST:
                luma = _plane(plane, np.uint8)
                return luma[:, : plane.width] if _full_range(frame) else _stretched(luma, plane.width)
            if name in ("gray", "gray16le"):
                return _plane(plane, np.uint8 if name == "gray" else np.dtype("<u2"))[:, : plane.width]
        # One thread: what it costs to start others is more than what they save.
        return self._reformatter.reformat(frame, format=_target(frame), threads=1).to_ndarray()


def has_colour(frame: Any) -> bool:
    """Whether ``PixelReader.image`` of the frame leaves colour out."""
    return _is_yuv(frame)


def colour_of(frame: Any) -> NDArray[Any]:
    """The frame as (h, w, 3) uint8 RGB; may be called from any thread."""
    return VideoReformatter().reformat(frame, format="rgb24", threads=1).to_ndarray()


def _target(frame: Any) -> str:
    name = frame.format.name
    is_gray = name.startswith("gray") and "f" not in name
    if not is_gray and not _is_yuv(frame):
        return "rgb24"
    return "gray" if frame.format.components[0].bits <= 8 else "gray16le"


def _is_yuv(frame: Any) -> bool:
    """Whether luma and colour are apart."""
    kind = frame.format
    return len(kind.components) >= 3 and not (kind.is_rgb or kind.has_palette or kind.is_bayer or "xyz" in kind.name)


def _full_range(frame: Any) -> bool:
    return frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG


def _plane(plane: Any, dtype: Any) -> NDArray[Any]:
    """A plane's rows as they lie in memory, wider than the picture by what they are filled up with; read-only.

    No copy is made, and the decoder may still predict from these pixels.
    """
    rows = np.frombuffer(plane, dtype).reshape(plane.height, -1)
    rows.flags.writeable = False
    return rows


@kernel
def _stretched(luma: NDArray[np.uint8], width: int) -> NDArray[np.uint8]:
    """Studio range as 0 to 255, rounded; what is blacker than black or whiter than white stays at the ends."""
    out = np.empty((len(luma), width), np.uint8)
    for row in range(len(luma)):
        for column in range(width):
            level = np.uint32(min(max(luma[row, column], _BLACK), _WHITE) - _BLACK)
            # 19077 / 2^14 is 255 / 219 closely enough for every level, and fits vectors of 32-bit integers
            out[row, column] = np.uint8((np.uint32(level * np.uint32(19077)) + np.uint32(8192)) >> np.uint32(14))
    return out
