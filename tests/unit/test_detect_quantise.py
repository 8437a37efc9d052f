import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from casa.cli.found import chosen_weights
from casa.cli.models import app
from casa.config import DetectConfig
from casa.detect import load_detector
from casa.detect.preprocess import to_gray
from casa.detect.publish import add_file
from casa.errors import InputError
from casa.resources import resource_dir
from casa.simulate.training import random_training_image
from casa.weights import ModelEntry, read_manifest, write_manifest


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Four simulated fields in phase contrast, of two sizes."""
    sizes = [(320, 240), (256, 192)] * 2
    images = [random_training_image(np.random.default_rng(k), w, h, "phase") for k, (w, h) in enumerate(sizes)]
    return [to_gray(item[0], 255) for item in images]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, pictures: list[np.ndarray]) -> Path:
    """A folder as training leaves it, with 8-bit weights calibrated on the pictures."""
    pytest.importorskip("nncf", reason="the extra quantise is not installed")
    from casa.detect.quantise import quantise

    folder = tmp_path_factory.mktemp("trained")
    shipped = read_manifest(resource_dir("models"))["sperm"]
    path, sha256 = shipped.files["onnx"]
    shutil.copy(path, folder / "sperm.onnx")
    (folder / "sperm.md").write_text(
        f"# Card\n\n| file | kind |\n|---|---|\n| `sperm.onnx` | onnx | `{sha256}` |\n\nEnd\n"
    )
    entry = ModelEntry("sperm", "detector", folder, {"onnx": (folder / "sperm.onnx", sha256)}, card="sperm.md")
    write_manifest(folder, {"sperm": entry})
    quantise(folder / "sperm.onnx", folder / "sperm-int8.onnx", pictures)
    add_file(entry, "int8", folder / "sperm-int8.onnx", {"int8_clip_ap50": 0.9})
    return folder


def test_eight_bits_find_what_float32_finds(folder: Path, pictures: list[np.ndarray]):
    found = {}
    for name, backend in (("sperm", "openvino"), ("sperm-int8", "openvino"), ("sperm-int8", "onnx")):
        config = DetectConfig(weights=str(folder / f"{name}.onnx"), backend=backend, confidence=0.4, int8=None)
        detector = load_detector(config)
        found[name, backend] = detector.detect(pictures)
        assert detector.model.precision == ("int8" if "int8" in name else "float32")
        detector.close()
    plain = found["sperm", "openvino"]
    assert sum(len(item[0]) for item in plain) > 10
    for backend in ("openvino", "onnx"):
        off = []
        for eight, of_plain in zip(found["sperm-int8", backend], plain, strict=True):
            sure = of_plain[0][of_plain[1] > 0.6]
            if not len(sure):
                continue
            centres, sure_centres = (box[:, :2] + box[:, 2:] for box in (eight[0], sure))
            nearest = np.linalg.norm(sure_centres[:, None] / 2 - centres[None] / 2, axis=2).min(axis=1)
            off.extend(nearest)
        assert np.median(off) < 0.3
        assert max(off) < 4  # a sure head is not lost: heads are 10 px and more


def test_the_manifest_decides_which_weights_openvino_takes(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("casa.weights.resource_dir", lambda kind: folder)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    entry = read_manifest(folder)["sperm"]
    assert set(entry.files) == {"onnx", "int8"}
    assert entry.scores == {"int8_clip_ap50": 0.9}
    card = (folder / "sperm.md").read_text().splitlines()
    assert card[5].startswith("| `sperm-int8.onnx` | int8 | `")
    assert card[-1] == "End"

    def file(**changes: object) -> str:
        detector = load_detector(DetectConfig.model_validate({"device": "cpu", **changes}))
        detector.close()
        return detector.model.file

    assert file() == "sperm-int8.onnx"
    assert file(int8=False) == "sperm.onnx"
    assert file(backend="onnx") == "sperm.onnx"
    assert file(backend="onnx", int8=True) == "sperm-int8.onnx"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert file() == "sperm.onnx"
    assert file(int8=True) == "sperm-int8.onnx"


def test_what_cannot_be_quantised_is_one_line(folder: Path, tmp_path: Path, pictures: list[np.ndarray]):
    from casa.detect.quantise import quantise

    with pytest.raises(InputError, match="is int8 already"):
        quantise(folder / "sperm-int8.onnx", tmp_path / "x.onnx", pictures)
    with pytest.raises(InputError, match="pictures to be calibrated on"):
        quantise(folder / "sperm.onnx", tmp_path / "x.onnx", [])
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(InputError, match=r"bad\.onnx: not a readable ONNX network"):
        quantise(tmp_path / "bad.onnx", tmp_path / "x.onnx", pictures)
    result = CliRunner().invoke(app, ["quantise", str(tmp_path)])
    assert isinstance(result.exception, InputError)
    assert "no network named sperm" in str(result.exception)
    result = CliRunner().invoke(app, ["quantise", str(folder)])
    assert isinstance(result.exception, InputError)
    assert "--force" in str(result.exception)
    assert not (tmp_path / "x.onnx").exists()


def test_without_nncf_there_is_one_line(monkeypatch: pytest.MonkeyPatch):
    from casa.detect.quantise import import_nncf

    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(InputError, match=r"casa-engine\[quantise\]") as caught:
        import_nncf()
    assert "\n" not in str(caught.value)


def test_nncf_reports_nothing_to_anybody(tmp_path: Path):
    pytest.importorskip("nncf", reason="the extra quantise is not installed")
    code = (
        "import sys, threading; from casa.detect.quantise import import_nncf; import_nncf();"
        "print([m for m in sys.modules if 'openvino_telemetry' in m], threading.active_count())"
    )
    environment = os.environ | {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip().splitlines()[-1] == "[] 1"
    assert not (tmp_path / "intel").exists()


def test_accuracy_chooses_the_detector_of_that_role(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("casa.weights.resource_dir", lambda kind: tmp_path)
    with pytest.raises(InputError, match="no detector of that role"):
        chosen_weights(None, True)
    file = {"onnx": (tmp_path / "a.onnx", "0" * 64)}
    write_manifest(
        tmp_path,
        {
            "quick": ModelEntry("quick", "detector", tmp_path, file, trained_on="x"),
            "best": ModelEntry("best", "detector", tmp_path, file, role="accuracy", trained_on="x"),
        },
    )
    assert chosen_weights(None, True) == "best"
    assert chosen_weights("quick", False) == "quick"
    assert chosen_weights(None, False) is None
    with pytest.raises(InputError, match="leave out --weights"):
        chosen_weights("quick", True)
