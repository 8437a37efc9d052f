"""PNG files of pictures, written and read with zlib and NumPy alone: a reader of recordings needs no image library.

Written are gray and RGB, 8 and 16 bits, every row with filter 2 (up); read are the files that were written here.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FILTER_UP = 2


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def encode_png(image: NDArray[Any]) -> bytes:
    """A PNG file of ``image``: (h, w) gray or (h, w, 3) RGB, uint8 or uint16."""
    if image.dtype not in (np.uint8, np.uint16) or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f"a picture is (h, w) or (h, w, 3), uint8 or uint16; got {image.shape} {image.dtype}")
    height, width = image.shape[:2]
    depth = 8 * image.dtype.itemsize
    rows = np.ascontiguousarray(image.astype(image.dtype.newbyteorder(">"), copy=False)).view(np.uint8)
    rows = rows.reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = _FILTER_UP
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, depth, 2 if image.ndim == 3 else 0, 0, 0, 0)
    # level 1: camera noise does not compress, so a higher level costs five times as much for some per cent
    data = zlib.compress(filtered.tobytes(), 1)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def decode_png(data: bytes) -> NDArray[Any]:
    """The picture in a file that ``encode_png`` made. Raises ValueError for anything else."""
    if not data.startswith(_SIGNATURE) or len(data) < 33:
        raise ValueError("not a PNG file")
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", data[16:29])
    if (depth, colour, interlace) not in ((8, 0, 0), (8, 2, 0), (16, 0, 0), (16, 2, 0)):
        raise ValueError(f"PNG of depth {depth}, colour type {colour}, interlace {interlace} is not one of casa's")
    body, position = bytearray(), 8
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        name, content = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        if _chunk(name, content)[-4:] != data[position + 8 + length : position + 12 + length]:
            raise ValueError("the PNG's checksum is wrong")
        if name == b"IDAT":
            body += content
        position += 12 + length
    channels = 3 if colour == 2 else 1
    try:
        rows = np.frombuffer(zlib.decompress(body), np.uint8).reshape(height, 1 + width * channels * depth // 8)
    except zlib.error as error:
        raise ValueError(f"the PNG cannot be unpacked ({error})") from error
    if (rows[:, 0] != _FILTER_UP).any():
        raise ValueError("a PNG with other row filters is not one of casa's")
    pixels = np.ascontiguousarray(np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8))
    image = pixels.view(">u2").astype(np.uint16) if depth == 16 else pixels
    return image.reshape((height, width, 3) if colour == 2 else (height, width))
