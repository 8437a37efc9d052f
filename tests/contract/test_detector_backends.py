"""What every backend of the detector is held to, the PyTorch network being the reference."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from casa.config import DetectConfig
from casa.detect import Detector, DetectStage, load_detector
from casa.errors import CasaError, InputError
from casa.simulate.training import training_images
from casa.types import Detections, Frame

BACKENDS = ["openvino", "onnx", "torch"]


def config(backend: str, **changes: object) -> DetectConfig:
    """In float32 unless told otherwise: 8 bits are held to it in test_detect_quantise.py."""
    plain = {"backend": backend, "device": "cpu", "confidence": 0.02, "int8": False}
    return DetectConfig.model_validate(plain | changes)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Simulated fields of several sizes, one of them no multiple of the stride, and one of noise."""
    rng = np.random.default_rng(3)
    sizes = [(320, 240), (320, 240), (250, 190)]
    fields = [next(training_images(k, 1, width_px=w, height_px=h))[0] for k, (w, h) in enumerate(sizes)]
    return [*fields, rng.integers(0, 255, (96, 128), np.uint8)]


@pytest.fixture(scope="module")
def reference(pictures: list[np.ndarray]) -> list:
    detector = load_detector(config("torch"))
    found = detector.detect(pictures)
    detector.close()
    return found


@pytest.fixture(params=BACKENDS)
def detector(request: pytest.FixtureRequest) -> Iterator[Detector]:
    detector = load_detector(config(request.param))
    yield detector
    detector.close()


def test_the_detector_says_what_it_is(detector: Detector):
    model = detector.model
    assert (model.name, model.device, model.precision) == ("sperm", "cpu", "float32")
    assert model.classes[0] == "sperm"
    assert len(model.sha256) == 64


def test_boxes_are_those_of_pytorch(detector: Detector, pictures: list[np.ndarray], reference: list):
    assert sum(len(found[0]) for found in reference) > 20
    for found, expected in zip(detector.detect(pictures), reference, strict=True):
        # A detection within rounding of the threshold may be on either side of it.
        sure, sure_expected = found[1] > 0.0202, expected[1] > 0.0202
        assert sure.sum() == sure_expected.sum()
        np.testing.assert_allclose(found[0][sure], expected[0][sure_expected], atol=0.01)
        np.testing.assert_allclose(found[1][sure], expected[1][sure_expected], atol=1e-4)
        assert found[2].dtype == np.int64


def test_the_real_clip_is_seen_alike(shared_data: Path):
    import av

    with av.open(str(shared_data / "visem13_clip" / "clip.mp4")) as container:
        images = [
            frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(3), strict=False)
        ]
    results = {}
    for backend in BACKENDS:
        detector = load_detector(config(backend, confidence=0.2))
        results[backend] = detector.detect(images)
        detector.close()
    for backend in ("openvino", "onnx"):
        for found, expected in zip(results[backend], results["torch"], strict=True):
            assert len(found[0]) == len(expected[0]) > 20
            np.testing.assert_allclose(found[0], expected[0], atol=0.01)


def test_boxes_lie_in_the_picture_and_confidence_falls(detector: Detector, pictures: list[np.ndarray]):
    for image, (xyxy, confidence, _) in zip(pictures, detector.detect(pictures), strict=True):
        height, width = image.shape[:2]
        assert (xyxy[:, :2] >= 0).all()
        assert (xyxy[:, 2:] <= [width, height]).all()
        assert (xyxy[:, 2:] > xyxy[:, :2]).all()
        assert (np.diff(confidence) <= 0).all()


def test_an_empty_field_is_an_empty_answer(detector: Detector):
    xyxy, confidence, class_id = detector.detect([np.full((64, 64), 128, np.uint8)])[0]
    assert xyxy.shape == (0, 4)
    assert len(confidence) == len(class_id) == 0


def test_gray_colour_and_sixteen_bits_give_the_same(detector: Detector):
    gray = np.asarray(next(training_images(9, 1, width_px=160, height_px=160))[0][..., 1])
    wide = (gray.astype(np.uint32) * 65535 // 255).astype(np.uint16)
    plain, colour, deep = detector.detect([gray, np.repeat(gray[..., None], 3, axis=2), wide])
    assert len(plain[0]) == len(colour[0]) == len(deep[0])
    np.testing.assert_allclose(colour[0], plain[0], atol=0.01)
    np.testing.assert_allclose(deep[0], plain[0], atol=0.5)


def frames(images: list[np.ndarray]) -> list[Frame]:
    return [Frame(index=3 * k, t_ns=1000 * k, image=image, field=k % 2) for k, image in enumerate(images)]


def run(stage: DetectStage, items: list[Frame]) -> list[Detections]:
    stage.open()
    try:
        found = [out for item in items for out in stage.process(item)]
        assert len(found) <= len(items)
        return found + list(stage.flush())
    finally:
        stage.close()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("look_ahead", [None, 0], ids=["ahead", "live"])
def test_the_stage_keeps_the_order_through_changes_of_size(
    backend: str, look_ahead: int | None, pictures: list[np.ndarray], reference: list
):
    items = frames([pictures[k] for k in (0, 1, 2, 3, 2, 1, 0, 0, 1)])
    found = run(DetectStage(config(backend), look_ahead=look_ahead), items)
    assert [(d.frame, d.t_ns, d.field) for d in found] == [(f.index, f.t_ns, f.field) for f in items]
    for detections, k in zip(found, (0, 1, 2, 3, 2, 1, 0, 0, 1), strict=True):
        assert abs(len(detections) - len(reference[k][0])) <= 1  # one within rounding of the threshold
        np.testing.assert_allclose(detections.confidence[:5], reference[k][1][:5], atol=1e-4)


def test_openvino_works_ahead_and_flush_gives_the_rest(pictures: list[np.ndarray]):
    stage = DetectStage(config("openvino"))
    stage.open()
    early = [out for item in frames([pictures[0]] * 6) for out in stage.process(item)]
    late = list(stage.flush())
    stage.close()
    assert 0 < len(late) <= 4
    assert [d.frame for d in early + late] == [0, 3, 6, 9, 12, 15]


def test_runs_agree_bit_for_bit(pictures: list[np.ndarray]):
    first, second = (run(DetectStage(config("openvino")), frames(pictures)) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.xyxy, b.xyxy)
        np.testing.assert_array_equal(a.confidence, b.confidence)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_picture_that_cannot_be_read_names_its_frame(backend: str):
    stage = DetectStage(config(backend))
    stage.open()
    with pytest.raises(InputError, match="frame 7: the detector takes pictures"):
        stage.process(Frame(index=7, t_ns=0, image=np.zeros((8, 8), np.float32)))
    stage.close()


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_that_are_none_are_a_failure_and_not_an_empty_field(backend: str, monkeypatch: pytest.MonkeyPatch):
    detector = load_detector(config(backend))
    finish = detector._backend.finish

    def broken(ticket: object) -> tuple[np.ndarray, np.ndarray]:
        distances, logits = finish(ticket)
        return distances, np.full_like(logits, np.nan)

    monkeypatch.setattr(detector._backend, "finish", broken)
    stage = DetectStage(config(backend), detector, look_ahead=0)
    stage.open()
    with pytest.raises(CasaError, match=r"frame 4: .* not finite"):
        stage.process(Frame(index=4, t_ns=0, image=np.zeros((32, 32), np.uint8)))
    stage.close()
    detector.close()


@pytest.mark.parametrize("backend", ["openvino", "onnx"])
def test_neither_torch_nor_ultralytics_is_imported(backend: str):
    code = (
        "import sys, numpy as np; from casa.config import DetectConfig; from casa.detect import load_detector;"
        f"d = load_detector(DetectConfig(backend={backend!r})); d.detect([np.zeros((64, 64), np.uint8)]); d.close();"
        "print([m for m in ('torch', 'ultralytics', 'torchvision', 'casa.simulate') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_openvino_reports_nothing_to_anybody():
    code = (
        "import sys, threading; from casa.runtimes import import_openvino; import_openvino().Core();"
        "print('openvino_telemetry' in sys.modules, threading.active_count(), 'openvino.tools.ovc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "1", "False"]


def test_the_peer_gets_the_same_network(tmp_path: Path, pictures: list[np.ndarray], reference: list):
    """The checkpoint for ultralytics itself gives casa's raw heads, through ultralytics' own decoding."""
    import torch
    from ultralytics.nn.tasks import load_checkpoint

    from casa.detect.network import write_ultralytics_checkpoint
    from casa.resources import resource_dir

    write_ultralytics_checkpoint(resource_dir("models") / "sperm.pt", tmp_path / "peer.pt")
    model, _ = load_checkpoint(tmp_path / "peer.pt")
    # One of the two whose sides are multiples of the stride: ultralytics' model does not fill up, casa does.
    fullest = max(range(2), key=lambda k: len(reference[k][0]))
    gray = load_gray(pictures[fullest])
    with torch.no_grad():
        out = model(torch.from_numpy(gray)[None, None].float() / 255)[0][0].numpy()
    best = out[:, out[4].argmax()]
    box, confidence, _ = (column[0] for column in reference[fullest])
    centre = (box[:2] + box[2:]) / 2
    np.testing.assert_allclose(best[4], confidence, atol=1e-4)
    np.testing.assert_allclose(best[:2], centre, atol=0.05)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_gives_what_single_pictures_give(backend: str, pictures: list[np.ndarray]):
    detector = load_detector(config(backend))
    images = [pictures[k] for k in (0, 2, 1, 0, 3, 1, 0, 1)]
    one_by_one, at_once = detector.detect(images), detector.detect_batch(images)
    assert detector.detect_batch([]) == []
    detector.close()
    for single, batched in zip(one_by_one, at_once, strict=True):
        sure, sure_batched = single[1] > 0.0202, batched[1] > 0.0202
        assert sure.sum() == sure_batched.sum()
        np.testing.assert_allclose(batched[0][sure_batched], single[0][sure], atol=0.01)
        np.testing.assert_allclose(batched[1][sure_batched], single[1][sure], atol=1e-4)


def test_half_precision_as_tensorrt_gets_it_is_the_same_network(tmp_path: Path, pictures: list[np.ndarray]):
    import onnx
    import onnxruntime

    from casa.detect.half import half_precision_onnx
    from casa.resources import resource_dir

    path = resource_dir("models") / "sperm.onnx"
    half = half_precision_onnx(path)
    onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
    gray = load_gray(pictures[0])[None, None].astype(np.float32)
    plain = onnxruntime.InferenceSession(str(path)).run(["distances", "logits"], {"gray": gray})
    halved = onnxruntime.InferenceSession(half).run(["distances", "logits"], {"gray": gray})
    for a, b in zip(plain, halved, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert a.dtype == b.dtype == np.float32
        assert not np.array_equal(a, b)  # it does compute in half precision
        assert np.abs(a - b).mean() < 0.01 * np.ptp(a)
        assert np.abs(a - b).max() < 0.03 * np.ptp(a)
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"bad\.onnx: not a readable ONNX"):
        half_precision_onnx(bad)


def test_tensorrt_where_it_is_missing_is_one_line():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device: the next test is the one that runs")
    with pytest.raises(InputError, match=r"backend tensorrt needs (TensorRT; pip install|a CUDA device)") as caught:
        load_detector(DetectConfig(backend="tensorrt"))
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="backend tensorrt runs on CUDA"):
        load_detector(DetectConfig(backend="tensorrt", device="cpu"))


@pytest.mark.parametrize("half", [True, False])
def test_tensorrt_agrees(half: bool, pictures: list[np.ndarray], reference: list):
    pytest.importorskip("tensorrt", reason="TensorRT is not installed")
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    detector = load_detector(DetectConfig(backend="tensorrt", half=half, confidence=0.2))
    assert detector.model.precision == ("float16" if half else "float32")
    for found, expected in zip(detector.detect_batch(pictures), reference, strict=True):
        strong = expected[1] > 0.3
        np.testing.assert_allclose(found[0][: strong.sum()], expected[0][strong], atol=0.5)
    detector.close()


def load_gray(image: np.ndarray) -> np.ndarray:
    from casa.detect.preprocess import to_gray

    return to_gray(image, 255)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backend": "onnx", "half": True}, "single precision"),
        ({"backend": "openvino", "device": "cuda"}, "runs on the CPU"),
        ({"backend": "torch", "half": True}, "half precision is for CUDA"),
        ({"backend": "torch", "int8": True}, "no 8-bit weights"),
    ],
)
def test_what_a_backend_cannot_do_is_refused(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        load_detector(DetectConfig.model_validate({"device": "cpu", **changes}))


def test_cuda_in_half_precision_agrees(pictures: list[np.ndarray], reference: list):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    detector = load_detector(DetectConfig(backend="torch", device="cuda", confidence=0.2))
    assert detector.model.precision == "float16"
    for found, expected in zip(detector.detect(pictures), reference, strict=True):
        strong = expected[1] > 0.3
        np.testing.assert_allclose(found[0][: strong.sum()], expected[0][strong], atol=0.5)
    detector.close()
