"""Two runs over the same recordings: which figures moved and by how much, and what of the settings differed.

Recordings are paired by their content (sha256), or by name where that is not known; of two runs of one recording each,
these two are a pair in any case. A figure's change is the mean
over pairs of second minus first, with Student's 95 % interval; it has *moved* where the interval leaves out zero (one
in twenty does by chance alone where nothing changed but noise).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from casa.batch.dataset import FIGURES, recording_row
from casa.batch.settings import differences, settings_of_session
from casa.batch.store import is_remote
from casa.errors import InputError
from casa.record import Recording

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Run:
    """A run: a row a recording, and the settings found in it (``None`` rows of settings where a row does not say)."""

    path: str
    rows: list[dict[str, Any]]
    settings: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Change:
    """A figure over ``n`` pairs: means, mean difference with its interval, and the pair that moved the most."""

    figure: str
    n: int
    first: float
    second: float
    difference: float
    interval: Interval | None
    n_changed: int
    most: tuple[str, float]

    @property
    def moved(self) -> bool:
        """Whether the interval leaves out zero; of one pair, whether it changed at all."""
        if self.interval is None:
            return self.difference != 0
        return self.interval[0] > 0 or self.interval[1] < 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """What ``compare`` found.

    Parameters
    ----------
    pairs : how many.
    alone : names of the only recordings of each run, where nothing else pairs them; ``differ``: their content is
        another, and not just unknown.
    settings : by dotted key the values of each run, in order of recordings.
    """

    pairs: int
    alone: tuple[str, str] | None
    differ: bool
    only_first: list[str]
    only_second: list[str]
    changes: list[Change]
    settings: dict[str, tuple[list[Any], list[Any]]]


def read_run(path: str) -> Run:
    """A run by the folder of a batch, its data set, or a recording (RUN.h5).

    Raises
    ------
    InputError : there is no such thing, or no recording is finished in it.
    """
    if not is_remote(path) and Path(path).is_file():
        row = recording_row(Path(path))
        with Recording(path) as recording:
            return Run(path, [row], [settings_of_session(recording.session)])
    import pyarrow.fs as pafs
    import pyarrow.parquet as pq

    fs, folder = _filesystem(path)
    for dataset in (f"{folder}/dataset", folder):
        found = fs.get_file_info(pafs.FileSelector(f"{dataset}/recordings", allow_not_found=True))
        names = sorted(one.path for one in found if one.path.endswith(".parquet"))
        if not names:
            continue
        rows: list[dict[str, Any]] = []
        for name in names:
            try:
                rows += pq.ParquetFile(name, filesystem=fs).read().to_pylist()
            except (OSError, ValueError) as error:
                raise InputError(f"{name}: is no table of recordings ({' '.join(str(error).split())[:160]})") from error
        if any("settings" not in row for row in rows):
            raise InputError(f"{dataset}: is no data set of casa batch (its recordings have no column settings)")
        about = {row["settings"]: _settings_of(fs, f"{dataset}/settings/{row['settings']}.json") for row in rows}
        return Run(path, rows, [about[row["settings"]] for row in rows])
    raise InputError(f"{path}: no recording, and no data set of `casa batch` with a finished one")


def _settings_of(fs: Any, path: str) -> dict[str, Any]:
    try:
        with fs.open_input_stream(path) as stream:
            return json.loads(stream.read())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read; it says what the recordings were analysed with") from error


def _filesystem(path: str) -> tuple[Any, str]:
    import pyarrow.fs as pafs

    if is_remote(path):
        from casa.batch.store import filesystem

        fs, inner = filesystem(path)
        return pafs.PyFileSystem(pafs.FSSpecHandler(fs)), inner.rstrip("/")
    local = Path(path.removeprefix("file://"))
    if not local.exists():
        raise InputError(f"{path}: no such file or folder")
    return pafs.LocalFileSystem(), str(local.absolute())


def compare(first: Run, second: Run) -> Comparison:
    """Compare two runs over the recordings that both have, or the only one of each.

    Raises
    ------
    InputError : they have none in common.
    """
    key = _key(first, second)
    one, two = (
        {row[key]: (row, about) for row, about in zip(run.rows, run.settings, strict=True)} for run in (first, second)
    )
    both, alone = [name for name in one if name in two], None
    if not both and len(one) == len(two) == 1:
        alone = first.rows[0]["recording"], second.rows[0]["recording"]
        two = dict(zip(one, two.values(), strict=True))
        both = list(one)
    if not both:
        raise InputError(f"{first.path} and {second.path} have no recording in common: nothing to compare")
    changes = []
    for figure in FIGURES:
        pairs = [(one[name][0], two[name][0]) for name in both]
        if (change := _change(figure, pairs)) is not None:
            changes.append(change)
    settings = _settings([(one[name][1], two[name][1]) for name in both])
    left, right = ([row["recording"] for name, (row, _) in s.items() if name not in both] for s in (one, two))
    return Comparison(len(both), alone, alone is not None and key == "sha256", left, right, changes, settings)


def _key(first: Run, second: Run) -> str:
    """By what recordings are told apart: their content where all know it and no two share it, else their name."""
    for run in (first, second):
        sums = [row.get("sha256") for row in run.rows]
        if None in sums or len(set(sums)) < len(sums):
            return "recording"
    return "sha256"


def _change(figure: str, pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> Change | None:
    """None where no pair has the figure on both sides."""
    found = [(a["recording"], a.get(figure), b.get(figure)) for a, b in pairs]
    known = [(name, float(a), float(b)) for name, a, b in found if a is not None and b is not None]
    known = [entry for entry in known if math.isfinite(entry[1]) and math.isfinite(entry[2])]
    if not known:
        return None
    a, b = (np.array([entry[side] for entry in known]) for side in (1, 2))
    d = b - a
    most = int(np.argmax(np.abs(d)))
    return Change(
        figure, len(known), float(a.mean()), float(b.mean()), float(d.mean()), _interval(d), int(np.count_nonzero(d)),
        (known[most][0], float(d[most])),
    )  # fmt: skip


def _interval(d: np.ndarray) -> Interval | None:
    """Student's 95 % interval of the mean of differences; None of a single one."""
    if len(d) < 2:
        return None
    from scipy.special import stdtrit

    half = float(stdtrit(len(d) - 1, 0.975)) * float(d.std(ddof=1)) / math.sqrt(len(d))
    return float(d.mean()) - half, float(d.mean()) + half


def _settings(pairs: list[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, tuple[list[Any], list[Any]]]:
    """What differs in any pair: the values that occur on each side."""
    found: dict[str, tuple[list[Any], list[Any]]] = {}
    seen = set()
    for first, second in pairs:
        both = json.dumps([first, second], sort_keys=True)
        if both in seen:
            continue
        seen.add(both)
        for key, values in differences(first, second).items():
            for side, value in zip(found.setdefault(key, ([], [])), values, strict=True):
                if value not in side:
                    side.append(value)
    return found
