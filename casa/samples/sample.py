"""The file of a sample: which recordings belong to it, as which field of which replicate."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from casa.errors import CasaError, InputError

FILE = "sample.json"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Field:
    """A recorded field. ``recording`` is relative to the sample's folder where it lies in it."""

    recording: str
    recording_id: str
    replicate: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A semen sample. ``sample_id`` and ``operator`` are free text: nothing personal is needed.

    ``volume_ml`` (of the ejaculate) gives total numbers; ``dilution`` is how many times the sample was diluted.
    """

    sample_id: str
    operator: str = ""
    volume_ml: float | None = None
    dilution: float = 1.0
    created_utc: str = ""
    fields: tuple[Field, ...] = field(default_factory=tuple)

    def __post_init__(self) -> None:
        if not self.sample_id.strip():
            raise InputError("the sample's id is empty; give --id TEXT")
        if self.volume_ml is not None and not 0 < self.volume_ml < 100:
            raise InputError(f"--volume-ml {self.volume_ml:g}: expected millilitres above 0 and below 100")
        if not 1 <= self.dilution <= 1000:
            raise InputError(f"--dilution {self.dilution:g}: expected 1 (undiluted) to 1000")


def new_sample(folder: Path, sample: Sample, force: bool = False) -> Sample:
    """Begin a sample in ``folder`` (made where missing). Raises InputError where one is there already."""
    if (folder / FILE).exists() and not force:
        raise InputError(f"{folder / FILE}: exists already; give another folder, or --force to begin anew")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot be made ({error.strerror or error})") from error
    sample = replace(sample, created_utc=datetime.now(UTC).isoformat(timespec="seconds"))
    write_sample(folder, sample)
    return sample


def add_field(folder: Path, sample: Sample, recording: Path, recording_id: str, replicate: int) -> Sample:
    """A sample with one more field; written too.

    Raises
    ------
    InputError : the replicate is neither 1 nor 2, or the recording is in the sample already, also as a copy.
    """
    if replicate not in (1, 2):
        raise InputError(f"--replicate {replicate}: expected 1 or 2")
    for known in sample.fields:
        if known.recording_id == recording_id:
            raise InputError(
                f"{recording}: is in this sample already, as {known.recording} of replicate {known.replicate}"
            )
    path = recording.resolve()
    inside = path.is_relative_to(folder.resolve())
    name = str(path.relative_to(folder.resolve())) if inside else str(path)
    sample = replace(sample, fields=(*sample.fields, Field(name, recording_id, replicate)))
    write_sample(folder, sample)
    return sample


def remove_field(folder: Path, sample: Sample, recording: str) -> Sample:
    """A sample without a field; written too. ``recording`` as its file names it, or a path, which need not exist.

    Raises InputError where no field is of it.
    """
    given = Path(recording).resolve()
    kept = [f for f in sample.fields if f.recording != recording and (folder / f.recording).resolve() != given]
    if len(kept) == len(sample.fields):
        names = ", ".join(f.recording for f in sample.fields) or "none"
        raise InputError(f"{recording}: is not in sample {sample.sample_id!r}; its recordings: {names}")
    sample = replace(sample, fields=tuple(kept))
    write_sample(folder, sample)
    return sample


def paths_of(folder: Path, sample: Sample) -> Iterator[tuple[Field, Path]]:
    """Each field with its recording's path. Raises InputError where one is not there any more."""
    for entry in sample.fields:
        path = folder / entry.recording
        if not path.is_file():
            raise InputError(
                f"{path}: belongs to sample {sample.sample_id!r} and is not there; put it back, or"
                f" `casa sample remove {folder} {entry.recording}`"
            )
        yield entry, path


def read_sample(folder: Path) -> Sample:
    """The sample of a folder. Raises InputError where there is none, or its file was damaged."""
    path = folder / FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data.pop("version") != _VERSION:
            raise InputError(f"{path}: is of another version; update casa")
        fields = tuple(Field(**entry) for entry in data.pop("fields"))
        return Sample(**data, fields=fields)
    except FileNotFoundError:
        raise InputError(f"{folder}: holds no sample; `casa sample new {folder} --id TEXT` begins one") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from error


def write_sample(folder: Path, sample: Sample) -> None:
    """Write the file, whole or not at all."""
    path, partial = folder / FILE, folder / f"{FILE}.partial"
    try:
        partial.write_text(json.dumps({"version": _VERSION, **asdict(sample)}, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise CasaError(f"{path}: cannot be written ({error.strerror or error})") from error
