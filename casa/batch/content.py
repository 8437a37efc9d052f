"""What a local recording is, a file or a folder of pictures: its stamp and size, and sums by which copies are told.

A folder's content is that of its pictures in the order in which they are frames, whatever they are called.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from casa.sources.images import pictures_in

_SAMPLED_BYTES = 1 << 16


def stamp_and_size(path: Path) -> tuple[str, int]:
    """What changes when a recording is written to, and its bytes, a folder's pictures together.

    Raises
    ------
    OSError : it is gone, or cannot be read.
    """
    if not path.is_dir():
        found = path.stat()
        return f"{found.st_size}:{found.st_mtime_ns}", found.st_size
    told = [(picture.name, picture.stat()) for picture in pictures_in(path)]
    size = sum(found.st_size for _, found in told)
    return f"{size}:{_sum([f'{name}:{found.st_size}:{found.st_mtime_ns}' for name, found in told])[:32]}", size


def sample_sha256(path: Path) -> str:
    """The hex sha256 of the first and last 64 kB; of a folder, of its pictures' sizes and those two of them.

    Raises
    ------
    OSError : it is gone, or cannot be read.
    """
    if path.is_dir():
        pictures = pictures_in(path)
        ends = [sample_sha256(picture) for picture in (*pictures[:1], *pictures[-1:])]
        return _sum([*(str(picture.stat().st_size) for picture in pictures), *ends])
    with path.open("rb") as stream:
        head = stream.read(_SAMPLED_BYTES)
        stream.seek(max(stream.seek(0, os.SEEK_END) - _SAMPLED_BYTES, 0))
        return hashlib.sha256(head + stream.read(_SAMPLED_BYTES)).hexdigest()


def content_sha256(path: Path) -> str:
    """The hex sha256 of a file; of a folder, of those of its pictures.

    Raises
    ------
    OSError : it is gone, or cannot be read.
    """
    if path.is_dir():
        return _sum([content_sha256(picture) for picture in pictures_in(path)])
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sum(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
