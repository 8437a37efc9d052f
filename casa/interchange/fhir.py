"""A recording or a sample as FHIR R4: a preliminary DiagnosticReport with its Observations, Specimen and Device.

Nothing personal is in it: no patient, no operator, no path of a file. What is not known has a ``dataAbsentReason`` and
never a zero. The same recording gives the same identifiers whenever it is exported. Resources and elements used are the
same in R4 and R4B.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np

from casa import __version__
from casa.interchange.fhir_codes import KINDS, LIMIT_TEXT, PANEL, component_concept, concept, local_codes, quantity
from casa.record import Recording
from casa.report import sample_texts, texts
from casa.report.figures import (
    Figure,
    concentration_figure,
    measure_timing,
    motility_figures,
    quality_notes,
    time_weights,
)
from casa.report.morphology import Heads, heads_from, nothing_examined
from casa.report.sample_fields import Field, cautions_of
from casa.report.sample_parts import heads_of_sample, not_examined
from casa.report.texts import REASON_NO_SCALE, REASON_NO_SUMMARY, REASON_NO_TRACKS, Note
from casa.samples.pool import Estimate, Pooled, SampleFigures
from casa.samples.sample import Sample
from casa.statistics import effective_count, spread
from casa.types import Calibration, KinematicsFlag, KinematicsTable, is_simulated

_HL7 = "http://terminology.hl7.org/CodeSystem"
_SPACE = uuid.UUID("6d1c1df2-5a0e-5f0b-8f6e-1a2b3c4d5e6f")
#: Kinematics that are reported: key, column, factor to its unit.
_KINEMATICS = (
    ("vcl", "vcl_um_s", 1.0), ("vsl", "vsl_um_s", 1.0), ("vap", "vap_um_s", 1.0), ("lin", "lin", 100.0),
    ("str", "str", 100.0), ("wob", "wob", 100.0), ("alh", "alh_mean_um", 1.0), ("bcf", "bcf_hz", 1.0),
    ("mad", "mad_deg", 1.0),
)  # fmt: skip
_UNSTAINED = "Of unstained heads in video: not the strict morphology of the WHO manual, and of heads alone"
_SLOW = "Below 50 images/s ALH and BCF are not trustworthy"


@dataclass(frozen=True, slots=True)
class Observed:
    """A figure on its way to an Observation: ``ranges`` and ``parts`` by component, ``reason`` where unknown."""

    key: str
    value: float | None
    reason: str = ""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    parts: Mapping[str, float | None] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a bundle is of.

    ``identity`` fixes its ids; ``effective`` is when the sample was seen, from and to (None: not known); ``issued``
    when the figures were there; ``doubts`` go with every figure that was measured.
    """

    identity: str
    identifier: dict[str, Any]
    issued: str
    effective: tuple[str, str] | None
    versions: Mapping[str, Sequence[str]]
    processing: str = ""
    doubts: Sequence[str] = ()


def recording_bundle(recording: Recording) -> dict[str, Any]:
    """The Bundle of one recorded field."""
    session, summary, kinematics = recording.session, recording.summary(), recording.kinematics()
    calibration, source = recording.calibration, recording.source
    observed = [_of_figure("concentration", concentration_figure(summary, calibration, source))]
    motility = motility_figures(summary, kinematics, calibration)
    observed += [_of_figure(key, motility[key]) for key in ("total", "pr", "a", "b", "c", "d")]
    n = effective_count(time_weights(kinematics))
    no_figure = REASON_NO_SUMMARY if summary is None else REASON_NO_SCALE if calibration is None else REASON_NO_TRACKS
    observed.append(Observed("cells", n or None, no_figure))
    observed += _kinematics(kinematics, REASON_NO_TRACKS if calibration else REASON_NO_SCALE)
    observed += _heads_of(recording, summary.n_tracks if summary else len(kinematics))
    created = next(iter(_moments([session.get("created_utc")])), "")
    notes = _notes(recording)
    model = session.get("model") or {}
    origin = Origin(
        identity=f"{recording.recording_id} {session.get('tracks', 'online')}",
        identifier={"system": "urn:ietf:rfc:3986", "value": f"urn:uuid:{uuid.UUID(recording.recording_id)}"},
        issued=created,
        effective=(created, created) if recording.bus is not None else None,  # a video does not say when it was taken
        versions={
            "casa": [str(session.get("casa_version") or "?")],
            "detector weights": [f"{model.get('name')}, sha256 {model.get('sha256')}"],
        },
        doubts=_doubts(notes),
    )
    rate = measure_timing(recording.frames()).fps_hz
    said = [f"Recording: {recording.status}.", *_said(notes), _method(calibration, rate, source.timestamps)]
    simulated = [texts.SIMULATED] if is_simulated(source) else []
    return _told_simulated(_bundle(origin, observed, [*simulated, *said, texts.DISCLAIMER]), bool(simulated))


def _told_simulated(bundle: dict[str, Any], simulated: bool) -> dict[str, Any]:
    """The bundle, tagged as test data where it is of simulated fields."""
    tag = {"system": f"{_HL7}/v3-ActReason", "code": "HTEST", "display": "test health data"}
    return bundle | {"meta": {"tag": [tag]}} if simulated else bundle


def sample_bundle(sample: Sample, figures: SampleFigures, fields: Sequence[Field]) -> dict[str, Any]:
    """The Bundle of a sample: pooled figures, with those of each replicate as components.

    ``fields`` are read without the reasons of lost frames, which can name files.
    """
    groups = figures.replicates
    pooled = figures.pooled

    def one(key: str, of: Any, reason: str) -> Observed:
        estimates: list[Estimate] = [of(group) for group in (pooled, *groups)]
        ranges = {"interval-95": estimates[0].interval} if estimates[0].interval else {}
        parts = {f"replicate-{i}": e.value for i, e in enumerate(estimates[1:], 1)} if len(groups) > 1 else {}
        return Observed(key, estimates[0].value, reason, ranges, parts)

    def share(key: str) -> Any:
        return lambda group: group.motility_percent[key]

    observed = [one("concentration", lambda group: group.concentration_m_per_ml, "the chamber depth is not known")]
    total = figures.total_m
    observed += [
        Observed("volume", sample.volume_ml, "the volume was not given"),
        Observed("total-number", total.value, "the volume or the chamber depth is not known",
                 {"interval-95": total.interval} if total.interval else {}),
    ]  # fmt: skip
    observed += [one(key, share(key), REASON_NO_TRACKS) for key in ("total", "pr", "a", "b", "c", "d")]
    observed.append(Observed("cells", pooled.cells, parts=_cells(groups)))
    kinematics = [f.kinematics for f in figures.fields]
    observed += _kinematics(KinematicsTable.concatenate(kinematics), REASON_NO_TRACKS)
    observed += _heads_of_sample(fields)
    cautions = [found.note for found in cautions_of(figures, fields)]
    count_more = [f"{sample_texts.COUNT_MORE}: {reason}." for reason in figures.reasons]
    moments = _moments([f.record.session.get("created_utc") for f in fields])
    ids = sorted(entry.recording_id for entry in sample.fields)
    analysed_with = sorted({f.analysed_with for f in figures.fields})
    origin = Origin(
        identity=" ".join([sample.sample_id, *ids]),
        identifier={"value": sample.sample_id},
        issued=next(reversed(_moments([sample.created_utc, *moments])), ""),  # when the last of the figures was there
        effective=(moments[0], moments[-1]) if moments and all(f.live for f in fields) else None,
        versions={
            "casa": sorted({version for version, _ in analysed_with}),
            "detector weights": sorted({f"sha256 {digest}" for _, digest in analysed_with}),
        },
        processing=f"Diluted {sample.dilution:g} times" if sample.dilution != 1 else "",
        doubts=[*count_more, *_doubts(cautions)],
    )
    first = fields[0].record
    said = [f"{pooled.n_fields} recorded fields in {len(groups)} replicate(s).", *count_more]
    said += _said(cautions)
    said.append(_method(first.figures.calibration, first.timing.fps_hz, first.source.timestamps))
    simulated = [sample_texts.SIMULATED] if any(f.simulated for f in figures.fields) else []
    return _told_simulated(_bundle(origin, observed, [*simulated, *said, sample_texts.DISCLAIMER]), bool(simulated))


def _moments(told: Sequence[Any]) -> list[str]:
    """Those of some times that are whole (with a time zone, as FHIR's instants have one), earliest first."""
    known = []
    for moment in map(str, told):
        try:
            if datetime.fromisoformat(moment).tzinfo is not None:
                known.append(moment)
        except ValueError:
            pass
    return sorted(known, key=datetime.fromisoformat)


def write_bundle(path: Path, bundle: dict[str, Any]) -> None:
    """Write a Bundle as JSON."""
    path.write_text(json.dumps(bundle, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def _of_figure(key: str, figure: Figure) -> Observed:
    return Observed(key, figure.value, figure.reason, {"interval-95": figure.interval} if figure.interval else {})


def _cells(groups: Sequence[Pooled]) -> dict[str, float | None]:
    return {f"replicate-{i}": group.cells for i, group in enumerate(groups, 1)} if len(groups) > 1 else {}


def _kinematics(k: KinematicsTable, reason: str) -> list[Observed]:
    """Medians and quartiles over the tracks."""
    slow = bool(np.any(k.flags & KinematicsFlag.LOW_FRAME_RATE)) if len(k) else False
    found = []
    for key, column, factor in _KINEMATICS:
        over = spread(getattr(k, column) * factor)
        note = _SLOW if slow and key in ("alh", "bcf") else ""
        if over is None:
            found.append(Observed(key, None, reason))
        else:
            found.append(Observed(key, over.median, ranges={"quartiles": (over.q1, over.q3)}, note=note))
    return found


def _heads_of(recording: Recording, n_tracks: int) -> list[Observed]:
    """The share of normal heads of a recording; nothing where morphology was off."""
    clips = recording.morphology()
    if not len(clips):
        why = nothing_examined(recording, n_tracks)
        return [_normal_heads(why)] if why else []
    told = recording.session.get("morphology_model") or {}
    return [_normal_heads(heads_from(clips.by_track(), len(clips), told, {}))]


def _heads_of_sample(fields: Sequence[Field]) -> list[Observed]:
    """The same of a sample, with the share in each replicate."""
    if not any(len(f.heads) for f in fields) and not not_examined(fields):
        return []
    numbers = sorted({f.replicate for f in fields})
    by_replicate = [_normal_heads(heads_of_sample([f for f in fields if f.replicate == n])).value for n in numbers]
    parts = {f"replicate-{k}": value for k, value in enumerate(by_replicate, 1)} if len(numbers) > 1 else {}
    return [replace(_normal_heads(heads_of_sample(fields)), parts=parts)]


def _normal_heads(heads: Heads | str) -> Observed:
    """The share of normal heads, or why there is none; a guess at pictures that a network does not know is none."""
    if isinstance(heads, str):
        return Observed("normal-heads", None, heads)
    if heads.outside:
        return Observed("normal-heads", None, f"the network does not know such pictures: {', '.join(heads.outside)}")
    judged = next((part for part in heads.parts if part.name in ("class", "head")), None)
    row = next((row for row in judged.rows if row.name == "normal"), None) if judged else None
    if judged is None or row is None or not judged.n_classed:
        return Observed("normal-heads", None, "no head was seen well enough, or the network has no such class")
    return Observed("normal-heads", row.percent, ranges={"interval-95": (row.low, row.high)}, note=_UNSTAINED)


def _said(notes: Sequence[Note]) -> list[str]:
    return [f"{note.title}: {note.text}" for note in notes]


def _doubts(notes: Sequence[Note]) -> list[str]:
    """Cautions by their titles, for single figures; their texts are in the report's conclusion."""
    return [f"Caution: {note.title}." for note in notes if note.caution]


def _notes(recording: Recording) -> list[Note]:
    """What the report says of the recording's quality, without reasons of lost frames, which can name files."""
    frames, summary, kinematics = recording.frames(), recording.summary(), recording.kinematics()
    created: date | None = None
    try:
        created = datetime.fromisoformat(str(recording.session.get("created_utc"))).date()
    except ValueError:
        pass
    return quality_notes(
        recording.source, recording.calibration, recording.account, measure_timing(frames), summary, kinematics,
        summary.n_tracks if summary else len(kinematics), (), bool(np.any(frames["field"])), created,
    )  # fmt: skip


def _method(calibration: Calibration | None, rate: float | None, timestamps: str) -> str:
    scale = "none" if calibration is None else f"{calibration.um_per_px_x:.5g} x {calibration.um_per_px_y:.5g} um/px"
    depth = calibration.chamber_depth_um if calibration else None
    said = f"Scale {scale}; chamber depth {f'{depth:g} um' if depth else 'not known'}; "
    return said + f"{f'{rate:.4g}' if rate else 'unknown'} images/s, times {timestamps}."


def _bundle(origin: Origin, observed: Sequence[Observed], said: Sequence[str]) -> dict[str, Any]:
    def name(key: str) -> str:
        return str(uuid.uuid5(_SPACE, f"{origin.identity}/{key}"))

    def reference(key: str) -> dict[str, str]:
        return {"reference": f"urn:uuid:{name(key)}"}

    when: dict[str, Any] = {"issued": origin.issued} if origin.issued else {}
    if origin.effective:
        first, last = origin.effective
        when |= {"effectivePeriod": {"start": first, "end": last}} if first != last else {"effectiveDateTime": first}
    specimen: dict[str, Any] = {
        "resourceType": "Specimen",
        "id": name("specimen"),
        "identifier": [origin.identifier],
        "type": {"coding": [{"system": f"{_HL7}/v2-0487", "code": "SMN", "display": "Seminal fluid"}], "text": "Semen"},
    }
    if origin.processing:
        specimen["processing"] = [{"description": origin.processing}]
    device = {
        "resourceType": "Device",
        "id": name("device"),
        "deviceName": [{"name": "casa", "type": "model-name"}],
        "type": {"text": "Computer-assisted semen analysis, software"},
        "version": [
            {"type": {"text": what}, "value": value} for what, values in origin.versions.items() for value in values
        ],
        "note": [{"text": f"An aid to a trained person, and no medical device. Exported by casa {__version__}."}],
    }
    report = {
        "resourceType": "DiagnosticReport",
        "id": name("report"),
        "identifier": [origin.identifier],
        "status": "preliminary",
        "category": [{"coding": [{"system": f"{_HL7}/v2-0074", "code": "LAB"}]}],
        "code": {"coding": [PANEL], "text": "Semen analysis"},
        **when,
        "specimen": [reference("specimen")],
        "result": [reference(one.key) for one in observed],
        "conclusion": "\n".join(said),
    }
    shared = {**when, "specimen": reference("specimen"), "device": reference("device")}
    resources = [report, specimen, device]
    resources += [_observation(name(one.key), one, shared, origin.doubts) for one in observed]
    resources.append(local_codes())
    entries = [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources]
    return {"resourceType": "Bundle", "id": name("bundle"), "type": "collection", "entry": entries}


def _observation(name: str, one: Observed, shared: dict[str, Any], doubts: Sequence[str]) -> dict[str, Any]:
    kind = KINDS[one.key]
    out: dict[str, Any] = {
        "resourceType": "Observation",
        "id": name,
        "status": "preliminary",
        "category": [{"coding": [{"system": f"{_HL7}/observation-category", "code": "laboratory"}]}],
        "code": concept(one.key),
        **shared,
        **_value(one.value, kind.unit, one.reason),
    }
    measured = one.value is not None and one.key != "volume"
    if notes := [*([one.note] if one.note else []), *(doubts if measured else [])]:
        out["note"] = [{"text": text} for text in notes]
    if kind.limit is not None:
        out["referenceRange"] = [{"low": quantity(kind.limit, kind.unit), "text": LIMIT_TEXT}]
    components: list[dict[str, Any]] = []
    for key, (low, high) in one.ranges.items():
        ends = {"low": quantity(low, kind.unit), "high": quantity(high, kind.unit)}
        components.append({"code": component_concept(key), "valueRange": ends})
    for key, value in one.parts.items():
        components.append({"code": component_concept(key), **_value(value, kind.unit, one.reason)})
    return out | ({"component": components} if components else {})


def _value(value: float | None, unit: str, reason: str) -> dict[str, Any]:
    """The value, or why there is none."""
    if value is not None:
        return {"valueQuantity": quantity(value, unit)}
    code = "error" if reason == REASON_NO_SUMMARY else "unknown"
    return {"dataAbsentReason": {"coding": [{"system": f"{_HL7}/data-absent-reason", "code": code}], "text": reason}}
