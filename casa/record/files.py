"""The files of one recording: what they are called, when they may be replaced, and how a full disk is told."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from casa.errors import CasaError, InputError
from casa.record.journal import is_locked


def segment_path(output: Path, number: int) -> Path:
    """The recording of a session's segment, from 1: RUN.0001.h5."""
    return output.with_name(f"{output.stem}.{number:04d}{output.suffix}")


def session_files(output: Path) -> list[Path]:
    """What there is of a live session's files (recordings, reports) in order: ``output``, those of its segments."""
    stem, suffix = escape(output.stem), escape(output.suffix)
    return [
        path for path in (output, *sorted(output.parent.glob(f"{stem}.[0-9][0-9][0-9][0-9]{suffix}"))) if path.is_file()
    ]


@dataclass(frozen=True, slots=True)
class RecordingFiles:
    """``final`` alone exists once a recording is complete; until then ``partial`` and ``journal`` do.

    ``packing`` is the final file while it is made; one that is left is worth nothing.
    """

    final: Path

    @classmethod
    def of(cls, path: Path | str) -> RecordingFiles:
        """By the name of any of them."""
        path = Path(path)
        if path.suffix in (".partial", ".journal", ".packing"):
            path = path.with_suffix("")
        return cls(path)

    @property
    def partial(self) -> Path:
        """Readable while the session runs."""
        return self.final.with_name(self.final.name + ".partial")

    @property
    def journal(self) -> Path:
        """What a crash leaves to recover from."""
        return self.final.with_name(self.final.name + ".journal")

    @property
    def packing(self) -> Path:
        """The final file under construction."""
        return self.final.with_name(self.final.name + ".packing")

    def check_free(self, *, force: bool) -> None:
        """Raise InputError when a recording of this name exists, is unfinished or is being written."""
        if not self.final.parent.is_dir():
            raise InputError(f"{self.final}: the folder {self.final.parent} does not exist; make it first")
        if self.final.is_dir():
            raise InputError(f"{self.final}: is a folder; give the name of a file")
        if is_locked(self.journal):
            raise InputError(f"{self.final}: is being written by another process; give another name")
        if force:
            return
        for path in (self.journal, self.partial):
            if path.exists():
                raise InputError(
                    f"{path}: an unfinished recording lies there; get it back with `casa recover {self.final}`, "
                    "or replace it with --force"
                )
        if self.final.exists():
            raise InputError(f"{self.final}: exists already; give another name, or --force to replace it")


def sync_folder(folder: Path) -> None:
    """Make renames in a folder survive the machine."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException) -> bool:
    """Whether writing failed for want of room; HDF5 tells the number in its text only."""
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return getattr(error, "errno", None) in full or any(f"errno = {number}," in str(error) for number in full)


def write_error(files: RecordingFiles, error: BaseException) -> CasaError:
    """One line for a write that failed, and what to do."""
    if is_disk_full(error):
        what = "the disk is full (or the file may not grow)"
    else:
        text = " ".join(str(error).split())
        what = f"cannot be written ({text[:200]})"
    return CasaError(
        f"{files.final}: {what}; what was recorded is kept in {files.journal.name}: "
        f"make room, then `casa recover {files.final}`"
    )
