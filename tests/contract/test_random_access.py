"""Pictures by number are those that reading the source in order gives, from every kind of source."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from casa.config import SourceConfig
from casa.errors import InputError
from casa.sources import open_source
from casa.sources.random_access import open_pictures
from casa.types import MissingFrame

N, WIDTH, HEIGHT = 130, 64, 48


def picture(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[(number * 2) % HEIGHT :, :, 0] = 120
    return image + rng.integers(0, 30, image.shape).astype(np.uint8)


def write(path: Path, codec: str, pixel_format: str, pts: list[int] | None = None, **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=50, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(N):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            frame.pts, frame.time_base = (pts[number] if pts else 20 * number), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def pictures_folder(folder: Path) -> Path:
    folder.mkdir()
    for number in range(12):
        cv2.imwrite(str(folder / f"frame_{number}.png"), picture(number)[:, :, 0].astype(np.uint16) * 200)
    return folder


UNEVEN = np.cumsum(np.random.default_rng(3).integers(12, 29, N)).tolist()
SOURCES = {
    "mp4 with B frames": lambda t: write(t / "a.mp4", "libx264", "yuv420p", g="30", bf="3"),
    "mkv, uneven times": lambda t: write(t / "a.mkv", "libx264", "yuv420p", pts=UNEVEN, g="60", bf="2"),
    "avi": lambda t: write(t / "a.avi", "mjpeg", "yuvj420p"),
    "lossless gray": lambda t: write(t / "a.mkv", "ffv1", "gray"),
    "folder of 16-bit pictures": lambda t: pictures_folder(t / "pictures"),
    "simulator": lambda t: "simulator:sparse:4",
    "interlaced simulator": lambda t: "simulator:brightfield:2",
}


@pytest.mark.parametrize("kind", SOURCES)
def test_pictures_by_number_are_those_in_order(kind: str, tmp_path):
    uri = str(SOURCES[kind](tmp_path))
    config = SourceConfig(fps_hz=50 if "folder" in kind else None, max_frames=8 if "simulator" in kind else None)
    expected = {}
    with open_source(uri, config) as source:
        info = source.info
        for item in source:
            lost = isinstance(item, MissingFrame)  # an AVI of this rate has empty frames between the others
            expected[item.index, item.field] = item.reason if lost else np.asarray(item.colour())
    pictures = open_pictures(uri, config)
    assert pictures.interlaced == info.interlaced
    keys = list(expected)
    end, half = len(keys), len(keys) // 2
    order = [0, end - 1, 1, half, half - 1, half - 2, 3, *range(end - 4, end), *range(0, end, 20)]
    for key in (keys[at] for at in order):
        found = pictures.get(*key)
        if isinstance(expected[key], str):
            assert isinstance(found, str)
            continue
        assert isinstance(found, np.ndarray), found
        rgb = found if found.ndim == 3 else np.repeat(found[..., None], 3, axis=2)
        wanted = expected[key] if expected[key].ndim == 3 else np.repeat(expected[key][..., None], 3, axis=2)
        assert np.array_equal(rgb, wanted), f"frame {key}"


def test_a_frame_that_is_not_there_is_told(tmp_path):
    path = write(tmp_path / "a.mp4", "libx264", "yuv420p", g="30")
    data = bytearray(path.read_bytes())
    data[len(data) // 3 : len(data) // 3 + 400] = bytes(400)
    path.write_bytes(bytes(data))
    pictures = open_pictures(str(path), SourceConfig())
    found = [pictures.get(number, 0) for number in range(0, N, 10)]
    assert sum(isinstance(p, np.ndarray) for p in found) > N // 20
    assert all(p for p in found if isinstance(p, str))


def test_no_such_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        open_pictures(str(tmp_path / "none.mp4"), SourceConfig())
