import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from casa.cli.models import app
from casa.config import DetectConfig
from casa.detect import load_detector
from casa.errors import CasaError, InputError
from casa.resources import resource_dir
from casa.weights import ModelEntry, file_sha256, read_manifest, resolve_weights, write_manifest


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    shutil.copytree(resource_dir("models"), folder)
    return folder


def test_the_shipped_weights_are_what_the_manifest_says_and_small():
    entries = read_manifest(resource_dir("models"))
    assert "sperm" in entries
    for entry in entries.values():
        assert (entry.folder / entry.card).is_file(), f"{entry.name} has no model card"
        for path, sha256 in entry.files.values():
            assert file_sha256(path) == sha256
            assert path.stat().st_size < 15e6


def test_a_file_that_was_changed_is_refused(models: Path):
    path = models / "sperm.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(InputError, match="sha256") as caught:
        load_detector(DetectConfig(weights=str(path), backend="openvino"))
    assert "\n" not in str(caught.value)


def test_a_file_of_the_manifest_that_is_missing_is_said_to_be(models: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("casa.weights.resource_dir", lambda kind: models)
    (models / "sperm.onnx").unlink()
    with pytest.raises(CasaError, match=r"sperm\.onnx: the weights are missing"):
        load_detector(DetectConfig(backend="onnx"))


def test_unknown_names_and_files_are_input_errors(tmp_path: Path):
    with pytest.raises(InputError, match=r"known: .*sperm"):
        resolve_weights("nosuch", ("onnx",))
    with pytest.raises(InputError, match="no such weights file"):
        resolve_weights(str(tmp_path / "none.onnx"), ("onnx",))


@pytest.mark.parametrize(("name", "backend"), [("a.onnx", "openvino"), ("a.onnx", "onnx"), ("a.pt", "torch")])
@pytest.mark.parametrize("content", [b"", b"not a network" * 50], ids=["empty", "noise"])
def test_a_bad_model_file_is_one_line(tmp_path: Path, name: str, backend: str, content: bytes):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        load_detector(DetectConfig(weights=str(path), backend=backend))
    assert "\n" not in str(caught.value)


def test_a_foreign_onnx_network_is_refused(tmp_path: Path):
    import onnx
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "foreign",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 32, 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 32, 32])],
    )
    path = tmp_path / "foreign.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    for backend in ("openvino", "onnx"):
        with pytest.raises(InputError, match="not a network exported by casa"):
            load_detector(DetectConfig(weights=str(path), backend=backend))


def test_a_state_that_names_other_code_is_refused(tmp_path: Path):
    import torch

    path = tmp_path / "evil.pt"
    architecture = {"backbone": [[-1, 1, "Conv", [8, 3, 2]]], "head": [], "activation": "print('ran')"}
    torch.save({"format": "casa-detector-1", "architecture": architecture, "classes": ["sperm"], "state": {}}, path)
    with pytest.raises(InputError, match="activation"):
        load_detector(DetectConfig(weights=str(path), backend="torch"))


def test_the_manifest_comes_back_as_it_was_written(tmp_path: Path):
    file = tmp_path / "net.onnx"
    file.write_bytes(b"x")
    entry = ModelEntry(
        "net", "detector", tmp_path, {"onnx": (file, file_sha256(file))}, licence="AGPL", trained_on='a "b" – c',
        command="casa train", seed=3, card="net.md", role="accuracy", scores={"clip_ap50": 0.5},
    )  # fmt: skip
    write_manifest(tmp_path, {"net": entry})
    assert read_manifest(tmp_path) == {"net": entry}


@pytest.mark.parametrize("text", ["not = [toml", "[models.a]\ntask = 'detector'\n"], ids=["syntax", "incomplete"])
def test_a_bad_manifest_is_one_line(tmp_path: Path, text: str):
    (tmp_path / "manifest.toml").write_text(text)
    with pytest.raises(InputError, match=r"manifest\.toml") as caught:
        read_manifest(tmp_path)
    assert "\n" not in str(caught.value)


def test_models_verify_fails_where_a_sum_is_wrong(models: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("casa.resources.resource_dir", lambda kind: models)
    good = CliRunner().invoke(app, ["verify", "--json"])
    assert good.exit_code == 0
    assert '"ok": true' in good.stdout
    (models / "sperm.pt").write_bytes(b"other")
    bad = CliRunner().invoke(app, ["verify"])
    assert isinstance(bad.exception, CasaError)
    assert "FAILED" in bad.stdout


def test_models_list_names_licence_and_training_data():
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0, result.output
    assert "sperm" in result.stdout
    assert "AGPL-3.0-or-later" in result.stdout
    assert "VISEM-Tracking" in result.stdout


def test_a_trained_network_is_installed_with_its_card_and_not_over_another(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "installed"
    target.mkdir()
    monkeypatch.setattr("casa.resources.resource_dir", lambda kind: target)
    assert CliRunner().invoke(app, ["install", str(models)]).exit_code == 0
    entry = read_manifest(models)["sperm"]
    files = {path.name for path, _ in entry.files.values()}
    assert {"sperm.onnx", "sperm.pt"} <= files
    assert {path.name for path in target.iterdir()} == {"manifest.toml", entry.card} | files
    assert CliRunner().invoke(app, ["verify"]).exit_code == 0
    assert isinstance(CliRunner().invoke(app, ["install", str(models)]).exception, InputError)
    (models / "sperm.pt").write_bytes(b"damaged")
    assert isinstance(CliRunner().invoke(app, ["install", str(models), "--force"]).exception, InputError)
