"""The process that gives the viewer a recording's pictures: ``python -m casa.cli.pictures URI CONFIG_JSON``.

A process of its own, because decoding (and cv2, which some sources need) has no place in a program with a window: it
cannot hold its interpreter up, and a damaged video cannot take it down. It ends when its standard input closes.

Requests on standard input are lines ``FRAME FIELD``; answers on standard output, in the same order, a header (see
HEADER: kind, frame, field, height, width, channels, bytes a value, bytes that follow) and a payload. The first answer
is the JSON of what was opened, or of the error; one of kind HASH comes when the file's sha256 is known.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import threading
from pathlib import Path
from typing import Any

#: kind, frame, field, height, width, channels, bytes a value, payload bytes
HEADER = struct.Struct("<4sqiiiiiq")
OPENED, ERROR, PICTURE, NOTHING, HASH = b"OPEN", b"FAIL", b"PICT", b"NONE", b"HASH"


def main(uri: str, config_json: str) -> None:
    """Open the source and answer until standard input closes."""
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever a library prints must not get among the answers
    lock = threading.Lock()

    def send(
        kind: bytes, data: Any = b"", frame: int = 0, field: int = 0, shape: tuple[int, ...] = (0, 0, 0, 0)
    ) -> None:
        view = memoryview(data).cast("B")
        with lock:
            out.write(HEADER.pack(kind, frame, field, *shape, len(view)))
            while len(view):
                view = view[out.write(view) :]

    try:
        _serve(uri, config_json, send)
    except BrokenPipeError:
        return


def _serve(uri: str, config_json: str, send: Any) -> None:
    import numpy as np

    from casa.config import SourceConfig
    from casa.errors import CasaError
    from casa.sources.random_access import open_pictures

    try:
        pictures = open_pictures(uri, SourceConfig.model_validate_json(config_json))
    except (CasaError, OSError, ValueError) as error:
        send(ERROR, " ".join(str(error).split()).encode())
        return
    send(OPENED, json.dumps({"interlaced": pictures.interlaced}).encode())
    hashing = False
    for line in sys.stdin:
        frame, field = (int(part) for part in line.split())
        try:
            picture = pictures.get(frame, field)
        except (CasaError, OSError, ValueError, IndexError) as error:
            picture = " ".join(str(error).split())
        if isinstance(picture, str):
            send(NOTHING, picture.encode(), frame, field)
        else:
            picture = np.ascontiguousarray(picture)
            channels = picture.shape[2] if picture.ndim == 3 else 1
            send(PICTURE, picture, frame, field, (*picture.shape[:2], channels, picture.itemsize))
        if not hashing and Path(uri).is_file():
            hashing = True
            threading.Thread(target=_hash, args=(Path(uri), send), daemon=True).start()


def _hash(path: Path, send: Any) -> None:
    try:
        with path.open("rb") as stream:
            send(HASH, hashlib.file_digest(stream, "sha256").hexdigest().encode())
    except OSError:
        return


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
