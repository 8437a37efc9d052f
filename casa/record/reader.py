"""Reading recordings, finished ones and those that are still being written."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from casa.cells import MAX_CLASSES, GradeTable, MorphologyTable
from casa.errors import InputError
from casa.record.clips import KeptClip, kept_clip
from casa.record.files import RecordingFiles
from casa.record.hdf5 import COMMITTED
from casa.record.heads import head_pictures
from casa.record.png import decode_png
from casa.record.schema import (
    ADDED_TABLES,
    CLIP_BYTES,
    FORMAT,
    FORMAT_VERSION,
    HEAD_BYTES,
    LEVELS,
    PNG_BYTES,
    STATUS_CODES,
    TABLES,
)
from casa.types import (
    Calibration,
    DetectionTable,
    FrameAccount,
    IntArray,
    KinematicsTable,
    SourceInfo,
    Summary,
    TrackTable,
)

_NO_IDS = np.empty(0, np.int64)
_DAMAGED = (OSError, RuntimeError, KeyError, ValueError, TypeError, json.JSONDecodeError)


class Recording:
    """A recording, open for reading; a context manager.

    Give it ``RUN.h5``, or ``RUN.h5.partial`` while a session runs (also from another process): each call then gives
    what is there by now, up to half a second ago.

    Raises
    ------
    InputError : missing, empty, unfinished (says ``casa recover``), no recording, of a newer version, or damaged;
        damage inside of a table is told when that table is read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        _check_readable(self.path)
        self._file = _open_file(self.path)
        try:
            with self._reading("its head"):
                if self._file.attrs.get("format") != FORMAT:
                    raise InputError(f"{self.path}: an HDF5 file, but no recording of casa")
                version = int(self._file.attrs["format_version"])  # type: ignore[arg-type]
                if version > FORMAT_VERSION:
                    raise InputError(
                        f"{self.path}: is of format {version}, and this casa reads up to {FORMAT_VERSION}: update casa"
                    )
                self.status: str = str(self._file.attrs["status"])
                self.recording_id: str = str(self._file.attrs["recording_id"])
                self.session: dict[str, Any] = self._json("session")
                for table, row in TABLES.items():
                    if table in ADDED_TABLES and table not in self._file:
                        continue
                    for column in row.names or ():
                        self._dataset(f"{table}/{column}")
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def account(self) -> FrameAccount:
        """The account of frames; of those ended so far, while the recording is written."""
        with self._reading("account"):
            if "account" in self._file.attrs:
                return FrameAccount(**self._json("account"))
            codes = self._column("frames", "status", self._n_rows("frames"))
            counts = {str(status): int((codes == code).sum()) for code, status in enumerate(STATUS_CODES)}
            return FrameAccount(captured=len(codes), **counts)

    @property
    def recovered(self) -> dict[str, Any] | None:
        """What ``casa recover`` could not get back, where the recording is a recovered one."""
        with self._reading("recovered"):
            return self._json("recovered") if "recovered" in self._file.attrs else None

    @property
    def latency(self) -> dict[str, Any] | None:
        """Latencies as the engine gave them."""
        with self._reading("latency"):
            return self._json("latency") if "latency" in self._file.attrs else None

    @property
    def tracking(self) -> dict[str, int] | None:
        """What the tracker saw, refused and corrected; None where the recording does not say."""
        with self._reading("tracking"):
            return self._json("tracking") if "tracking" in self._file.attrs else None

    @property
    def grading(self) -> dict[str, Any] | None:
        """What became of the clips that were to be graded, by name; None where grading was off."""
        with self._reading("grading"):
            return self._json("grading") if "grading" in self._file.attrs else None

    @property
    def examining(self) -> dict[str, Any] | None:
        """What became of the clips whose heads were to be examined, by name; None where morphology was off."""
        with self._reading("examining"):
            return self._json("examining") if "examining" in self._file.attrs else None

    @property
    def bus(self) -> dict[str, Any] | None:
        """Messages sent to, left out for and written by the recorder of a live session, by type."""
        with self._reading("bus"):
            return self._json("bus") if "bus" in self._file.attrs else None

    @property
    def calibration(self) -> Calibration | None:
        """The calibration of the session; None where there was none."""
        value = self.session.get("calibration")
        with self._reading("calibration"):
            return None if value is None else Calibration(**_known(Calibration, value))

    @property
    def source(self) -> SourceInfo:
        """What was analysed."""
        with self._reading("source"):
            return SourceInfo(**_known(SourceInfo, self.session["source"]))

    def summary(self) -> Summary | None:
        """The figures of the field; None while it is written, or where it broke off."""
        with self._reading("summary"):
            value = self._json("summary") if "summary" in self._file.attrs else None
            if value is None:
                return None
            value = _known(Summary, value)
            drift = value.get("drift_px_s")
            value["drift_px_s"] = None if drift is None else (float(drift[0]), float(drift[1]))
            value["flags"] = tuple(value.get("flags", ()))
            return Summary(**value)

    def frames(self) -> dict[str, NDArray[Any]]:
        """Frame ends by time: frame, field, t_ns (n,) int64; status, reason (n,) str."""
        with self._reading("frames"):
            c = self._columns("frames")
            names = np.array([str(status) for status in STATUS_CODES])
            reasons = np.char.decode(c["reason"], "utf-8") if len(c["frame"]) else np.empty(0, "U1")
            columns = {
                "frame": c["frame"].astype(np.int64),
                "field": c["field"].astype(np.int64),
                "t_ns": c["t_ns"].astype(np.int64),
                "status": names[c["status"]],
                "reason": reasons,
            }
        order = np.lexsort((columns["field"], columns["frame"], columns["t_ns"]))
        return {name: column[order] for name, column in columns.items()}

    def detections(self, frames: slice | None = None) -> DetectionTable:
        """Detections sorted by time and frame; ``frames`` (start and stop) chooses frame numbers."""
        with self._reading("detections"):
            c = self._columns("detections", frames)
            table = DetectionTable(**_when(c), **_boxes(c), confidence=c["confidence"], class_id=c["class_id"])
        return _sorted(table, table.field, table.frame, table.t_ns)

    def tracks(self, frames: slice | None = None) -> TrackTable:
        """Tracks sorted by time, frame and track id; ``frames`` (start and stop) chooses frame numbers."""
        with self._reading("tracks"):
            c = self._columns("tracks", frames)
            table = TrackTable(
                **_when(c),
                track_id=c["track_id"],
                **_boxes(c),
                x_measured_px=c["x_measured_px"],
                y_measured_px=c["y_measured_px"],
                confidence=c["confidence"],
                predicted=c["predicted"] != 0,
            )
        return _sorted(table, table.track_id, table.field, table.frame, table.t_ns)

    def kinematics(self) -> KinematicsTable:
        """Kinematics of the tracks that have ended, sorted by track id."""
        with self._reading("kinematics"):
            c = self._columns("kinematics")
            c["motility_grade"] = c["motility_grade"].astype("U1")
            table = KinematicsTable(**c)
        return _sorted(table, table.track_id)

    def events(self) -> list[dict[str, Any]]:
        """What happened in a live session, in order: t_ns, frame (-1 before the first), level, kind, text, utc."""
        with self._reading("events"):
            c = self._columns("events")
            rows = zip(*(c[name].tolist() for name in TABLES["events"].names or ()), strict=True)
            names = TABLES["events"].names or ()
            found = [dict(zip(names, row, strict=True)) for row in rows]
            for event in found:
                event["level"] = LEVELS[event["level"]]
                event |= {name: event[name].decode("utf-8") for name in ("kind", "text", "utc")}
            return found

    def video(self) -> dict[str, NDArray[Any]]:
        """Where each frame is in the video beside the recording: frame, field, t_ns, part, video_frame (n,) int64."""
        with self._reading("video"):
            return {name: column.astype(np.int64) for name, column in self._columns("video").items()}

    @property
    def video_files(self) -> dict[int, Path]:
        """The files of ``video`` by part, beside the recording; empty where no video was kept."""
        with self._reading("video"):
            kept = self._json("video") if "video" in self._file.attrs else None
            return {
                int(part): self.path.parent / Path(name).name for part, name in (kept or {"files": {}})["files"].items()
            }

    def grades(self) -> GradeTable:
        """Expert grades that a network gave, in the order of clip ids; no rows where nothing was graded."""
        with self._reading("grades"):
            c = self._columns("grades")
            table = GradeTable(**c)
        return _sorted(table, table.clip_id)

    def morphology(self) -> MorphologyTable:
        """Forms of heads, a row a clip in the order of clip ids (``by_track`` joins them); no rows where it was off."""
        with self._reading("morphology"):
            c = self._columns("morphology")
            names = self._class_names(c["distribution"])
            columns = {name: c[name] for name in MorphologyTable.empty().columns()}
            columns |= {
                "reason": np.char.decode(c["reason"], "utf-8") if len(c["reason"]) else np.empty(0, "U1"),
                "in_domain": c["in_domain"] != 0,
                "distribution": c["distribution"][:, : len(names)],
            }
            table = MorphologyTable(**columns, class_names=names)
        return _sorted(table, table.clip_id)

    def _class_names(self, distribution: NDArray[Any]) -> tuple[str, ...]:
        """The classes as the session names them; where it does not, numbers of those that have chances."""
        told = (self.session.get("morphology_model") or {}).get("class_names")
        if told:
            return tuple(map(str, told[:MAX_CLASSES]))
        return tuple(f"class {k + 1}" for k in range(int(np.isfinite(distribution).any(axis=0).sum())))

    def head_pictures(self, clip_ids: Sequence[int]) -> dict[int, tuple[NDArray[Any], NDArray[np.uint8] | None]]:
        """Crop and heat map (None where it has none) of the heads in these clips, by clip, of those that are kept."""
        with self._reading("morphology"):
            n, found = self._n_rows("morphology"), {}
            ids, lengths = (self._column("morphology", name, n) if n else _NO_IDS for name in ("clip_id", "length"))
            for i in np.flatnonzero(np.isin(ids, list(clip_ids)) & (lengths > 0)).tolist():
                start, maps = (int(self._column("morphology", name, i + 1, i)[0]) for name in ("offset", "map_length"))
                data = self._column(HEAD_BYTES, None, start + int(lengths[i]) + maps, start).tobytes()
                found[int(ids[i])] = head_pictures(data, int(lengths[i]))
            return found

    @property
    def clip_tracks(self) -> IntArray:
        """(n,) int64 track ids of the clips that are kept, in the order in which ``clips`` counts them."""
        with self._reading("clips"):
            return self._column("clips", "track_id", self._n_rows("clips")) if "clips" in self._file else _NO_IDS

    def clips(self, numbers: Sequence[int] | None = None) -> list[KeptClip]:
        """Clips that are kept, all or those of ``numbers`` (places in ``clip_tracks``): one takes 360 kB of memory."""
        with self._reading("clips"):
            found = []
            for i in range(self._n_rows("clips")) if numbers is None else numbers:
                row = {name: self._column("clips", name, i + 1, i)[0] for name in TABLES["clips"].names or ()}
                start = int(row["offset"])
                stop = start + int(row["length"]) + int(row["map_length"])
                found.append(kept_clip(row, self._column(CLIP_BYTES, None, stop, start).tobytes()))
            return found

    @property
    def n_pictures(self) -> int:
        """How many pictures are kept."""
        with self._reading("pictures"):
            return self._n_rows("pictures")

    def pictures(self, at_most: int | None = None) -> list[tuple[int, int, NDArray[Any]]]:
        """(frame, t_ns, image) by time; ``at_most`` chooses so many, evenly: all may not fit in memory."""
        with self._reading("pictures"):
            c = self._columns("pictures")
            n = len(c["frame"])
            chosen = np.arange(n)
            if at_most is not None and n > at_most:
                chosen = np.unique(np.linspace(0, n - 1, at_most).round().astype(int))
            found = []
            for i in chosen:
                start, length = int(c["offset"][i]), int(c["length"][i])
                image = decode_png(self._column(PNG_BYTES, None, start + length, start).tobytes())
                found.append((int(c["frame"][i]), int(c["t_ns"][i]), image))
            return found

    def _json(self, name: str) -> Any:
        return json.loads(self._file.attrs[name])  # type: ignore[arg-type]

    def _dataset(self, name: str) -> Any:
        dataset = self._file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise ValueError(f"{name} is no dataset")
        return dataset

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except InputError:
            raise
        except _DAMAGED as error:
            text = " ".join(str(error).split())
            raise InputError(f"{self.path}: {what} cannot be read, the file is damaged ({text[:200]})") from error

    def _n_rows(self, table: str) -> int:
        if table not in self._file:
            return 0
        if COMMITTED in self._file:
            counts = self._dataset(COMMITTED)
            counts.id.refresh()
            return int(counts[list(TABLES).index(table)])
        return int(self._dataset(f"{table}/{next(iter(TABLES[table].names or ()))}").shape[0])

    def _column(self, table: str, column: str | None, stop: int, start: int = 0) -> NDArray[Any]:
        dataset = self._dataset(table if column is None else f"{table}/{column}")
        if COMMITTED in self._file:
            dataset.id.refresh()
        if dataset.shape[0] < stop:
            raise ValueError(f"{dataset.name} has {dataset.shape[0]} rows, {stop} expected")
        return dataset[start:stop]

    def _columns(self, table: str, frames: slice | None = None) -> dict[str, NDArray[Any]]:
        start, stop, mask = 0, self._n_rows(table), None
        if frames is not None:
            if frames.step not in (None, 1):
                raise InputError(f"frames: a slice without a step was expected, got {frames}")
            numbers = self._column(table, "frame", stop)
            mask = np.ones(len(numbers), bool)
            if frames.start is not None:
                mask &= numbers >= frames.start
            if frames.stop is not None:
                mask &= numbers < frames.stop
            inside = np.flatnonzero(mask)
            start, stop = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
            mask = mask[start:stop]
        if table not in self._file:
            return {name: np.empty(0, TABLES[table][name]) for name in TABLES[table].names or ()}
        columns = {name: self._column(table, name, stop, start) for name in TABLES[table].names or ()}
        return columns if mask is None else {name: column[mask] for name, column in columns.items()}


def _check_readable(path: Path) -> None:
    """Raise InputError for what cannot be a recording."""
    files = RecordingFiles.of(path)
    unfinished = files.journal.is_file()
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a recording (RUN.h5)")
    if not path.exists():
        if path == files.final and (unfinished or files.partial.is_file()):
            raise InputError(f"{path}: the recording is not finished; if nothing writes it now, `casa recover {path}`")
        raise InputError(f"{path}: no such file; give a recording (RUN.h5)")
    if path == files.journal:
        raise InputError(f"{path}: is a journal; `casa recover {files.final}` makes a recording of it")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: the file is empty; expected a recording (RUN.h5)")


def _open_file(path: Path) -> h5py.File:
    """Open for reading; a ``.partial`` as a file that grows."""
    live = path.suffix == ".partial"
    # between its creation and its first flush a live file cannot be opened: wait for a moment
    deadline = time.monotonic() + (0.5 if live else 0.0)
    while True:
        try:
            return h5py.File(path, "r", swmr=live, libver="latest", locking="best-effort")
        except OSError as error:
            if time.monotonic() < deadline:
                time.sleep(0.05)
                continue
            files = RecordingFiles.of(path)
            hint = f"; `casa recover {files.final}` makes it again" if files.journal.is_file() else ""
            if not _has_signature(path):
                raise InputError(f"{path}: is no recording (no HDF5 file); give a recording (RUN.h5){hint}") from error
            raise InputError(f"{path}: is damaged or cut off and cannot be opened{hint}") from error


def _has_signature(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(8) == b"\x89HDF\r\n\x1a\n"
    except OSError:
        return False


def _known(cls: Any, value: dict[str, Any]) -> dict[str, Any]:
    """The entries that are fields of the dataclass: a later version may have written more."""
    names = {f.name for f in fields(cls)}
    return {name: item for name, item in value.items() if name in names}


def _when(c: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: c[name] for name in ("frame", "field", "t_ns")}


def _boxes(c: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    left, top, right, bottom = (c[f"{side}_px"].astype(np.float64) for side in ("left", "top", "right", "bottom"))
    return {"cx_px": (left + right) / 2, "cy_px": (top + bottom) / 2, "w_px": right - left, "h_px": bottom - top}


def _sorted(table: Any, *keys: NDArray[Any]) -> Any:
    """Rows by the last key first, as np.lexsort; the table itself where it is in order."""
    order = np.lexsort(keys)
    return table if np.array_equal(order, np.arange(len(order))) else table.select(order)
