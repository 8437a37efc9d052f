"""One expert's grading of a folder of clips: a blind order, votes that are kept as they are given.

Every vote is on the disk before the next clip is shown: a new file is written and takes the old one's place. Knows
votes; nothing of windows or pictures.
"""

from __future__ import annotations

import hashlib
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from casa.cells import EXPERT_GRADES
from casa.errors import CasaError, InputError
from casa.grade.votes import VOTES_FILE, VOTES_FOLDER, clip_row, grade_of, read_rows, rows_by_clip, table_header
from casa.types import IntArray


class Annotation:
    """An expert's votes on clips ``ids``, and which clip is being looked at.

    Clips come in an order of the expert's own that nobody chose: that of a hash of the name and the clip's number, so
    that it is the same after a break and clips that are added later do not change it. ``row`` is that of the current
    clip in ``ids``; it is None once all clips have a vote.

    Raises
    ------
    InputError : the name is none that a file can have; the folder holds counts, not votes; the expert's file is bad.
    """

    def __init__(self, folder: Path, expert: str, ids: IntArray) -> None:
        self.expert, self.ids = expert, np.asarray(ids)
        self.path = folder / VOTES_FOLDER / f"{checked_name(expert)}.csv"
        if (folder / VOTES_FILE).is_file() and "expert" not in table_header(folder / VOTES_FILE):
            raise InputError(
                f"{folder / VOTES_FILE}: holds counts, to which single votes cannot be added; "
                f"move it away, or copy the clips to a folder of their own"
            )
        self.votes: dict[int, int] = {}  # row to grade
        self._given_at: dict[int, str] = {}
        if self.path.is_file():
            self._read()
        self.order = sorted(range(len(self.ids)), key=lambda row: _hash(expert, int(self.ids[row])))
        self._seen: list[int] = []
        self._skipped: list[int] = []
        self.row: int | None = self._next()

    @property
    def done(self) -> int:
        """Clips with a vote."""
        return len(self.votes)

    @property
    def can_go_back(self) -> bool:
        """Whether there is a clip before this one: seen now, or graded earlier."""
        return bool(self._seen) or any(row != self.row for row in self.votes)

    def vote(self, grade: int) -> None:
        """Give the current clip a grade, 0 (A) to 4 (E), keep it, and go on.

        Raises
        ------
        CasaError : it could not be written; the clip stays the current one, its earlier vote what it was.
        """
        if self.row is None:
            return
        before = dict(self.votes), dict(self._given_at)
        self.votes[self.row] = grade
        self._given_at[self.row] = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            self._write()
        except OSError as error:
            self.votes, self._given_at = before
            raise CasaError(f"{self.path}: the vote could not be kept ({error}); is the disk full?") from error
        if self.row in self._skipped:
            self._skipped.remove(self.row)
        self._go_on()

    def skip(self) -> None:
        """Go on without a vote; the clip comes again after all others."""
        if self.row is None:
            return
        if self.row not in self.votes:
            self._skipped = [row for row in self._skipped if row != self.row] + [self.row]
        self._go_on()

    def back(self) -> None:
        """To the clip before; at the start, to the last one that was graded in an earlier sitting."""
        if self._seen:
            self.row = self._seen.pop()
        elif self.can_go_back:
            graded = [row for row in self.votes if row != self.row]
            self.row = graded[-1]

    def _go_on(self) -> None:
        assert self.row is not None
        self._seen.append(self.row)
        self.row = self._next()

    def _next(self) -> int | None:
        """The first clip without a vote, those that were skipped last."""
        left = [row for row in self.order if row not in self.votes and row not in self._skipped]
        return next(iter(left + self._skipped), None)

    def _read(self) -> None:
        rows = rows_by_clip(self.ids)
        for line, cells in read_rows(self.path, ("clip", "grade")):
            where = f"{self.path}:{line}"
            row = clip_row(rows, cells["clip"], where)
            if row in self.votes:
                raise InputError(f"{where}: clip {cells['clip']} has two votes; keep one")
            self.votes[row] = grade_of(cells["grade"], where)
            self._given_at[row] = cells.get("given_at", "")

    def _write(self) -> None:
        self.path.parent.mkdir(exist_ok=True)
        lines = ["clip,grade,given_at"]
        lines += [f"{self.ids[row]},{EXPERT_GRADES[grade]},{self._given_at[row]}" for row, grade in self.votes.items()]
        partial = self.path.with_suffix(".csv.partial")
        with open(partial, "w", encoding="utf-8", newline="") as stream:
            stream.write("\n".join(lines) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(self.path)


def checked_name(expert: str) -> str:
    """An expert's name as it can be a file's.

    Raises
    ------
    InputError : it cannot.
    """
    if not re.fullmatch(r"[\w][\w .-]{0,63}", expert) or expert.endswith((" ", ".")):
        raise InputError(f"--expert {expert!r}: expected a name of letters, digits, spaces, - _ or ., at most 64")
    return expert


def _hash(expert: str, number: int) -> bytes:
    return hashlib.sha256(f"{expert}/{number}".encode()).digest()
