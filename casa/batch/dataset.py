"""A recording's part of the data set: one Parquet file a table, each row with the recording's name.

What is in them follows from the recording and its settings alone: no times of day, no machine, so that the same
recording gives the same bytes wherever it was analysed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from casa.batch.inputs import Item
from casa.batch.settings import fingerprint, settings_of_session
from casa.cells import MorphologyTable
from casa.errors import InputError
from casa.record import Recording
from casa.record.export import kinematics_columns, track_columns
from casa.tables import grade_columns, morphology_columns

#: Tables of the data set, one folder each; the last two where clips were graded and heads examined.
TABLES = ("recordings", "tracks", "kinematics", "grades", "morphology")
_MEDIANS = ("vcl_um_s", "vsl_um_s", "vap_um_s", "vcl_px_s", "vsl_px_s", "vap_px_s", "lin", "str", "wob", "alh_mean_um",
            "alh_mean_px", "bcf_hz", "mad_deg")  # fmt: skip
_HEAD_MEDIANS = ("length_um", "width_um", "ellipticity")
#: Figures of the table of recordings that runs are compared by.
FIGURES = (
    "n_tracks", "heads_per_frame", "concentration_m_per_ml", *(f"motility_{k}_percent" for k in ("a", "b", "c", "d",
    "pr", "total")), "graded_time_s", *(f"median_{name}" for name in _MEDIANS), "n_grades",
    *(f"mean_grade_{grade}" for grade in "abcde"), "n_heads", "normal_heads_percent",
    *(f"median_head_{name}" for name in _HEAD_MEDIANS),
)  # fmt: skip
_RESERVED = {"recording", "path", *FIGURES}


def check_columns(item: Item) -> None:
    """Raise InputError where a manifest's column has the name of one of casa's own."""
    taken = sorted(set(item.columns) & (_RESERVED | set(_about_names())))
    if taken:
        raise InputError(f"{item.uri}: column {taken[0]} of the manifest has the name of one of casa's own; rename it")


def recording_row(path: Path, item: Item | None = None, sha256: str | None = None) -> dict[str, Any]:
    """The row of a recording in the table of recordings.

    Parameters
    ----------
    item : what it was made from, where that is known.
    sha256 : of what it was made from, where the recording itself does not say.

    Raises
    ------
    InputError : not a recording, or one that broke off before its figures were made.
    """
    with Recording(path) as recording:
        summary, account, source = recording.summary(), recording.account, recording.source
        if summary is None:
            raise InputError(f"{path}: broke off before its figures were made; analyse it again")
        session, calibration = recording.session, recording.calibration
        kinematics, grades, heads = recording.kinematics(), recording.grades(), recording.morphology()
    model, settings = session.get("model") or {}, settings_of_session(session)
    drift = summary.drift_px_s or (None, None)
    row: dict[str, Any] = {
        "recording": path.stem if item is None else item.recording,
        "path": source.uri if item is None else item.uri,
        "sha256": session["source"].get("sha256") or sha256,
        "settings": fingerprint(settings),
        "width_px": source.width_px,
        "height_px": source.height_px,
        "fps_hz": source.fps_hz,
        "timestamps": source.timestamps,
        **{f"frames_{name}": getattr(account, name) for name in _STATUSES},
        "n_tracks": summary.n_tracks,
        "heads_per_frame": summary.heads_per_frame,
        "concentration_m_per_ml": summary.concentration_m_per_ml,
        **{f"motility_{key}_percent": summary.motility_percent.get(key) for key in ("a", "b", "c", "d", "pr", "total")},
        "graded_time_s": summary.graded_time_s,
        **{f"median_{name}": _median(getattr(kinematics, name)) for name in _MEDIANS},
        "n_grades": None if session.get("grade_model") is None else len(grades),
        **{f"mean_grade_{g}": _mean(grades.distribution[:, k]) for k, g in enumerate("abcde")},
        **_heads(heads, session.get("morphology_model")),
        "drift_x_px_s": drift[0],
        "drift_y_px_s": drift[1],
        "jitter_px": summary.jitter_px,
        "flags": ",".join(summary.flags),
        "calibration": None if calibration is None else calibration.name,
        "um_per_px_x": None if calibration is None else calibration.um_per_px_x,
        "um_per_px_y": None if calibration is None else calibration.um_per_px_y,
        "chamber_depth_um": None if calibration is None else calibration.chamber_depth_um,
        **{f"model_{name}": model.get(name) for name in ("name", "sha256", "backend", "device", "precision")},
        "casa_version": session.get("casa_version"),
    }
    return row | ({} if item is None else dict(item.columns))


_STATUSES = ("captured", "processed", "skipped", "dropped", "failed")


def _about_names() -> list[str]:
    """Names of casa's own columns besides the figures."""
    names = ["sha256", "settings", "width_px", "height_px", "fps_hz", "timestamps", "drift_x_px_s", "drift_y_px_s"]
    names += ["jitter_px", "flags", "calibration", "um_per_px_x", "um_per_px_y", "chamber_depth_um", "casa_version"]
    names += [f"model_{name}" for name in ("name", "sha256", "backend", "device", "precision")]
    return names + [f"frames_{name}" for name in _STATUSES]


def _heads(clips: MorphologyTable, told: dict[str, Any] | None) -> dict[str, Any]:
    """Figures of tracks whose head was seen; ``told``: what the recording says of the network, None without one."""
    tracks = clips.by_track()
    seen = tracks.select(tracks.n_crops > 0)
    classes = seen.decided(float((told or {}).get("abstain_below") or 0))
    of_head = classes.get("class", classes.get("head", np.empty(0, np.str_)))
    sure, normal = of_head[of_head != ""], {"normal", "head:normal"} & set(clips.class_names)
    return {
        "n_heads": None if told is None else len(seen),
        "normal_heads_percent": float(100 * np.mean(sure == "normal")) if normal and sure.size else None,
        **{f"median_head_{name}": _median(getattr(seen, name)) for name in _HEAD_MEDIANS},
    }


def _median(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None


def _mean(values: np.ndarray) -> float | None:
    return float(np.mean(values)) if values.size else None


#: Types of the row's columns where a value alone does not tell: an empty cell has the type of a full one.
_WHOLE = {"width_px", "height_px", "n_tracks", "n_grades", "n_heads", *(f"frames_{name}" for name in _STATUSES)}
_TEXT = {"recording", "path", "sha256", "settings", "timestamps", "flags", "calibration", "casa_version",
         *(f"model_{name}" for name in ("name", "sha256", "backend", "device", "precision"))}  # fmt: skip


def write_tables(path: Path, item: Item, folder: Path, sha256: str | None) -> Iterator[tuple[str, Path]]:
    """Write the tables of a recording into a folder; gives each one's name and file.

    Parameters
    ----------
    path : the recording, complete.
    item : what it was made from; its name goes into each row. sha256 : as in ``recording_row``.
    """
    row = recording_row(path, item, sha256)
    with Recording(path) as recording:
        yield "recordings", _write(folder / "recordings.parquet", _row_table(row, item))
        for name, columns in _tables_of(recording).items():
            yield name, _write(folder / f"{name}.parquet", _column_table(item.recording, columns()))


def _tables_of(recording: Recording) -> dict[str, Callable[[], dict[str, np.ndarray]]]:
    """The columns of each table, read when they are asked for: one table is in memory at a time."""
    tables: dict[str, Callable[[], dict[str, np.ndarray]]] = {
        "tracks": lambda: track_columns(recording.tracks()),
        "kinematics": lambda: kinematics_columns(recording.kinematics()),
    }
    if recording.session.get("grade_model") is not None:
        tables["grades"] = lambda: grade_columns(recording.grades())
    if recording.session.get("morphology_model") is not None:
        tables["morphology"] = lambda: morphology_columns(recording.morphology())
    return tables


def _row_table(row: dict[str, Any], item: Item) -> Any:
    import pyarrow as pa

    texts = _TEXT | set(item.columns)
    kinds = {name: pa.string() if name in texts else pa.int64() if name in _WHOLE else pa.float64() for name in row}
    return pa.table({name: pa.array([value], kinds[name]) for name, value in row.items()})


def _column_table(recording: str, columns: dict[str, np.ndarray]) -> Any:
    """An Arrow table of columns, the recording's name first; NaN becomes null."""
    import pyarrow as pa

    n = len(next(iter(columns.values())))
    arrays = {"recording": pa.array([recording] * n, pa.string())}
    for name, column in columns.items():
        if column.dtype.kind == "U":
            arrays[name] = pa.array(column.tolist(), pa.string())
        else:
            arrays[name] = pa.array(column, mask=np.isnan(column) if column.dtype.kind == "f" else None)
    return pa.table(arrays)


def _write(path: Path, table: Any) -> Path:
    """Small, since there may be a million: what statistics and Arrow's own schema are good for, files replace."""
    import pyarrow.parquet as pq

    options: dict[str, Any] = {"store_schema": False, "write_statistics": False, "use_dictionary": False}
    pq.write_table(table, path, compression="zstd", **options)
    return path
