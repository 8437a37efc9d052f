"""Writes a scene as a data set in the layout of VISEM-Tracking, so that whatever trains on the one trains on the other.

``DIR/NAME/NAME.mp4``, ``labels/NAME_frame_I.txt`` (``class cx cy w h``, fractions of the frame), ``labels_ftid/``
with the same names (a track id in front), ``images/NAME_frame_I.jpg`` when asked for, and what no real data set
has: ``truth.csv.gz`` (boxes, ids and the heads' exact centres) and ``kinematics_truth.csv``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from casa.errors import CasaError, InputError
from casa.simulate.scene import Scene
from casa.tables import write_kinematics, write_tracks
from casa.types import Frame, TrackTable

_SPERM = 0
_TIME_BASE = Fraction(1, 90_000)


def write_visem_layout(
    scene: Scene,
    directory: Path,
    name: str | None = None,
    images: bool = False,
    force: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> Path:
    """Write video, boxes, track ids and truth of a scene; gives the folder of the recording.

    Parameters
    ----------
    directory : parent folder, made where missing. name : of the recording, by default preset and seed.
    images : write each frame as JPEG too. force : replace a recording of the same name.
    advance : called after each frame.

    Raises
    ------
    InputError : the recording exists and ``force`` is not given. CasaError : it cannot be written.
    """
    import av
    import av.error

    name = name or f"{scene.config.name}_{scene.seed}"
    folder = directory / name
    if folder.exists():
        if not force:
            raise InputError(f"{folder}: exists already; choose another folder or give --force to replace it")
        shutil.rmtree(folder)
    truth = scene.truth()
    partial = directory / f"{name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for sub in ("labels", "labels_ftid", *(("images",) if images else ())):
            (partial / sub).mkdir(parents=True)
        _write_video(scene, partial / f"{name}.mp4", partial / "images" if images else None, name, advance)
        write_labels(truth, scene, partial, name)
        write_tracks(partial / "truth.csv.gz", truth)
        write_kinematics(partial / "kinematics_truth.csv", scene.kinematics_truth())
        partial.rename(folder)
    except (OSError, av.error.FFmpegError) as error:
        raise CasaError(f"{folder}: cannot be written ({error}); free space or choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def write_labels(truth: TrackTable, scene: Scene, folder: Path, name: str) -> None:
    """Write one text file a frame under ``labels/`` and ``labels_ftid/``; empty where no head is in view."""
    size = np.array([scene.config.width_px, scene.config.height_px] * 2, float)
    boxes = np.stack([truth.cx_px, truth.cy_px, truth.w_px, truth.h_px], axis=1) / size
    order = np.lexsort((truth.track_id, truth.frame))
    starts = np.searchsorted(truth.frame[order], np.arange(len(scene) + 1))
    for index in range(len(scene)):
        if scene.missing[index]:
            continue
        rows = order[starts[index] : starts[index + 1]]
        lines = [f"{_SPERM} " + " ".join(f"{value:.6f}" for value in boxes[row]) for row in rows]
        ids = truth.track_id[rows].tolist()
        text = "".join(f"{line}\n" for line in lines)
        (folder / "labels" / f"{name}_frame_{index}.txt").write_text(text, encoding="ascii")
        text = "".join(f"{number} {line}\n" for number, line in zip(ids, lines, strict=True))
        (folder / "labels_ftid" / f"{name}_frame_{index}.txt").write_text(text, encoding="ascii")


def _write_video(scene: Scene, path: Path, images: Path | None, name: str, advance: Callable[[], None]) -> None:
    """H.264 at high quality with the frames' own times; missing frames leave a gap in them."""
    import av

    config = scene.config
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(config.fps_hz).limit_denominator(1001))
        stream.width, stream.height = config.width_px - config.width_px % 2, config.height_px - config.height_px % 2
        stream.pix_fmt = "yuv420p"
        stream.time_base = _TIME_BASE
        stream.codec_context.time_base = _TIME_BASE
        stream.options = {"crf": "18", "preset": "fast", "threads": "1"}
        if config.interlaced:
            stream.options |= {"x264-params": "interlaced=1:tff=1"}
        for item in scene.frames():
            if isinstance(item, Frame):
                picture = np.ascontiguousarray(item.image[: stream.height, : stream.width])
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = round(item.t_ns * _TIME_BASE.denominator / 1_000_000_000)
                frame.time_base = _TIME_BASE
                container.mux(stream.encode(frame))
                if images is not None:
                    cv2.imwrite(str(images / f"{name}_frame_{item.index}.jpg"), picture[..., ::-1])
            advance()
        container.mux(stream.encode(None))
