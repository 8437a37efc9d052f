"""Claims about bad timestamps: they are repaired, and the recording and the report say so."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from casa.config import load_config
from casa.engine import replay
from casa.record import Recording
from casa.report import write_report
from casa.sources import open_source


def video_with_times(path: Path, times: list[int]) -> Path:
    """A Motion JPEG AVI or Matroska file whose pictures carry ``times`` (ms)."""
    import av

    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=50)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        packets = []
        for number in range(len(times)):
            image = rng.integers(0, 255, (64, 96, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuvj420p")
            frame.pts, frame.time_base = number * 20, Fraction(1, 1000)
            packets += stream.encode(frame)
        packets += stream.encode()
        for packet, time in zip(packets, times, strict=True):
            packet.pts = packet.dts = time
            packet.time_base = Fraction(1, 1000)
            container.mux_one(packet)
    return path


@pytest.mark.parametrize("bad", [True, False])
def test_times_that_stand_still_are_repaired_and_told(tmp_path: Path, bad: bool):
    times = [20 * i for i in range(40)]
    if bad:
        times[20] = times[19]  # a repeated timestamp
    video = video_with_times(tmp_path / "times.mkv", times)
    with open_source(str(video), load_config("replay").source) as source:
        result = replay(source, tmp_path / "run.h5", load_config("replay"))
    assert ("timestamps_repaired" in result.summary.flags) is bad
    assert result.account.processed == 40
    with Recording(tmp_path / "run.h5") as recording:
        assert (np.diff(recording.frames()["t_ns"]) > 0).all()
    write_report(tmp_path / "run.h5", tmp_path / "run.html")
    assert ("Timestamps repaired" in (tmp_path / "run.html").read_text()) is bad
