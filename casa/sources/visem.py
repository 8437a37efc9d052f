"""The VISEM data set: 85 recordings of semen samples and what the clinic measured of the same men.

Layout (Haugen et al. 2019, doi:10.1145/3304109.3325814; Zenodo 2640506, CC BY-NC 4.0)::

    videos.csv                    ID;video
    videos/1_09.09.02_SSW.avi     the number before the first underscore is the ID
    semen_analysis_data.csv       participant_related_data.csv    sex_hormones.csv
    fatty_acids_serum.csv         fatty_acids_spermatoza.csv (spelt so)

The tables start with a byte order mark, part cells by semicolons and write decimal commas; the excerpts that come
with VISEM-Tracking (``…_Train.csv``) use commas and points. Both are read; what is neither a number nor empty is an
error, never a silent hole.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from casa.config import SourceConfig
from casa.errors import InputError
from casa.sources.video import VideoSource
from casa.types import FloatArray, IntArray

#: Clinical tables by the name casa gives them, and how their file names start.
CLINICAL_TABLES: Mapping[str, tuple[str, ...]] = {
    "semen_analysis": ("semen_analysis_data",),
    "participant": ("participant_related_data",),
    "sex_hormones": ("sex_hormones",),
    "fatty_acids_serum": ("fatty_acids_serum",),
    "fatty_acids_spermatozoa": ("fatty_acids_spermatoza", "fatty_acids_spermatozoa"),
}
_VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv")
_NO_VALUE = ("", "na", "n/a", "nan")


@dataclass(frozen=True, slots=True, eq=False)
class ClinicalTable:
    """One clinical table: a row a participant.

    Parameters
    ----------
    participant_id : (n,) int64, unique, in the file's order.
    columns : by the published header (which holds the unit), (n,) float64, NaN where nothing was measured.
    """

    participant_id: IntArray
    columns: Mapping[str, FloatArray]

    def __len__(self) -> int:
        return len(self.participant_id)

    def of(self, participant_id: int) -> dict[str, float]:
        """One participant's values by column; KeyError where the table does not have the participant."""
        rows = np.flatnonzero(self.participant_id == participant_id)
        if not len(rows):
            raise KeyError(participant_id)
        return {name: float(column[rows[0]]) for name, column in self.columns.items()}


@dataclass(frozen=True, slots=True, eq=False)
class VisemDataset:
    """What of VISEM is on this disk.

    Parameters
    ----------
    videos : path by participant ID; only what is there.
    missing_videos : IDs that ``videos.csv`` lists and the folder does not hold.
    clinical : the tables that are there, by the names of `CLINICAL_TABLES`.
    """

    root: Path
    videos: Mapping[int, Path]
    missing_videos: tuple[int, ...]
    clinical: Mapping[str, ClinicalTable]

    def open(self, participant_id: int, config: SourceConfig) -> VideoSource:
        """The participant's recording as a source; InputError where it is not there."""
        if participant_id not in self.videos:
            raise InputError(f"{self.root}: holds no video of participant {participant_id}")
        return VideoSource(self.videos[participant_id], config)


def read_visem(root: Path) -> VisemDataset:
    """Find recordings and clinical tables under a folder in VISEM's layout.

    Tables may lie anywhere beneath ``root``, and videos too; either may be absent, but not both.

    Raises
    ------
    InputError : no such folder, neither videos nor tables in it, two files for one thing, or a table that is wrong.
    """
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the one that holds VISEM's videos and tables")
    files = sorted(path for path in root.rglob("*") if path.is_file())
    tables = [path for path in files if path.suffix.lower() == ".csv"]
    clinical = {}
    for name, starts in CLINICAL_TABLES.items():
        # The exact name first: VISEM-Tracking's excerpts may lie beside the whole tables.
        found = [p for p in tables if p.stem in starts] or [p for p in tables if p.stem.startswith(starts)]
        if found:
            clinical[name] = read_clinical_table(_only(found, f"{name} table"))
    by_name = _videos_by_name(path for path in files if path.suffix.lower() in _VIDEO_SUFFIXES)
    lists = [path for path in tables if path.stem == "videos"]
    if lists:
        listed = read_video_list(_only(lists, "list of videos"))
        videos = {number: by_name[name] for number, name in listed.items() if name in by_name}
        missing = tuple(sorted(set(listed) - set(videos)))
    else:
        videos, missing = _videos_by_number(by_name), ()
    if not videos and not clinical:
        raise InputError(f"{root}: holds neither videos nor tables of VISEM (semen_analysis_data.csv, …)")
    return VisemDataset(root, dict(sorted(videos.items())), missing, clinical)


def read_clinical_table(path: Path) -> ClinicalTable:
    """Read one clinical table, with semicolons and decimal commas or with commas and points.

    Raises
    ------
    InputError : unreadable, empty, no ID column, an ID twice or not whole, a row of another length, or a cell that is
        no number; the message names the line.
    """
    header, rows = _read_rows(path)
    at = _id_column(path, header)
    names = [name for position, name in enumerate(header) if position != at]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: the column {twice!r} is there twice")
    ids: list[int] = []
    values: list[list[float]] = []
    for line, row in rows:
        number = _whole_number(path, line, row[at])
        if number in ids:
            raise InputError(f"{path}:{line}: participant {number} is there twice")
        ids.append(number)
        values.append([_number(path, line, header[k], cell) for k, cell in enumerate(row) if k != at])
    table = np.array(values, np.float64).reshape(len(ids), len(names))
    return ClinicalTable(np.array(ids, np.int64), {name: table[:, k] for k, name in enumerate(names)})


def read_video_list(path: Path) -> dict[int, str]:
    """File name by participant ID, from ``videos.csv``; InputError where it is wrong."""
    header, rows = _read_rows(path)
    at = _id_column(path, header)
    if len(header) != 2:
        raise InputError(f"{path}: expected two columns, ID and video, got {', '.join(header)}")
    names: dict[int, str] = {}
    for line, row in rows:
        number = _whole_number(path, line, row[at])
        if number in names:
            raise InputError(f"{path}:{line}: participant {number} is there twice")
        names[number] = row[1 - at].strip()
    return names


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header and the (line number, cells) of a table; lines without any value are left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a UTF-8 text table ({error.reason} at byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not text.strip():
        raise InputError(f"{path}: the table is empty; expected a header line with ID")
    first = text.lstrip().splitlines()[0]
    reader = csv.reader(io.StringIO(text), delimiter=";" if ";" in first else ",")
    lines = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    header = [name.strip() for name in lines[0][1]]
    for line, row in lines[1:]:
        if len(row) != len(header):
            raise InputError(f"{path}:{line}: expected {len(header)} values, got {len(row)}")
    return header, lines[1:]


def _id_column(path: Path, header: list[str]) -> int:
    for position, name in enumerate(header):
        if name.lower() == "id":
            return position
    raise InputError(f"{path}: the column ID is missing; the header has {', '.join(header)}")


def _whole_number(path: Path, line: int, cell: str) -> int:
    if not cell.strip().isdecimal():
        raise InputError(f"{path}:{line}: the ID must be a whole number, got {cell.strip()!r}")
    return int(cell)


def _number(path: Path, line: int, column: str, cell: str) -> float:
    """A cell's value; a comma is a decimal comma, since where commas part cells they cannot be inside one."""
    text = cell.strip()
    if text.lower() in _NO_VALUE:
        return math.nan
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path}:{line}: {column}: expected a number or nothing, got {text!r}")
    return value


def _only(found: list[Path], what: str) -> Path:
    if len(found) > 1:
        raise InputError(f"{found[0]}: there is a second {what}, {found[1]}; keep one of them in the folder")
    return found[0]


def _videos_by_name(paths: Iterable[Path]) -> dict[str, Path]:
    by_name: dict[str, Path] = {}
    for path in paths:
        if path.name in by_name:
            raise InputError(f"{path}: there is a second video of this name, {by_name[path.name]}; keep one of them")
        by_name[path.name] = path
    return by_name


def _videos_by_number(by_name: Mapping[str, Path]) -> dict[int, Path]:
    """Videos by the number that starts their names, where no list says whose they are."""
    videos: dict[int, Path] = {}
    for path in by_name.values():
        number = path.stem.split("_")[0]
        if not number.isdecimal():
            continue
        if int(number) in videos:
            raise InputError(f"{path}: participant {number} has a second video, {videos[int(number)]}; add videos.csv")
        videos[int(number)] = path
    return videos
