from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from casa.cli.train_detector import app
from casa.config import DetectConfig
from casa.detect import load_detector
from casa.detect.augment import LabelledImage, random_view
from casa.detect.confidence import detections_on_heads, fit_confidence
from casa.detect.dataset import clip_images, simulated_images
from casa.detect.network import save_state
from casa.detect.publish import RealData, describe_training_data, find_start
from casa.detect.train import load_train_config, steps_per_epoch, train
from casa.errors import InputError
from casa.resources import resource_dir
from casa.weights import read_manifest

SHIPPED = resource_dir("configs") / "detector" / "train.yaml"


def spot(x: int, y: int, size: int = 12) -> LabelledImage:
    image = np.full((200, 260), 60, np.uint8)
    image[y : y + size, x : x + size] = 250
    return LabelledImage(image, np.array([[x, y, x + size, y + size]], float), np.zeros(1, np.int64))


@pytest.mark.parametrize("seed", range(12))
def test_boxes_follow_their_pixels_through_a_view(seed: int):
    rng = np.random.default_rng(seed)
    view = random_view(spot(*rng.integers(20, 170, 2)), 128, rng, (0.6, 1.7), share=0.0)
    assert view.image.shape == (128, 128)
    # Contrast and inversion aside, the spot is what stands out from the ground.
    bright = np.abs(view.image.astype(int) - int(np.median(view.image))) > 60
    if not len(view.xyxy):
        assert bright.sum() < 0.4 * 144 * 1.7**2
        return
    rows, columns = np.nonzero(bright)
    seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    np.testing.assert_allclose(view.xyxy[0], seen, atol=1.3)


def test_the_same_generator_gives_the_same_views():
    first, second = (random_view(spot(80, 90), 96, np.random.default_rng(7), (0.5, 2.0)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)
    np.testing.assert_array_equal(first.xyxy, second.xyxy)


def test_a_rare_class_is_in_view_as_often_as_a_common_one():
    image, corners = np.full((900, 900), 60, np.uint8), np.random.default_rng(0).uniform(0, 880, (40, 2))
    sample = LabelledImage(image, np.concatenate([corners, corners + 12], axis=1), np.repeat([0, 2], [39, 1]))
    rng = np.random.default_rng(1)
    seen = [2 in random_view(sample, 96, rng, (1.0, 1.0)).class_id for _ in range(300)]
    assert 0.2 < np.mean(seen) < 0.4  # half of the views are centred on a box, half of these on the rare one


def test_light_is_changed_but_not_where_things_are():
    rng = np.random.default_rng(0)
    views = [random_view(spot(100, 80, 30), 128, rng, (1.0, 1.0)) for _ in range(20)]
    assert len({view.image.tobytes() for view in views}) == 20
    assert all(view.image.dtype == np.uint8 for view in views)


class Picture(NamedTuple):
    image: np.ndarray
    xyxy: np.ndarray
    class_id: np.ndarray
    white_level: int = 255


def pictures(n: int):
    rng = np.random.default_rng(0)
    for _ in range(n):
        image = rng.integers(40, 80, (80, 96, 3), np.uint8)
        corner = rng.integers(8, 60, 2)
        image[corner[1] : corner[1] + 12, corner[0] : corner[0] + 12] = 230
        yield Picture(image, np.array([[*corner, *(corner + 12)]], float), np.zeros(1, np.int64))


def test_simulated_pictures_are_kept_with_their_classes_and_read_again(tmp_path: Path):
    cache = tmp_path / "kept.npz"
    drawn = [picture._replace(class_id=np.array([k % 3])) for k, picture in enumerate(pictures(4))]
    made = simulated_images(drawn, 4, "a", cache)
    again = simulated_images(iter(()), 3, "a", cache)
    assert [int(item.class_id[0]) for item in again] == [0, 1, 2]
    for a, b in zip(made, again, strict=False):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
    assert len(simulated_images(pictures(2), 2, "b", cache)) == 2  # another recipe's are not taken
    assert len(simulated_images(iter(()), 2, "b", cache)) == 2


def test_deep_pictures_become_what_the_detector_makes_of_them():
    image = np.full((8, 8, 3), 2000, np.uint16)
    deep = Picture(image, np.empty((0, 4)), np.empty(0, np.int64), 4000)
    assert (simulated_images([deep], 1, "deep")[0].image == 128).all()


def test_boxes_of_classes_that_a_network_has_not_are_left_out():
    image = LabelledImage(np.zeros((9, 9), np.uint8), np.arange(12.0).reshape(3, 4), np.array([0, 2, 1]))
    assert image.of_classes(3) is image
    assert image.of_classes(2).class_id.tolist() == [0, 1]
    np.testing.assert_array_equal(image.of_classes(1).xyxy, [[0, 1, 2, 3]])


def test_the_test_frames_are_not_trained_on():
    settings = load_train_config(SHIPPED)
    assert settings.real_last == 139
    assert settings.real_first <= settings.real_last < settings.test_first <= settings.test_last


def test_the_clip_is_read_with_its_boxes(shared_data: Path):
    images = clip_images(shared_data / "visem13_clip", 138, 139)
    assert [item.image.shape for item in images] == [(480, 640)] * 2
    assert all(30 < len(item.xyxy) < 60 for item in images)
    assert len(clip_images(shared_data / "visem13_clip", 100, 110, stride=4)) == 3
    with pytest.raises(InputError, match="200 frames"):
        clip_images(shared_data / "visem13_clip", 199, 200)


def test_a_clip_that_is_missing_is_said_to_be(tmp_path: Path):
    with pytest.raises(InputError, match=r"clip\.mp4: missing"):
        clip_images(tmp_path, 0, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [("name: a\n", "network"), ("epochs: 0\nnetwork: {}\n", "epochs"), ("colour: 1\nnetwork: {}\n", "colour")],
)
def test_a_bad_configuration_names_its_key(tmp_path: Path, text: str, message: str):
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_train_config(path)


def test_a_detection_on_a_head_counts_once():
    truth = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], float)
    xyxy = np.array([[1, 1, 9, 9], [2, 2, 8, 8], [21, 21, 29, 29], [50, 50, 60, 60]], np.float32)
    found = (xyxy, np.array([0.9, 0.8, 0.7, 0.6], np.float32), np.zeros(4, np.int64))
    assert detections_on_heads(found, truth).tolist() == [True, False, True, False]
    assert detections_on_heads(found, np.empty((0, 4))).tolist() == [False] * 4


def test_confidence_becomes_the_share_that_is_right():
    """Scores drawn so that a share sigmoid(2 z - 1) of those with logit z is right give back slope 2, offset -1."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 1.5, (40, 250))
    right = rng.random(z.shape) < 1 / (1 + np.exp(-(2 * z - 1)))
    corners = np.arange(250)[:, None] * np.array([[20.0, 0.0]])
    boxes = np.concatenate([corners, corners + 10], axis=1)

    class Scripted:
        def detect(self, images: list) -> list:
            order = [np.argsort(-row) for row in z]
            return [
                (boxes[o].astype(np.float32), (1 / (1 + np.exp(-row[o]))).astype(np.float32), np.zeros(250, np.int64))
                for row, o in zip(z, order, strict=True)
            ]

    nothing = np.zeros((4, 4), np.uint8)
    images = [LabelledImage(nothing, boxes[row].astype(float), np.zeros(row.sum(), np.int64)) for row in right]
    slope, offset = fit_confidence(Scripted(), images)  # type: ignore[arg-type]
    assert slope == pytest.approx(2, abs=0.1)
    assert offset == pytest.approx(-1, abs=0.1)


def test_a_card_names_the_data_that_was_trained_on_and_their_licence(tmp_path: Path):
    settings = load_train_config(SHIPPED)
    mine = RealData(tmp_path / "clip", "slides of our clinic, 2026", "not published")
    path, begun_from = find_start("sperm")
    assert path.name == "sperm.pt"
    said = describe_training_data(settings, 20, mine, begun_from)
    assert "frames 0-139 of a clip of slides of our clinic, 2026 (not published)" in said
    assert "begun from models/sperm.pt, which was trained on" in said
    assert "VISEM" not in describe_training_data(settings, 20, mine)
    (tmp_path / "x.pt").write_bytes(b"")
    assert find_start(str(tmp_path / "x.pt"))[1].endswith("/x.pt, whose training data is not recorded")


def test_a_real_clip_without_name_or_licence_is_refused_before_anything_is_written(tmp_path: Path):
    out = tmp_path / "out"
    for more in ([], ["--data-name", "mine"], ["--data-name", " ", "--data-licence", "CC0"]):
        refused = CliRunner().invoke(app, ["detector", "-o", str(out), "--real", "my-clip", *more])
        assert isinstance(refused.exception, InputError)
        assert "give --data-name TEXT and --data-licence TEXT" in str(refused.exception)
    assert not out.exists()


def test_training_ends_in_weights_that_load_on_every_backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two hundred views of bright squares: enough to begin to find squares, from scratch to manifest."""
    for name in ("training_images", "other_species_images"):
        monkeypatch.setattr(f"casa.simulate.training.{name}", lambda _seed, count, routes=None: pictures(count))
    config = tmp_path / "train.yaml"
    small = {"views_per_picture": 6, "batch": 8, "view_px": 64, "warmup_steps": 5, "average": 0.8}
    lines = [line for line in SHIPPED.read_text().splitlines() if line.split(":")[0] not in small]
    config.write_text("\n".join(lines + [f"{key}: {value}" for key, value in small.items()]) + "\n")
    assert steps_per_epoch(load_train_config(config, {"simulated": 16}), 16) == 12
    out = tmp_path / "out"
    arguments = ["detector", "--config", str(config), "--sim", "16", "--epochs", "3", "-o", str(out)]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    losses = np.loadtxt(out / "training.csv", delimiter=",", skiprows=1)
    assert losses.shape == (3, 4)
    assert losses[-1, 2] < losses[0, 2], "the class loss does not fall"
    entry = read_manifest(out)["sperm"]
    figures = ("ap50", "ap50_95", "precision", "recall")
    assert set(entry.scores) == {f"{judged}_{name}" for judged in ("simulated", "species") for name in figures}
    assert "Model card" in (out / "sperm.md").read_text()
    assert find_start(str(out / "training.pt"))[1].startswith("out/training.pt, which was trained on 16 pictures")
    image = next(pictures(1)).image
    found = []
    for backend in ("openvino", "onnx", "torch"):
        settings = {"weights": str(out / "sperm.onnx"), "backend": backend, "device": "cpu", "confidence": 0.0}
        detector = load_detector(DetectConfig.model_validate(settings))
        assert detector.model.trained_on.startswith("16 pictures")
        found.append(detector.detect([image])[0])
        detector.close()
    for xyxy, confidence, _ in found[1:]:
        np.testing.assert_allclose(xyxy[0], found[0][0][0], atol=0.01)
        np.testing.assert_allclose(confidence[0], found[0][1][0], atol=1e-4)
    again = CliRunner().invoke(app, arguments)
    assert isinstance(again.exception, InputError)
    assert "--force" in str(again.exception)


def test_training_goes_on_from_weights_of_the_same_network(tmp_path: Path):
    images = [LabelledImage(p.image[..., 0], p.xyxy, p.class_id) for p in pictures(6)]
    settings = load_train_config(SHIPPED, {"epochs": 1, "views_per_picture": 4, "batch": 8, "view_px": 64})
    first = train(settings, images, [], seed=0)
    save_state(first, settings.network, settings.classes, tmp_path / "first.pt")
    still = load_train_config(SHIPPED, {"epochs": 1, "views_per_picture": 1, "view_px": 64, "learning_rate": 1e-12})
    second = train(still, images, [], seed=1, start=tmp_path / "first.pt")
    for name, tensor in first.named_parameters():
        np.testing.assert_allclose(dict(second.named_parameters())[name].numpy(), tensor.numpy(), atol=1e-5)
    more = still.model_copy(update={"classes": ("sperm", "cluster")})
    third = train(more, images, [], seed=1, start=tmp_path / "first.pt")
    rows = {name: tensor for name, tensor in third.named_parameters() if len(tensor) == 2}
    (bias,) = (tensor.numpy() for tensor in rows.values() if tensor.ndim == 1)
    assert bias[1] == pytest.approx(bias[0] - 3, abs=1e-4), "a new class does not begin as a rarer sperm"
    (weight,) = (tensor.numpy() for tensor in rows.values() if tensor.ndim == 4)
    np.testing.assert_allclose(weight[1], weight[0], atol=1e-5)
    other = settings.model_copy(update={"classes": ("cluster", "sperm")})
    with pytest.raises(InputError, match="another network"):
        train(other, images, [], seed=0, start=tmp_path / "first.pt")
