"""The journal: what the recorder was told, in order, framed so that a torn or corrupt part is known and counted.

A file is MAGIC and then records. A record is a header (``<4sIIBI``: marker, payload length, sequence number from 0,
kind, crc32 of the three fields before it and the payload) and its payload. The marker lets a reader find the next
record behind damage; the sequence number tells how many were lost. This module knows nothing of HDF5 or of what
payloads mean.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import BinaryIO

from casa.errors import CasaError, InputError

try:
    import fcntl
except ImportError:  # Windows: no advisory lock, so a running recording is not told from a dead one
    fcntl = None

MAGIC = b"CASAJNL1"
_MARKER = b"\xca\x5aJR"
_HEADER = struct.Struct("<4sIIBI")
_COVERED = struct.Struct("<IIB")
PICTURE_HEAD = struct.Struct("<qq")  # frame, t_ns
#: A length beyond it is damage, not a record: a 16-bit colour picture of 8000 x 8000 px is below it.
MAX_PAYLOAD_BYTES = 1 << 29
_BLOCK_BYTES = 1 << 18

_sync_data = getattr(os, "fdatasync", os.fsync)


class Kind(IntEnum):
    """What a record's payload is; the numbers are part of the format."""

    SESSION = 1  # JSON
    FRAME = 2  # rows of the table "frames"
    DETECTIONS = 3  # rows of "detections"
    TRACKS = 4  # rows of "tracks"
    KINEMATICS = 5  # rows of "kinematics"
    PICTURE = 6  # PICTURE_HEAD, then a PNG file
    FINISH = 7  # JSON
    EVENT = 8  # rows of "events"
    VIDEO = 9  # rows of "video"
    WRITTEN = 10  # JSON: a point from which a recorder that died goes on
    CLIP = 11  # a row of "clips", then the PNG file of its pictures, then that of its attention maps
    GRADE = 12  # rows of "grades"
    MORPHOLOGY = 13  # a row of "morphology", then the PNG file of the crop, then that of its heat map


@dataclass(slots=True)
class JournalDamage:
    """What could not be read back: nothing, when all counts are 0."""

    torn_bytes: int = 0  # at the end: the record under way when it stopped
    corrupt_bytes: int = 0  # between readable records
    lost_records: int = 0  # known to be missing between readable records, by their sequence numbers


def is_locked(path: Path) -> bool:
    """Whether a living process is writing this journal."""
    if fcntl is None:
        return False
    try:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


class JournalWriter:
    """Appends records; each is handed to the system at once and synced every ``sync_interval_s``.

    So the death of the process costs nothing that was appended, and the death of the machine costs
    ``sync_interval_s``. The file is locked while it is open. It must not exist, but where ``resume`` says how many
    records of it, and bytes of them, are kept: what is behind them is cut off, and writing goes on there.
    """

    def __init__(self, path: Path, sync_interval_s: float, resume: tuple[int, int] | None = None) -> None:
        self.path = path
        self._interval_s = sync_interval_s
        self._sequence, self._end = resume or (0, len(MAGIC))
        create = os.O_CREAT | os.O_EXCL if resume is None else 0
        self._fd = os.open(path, create | os.O_WRONLY | getattr(os, "O_BINARY", 0), 0o644)
        try:
            if fcntl is not None:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if resume is None:
                os.write(self._fd, MAGIC)
            else:
                os.ftruncate(self._fd, self._end)
                os.lseek(self._fd, self._end, os.SEEK_SET)
        except OSError:
            os.close(self._fd)
            raise
        self._synced_at = time.monotonic()

    def append(self, kind: Kind, payload: bytes | memoryview) -> None:
        """Write one record. Raises OSError; then the file ends behind the last whole record again."""
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise CasaError(f"{self.path}: a record of {len(payload)} bytes is more than a journal takes")
        covered = _COVERED.pack(len(payload), self._sequence, kind)
        record = b"".join((_MARKER, covered, zlib.crc32(payload, zlib.crc32(covered)).to_bytes(4, "little"), payload))
        try:
            view = memoryview(record)
            while view:
                view = view[os.write(self._fd, view) :]
            if time.monotonic() - self._synced_at >= self._interval_s:
                self.sync()
        except OSError:
            try:
                os.ftruncate(self._fd, self._end)
            except OSError:
                pass  # the torn record stays and is recognised as such
            raise
        self._sequence += 1
        self._end += len(record)

    def sync(self) -> None:
        """Make all that was appended survive the machine."""
        _sync_data(self._fd)
        self._synced_at = time.monotonic()

    def close(self) -> None:
        """Sync and close; releases the lock."""
        if self._fd < 0:
            return
        try:
            os.fsync(self._fd)
        finally:
            os.close(self._fd)
            self._fd = -1


def record_bytes(payload: bytes) -> int:
    """How many bytes a record with this payload takes in the file."""
    return _HEADER.size + len(payload)


def read_journal(path: Path, damage: JournalDamage) -> Iterator[tuple[Kind, bytes]]:
    """The readable records in order; fills ``damage`` as it goes, complete at the end.

    Where a record is unreadable, reading goes on at the next marker that starts a readable one. Memory does not grow
    with the journal.

    Raises
    ------
    InputError : the file is missing, or is no journal.
    """
    try:
        stream = path.open("rb", buffering=_BLOCK_BYTES)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; there is no journal to recover from") from None
    with stream:
        size = os.fstat(stream.fileno()).st_size
        magic = stream.read(len(MAGIC))
        if magic != MAGIC[: len(magic)]:
            raise InputError(f"{path}: is no journal of a recording; nothing can be recovered from it")
        if len(magic) < len(MAGIC):
            damage.torn_bytes = len(magic)
            return
        position = good_end = len(MAGIC)
        expected = 0
        while position < size:
            found = _read_record(stream, size - position)
            if found is None:
                position = _find_marker(stream, position + 1, size)
                stream.seek(position)
                continue
            kind, sequence, payload = found
            damage.corrupt_bytes += position - good_end
            damage.lost_records += max(0, sequence - expected)
            expected = sequence + 1
            position += _HEADER.size + len(payload)
            good_end = position
            yield kind, payload
        damage.torn_bytes = size - good_end


def _read_record(stream: BinaryIO, n_left: int) -> tuple[Kind, int, bytes] | None:
    """The record at the stream's position, ``n_left`` bytes before the end; None where none is."""
    if n_left < _HEADER.size:
        return None
    marker, length, sequence, kind, checksum = _HEADER.unpack(stream.read(_HEADER.size))
    if marker != _MARKER or length > MAX_PAYLOAD_BYTES or _HEADER.size + length > n_left:
        return None
    payload = stream.read(length)
    if zlib.crc32(payload, zlib.crc32(_COVERED.pack(length, sequence, kind))) != checksum:
        return None
    try:
        return Kind(kind), sequence, payload
    except ValueError:
        return None


def _find_marker(stream: BinaryIO, position: int, size: int) -> int:
    """Where the next marker begins, from ``position`` on; ``size`` where there is none."""
    while position < size:
        stream.seek(position)
        block = stream.read(_BLOCK_BYTES)
        found = block.find(_MARKER)
        if found >= 0:
            return position + found
        # a marker may lie across two blocks
        position += max(1, len(block) - len(_MARKER) + 1)
    return size
