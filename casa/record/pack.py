"""From a journal to the finished, compressed file: the one way a recording is completed, after a crash as ever."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError
from casa.record.hdf5 import TableFile, json_text
from casa.record.journal import PICTURE_HEAD, JournalDamage, Kind, read_journal
from casa.record.schema import STATUS_CODES, TABLES, frame_row
from casa.types import FrameAccount, FrameStatus

TABLE_OF = {
    Kind.FRAME: "frames",
    Kind.DETECTIONS: "detections",
    Kind.TRACKS: "tracks",
    Kind.KINEMATICS: "kinematics",
    Kind.EVENT: "events",
    Kind.VIDEO: "video",
    Kind.GRADE: "grades",
}
#: Rows that belong to a frame whose end is to come.
_OF_FRAMES = (Kind.DETECTIONS, Kind.TRACKS)
#: The reason of a frame that was under way when the recording broke off.
BROKEN_OFF = "under way when the recording broke off"


@dataclass(slots=True)
class Packed:
    """What a journal held."""

    recording_id: str = ""
    status: str = "interrupted"
    account: FrameAccount = field(default_factory=FrameAccount)
    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TABLES, 0))
    finished: bool = False
    damage: JournalDamage = field(default_factory=JournalDamage)


class _FrameCount:
    """Counts frame ends, and which frames have rows but no end."""

    def __init__(self) -> None:
        self.ended: dict[FrameStatus, int] = dict.fromkeys(FrameStatus, 0)
        self._keys: set[tuple[int, int]] = set()
        self._open: dict[tuple[int, int], int] = {}

    def end(self, rows: NDArray[Any]) -> None:
        for row in rows:
            key = (int(row["frame"]), int(row["field"]))
            self._keys.add(key)
            self._open.pop(key, None)
            self.ended[STATUS_CODES[row["status"]]] += 1

    def see(self, rows: NDArray[Any]) -> None:
        if len(rows):
            key = (int(rows[0]["frame"]), int(rows[0]["field"]))
            if key not in self._keys:
                self._open[key] = int(rows[0]["t_ns"])

    def rest(self) -> list[NDArray[Any]]:
        return [
            frame_row(index, number, t_ns, FrameStatus.FAILED, BROKEN_OFF)
            for (index, number), t_ns in sorted(self._open.items())
        ]

    def account(self) -> FrameAccount:
        counts = {str(status): n for status, n in self.ended.items()}
        return FrameAccount(captured=sum(counts.values()), **counts)


def _rows(journal: Path, kind: Kind, payload: bytes) -> NDArray[Any]:
    row = TABLES[TABLE_OF[kind]]
    if len(payload) % row.itemsize:
        raise InputError(f"{journal}: its rows are not those of this version of casa; recover it with the one it is of")
    return np.frombuffer(payload, row)


def pack(
    journal: Path, target: Path, *, recovered_utc: str | None = None, on_record: Callable[[], None] = lambda: None
) -> Packed:
    """Write ``target`` from ``journal``, synced; ``target`` must not exist and is removed where it fails.

    Frames that have rows but no end (nobody said what became of them) are given the end *failed*, so that the
    account balances, when the journal has no end either. ``recovered_utc`` marks the file as recovered, with what was
    lost.

    Raises
    ------
    InputError : no journal, or one of another version. OSError, RuntimeError : it cannot be written.
    """
    packed, frames, closing = Packed(), _FrameCount(), {}
    tables = TableFile(target, {"status": "interrupted", "recording_id": "", "session": "{}"}, live=False)
    try:
        for kind, payload in read_journal(journal, packed.damage):
            on_record()
            if kind is Kind.SESSION:
                head = json.loads(payload)
                packed.recording_id = head["recording_id"]
                tables.set_attributes({"recording_id": head["recording_id"], "session": json_text(head["session"])})
            elif kind is Kind.FINISH:
                closing = json.loads(payload)
            elif kind is Kind.WRITTEN:
                continue
            elif kind is Kind.PICTURE:
                index, t_ns = PICTURE_HEAD.unpack_from(payload)
                tables.add_picture(index, t_ns, payload[PICTURE_HEAD.size :])
                packed.rows["pictures"] += 1
            elif kind is Kind.CLIP:
                tables.add_clip(payload)
                packed.rows["clips"] += 1
            elif kind is Kind.MORPHOLOGY:
                tables.add_head(payload)
                packed.rows["morphology"] += 1
            else:
                rows = _rows(journal, kind, payload)
                tables.add(TABLE_OF[kind], payload)
                packed.rows[TABLE_OF[kind]] += len(rows)
                if kind is Kind.FRAME:
                    frames.end(rows)
                elif kind in _OF_FRAMES:
                    frames.see(rows)
        if not packed.recording_id and not any(packed.rows.values()):
            raise InputError(f"{journal}: holds nothing that could be recovered; delete it")
        packed.finished = bool(closing)
        if not closing:
            for row in frames.rest():
                tables.add("frames", row.tobytes())
                frames.end(row)
                packed.rows["frames"] += 1
            closing = {"status": "interrupted", "account": asdict(frames.account()), "summary": None, "latency": None}
        packed.status, packed.account = closing["status"], FrameAccount(**closing["account"])
        tables.set_attributes(
            {name: closing[name] if name == "status" else json_text(closing[name]) for name in closing}
        )
        if recovered_utc is not None:
            lost = asdict(packed.damage) | {"recovered_utc": recovered_utc, "finished": packed.finished}
            tables.set_attributes({"recovered": json_text(lost)})
        tables.close()
        with target.open("rb+") as stream:
            os.fsync(stream.fileno())
    except BaseException:
        tables.abandon()
        target.unlink(missing_ok=True)
        raise
    return packed
