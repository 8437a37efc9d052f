"""``casa audit``: the laboratory's log of results, corrections and changes. Holds the typer app ``app``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from casa.cli.options import Json

if TYPE_CHECKING:
    from casa.samples.sample import Sample

app = typer.Typer(help="Show and check an audit log.", no_args_is_help=True, rich_markup_mode=None)
Log = Annotated[Path, typer.Argument(metavar="FILE", help="An audit log.")]
#: The option of commands whose results go into a log.
AuditOption = Annotated[
    Path | None,
    typer.Option("--audit-log", envvar="CASA_AUDIT_LOG", help="Audit log to add the result to (see `casa audit`)."),
]


@app.command()
def show(
    log: Log,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many lines, the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Show what an audit log holds, once its chain is checked; exit code 1 where it was edited."""
    from dataclasses import asdict

    from casa.audit import read_audit
    from casa.cli.output import print_json

    audit = read_audit(log)
    lines = audit.lines if last is None else audit.lines[-last:]
    if as_json:
        print_json({"lines": [asdict(line) for line in lines], "sha256": audit.sha256})
        return
    for line in lines:
        typer.echo(f"{line.number:>5}  {line.utc[:19]}Z  {line.who}  {line.event}: {line.subject}")
        for key, value in line.details.items():
            typer.echo(f"{'':>7}{key}: {_words(value)}")
    _say_state(audit)


@app.command()
def verify(
    log: Log,
    known: Annotated[
        str, typer.Option(help="Sum of a line noted elsewhere (8 digits or more), which must be in the log.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Check that no line of an audit log was changed, moved, removed or inserted; exit code 1 where one was."""
    from casa.audit import read_audit
    from casa.cli.output import print_json
    from casa.errors import InputError

    if known and (len(known) < 8 or set(known.lower()) - set("0123456789abcdef")):
        raise InputError(f"--known {known}: expected at least the first 8 digits of a line's sha256")
    audit = read_audit(log, known)
    if as_json:
        print_json({"lines": len(audit.lines), "sha256": audit.sha256, "torn_bytes": audit.torn, "ok": True})
    else:
        _say_state(audit)


def _say_state(audit: Any) -> None:
    torn = f"; {audit.torn} bytes of a line that a crash tore are left out" if audit.torn else ""
    count = len(audit.lines)
    typer.echo(f"{audit.path}: {count} event{'s' if count != 1 else ''}, the chain holds{torn}")
    typer.echo(f"sum of the last line, to note elsewhere: {audit.sha256}")


def _words(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"value", "interval_95"}:  # an estimate
        ends = " to ".join(f"{end:.4g}" for end in value["interval_95"] or ())
        interval = f" ({ends})" if ends else ""
        return "not known" if value["value"] is None else f"{value['value']:.4g}{interval}"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, list):
        return "; ".join(_words(item) for item in value)
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def check_log(log: Path | None) -> None:
    """Raise CasaError where a log is configured and could not be added to: before work whose result goes into it."""
    from casa.audit import AuditLog

    if (audit := AuditLog.configured(log)) is not None:
        audit.check()


def audit_result(log: Path | None, event: str, subject: str, **details: Any) -> None:
    """Add a line to the log, where one is configured."""
    from casa.audit import AuditLog

    if (audit := AuditLog.configured(log)) is not None:
        audit.append(event, subject, **details)


def audit_recording(log: Path | None, event: str, path: Path | None, **details: Any) -> None:
    """Add a line on a recording to the log, where one is configured: its id, sums, network, scale and figures."""
    from casa.audit import AuditLog

    if path is not None and (audit := AuditLog.configured(log)) is not None:
        about = about_recording(path)
        audit.append(event, about["recording_id"], **about, **details)


def audit_sample(log: Path | None, folder: Path, sample: Sample, result: dict[str, Any], event: str = "sample") -> None:
    """A line on a sample's result, where a log is configured: its figures, and each field by its recording's id."""
    from casa.samples.sample import paths_of

    fields = [
        {"recording": entry.recording, "recording_id": entry.recording_id, "replicate": entry.replicate}
        | corrections_beside(path)
        for entry, path in paths_of(folder, sample)
    ]
    kept = ("operator", "accepted", "count_more", "cells", "motility_percent", "concentration_m_per_ml", "total_m")
    said = {key: result[key] for key in kept if key in result}
    audit_result(log, event, sample.sample_id, folder=str(folder), **said, fields=fields)


def audit_report(log: Path | None, sample_id: str, report: Path, accepted: bool) -> None:
    """A line on a report that was written: the file by its sum, so that one that was edited is told from it."""
    from casa.audit import AuditLog, file_digest

    if (audit := AuditLog.configured(log)) is not None:
        audit.append("report", sample_id, file=str(report), sha256=file_digest(report), accepted=accepted)


def about_recording(path: Path) -> dict[str, Any]:
    """What names a recording and how it came about, for a line: ids and sums; the corrections beside it by theirs."""
    from casa.audit import file_digest
    from casa.record import Recording

    with Recording(path) as recording:
        session, found = recording.session, recording.recording_id
        summary = recording.summary()
    model, source = session.get("model") or {}, session.get("source") or {}
    calibration = session.get("calibration") or {}
    said: dict[str, Any] = {
        "recording": str(path),
        "recording_id": found,
        "recording_sha256": file_digest(path),
        "casa": session.get("casa_version"),
        "source": {"uri": source.get("uri"), "sha256": source.get("sha256")},
        "model": {"name": model.get("name"), "sha256": model.get("sha256")},
        "calibration": calibration.get("name"),
    }
    if summary is not None:
        said["tracks"] = summary.n_tracks
        said["concentration_m_per_ml"] = summary.concentration_m_per_ml
        said["motility_percent"] = summary.motility_percent
    return said | corrections_beside(path)


def corrections_beside(path: Path) -> dict[str, Any]:
    """The corrections file of a recording, by its number of lines and the sum of the last one; {} without one."""
    import json

    from casa.viewer.corrections import corrections_path

    file = corrections_path(path)
    try:
        data = file.read_bytes()
        rows = data[: data.rfind(b"\n") + 1].splitlines()  # without a line that a crash tore
        return {"corrections": {"file": file.name, "lines": len(rows) - 1, "sha256": json.loads(rows[-1])["sha256"]}}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, IndexError):
        return {"corrections": {"file": file.name, "state": "damaged"}}
