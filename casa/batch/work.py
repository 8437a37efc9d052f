"""One recording's work: fetch it, do what ``casa replay`` does, make its tables, put the results into the store.

It is done in a temporary folder; results appear in the store whole, and the mark that it is finished last. Whoever
comes second, because the first was taken for dead, finds the mark and leaves everything as it is.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from casa import __version__
from casa.batch.content import content_sha256, sample_sha256, stamp_and_size
from casa.batch.dataset import write_tables
from casa.batch.inputs import Item
from casa.batch.plan import SETTINGS, Job, mark_name, results_of
from casa.batch.scratch import scratch
from casa.batch.settings import differences, fingerprint, settings_of_session
from casa.batch.store import Store, filesystem, is_remote, open_store
from casa.config import Config
from casa.errors import CasaError, InputError
from casa.types import Calibration

#: Told of the frames read so far and of how many there are (None where that is not known).
OnFrames = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended: ``mark`` of the finished recording, or why it failed; ``final``: again cannot help."""

    mark: dict[str, Any] | None = None
    reason: str = ""
    final: bool = False


def attempt(job: Job, on_frames: OnFrames = lambda done, total: None) -> Outcome:
    """Do a recording's work; what goes wrong comes back as the outcome's reason."""
    try:
        return Outcome(analyse(job, on_frames))
    except InputError as error:
        return Outcome(reason=str(error), final=True)
    except CasaError as error:
        return Outcome(reason=str(error))
    except Exception as error:  # one recording's failure stops nothing: it is told of, and tried again
        text = " ".join(str(error).split())[:300]
        return Outcome(reason=f"{job.item.uri}: {type(error).__name__}: {text}")


def analyse(job: Job, on_frames: OnFrames = lambda done, total: None) -> dict[str, Any]:
    """Do a recording's work; gives its mark.

    Raises
    ------
    InputError : the recording is gone, or cannot be analysed; or this machine's settings are not the batch's.
    CasaError : a stage or the store failed.
    """
    from casa.engine import replay
    from casa.sources import open_source

    began = time.monotonic()
    store = open_store(job.store)
    if (mark := _finished(store, job)) is not None:
        return mark
    config, calibration = Config.model_validate(job.config), None
    if job.calibration is not None:
        calibration = Calibration(**job.calibration)
    with scratch() as folder:
        path = folder / f"{job.recording}.h5"
        fetched = _fetched(job.item, folder)
        with open_source(fetched, config.source) as source:
            total, seen = source.info.n_frames, 0

            def on_frame() -> None:
                nonlocal seen
                seen += 1
                on_frames(seen, total)

            result = replay(
                source, path, config, calibration, on_frame=on_frame, command=job.command, origin=job.item.uri
            )
        sample, folder_sha256 = _sums(Path(fetched))
        _check_unchanged(job.item)
        if result.failures:
            raise InputError(f"{job.item.uri}: {'; '.join(result.failures)}")
        if not result.account.processed:
            raise InputError(f"{job.item.uri}: none of its {result.account.captured} frames could be analysed")
        made = {"recording": path}
        if job.report:
            from casa.report import write_report

            made["report"] = path.with_suffix(".html")
            write_report(path, made["report"])
        sha256 = _check_settings(job, path) or folder_sha256
        made |= dict(write_tables(path, job.item, folder, sha256))
        names = results_of(job.recording)
        sizes = {names[kind]: store.put(file, names[kind]) for kind, file in made.items()}
    mark = {
        "recording": job.recording,
        "uri": job.item.uri,
        "stamp": job.item.stamp,
        "n_bytes": job.item.n_bytes,
        "sha256": sha256,
        "sample": sample,
        "settings": job.settings,
        "columns": job.item.columns,
        "results": sizes,
        "frames": result.account.captured,
        "frames_failed": result.account.failed,
        "wall_s": round(time.monotonic() - began, 3),
        "finished_utc": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "where": f"{platform.node()}:{os.getpid()}",
    }
    if not store.claim(mark_name(job.recording), json.dumps(mark, indent=1).encode()):
        return _finished(store, job) or mark
    return mark


def _finished(store: Store, job: Job) -> dict[str, Any] | None:
    """The mark of this very work, where somebody has finished it."""
    data = store.read(mark_name(job.recording))
    mark = json.loads(data) if data else None
    return mark if mark is not None and mark["settings"] == job.settings and mark["uri"] == job.item.uri else None


def _fetched(item: Item, folder: Path) -> str:
    """What ``open_source`` takes: the path itself, or that of a copy of what is remote."""
    if not is_remote(item.uri):
        _check_unchanged(item)
        return item.uri
    fs, path = filesystem(item.uri)
    target = folder / f"source-{Path(path).name}"
    try:
        fs.get_file(path, str(target))
    except FileNotFoundError:
        raise InputError(f"{item.uri}: has vanished since the batch began") from None
    except Exception as error:  # each file system has errors of its own
        text = " ".join(str(error).split())[:200]
        raise CasaError(f"{item.uri}: cannot be fetched ({type(error).__name__}: {text})") from error
    return str(target)


def _check_unchanged(item: Item) -> None:
    """Raise InputError where a local recording is gone, or is still being written."""
    if is_remote(item.uri) or item.n_bytes is None:
        return
    try:
        stamp, _ = stamp_and_size(Path(item.uri))
    except OSError:
        raise InputError(f"{item.uri}: has vanished since the batch began") from None
    if stamp != item.stamp:
        raise InputError(f"{item.uri}: has changed since the batch began; do it again when it is complete")


def _sums(fetched: Path) -> tuple[str | None, str | None]:
    """By what it is known should it move: its ``sample_sha256``, and of a folder, whose recording does not say, all."""
    sample = sample_sha256(fetched) if fetched.exists() else None  # a simulated one is nowhere
    return sample, content_sha256(fetched) if fetched.is_dir() else None


def _check_settings(job: Job, path: Path) -> str | None:
    """The source's sha256; raise InputError where this machine used other networks than the batch was planned with."""
    from casa.record import Recording

    with Recording(path) as recording:
        session = recording.session
    used = settings_of_session(session)
    if fingerprint(used) != job.settings:
        planned = json.loads(open_store(job.store).read(f"{SETTINGS}/{job.settings}.json") or b"{}")
        key, (wanted, got) = next(iter(differences(planned, used).items()), ("settings", (None, None)))
        raise InputError(
            f"{platform.node()}: analyses with other settings than this batch ({key}: {wanted} planned, {got} here); "
            f"use machines with casa {__version__} and the same models and processors"
        )
    return session["source"].get("sha256")
