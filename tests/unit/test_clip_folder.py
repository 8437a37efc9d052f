"""Folders of clips: what is written is read again, others can fill them, and what is wrong is said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from casa.cells import Clip, ClipFlag
from casa.clips import read_clips, write_clips
from casa.errors import InputError


def clip(number: int = 1, seed: int = 0, **over: object) -> Clip:
    rng = np.random.default_rng(seed)
    values = {
        "clip_id": number,
        "track_id": 10 + number,
        "frames": np.arange(16) * 3 + 5,
        "t_ns": np.arange(16) * 66_666_667 + 1_763_000_000_123_456_789,
        "images": rng.integers(0, 255, (16, 150, 150), np.uint8),
        "centre_xy_px": rng.uniform(0, 600, (16, 2)).round(4),
        "score": rng.uniform(-1, 1, 16).astype(np.float32),
        "flags": rng.integers(0, 32, 16),
        "um_per_px": 0.4,
    }
    return Clip(**(values | over))  # type: ignore[arg-type]


def write_video(path: Path, n: int, fps: int, size: int = 150, codec: str = "ffv1") -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width = stream.height = size
        stream.pix_fmt = "gray" if codec == "ffv1" else "yuv420p"
        for k in range(n):
            image = np.full((size, size), 10 + 3 * k, np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="gray")):
                container.mux(packet)
        container.mux(stream.encode())


def test_clips_come_back_as_they_were_written(tmp_path: Path):
    written = [clip(3), clip(12, seed=1, um_per_px=None)]
    assert write_clips(tmp_path / "clips", written, source="a.mp4") == 2
    for before, after in zip(written, read_clips(tmp_path / "clips"), strict=True):
        assert (after.clip_id, after.track_id, after.um_per_px) == (before.clip_id, before.track_id, before.um_per_px)
        for name in ("frames", "t_ns", "images", "score", "flags", "centre_xy_px"):
            assert (getattr(after, name) == getattr(before, name)).all(), name


def test_a_strip_is_a_picture_that_anybody_can_open(tmp_path: Path):
    one = clip()
    write_clips(tmp_path, [one])
    strip = cv2.imread(str(tmp_path / "000001.png"), cv2.IMREAD_UNCHANGED)
    assert strip is not None
    assert strip.shape == (150, 2400)
    assert (strip[:, 300:450] == one.images[2]).all()


def test_tables_are_not_needed(tmp_path: Path):
    one = clip()
    write_clips(tmp_path, [one])
    for table in tmp_path.glob("*.csv"):
        table.unlink()
    (read,) = read_clips(tmp_path)
    assert (read.images == one.images).all()
    assert read.track_id == 1
    assert read.um_per_px is None
    assert np.allclose(np.diff(read.t_ns), 1e9 / 15)


def test_a_folder_of_sixteen_pictures_and_an_array_are_clips_too(tmp_path: Path):
    one = clip()
    (tmp_path / "a" / "000004").mkdir(parents=True)
    for k, image in enumerate(one.images):
        cv2.imwrite(str(tmp_path / "a" / "000004" / f"{k + 1}.png"), cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    (read,) = read_clips(tmp_path / "a")
    assert read.clip_id == 4
    assert (read.images == one.images).all()
    (tmp_path / "b").mkdir()
    np.save(tmp_path / "b" / "clips.npy", one.images[None])
    assert (read_clips(tmp_path / "b")[0].images == one.images).all()


@pytest.mark.parametrize("fps", [15, 25, 50])
def test_a_video_gives_the_pictures_nearest_to_a_fifteenth_of_a_second(tmp_path: Path, fps: int):
    write_video(tmp_path / "patient.mkv", round(1.2 * fps), fps)
    (read,) = read_clips(tmp_path)
    assert np.abs(read.t_ns / 1e9 - np.arange(16) / 15).max() <= 0.51 / fps
    assert (read.images[:, 0, 0] == 10 + 3 * read.frames).all()
    assert not read.flags.any()
    assert (read_clips(tmp_path / "patient.mkv")[0].images == read.images).all()


def test_a_slow_video_repeats_pictures_and_says_so(tmp_path: Path):
    write_video(tmp_path / "slow.avi", 14, 12, codec="mpeg4")
    (read,) = read_clips(tmp_path)
    assert (read.flags == ClipFlag.REPEATED).any()


def test_names_are_counted_as_people_count(tmp_path: Path):
    for number in (1, 2, 10):
        one = clip(number, seed=number)
        cv2.imwrite(str(tmp_path / f"sperm {number}.png"), np.hstack(list(one.images)))
    for number, read in zip((1, 2, 10), read_clips(tmp_path), strict=True):
        assert (read.images == clip(number, seed=number).images).all()


def test_a_track_of_number_0_keeps_it(tmp_path: Path):
    write_clips(tmp_path, [clip(5, track_id=0)])
    assert read_clips(tmp_path)[0].track_id == 0


def test_a_picture_that_is_cut_short_is_said_in_one_line_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    write_clips(tmp_path, [clip()])
    whole = (tmp_path / "000001.png").read_bytes()
    (tmp_path / "000001.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"000001.png: is no picture that can be read, or is cut short"):
        read_clips(tmp_path)
    assert capfd.readouterr().err == ""


def wrong_strip(folder: Path) -> None:
    cv2.imwrite(str(folder / "000001.png"), np.zeros((150, 8 * 150), np.uint8))


def deep_strip(folder: Path) -> None:
    cv2.imwrite(str(folder / "000001.png"), np.zeros((150, 2400), np.uint16))


def black_strip(folder: Path) -> None:
    cv2.imwrite(str(folder / "000001.png"), np.zeros((150, 2400), np.uint8))


def no_picture(folder: Path) -> None:
    (folder / "000001.png").write_text("hello")


def missing_picture(folder: Path) -> None:
    (folder / "000001.png").unlink()


def twelve_pictures(folder: Path) -> None:
    (folder / "000001.png").unlink()
    (folder / "000001").mkdir()
    for k in range(12):
        cv2.imwrite(str(folder / "000001" / f"{k}.png"), np.full((150, 150), k, np.uint8))


def short_video(folder: Path) -> None:
    (folder / "000001.png").unlink()
    write_video(folder / "000001.mkv", 20, 50)


def large_video(folder: Path) -> None:
    (folder / "000001.png").unlink()
    write_video(folder / "000001.mkv", 60, 50, size=160)


def broken_video(folder: Path) -> None:
    (folder / "000001.png").unlink()
    (folder / "000001.mp4").write_bytes(b"no video")


def there_twice(folder: Path) -> None:
    write_video(folder / "1.mkv", 60, 50)


def another_picture(folder: Path) -> None:
    cv2.imwrite(str(folder / "slide.png"), np.hstack(list(clip(seed=3).images)))


def no_array(folder: Path) -> None:
    (folder / "clips.npy").write_text("hello, world")


def float_array(folder: Path) -> None:
    np.save(folder / "clips.npy", np.full((1, 16, 150, 150), np.nan))


def clips_table(text: str):
    def spoil(folder: Path) -> None:
        (folder / "clips.csv").write_text(text)

    return spoil


def pictures_table(text: str):
    def spoil(folder: Path) -> None:
        (folder / "pictures.csv").write_text(text)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (wrong_strip, "2400 x 150 px, got 1200 x 150"),
        (deep_strip, "expected 8 bits a pixel, got uint16"),
        (black_strip, "all pictures are of one gray (0)"),
        (no_picture, "is no picture that can be read"),
        (missing_picture, "000001.png (or a video) is missing"),
        (twelve_pictures, "expected 16 pictures of 150 x 150 px, got 12 of 150 x 150"),
        (short_video, "20 pictures in 0.38 s, expected 16 in 1.00 s"),
        (large_video, "pictures are 160 x 160 px, expected 150 x 150"),
        (broken_video, "cannot be read as a video"),
        (there_twice, "clip 1 is there twice"),
        (another_picture, "000001.png is named by its clip's number and slide.png is not"),
        (no_array, "clips.npy: cannot be read as an array of clips (the magic string is not correct"),
        (float_array, "expected (n, 16, 150, 150) uint8, got (1, 16, 150, 150) float64"),
        (clips_table("clip\n1\n1\n"), "clips.csv:3: clip 1 comes twice"),
        (clips_table("number\n1\n"), "column clip is missing"),
        (clips_table("clip\nfirst\n"), "clip must be a whole number from 0, got 'first'"),
        (clips_table("clip,um_per_px\n1,nan\n"), "um_per_px must be a number, got 'nan'"),
        (clips_table("clip,um_per_px\n1,-0.4\n"), "um_per_px must be positive, got -0.4"),
        (clips_table("clip,track_id\n1\n"), "expected 2 values, got 1"),
        (pictures_table("clip,picture\n2,0\n"), "clip 2 is not in clips.csv"),
        (pictures_table("clip,picture\n1,0\n1,0\n"), "rows for pictures [0, 0]"),
        (pictures_table("clip,flags\n1,blurred\n"), "flag 'blurred' is unknown"),
        (pictures_table("clip,t_s\n1,soon\n"), "t_s must be a time in seconds, got 'soon'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, spoil, says: str):
    write_clips(tmp_path, [clip()])
    spoil(tmp_path)
    with pytest.raises(InputError) as error:
        read_clips(tmp_path)
    assert says in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_or_missing_folder_is_no_list_of_no_clips(tmp_path: Path):
    with pytest.raises(InputError, match="has no clips"):
        read_clips(tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        read_clips(tmp_path / "nowhere")


def test_clips_are_not_overwritten_unless_told_to(tmp_path: Path):
    write_clips(tmp_path, [clip(1), clip(2)])
    with pytest.raises(InputError, match="has clips already"):
        write_clips(tmp_path, [clip(7)])
    write_clips(tmp_path, [clip(7)], force=True)
    assert [one.clip_id for one in read_clips(tmp_path)] == [7]


def test_clips_of_another_size_are_refused(tmp_path: Path):
    small = clip(images=np.ones((16, 100, 100), np.uint8))
    with pytest.raises(InputError, match="clip 1: expected 16 pictures of 150 x 150 px, got 16 of 100 x 100 px"):
        write_clips(tmp_path, [small])
    with pytest.raises(InputError, match="came twice"):
        write_clips(tmp_path, [clip(1), clip(1)], force=True)


def test_the_example_of_the_documentation_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = (Path(__file__).parents[2] / "docs" / "clips.md").read_text(encoding="utf-8")
    blocks = page.split("```python\n")[1:]
    assert blocks
    write_clips(tmp_path / "FOLDER", [clip()])
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block.split("```")[0], "docs/clips.md", "exec"), {})
    assert (read_clips("OTHER")[0].images == clip().images).all()
