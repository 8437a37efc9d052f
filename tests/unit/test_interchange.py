"""Claims about what other programs get: every column is explained, and TrackMate, napari and R4 servers can read it."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import recordings
from typer.testing import CliRunner

from casa.batch.dataset import recording_row
from casa.cli.main import app
from casa.errors import InputError
from casa.interchange.dictionary import TABLES, as_markdown, describe
from casa.interchange.export import FORMATS, export
from casa.record import Recorder, Recording
from casa.types import FrameAccount, FrameStatus

ROOT = Path(__file__).resolve().parents[2]
UM_PER_PX = recordings.SESSION["calibration"]["um_per_px_x"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Path:
    """A recording with every table; track 40 is seen once."""
    path = tmp_path_factory.mktemp("recorded") / "run.h5"
    recorder = Recorder(path)
    recorder.open(recordings.SESSION | {"morphology_model": {"class_names": list(recordings.CLASSES)}})
    for frame in range(12):
        t = recordings.tracks(frame, 9)
        if frame == 5:
            t = replace(t, track_id=np.where(t.track_id == 9, 40, t.track_id))
        recorder.detections(recordings.detections(frame, 9))
        recorder.tracks(t)
        recorder.frame(frame, 0, t.t_ns, FrameStatus.PROCESSED)
    recorder.kinematics(recordings.kinematics([2, 3, 7]))
    recorder.grades(recordings.grades([1, 2]))
    for clip_id in (1, 2, 3):
        recorder.head(recordings.head_exam(clip_id, reason="two heads" if clip_id == 3 else ""))
    recorder.finish("complete", FrameAccount(12, 12), recordings.SUMMARY, None)
    return path


def test_the_dictionary_is_true_and_complete_for_every_table(recorded: Path, tmp_path: Path):
    pq = pytest.importorskip("pyarrow.parquet")
    types = {"int64": "int64", "double": "float64", "string": "text"}
    export(recorded, "csv", tmp_path / "csv")
    export(recorded, "parquet", tmp_path / "parquet")
    files = {path.stem: path for path in (tmp_path / "parquet").glob("*.parquet")}
    exported = set(TABLES) - {"recordings"}
    assert set(files) == exported == {p.stem for p in (tmp_path / "csv").glob("*.csv")} - {"dictionary"}
    for table, path in files.items():
        schema = pq.read_schema(path)
        assert (tmp_path / "csv" / f"{table}.csv").read_text().splitlines()[0].split(",") == schema.names
        for field in schema:
            assert describe(table, field.name).type == types[str(field.type)], f"{table}.{field.name}"
        for known in TABLES[table]:
            assert any(describe(table, name) == known for name in schema.names), f"{table} has no {known.name}"
            assert known.meaning
            assert known.source
            if known.name.endswith(("_um_s", "_px_s", "_s", "_um", "_px", "_hz", "_deg")):
                assert known.unit, known.name
    with open(tmp_path / "csv" / "dictionary.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["table"] for row in rows} == exported
    assert len(rows) == sum(len(TABLES[table]) for table in exported)


def test_the_dictionary_knows_the_data_sets_of_many_recordings(recorded: Path):
    row = recording_row(recorded)
    types = {str: "text", int: "int64", float: "float64"}
    for name, value in row.items():
        assert value is None or types[type(value)] == describe("recordings", name).type, name
    for known in TABLES["recordings"]:
        assert any(describe("recordings", name) == known for name in row), known.name


def test_the_page_is_what_the_command_prints():
    done = CliRunner().invoke(app, ["export", "--dictionary"])
    assert done.stdout == as_markdown()
    assert (ROOT / "docs" / "data-dictionary.md").read_text() == as_markdown()
    told = json.loads(CliRunner().invoke(app, ["export", "--dictionary", "--json"]).stdout)["columns"]
    assert ("kinematics", "bcf_hz", "Hz") in {(entry["table"], entry["column"], entry["unit"]) for entry in told}


def test_trackmate_finds_every_head_and_every_link(recorded: Path, tmp_path: Path):
    (path,) = export(recorded, "trackmate", tmp_path)
    root = ElementTree.parse(path).getroot()
    assert root.tag == "TrackMate"
    model = root.find("Model")
    assert model is not None
    assert model.attrib == {"spatialunits": "micron", "timeunits": "sec"}
    settings = ("ImageData", "BasicSettings", "DetectorSettings", "InitialSpotFilter", "SpotFilterCollection",
                "TrackerSettings", "TrackFilterCollection", "AnalyzerCollection/SpotAnalyzers")  # fmt: skip
    for place in (*(f"Settings/{name}" for name in settings), "GUIState", "DisplaySettings", "Log"):
        assert root.find(place) is not None, place
    declared = {
        kind: {feature.attrib["feature"] for feature in model.findall(f"FeatureDeclarations/{kind}Features/Feature")}
        for kind in ("Spot", "Edge", "Track")
    }
    with Recording(recorded) as recording:
        tracks, kinematics = recording.tracks(), recording.kinematics()
    spots = {}
    for frame in model.findall("AllSpots/SpotsInFrame"):
        for spot in frame:
            assert set(spot.attrib) - {"ID", "name"} == declared["Spot"]
            assert spot.attrib["FRAME"] == frame.attrib["frame"]
            spots[spot.attrib["ID"]] = {key: float(value) for key, value in spot.attrib.items() if key != "name"}
    assert len(spots) == len(tracks) == int(model.find("AllSpots").attrib["nspots"])  # type: ignore[union-attr]
    measured = ~tracks.predicted
    x = np.where(measured, tracks.x_measured_px, tracks.cx_px)
    found = sorted((spot["FRAME"], spot["POSITION_X"]) for spot in spots.values())
    assert np.allclose(found, sorted(zip(tracks.frame, (x - 0.5) * UM_PER_PX, strict=True)), atol=1e-6)
    assert sum(spot["CASA_PREDICTED"] for spot in spots.values()) == tracks.predicted.sum() > 0
    elements = model.findall("AllTracks/Track")
    ids = [int(element.attrib["TRACK_ID"]) for element in elements]
    assert ids == list(range(1, 10))  # the one that was seen once is a spot without a track
    assert ids == [int(one.attrib["TRACK_ID"]) for one in model.findall("FilteredTracks/TrackID")]
    for element in elements:
        assert set(element.attrib) - {"name"} <= declared["Track"]
        assert all(np.isfinite(float(value)) for key, value in element.attrib.items() if key != "name")
        for edge in element:
            assert set(edge.attrib) <= declared["Edge"]
            source, target = spots[edge.attrib["SPOT_SOURCE_ID"]], spots[edge.attrib["SPOT_TARGET_ID"]]
            assert source["FRAME"] < target["FRAME"]
        assert len(element) == int(element.attrib["NUMBER_SPOTS"]) - 1
    by_id = dict(zip(ids, elements, strict=True))
    assert float(by_id[2].attrib["CASA_VCL"]) == pytest.approx(kinematics.vcl_um_s[0])
    assert "CASA_VCL" not in by_id[3].attrib  # not known: left out, and no zero
    assert by_id[9].attrib["NUMBER_GAPS"] == by_id[9].attrib["LONGEST_GAP"] == "1"


def test_napari_takes_the_array_as_it_is(recorded: Path, tmp_path: Path):
    """What ``napari.layers.Tracks`` demands: (n, 4) numbers, whole ids, sorted by id and time, features row by row."""
    export(recorded, "napari", tmp_path)
    data = np.load(tmp_path / "tracks.npy")
    with Recording(recorded) as recording:
        tracks = recording.tracks()
    assert data.shape == (len(tracks), 4)
    assert np.isfinite(data).all()
    assert np.array_equal(data[:, :2], data[:, :2].astype(int))
    assert np.array_equal(np.lexsort((data[:, 1], data[:, 0])), np.arange(len(data)))
    assert len(np.unique(data[:, :2], axis=0)) == len(data)
    first = tracks.select((tracks.track_id == 1) & (tracks.frame == 3))
    row = data[(data[:, 0] == 1) & (data[:, 1] == 3)][0]
    assert row[2:] == pytest.approx([first.y_measured_px[0] - 0.5, first.x_measured_px[0] - 0.5])
    with open(tmp_path / "features.csv", newline="") as stream:
        features = list(csv.DictReader(stream))
    assert len(features) == len(data)
    of_two = [line for line, at in zip(features, data, strict=True) if at[0] == 2]
    assert {line["motility_grade"] for line in of_two} == {"3"}
    assert {line["vcl"] for line, at in zip(features, data, strict=True) if at[0] == 3} == {""}
    layer = json.loads((tmp_path / "layer.json").read_text())
    assert layer["scale"] == [1.0, UM_PER_PX, UM_PER_PX]


@pytest.mark.parametrize("format", ["trackmate", "napari", "fhir"])
def test_what_holds_no_track_is_exported_too(tmp_path: Path, format: str):
    recorder = Recorder(tmp_path / "run.h5")
    recorder.open(recordings.SESSION | {"calibration": None})
    recorder.frame(0, 0, 0, FrameStatus.PROCESSED)
    recorder.finish("interrupted", FrameAccount(1, 1), None, None)
    for path in export(tmp_path / "run.h5", format, tmp_path / "out"):
        assert path.stat().st_size > 0
    if format == "trackmate":
        model = ElementTree.parse(tmp_path / "out" / "tracks.xml").getroot().find("Model")
        assert model is not None
        assert model.attrib["spatialunits"] == "pixel"
        assert model.findall("AllTracks/Track") == []


def test_bad_calls_are_one_line(recorded: Path, tmp_path: Path):
    with pytest.raises(InputError, match=", ".join(FORMATS)):
        export(recorded, "xml", tmp_path)
    for arguments, said in ((["-o", "x"], "RUN.h5"), (["run.h5"], "-o FOLDER")):
        done = CliRunner().invoke(app, ["export", *arguments])
        assert isinstance(done.exception, InputError)
        assert said in str(done.exception)
