"""What a crash left becomes a recording again, and what could not be got back is said."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py

from casa.errors import CasaError, InputError
from casa.record.files import RecordingFiles, is_disk_full, sync_folder
from casa.record.hdf5 import add_analysis
from casa.record.journal import JournalDamage, is_locked
from casa.record.pack import pack
from casa.record.reader import Recording
from casa.types import FrameAccount, KinematicsTable, Summary

Analyse = Callable[[Recording], tuple[KinematicsTable, Summary]]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What ``recover`` made.

    ``status`` is "interrupted" where the journal has no end, else the one it ends with; ``finished`` tells which.
    ``already_complete``: the recording was finished, and only what was left beside it has been removed.
    ``analysis``: "recorded", "recomputed", "none", or why it could not be computed.
    """

    path: Path
    status: str
    finished: bool
    account: FrameAccount
    rows: dict[str, int]
    damage: JournalDamage
    already_complete: bool = False
    analysis: str = "none"


def recover(
    path: Path | str,
    force: bool = False,
    *,
    analyse: Analyse | None = None,
    on_record: Callable[[], None] = lambda: None,
) -> Recovered:
    """Make ``RUN.h5`` from ``RUN.h5.journal``, then remove the journal and ``RUN.h5.partial``.

    Parameters
    ----------
    path : the name of the recording, or of what is left of it.
    force : replace a ``RUN.h5`` that is another recording.
    analyse : computes kinematics and summary of a session that had not ended (this part knows no kinematics); its
        rows replace the recorded ones, which lack the tracks that were alive.
    on_record : called for each record read back, for a progress bar.

    Raises
    ------
    InputError : nothing to recover, a process is still writing it, or ``RUN.h5`` exists.
    CasaError : it cannot be written; the journal is kept.
    """
    files = RecordingFiles.of(path)
    if not files.journal.is_file():
        if files.partial.is_file():
            raise InputError(
                f"{files.final}: {files.partial.name} is there without its journal, so nothing is certain; "
                "read it as it is, or delete it"
            )
        what = "is complete, nothing to recover" if files.final.is_file() else "no recording, and no journal of one"
        raise InputError(f"{files.final}: {what}")
    if is_locked(files.journal):
        raise InputError(f"{files.final}: is still being written by another process; stop that first (Ctrl-C)")
    try:
        files.packing.unlink(missing_ok=True)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        packed = pack(files.journal, files.packing, recovered_utc=now, on_record=on_record)
        analysis = "recorded" if packed.finished else _analyse(files.packing, analyse)
        same = files.final.is_file() and _recording_id(files.final) == packed.recording_id != ""
        if same:
            files.packing.unlink()
        elif files.final.exists() and not force:
            files.packing.unlink()
            raise InputError(
                f"{files.final}: exists and is another recording than {files.journal.name}; "
                "rename it, or --force to replace it"
            )
        else:
            os.replace(files.packing, files.final)
        sync_folder(files.final.parent)
        files.partial.unlink(missing_ok=True)
        files.journal.unlink()
    except (OSError, RuntimeError) as error:
        text = "the disk is full" if is_disk_full(error) else " ".join(str(error).split())[:200]
        raise CasaError(
            f"{files.final}: cannot be recovered ({text}); {files.journal.name} is kept: make room and do it again"
        ) from error
    return Recovered(
        files.final, packed.status, packed.finished, packed.account, packed.rows, packed.damage, same, analysis
    )


def _analyse(path: Path, analyse: Analyse | None) -> str:
    if analyse is None:
        return "none"
    try:
        with Recording(path) as recording:
            kinematics, summary = analyse(recording)
    except Exception as error:  # the recording is worth more than its analysis: get it back, and tell
        return f"not computed: {' '.join(str(error).split()) or type(error).__name__}"
    add_analysis(path, kinematics, summary)
    return "recomputed"


def _recording_id(path: Path) -> str | None:
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            return str(file.attrs["recording_id"])
    except (OSError, RuntimeError, KeyError):
        return None
