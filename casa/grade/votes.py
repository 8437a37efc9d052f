"""Experts' votes on clips: the files they are kept in, and how well experts agree.

A folder of clips holds its votes as ``votes.csv``, with a row a clip (``clip,A,B,C,D,E``, counts; a column ``total`` is
checked) or a row a vote (``clip,expert,grade``), and as ``votes/EXPERT.csv`` (``clip,grade``), which ``casa grade
annotate`` writes. Plain NumPy, no pictures.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from casa.cells import EXPERT_GRADES
from casa.errors import InputError
from casa.types import FloatArray, IntArray

VOTES_FILE, VOTES_FOLDER = "votes.csv", "votes"
NO_VOTE = -1


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """Votes on n clips. counts (n, 5). experts : names, none where only counts are known; grades (n, experts) int64, 0
    (A) to 4 (E), `NO_VOTE` where an expert gave none.
    """

    counts: IntArray
    experts: tuple[str, ...]
    grades: IntArray


def read_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV with a header, with their line numbers; cells stripped.

    Raises
    ------
    InputError : not a text table, no header, a required column is missing, or a row has too few or many cells.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            lines = csv.reader(stream)
            names = [name.strip() for name in next(lines, [])]
            missing = [name for name in required if name not in names]
            if missing:
                raise InputError(
                    f"{path}: column {', '.join(missing)} is missing; the header is {','.join(names)!r}"
                    + ("; save it with commas between cells" if any(mark in "".join(names) for mark in ";\t") else "")
                )
            for row in lines:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) != len(names):
                    raise InputError(f"{path}:{lines.line_num}: expected {len(names)} cells, got {len(row)}")
                yield lines.line_num, dict(zip(names, (cell.strip() for cell in row), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a text table ({error}); save it as CSV, UTF-8") from error


def grade_of(text: str, where: str) -> int:
    """0 for A to 4 for E; raises InputError for anything else."""
    if text.upper() not in EXPERT_GRADES:
        raise InputError(f"{where}: grade {text!r}; expected one of {', '.join(EXPERT_GRADES)}")
    return EXPERT_GRADES.index(text.upper())


def rows_by_clip(ids: IntArray) -> dict[int, int]:
    """Row of each clip by its number."""
    return {number: row for row, number in enumerate(np.asarray(ids).tolist())}


def clip_row(rows: dict[int, int], clip: str, where: str) -> int:
    """Row of a clip as a table names it: by its number, with leading zeros or without.

    Raises
    ------
    InputError : the folder has no such clip.
    """
    row = rows.get(int(clip)) if clip.isdecimal() else None
    if row is None:
        raise InputError(f"{where}: clip {clip!r} is not in the folder; remove the row or add the clip")
    return row


def read_votes(folder: Path, ids: IntArray, n_experts: int | None = None, complete: bool = True) -> Votes:
    """Votes of a folder on the clips ``ids``, in their order.

    Parameters
    ----------
    n_experts : votes that each clip must have; None: any number.
    complete : every clip must have a vote.

    Raises
    ------
    InputError : no votes at all, unknown clips, grades or counts; negative counts; a second vote of an expert on a
        clip; counts that do not sum; clips without votes; counts and single votes side by side.
    """
    rows = rows_by_clip(ids)
    table, files = folder / VOTES_FILE, expert_files(folder)
    if not table.is_file() and not files:
        raise InputError(
            f"{folder}: has no votes: expected {VOTES_FILE} or {VOTES_FOLDER}/EXPERT.csv; see docs/grade-data.md, or "
            f"collect some with `casa grade annotate`"
        )
    single: dict[tuple[int, str], int] = {}
    if table.is_file():
        header = table_header(table)
        if "expert" not in header:
            if files:
                raise InputError(f"{folder}: counts in {VOTES_FILE} and single votes in {VOTES_FOLDER}/: move one away")
            return _checked(folder, ids, Votes(_read_counts(table, rows), (), np.empty((len(ids), 0), np.int64)),
                            n_experts, complete)  # fmt: skip
        for line, row in read_rows(table, ("clip", "expert", "grade")):
            _add(single, rows, row["clip"], row["expert"], row["grade"], f"{table}:{line}")
    for path in files:
        for clip, grade in read_expert(path).items():
            _add(single, rows, clip, path.stem, EXPERT_GRADES[grade], str(path))
    experts = sorted({expert for _, expert in single})
    grades = np.full((len(ids), len(experts)), NO_VOTE, np.int64)
    for (row, expert), grade in single.items():
        grades[row, experts.index(expert)] = grade
    counts = np.stack([(grades == k).sum(axis=1) for k in range(len(EXPERT_GRADES))], axis=1).astype(np.int64)
    return _checked(folder, ids, Votes(counts, tuple(experts), grades), n_experts, complete)


def expert_files(folder: Path) -> list[Path]:
    """The files of single experts, by name."""
    return sorted((folder / VOTES_FOLDER).glob("*.csv"))


def read_expert(path: Path) -> dict[str, int]:
    """Grades (0 to 4) by clip of one expert's file, in the order they were given."""
    given: dict[str, int] = {}
    for line, row in read_rows(path, ("clip", "grade")):
        if row["clip"] in given:
            raise InputError(f"{path}:{line}: clip {row['clip']!r} has two votes of this expert; keep one")
        given[row["clip"]] = grade_of(row["grade"], f"{path}:{line}")
    return given


def write_counts(path: Path, ids: IntArray, counts: IntArray) -> None:
    """Write ``votes.csv`` with a row a clip."""
    with open(path, "w", encoding="utf-8", newline="") as stream:
        stream.write(",".join(("clip", *EXPERT_GRADES)) + "\n")
        for number, row in zip(np.asarray(ids).tolist(), counts.tolist(), strict=True):
            stream.write(",".join(map(str, (number, *row))) + "\n")


def table_header(path: Path) -> list[str]:
    """Names of a table's columns; InputError where it is none."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            return [name.strip() for name in next(csv.reader(stream), [])]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a text table ({error}); save it as CSV, UTF-8") from error


def _add(
    single: dict[tuple[int, str], int], rows: dict[int, int], clip: str, expert: str, grade: str, where: str
) -> None:
    if not expert:
        raise InputError(f"{where}: the expert's name is empty")
    key = clip_row(rows, clip, where), expert
    if key in single:
        raise InputError(f"{where}: clip {clip!r} has two votes of expert {expert!r}; keep one")
    single[key] = grade_of(grade, where)


def _read_counts(path: Path, rows: dict[int, int]) -> IntArray:
    counts = np.full((len(rows), len(EXPERT_GRADES)), -1, np.int64)
    for line, row in read_rows(path, ("clip", *EXPERT_GRADES)):
        where = f"{path}:{line}"
        at = clip_row(rows, row["clip"], where)
        if counts[at, 0] >= 0:
            raise InputError(f"{where}: clip {row['clip']!r} has two rows of counts; keep one")
        for k, grade in enumerate(EXPERT_GRADES):
            counts[at, k] = _count(row[grade], f"{where}: count of {grade}")
        if row.get("total") and _count(row["total"], f"{where}: total") != counts[at].sum():
            raise InputError(f"{where}: the votes sum to {counts[at].sum()}, the total says {row['total']}")
    return np.maximum(counts, 0)


def _count(text: str, what: str) -> int:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not (0 <= value <= 1e9 and value == int(value)):
        raise InputError(f"{what} is {text!r}; expected the number of experts, 0 or more (counts, not shares)")
    return int(value)


def _checked(folder: Path, ids: IntArray, votes: Votes, n_experts: int | None, complete: bool) -> Votes:
    totals: IntArray = votes.counts.sum(axis=1)
    without = np.flatnonzero(totals == 0)
    if not totals.any():
        raise InputError(f"{folder}: its tables of votes hold none; collect some with `casa grade annotate`")
    if complete and len(without):
        raise InputError(
            f"{folder}: {named(np.asarray(ids)[without].tolist())} no votes; collect them, or move the clips away"
        )
    wrong = [] if n_experts is None else np.flatnonzero(totals != n_experts).tolist()
    if wrong:
        raise InputError(
            f"{folder}: clip {ids[wrong[0]]} has votes that sum to {totals[wrong[0]]}, expected {n_experts} experts"
            + (f" ({len(wrong)} clips do not)" if len(wrong) > 1 else "")
        )
    return votes


def named(ids: list[int]) -> str:
    """``clip 1 has``, or ``clips 1, 2, 3 and 5 more have``."""
    if len(ids) == 1:
        return f"clip {ids[0]} has"
    more = f" and {len(ids) - 3} more" if len(ids) > 3 else ""
    return f"clips {', '.join(map(str, ids[:3]))}{more} have"


# agreement


@dataclass(frozen=True, slots=True)
class ExpertAgreement:
    """One expert against the others: clips voted on, share of them on which the others' most frequent grade was the
    same, mean difference to the others' mean grade (grades; positive: severer), votes by grade (5,).
    """

    clips: int
    as_others: float
    severity: float
    counts: tuple[int, ...]


def expert_agreement(votes: Votes) -> dict[str, ExpertAgreement]:
    """How each expert votes against the others; where the others tie, any of their grades is theirs."""
    found = {}
    for column, name in enumerate(votes.experts):
        own = votes.grades[:, column]
        voted = own != NO_VOTE
        others = votes.counts[voted].copy()
        others[np.arange(len(others)), own[voted]] -= 1
        shared = others.sum(axis=1) > 0
        mine, others = own[voted][shared], others[shared].astype(np.float64)
        same = others[np.arange(len(mine)), mine] == others.max(axis=1, initial=0)
        mean = others @ np.arange(len(EXPERT_GRADES)) / others.sum(axis=1)
        nan = float("nan")
        found[name] = ExpertAgreement(
            clips=int(voted.sum()),
            as_others=float(same.mean()) if len(mine) else nan,
            severity=float((mine - mean).mean()) if len(mine) else nan,
            counts=tuple(int((own == k).sum()) for k in range(len(EXPERT_GRADES))),
        )
    return found


def shares(counts: IntArray) -> FloatArray:
    """(n, 5) distributions of the votes; every clip must have one."""
    return counts / counts.sum(axis=1, keepdims=True)
