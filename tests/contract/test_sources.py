"""What every source promises, run over every kind of source there is, and what each does with bad input."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from casa.config import SourceConfig
from casa.errors import CasaError, InputError
from casa.sources import Source, open_source
from casa.types import Frame, FrameStatus, MissingFrame

WIDTH, HEIGHT, N_FRAMES, FPS = 96, 72, 24, 50


def picture(time: float, seed: int = 0) -> np.ndarray:
    """(h, w) uint8: a textured still background and a square that moves 2 px a unit of time."""
    rng = np.random.default_rng(seed)
    image = rng.integers(20, 60, (HEIGHT, WIDTH)).astype(np.uint8)
    left = 6 + round(2 * time)
    image[20:40, left : left + 16] = 200
    image[50:60, 90 - left : 98 - left] = 160
    return image


def write_video(
    path: Path,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    pts: list[int] | None = None,
    time_base: Fraction = Fraction(1, FPS),
    images: list[np.ndarray] | None = None,
    container_options: dict[str, str] | None = None,
    **options: str,
) -> Path:
    images = [picture(i) for i in range(N_FRAMES)] if images is None else images
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.height, stream.width = images[0].shape
        stream.pix_fmt = pixel_format
        stream.time_base = stream.codec_context.time_base = time_base
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, "gray" if image.dtype == np.uint8 else "gray16le")
            frame.pts, frame.time_base = (pts[number] if pts else number), time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_folder(folder: Path, suffix: str, dtype: type, n: int = 12) -> Path:
    folder.mkdir()
    for number in range(n):
        image = picture(number).astype(dtype) * (257 if dtype == np.uint16 else 1)
        assert cv2.imwrite(str(folder / f"frame_{number}{suffix}"), image)
    return folder


def interlaced(n: int, bottom_first: bool) -> list[np.ndarray]:
    """Frames whose earlier lines are half a frame interval older than the others."""
    frames = []
    for number in range(n):
        early, late = picture(2 * number), picture(2 * number + 1)
        top, bottom = (late, early) if bottom_first else (early, late)
        frames.append(top.copy())
        frames[-1][1::2] = bottom[1::2]
    return frames


def damage(path: Path, target: Path, at: float, length: int = 400) -> Path:
    data = bytearray(path.read_bytes())
    start = int(len(data) * at)
    data[start : start + length] = np.random.default_rng(3).integers(0, 256, length).astype(np.uint8).tobytes()
    target.write_bytes(data)
    return target


def cut(path: Path, target: Path, keep: float) -> Path:
    data = path.read_bytes()
    target.write_bytes(data[: int(len(data) * keep)])
    return target


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with one file or folder of each kind."""
    root = tmp_path_factory.mktemp("sources")
    write_video(root / "b_frames.mp4", bf="2", container_options={"movflags": "faststart"})
    write_video(root / "no_b.mp4", bf="0", crf="5", container_options={"movflags": "faststart"})
    write_video(root / "mpeg4.avi", "mpeg4")
    write_video(root / "reordered.avi", "libx264")
    write_video(root / "mjpeg.avi", "mjpeg", "yuvj420p")
    write_video(root / "vp8.webm", "libvpx", lag_in_frames="10", auto_alt_ref="1")
    write_video(root / "gray.mkv", "ffv1", "gray", g="100")
    wide = [picture(i).astype(np.uint16) * 257 for i in range(8)]
    write_video(root / "gray16.mkv", "ffv1", "gray16le", images=wide)
    write_video(root / "gray12.mkv", "ffv1", "gray12le", images=wide)
    jitter = [0, 20, 41, 60, 79, 100, 120, 140, 260, 281]
    write_video(
        root / "jitter.mkv",
        "ffv1",
        "gray",
        pts=jitter,
        time_base=Fraction(1, 1000),
        images=[picture(i) for i in range(10)],
    )
    for name, bottom_first in (("top_first.mp4", False), ("bottom_first.mp4", True)):
        write_video(root / name, images=interlaced(N_FRAMES // 2, bottom_first), crf="10")
    damage(root / "no_b.mp4", root / "damaged.mp4", 0.6)
    cut(root / "b_frames.mp4", root / "cut.mp4", 0.75)
    cut(root / "mjpeg.avi", root / "cut.avi", 0.6)
    cut(root / "gray.mkv", root / "cut.mkv", 0.6)
    write_folder(root / "png", ".png", np.uint8)
    write_folder(root / "tif16", ".tif", np.uint16)
    write_folder(root / "jpg", ".jpg", np.uint8)
    return root


GIVEN_RATE = {"png", "tif16", "jpg"}
CASES = {
    "b_frames.mp4": {},
    "no_b.mp4": {"max_frames": 7},
    "mpeg4.avi": {},
    "reordered.avi": {},
    "mjpeg.avi": {"loop": 3, "max_frames": 60},
    "vp8.webm": {},
    "gray.mkv": {},
    "gray16.mkv": {"loop": 2},
    "gray12.mkv": {},
    "jitter.mkv": {"loop": 2},
    "top_first.mp4": {},
    "bottom_first.mp4": {"interlaced": "separate", "loop": 2},
    "damaged.mp4": {},
    "cut.mp4": {"interlaced": "separate"},
    "cut.avi": {},
    "cut.mkv": {},
    "png": {"fps_hz": 30.0, "loop": 2, "max_frames": 20},
    "tif16": {"fps_hz": 29.97},
    "jpg": {"fps_hz": 60.0},
    "simulator:sparse:4": {"max_frames": 3},
    "simulator:brightfield": {"max_frames": 2},
}


@pytest.fixture(params=CASES, scope="module")
def case(request, made: Path) -> tuple[str, SourceConfig]:
    name = request.param
    return (name if name.startswith("simulator") else str(made / name)), SourceConfig(**CASES[name])


@pytest.fixture(scope="module")
def reading(case) -> tuple[Source, list[Frame | MissingFrame]]:
    with open_source(*case) as source:
        return source, list(source)


def test_it_is_a_source(case):
    with open_source(*case) as source:
        assert isinstance(source, Source)


def test_index_and_field_ascend_from_0_without_a_hole(reading):
    source, items = reading
    fields = (0, 1) if source.info.interlaced else (0,)
    frames = len(items) // len(fields)
    assert [(item.index, item.field) for item in items] == [(i, f) for i in range(frames) for f in fields]


def test_times_start_at_0_and_rise(reading):
    _, items = reading
    assert items[0].t_ns == 0
    assert all(before.t_ns < after.t_ns for before, after in pairwise(items))
    assert all(type(item.t_ns) is int for item in items)


def test_the_mean_rate_is_the_one_in_info(reading, case):
    source, items = reading
    if "jitter" in case[0]:
        pytest.skip("has a pause in it on purpose")
    rate = (len(items) - 1) / items[-1].t_ns * 1e9
    # Where a stream of reordered frames is cut, up to three frames shown before the last ones are gone with the rest.
    assert rate == pytest.approx(source.info.fps_hz, rel=0.15 if "cut.mp4" in case[0] else 0.02)


def test_pictures_are_as_info_says(reading):
    source, items = reading
    frames = [item for item in items if isinstance(item, Frame)]
    assert frames
    shapes = {frame.image.shape for frame in frames}
    assert len(shapes) == 1
    assert shapes.pop()[:2] == (source.info.height_px, source.info.width_px)
    assert {frame.image.dtype for frame in frames} <= {np.dtype(np.uint8), np.dtype(np.uint16)}


def test_there_are_as_many_as_info_says_lost_ones_included(reading, case):
    source, items = reading
    if "jitter" in case[0]:
        pytest.skip("its container states a length in seconds, and it has a pause in it")
    assert len(items) == source.info.n_frames


def test_lost_frames_say_why_in_one_line(reading):
    _, items = reading
    for item in items:
        if isinstance(item, MissingFrame):
            assert item.status in (FrameStatus.FAILED, FrameStatus.DROPPED)
            assert item.reason
            assert "\n" not in item.reason


def test_reading_twice_gives_the_same(reading, case):
    _, first = reading
    with open_source(*case) as source:
        for _ in range(1 if case[0].startswith("simulator") else 2):
            again = list(source)
            assert [(type(i), i.index, i.field, i.t_ns) for i in again] == [
                (type(i), i.index, i.field, i.t_ns) for i in first
            ]
            for one, other in zip(first, again, strict=True):
                if isinstance(one, Frame):
                    assert np.array_equal(one.image, other.image)


@pytest.mark.parametrize("name", ["b_frames.mp4", "top_first.mp4", "mpeg4.avi"])
def test_two_readings_at_once_do_not_disturb_each_other(made, name):
    """Frames of the one that are let go while the other still decodes once took the other's marks along."""
    with open_source(str(made / name), SourceConfig()) as source:
        alone = [(type(i), i.index, i.field, i.t_ns) for i in source]
    path = str(made / name)
    with open_source(path, SourceConfig()) as first, open_source(path, SourceConfig()) as second:
        ahead, behind, seen = iter(first), iter(second), []
        kept = [item for item, _ in zip(ahead, range(8), strict=False)]
        for item in behind:
            seen.append((type(item), item.index, item.field, item.t_ns))
            if kept:
                kept.pop(0)
            next(ahead, None)
    assert seen == alone


def test_closing_twice_is_fine_and_reading_afterwards_is_not(case):
    source = open_source(*case)
    iterator = iter(source)
    next(iterator)
    source.close()
    source.close()
    with pytest.raises(ValueError, match="closed"):
        list(iterator)
    with pytest.raises(ValueError, match="closed"):
        next(iter(source))


def frames_of(path: Path, **config) -> list[Frame | MissingFrame]:
    with open_source(str(path), SourceConfig(**config)) as source:
        return list(source)


def square_left(image: np.ndarray) -> int:
    """Column of the left edge of the bright square."""
    gray = image if image.ndim == 2 else image[..., 0]
    return int(np.argmax(gray[30] > 130))


@pytest.mark.parametrize("name", ["b_frames.mp4", "no_b.mp4", "mpeg4.avi", "reordered.avi", "mjpeg.avi", "gray.mkv"])
def test_frames_come_in_the_order_of_display(made, name):
    lefts = [square_left(item.image) for item in frames_of(made / name)]
    assert lefts == [6 + 2 * i for i in range(N_FRAMES)]


def test_gray_and_deep_pictures_keep_their_values(made):
    gray = frames_of(made / "gray.mkv")[3].image
    assert np.array_equal(gray, picture(3))
    assert np.array_equal(frames_of(made / "gray16.mkv")[3].image, picture(3).astype(np.uint16) * 257)
    twelve = frames_of(made / "gray12.mkv")[3].image
    assert twelve.dtype == np.uint16
    assert np.abs(twelve.astype(int) - picture(3).astype(int) * 257).max() < 32


def test_times_are_the_containers_own(made):
    with open_source(str(made / "jitter.mkv"), SourceConfig()) as source:
        assert source.info.timestamps == "pts"
        assert [item.t_ns // 1_000_000 for item in source] == [0, 20, 41, 60, 79, 100, 120, 140, 260, 281]
        assert source.corrected_times == 0


def test_a_given_frame_rate_replaces_the_containers_times(made):
    with open_source(str(made / "jitter.mkv"), SourceConfig(fps_hz=29.97)) as source:
        assert source.info.timestamps == "assumed"
        assert [item.t_ns for item in source] == [round(Fraction(i * 100, 2997) * 10**9) for i in range(10)]


def test_an_avi_has_a_stated_rate_and_no_times(made):
    for name in ("mpeg4.avi", "reordered.avi"):
        with open_source(str(made / name), SourceConfig()) as source:
            assert source.info.timestamps == "assumed"


def test_looping_runs_on(made):
    items = frames_of(made / "jitter.mkv", loop=2)
    assert [item.index for item in items] == list(range(20))
    assert items[10].t_ns == 301_000_000  # one nominal interval (20 ms) after the last
    assert items[12].t_ns - items[10].t_ns == 41_000_000


@pytest.mark.parametrize("name", ["b_frames.mp4", "mpeg4.avi", "reordered.avi", "jitter.mkv", "vp8.webm", "cut.mp4"])
def test_times_without_decoding_are_those_of_decoding(made, name):
    with open_source(str(made / name), SourceConfig(interlaced="no")) as source:
        assert source.frame_times_ns().tolist() == [item.t_ns for item in source]


def set_block_time(path: Path, target: Path, old: int, new: int) -> Path:
    """Rewrite the timestamp of one Matroska SimpleBlock (track 1, in ms within its cluster)."""
    data = path.read_bytes()
    # track number, timestamp, no flags (not a key frame)
    places = [i for i in range(len(data)) if data.startswith(b"\x81" + struct.pack(">h", old) + b"\x00", i)]
    assert len(places) == 1
    target.write_bytes(data[: places[0] + 1] + struct.pack(">h", new) + data[places[0] + 3 :])
    return target


@pytest.mark.parametrize("wrong", [20, 10, 60])
def test_a_timestamp_that_repeats_or_runs_back_is_corrected_and_counted(made, tmp_path, wrong):
    path = set_block_time(made / "gray.mkv", tmp_path / "wrong.mkv", 40, wrong)
    with open_source(str(path), SourceConfig()) as source:
        times = [item.t_ns / 1e6 for item in source]
        assert source.corrected_times == 1
    assert len(times) == N_FRAMES
    assert times[3 + (wrong == 60) :] == [20.0 * i for i in range(3 + (wrong == 60), N_FRAMES)]
    assert times[:2] == [0.0, 20.0]


def test_a_broken_clock_is_an_error_and_no_speed(made, tmp_path):
    path = made / "gray.mkv"
    for number in range(1, 20):
        path = set_block_time(path, tmp_path / f"{number}.mkv", 20 * number, 5)
        if number == 1:
            continue
    with open_source(str(path), SourceConfig()) as source, pytest.raises(CasaError, match="--fps"):
        list(source)
    assert len(frames_of(path, fps_hz=50)) == N_FRAMES


@pytest.mark.parametrize("bottom_first", [False, True])
@pytest.mark.parametrize("mode", ["auto", "separate"])
def test_fields_come_apart_in_order_of_time(made, bottom_first, mode):
    name = "bottom_first.mp4" if bottom_first else "top_first.mp4"
    with open_source(str(made / name), SourceConfig(interlaced=mode)) as source:
        items = list(source)
        assert source.combing.combed
        assert source.combing.bottom_first is bottom_first
    assert source.info.interlaced
    assert source.info.fps_hz == 2 * FPS
    assert [square_left(item.image) for item in items] == [6 + 2 * i for i in range(N_FRAMES)]
    assert [item.t_ns for item in items] == [10_000_000 * i for i in range(N_FRAMES)]


def test_fields_stay_together_when_told_so_or_progressive(made):
    for name, mode in (("top_first.mp4", "no"), ("b_frames.mp4", "auto"), ("gray.mkv", "auto")):
        with open_source(str(made / name), SourceConfig(interlaced=mode)) as source:
            assert not source.info.interlaced


def test_combing_is_found_in_real_recordings_and_only_there(shared_data):
    for name in ("S_0001", "S_0002", "S_0004"):
        with open_source(str(shared_data / f"miamia_svds/{name}.mp4"), SourceConfig()) as source:
            assert source.info.interlaced
            assert source.info.fps_hz == 60
            assert source.combing.asymmetry > 1
    progressive = ("visem13_clip/clip.mp4", "njit_simulated/15fps.mp4", "njit_simulated/60fps.mp4")
    for name in progressive:
        with open_source(str(shared_data / name), SourceConfig()) as source:
            assert not source.info.interlaced
            assert abs(source.combing.asymmetry) < 0.05


def test_a_separated_real_recording_moves_forward_in_every_field(shared_data):
    """With the fields in the wrong order, every second step would go back in time."""
    items = frames_of(shared_data / "miamia_svds/S_0001.mp4", max_frames=12)
    gray = [item.image.astype(np.float32) for item in items]
    one = np.mean([np.abs(a - b).mean() for a, b in pairwise(gray)])
    two = np.mean([np.abs(a - b).mean() for a, b in zip(gray[:-3:2], gray[3::2], strict=False)])
    assert one < two


def test_a_damaged_frame_is_lost_at_its_place_and_reading_goes_on(made):
    items = frames_of(made / "damaged.mp4")
    lost = [item.index for item in items if isinstance(item, MissingFrame)]
    assert 1 <= len(lost) <= 3
    assert lost[0] > 0
    assert lost[-1] < N_FRAMES - 1
    assert [item.t_ns for item in items] == [20_000_000 * i for i in range(N_FRAMES)]
    assert isinstance(items[-1], Frame)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.avi", "cut.mkv"])
def test_what_a_cut_off_file_promises_is_accounted_for(made, name):
    items = frames_of(made / name)
    assert len(items) == N_FRAMES
    lost = [isinstance(item, MissingFrame) for item in items]
    assert not any(lost[:3])
    assert all(lost[-3:])
    assert "cut off" in items[-1].reason


def test_empty_frames_of_an_avi_are_dropped_ones(made, tmp_path):
    data = bytearray((made / "mjpeg.avi").read_bytes())
    at, chunks = data.find(b"movi") + 4, []
    while data[at : at + 4] == b"00dc":
        size = struct.unpack_from("<I", data, at + 4)[0]
        chunks.append((at, size + size % 2))
        at += 8 + size + size % 2
    index = data.find(b"idx1", at) + 8
    for number in (4, 5):
        start, size = chunks[number]
        struct.pack_into("<I", data, start + 4, 0)
        data[start + 8 : start + 12] = b"JUNK"
        struct.pack_into("<I", data, start + 12, size - 8)
        struct.pack_into("<I", data, index + 16 * number + 12, 0)
    path = tmp_path / "empty_frames.avi"
    path.write_bytes(data)
    items = frames_of(path)
    assert [item.index for item in items if isinstance(item, MissingFrame)] == [4, 5]
    assert items[4].status is FrameStatus.DROPPED
    assert [square_left(item.image) for item in items if isinstance(item, Frame)][4:6] == [6 + 12, 6 + 14]


def test_pictures_are_in_natural_order(made):
    assert [square_left(item.image) for item in frames_of(made / "png", fps_hz=50)] == [6 + 2 * i for i in range(12)]


def test_pictures_of_16_bits_and_in_colour_stay_so(made, tmp_path):
    deep = frames_of(made / "tif16", fps_hz=50)[2].image
    assert np.array_equal(deep, picture(2).astype(np.uint16) * 257)
    red = np.zeros((10, 12, 4), np.uint8)
    red[..., 2] = 250
    cv2.imwrite(str(tmp_path / "a.png"), red)
    assert frames_of(tmp_path, fps_hz=1)[0].image[0, 0].tolist() == [250, 0, 0]


def test_a_picture_that_does_not_fit_is_lost_at_its_place(tmp_path):
    folder = write_folder(tmp_path / "mixed", ".png", np.uint8, n=5)
    cv2.imwrite(str(folder / "frame_1.png"), picture(1)[:-2])
    (folder / "frame_2.png").write_bytes(b"no picture")
    (folder / "frame_3.png").write_bytes(b"")
    (folder / "notes.txt").write_text("not a picture")
    items = frames_of(folder, fps_hz=10)
    assert [isinstance(item, Frame) for item in items] == [True, False, False, False, True]
    assert all(f"frame_{item.index}.png" in item.reason for item in items if isinstance(item, MissingFrame))


def bad_inputs() -> dict[str, tuple[Callable[[Path, Path], object], str]]:
    def zero_rate(made: Path, tmp: Path) -> str:
        data = bytearray((made / "mjpeg.avi").read_bytes())
        struct.pack_into("<I", data, data.find(b"strh") + 8 + 24, 0)
        (tmp / "zero.avi").write_bytes(data)
        return str(tmp / "zero.avi")

    def written(name: str, content: bytes) -> Callable[[Path, Path], str]:
        def write(made: Path, tmp: Path) -> str:
            (tmp / name).write_bytes(content)
            return str(tmp / name)

        return write

    def sound(made: Path, tmp: Path) -> str:
        with av.open(str(tmp / "sound.wav"), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return str(tmp / "sound.wav")

    def raw_stream(made: Path, tmp: Path) -> str:
        return str(write_video(tmp / "raw.h264"))

    def no_index(made: Path, tmp: Path) -> str:
        return str(cut(write_video(tmp / "whole.mp4"), tmp / "no_index.mp4", 0.5))

    def picture_file(made: Path, tmp: Path) -> str:
        cv2.imwrite(str(tmp / "a.png"), picture(0))
        return str(tmp / "a.png")

    def broken_first_picture(made: Path, tmp: Path) -> str:
        (tmp / "a.png").write_bytes(b"broken")
        return str(tmp)

    noise = np.random.default_rng(1).integers(0, 256, 20_000).astype(np.uint8).tobytes()
    return {
        "missing": (lambda made, tmp: str(tmp / "none.mp4"), "no such file"),
        "empty": (written("empty.mp4", b""), "empty"),
        "noise": (written("noise.mp4", noise), "not a video"),
        "text": (written("notes.txt", b"volume 2 mL\n" * 40), "text file"),
        "table": (written("table.csv", b"frame,x\n1,2\n"), "not a video"),
        "sound": (sound, "no video stream"),
        "raw stream": (raw_stream, "--fps"),
        "cut off before its index": (no_index, "cut off"),
        "rate of zero": (zero_rate, "--fps"),
        "a picture": (picture_file, "single picture"),
        "folder without pictures": (lambda made, tmp: str(tmp), "no pictures"),
        "folder without a rate": (lambda made, tmp: str(made / "png"), "--fps"),
        "broken first picture": (broken_first_picture, r"a\.png"),
        "unknown preset": (lambda made, tmp: "simulator:nonesuch", "preset"),
        "seed": (lambda made, tmp: "simulator:default:x", "seed"),
    }


@pytest.mark.parametrize("name", bad_inputs())
def test_bad_input_is_one_clear_line(name, made, tmp_path):
    make, said = bad_inputs()[name]
    rate = {"fps_hz": 50.0} if name in ("folder without pictures", "broken first picture") else {}
    with pytest.raises(InputError, match=said) as raised:
        open_source(str(make(made, tmp_path)), SourceConfig(**rate))
    assert "\n" not in str(raised.value)


def test_a_given_rate_opens_what_has_none(made, tmp_path):
    path = tmp_path / "zero.avi"
    make, _ = bad_inputs()["rate of zero"]
    make(made, tmp_path)
    assert frames_of(path, fps_hz=25)[1].t_ns == 40_000_000
    assert len(frames_of(write_video(tmp_path / "raw.h264"), fps_hz=50)) == N_FRAMES
