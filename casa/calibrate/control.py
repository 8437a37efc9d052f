"""Quality control over days: a log of bead counts, Westgard's rules, and the Levey-Jennings chart.

The log is a CSV file with a line a day: ``date,concentration,low,high,certified,sd,count,profile`` (M/mL; ``sd`` is
what one count is expected to scatter by about the certified value).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path

from casa.errors import CasaError, InputError


@dataclass(frozen=True, slots=True)
class ControlDay:
    """One count of a control: date as YYYY-MM-DD; concentrations in M/mL; low, high: 95 % interval of this count."""

    date: str
    concentration: float
    low: float
    high: float
    certified: float
    sd: float
    count: int
    profile: str = ""

    @property
    def deviation_sd(self) -> float:
        """How far from the certified value, in sd."""
        return (self.concentration - self.certified) / self.sd


_COLUMNS = tuple(f.name for f in fields(ControlDay))


def read_log(path: Path) -> list[ControlDay]:
    """The days of a log, in order; empty where there is no such file yet.

    Raises
    ------
    InputError : it is no such log; the message names the line.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({' '.join(str(error).split())})") from error
    days = []
    for number, row in enumerate(rows, start=2):
        try:
            date.fromisoformat(row["date"])
            values = {name: float(row[name]) for name in _COLUMNS[1:6]}
            day = ControlDay(date=row["date"], count=int(row["count"]), profile=row.get("profile") or "", **values)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: line {number}: expected {','.join(_COLUMNS)}") from error
        if not day.sd > 0:
            raise InputError(f"{path}: line {number}: sd: expected a positive number, got {day.sd:g}")
        days.append(day)
    return days


def append_log(path: Path, day: ControlDay) -> None:
    """Add a day to a log, which is made where there is none. CasaError: it cannot be written."""
    new = not path.exists() or path.stat().st_size == 0
    try:
        with path.open("a", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            if new:
                writer.writerow(_COLUMNS)
            values = (getattr(day, name) for name in _COLUMNS)
            writer.writerow([f"{value:.6g}" if isinstance(value, float) else value for value in values])
    except OSError as error:
        raise CasaError(f"{path}: cannot be written ({error.strerror or error})") from error


def westgard(deviations_sd: Sequence[float]) -> list[str]:
    """What Westgard's rules say of each day, from deviations in sd: "", "1-2s" (look), "1-3s" or "2-2s" (reject).

    1-3s: beyond 3 sd. 2-2s: this one and the one before beyond 2 sd on the same side. 1-2s: beyond 2 sd, a warning.
    """
    said = []
    for i, one in enumerate(deviations_sd):
        before = deviations_sd[i - 1] if i else 0.0
        if abs(one) > 3:
            said.append("1-3s")
        elif abs(one) > 2 and abs(before) > 2 and one * before > 0:
            said.append("2-2s")
        else:
            said.append("1-2s" if abs(one) > 2 else "")
    return said


#: Rules that put a day out of control; 1-2s alone asks for a second look.
REJECTING = ("1-3s", "2-2s")
