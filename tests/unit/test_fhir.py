"""Claims about FHIR: it is valid R4, says nothing of a person, and what is not known is absent and never zero."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import recordings
from samples import record_field, sample_of
from typer.testing import CliRunner

from casa.cli.main import app
from casa.interchange.export import export
from casa.interchange.fhir import sample_bundle
from casa.interchange.fhir_codes import KINDS, LOCAL, LOINC, UCUM
from casa.record import Recorder
from casa.report.sample_fields import read_sample_fields
from casa.report.sample_parts import heads_of_sample
from casa.samples.sample import Sample, add_field, new_sample
from casa.types import FrameAccount, FrameStatus


def observations(bundle: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By code, LOINC or casa's own."""
    found = [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == "Observation"]
    return {one["code"]["coding"][0]["code"]: one for one in found}


def resource(bundle: dict[str, Any], kind: str) -> dict[str, Any]:
    (found,) = (entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind)
    return found


def check(bundle: dict[str, Any]) -> None:
    """R4B's models take it, and every reference leads to a resource in it."""
    models = pytest.importorskip("fhir.resources.R4B.bundle")
    models.Bundle.model_validate(bundle)
    names = {entry["fullUrl"] for entry in bundle["entry"]}
    assert len(names) == len(bundle["entry"])
    report = resource(bundle, "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert report["code"]["coding"][0] == {"system": LOINC, "code": "54231-6"}
    assert {one["reference"] for one in report["result"] + report["specimen"]} <= names
    assert len(report["result"]) == len(observations(bundle))
    defined = {one["code"] for one in resource(bundle, "CodeSystem")["concept"]}
    for code, one in observations(bundle).items():
        assert ("valueQuantity" in one) != ("dataAbsentReason" in one)
        assert {one["specimen"]["reference"], one["device"]["reference"]} <= names
        assert one["code"]["coding"][0]["system"] == (LOCAL if code in defined else LOINC)
        for component in one.get("component", []):
            assert component["code"]["coding"][0]["code"] in defined
    assert not any("subject" in entry["resource"] or "performer" in entry["resource"] for entry in bundle["entry"])


def test_every_kind_of_figure_has_a_code_and_a_unit():
    loinc = [kind.loinc for kind in KINDS.values() if kind.loinc]
    assert len(set(loinc)) == len(loinc)
    for kind in KINDS.values():
        assert bool(kind.loinc) != bool(kind.definition)
        assert kind.unit in {"10*6/mL", "10*6", "mL", "%", "{cells}", "um/s", "um", "Hz", "deg"}
    for code in loinc:  # LOINC's check digit: Luhn's
        digits, given = code.split("-")
        doubled = [int(d) * (2 if k % 2 == 0 else 1) for k, d in enumerate(reversed(digits))]
        assert (10 - sum(d // 10 + d % 10 for d in doubled) % 10) % 10 == int(given), code


def test_a_recording_is_a_preliminary_report(tmp_path: Path):
    path = recordings.write_recording(tmp_path / "run.h5", n_frames=30, n=8)
    (written,) = export(path, "fhir", tmp_path / "out")
    text = written.read_text()
    bundle = json.loads(text)
    check(bundle)
    found = observations(bundle)
    assert found["14194-5"]["valueQuantity"] == {"value": 75.0, "unit": "%", "system": UCUM, "code": "%"}
    assert found["14194-5"]["referenceRange"][0]["low"]["value"] == 30
    assert found["9780-8"]["dataAbsentReason"]["coding"][0]["code"] == "unknown"  # the made-up summary has none
    assert "issued" in found["6800-7"]
    assert "effectiveDateTime" not in found["6800-7"]  # when a video was taken is not known
    assert "x.mp4" not in text
    versions = {entry["value"] for entry in resource(bundle, "Device")["version"]}
    assert versions == {"0", "m, sha256 11"}
    (again,) = export(path, "fhir", tmp_path / "again")
    assert again.read_text() == text


def test_heads_are_told_where_the_network_knows_such_pictures(tmp_path: Path):
    for name, clips in (("known", (2, 4, 6)), ("unknown", (1, 3))):
        recorder = Recorder(tmp_path / f"{name}.h5")
        recorder.open(recordings.SESSION | {"morphology_model": {"class_names": list(recordings.CLASSES)}})
        for clip_id in clips:
            recorder.head(recordings.head_exam(clip_id, track_id=clip_id))
        recorder.frame(0, 0, 0, FrameStatus.PROCESSED)
        recorder.finish("complete", FrameAccount(1, 1), recordings.SUMMARY, None)
        (written,) = export(tmp_path / f"{name}.h5", "fhir", tmp_path / name)
        bundle = json.loads(written.read_text())
        check(bundle)
        heads = observations(bundle)["10621-1"]
        assert ("valueQuantity" in heads) == (name == "known")
        assert "referenceRange" not in heads  # WHO's 4 % is of whole, stained sperm


def test_a_sample_has_its_normal_heads_its_doubts_and_its_time(tmp_path: Path):
    folder = tmp_path / "s"
    model = {"name": "m", "class_names": list(recordings.CLASSES)}
    sample = new_sample(folder, Sample("S-2"))
    for number in (1, 2):
        path = folder / f"{number}.h5"
        begun = f"2099-01-01T0{number}:00:00+00:00"
        of_field = record_field(
            path, (20, 20, 10, 30), whole=True, clips=range(2, 18, 2), morphology_model=model, created_utc=begun
        )
        sample = add_field(folder, sample, path, of_field, number)
    figures, fields = read_sample_fields(folder, sample)
    bundle = sample_bundle(sample, figures, fields)
    check(bundle)
    heads, report = observations(bundle)["10621-1"], resource(bundle, "DiagnosticReport")
    shown = heads_of_sample(fields)
    assert not isinstance(shown, str)
    (normal,) = (row for part in shown.parts if part.name == "head" for row in part.rows if row.name == "normal")
    assert heads["valueQuantity"]["value"] == pytest.approx(normal.percent, rel=1e-5)
    assert {c["code"]["coding"][0]["code"] for c in heads["component"]} == {"interval-95", "replicate-1", "replicate-2"}
    assert any("not the strict morphology" in note["text"] for note in heads["note"])
    assert any(note["text"].startswith("Count more: replicate 1: 80 cells") for note in heads["note"])
    assert report["issued"] == "2099-01-01T02:00:00+00:00"  # when the last field was analysed, not when it was begun
    assert "effectivePeriod" not in report  # when videos were taken is not known
    live = sample_bundle(sample, figures, [replace(field, live=True) for field in fields])
    check(live)
    assert resource(live, "DiagnosticReport")["effectivePeriod"]["start"] == "2099-01-01T01:00:00+00:00"


def test_a_sample_whose_heads_could_not_be_examined_says_why(tmp_path: Path):
    sample = new_sample(tmp_path, Sample("S-3"))
    on = {"config": {"morphology": {"enabled": True}}}
    sample = add_field(tmp_path, sample, tmp_path / "1.h5", record_field(tmp_path / "1.h5", (9, 9, 9, 9), **on), 1)
    bundle = sample_bundle(sample, *read_sample_fields(tmp_path, sample))
    check(bundle)
    assert "none of 36 tracks was examined" in observations(bundle)["10621-1"]["dataAbsentReason"]["text"]


def test_what_is_not_known_is_absent_and_says_why(tmp_path: Path):
    recorder = Recorder(tmp_path / "run.h5")
    recorder.open(recordings.SESSION | {"calibration": None})
    recorder.frame(0, 0, 0, FrameStatus.PROCESSED)
    recorder.finish("interrupted", FrameAccount(1, 1), None, None)
    (written,) = export(tmp_path / "run.h5", "fhir", tmp_path / "out")
    bundle = json.loads(written.read_text())
    check(bundle)
    assert all("valueQuantity" not in one for one in observations(bundle).values())
    reasons = [one["dataAbsentReason"] for one in observations(bundle).values()]
    assert {reason["coding"][0]["code"] for reason in reasons} == {"error", "unknown"}
    assert all(reason["text"] for reason in reasons)
    assert "interrupted" in resource(bundle, "DiagnosticReport")["conclusion"]


def test_a_sample_has_pooled_figures_and_those_of_its_replicates(tmp_path: Path):
    sample_of(tmp_path / "s", ((60, 60, 30, 60),), ((62, 58, 30, 60),))
    out = tmp_path / "s.json"
    done = CliRunner().invoke(app, ["sample", "export", str(tmp_path / "s"), "--format", "fhir", "-o", str(out)])
    assert done.exit_code == 0, done.output
    text = out.read_text()
    bundle = json.loads(text)
    check(bundle)
    found = observations(bundle)
    assert found["3160-9"]["valueQuantity"]["value"] == 2.0
    assert found["total-number"]["valueQuantity"]["value"] == pytest.approx(
        2 * found["9780-8"]["valueQuantity"]["value"], rel=1e-5
    )
    finished = json.loads(CliRunner().invoke(app, ["sample", "finish", str(tmp_path / "s"), "--json"]).stdout)
    for code, value in (
        ("14194-5", finished["motility_percent"]["pr"]),
        ("9780-8", finished["concentration_m_per_ml"]),
    ):
        assert found[code]["valueQuantity"]["value"] == pytest.approx(value["value"], rel=1e-5)
    parts = {c["code"]["coding"][0]["code"]: c for c in found["14194-5"]["component"]}
    assert set(parts) == {"interval-95", "replicate-1", "replicate-2"}
    low, high = (parts["interval-95"]["valueRange"][end]["value"] for end in ("low", "high"))
    assert low < found["14194-5"]["valueQuantity"]["value"] < high
    assert "10621-1" not in found  # morphology was off
    notes = [note["text"] for note in found["14194-5"]["note"]]
    assert "Count more: replicate 1" not in " ".join(notes)
    assert "Caution: Calibration not verified (all fields)." in notes
    assert "note" not in found["3160-9"]  # the volume was entered
    assert "Every speed and the concentration hang on it." in resource(bundle, "DiagnosticReport")["conclusion"]
    assert resource(bundle, "Specimen")["identifier"] == [{"value": "S-1"}]
    assert '"me"' not in text  # the operator
    assert str(tmp_path) not in text
    refused = CliRunner().invoke(app, ["sample", "export", str(tmp_path / "s"), "-o", str(out)])
    assert "--force" in str(refused.exception)
