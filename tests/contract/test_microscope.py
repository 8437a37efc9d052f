"""The simulated microscope: what stage, focus, exposure and faults do, and that its truth is its pictures' own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from casa.config import CameraConfig
from casa.simulate.live import LiveRenderer, View
from casa.simulate.scene import simulate
from casa.sources import open_live_source
from casa.sources.live import CameraSource
from casa.types import Frame, FrameStatus, MissingFrame, SourceEvent

VIEW = View()


@pytest.fixture(scope="module")
def scene():
    return simulate("default", 3, 60)


@pytest.fixture(scope="module")
def renderer(scene) -> LiveRenderer:
    return LiveRenderer(scene, 255)


def opened(**config: Any) -> CameraSource:
    return open_live_source("simulator:default:3", CameraConfig(**{"size": (320, 240), **config}))


def frames_until(source: CameraSource, done: Callable[[Any], bool]) -> list[Any]:
    items, end = [], time.monotonic() + 15
    while time.monotonic() < end:
        if (item := source.read(0.1)) is not None:
            items.append(item)
            if done(item):
                return items
    pytest.fail("it did not come within 15 s")


def next_frame(source: CameraSource) -> Frame:
    """A frame that was taken after this call."""
    now = time.monotonic_ns()
    return frames_until(source, lambda item: isinstance(item, Frame) and item.captured_mono_ns > now)[-1]


def lost_by_camera(item: Any) -> bool:
    return isinstance(item, MissingFrame) and item.reason == "the camera lost it"


def blurred(image: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)


def sharpness(image: np.ndarray) -> float:
    return float(cv2.Laplacian(blurred(image), cv2.CV_32F).std())


def test_a_live_picture_is_that_of_the_slow_renderer(scene, renderer):
    for index in (0, 25):
        slow = cv2.cvtColor(scene.frame(index).image, cv2.COLOR_RGB2GRAY)
        live = renderer.draw(scene.t_ns[index] / 1e9, index, VIEW)
        assert live.dtype == np.uint8
        assert abs(float(slow.mean()) - float(live.mean())) < 1
        assert slow.std() == pytest.approx(live.std(), rel=0.1)
        assert np.corrcoef(blurred(slow).ravel(), blurred(live).ravel())[0, 1] > 0.95


def test_the_same_moment_gives_the_same_picture(scene, renderer):
    first = renderer.draw(0.5, 25, VIEW)
    assert np.array_equal(first, LiveRenderer(scene, 255).draw(0.5, 25, VIEW))
    assert not np.array_equal(first, renderer.draw(0.5, 26, VIEW))


def test_positions_are_the_scenes_own(scene, renderer):
    for index in (0, 7, 59):
        t_s = float(scene.t_ns[index]) / 1e9
        xy, _ = renderer.cells(t_s, VIEW)
        assert np.allclose(xy, scene.positions_px(np.array([t_s]))[:, 0], atol=1e-6)


def test_the_scene_runs_to_and_fro_without_a_jump(renderer, scene):
    end = float(scene.t_ns[-1]) / 1e9
    assert renderer.scene_time_s(end + 0.1) == pytest.approx(end - 0.1)
    assert renderer.scene_time_s(2 * end + 0.1) == pytest.approx(0.1)


def test_twelve_bits_are_eight_bits_with_more_between(scene):
    eight = LiveRenderer(scene, 255).draw(0.0, 0, VIEW)
    twelve = LiveRenderer(scene, 4095).draw(0.0, 0, VIEW)
    assert twelve.dtype == np.uint16
    assert np.abs(twelve / 4095 * 255 - eight).max() < 1.01
    assert len(np.unique(twelve)) > 2 * len(np.unique(eight))


def test_focus_and_light_do_what_they_do_at_a_microscope(renderer):
    values = [sharpness(renderer.draw(0.0, 0, View(focus_um=z))) for z in (-8.0, -4.0, 0.0, 4.0, 8.0)]
    assert values[0] < values[1] < values[2] > values[3] > values[4]
    dim, bright = (renderer.draw(0.0, 0, View(light=light)).mean() for light in (0.5, 1.5))
    assert bright / dim == pytest.approx(3, rel=0.05)
    noise = [np.diff(renderer.draw(0.0, 0, View(light=0.3, gain=gain))[:20].astype(float)).std() for gain in (1, 4)]
    assert noise[1] > 3 * noise[0]


def test_a_long_exposure_blurs_what_moves(renderer, scene):
    xy, _ = renderer.cells(0.5, VIEW)
    moved, _ = renderer.cells(0.516, VIEW)
    fast = np.argsort(-np.linalg.norm(moved - xy, axis=1))
    x, y = next(xy[i] for i in fast if scene.in_view(xy[i : i + 1])[0]).round().astype(int)
    cut = np.s_[max(y - 12, 0) : y + 13, max(x - 12, 0) : x + 13]
    short, long = (renderer.draw(0.5, 0, View(exposure_s=e))[cut].astype(float) for e in (0.002, 0.02))
    assert long.max() < short.max()


def test_truth_is_that_of_the_picture():
    with opened() as source:
        frame = next_frame(source)
        truth = source.device.truth(frame)
    assert len(truth.swimmer) == len(truth.xy_px) > 2
    x, y = truth.xy_px.round().astype(int).T
    inside = (x > 3) & (y > 3) & (x < 316) & (y < 236) & (np.abs(truth.defocus_um) < 1)
    peaks = [frame.image[v - 3 : v + 4, u - 3 : u + 4].max() for u, v in zip(x[inside], y[inside], strict=True)]
    assert np.median(peaks) > np.median(frame.image) + 40


def test_the_stage_shifts_the_field_by_its_matrix_after_its_backlash():
    matrix = ((2.4, 0.2), (-0.1, 2.6))
    with opened(microscope={"stage_um_to_px": matrix, "backlash_um": (3.0, 0.0)}) as source:
        stage = source.stage
        assert stage is not None
        stage.move_to(-5.0, 0.0)
        before = next_frame(source)
        start = np.array(stage.table_um())
        stage.move_to(2.0, 4.0)
        assert stage.position() == (2.0, 4.0)
        moved = np.array(stage.table_um()) - start
        assert moved == pytest.approx((7.0 - 3.0, 4.0))
        after = next_frame(source)
    expected = np.array(matrix) @ moved
    shift, response = cv2.phaseCorrelate(before.image.astype(float), after.image.astype(float))
    assert response > 0.1
    assert shift == pytest.approx(expected, abs=0.3)


def test_the_focus_drive_and_the_exposure_reach_the_picture():
    with opened(exposure_ms=2.0) as source:
        sharp = next_frame(source).image
        source.focus.move_to(12.0)
        assert source.focus.position() == 12.0
        soft = next_frame(source).image
        assert source.set_exposure_ms(4.0) == 4.0
        bright = next_frame(source).image
    assert sharpness(soft) < 0.8 * sharpness(sharp)
    assert bright.mean() == pytest.approx(2 * soft.mean(), rel=0.05)


def test_frames_lost_in_the_camera_are_counted():
    with opened(ring=64) as source:
        items = frames_until(source, lambda item: isinstance(item, Frame))
        source.device.drop(5)
        items += frames_until(
            source, lambda item: isinstance(item, MissingFrame) and item.reason == "the camera lost it"
        )
        items += frames_until(source, lambda item: isinstance(item, Frame))
        lost = [item for item in items if isinstance(item, MissingFrame) and item.reason == "the camera lost it"]
        assert len(lost) == 5
        assert {item.status for item in lost} == {FrameStatus.DROPPED}
        assert source.counts().dropped_by_device >= 5


def test_a_host_that_is_late_overruns_the_drivers_buffers():
    with opened(microscope={"buffers": 3}) as source:
        grab = source.device.grab

        def slow_host(timeout_s: float) -> Any:
            time.sleep(0.15)
            return grab(timeout_s)

        source.device.grab = slow_host
        items = frames_until(source, lambda item: isinstance(item, Frame) and item.index > 20)
        numbers = [item.index for item in items if not isinstance(item, SourceEvent)]
        assert numbers == list(range(len(numbers)))
        assert {item.kind for item in items if isinstance(item, SourceEvent)} == {"overflow"}
        assert {item.reason for item in items if isinstance(item, MissingFrame)} == {"the driver's buffer was full"}


def test_a_ring_of_pictures_costs_next_to_nothing():
    config = CameraConfig(size=(640, 480), fps_hz=200.0, exposure_ms=1.0, microscope={"ring_frames": 8})
    with open_live_source("simulator:sparse", config) as source:
        items = frames_until(source, lambda item: isinstance(item, Frame) and item.index >= 40)
        pictures = {id(item.image) for item in items if isinstance(item, Frame)}
        assert len(pictures) <= 8
        frame = items[-1]
        assert source.device.truth(frame).xy_px.shape[1] == 2
