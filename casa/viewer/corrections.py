"""Corrections of a recording's tracks, kept beside it as an append-only, hash-chained file (docs/viewer.md).

The recording itself is never changed: who corrected what and when, what it was and what it became are lines of
``RUN.corrections.jsonl``, and undoing one is a further line. Knows no Qt.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.audit import AuditLog, chained_line, digest_of, lock, now_utc, user_name, write_all
from casa.errors import CasaError, InputError
from casa.types import IntArray

__all__ = ["CorrectionLog", "Entry", "Identities", "apply_corrections", "corrections_path", "digest_of", "user_name"]

FORMAT = "casa-corrections"
VERSION = 1
#: What can be done to tracks; ``mark`` and ``unmark`` concern moments, ``undo`` and ``redo`` earlier changes.
CHANGES = ("join", "split", "delete", "debris")
ACTIONS = (*CHANGES, "mark", "unmark", "undo", "redo")

SPERM, DEBRIS, DELETED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the file. ``arguments`` by action: see docs/viewer.md; ``old`` and ``new`` describe the tracks."""

    number: int
    utc: str
    who: str
    action: str
    arguments: dict[str, Any]
    old: dict[str, Any]
    new: dict[str, Any]
    previous: str
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class Identities:
    """Whose row each row of a track table is after corrections: ids (n,) int64 and kinds (n,) uint8."""

    track_id: IntArray
    kind: NDArray[np.uint8]


def corrections_path(recording: Path) -> Path:
    """``RUN.corrections.jsonl`` beside ``RUN.h5`` (or ``RUN.h5.partial``)."""
    name = recording.name.removesuffix(".partial").removesuffix(".h5")
    return recording.with_name(f"{name}.corrections.jsonl")


class CorrectionLog:
    """The corrections file of one recording: read and checked when made, appended to by ``add``.

    Parameters
    ----------
    path : the file; it need not exist, and is made with the first line.
    recording_id : of the recording it belongs to.
    who : written into every line.

    Raises
    ------
    InputError : it belongs to another recording, is of a newer version, or a line was changed or removed.
    """

    def __init__(self, path: Path, recording_id: str, who: str) -> None:
        self.path, self.who = path, who
        self._recording_id = recording_id
        self.entries: list[Entry] = []
        self.warning = ""
        self._last = ""
        self._length = 0
        self._read()

    @property
    def active(self) -> list[Entry]:
        """The changes that hold, oldest first."""
        return self._stacks()[0]

    @property
    def undone(self) -> list[Entry]:
        """The changes that can be redone, the next one last."""
        return self._stacks()[1]

    @property
    def marks(self) -> list[Entry]:
        """The marked moments that were not removed."""
        removed = {entry.arguments["of"] for entry in self.entries if entry.action == "unmark"}
        return [entry for entry in self.entries if entry.action == "mark" and entry.number not in removed]

    def add(
        self,
        action: str,
        arguments: dict[str, Any],
        old: dict[str, Any] | None = None,
        new: dict[str, Any] | None = None,
    ) -> Entry:
        """Append one line and make it safe on the disk; name it in the audit log, where one is configured.

        ``warning`` says then why it could not be named there, "" where nothing is wrong.

        Raises
        ------
        InputError : somebody else has written to the file meanwhile (it is read again; do it once more).
        CasaError : the file cannot be written.
        """
        if action not in ACTIONS:
            raise ValueError(f"action: expected one of {', '.join(ACTIONS)}, got {action!r}")
        if (action == "undo" and not self.active) or (action == "redo" and not self.undone):
            raise InputError(f"there is nothing to {action}")
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise CasaError(f"{self.path}: cannot be written ({error.strerror}); nothing was corrected") from error
        try:
            lock(descriptor)
            seen, number, last = self._length, len(self.entries), self._last
            self._read()
            if (len(self.entries), self._last) != (number, last):
                raise InputError(f"{self.path}: was added to by somebody else; look again and repeat the correction")
            if os.fstat(descriptor).st_size > seen:  # the torn end of a line that never was whole
                os.ftruncate(descriptor, seen)
            text = b""
            previous = self._last
            if not previous:
                head = {
                    "format": FORMAT, "version": VERSION, "recording_id": self._recording_id, "n": 0,
                    "utc": now_utc(), "who": self.who,
                }  # fmt: skip
                text, previous = chained_line(head)
            body = {
                "n": number + 1, "utc": now_utc(), "who": self.who, "action": action, "arguments": arguments,
                "old": old or {}, "new": new or {}, "previous": previous,
            }  # fmt: skip
            line, digest = chained_line(body)
            os.lseek(descriptor, seen, os.SEEK_SET)
            write_all(descriptor, text + line)
            os.fsync(descriptor)
        except OSError as error:
            raise CasaError(f"{self.path}: cannot be written ({error.strerror}); nothing was corrected") from error
        finally:
            os.close(descriptor)
        self._length = seen + len(text) + len(line)
        self._last = digest
        self.entries.append(_entry(body | {"sha256": digest}))
        self._audit(self.entries[-1])
        return self.entries[-1]

    def _audit(self, entry: Entry) -> None:
        """A line of the audit log that points to a line of this file."""
        self.warning = ""
        if (audit := AuditLog.configured()) is None:
            return
        about = {"file": str(self.path), "line": entry.number, "sha256": entry.sha256}
        try:
            audit.append("correction", self._recording_id, **about, action=entry.action, user=entry.who)
        except CasaError as error:
            self.warning = f"; written down, but not in the audit log: {error}"

    def _stacks(self) -> tuple[list[Entry], list[Entry]]:
        active: list[Entry] = []
        undone: list[Entry] = []
        for entry in self.entries:
            if entry.action in CHANGES:
                active.append(entry)
                undone.clear()
            elif entry.action == "undo":
                undone.append(active.pop())
            elif entry.action == "redo":
                active.append(undone.pop())
        return active, undone

    def _read(self) -> None:
        self.entries, self._last, self._length = [], "", 0
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror})") from error
        whole = data[: data.rfind(b"\n") + 1]
        for row, raw in enumerate(whole.splitlines()):
            where = f"{self.path}: line {row + 1}"
            try:
                line = json.loads(raw)
                digest = str(line["sha256"])
                if digest_of(line) != digest:
                    raise InputError(f"{where} is not what was written: the file was changed; move it away to go on")
                if row == 0:
                    self._check_head(line)
                else:
                    if line["previous"] != self._last or line["n"] != row:
                        raise InputError(f"{where} does not follow the one before: a line is missing; move it away")
                    self.entries.append(_entry(line))
                    self._check_stack(where)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{where} is no line of a corrections file; move the file away to go on") from error
            self._last = digest
        self._length = len(whole)

    def _check_stack(self, where: str) -> None:
        if self.entries[-1].action not in ACTIONS:
            raise InputError(f"{where}: the action {self.entries[-1].action!r} is not known: update casa")
        if self.entries[-1].action in ("undo", "redo"):
            try:
                self._stacks()
            except IndexError:
                raise InputError(f"{where}: there is nothing to {self.entries[-1].action}; move it away") from None

    def _check_head(self, line: dict[str, Any]) -> None:
        if line["format"] != FORMAT:
            raise InputError(f"{self.path}: no corrections file of casa; move it away to go on")
        if int(line["version"]) > VERSION:
            raise InputError(f"{self.path}: is of version {line['version']}, this casa reads up to {VERSION}: update")
        if line["recording_id"] != self._recording_id:
            raise InputError(f"{self.path}: belongs to another recording of that name; move it away to go on")


def _entry(line: dict[str, Any]) -> Entry:
    return Entry(
        int(line["n"]), str(line["utc"]), str(line["who"]), str(line["action"]), dict(line["arguments"]),
        dict(line["old"]), dict(line["new"]), str(line["previous"]), str(line["sha256"]),
    )  # fmt: skip


def apply_corrections(
    changes: Sequence[Entry], track_id: IntArray, frame: IntArray, field: IntArray, measured: NDArray[np.bool_]
) -> Identities:
    """The rows' ids and kinds after the changes, in order; all arguments (n,), rows in any order.

    Raises
    ------
    InputError : a change names a track that is not there, or joins two that were measured in the same picture.
    """
    ids = np.array(track_id, np.int64)
    kind = np.zeros(len(ids), np.uint8)
    picture = 2 * np.asarray(frame, np.int64) + np.asarray(field, np.int64)
    for change in changes:
        arguments = change.arguments
        track = int(arguments["track"])
        rows = (ids == track) & (kind != DELETED)
        if not rows.any():
            raise InputError(f"there is no track {track} (any more)")
        if change.action == "delete":
            kind[rows] = DELETED
        elif change.action == "debris":
            kind[rows] = DEBRIS
        elif change.action == "split":
            later = rows & (picture >= 2 * int(arguments["frame"]) + int(arguments.get("field", 0)))
            if not later.any() or later.sum() == rows.sum():
                raise InputError(f"track {track} is on one side of frame {arguments['frame']} only; nothing to split")
            ids[later] = int(arguments["new_track"])
        elif change.action == "join":
            _join(ids, kind, picture, measured, rows, track, int(arguments["with"]))
    return Identities(ids, kind)


def _join(
    ids: IntArray,
    kind: NDArray[np.uint8],
    picture: IntArray,
    measured: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    track: int,
    other: int,
) -> None:
    """Give the rows of ``other`` to ``track``, in place; of two rows in one picture the predicted one goes."""
    theirs = (ids == other) & (kind != DELETED)
    if other == track or not theirs.any():
        raise InputError(f"there is no other track {other} to join {track} with")
    both = np.intersect1d(picture[rows & measured], picture[theirs & measured])
    if len(both):
        raise InputError(
            f"tracks {track} and {other} are both measured in frame {int(both[0]) // 2} (and {len(both) - 1} more), so "
            "they are two sperm; split one first, or delete one"
        )
    kind_of_track = kind[rows][0]
    mine_again = rows & ~measured & np.isin(picture, picture[theirs & measured])
    theirs_again = theirs & ~measured & np.isin(picture, picture[rows])
    kind[mine_again | theirs_again] = DELETED
    ids[theirs] = track
    kind[theirs & (kind != DELETED)] = kind_of_track
