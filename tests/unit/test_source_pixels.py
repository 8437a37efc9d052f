"""Gray levels of decoded frames: the same picture gives the same levels in whatever pixel format it is stored."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from casa.config import SourceConfig
from casa.sources import open_source
from casa.sources.interlace import separate_fields
from casa.sources.pixels import PixelReader, colour_of, has_colour
from casa.types import Frame

# 90 is no multiple of FFmpeg's line alignment: lines have unused bytes behind them.
GRAY = np.add.outer(np.arange(50) * 2, np.arange(90) * 1.7).astype(np.uint8)
EIGHT = [
    "yuv420p",
    "yuv422p",
    "yuv444p",
    "yuv410p",
    "yuva420p",
    "yuvj420p",
    "yuvj444p",
    "nv12",
    "nv21",
    "yuyv422",
    "gray",
]
DEEP = ["yuv420p10le", "yuv422p12le", "yuv444p16le", "p010le", "gray12le", "gray16le"]


def frame_in(pixel_format: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(GRAY, "gray").reformat(format=pixel_format)


@pytest.mark.parametrize("pixel_format", EIGHT)
def test_levels_of_8_bits_are_within_one(pixel_format):
    image = PixelReader().image(frame_in(pixel_format))
    assert (image.shape, image.dtype) == (GRAY.shape, np.uint8)
    assert np.abs(image.astype(int) - GRAY).max() <= 1


@pytest.mark.parametrize("pixel_format", DEEP)
def test_deeper_formats_keep_their_depth_and_reach_from_0_to_65535(pixel_format):
    image = PixelReader().image(frame_in(pixel_format))
    assert (image.shape, image.dtype) == (GRAY.shape, np.uint16)
    assert np.abs(image / 257 - GRAY).max() <= 1


@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr0", "gbrp", "rgb8"])
def test_rgb_stays_rgb(pixel_format):
    frame = frame_in("rgb24").reformat(format=pixel_format)
    image = PixelReader().image(frame)
    assert (image.shape, image.dtype) == ((*GRAY.shape, 3), np.uint8)
    assert not has_colour(frame)


def test_a_full_range_flag_is_believed_and_saves_the_copy():
    frame = frame_in("yuv420p")
    stored = np.frombuffer(frame.planes[0], np.uint8).reshape(50, -1)[:, :90].copy()
    assert not np.array_equal(PixelReader().image(frame), stored)
    frame.color_range = ColorRange.JPEG
    image = PixelReader().image(frame)
    assert np.array_equal(image, stored)
    assert not image.flags.writeable  # the decoder's own memory


def test_what_is_beyond_black_and_white_stays_at_the_ends():
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    blank = av.VideoFrame(256, 16, "yuv444p")
    for plane, values in zip(blank.planes, (ramp, np.full_like(ramp, 128), np.full_like(ramp, 128)), strict=True):
        plane.update(values.tobytes())
    row = PixelReader().image(blank)[0].astype(int)
    assert (row[:17] == 0).all()
    assert (row[235:] == 255).all()
    assert np.array_equal(row, np.clip(np.rint((np.arange(256) - 16) * 255 / 219), 0, 255))


def test_colour_is_there_for_who_asks():
    rgb = np.zeros((48, 64, 3), np.uint8)
    rgb[:, :32, 0], rgb[:, 32:, 2] = 200, 180
    frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv444p")
    assert has_colour(frame)
    assert np.abs(colour_of(frame).astype(int) - rgb).max() <= 4
    gray = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(int)
    assert np.abs(PixelReader().image(frame) - gray).max() <= 2


def write_coloured(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
        for number in range(4):
            rgb = np.zeros((48, 64, 3), np.uint8)
            rgb[::2, :, 0], rgb[1::2, :, 1] = 50 * number + 50, 100
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_a_fields_colour_is_that_field(tmp_path: Path):
    path = write_coloured(tmp_path / "coloured.mp4")
    with open_source(str(path), SourceConfig(interlaced="no")) as source:
        whole = [item.colour() for item in source if isinstance(item, Frame)]
    with open_source(str(path), SourceConfig(interlaced="separate")) as source:
        fields = [item for item in source if isinstance(item, Frame)]
    assert len(fields) == 2 * len(whole) == 8
    for field in fields:  # asked for after the source was closed
        assert field.image.shape == (48, 64)
        assert np.array_equal(field.colour(), separate_fields(whole[field.index], False)[field.field])
    assert fields[4].colour()[10, 10, 0] > fields[5].colour()[10, 10, 0] + 50


def test_a_frame_without_colours_gives_its_image():
    image = np.zeros((4, 6), np.uint16)
    assert Frame(0, 0, image).colour() is image
