"""What every camera promises, run over every kind there is: streams, Micro-Manager's, files played, the simulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from streams import JpegServer, UdpSender

from casa.config import CameraConfig
from casa.errors import CasaError, InputError
from casa.sources import LiveSource, open_live_source
from casa.sources.live import CameraSource
from casa.types import Frame, FrameStatus, MissingFrame, SourceEvent

SMALL = {"size": (160, 120), "fps_hz": 50.0}
DEMO = {"exposure_ms": 8.0, "roi": (0, 0, 128, 96)}
QUICK = {"stall_timeout_s": 0.3, "reconnect_interval_s": 0.1, "restart_after_s": 10.0}

needs_micromanager = pytest.mark.skipif(
    find_spec("pymmcore_plus") is None or find_spec("mm_test_adapters") is None,
    reason="pymmcore-plus or mm-test-adapters is not installed",
)


@dataclass
class Camera:
    """A kind of camera, and how to trouble it; None where it cannot be."""

    uri: str
    settings: dict[str, Any]
    stall: Callable[[CameraSource, float], None] | None = None
    unplug: Callable[[CameraSource], None] | None = None
    plug_in: Callable[[CameraSource], None] | None = None
    resize: Callable[[CameraSource, bool], None] | None = None

    @contextmanager
    def open(self, **config: Any) -> Iterator[CameraSource]:
        with open_live_source(self.uri, CameraConfig(**{**self.settings, **config})) as source:
            yield source
        assert not [t for t in threading.enumerate() if t.name == "casa-capture"]


def demo_camera(uri: str = "micromanager:demo", **settings: Any) -> Camera:
    def stall(source: CameraSource, seconds: float) -> None:
        core = source.device.core
        core.setExposure(1000 * seconds)  # one picture takes so long
        time.sleep(0.1)
        core.setExposure(8)

    def inside(source: CameraSource, action: Callable[[Any], None]) -> None:
        """Do something to the core in the capture thread, before it takes the next picture."""
        grab = source.device.grab

        def troubled(timeout_s: float) -> Any:
            source.device.grab = grab
            action(source.device.core)
            return grab(timeout_s)

        source.device.grab = troubled

    def resize(source: CameraSource, other: bool) -> None:
        def change(core: Any) -> None:
            core.stopSequenceAcquisition()
            core.setROI(*((0, 0, 64, 48) if other else DEMO["roi"]))
            core.startContinuousSequenceAcquisition(0)

        inside(source, change)

    def unplug(source: CameraSource) -> None:
        def lose(core: Any) -> None:
            core.stopSequenceAcquisition()
            core.unloadAllDevices()

        inside(source, lose)

    return Camera(uri, {**DEMO, **settings}, stall, unplug, lambda source: None, resize)


def simulated(microscope: dict[str, Any] | None = None, **settings: Any) -> Camera:
    # A busy machine is not to overrun its driver here: that is a test of its own.
    return Camera(
        "simulator:sparse",
        {**SMALL, "microscope": {"buffers": 1000, **(microscope or {})}, **settings},
        stall=lambda source, seconds: source.device.stall(seconds),
        unplug=lambda source: source.device.unplug(),
        plug_in=lambda source: source.device.plug_in(),
        resize=lambda source, other: source.device.change_size((80, 60) if other else None),
    )


@contextmanager
def served() -> Iterator[Camera]:
    server = JpegServer()

    def stall(source: CameraSource, seconds: float) -> None:
        server.stalled.set()
        time.sleep(seconds)
        server.stalled.clear()

    def resize(source: CameraSource, other: bool) -> None:
        server.size = (48, 36) if other else (96, 72)

    try:
        yield Camera(
            server.url,
            {},
            stall,
            unplug=lambda source: server.unplugged.set(),
            plug_in=lambda source: server.unplugged.clear(),
            resize=resize,
        )
    finally:
        server.close()


@contextmanager
def sent() -> Iterator[Camera]:
    sender = UdpSender()
    try:
        yield Camera(sender.url, {})
    finally:
        sender.close()


def deep_picture(number: int) -> np.ndarray:
    """(72, 96) uint16 of 12 bits."""
    return ((np.arange(72 * 96).reshape(72, 96) * 7 + 31 * number) % 4096).astype(np.uint16)


def write_deep(path: Path, n: int = 200, fps: int = 50) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "gray16le"
        for number in range(n):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(deep_picture(number), "gray16le")))
        container.mux(stream.encode(None))
    return path


KINDS = (
    "simulator",
    "simulator 12 bit",
    "simulator ring",
    pytest.param("micromanager", marks=needs_micromanager),
    pytest.param("micromanager 12 bit", marks=needs_micromanager),
    "http",
    "udp",
    "file",
)


@pytest.fixture(params=KINDS)
def camera(request, tmp_path: Path) -> Iterator[Camera]:
    kind = request.param
    if kind == "simulator":
        yield simulated()
    elif kind == "simulator 12 bit":
        yield simulated(bit_depth=12)
    elif kind == "simulator ring":
        yield simulated(microscope={"ring_frames": 20, "time_jitter_ms": 3.0})
    elif kind == "micromanager":
        yield demo_camera()
    elif kind == "micromanager 12 bit":
        yield demo_camera(bit_depth=12)
    elif kind == "http":
        with served() as made:
            yield made
    elif kind == "udp":
        with sent() as made:
            yield made
    else:
        yield Camera(str(write_deep(tmp_path / "deep.mkv")), {"bit_depth": 12})


Items = list[Frame | MissingFrame | SourceEvent]


def read_for(source: CameraSource, seconds: float) -> Items:
    """What comes in so long."""
    items: Items = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0 and not source.ended:
        if (item := source.read(left)) is not None:
            items.append(item)
    return items


def read_until(source: CameraSource, done: Callable[[Any], bool], limit_s: float = 15.0) -> Items:
    """What comes up to and with the first item that is ``done``."""
    items: Items = []
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if (item := source.read(0.1)) is not None:
            items.append(item)
            if done(item):
                return items
    pytest.fail(f"it did not come within {limit_s} s; the last items were {shown(items)}")


def read_to_end(source: CameraSource, items: Items, limit_s: float = 15.0) -> None:
    """Add what comes to ``items``, until the source ends or raises."""
    end = time.monotonic() + limit_s
    while not source.ended:
        if time.monotonic() > end:
            pytest.fail(f"it did not end within {limit_s} s; the last items were {shown(items)}")
        if (item := source.read(0.1)) is not None:
            items.append(item)


def shown(items: Items) -> list[object]:
    """The last items, without their pixels."""
    return [(item.index, item.t_ns) if isinstance(item, Frame) else item for item in items[-6:]]


def is_frame(item: Any) -> bool:
    return isinstance(item, Frame)


def is_event(kind: str) -> Callable[[Any], bool]:
    return lambda item: isinstance(item, SourceEvent) and item.kind == kind


def kinds_of(items: Items) -> list[str]:
    return [item.kind for item in items if isinstance(item, SourceEvent)]


def check_order(items: Items, source: CameraSource, first: int = 0) -> list[Frame | MissingFrame]:
    """Numbers without a hole, times that rise, events in their places; gives the frames and the missing ones."""
    frames = [item for item in items if not isinstance(item, SourceEvent)]
    assert [item.index for item in frames] == list(range(first, first + len(frames)))
    assert all(before.t_ns < after.t_ns for before, after in pairwise(frames))
    assert all(type(item.t_ns) is int for item in frames)
    if not first and frames:
        assert frames[0].t_ns == 0
    number = first
    for item in items:
        if isinstance(item, SourceEvent):
            assert item.next_index == number
            assert "\n" not in item.detail
        else:
            number = item.index + 1
            if isinstance(item, MissingFrame):
                assert item.reason
    return frames


# what all promise


def test_frames_come_as_they_are_promised(camera: Camera):
    with camera.open() as source:
        assert isinstance(source, LiveSource)
        info = source.info
        assert info.n_frames is None
        assert info.timestamps in ("device", "host", "simulated")
        items = read_until(source, lambda item: is_frame(item) and item.index >= 20)
        frames = [item for item in check_order(items, source) if isinstance(item, Frame)]
        assert len(frames) >= 10
        for frame in frames:
            assert frame.image.shape == (info.height_px, info.width_px)
            assert frame.image.dtype == (np.uint8 if info.bit_depth == 8 else np.uint16)
            assert int(frame.image.max()) <= info.white_level == (1 << info.bit_depth) - 1
            assert not frame.image.flags.writeable
            assert frame.colour().shape[:2] == frame.image.shape
        if info.bit_depth > 8:
            assert max(int(frame.image.max()) for frame in frames) > 255
        arrived = [frame.captured_mono_ns for frame in frames]
        assert arrived == sorted(arrived)
        assert arrived[-1] <= time.monotonic_ns()
        # The session's clock runs as fast as this machine's.
        span, host_span = frames[-1].t_ns - frames[0].t_ns, arrived[-1] - arrived[0]
        assert abs(span - host_span) < 1e9
        assert info.fps_hz > 0


@pytest.mark.parametrize("policy", ["oldest", "newest"])
def test_a_slow_reader_loses_pictures_that_are_counted_and_no_time(camera: Camera, policy: str):
    with camera.open(ring=4, ring_policy=policy) as source:
        source.start()
        limit = time.monotonic() + 15
        while source.counts().captured < 12 and time.monotonic() < limit:
            time.sleep(0.02)
        source.stop()
        time.sleep(0.3)
        before = source.counts()
        items = list(source)
        frames = check_order(items, source)
        pictures = [item.index for item in frames if isinstance(item, Frame)]
        missing = [item for item in frames if isinstance(item, MissingFrame)]
        assert before.waiting == len(pictures) == 4
        assert before.captured == len(frames)
        assert len(missing) == before.dropped_by_ring + before.dropped_by_device + before.failed > 0
        assert {item.status for item in missing} == {FrameStatus.DROPPED}
        kept = frames[-4:] if policy == "oldest" else frames[:4]
        if not before.dropped_by_device:
            assert pictures == [item.index for item in kept]
        assert source.ended
        assert source.read(0.0) is None


def test_it_stops_within_a_second_and_lets_go_of_the_device(camera: Camera):
    with camera.open() as source:
        read_until(source, is_frame)
        threading.Timer(0.2, source.stop).start()
        began = time.monotonic()
        for _ in source:
            pass
        assert time.monotonic() - began < 1.2
    with pytest.raises(ValueError, match="closed"):
        source.start()
    with pytest.raises(ValueError, match="closed"):
        next(iter(source))
    source.close()
    with camera.open() as again:  # nobody holds it any more
        assert any(isinstance(item, Frame) for item in read_until(again, is_frame))


def test_closing_without_reading_is_fine(camera: Camera):
    with camera.open():
        pass
    with camera.open() as source:
        source.start()


def test_a_stall_is_told_and_frames_go_on(camera: Camera):
    if camera.stall is None:
        pytest.skip("nothing can stall it")
    with camera.open(**QUICK) as source:
        items = read_until(source, is_frame)
        camera.stall(source, 1.0)
        items += read_until(source, lambda item: is_event("resumed")(item) or is_event("reconnected")(item))
        items += read_until(source, is_frame)
        check_order(items, source)
        # A stream that says nothing is opened again.
        assert kinds_of(items) in (["stalled", "resumed"], ["disconnected", "reconnected"])
        assert source.counts().dropped_by_device == 0


def test_it_comes_back_after_a_disconnection_and_numbers_go_on(camera: Camera):
    if camera.unplug is None:
        pytest.skip("nothing can unplug it")
    with camera.open(**QUICK) as source:
        items = read_until(source, lambda item: is_frame(item) and item.index >= 3)
        camera.unplug(source)
        items += read_until(source, is_event("disconnected"))
        gone_at = time.monotonic()
        items += read_for(source, 0.4)
        camera.plug_in(source)
        if "reconnected" not in kinds_of(items):
            items += read_until(source, is_event("reconnected"))
        for _ in range(5):
            items += read_until(source, is_frame)
        frames = check_order(items, source)
        assert kinds_of(items) in (["disconnected", "reconnected"], ["stalled", "disconnected", "reconnected"])
        assert not any(isinstance(item, MissingFrame) for item in frames)
        steps = np.diff([item.t_ns for item in frames])
        assert steps.max() > 0.05e9
        assert frames[-1].t_ns / 1e9 < time.monotonic() - gone_at + 15


def test_it_ends_loudly_when_it_does_not_come_back(camera: Camera):
    if camera.unplug is None or camera.uri.startswith("micromanager"):
        pytest.skip("nothing can unplug it for good")
    with camera.open(**QUICK, reconnect_timeout_s=0.5) as source:
        items = read_until(source, is_frame)
        camera.unplug(source)
        with pytest.raises(CasaError, match="not back within"):
            read_to_end(source, items)
        assert source.ended
        check_order(items + list(source), source)


def test_it_ends_at_once_where_it_is_not_to_reconnect(camera: Camera):
    if camera.unplug is None:
        pytest.skip("nothing can unplug it")
    with camera.open(**QUICK, reconnect=False) as source:
        items = read_until(source, is_frame)
        camera.unplug(source)
        with pytest.raises(CasaError, match="disconnected"):
            read_to_end(source, items)
        assert kinds_of(items)[-1] == "disconnected"


def test_pictures_of_another_size_end_the_session(camera: Camera):
    if camera.resize is None:
        pytest.skip("nothing can change its size")
    with camera.open(**QUICK) as source:
        items = read_until(source, is_frame)
        camera.resize(source, True)
        with pytest.raises(CasaError, match="where the session is"):
            read_to_end(source, items)
        assert kinds_of(items)[-1] == "size_changed"
        assert {item.image.shape for item in items if isinstance(item, Frame)} == {
            (source.info.height_px, source.info.width_px)
        }


def test_or_are_failed_until_the_size_is_back(camera: Camera):
    if camera.resize is None:
        pytest.skip("nothing can change its size")
    with camera.open(**QUICK, size_change="wait") as source:
        items = read_until(source, is_frame)
        camera.resize(source, True)
        items += read_until(source, lambda item: isinstance(item, MissingFrame))
        camera.resize(source, False)
        items += read_until(source, is_event("size_restored"))
        items += read_until(source, is_frame)
        failed = [item for item in check_order(items, source) if isinstance(item, MissingFrame)]
        assert {item.status for item in failed} == {FrameStatus.FAILED}
        assert source.counts().failed == len(failed)
        assert [kind for kind in kinds_of(items) if kind.startswith("size")] == ["size_changed", "size_restored"]


# what one kind alone can do


def test_deep_pictures_of_a_file_keep_their_values(tmp_path: Path):
    path = write_deep(tmp_path / "deep.mkv", n=12)
    with open_live_source(str(path), CameraConfig(bit_depth=12)) as source:
        items = list(source)
        assert source.ended
        assert source.info.white_level == 4095
    assert len(items) == 12
    for number, frame in enumerate(items):
        assert isinstance(frame, Frame)
        assert np.array_equal(frame.image, deep_picture(number))
        assert frame.t_ns == 20_000_000 * number


@needs_micromanager
def test_the_core_overrun_by_its_camera_is_counted():
    with demo_camera(bit_depth=12, roi=None, micromanager={"buffer_mb": 1}).open() as source:
        grab = source.device.grab

        def slow_host(timeout_s: float) -> Any:
            time.sleep(0.25)
            return grab(timeout_s)

        source.device.grab = slow_host
        items = read_until(source, is_event("overflow"))
        items += read_until(source, is_frame)
        lost = [item for item in check_order(items, source) if isinstance(item, MissingFrame)]
        assert lost
        assert {(item.status, item.reason) for item in lost} == {(FrameStatus.DROPPED, "the driver's buffer was full")}


@needs_micromanager
def test_a_configuration_file_with_stages_roi_binning_and_properties(tmp_path: Path):
    path = tmp_path / "scope.cfg"
    path.write_text(
        "Device,Cam,DemoCamera,DCam\nDevice,Table,DemoCamera,DXYStage\nDevice,Knob,DemoCamera,DStage\n"
        "Property,Core,Initialize,1\nProperty,Core,Camera,Cam\nProperty,Core,XYStage,Table\nProperty,Core,Focus,Knob\n"
    )
    import mm_test_adapters

    config = {
        "binning": 2,
        "roi": (16, 8, 64, 32),
        "bit_depth": 16,
        "micromanager": {
            "adapters": str(mm_test_adapters.device_adapter_path()),
            "properties": {"Cam": {"Mode": "Noise"}},
        },
    }
    with open_live_source(f"micromanager:{path}", CameraConfig(**config)) as source:
        assert (source.info.width_px, source.info.height_px, source.info.bit_depth) == (64, 32, 16)
        core = source.device.core
        assert core.getProperty("Cam", "Mode") == "Noise"
        assert core.getProperty("Cam", "Binning") == "2"
        assert source.set_exposure_ms(4.0) == pytest.approx(4.0)
        read_until(source, is_frame)
        assert source.stage is not None
        assert source.focus is not None
        source.stage.move_to(120.0, -35.5)
        assert source.stage.position() == pytest.approx((120.0, -35.5), abs=0.02)
        source.focus.move_to(7.25)
        assert source.focus.position() == pytest.approx(7.25, abs=0.01)


WRONG = {
    "nothing of the name": ("no-such-thing", {}, "no such camera"),
    "no such camera": ("camera:73", {}, "cannot be opened"),
    "no number": ("camera:left", {}, "by its number"),
    "nobody sends": ("http://127.0.0.1:9/x", {}, "cannot be opened"),
    "a stream is not asked": ("http://127.0.0.1:9/x", {"exposure_ms": 5}, "leave out camera.exposure_ms"),
    "no preset": ("simulator:moon", {}, "no simulator preset"),
    "exposure too long": ("simulator", {"exposure_ms": 30}, "does not fit"),
    "no roi": ("simulator", {"roi": (0, 0, 10, 10)}, "leave out camera.roi"),
    "no configuration": ("micromanager:no.cfg", {}, "no such file"),
}


@pytest.mark.parametrize("case", WRONG, ids=str)
def test_bad_input_is_one_line(case: str):
    uri, config, said = WRONG[case]
    with pytest.raises(InputError, match=said) as error:
        open_live_source(uri, CameraConfig(**config))
    assert "\n" not in str(error.value)


@needs_micromanager
@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"bit_depth": 14, "micromanager": {"properties": {"Camera": {"PixelType": "8bit"}}}}, None),
        ({"micromanager": {"properties": {"Camera": {"Glow": "1"}}}}, "Glow"),
        ({"micromanager": {"xy_stage": "Tisch"}}, "no device 'Tisch'"),
        ({"binning": 3}, "Binning"),
    ],
)
def test_what_the_camera_cannot_do_is_one_line(config: dict[str, Any], said: str | None):
    if said is None:
        with open_live_source("micromanager:demo", CameraConfig(**config)) as source:
            assert source.info.bit_depth == 14
        return
    with pytest.raises(InputError, match=said) as error:
        open_live_source("micromanager:demo", CameraConfig(**config))
    assert "\n" not in str(error.value)
