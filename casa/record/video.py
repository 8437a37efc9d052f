"""The pictures of a session as a video beside the recording: FFV1 (lossless) or Motion JPEG, in Matroska.

Every picture stands by itself and is on the disk within half a second, so that what a crash leaves can be played. The
table ``video`` of the recording says which picture is which frame; this module knows nothing of it.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from casa.errors import CasaError

Codec = Literal["lossless", "mjpeg"]
_NS_PER_TICK = 1_000_000  # Matroska counts in ms


class VideoWriter:
    """Writes one video file; it must not exist.

    Parameters
    ----------
    fps_hz : nominal; each picture has its own time.
    white_level : gray level that is white, for codecs of 8 bits.
    """

    def __init__(self, path: Path, codec: Codec, fps_hz: float, white_level: int) -> None:
        import av

        self.path = path
        self.n = 0
        self._codec = codec
        self._white = white_level
        self._rate = Fraction(fps_hz).limit_denominator(1000) if fps_hz > 0 else Fraction(50)
        self._last_ms = -1
        self._stream: Any = None  # made with the first picture, which has its size
        self._format = ""
        self._shape: tuple[int, ...] = ()
        if path.exists():
            raise CasaError(f"{path}: exists already; move it away")
        try:
            self._file: Any = av.open(
                str(path), "w", format="matroska", options={"cluster_time_limit": "500", "flush_packets": "1"}
            )
        except OSError as error:
            raise CasaError(f"{path}: cannot be written ({error.strerror or error})") from error

    def add(self, t_ns: int, image: NDArray[Any]) -> int:
        """Write a picture, (h, w) or (h, w, 3) RGB, uint8 or uint16; gives its number, from 0.

        Raises CasaError where it cannot be written, or its shape is not that of the first.
        """
        import av

        if not self._shape:
            self._begin(image)
        if image.shape != self._shape:
            raise CasaError(f"{self.path}: a picture of {image.shape} in a video of {self._shape}")
        if self._codec == "mjpeg" and image.dtype != np.uint8:
            image = np.minimum(image.astype(np.uint32) * 255 // self._white, 255).astype(np.uint8)
        try:
            if image.ndim == 3:
                frame = av.VideoFrame.from_ndarray(image, format="rgb24" if image.dtype == np.uint8 else "rgb48le")
                frame = frame.reformat(format=self._format)
            else:
                frame = av.VideoFrame.from_ndarray(image, format="gray" if image.dtype == np.uint8 else "gray16le")
                if frame.format.name != self._format:
                    frame = frame.reformat(format=self._format)
            self._last_ms = max(round(t_ns / _NS_PER_TICK), self._last_ms + 1)
            frame.pts, frame.time_base = self._last_ms, Fraction(1, 1000)
            self._file.mux(self._stream.encode(frame))
        except (OSError, ValueError) as error:
            raise CasaError(f"{self.path}: cannot be written ({error})") from error
        self.n += 1
        return self.n - 1

    def close(self) -> None:
        """Write what is held, and the index for players. Raises CasaError where it cannot be written."""
        try:
            if self._stream is not None:
                self._file.mux(self._stream.encode())
            self._file.close()
        except (OSError, ValueError) as error:
            raise CasaError(f"{self.path}: cannot be completed ({error}); it can be played up to there") from error
        if self._stream is None:
            self.path.unlink(missing_ok=True)

    def _begin(self, image: NDArray[Any]) -> None:
        colour, deep = image.ndim == 3, image.dtype != np.uint8
        if self._codec == "mjpeg":
            self._format = "yuvj444p" if colour else "yuvj420p"
        elif colour:
            self._format = "gbrp16le" if deep else "bgr0"
        else:
            self._format = "gray16le" if deep else "gray"
        options = {"slices": "4", "slicecrc": "1"} if self._codec == "lossless" else {"qmin": "2", "qmax": "3"}
        stream = self._file.add_stream("ffv1" if self._codec == "lossless" else "mjpeg", rate=self._rate)
        stream.height, stream.width = image.shape[:2]
        stream.pix_fmt = self._format
        stream.options = options
        stream.time_base = Fraction(1, 1000)
        if self._codec == "lossless":
            stream.codec_context.gop_size = 1
        self._stream, self._shape = stream, image.shape
