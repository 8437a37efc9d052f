"""What is left to do: the recordings of a batch against the marks of those that are finished.

A finished recording has a mark, ``_casa/done/NAME.json``, written after all its results and never before. It names
the source as it was, the fingerprint of the settings (``dataset/settings/FINGERPRINT.json``), and the results with
their sizes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from casa.batch.content import content_sha256
from casa.batch.dataset import TABLES, check_columns
from casa.batch.inputs import Item
from casa.batch.moved import find_moved
from casa.batch.settings import canonical, differences, fingerprint, networks, settings_of
from casa.batch.store import TEMPORARY, Store, is_remote
from casa.calibrate.profile import load_profile
from casa.config import Config
from casa.errors import InputError
from casa.types import Calibration

DONE, SETTINGS, RECORDINGS, DATASET = "_casa/done", "dataset/settings", "recordings", "dataset"


@dataclass(frozen=True, slots=True)
class Job:
    """One recording's work, as it is handed to a worker: plain values, ready for JSON.

    ``config`` and ``calibration`` are those of ``casa.config.Config`` and ``casa.types.Calibration``.
    """

    item: Item
    store: str
    settings: str
    config: dict[str, Any]
    calibration: dict[str, Any] | None = None
    report: bool = False
    command: str = ""

    @property
    def recording(self) -> str:
        """What it is called."""
        return self.item.recording

    @classmethod
    def of(cls, data: dict[str, Any]) -> Job:
        """From ``asdict``."""
        return cls(item=Item(**data["item"]), **{name: value for name, value in data.items() if name != "item"})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a batch has before it.

    Parameters
    ----------
    jobs : what is to do. finished : the marks of what is finished already. calibrations : those used.
    others : how many finished recordings of earlier batches are in the data set, and were not given now.
    """

    jobs: list[Job]
    finished: list[dict[str, Any]]
    calibrations: list[Calibration]
    others: int


def results_of(recording: str, tables: Sequence[str] = TABLES) -> dict[str, str]:
    """Names of a recording's results in the store: its HDF5 file, its report, its file in each table."""
    files = {"recording": f"{RECORDINGS}/{recording}.h5", "report": f"{RECORDINGS}/{recording}.html"}
    return files | {table: f"{DATASET}/{table}/{recording}.parquet" for table in tables}


def mark_name(recording: str) -> str:
    """The name of a recording's mark in the store."""
    return f"{DONE}/{recording}.json"


def make_plan(
    items: Sequence[Item],
    store: Store,
    config: Config,
    calibration: str | None = None,
    *,
    force: bool = False,
    skip_duplicates: bool = False,
    report: bool = False,
    command: str = "",
    said: Callable[[str], None] = lambda _: None,
) -> Plan:
    """Compare recordings with what is finished; clear away what a crash left unfinished.

    Parameters
    ----------
    config : with backend and device resolved (``casa.batch.settings.resolved``).
    force : analyse again what is finished with other settings or another name, or has changed since.
    skip_duplicates : leave out a copy of what is finished and lies elsewhere.
    said : told, a line each, what is done again and why, what has moved, and what is left out.

    Raises
    ------
    InputError : what is finished was analysed with other settings, or has changed, and ``force`` is not given; or a
        copy of what is finished, and ``skip_duplicates`` is not given.
    """
    marks = read_marks(store)
    if not store.sizes(SETTINGS) and any(store.sizes(f) for f in (RECORDINGS, *(f"{DATASET}/{t}" for t in TABLES))):
        raise InputError(f"{store.root}: has a folder {RECORDINGS} or {DATASET} that no batch made; give another -o")
    present = _clear_unfinished(store, marks)
    items, moved = find_moved(items, marks, skip_duplicates, said)
    by_uri = {mark["uri"]: mark for mark in marks.values()} | moved
    items = _keep_names(items, by_uri, marks)
    profiles: dict[str | None, Calibration | None] = {None: None}
    used, known = networks(config), dict[str, dict[str, Any]]()
    alike: dict[tuple[float | None, str | None], tuple[str, dict[str, Any], dict[str, Any] | None]] = {}
    jobs, finished, other, lost = [], [], [], 0
    for item in items:
        check_columns(item)
        name = item.calibration or calibration
        if name not in profiles:
            profiles[name] = load_profile(name)  # type: ignore[arg-type]
        if (item.fps_hz, name) not in alike:  # a million recordings have few settings: each is kept once
            alike[item.fps_hz, name] = _alike(item, config, profiles[name], used, known)
        job = Job(item, store.root, *alike[item.fps_hz, name], report, command)
        mark = by_uri.get(item.uri)
        if mark is None:
            jobs.append(job)
        elif (
            mark["settings"] != job.settings
            or (mark["recording"], mark["columns"]) != (item.recording, item.columns)
            or not _unchanged(item, mark)
        ):
            other.append((job, mark))
        elif _damaged(mark, present):
            lost += 1
            _forget(store, mark)
            jobs.append(job)
        else:
            finished.append(mark)
    if other and not force:
        raise InputError(_why_other(store, other, known))
    for job, mark in other:
        _forget(store, mark)
        jobs.append(job)
    bare = [mark["recording"] for mark in finished if results_of(mark["recording"])["report"] not in present]
    if report and bare:
        said(f"{len(bare)} finished recordings have no report ({bare[0]} …); `casa report` writes one of a recording")
    _follow(store, [mark for mark in finished if mark["uri"] in moved], marks, said)
    if lost:
        said(f"results of {lost} finished recordings are missing or cut off: these are analysed again")
    for key, settings in known.items():
        store.write(f"{SETTINGS}/{key}.json", canonical(settings))
    # the longest first: no worker is left with one when the others have nothing to do any more
    jobs.sort(key=lambda job: -(job.item.n_bytes or 0))
    own = {by_uri[item.uri]["recording"] for item in items if item.uri in by_uri}
    return Plan(jobs, finished, [p for p in profiles.values() if p is not None], len(marks.keys() - own))


def read_marks(store: Store) -> dict[str, dict[str, Any]]:
    """The marks of finished recordings by name; one that cannot be read is none."""
    marks = {}
    for data in store.read_all(DONE, ".json").values():
        try:
            mark = json.loads(data)
        except ValueError:
            continue
        marks[mark["recording"]] = mark
    return marks


def _alike(
    item: Item, config: Config, calibration: Calibration | None, used: dict[str, Any], known: dict[str, dict[str, Any]]
) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
    """Fingerprint, configuration and calibration of recordings with the frame rate and scale of ``item``."""
    if item.fps_hz is not None:
        source = config.source.model_copy(update={"fps_hz": item.fps_hz})
        config = config.model_copy(update={"source": source})
    settings = settings_of(config, used, calibration)
    key = fingerprint(settings)
    known[key] = settings
    return key, config.model_dump(mode="json"), None if calibration is None else asdict(calibration)


def _keep_names(items: Sequence[Item], by_uri: dict[str, dict[str, Any]], marks: dict[str, Any]) -> list[Item]:
    """What was analysed before keeps its name, and gives it to nobody else; but for what a manifest says."""
    named, own = [], {by_uri[item.uri]["recording"] for item in items if item.uri in by_uri}
    for item in items:
        mark, name = by_uri.get(item.uri), item.recording
        if item.named and name in marks and name not in own:
            raise InputError(f"{item.uri}: {marks[name]['uri']} is finished as {name!r} here; give another name")
        if mark is not None and not item.named:
            name = mark["recording"]
        elif mark is None and not item.named and name in marks:
            name = f"{name}_{fingerprint({'uri': item.uri})[:8]}"
        named.append(replace(item, recording=name))
    counts = Counter(item.recording for item in named)
    twice = next((item for item in named if counts[item.recording] > 1), None)
    if twice is not None:
        raise InputError(f"{twice.uri}: another recording is called {twice.recording!r} here; name it in a manifest")
    return named


def _clear_unfinished(store: Store, marks: dict[str, Any]) -> dict[str, int]:
    """Remove results without a mark: no table is to have rows of a recording that is not finished.

    Gives the sizes of the others by name: one listing a folder, not one question a file.
    """
    present = {}
    for folder in (*(f"{DATASET}/{table}" for table in TABLES), RECORDINGS, DONE):
        for name, size in store.sizes(folder).items():
            stem, _, ending = name.rpartition(".")
            if name.endswith(TEMPORARY) or (
                folder != DONE and ending in ("parquet", "h5", "html") and stem not in marks
            ):
                store.remove(f"{folder}/{name}")
            elif folder != DONE:
                present[f"{folder}/{name}"] = size
    return present


def _damaged(mark: dict[str, Any], present: dict[str, int]) -> bool:
    """Whether results are missing or cut off; a report may have been written anew, with corrections."""
    return any(
        present.get(name) != size and not (name.endswith(".html") and name in present)
        for name, size in mark["results"].items()
    )


def _forget(store: Store, mark: dict[str, Any]) -> None:
    """Take a mark back, then its results."""
    store.remove(mark_name(mark["recording"]))
    for name in mark["results"]:
        store.remove(name)


def _follow(
    store: Store, moved: list[dict[str, Any]], marks: dict[str, dict[str, Any]], said: Callable[[str], None]
) -> None:
    """Write where finished recordings lie now into their marks."""
    for mark in moved:
        store.write(mark_name(mark["recording"]), json.dumps(mark, indent=1).encode())
    if moved:
        first = f"{marks[moved[0]['recording']]['uri']} is {moved[0]['uri']} now"
        more = f", and {len(moved) - 1} more" if len(moved) > 1 else ""
        said(f"finished recordings have moved and are not analysed again: {first}{more}")


def _unchanged(item: Item, mark: dict[str, Any]) -> bool:
    """Whether the source is what was analysed: by its stamp, or where that is another by its content."""
    if item.stamp == mark["stamp"]:
        return True
    same_size = item.n_bytes is not None and item.n_bytes == mark["n_bytes"]
    return same_size and not is_remote(item.uri) and content_sha256(Path(item.uri)) == mark["sha256"]


def _why_other(store: Store, other: list[tuple[Job, dict[str, Any]]], known: dict[str, dict[str, Any]]) -> str:
    """One line: what is finished differently, and how."""
    job, mark = other[0]
    if mark["settings"] != job.settings:
        before = json.loads(store.read(f"{SETTINGS}/{mark['settings']}.json") or b"{}")
        key, (old, new) = next(iter(differences(before, known[job.settings]).items()), ("settings", (None, None)))
        what = f"was analysed with other settings ({key}: {old} then, {new} now)"
    elif mark["recording"] != job.recording:
        what = f"is called {job.recording} in the manifest now"
    elif mark["columns"] != job.item.columns:
        what = "has other columns in the manifest now"
    else:
        what = "has changed since it was analysed"
    more = f", and {len(other) - 1} more" if len(other) > 1 else ""
    return f"{store.root}: {mark['recording']} {what}{more}; give another -o, or --force to analyse these again"
