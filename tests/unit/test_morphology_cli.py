"""``casa morphology`` and ``casa data``, as they are called."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import recordings
from head_clips import clip_of

from casa.cli.main import app
from casa.errors import InputError
from casa.morphology.datasets import rendered_heads, write_heads
from casa.morphology.examine import cells, examine
from casa.morphology.sheet import Cell, contact_sheet
from casa.record import Recorder
from casa.record.clips import KeptClip
from casa.types import FrameAccount


def casa(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "casa", *map(str, arguments)], capture_output=True, text=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("heads") / "set"
    write_heads(folder, rendered_heads(12, "hushem", seed=5)[0])
    cv2.imwrite(str(folder / "blank.png"), np.full((64, 64), 120, np.uint8))
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def test_a_folder_gives_a_table_and_a_sheet(folder: Path, tmp_path: Path):
    called = casa("morphology", folder, "-o", tmp_path / "out", "--um-per-px", 0.085, "--weights", "none", "--json")
    assert called.returncode == 0, called.stderr
    result = json.loads(called.stdout)
    assert result["crops"] == 14
    assert result["heads"] == 12
    assert result["abstained"] == {"one value": 1, "not readable": 1}
    assert 3.5 < result["median"]["length_um"] < 5.5
    with (tmp_path / "out" / "morphology.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 14
    by_reason = {row["reason"]: row for row in rows}
    assert set(by_reason) == {"", "one value", "not readable"}
    assert by_reason["one value"]["length_um"] == ""
    assert float(by_reason[""]["length_um"]) == pytest.approx(float(by_reason[""]["length_px"]) * 0.085, rel=1e-3)
    sheet = cv2.imread(str(tmp_path / "out" / "sheet.png"))
    assert sheet.shape[1] > 800
    again = casa("morphology", folder, "-o", tmp_path / "out")
    assert again.returncode == 2
    assert "--force" in again.stderr


def test_classes_of_pictures_that_the_network_does_not_know_are_marked(folder: Path, tmp_path: Path):
    calls = {"said": ["--um-per-px", 0.085, "--look", "diff-quik"], "unsaid": []}
    for name, options in calls.items():
        called = casa("morphology", folder, "-o", tmp_path / name, "--sheet", 0, "--json", *options)
        assert called.returncode == 0, called.stderr
        reasons = json.loads(called.stdout)["outside"]
        assert "the network has seen rendered heads alone, no photograph" in reasons
        assert [word in " ".join(reasons) for word in ("the scale is not known", "not said")] == [name == "unsaid"] * 2
        with (tmp_path / name / "morphology.csv").open() as stream:
            assert {row["in_domain"] for row in csv.DictReader(stream)} == {"0"}
    wrong = casa("morphology", folder, "-o", tmp_path / "wrong", "--look", "dark field")
    assert (wrong.returncode, len(wrong.stderr.splitlines())) == (2, 1)
    assert "--look dark field: expected one of phase contrast, unstained, stained, Diff-Quik" in wrong.stderr


def test_audit_and_rendering(tmp_path: Path):
    called = casa("data", "render", "-o", tmp_path / "set", "--preset", "scian", "--count", 12, "--seed", 3)
    assert called.returncode == 0, called.stderr
    called = casa("data", "audit", tmp_path / "set", "--layout", "scian", "--json")
    assert called.returncode == 0, called.stderr
    result = json.loads(called.stdout)
    assert result["crops"] == 12
    assert result["experts"]["experts"] == 3
    cv2.imwrite(str(tmp_path / "set" / "other.png"), np.zeros((50, 50), np.uint8))
    result = json.loads(casa("data", "audit", tmp_path / "set", "--json").stdout)
    assert (result["sizes"], result["unlisted"]) == ({"35x35 gray 8 bit": 12}, 1)
    assert "1 pictures in the folder that its table does not name: left out" in result["findings"]
    missing = tmp_path / "set" / "labels.csv"
    missing.write_text(missing.read_text() + "gone.png,normal,normal,normal,normal,,\n")
    called = casa("data", "audit", tmp_path / "set")
    assert called.returncode == 2
    assert called.stderr.count("\n") == 1
    assert "1 of 13 pictures it names are missing (gone.png)" in called.stderr


@pytest.mark.parametrize("folder_name", ["nowhere", ""])
def test_wrong_folders_are_one_line(tmp_path: Path, folder_name: str):
    called = casa("morphology", tmp_path / folder_name, "-o", tmp_path / "out")
    assert called.returncode == 2
    assert called.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


class Halves:
    """Calls a head by the brighter half of its crop."""

    class_names = ("head:normal", "head:abnormal", "tail:normal", "tail:abnormal")

    def classify(self, crops, masks=None, um_per_px=None):
        rows = [[0.8, 0.2, 0.4, 0.6] if mask is not None else [np.nan] * 4 for mask in masks]
        return np.array(rows)

    def decide(self, probabilities):
        seen = np.isfinite(probabilities[:, 0])
        return {"head": np.where(seen, 0, -1), "tail": np.where(seen, 1, -1)}

    def heat_map(self, crop, *, class_name=None, mask=None, um_per_px=None):
        assert class_name == "normal"  # what was decided of the first part, and stands below the picture
        return np.linspace(0, 1, crop[..., 0].size, dtype=np.float32).reshape(crop.shape[:2])


def test_a_classifiers_classes_and_heat_maps_are_shown():
    heads, _ = rendered_heads(3, "hushem", seed=8)
    images = [*heads.images, np.zeros((50, 50), np.uint8), None]
    found = examine(["a", "b", "c", "blank", "broken"], images, classifier=Halves())
    assert found.decided == {"head": ("normal",) * 3 + ("", ""), "tail": ("abnormal",) * 3 + ("", "")}
    assert dict(found.reasons) == {"one value": 1, "not readable": 1}
    made = cells(found, range(5), Halves())
    assert "head normal 80%" in made[0].detail
    assert [cell.warn for cell in made] == [False, False, False, True, True]
    with_heat, without = contact_sheet(made, "five"), contact_sheet([*made[3:], Cell(images[0], None, "x")], "")
    assert with_heat.shape[1] > without.shape[1]
    assert with_heat.dtype == np.uint8


def test_the_clips_of_a_recording_give_a_table_and_a_sheet(tmp_path: Path):
    clip, _ = clip_of((0, 0.5, 2.5, 0.8) * 4)
    poor, _ = clip_of((4.5, 5.0) * 8)
    recorder = Recorder(tmp_path / "run.h5")
    recorder.open(recordings.SESSION)
    for number, one in enumerate((clip, poor, clip), start=1):
        recorder.clip(KeptClip(replace(one, clip_id=number, track_id=10 + number)))
    recorder.finish("complete", FrameAccount(), None, None)
    called = casa("morphology", tmp_path / "run.h5", "-o", tmp_path / "out", "--json")
    assert called.returncode == 0, called.stderr
    result = json.loads(called.stdout)
    assert (result["clips"], result["tracks"], result["heads"]) == (3, 3, 2)
    assert sum(result["abstained"].values()) == 1
    assert result["classes"] == {"class": {"normal": 2}}
    assert any("no photograph" in reason for reason in result["outside"])  # that session says it is of a camera
    with (tmp_path / "out" / "morphology.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["track_id"] for row in rows] == ["11", "12", "13"]
    assert [row["n_crops"] for row in rows] == ["4", "0", "4"]
    assert cv2.imread(str(tmp_path / "out" / "sheet.png")).shape[1] > 500
    for arguments, why in (
        (["--um-per-px", "0.2"], "has its own scale"),
        (["--weights", "none"], "with a network"),
    ):
        with pytest.raises(InputError, match=why):
            app(
                ["morphology", str(tmp_path / "run.h5"), "-o", str(tmp_path / "new"), *arguments], standalone_mode=False
            )
    empty = recordings.write_recording(tmp_path / "empty.h5", 3)
    with pytest.raises(InputError, match="keeps no clips"):
        app(["morphology", str(empty), "-o", str(tmp_path / "new")], standalone_mode=False)
    assert not (tmp_path / "new").exists()
