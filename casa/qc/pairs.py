"""Pairs of results, a technician's and casa's, from a CSV file: ``sample,figure,technician,casa``, a line a pair.

Semicolons with decimal commas do too.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from casa.errors import InputError
from casa.types import FloatArray

#: Units by the end of a figure's name; values of percentages lie from 0 to 100.
_UNITS = {"_percent": "%", "_m_per_ml": "M/mL", "_um_s": "um/s", "_um": "um", "_hz": "Hz"}


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """The pairs of one figure: ``first`` (n,) by the reference method, ``second`` (n,) by the other."""

    figure: str
    first_name: str
    second_name: str
    samples: tuple[str, ...]
    first: FloatArray
    second: FloatArray

    @property
    def unit(self) -> str:
        """Unit by the figure's name, "" where it does not say."""
        return next((unit for end, unit in _UNITS.items() if self.figure.endswith(end)), "")

    @property
    def words(self) -> str:
        """The figure's name without its unit."""
        end = next((end for end in _UNITS if self.figure.endswith(end)), "")
        return self.figure.removesuffix(end).replace("_", " ")


def read_pairs(path: Path, first: str = "technician", second: str = "casa") -> list[Pairs]:
    """The pairs of a file, by figure in their order; without a column ``figure`` all are of one.

    Raises
    ------
    InputError : no such file, no CSV, a column missing, a value that is no number, a percentage outside 0 to 100, or a
        sample twice for one figure; the message names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            european = ";" in stream.readline()  # as spreadsheets write it where the comma is a decimal sign
            stream.seek(0)
            reader = csv.DictReader(stream, delimiter=";" if european else ",")
            rows = [(reader.line_num, row) for row in reader]
            columns = reader.fieldnames or []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({' '.join(str(error).split())})") from error
    for name in (first, second):
        if name not in columns:
            has = ", ".join(columns) or "nothing"
            raise InputError(f"{path}: has no column {name!r} (it has {has}); name the columns with --x and --y")
    groups: dict[str, list[tuple[str, float, float]]] = {}
    for number, row in rows:
        where = f"{path}: line {number}"
        if None in row:
            raise InputError(f"{where}: has more cells than the header; with decimal commas part columns by semicolons")
        figure = (row.get("figure") or "").strip() or path.stem
        group = groups.setdefault(figure, [])
        sample = (row.get("sample") or "").strip()
        if sample and any(sample == known for known, _, _ in group):
            raise InputError(f"{where}: sample {sample!r} is there already for {figure}; give one line a sample")
        texts = ((name, (row[name] or "").replace(",", ".") if european else row[name]) for name in (first, second))
        one, other = (_number(where, name, text, figure) for name, text in texts)
        group.append((sample, one, other))
    if not groups:
        raise InputError(f"{path}: has a header and no line; a line is a pair of results of one sample")
    return [
        Pairs(
            figure, first, second, tuple(sample for sample, _, _ in group),
            np.array([one for _, one, _ in group]), np.array([other for _, _, other in group]),
        )
        for figure, group in groups.items()
    ]  # fmt: skip


def _number(where: str, column: str, text: str | None, figure: str) -> float:
    try:
        value = float((text or "").strip())
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: {column}: expected a number, got {text!r}; leave out pairs that are not whole")
    if figure.endswith("_percent") and not 0 <= value <= 100:
        raise InputError(f"{where}: {column}: expected a percentage from 0 to 100, got {text!r}")
    return value
