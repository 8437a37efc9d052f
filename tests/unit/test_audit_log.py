"""Claims about the audit log: what is told of an edited one, what a crash leaves, and two writers at once."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from running import casa
from typer.testing import CliRunner

from casa.audit import AuditLog, digest_of, file_digest, head_path, read_audit, read_head
from casa.cli.main import app
from casa.errors import CasaError, InputError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def log(tmp_path) -> Path:
    """A log of six events."""
    path = tmp_path / "lab.audit"
    for n in range(1, 7):
        AuditLog(path).append("result", f"sample {n}", percent=12.5 * n, cells=[n, None], text="µm – ok")
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def test_what_was_appended_is_read(log):
    audit = read_audit(log)
    assert [line.number for line in audit.lines] == [1, 2, 3, 4, 5, 6]
    assert audit.lines[2].subject == "sample 3"
    assert audit.lines[2].details == {"percent": 37.5, "cells": [3, None], "text": "µm – ok"}
    assert audit.sha256 == audit.lines[-1].sha256
    assert read_head(log) == (6, audit.sha256)
    assert read_audit(log, known_sha256=audit.lines[3].sha256[:8]).torn == 0


def test_numbers_that_json_does_not_have_become_null(tmp_path):
    AuditLog(tmp_path / "a").append("x", "y", bad=float("nan"), far=[float("inf")], path=tmp_path)
    details = read_audit(tmp_path / "a").lines[0].details
    assert details == {"bad": None, "far": [None], "path": str(tmp_path)}


EDITS = {
    "a figure": (lambda rows: [*rows[:3], rows[3].replace(b"37.5", b"87.5"), *rows[4:]], r"line 4 is not what was"),
    "white space": (lambda rows: [*rows[:3], rows[3].replace(b'{"n":3', b'{"n": 3'), *rows[4:]], r"line 4 is not"),
    "a key twice": (lambda rows: [*rows[:3], b'{"n":9,' + rows[3][1:], *rows[4:]], r"line 4 is not"),
    "a line removed": (lambda rows: rows[:3] + rows[4:], r"line 4 does not follow .*event 4 stands where event 3"),
    "two exchanged": (lambda rows: [*rows[:3], rows[4], rows[3], *rows[5:]], r"line 4 does not follow"),
    "a line twice": (lambda rows: [*rows[:4], rows[3], *rows[4:]], r"line 5 does not follow .*event 3 stands where"),
    "no line of casa's": (lambda rows: [*rows[:2], b"hello\n", *rows[2:]], r"line 3 is no line of an audit log"),
    "an empty line": (lambda rows: [*rows[:2], b"\n", *rows[2:]], r"line 3 is no line"),
    "the end cut off": (lambda rows: rows[:5], r"ends with line 5, and line 7 was written: the end was cut off"),
    "the head's user": (lambda rows: [rows[0].replace(b'"n":0', b'"n":1'), *rows[1:]], r"line 1 is not what"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_log_is_told_with_its_line(log, name):
    edit, told = EDITS[name]
    log.write_bytes(b"".join(edit(lines_of(log))))
    with pytest.raises(CasaError, match=told) as error:
        read_audit(log)
    assert error.value.exit_code == 1


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, 10**6), value=st.integers(0, 255))
def test_no_byte_can_be_changed_unnoticed(tmp_path_factory, at, value):
    path = tmp_path_factory.mktemp("bytes") / "log"
    for n in range(3):
        AuditLog(path).append("result", str(n), percent=n / 3)
    data = bytearray(path.read_bytes())
    at %= len(data)
    if data[at] == value:
        return
    data[at] = value
    path.write_bytes(bytes(data))
    with pytest.raises(CasaError, match=r"line \d|cut off|holds no line|of (format|version)"):
        read_audit(path)


def test_lines_written_anew_with_right_sums_are_missed_by_the_chain_and_found_by_a_noted_sum(log):
    """The limit of a hash chain, as docs/quality.md states it: who can write the file can write it all anew."""
    noted = read_audit(log).lines[-1].sha256
    kept = [json.loads(row) for row in lines_of(log)]
    log.unlink()
    head_path(log).unlink()
    for line in kept[1:]:
        AuditLog(log).append(line["event"], line["subject"], **(line["details"] | {"percent": 99.0}))
    assert len(read_audit(log).lines) == 6
    with pytest.raises(CasaError, match=r"no line has the sum .* noted elsewhere"):
        read_audit(log, known_sha256=noted)


def test_a_torn_last_line_is_left_out_and_written_over(log):
    log.write_bytes(log.read_bytes() + b'{"n":7,"utc":"2026')
    assert read_audit(log).torn == 18
    AuditLog(log).append("result", "after the crash")
    audit = read_audit(log)
    assert (audit.torn, audit.lines[-1].number, audit.lines[-1].subject) == (0, 7, "after the crash")


def test_a_head_file_that_a_crash_left_behind_is_no_fault(log):
    before = head_path(log).read_text()
    AuditLog(log).append("result", "written, then the power went")
    head_path(log).write_text(before)
    assert len(read_audit(log).lines) == 7
    AuditLog(log).append("result", "next")
    assert read_head(log) == (8, read_audit(log).sha256)


def test_nothing_is_added_to_a_log_whose_end_is_wrong(log):
    whole = log.read_bytes()
    for damage, told in (
        (b"".join(lines_of(log)[:5]), r"2 lines at its end are missing"),
        (whole.replace(b"sample 6", b"sample 9"), r"the last line is not what casa wrote"),
        (b"", r"is empty and its head file is not"),
    ):
        log.write_bytes(damage)
        with pytest.raises(CasaError, match=told):
            AuditLog(log).append("result", "x")
        assert log.read_bytes() == damage
    log.write_bytes(whole)
    head_path(log).unlink()
    with pytest.raises(CasaError, match=r"head file is missing; nothing was added"):
        AuditLog(log).append("result", "x")
    with pytest.raises(CasaError, match=r"is missing or damaged"):
        read_audit(log)


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_a_log_cut_down_together_with_its_head_file_is_told(log, kept):
    log.write_bytes(b"".join(lines_of(log)[:kept]))
    head_path(log).unlink()
    with pytest.raises(
        CasaError, match=r"lab\.audit\.head: is missing or damaged: whether lines were cut off"
    ) as error:
        read_audit(log)
    assert error.value.exit_code == 1
    with pytest.raises(CasaError, match=r"head file is missing; nothing was added"):
        AuditLog(log).append("result", "x")


def test_an_emptied_log_is_told_by_its_head_file(log):
    log.write_bytes(b"")
    with pytest.raises(CasaError, match=r"is empty, and line 7 was written: its lines were removed"):
        read_audit(log)


@pytest.mark.parametrize("torn", [None, b"", b'{"format":"casa-au'])
def test_a_crash_at_the_very_first_line_leaves_a_log_to_go_on_with(tmp_path, torn):
    path = tmp_path / "log"
    head_path(path).write_text(f"0 {'a' * 64}\n")
    if torn is not None:
        path.write_bytes(torn)
    AuditLog(path).check()
    AuditLog(path).append("result", "first")
    assert [line.subject for line in read_audit(path).lines] == ["first"]


def test_a_log_is_checked_without_being_written(log, tmp_path):
    before = log.read_bytes()
    AuditLog(log).check()
    AuditLog(tmp_path / "new").check()
    assert not (tmp_path / "new").exists()
    assert log.read_bytes() == before
    with pytest.raises(CasaError, match=r"cannot be written"):
        AuditLog(tmp_path / "no folder" / "log").check()
    head_path(log).unlink()
    with pytest.raises(CasaError, match=r"head file is missing"):
        AuditLog(log).check()


def test_what_is_no_audit_log_is_told(tmp_path):
    path = tmp_path / "x"
    for content in (b"", b"date,percent\n", b'{"format":"casa-corrections","sha256":"0"}\n', b"[]\n"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"audit log|of format"):
            read_audit(path)
    with pytest.raises(InputError, match=r"cannot be read"):
        read_audit(tmp_path / "none")
    with pytest.raises(CasaError, match=r"cannot be written"):
        AuditLog(tmp_path / "no folder" / "log").append("x", "y")


_WRITER = """
import sys
from casa.audit import AuditLog
for n in range(40):
    AuditLog(sys.argv[1]).append("result", f"{sys.argv[2]} {n}")
"""


def test_two_writers_lose_and_mix_nothing(tmp_path):
    path = tmp_path / "log"
    writers = [subprocess.Popen([sys.executable, "-c", _WRITER, path, who], cwd=ROOT) for who in "ab"]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    subjects = [line.subject for line in read_audit(path).lines]
    for who in "ab":
        assert [s for s in subjects if s.startswith(who)] == [f"{who} {n}" for n in range(40)]
    assert len(subjects) == 80


def test_a_long_last_line_is_read_from_the_end(tmp_path):
    path = tmp_path / "log"
    AuditLog(path).append("x", "long", text="µ" * 200_000)
    AuditLog(path).append("x", "after")
    assert [line.number for line in read_audit(path).lines] == [1, 2]


def test_the_sum_is_that_of_the_documentation(log):
    """Sorted keys, no spaces, UTF-8: any language can check it."""
    import hashlib

    line = json.loads(lines_of(log)[2])
    body = {key: line[key] for key in sorted(line) if key != "sha256"}
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False, sort_keys=True)
    assert line["sha256"] == digest_of(line) == hashlib.sha256(text.encode()).hexdigest()


def test_the_commands_show_and_verify(log, tmp_path):
    shown = casa("audit", "show", log, "--last", "2", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "result: sample 6" in shown.stdout
    assert "sample 4" not in shown.stdout
    found = json.loads(casa("audit", "verify", log, "--json", cwd=tmp_path).stdout)
    assert (found["ok"], found["lines"]) == (True, 6)
    assert re.fullmatch("[0-9a-f]{64}", found["sha256"])
    log.write_bytes(log.read_bytes().replace(b"sample 2", b"sample 3"))
    edited = casa("audit", "verify", log, cwd=tmp_path)
    assert edited.returncode == 1
    assert edited.stderr == f"casa: {log}: line 3 is not what was written: it was changed\n"
    assert casa("audit", "verify", log, "--known", "xyz", cwd=tmp_path).returncode == 2


def test_estimates_are_shown_as_people_write_them(tmp_path):
    figures = {"pr": {"value": 50.123456, "interval_95": [45.0, 55.5]}, "a": {"value": None, "interval_95": None}}
    AuditLog(tmp_path / "log").append("sample", "A-17", percent=figures)
    shown = CliRunner().invoke(app, ["audit", "show", str(tmp_path / "log")]).stdout
    assert "percent: pr 50.12 (45 to 55.5), a not known" in shown


def test_a_log_is_configured_by_the_variable(tmp_path, monkeypatch):
    monkeypatch.delenv("CASA_AUDIT_LOG", raising=False)
    assert AuditLog.configured() is None
    monkeypatch.setitem(os.environ, "CASA_AUDIT_LOG", str(tmp_path / "log"))
    configured = AuditLog.configured()
    assert configured is not None
    assert configured.path == tmp_path / "log"


def test_a_sample_and_its_corrections_are_in_the_log(tmp_path):
    from samples import sample_of

    from casa.cli import sample_report
    from casa.record import Recording
    from casa.viewer.corrections import CorrectionLog, corrections_path

    sample_of(tmp_path / "s", ((60, 40, 20, 80),), ((60, 40, 20, 80),))
    field = tmp_path / "s" / "1-0.h5"
    with Recording(field) as recording:
        found = recording.recording_id
    mark = CorrectionLog(corrections_path(field), found, "me").add(
        "mark", {"frame": 0, "field": 0, "t_s": 0, "note": ""}
    )
    done = casa("sample", "finish", "s", "--json", "--audit-log", "lab.audit", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sample_report.report(tmp_path / "s", None, audit_log=tmp_path / "lab.audit")
    line, report = read_audit(tmp_path / "lab.audit").lines
    assert (line.event, line.subject) == ("sample", "S-1")
    assert (report.event, report.subject) == ("report", "S-1")
    assert report.details["sha256"] == file_digest(tmp_path / "s" / "report.html")
    result = json.loads(done.stdout)
    assert line.details["motility_percent"] == result["motility_percent"]
    assert line.details["accepted"] == result["accepted"]
    first, second = line.details["fields"]
    assert first["recording_id"] == found
    assert first["corrections"] == {"file": "1-0.corrections.jsonl", "lines": 1, "sha256": mark.sha256}
    assert "corrections" not in second


def test_what_is_written_of_a_report_is_logged_also_where_its_pdf_fails(tmp_path, monkeypatch):
    from samples import sample_of

    from casa.cli import sample_report

    folder, log = tmp_path / "s", tmp_path / "lab.audit"
    sample_of(folder, ((60, 40, 20, 80),))
    broken = tmp_path / "printer.py"
    broken.write_text("raise SystemExit('print_page: libnss3.so is missing')\n")
    monkeypatch.setattr("casa.report.pdf._PRINTER", broken)
    with pytest.raises(CasaError, match=r"report\.pdf: the PDF cannot be made here \(libnss3\.so is missing\)"):
        sample_report.report(folder, None, pdf=True, audit_log=log)
    (line,) = read_audit(log).lines
    assert line.details["sha256"] == file_digest(folder / "report.html")
    (folder / "report.html").unlink()
    head_path(log).unlink()
    with pytest.raises(CasaError, match=r"head file is missing"):
        sample_report.report(folder, None, audit_log=log)
    assert not (folder / "report.html").exists()


def test_a_recording_is_named_by_its_sums(tmp_path):
    import hashlib

    from recordings import write_recording

    from casa.cli.audit import audit_recording

    path = write_recording(tmp_path / "run.h5", 20)
    audit_recording(tmp_path / "log", "result", path, status="complete")
    audit_recording(tmp_path / "log", "result", None)
    (line,) = read_audit(tmp_path / "log").lines
    assert line.details["recording"] == str(path)
    assert line.details["recording_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert line.details["model"] == {"name": "m", "sha256": "11"}
    assert line.details["motility_percent"]["pr"] == 75.0


def test_another_network_is_in_the_log(tmp_path, monkeypatch):
    from casa.cli import models
    from casa.weights import ModelEntry, file_sha256, read_manifest, write_manifest

    target, sums = tmp_path / "models", []
    target.mkdir()
    monkeypatch.setattr("casa.resources.resource_dir", lambda name: target)
    for content in (b"one", b"two"):
        folder = tmp_path / content.decode()
        folder.mkdir()
        (folder / "net.onnx").write_bytes(content)
        (folder / "net.md").write_text("# card")
        sums.append(file_sha256(folder / "net.onnx"))
        entry = ModelEntry("net", "detector", folder, {"onnx": (folder / "net.onnx", sums[-1])}, card="net.md")
        write_manifest(folder, {"net": entry})
        models.install_model(folder, "net", force=True, audit_log=tmp_path / "log")
    first, second = read_audit(tmp_path / "log").lines
    assert (first.event, first.subject) == ("model", "net")
    assert (first.details["before"], first.details["after"]) == (None, {"onnx": sums[0]})
    assert (second.details["before"], second.details["after"]) == ({"onnx": sums[0]}, {"onnx": sums[1]})
    assert set(read_manifest(target)) == {"net"}


def test_a_correction_is_linked_and_a_log_that_fails_is_told_but_stops_no_correction(tmp_path, monkeypatch):
    from casa.viewer.corrections import CorrectionLog

    monkeypatch.setenv("CASA_AUDIT_LOG", str(tmp_path / "log"))
    corrections = CorrectionLog(tmp_path / "run.corrections.jsonl", "id-1", "me")
    entry = corrections.add("delete", {"track": 3})
    (line,) = read_audit(tmp_path / "log").lines
    assert (line.event, line.subject, corrections.warning) == ("correction", "id-1", "")
    assert line.details["sha256"] == entry.sha256
    assert (line.details["line"], line.details["action"], line.details["user"]) == (1, "delete", "me")
    monkeypatch.setenv("CASA_AUDIT_LOG", str(tmp_path / "no folder" / "log"))
    corrections.add("undo", {"of": 1})
    assert "not in the audit log" in corrections.warning
    assert len(CorrectionLog(tmp_path / "run.corrections.jsonl", "id-1", "me").entries) == 2
