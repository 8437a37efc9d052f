"""Folders of clips that anybody can look at and fill: a strip of 16 pictures a clip, and tables (docs/clips.md).

``000007.png`` is clip 7, its pictures from left to right. ``clips.csv`` has a row a clip, ``pictures.csv`` a row a
picture; of both only the column ``clip`` is needed, and neither has to be there. A clip may also be a video, a folder
of 16 pictures, or a row of ``clips.npy``.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.cells import CLIP_FRAMES, CLIP_RATE_HZ, CLIP_SIZE_PX, Clip, ClipFlag
from casa.clips.video import VIDEO_SUFFIXES, read_video
from casa.errors import CasaError, InputError

CLIPS_TABLE, PICTURES_TABLE, PACKED = "clips.csv", "pictures.csv", "clips.npy"
CLIP_COLUMNS = ("clip", "track_id", "t_s", "flags", "score", "um_per_px", "source")
PICTURE_COLUMNS = ("clip", "picture", "frame", "t_s", "cx_px", "cy_px", "score", "flags")
#: Names of the flags, as tables have them: ``border|lost``.
FLAGS = {
    "border": ClipFlag.BORDER,
    "predicted": ClipFlag.PREDICTED,
    "crossing": ClipFlag.CROSSING,
    "lost": ClipFlag.LOST,
    "repeated": ClipFlag.REPEATED,
}
_SHAPE = (CLIP_FRAMES, CLIP_SIZE_PX, CLIP_SIZE_PX)
_PICTURES = f"{CLIP_FRAMES} pictures of {CLIP_SIZE_PX} x {CLIP_SIZE_PX} px"
_IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".bmp")


def flag_names(bits: int) -> str:
    """The names of a picture's flags, joined by ``|``."""
    return "|".join(name for name, bit in FLAGS.items() if bits & bit)


def write_clips(folder: Path | str, clips: Iterable[Clip], *, source: str = "", force: bool = False) -> int:
    """Write clips as they come, a strip each, then the tables; gives how many.

    Parameters
    ----------
    source : where they are from, for the table. force : replace the clips that the folder has.

    Raises
    ------
    InputError : the folder has clips already, or a clip is not of 16 pictures of 150 x 150 px, or an id comes twice.
    CasaError : it cannot be written.
    """
    folder = Path(folder)
    old = sorted(folder.glob("[0-9]*.png")) + [folder / name for name in (CLIPS_TABLE, PICTURES_TABLE, PACKED)]
    old = [path for path in old if path.exists()]
    if old and not force:
        raise InputError(f"{folder}: has clips already ({old[0].name}); choose another folder or give --force")
    of_clips: list[tuple[Any, ...]] = []
    of_pictures: list[tuple[Any, ...]] = []
    seen: set[int] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in old:
            path.unlink()
        for clip in clips:
            if clip.images.shape != _SHAPE:
                raise InputError(f"clip {clip.clip_id}: expected {_PICTURES}, got {_shape_text(clip.images)}")
            if clip.clip_id in seen:
                raise InputError(f"clip {clip.clip_id}: came twice; ids must differ")
            seen.add(clip.clip_id)
            strip = np.hstack(list(clip.images))
            data = cv2.imencode(".png", strip, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1]
            (folder / f"{clip.clip_id:06d}.png").write_bytes(data.tobytes())
            flags = flag_names(int(np.bitwise_or.reduce(clip.flags)))
            scale = "" if clip.um_per_px is None else f"{clip.um_per_px:.9g}"
            score = f"{clip.score.min():.4f}"
            of_clips.append((clip.clip_id, clip.track_id, _seconds(clip.t_ns[0]), flags, score, scale, source))
            for k in range(len(clip)):
                x, y = clip.centre_xy_px[k]
                row = (clip.frames[k], _seconds(clip.t_ns[k]), f"{x:.4f}", f"{y:.4f}", f"{clip.score[k]:.9g}")
                of_pictures.append((clip.clip_id, k, *row, flag_names(int(clip.flags[k]))))
        _write_table(folder / PICTURES_TABLE, PICTURE_COLUMNS, of_pictures)
        _write_table(folder / CLIPS_TABLE, CLIP_COLUMNS, of_clips)
    except OSError as error:
        raise CasaError(f"{folder}: cannot be written ({error}); free space or choose another folder") from error
    return len(of_clips)


def read_clips(folder: Path | str) -> list[Clip]:
    """The clips of a folder in the order of its table, or of their ids; see `iterate_clips`."""
    return list(iterate_clips(folder))


def iterate_clips(folder: Path | str) -> Iterator[Clip]:
    """Clip by clip, for folders that are larger than memory.

    What tables do not say is taken as: track_id the clip's own id, pictures 1/15 s apart, centred in themselves,
    unflagged. A video alone is read as one clip.

    Raises
    ------
    InputError : no such folder or no clips in it; a clip without pictures, of another length, size or depth, or all of
        one gray; a table that names clips twice or holds what is no number.
    """
    folder = Path(folder)
    if folder.is_file() and folder.suffix.lower() in VIDEO_SUFFIXES:
        yield _checked(_from_video(folder, 1), str(folder))
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give a folder of clips as docs/clips.md describes it")
    rows, pictures = _read_tables(folder)
    packed, files = _packed(folder), _files(folder)
    if not rows:
        count = len(packed) if packed is not None else 0
        rows = {number: _Row() for number in (range(1, count + 1) if count else sorted(files))}
    if not rows:
        raise InputError(f"{folder}: has no clips: no {CLIPS_TABLE}, no 000001.png, no videos; see docs/clips.md")
    if packed is not None and len(packed) != len(rows):
        raise InputError(f"{folder / PACKED}: has {len(packed)} clips, {CLIPS_TABLE} has {len(rows)}")
    for position, (number, row) in enumerate(rows.items()):
        if packed is not None:
            clip = _plain(number, packed[position])
        elif number in files:
            clip = _from_file(files[number], number)
        else:
            raise InputError(
                f"{folder}: clip {number} is in {CLIPS_TABLE}, but {number:06d}.png (or a video) is missing"
            )
        clip = _checked(clip, f"{folder}: clip {number}")
        clip = replace(clip, track_id=number if row.track_id is None else row.track_id, um_per_px=row.um_per_px)
        if number in pictures:
            clip = _with_pictures(clip, pictures[number], folder / PICTURES_TABLE)
        yield clip


@dataclass(slots=True)
class _Row:
    """A row of clips.csv: what it says, None where it does not."""

    track_id: int | None = None
    um_per_px: float | None = None


@dataclass(slots=True)
class _PictureRows:
    """The rows of pictures.csv of one clip, a column each."""

    picture: list[int] = field(default_factory=list)
    frame: list[int] = field(default_factory=list)
    t_ns: list[int] = field(default_factory=list)
    xy: list[tuple[float, float]] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    flags: list[int] = field(default_factory=list)


def _read_tables(folder: Path) -> tuple[dict[int, _Row], dict[int, _PictureRows]]:
    rows: dict[int, _Row] = {}
    for where, cells in _table_rows(folder / CLIPS_TABLE):
        number = _whole(where, "clip", cells["clip"])
        if number in rows:
            raise InputError(f"{where}: clip {number} comes twice")
        row = rows[number] = _Row()
        if cells.get("track_id"):
            row.track_id = _whole(where, "track_id", cells["track_id"])
        if cells.get("um_per_px"):
            row.um_per_px = _number(where, "um_per_px", cells["um_per_px"])
            if not row.um_per_px > 0:
                raise InputError(f"{where}: um_per_px must be positive, got {cells['um_per_px']}")
    pictures: dict[int, _PictureRows] = {}
    for where, cells in _table_rows(folder / PICTURES_TABLE):
        number = _whole(where, "clip", cells["clip"])
        if rows and number not in rows:
            raise InputError(f"{where}: clip {number} is not in {CLIPS_TABLE}")
        one = pictures.setdefault(number, _PictureRows())
        one.picture.append(_whole(where, "picture", cells.get("picture") or str(len(one.picture))))
        one.frame.append(_whole(where, "frame", cells.get("frame") or "0"))
        one.t_ns.append(_nanoseconds(where, cells.get("t_s") or "0"))
        one.xy.append((_number(where, "cx_px", cells.get("cx_px")), _number(where, "cy_px", cells.get("cy_px"))))
        one.score.append(_number(where, "score", cells.get("score")))
        one.flags.append(_flags(where, cells.get("flags") or ""))
    return rows, pictures


def _table_rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """(where, cells by column) of each row; nothing of a table that is not there."""
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream)
            header = [name.strip() for name in next(reader, [])]
            if "clip" not in header:
                raise InputError(f"{path}: column clip is missing; the header has {', '.join(header) or 'nothing'}")
            for cells in reader:
                where = f"{path}:{reader.line_num}"
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise InputError(f"{where}: expected {len(header)} values, got {len(cells)}")
                yield where, dict(zip(header, (cell.strip() for cell in cells), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a text table ({error})") from error


def _whole(where: str, name: str, text: str) -> int:
    try:
        value = int(text)
        if 0 <= value < 2**63:
            return value
    except ValueError:
        pass
    raise InputError(f"{where}: {name} must be a whole number from 0, got {text!r}")


def _flags(where: str, text: str) -> int:
    names = [name.strip() for name in text.split("|") if name.strip()]
    unknown = [name for name in names if name not in FLAGS]
    if unknown:
        raise InputError(f"{where}: flag {unknown[0]!r} is unknown; there are {', '.join(FLAGS)}")
    return sum({FLAGS[name] for name in names})


def _number(where: str, name: str, text: str | None) -> float:
    """NaN where the cell is empty or the column is not there."""
    if not text:
        return float("nan")
    try:
        value = float(text)
        if np.isfinite(value):
            return value
    except ValueError:
        pass
    raise InputError(f"{where}: {name} must be a number, got {text!r}")


def _nanoseconds(where: str, text: str) -> int:
    try:
        t_ns = int(Decimal(text).scaleb(9).to_integral_value())
        if abs(t_ns) < 2**63:
            return t_ns
    except (InvalidOperation, OverflowError, ValueError):
        pass
    raise InputError(f"{where}: t_s must be a time in seconds, got {text!r}")


def _seconds(t_ns: Any) -> str:
    return f"{Decimal(int(t_ns)).scaleb(-9):f}"


def _files(folder: Path) -> dict[int, Path]:
    """Files of pictures by clip: by their numbers, or counted in order of names where no name is a number."""
    found = sorted(
        (
            path
            for path in folder.iterdir()
            if path.suffix.lower() in (*VIDEO_SUFFIXES, *_IMAGE_SUFFIXES) or (path.is_dir() and path.stem.isdecimal())
            if not path.name.startswith(("sheet", "."))
        ),
        key=_natural_key,
    )
    numbered = [path for path in found if path.stem.isdecimal()]
    if not numbered:
        return dict(enumerate(found, start=1))
    others = [path for path in found if path not in numbered]
    if others:  # counting them all would give clips the votes of others
        raise InputError(
            f"{folder}: {numbered[0].name} is named by its clip's number and {others[0].name} is not; number all "
            "clips, or move the other files away"
        )
    by_number: dict[int, Path] = {}
    for path in numbered:
        if int(path.stem) in by_number:
            raise InputError(f"{folder}: clip {int(path.stem)} is there twice: {path.name} and another; remove one")
        by_number[int(path.stem)] = path
    return by_number


def _natural_key(path: Path) -> tuple[list[str | int], str]:
    """Order of names in which ``2.png`` comes before ``10.png``."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", path.name)], path.name


def _packed(folder: Path) -> NDArray[np.uint8] | None:
    path = folder / PACKED
    if not path.is_file():
        return None
    try:
        images = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as an array of clips ({error}); save it with numpy.save") from error
    if images.ndim != 4 or images.shape[1:] != _SHAPE or images.dtype != np.uint8:
        raise InputError(f"{path}: expected (n, 16, 150, 150) uint8, got {images.shape} {images.dtype}")
    return images


def _from_file(path: Path, number: int) -> Clip:
    if path.is_dir():
        kinds = (*_IMAGE_SUFFIXES, ".jpg", ".jpeg")
        parts = sorted((part for part in path.iterdir() if part.suffix.lower() in kinds), key=_natural_key)
        images = [_gray(part) for part in parts]
        shapes = {image.shape for image in images}
        if len(shapes) > 1:
            one, other = (f"{width} x {height}" for height, width in sorted(shapes)[:2])
            raise InputError(f"{path}: pictures are of different sizes, {one} and {other} px; cut them alike")
        return _plain(number, np.array(images, np.uint8).reshape(len(images), *(shapes.pop() if shapes else (0, 0))))
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return _from_video(path, number)
    strip = _gray(path)
    if strip.shape != (CLIP_SIZE_PX, CLIP_FRAMES * CLIP_SIZE_PX):
        height, width = strip.shape
        raise InputError(
            f"{path}: expected {CLIP_FRAMES} pictures side by side, {CLIP_FRAMES * CLIP_SIZE_PX} x {CLIP_SIZE_PX} px, "
            f"got {width} x {height}"
        )
    return _plain(number, np.ascontiguousarray(strip.reshape(CLIP_SIZE_PX, CLIP_FRAMES, -1).transpose(1, 0, 2)))


def _gray(path: Path) -> NDArray[np.uint8]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    # What OpenCV and libpng would write to standard error of a file that is cut short is said below.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    whole = data.rfind(b"IEND") > 0 if data.startswith(b"\x89PNG") else bool(data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if whole else None
    if image is None:
        raise InputError(f"{path}: is no picture that can be read, or is cut short; save it as PNG")
    if image.dtype != np.uint8:
        raise InputError(f"{path}: expected 8 bits a pixel, got {image.dtype}; save it with 8 bits")
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY).astype(np.uint8) if image.ndim == 3 else image.astype(np.uint8)


def _from_video(path: Path, number: int) -> Clip:
    images, frames, t_ns, flags = read_video(path)
    return replace(_plain(number, images), frames=frames, t_ns=t_ns, flags=flags)


def _plain(number: int, images: NDArray[np.uint8]) -> Clip:
    """A clip of which nothing is known but its pictures."""
    n = len(images)
    return Clip(
        clip_id=number,
        track_id=number,
        frames=np.arange(n),
        t_ns=np.round(np.arange(n) * 1e9 / CLIP_RATE_HZ).astype(np.int64),
        images=images,
        centre_xy_px=np.full((n, 2), np.nan),
        score=np.full(n, np.nan, np.float32),
        flags=np.zeros(n, np.int64),
    )


def _with_pictures(clip: Clip, rows: _PictureRows, path: Path) -> Clip:
    if sorted(rows.picture) != list(range(len(clip))):
        raise InputError(f"{path}: clip {clip.clip_id} has rows for pictures {sorted(rows.picture)}, expected 0 to 15")
    order = np.argsort(rows.picture)
    return replace(
        clip,
        frames=np.array(rows.frame)[order],
        t_ns=np.array(rows.t_ns)[order],
        centre_xy_px=np.array(rows.xy)[order],
        score=np.array(rows.score)[order],
        flags=np.array(rows.flags)[order],
    )


def _checked(clip: Clip, where: str) -> Clip:
    """The clip, if it is one that can be graded."""
    if clip.images.shape != _SHAPE:
        raise InputError(f"{where}: expected {_PICTURES}, got {_shape_text(clip.images)}")
    if clip.images.min() == clip.images.max():
        raise InputError(f"{where}: all pictures are of one gray ({clip.images.min()}); there is nothing to see")
    return clip


def _shape_text(images: NDArray[np.uint8]) -> str:
    return f"{len(images)} of {images.shape[2]} x {images.shape[1]} px"


def _write_table(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
