"""Pictures of a recording, fetched around the play head by a thread from a process that decodes them.

The window asks and never waits: what is there is given, what is not comes later. Knows no Qt.
"""

from __future__ import annotations

import json
import struct
import subprocess
import threading
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

#: As casa/cli/pictures.py writes it: kind, frame, field, height, width, channels, bytes a value, payload bytes.
HEADER = struct.Struct("<4sqiiiiiq")
CACHE_BYTES = 256 * 2**20
#: How far ahead of and behind the play head pictures are fetched when there is nothing more urgent.
AHEAD, BEHIND = 48, 16
_MAX_BYTES = 2**31

#: A picture by number and field.
Key = tuple[int, int]


class PictureLoader:
    """Fetches pictures in a thread of its own; every method returns at once.

    Parameters
    ----------
    command : starts the process; see `casa.cli.pictures`.
    keys : what each step's picture is called, (frame, field) of the source; None where it has none.

    Attributes
    ----------
    error : one line on why there are no pictures; "" while there is nothing to complain of.
    ready : whether the source could be opened.
    sha256 : of the source's file, once known.
    fetched : how many pictures have come so far.
    """

    def __init__(self, command: Sequence[str], keys: Sequence[Key | None], cache_bytes: int = CACHE_BYTES) -> None:
        self._keys = list(keys)
        self._cache_bytes = cache_bytes
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self._bytes = 0
        self._missing = {step: "it was not kept" for step, key in enumerate(keys) if key is None}
        self._head, self._direction = 0, 1
        self._extra: list[int] = []
        self._changed = threading.Condition()
        self._stopped = False
        self._levels: NDArray[np.uint8] | None = None
        self.error, self.ready, self.sha256, self.fetched = "", False, "", 0
        self._command = list(command)
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="casa-view-pictures", daemon=True)
        self._thread.start()

    def look_at(self, step: int, direction: int = 1, extra: Sequence[int] = ()) -> None:
        """Where the play head is, which way it goes, and other steps that are wanted."""
        with self._changed:
            if (step, direction) != (self._head, self._direction) or list(extra) != self._extra:
                self._head, self._direction, self._extra = step, direction, list(extra)
                self._changed.notify()

    def get(self, step: int) -> NDArray[np.uint8] | None:
        """The picture of a step, 8 bits, (h, w) or (h, w, 3); None while it is not there."""
        return self._cache.get(step)

    def why_missing(self, step: int) -> str:
        """One line where the source has no picture for a step; "" elsewhere."""
        return self._missing.get(step, "")

    def newest_before(self, step: int, at_most: int) -> int | None:
        """The latest step that has a picture among the ``at_most`` ones up to ``step``."""
        return next((k for k in range(step, max(step - at_most, -1), -1) if k in self._cache), None)

    def close(self) -> None:
        """End the thread and the process; waits for both, a few hundredths of a second."""
        with self._changed:
            self._stopped = True
            process = self._process
            self._changed.notify()
        if process is not None:
            process.kill()  # it only reads: there is nothing it could leave half done
        self._thread.join(5)

    def _run(self) -> None:
        try:
            process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        except OSError as error:
            self.error = f"no pictures: the process that reads them does not start ({error.strerror})"
            return
        with self._changed:
            self._process = process
            if self._stopped:
                process.kill()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            self._talk(process.stdin, process.stdout)
        except (OSError, EOFError, ValueError, struct.error) as error:
            if not self._stopped and not self.error:
                self.error = f"no pictures: the process that reads them ended ({error or 'it closed its output'})"
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                try:
                    pipe.close()
                except OSError:
                    pass

    def _talk(self, requests: Any, answers: Any) -> None:
        kind, _, _, _, payload = _receive(answers)
        if kind == b"FAIL":
            self.error = payload.tobytes().decode("utf-8", "replace")
            return
        json.loads(payload.tobytes())
        self.ready = True
        while (step := self._wait_for_work()) is not None:
            asked = self._keys[step]
            assert asked is not None
            requests.write("{} {}\n".format(*asked).encode())
            while True:
                kind, frame, field, shape, payload = _receive(answers)
                if kind == b"HASH":
                    self.sha256 = payload.tobytes().decode()
                    continue
                if (frame, field) != asked:
                    raise ValueError(f"picture {frame} came where {asked[0]} was asked for")
                break
            if kind == b"PICT":
                self._store(step, self._to_eight_bits(payload, shape))
            else:
                self._missing[step] = payload.tobytes().decode("utf-8", "replace") or "there is no picture for it"

    def _wait_for_work(self) -> int | None:
        """The step to fetch next; None at the end."""
        with self._changed:
            while not self._stopped:
                step = self._next_step()
                if step is not None:
                    return step
                self._changed.wait(0.5)
            return None

    def _next_step(self) -> int | None:
        have, missing, n = self._cache, self._missing, len(self._keys)
        soon = range(self._head, self._head + 8 * self._direction, self._direction)
        for step in (*soon, *self._extra):
            if 0 <= step < n and step not in have and step not in missing:
                return step
        size = self._bytes // max(len(have), 1)
        room = AHEAD + BEHIND if not size else min(AHEAD + BEHIND, max(self._cache_bytes // size - 2, 0))
        ahead = room * AHEAD // (AHEAD + BEHIND)
        way = self._direction
        for step in (*range(self._head + way, self._head + way * (ahead + 1), way),
                     *range(self._head - way, self._head - way * (room - ahead + 1), -way)):  # fmt: skip
            if 0 <= step < n and step not in have and step not in missing:
                return step
        return None

    def _store(self, step: int, picture: NDArray[np.uint8]) -> None:
        with self._changed:
            self._cache[step] = picture
            self._bytes += picture.nbytes
            self.fetched += 1
            wanted = {self._head, *self._extra}
            while self._bytes > self._cache_bytes and len(self._cache) > 2:
                way = self._direction
                # what lies behind the head goes first, then what is furthest ahead
                worst = max(
                    (k for k in self._cache if k != step and k not in wanted),
                    key=lambda k: (k - self._head) * way if (k - self._head) * way > 0 else 3 * (self._head - k) * way,
                    default=None,
                )
                if worst is None:
                    return
                self._bytes -= self._cache.pop(worst).nbytes

    def _to_eight_bits(self, payload: NDArray[np.uint8], shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
        height, width, channels, size = shape
        dims = (height, width) if channels == 1 else (height, width, channels)
        if size == 1:
            return payload.reshape(dims)
        deep = payload.view(np.uint16).reshape(dims)
        if self._levels is None:  # once: levels that follow each picture would make them flicker
            self._levels = eight_bit_levels(deep)
        return self._levels[deep]


def eight_bit_levels(picture: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """(65536,) uint8: what each 16-bit value is shown as, from the 0.5th to the 99.5th percentile of a picture."""
    low, high = np.percentile(picture[::4, ::4], [0.5, 99.5])
    scaled = (np.arange(65536) - low) * (255 / max(float(high - low), 1.0))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _receive(stream: BinaryIO) -> tuple[bytes, int, int, tuple[int, int, int, int], NDArray[np.uint8]]:
    kind, frame, field, height, width, channels, size, length = HEADER.unpack(_exactly(stream, HEADER.size).tobytes())
    if not 0 <= length < _MAX_BYTES:
        raise ValueError(f"a message of {length} bytes")
    return kind, frame, field, (height, width, channels, size), _exactly(stream, length)


def _exactly(stream: Any, length: int) -> NDArray[np.uint8]:
    buffer = np.empty(length, np.uint8)
    view, at = memoryview(buffer.data), 0
    while at < length:
        count = stream.readinto(view[at:])
        if not count:
            raise EOFError
        at += count
    return buffer
