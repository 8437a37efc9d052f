"""Which recordings a batch is of: folders, globs, files, addresses and manifests become a list of them, each once."""

from __future__ import annotations

import csv
import glob
import hashlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from casa.batch.content import content_sha256, sample_sha256, stamp_and_size
from casa.batch.store import filesystem, is_remote, local_path
from casa.errors import CasaError, InputError
from casa.sources.images import SUFFIXES as PICTURE_SUFFIXES

#: What is taken for a recording in a folder; a file that is named is taken whatever its name ends in.
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mkv", ".avi", ".mov", ".webm", ".mpg", ".mpeg", ".wmv")
#: Columns of a manifest with a meaning; others are carried into the table of recordings.
MANIFEST_COLUMNS = ("path", "recording", "calibration", "fps")


@dataclass(frozen=True, slots=True)
class Item:
    """A recording to analyse.

    Parameters
    ----------
    uri : absolute path, address for fsspec, or ``simulator:PRESET:SEED``.
    recording : what it is called in the results; ``named``: the manifest says so.
    stamp : changes when the file does; "" where that cannot be told.
    n_bytes : of the file, or of a folder's pictures together; None of simulated ones, and where it is not known.
    calibration, fps_hz : instead of the batch's own; None: that.
    columns : what else the manifest says of it.
    """

    uri: str
    recording: str = ""
    named: bool = False
    stamp: str = ""
    n_bytes: int | None = None
    calibration: str | None = None
    fps_hz: float | None = None
    columns: dict[str, str] = field(default_factory=dict)


def find(
    inputs: Sequence[str], skip_duplicates: bool = False, said: Callable[[str], None] = lambda _: None
) -> list[Item]:
    """The recordings of ``inputs`` in the order given, named, each once.

    Parameters
    ----------
    skip_duplicates : a recording that is given twice, or a copy of another, is left out and told to ``said``.

    Raises
    ------
    InputError : nothing there, a manifest that cannot be read, a recording twice, or two of one name.
    CasaError : an address cannot be reached.
    """
    items = [item for text in inputs for item in _expand(text, said)]
    if not items:
        raise InputError("no recording was given")
    kept = _once(items, skip_duplicates, said)
    return _named(kept)


def _expand(text: str, said: Callable[[str], None]) -> list[Item]:
    if text == "simulator" or text.startswith("simulator:"):
        return [Item(text)]
    if is_remote(text):
        return _expand_remote(text)
    path = local_path(text)
    if path.is_dir():
        return _of_folder(path, said)
    if path.is_file():
        return _manifest(path, said) if path.suffix.lower() == ".csv" else [_of_file(path)]
    if glob.has_magic(str(path)):
        found = sorted(one for one in glob.glob(str(path), recursive=True) if Path(one).exists())
        if not found:
            raise InputError(f"{text}: matches no file")
        return [
            item for one in map(Path, found) for item in (_of_folder(one, said) if one.is_dir() else [_of_file(one)])
        ]
    raise InputError(f"{text}: no such file or folder; give recordings, folders, globs or a manifest (CSV)")


def _of_folder(folder: Path, said: Callable[[str], None]) -> list[Item]:
    """The videos in a folder and below; without any, the folder if it holds pictures, else those below that do.

    Other pictures may be anything: they are left out, and told of.
    """
    below = sorted(
        p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    videos = [path for path in below if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()]
    pictures = sorted({path.parent for path in below if path.suffix.lower() in PICTURE_SUFFIXES})
    found = videos or ([folder] if folder in pictures else pictures)
    if not found:
        raise InputError(f"{folder}: holds no video ({', '.join(VIDEO_SUFFIXES)}) and no pictures")
    if other := sorted(set(pictures) - set(found)):
        which = f"{other[0]}{f' and {len(other) - 1} more' if len(other) > 1 else ''}"
        said(f"pictures in {which} are left out; give that folder too, if they are the frames of a recording")
    return [_local(path) for path in found]


def _of_file(path: Path) -> Item:
    if path.suffix.lower() in PICTURE_SUFFIXES:
        raise InputError(f"{path}: is one picture; give {path.parent}, the folder, where its pictures are frames")
    return _local(path)


def _local(path: Path) -> Item:
    try:
        str(path).encode()
        stamp, n_bytes = stamp_and_size(path)
    except UnicodeEncodeError:
        name = str(path).encode(errors="backslashreplace").decode()
        raise InputError(f"{name}: the name is not UTF-8, and no table can have it; rename it") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    return Item(str(path), stamp=stamp, n_bytes=n_bytes)


def _expand_remote(text: str) -> list[Item]:
    fs, path = filesystem(text)
    protocol = text.split("://", 1)[0]
    try:
        if fs.isdir(path):
            names = [name for name in sorted(fs.find(path)) if name.lower().endswith(VIDEO_SUFFIXES)]
            if not names:
                raise InputError(f"{text}: holds no video ({', '.join(VIDEO_SUFFIXES)})")
        elif glob.has_magic(path):
            names = sorted(fs.glob(path))
            if not names:
                raise InputError(f"{text}: matches no file")
        else:
            names = [path]
        return [_remote(fs, name if "://" in name else f"{protocol}://{name}", name) for name in names]
    except FileNotFoundError:
        raise InputError(f"{text}: no such file") from None
    except CasaError:
        raise
    except Exception as error:  # each file system has errors of its own
        what = " ".join(str(error).split())[:160]
        raise CasaError(f"{text}: cannot be reached ({type(error).__name__}: {what})") from error


def _remote(fs: object, uri: str, name: str) -> Item:
    info = fs.info(name)  # type: ignore[attr-defined]
    keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified")
    changed = next((f"{key}={info[key]}" for key in keys if info.get(key)), "")
    size = info.get("size")
    return Item(uri, stamp=f"{size}:{changed}", n_bytes=None if size is None else int(size))


def _manifest(path: Path, said: Callable[[str], None]) -> list[Item]:
    """The rows of a manifest: CSV with a header; relative paths are taken from where it lies."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True, strict=True)
            names = [name.strip() for name in reader.fieldnames or ()]
            reader.fieldnames = names
            rows = [(reader.line_num, row) for row in reader if any(row.values())]  # ",,," is an empty line too
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a manifest ({error})") from error
    if not rows or "path" not in names:
        raise InputError(
            f"{path}: a manifest needs a header with a column path, parted by commas, and a row for each recording"
        )
    if twice := next((name for name in names if name and names.count(name) > 1), None):
        raise InputError(f"{path}: has two columns {twice}; name each otherwise")
    return [_of_row(f"{path}:{number}", row, path.parent, said) for number, row in rows]


def _of_row(where: str, row: dict[str, str | None], folder: Path, said: Callable[[str], None]) -> Item:
    if None in row or any(value is None for value in row.values()):
        raise InputError(f"{where}: has more or fewer cells than the header")
    cells = {key: (value or "").strip() for key, value in row.items()}
    if not cells["path"]:
        raise InputError(f"{where}: path is empty")
    text = cells["path"]
    if text.lower().endswith(".csv"):
        raise InputError(f"{where}: {text} is a table; a row is one recording")
    named = is_remote(text) or text.startswith(("simulator", "file://"))
    try:
        found = _expand(text if named else str(folder / text), said)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    if len(found) != 1:
        raise InputError(f"{where}: {text} holds several recordings; a row is one recording")
    calibration = cells.get("calibration") or None
    if calibration and (folder / calibration).is_file():
        calibration = str(folder / calibration)
    more = {key: value for key, value in cells.items() if key not in MANIFEST_COLUMNS and key}
    return replace(
        found[0],
        recording=cells.get("recording", ""),
        calibration=calibration,
        fps_hz=_fps(where, cells.get("fps", "")),
        columns=more,
    )


def _fps(where: str, text: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"{where}: fps: expected frames a second, got {text!r}")
    return value


def _once(items: list[Item], skip: bool, said: Callable[[str], None]) -> list[Item]:
    """Leave out, or refuse, what is given twice: by its path, or by its content."""
    first: dict[str, Item] = {}
    for item in items:
        if item.uri in first:
            told_twice(f"{item.uri}: is given twice", skip, said)
        else:
            first[item.uri] = item
    by_size = defaultdict(list)
    for item in first.values():
        if item.n_bytes:
            by_size[item.n_bytes].append(item)
    copies = {}
    for alike in by_size.values():
        for same in _alike(alike):
            for copy in same[1:]:
                told_twice(f"{copy.uri}: is a copy of {same[0].uri}", skip, said)
                copies[copy.uri] = same[0].uri
    return [item for item in first.values() if item.uri not in copies]


def told_twice(what: str, skip: bool, said: Callable[[str], None]) -> None:
    """Refuse ``what``, a recording that is there twice; with ``skip`` say that it is left out."""
    if not skip:
        raise InputError(f"{what}; give each recording once, or --skip-duplicates to leave out the second")
    said(f"{what}; left out")


def _alike(items: list[Item]) -> Iterable[list[Item]]:
    """Groups of two or more of equal content, of items of equal size; only what might be equal is read whole."""
    groups = [items]
    for key in (_sample, _content):
        finer = []
        for group in groups:
            by_key = defaultdict(list)
            for item in group if len(group) > 1 else ():
                try:
                    by_key[key(item)].append(item)
                except OSError:
                    continue  # is like no other; that it cannot be read is told when its turn comes
            finer += list(by_key.values())
        groups = finer
    return [group for group in groups if len(group) > 1]


def _sample(item: Item) -> str:
    """The first and last bytes; of remote ones the stamp, which has the content's sum where there is one."""
    if is_remote(item.uri):
        key, _, value = item.stamp.partition(":")[2].partition("=")
        sums = key in ("ETag", "etag", "md5Hash") and not item.uri.startswith("http")  # a time is no sum
        return f"{item.uri.split('://')[0]} {value}" if sums and value else item.uri
    return sample_sha256(Path(item.uri))


def _content(item: Item) -> str:
    return _sample(item) if is_remote(item.uri) else content_sha256(Path(item.uri))


def _named(items: list[Item]) -> list[Item]:
    """Give each its name: the manifest's, or its file's with as many folders before it as tell it from the others."""
    given = Counter(item.recording for item in items if item.recording)
    for item in items:
        if item.recording and (item.recording != clean(item.recording) or given[item.recording] > 1):
            what = "is given twice" if given[item.recording] > 1 else "may have letters, digits and . _ - only"
            raise InputError(f"{item.uri}: recording {item.recording!r}: {what}")
    names = {item.uri: item.recording for item in items if item.recording}
    for form in (_stem, _with_parent, _with_suffix, _with_path, _with_hash):
        waiting = [item for item in items if item.uri not in names]
        counts = Counter(form(item.uri).lower() for item in waiting)
        taken = {name.lower() for name in names.values()}
        for item in waiting:
            name = form(item.uri)
            if counts[name.lower()] == 1 and name.lower() not in taken:
                names[item.uri] = name
    return [replace(item, recording=names[item.uri], named=bool(item.recording)) for item in items]


def clean(text: str) -> str:
    """A name that files can have; readers of data sets pass over what begins with a dot or an underscore."""
    return re.sub(r"[^\w.\-]+", "_", text).lstrip("._") or "recording"


def _path(uri: str) -> PurePosixPath:
    if uri.startswith("simulator"):
        return PurePosixPath(uri.replace(":", "_"))
    return PurePosixPath(uri.split("://", 1)[-1].replace("\\", "/"))


def _stem(uri: str) -> str:
    return clean(_path(uri).stem)


def _with_parent(uri: str) -> str:
    path = _path(uri)
    return clean(f"{path.parent.name}_{path.stem}")


def _with_suffix(uri: str) -> str:
    return clean(_path(uri).name.replace(".", "_"))


def _with_path(uri: str) -> str:
    return clean("_".join(_path(uri).parts[-4:]).replace(".", "_"))


def _with_hash(uri: str) -> str:
    return f"{_stem(uri)}_{hashlib.sha256(uri.encode()).hexdigest()[:8]}"
