"""Every format that a recording can be exported in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from casa.interchange.dictionary import write_csv
from casa.interchange.fhir import recording_bundle, write_bundle
from casa.interchange.napari_tracks import napari_jobs
from casa.interchange.trackmate import write_trackmate
from casa.record import Recording
from casa.record import export as export_tables
from casa.record.export import FORMATS as TABLES
from casa.record.export import Formats, Jobs


def _with_dictionary(jobs_of: Callable[[Recording], Jobs], recording: Recording) -> Jobs:
    """Tables, and beside them what their columns are."""
    jobs = jobs_of(recording)
    tables = [Path(name).stem for name, _ in jobs]
    return [*jobs, ("dictionary.csv", lambda path: write_csv(path, tables))]


def _trackmate_jobs(recording: Recording) -> Jobs:
    return [("tracks.xml", lambda path: write_trackmate(path, recording))]


def _fhir_jobs(recording: Recording) -> Jobs:
    return [("report.fhir.json", lambda path: write_bundle(path, recording_bundle(recording)))]


FORMATS: Formats = {
    "csv": partial(_with_dictionary, TABLES["csv"]),
    "parquet": partial(_with_dictionary, TABLES["parquet"]),
    "mot": TABLES["mot"],
    "trackmate": _trackmate_jobs,
    "napari": napari_jobs,
    "fhir": _fhir_jobs,
}


def export(
    path: Path | str, format: str, out_dir: Path | str, force: bool = False, open_recording: Any = Recording
) -> list[Path]:
    """Write a recording into a folder in one of ``FORMATS``; gives the files written.

    ``open_recording`` may give other tracks than the file's (`casa.engine.refined`).

    Raises
    ------
    InputError : not a recording, an unknown format, or a file exists and ``force`` is not given.
    CasaError : a file cannot be written; none of the new files is left half written.
    """
    return export_tables(path, format, out_dir, force, open_recording, FORMATS)
