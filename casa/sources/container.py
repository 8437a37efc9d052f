"""What a video file says about itself before a frame of it is decoded, and where it is not to be believed."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
from av.stream import Disposition

from casa.errors import InputError

AVI = "avi"
# Containers that keep one frame in one packet; others may split a frame's two fields.
ONE_PACKET_A_FRAME = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", AVI)
_NO_TIMESTAMPS = 0x0080  # FFmpeg's AVFMT_NOTIMESTAMPS
_TEXT_FORMATS = ("tty", "bin", "xbin", "adf", "idf")  # FFmpeg draws text files as video


def one_line(error: Exception) -> str:
    """What FFmpeg says, without its error number and the file's name."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(str(text).split())


def open_container(path: Path) -> Any:
    """Open a video file for reading.

    Raises
    ------
    InputError : missing, empty, unreadable, a picture or text, or without a video stream.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file; give a video, a folder of images or simulator[:PRESET[:SEED]]")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; copy or record it again")
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: not a video that can be opened, or cut off before its index ({one_line(error)}); "
            "check the file, or copy it again"
        ) from error
    problem = _problem(container)
    if problem:
        container.close()
        raise InputError(f"{path}: {problem}")
    return container


def _problem(container: Any) -> str:
    name = container.format.name
    if name in _TEXT_FORMATS:
        return "a text file, not a video; give a video, a folder of images or simulator[:PRESET[:SEED]]"
    if name == "image2" or name.endswith("_pipe"):
        return "a single picture, not a video; give the folder that holds the pictures, with --fps"
    if not container.streams.video or container.streams.video[0].disposition & Disposition.attached_pic:
        return "holds no video stream; give a video, a folder of images or simulator[:PRESET[:SEED]]"
    return ""


def is_untimed(container: Any) -> bool:
    """Whether the format holds neither times nor a frame rate (a raw stream): FFmpeg then makes up 25 a second."""
    return bool(container.format.flags & _NO_TIMESTAMPS)


def promised_frames(container: Any, stream: Any) -> int | None:
    """The number of frames that the container's header states, None where it states none."""
    return stream.frames if stream.frames > 0 else None


def promised_seconds(container: Any, stream: Any) -> Fraction | None:
    """The length of the video as the header states it; None where another stream may be the longer one."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    if container.duration and len(container.streams) == 1:
        return Fraction(container.duration, 1_000_000)
    return None


def check_avi_rate(path: Path) -> None:
    """Refuse an AVI file whose header has a frame rate of zero; FFmpeg would silently take 25 a second.

    The stream header's rate and scale are 32-bit little-endian numbers (AVISTREAMHEADER, dwScale and dwRate, 20 and
    24 bytes into the ``strh`` chunk's data).
    """
    with open(path, "rb") as stream:
        head = stream.read(1 << 16)
    at = head.find(b"strh")
    while at >= 0 and head[at + 8 : at + 12] != b"vids":
        at = head.find(b"strh", at + 4)
    if at < 0 or at + 36 > len(head):
        return
    scale, rate = struct.unpack_from("<II", head, at + 8 + 20)
    if scale == 0 or rate == 0:
        raise InputError(f"{path}: its header gives a frame rate of zero; give the true one with --fps")
