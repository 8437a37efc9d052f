"""Temporary folders that are gone with their process: what a killed one left is removed by the next that comes."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nobody knows whether a folder is still held, so each is left to its own process
    fcntl = None


@contextmanager
def scratch(prefix: str = "casa-batch-", parent: Path | None = None) -> Iterator[Path]:
    """A folder of this user for the length of a ``with`` block; those that nobody holds any more are removed first.

    It is held by a lock on the file beside it, which the system lets go of however its process ends.
    """
    parent = parent or Path(tempfile.gettempdir())
    prefix = f"{prefix}{os.getuid()}-" if hasattr(os, "getuid") else prefix
    remove_abandoned(parent, prefix)
    folder = parent / f"{prefix}{uuid.uuid4().hex[:8]}"
    lock = folder.with_suffix(".lock")
    with lock.open("w") as held:
        if fcntl is not None:
            fcntl.flock(held, fcntl.LOCK_EX)
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove the folders of processes that were killed."""
    if fcntl is None:
        return
    for lock in parent.glob(f"{prefix}*.lock"):
        with suppress(OSError), lock.open("r+") as stream:
            # one that was only just made has no folder yet: it is nobody's to remove
            if not lock.with_suffix("").is_dir():
                continue
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.with_suffix(""), ignore_errors=True)
            lock.unlink(missing_ok=True)
