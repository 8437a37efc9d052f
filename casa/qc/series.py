"""A series of runs of one control: what each gave, and with which network, settings and scale.

A series is an audit log (`casa.audit`) of events ``control`` and ``break``, so that an edited one is told. The log of
bead counts that ``casa calibrate beads --log`` keeps (`casa.calibrate.control`) is read as a series too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from casa.audit import AuditLog, file_digest, now_utc, read_audit
from casa.calibrate.control import read_log
from casa.errors import InputError
from casa.record import Recording
from casa.types import FloatArray

#: Figures of a run with their units; the first four are charted where they are known.
FIGURES = {
    "concentration_m_per_ml": "M/mL",
    "pr_percent": "%",
    "total_percent": "%",
    "vcl_um_s": "um/s",
    "vsl_um_s": "um/s",
    "vap_um_s": "um/s",
    "lin_percent": "%",
    "heads_per_frame": "",
    "fps_hz": "Hz",
    "jitter_px": "px",
    "drift_px_s": "px/s",
}
CHARTED = ("concentration_m_per_ml", "pr_percent", "total_percent", "vcl_um_s")
#: Where there is no scale these take their places.
CHARTED_WITHOUT_SCALE = ("heads_per_frame",)
#: Sections of the configuration that figures depend on; the others (buffers, video, bus) may change freely.
_SECTIONS = ("source", "detect", "track", "kinematics")
_FREE = frozenset(("detect.threads", "source.max_frames"))
_SCALE = ("name", "um_per_px_x", "um_per_px_y", "chamber_depth_um", "chamber_factor")


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its figures by name (None where not known), and what it was made with (``setup``, by dotted name).

    ``utc`` is when it was recorded (replayed, counted); ``recording_id`` is "" of a count of beads; ``targets`` are
    (mean, sd) that a certificate gives; ``note`` is why a new baseline begins with this run, else "".
    """

    number: int
    utc: str
    recording: str
    setup: Mapping[str, str]
    figures: Mapping[str, float | None]
    targets: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    note: str = ""
    recording_id: str = ""


def check_name(path: Path) -> None:
    """Raise InputError where a series cannot have this name: other files must not be taken for one, or written over."""
    if path.suffix.lower() == ".csv" or (path.suffix.lower() != ".qc" and not path.exists()):
        raise InputError(f"{path}: a series of control runs is a file that ends in .qc: {path.with_suffix('.qc').name}")


def read_series(path: Path) -> list[Run]:
    """The runs of a series, or of a log of bead counts, oldest first.

    Raises
    ------
    InputError : neither, or without a run. CasaError : the series was edited; the message names the line.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such series; `casa qc add {path} RUN.h5` begins one")
    if path.suffix.lower() == ".csv":
        runs = _bead_runs(path)
    else:
        runs = _control_runs(path)[0]
    if not runs:
        raise InputError(f"{path}: holds no run of a control; `casa qc add NAME.qc RUN.h5` begins a series")
    return runs


def _control_runs(path: Path) -> tuple[list[Run], str]:
    """The runs of a series, and why a new baseline begins with its next one, "" where none does."""
    runs, note = [], ""
    try:
        lines = read_audit(path).lines
    except InputError as error:
        raise InputError(f"{path}: is no series of control runs ({str(error).removeprefix(f'{path}: ')})") from error
    for line in lines:
        if line.event == "break":
            note = str(line.details.get("why", "")) or "new baseline"
        elif line.event == "control":
            runs.append(_run(path, line.number, line.utc, line.details, note))
            note = ""
    return runs, note


def _run(path: Path, number: int, utc: str, details: Mapping[str, Any], note: str) -> Run:
    try:
        figures = {str(k): None if v is None else float(v) for k, v in details["figures"].items()}
        setup = {str(k): str(v) for k, v in details["setup"].items()}
        found, made = str(details.get("recording_id") or ""), str(details.get("recorded_utc") or utc)
        return Run(number, made, str(details["recording"]), setup, figures, note=note, recording_id=found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: line {number + 1} is an event `control` that casa qc did not write") from error


def _bead_runs(path: Path) -> list[Run]:
    return [
        Run(
            number, day.date, f"{day.count} beads", {"profile": day.profile, "certified": f"{day.certified:g}"},
            {"concentration_m_per_ml": day.concentration},
            {"concentration_m_per_ml": (day.certified, day.sd)},
        )
        for number, day in enumerate(read_log(path), 1)
    ]  # fmt: skip


@dataclass(slots=True)
class Addition:
    """Recordings on their way into a series: read and judged before any is written, so that all are added or none.

    ``runs`` are those of the series with the new ones after them.
    """

    path: Path
    runs: list[Run]
    _note: str
    _lines: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @classmethod
    def to(cls, path: Path) -> Addition:
        """To a series, which may be new.

        Raises
        ------
        InputError : no name for a series, or no series. CasaError : it was edited, or cannot be written.
        """
        check_name(path)
        runs, note = _control_runs(path) if path.exists() else ([], "")
        if path.exists() and not runs:
            raise InputError(
                f"{path}: holds no run of a control and is no series; give a new one a name that ends in .qc"
            )
        AuditLog(path).check()
        return cls(path, runs, note)

    def read(self, recording: Path, control: str | None = None, video: str | None = None) -> None:
        """Read a recording of the control.

        Parameters
        ----------
        control : what the control is; by default what the series' last run was of.
        video : name of the video, where the control is this very video, so that another one begins a new baseline.

        Raises
        ------
        InputError : the recording broke off, has no sperm to measure, or is in the series already.
        """
        if control is None:
            control = self.runs[-1].setup.get("control", "control") if self.runs else "control"
        with Recording(recording) as opened:
            found = opened.recording_id
            for run in self.runs:
                if run.recording_id == found:
                    raise InputError(f"{recording}: is in this series already, as run of {run.utc[:10]}")
            setup = _setup(opened.session) | {"control": control}
            video_sha256 = opened.session.get("source", {}).get("sha256")
            if video is not None and video_sha256:
                setup["control video"] = str(video_sha256)
            figures, recorded = figures_of(opened, recording), opened.session.get("created_utc")
        details = {
            "recording": video or str(recording), "recording_id": found, "recording_sha256": file_digest(recording),
            "recorded_utc": recorded, "video_sha256": video_sha256, "setup": setup, "figures": figures,
        }  # fmt: skip
        number = self.runs[-1].number + 1 if self.runs else 1
        self.runs.append(_run(self.path, number, now_utc(), details, self._note))
        self._lines.append((control, details))
        self._note = ""

    def write(self) -> None:
        """Add what was read. Raises CasaError where the series cannot be written."""
        for control, details in self._lines:
            AuditLog(self.path).append("control", control, **details)
        self._lines.clear()


def begin_anew(path: Path, why: str) -> None:
    """Note that a new baseline begins with the next run. InputError: no reason, or no such series."""
    if not why.strip():
        raise InputError("--why: say why a new baseline begins, for those who read the series later")
    read_series(path)
    if path.suffix.lower() == ".csv":
        raise InputError(f"{path}: is a log of bead counts, whose limits are the certificate's")
    AuditLog(path).append("break", path.stem, why=why.strip())


def figures_of(recording: Recording, path: Path) -> dict[str, float | None]:
    """The figures of a run, by the names of FIGURES; speeds are medians over graded tracks.

    Raises
    ------
    InputError : the recording broke off before its figures were made, or holds no track.
    """
    summary, source = recording.summary(), recording.source
    if summary is None:
        raise InputError(f"{path}: broke off before its figures were made; run the control again")
    rows = recording.kinematics()
    if not len(rows):
        raise InputError(f"{path}: holds no track: the control was not in view, or nothing was found; run it again")
    graded = rows.select(np.nansum(rows.time_by_grade_s, axis=1) > 0)
    drift = summary.drift_px_s
    return {
        "concentration_m_per_ml": summary.concentration_m_per_ml,
        "pr_percent": summary.motility_percent.get("pr"),
        "total_percent": summary.motility_percent.get("total"),
        "vcl_um_s": _median(graded.vcl_um_s),
        "vsl_um_s": _median(graded.vsl_um_s),
        "vap_um_s": _median(graded.vap_um_s),
        "lin_percent": _median(100 * graded.lin),
        "heads_per_frame": summary.heads_per_frame,
        "fps_hz": source.fps_hz,
        "jitter_px": summary.jitter_px,
        "drift_px_s": None if drift is None else float(np.hypot(*drift)),
    }


def _median(values: FloatArray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else None


def _setup(session: Mapping[str, Any]) -> dict[str, str]:
    """What figures depend on, flat: network, casa's version, scale and settings."""
    model, scale = session.get("model") or {}, session.get("calibration") or {}
    setup = {"casa": str(session.get("casa_version"))}
    setup |= {f"network {key}": str(model[key]) for key in ("name", "sha256", "precision") if model.get(key)}
    setup |= {f"calibration.{key}": str(scale[key]) for key in _SCALE if scale.get(key) is not None}
    for section in _SECTIONS:
        setup |= _flat((session.get("config") or {}).get(section) or {}, f"{section}.")
    return {key: value for key, value in setup.items() if key not in _FREE}


def _flat(config: Mapping[str, Any], prefix: str) -> dict[str, str]:
    rows: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows |= _flat(value, f"{prefix}{key}.")
        else:
            rows[f"{prefix}{key}"] = str(value)
    return rows


def changes(before: Run, after: Run) -> list[str]:
    """What was changed between two runs, in words; [] where figures can be compared."""
    said = [after.note] if after.note else []
    for key in dict.fromkeys((*before.setup, *after.setup)):
        old, new = before.setup.get(key, "none"), after.setup.get(key, "none")
        if old != new:
            said.append(f"{key} {_short(old)} → {_short(new)}")
    return said


def _short(value: str) -> str:
    """A sum by its first digits."""
    return value[:8] if len(value) == 64 else value
