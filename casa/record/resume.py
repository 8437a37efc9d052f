"""What a recorder that died left, for the one that goes on: read from the journal up to its last mark."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from casa.record.hdf5 import TableFile
from casa.record.journal import MAGIC, PICTURE_HEAD, JournalDamage, Kind, read_journal, record_bytes
from casa.record.pack import TABLE_OF
from casa.record.schema import STATUS_CODES, TABLES
from casa.types import FrameStatus


@dataclass(slots=True)
class Found:
    """A journal up to its last mark: ``n_records`` in ``n_bytes`` of the file are to be kept.

    ``state`` is the mark's, {} where there is none: then only the session is kept. ``finished``: it has its end, and
    only needs to be packed. ``ends`` counts the frames by what became of them.
    """

    recording_id: str
    session: dict[str, Any]
    state: dict[str, Any] = field(default_factory=dict)
    n_records: int = 0
    n_bytes: int = 0
    finished: bool = False
    ends: Counter[FrameStatus] = field(default_factory=Counter)

    def fill(self, journal: Path, tables: TableFile) -> None:
        """Put the rows that are kept into a new live file."""
        for number, (kind, payload) in enumerate(read_journal(journal, JournalDamage())):
            if number >= self.n_records:
                return
            if kind is Kind.PICTURE:
                index, t_ns = PICTURE_HEAD.unpack_from(payload)
                tables.add_picture(index, t_ns, payload[PICTURE_HEAD.size :])
            elif kind is Kind.CLIP:
                tables.add_clip(payload)
            elif kind is Kind.MORPHOLOGY:
                tables.add_head(payload)
            elif kind in TABLE_OF:
                tables.add(TABLE_OF[kind], payload)


def look(journal: Path) -> Found | None:
    """What is in a journal; None where it is not one that can be gone on with (no session in it, or damaged inside)."""
    if not journal.is_file():
        return None
    damage = JournalDamage()
    found: Found | None = None
    ends: Counter[FrameStatus] = Counter()
    n_bytes = len(MAGIC)
    for number, (kind, payload) in enumerate(read_journal(journal, damage)):
        n_bytes += record_bytes(payload)
        if damage.corrupt_bytes or damage.lost_records:
            return None
        if kind is Kind.SESSION:
            head = json.loads(payload)
            found = Found(head["recording_id"], head["session"], n_records=1, n_bytes=n_bytes)
        elif found is None:
            return None
        elif kind is Kind.FRAME:
            for code in np.frombuffer(payload, TABLES["frames"])["status"].tolist():
                ends[STATUS_CODES[code]] += 1
        elif kind is Kind.WRITTEN:
            found.state, found.n_records, found.n_bytes = json.loads(payload), number + 1, n_bytes
            found.ends = Counter(ends)
        elif kind is Kind.FINISH:
            found.finished, found.state = True, json.loads(payload).get("bus", found.state)
    return found
