"""Sets of head crops in the layouts they are published in, as one type: ``HeadImages``.

What is on disk is told apart by ``read_heads``; docs/morphology.md says which layouts could be checked against their
publication. Pictures come out as uint8, of one size.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.errors import CasaError, InputError
from casa.simulate.head_shapes import PART_NAMES
from casa.simulate.heads import RenderedHeads, render_heads
from casa.types import IntArray, _check_column

#: Endings of picture files that are read.
IMAGE_ENDINGS = frozenset((".bmp", ".png", ".tif", ".tiff", ".jpg", ".jpeg"))
#: Label of a crop whose class is not known, or which an expert did not class.
UNLABELLED = -1
#: Parts of MHSMA that have a label each.
MHSMA_LABELS = ("head", "acrosome", "vacuole", "tail")
MHSMA_SPLITS = ("train", "valid", "test")

_SPLIT_NAMES = {"train": "train", "training": "train", "valid": "valid", "val": "valid", "validation": "valid"}
_SPLIT_NAMES |= {"test": "test", "testing": "test"}


@dataclass(frozen=True, slots=True, eq=False)
class HeadImages:
    """Head crops of one size, and what is said of them.

    Parameters
    ----------
    images : (n, h, w) or (n, h, w, 3) RGB, uint8.
    labels : (n,) int64, index into ``class_names``; ``UNLABELLED`` (-1) where not known.
    class_names : of the labels.
    ids : n names, unique in the set (a file's path within its folder).
    groups : n names of what must stay together when the set is split (a slide, a man); "" where not known.
    splits : n of "train", "valid", "test"; "" where the set has none.
    experts : (n, e) int64, one column an expert, ``UNLABELLED`` where he gave none; None where only labels are known.
    name : of the set. um_per_px : scale of the crops, None where not known.

    Raises
    ------
    ValueError : columns do not fit one another.
    """

    images: NDArray[np.uint8]
    labels: IntArray
    class_names: tuple[str, ...]
    ids: tuple[str, ...]
    groups: tuple[str, ...] = ()
    splits: tuple[str, ...] = ()
    experts: IntArray | None = None
    name: str = ""
    um_per_px: float | None = None

    def __post_init__(self) -> None:
        n = len(np.asarray(self.labels))
        colour = np.asarray(self.images).ndim == 4
        _check_column(self, "images", np.uint8, (n, None, None, 3) if colour else (n, None, None))
        _check_column(self, "labels", np.int64, (n,))
        if self.experts is not None:
            _check_column(self, "experts", np.int64, (n, None))
        for column in ("ids", "groups", "splits"):
            names = tuple(getattr(self, column)) or ("",) * n
            if len(names) != n:
                raise ValueError(f"HeadImages.{column}: expected {n} names, got {len(names)}")
            object.__setattr__(self, column, names)
        for column in (self.labels, self.experts):
            if column is not None and column.size and not (column.min() >= -1 and column.max() < len(self.class_names)):
                raise ValueError(f"HeadImages: labels must be -1 or an index of {self.class_names}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, which: Any) -> Self:
        """The crops that ``which`` (indices, slice or mask) picks."""
        rows = np.arange(len(self))[which].reshape(-1)
        pick: Callable[[tuple[str, ...]], tuple[str, ...]] = lambda names: tuple(names[row] for row in rows)  # noqa: E731
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            ids=pick(self.ids),
            groups=pick(self.groups),
            splits=pick(self.splits),
            experts=None if self.experts is None else self.experts[rows],
        )

    def split(self, name: str) -> Self:
        """The crops of split ``name``."""
        return self[np.array([split == name for split in self.splits], bool)]

    def agreed(self, at_least: int) -> Self:
        """The crops on whose label at least so many experts agree (2 of 3: partial, 3 of 3: total agreement).

        Raises
        ------
        InputError : the set has no experts.
        """
        if self.experts is None:
            raise InputError(f"{self.name or 'these crops'}: no labels of single experts, so no agreement can be asked")
        return self[votes(self.experts, len(self.class_names)).max(axis=1) >= at_least]


def votes(experts: IntArray, n_classes: int) -> IntArray:
    """How many experts gave each class: (n, e) labels -> (n, n_classes) counts; ``UNLABELLED`` counts for none."""
    return (experts[:, :, None] == np.arange(n_classes)).sum(axis=1)


def majority(experts: IntArray, n_classes: int) -> IntArray:
    """(n,) the class that more experts than for any other gave; ``UNLABELLED`` on a tie or without votes."""
    counts = votes(experts, n_classes)
    best = counts.max(axis=1, initial=0)
    alone = (counts == best[:, None]).sum(axis=1) == 1
    return np.where(alone & (best > 0), counts.argmax(axis=1) if n_classes else 0, UNLABELLED).astype(np.int64)


# Pictures


def read_picture(path: Path) -> NDArray[Any]:
    """A picture file as (h, w) gray or (h, w, 3) RGB, uint8 or uint16; three equal channels become gray.

    Raises
    ------
    InputError : it is missing, or no picture that can be read.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    # What OpenCV and libpng would write to standard error of a file that is cut short is said below.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    content = data.tobytes()
    end = b"IEND" if content.startswith(b"\x89PNG") else b"\xff\xd9" if content.startswith(b"\xff\xd8") else b""
    whole = content and end in content[len(content) // 2 :]
    image = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH) if whole else None
    if image is None:
        raise InputError(f"{path}: not a picture that can be read; take it out, or write it anew as PNG")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: pictures of {image.dtype} are not known; give 8 or 16 bits")
    if image.ndim == 3:
        if (image[..., :1] == image).all():
            return np.ascontiguousarray(image[..., 0])
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return image


def picture_files(folder: Path) -> list[Path]:
    """All picture files in ``folder`` and below, by name; hidden ones left out.

    Raises
    ------
    InputError : there is no such folder, or no picture in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with pictures of heads")
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in IMAGE_ENDINGS and path.is_file()]
    found = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    if not found:
        raise InputError(f"{folder}: no pictures in it; crops of heads are .bmp, .png, .tif or .jpg files")
    return found


def white_level(images: Iterable[NDArray[Any]]) -> int:
    """The white of the camera that made ``images``: 255, or the least of 10, 12, 14, 16 bits that holds them all."""
    images = list(images)
    if all(image.dtype == np.uint8 for image in images):
        return 255
    brightest = max((int(image.max(initial=0)) for image in images if image.dtype == np.uint16), default=0)
    return next(level for level in (1023, 4095, 16383, 65535) if brightest <= level)


def one_size(images: Sequence[NDArray[Any]], size_px: int | None = None) -> NDArray[np.uint8]:
    """Pictures as one array (n, h, w[, 3]) of uint8.

    Where they differ in size, or ``size_px`` is given, each is scaled to fit a square and filled up with the median of
    its border: shapes keep their proportions. Gray ones among colour ones become colour.
    """
    white = white_level(images)
    colour = any(image.ndim == 3 for image in images)
    side = size_px
    if side is None and len({image.shape[:2] for image in images}) > 1:
        side = int(np.median([max(image.shape[:2]) for image in images]))
    return np.stack([_fitted(_to_uint8(image, white), side, colour) for image in images])


def _to_uint8(image: NDArray[Any], white: int) -> NDArray[np.uint8]:
    return image if image.dtype == np.uint8 else np.round(image * (255.0 / white)).clip(0, 255).astype(np.uint8)


def _fitted(image: NDArray[np.uint8], side: int | None, colour: bool) -> NDArray[np.uint8]:
    if colour and image.ndim == 2:
        image = np.repeat(image[..., None], 3, axis=2)
    if side is None or image.shape[:2] == (side, side):
        return image
    scale = side / max(image.shape[:2])
    width, height = (max(1, round(length * scale)) for length in image.shape[1::-1])
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    border = np.concatenate([scaled[0], scaled[-1], scaled[:, 0], scaled[:, -1]])
    canvas = np.empty((side, side, *image.shape[2:]), np.uint8)
    canvas[:] = np.median(border, axis=0)
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = scaled
    return canvas


# Layouts


@dataclass(frozen=True, slots=True)
class Layout:
    """A published set: its classes in order, other words that its folders use, and how many experts it has."""

    classes: tuple[str, ...]
    words: dict[str, str]
    experts: int = 0


_SHAPES = ("normal", "tapered", "pyriform", "amorphous")
LAYOUTS: dict[str, Layout] = {
    "hushem": Layout(_SHAPES, {}),
    "scian": Layout((*_SHAPES, "small"), {}, experts=3),
    "smids": Layout(("normal", "abnormal", "non-sperm"), {"normalsperm": "normal", "abnormalsperm": "abnormal"}),
    "svia": Layout(("sperm", "impurity"), {"sperms": "sperm", "impurities": "impurity"}),
    "smd-mss": Layout((), {}, experts=3),
}


def read_heads(folder: Path, layout: str | None = None, label: str = "head", size_px: int | None = None) -> HeadImages:
    """A set of head crops in one of the layouts of docs/morphology.md.

    Parameters
    ----------
    folder : of MHSMA's arrays; or with a table (``labels.csv``) beside or above its pictures; or with one folder of
        pictures a class; or with pictures alone, which come out unlabelled.
    layout : a key of ``LAYOUTS`` or "mhsma"; found out from the names when None.
    label : which part MHSMA's labels are to be of.
    size_px : side of the crops wanted; None keeps theirs where they have one.

    Raises
    ------
    InputError : no such folder or layout, no pictures, a table that names missing pictures or unknown classes.
    """
    if layout is not None and layout not in (*LAYOUTS, "mhsma"):
        raise InputError(f"layout {layout!r} is not known; known ones are {', '.join((*LAYOUTS, 'mhsma'))}")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folder of a set of head crops")
    if layout == "mhsma" or (layout is None and any(folder.glob("x_*_*.npy"))):
        return read_mhsma(folder, label)
    tables = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in (".csv", ".txt") and _is_table(path)]
    if len(tables) > 1:
        tables = [path for path in tables if path.stem.lower() == "labels"] or tables
        if len(tables) > 1:
            raise InputError(f"{folder}: several tables of labels ({', '.join(p.name for p in tables)}); keep one")
    if tables:
        return _read_table(folder, tables[0], layout, size_px)
    if (folder / "labels.csv").is_file():
        raise InputError(f"{folder / 'labels.csv'}: no column image in its first line; see docs/morphology.md")
    return _read_folders(folder, layout, size_px)


def read_mhsma(folder: Path, label: str = "head", splits: Sequence[str] = MHSMA_SPLITS) -> HeadImages:
    """MHSMA as its authors publish it: ``x_64_train.npy`` (or ``x_128_…``), ``y_head_train.npy`` and so on.

    Classes are normal (0) and abnormal (1) of the part that ``label`` names (Javadi & Mirroshandel 2019).

    Raises
    ------
    InputError : an array is missing or does not fit, or there is no such part.
    """
    if label not in MHSMA_LABELS:
        raise InputError(f"MHSMA labels {', '.join(MHSMA_LABELS)}, not {label!r}")
    images, labels, names = [], [], []
    for split in splits:
        pictures = sorted(folder.glob(f"x_*_{split}.npy"))
        if not pictures:
            raise InputError(f"{folder}: x_64_{split}.npy is missing; this is not the whole of MHSMA")
        x, y = _read_array(pictures[0]), _read_array(folder / f"y_{label}_{split}.npy")
        if x.ndim != 3 or x.dtype != np.uint8 or y.shape != x.shape[:1] or not np.isin(y, (0, 1)).all():
            raise InputError(
                f"{folder}: {pictures[0].name} {x.shape} {x.dtype} and y_{label}_{split}.npy {y.shape} do not belong "
                "together; expected (n, h, w) uint8 crops and n labels of 0 and 1"
            )
        images.append(x)
        labels.append(y)
        names += [(split, f"{split}/{k:04d}") for k in range(len(x))]
    return HeadImages(
        np.concatenate(images),
        np.concatenate(labels),
        ("normal", "abnormal"),
        tuple(name for _, name in names),
        splits=tuple(split for split, _ in names),
        name="mhsma",
    )


def rendered_heads(
    count: int, preset: str = "hushem", seed: int = 0, label: str = "class", n_experts: int = 3
) -> tuple[HeadImages, RenderedHeads]:
    """Rendered crops as a set, with their whole truth beside it; what experts say is simulated too.

    Parameters
    ----------
    preset : a key of ``casa.simulate.heads.HEAD_PRESETS``.
    label : "class" for shapes with experts, or a part of ``MHSMA_LABELS`` for normal and abnormal of that part.

    Raises
    ------
    InputError : an unknown preset or label.
    """
    if label != "class" and label not in MHSMA_LABELS:
        raise InputError(f"rendered heads are labelled by class, {', '.join(MHSMA_LABELS)}, not {label!r}")
    truth = render_heads(count, preset, seed, n_experts)
    ids = tuple(f"rendered/{preset}-{seed}/{k:05d}" for k in range(count))
    by_class = label == "class"
    return HeadImages(
        truth.images,
        truth.labels if by_class else truth.parts[:, PART_NAMES.index(label)],
        truth.class_names if by_class else ("normal", "abnormal"),
        ids,
        experts=truth.experts if by_class else None,
        name=f"rendered-{preset}",
        um_per_px=truth.um_per_px,
    ), truth


def _read_array(path: Path) -> NDArray[Any]:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: missing; fetch the set anew") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a NumPy array that can be read ({error}); fetch the set anew") from error


def _class_word(text: str, layout: str | None) -> str:
    """A class's name from a folder's or a table's: "01_Normal", "Normal_Sperm" and "normal" are one."""
    word = re.sub(r"^\d+[\s_.-]*", "", text.strip()).lower().replace("_", "-").replace(" ", "-")
    if layout is None:
        return word
    return LAYOUTS[layout].words.get(word.replace("-", ""), word)


def _read_folders(folder: Path, layout: str | None, size_px: int | None) -> HeadImages:
    files = picture_files(folder)
    inside = [path.relative_to(folder).parts[:-1] for path in files]
    splits = [next((_SPLIT_NAMES[p.lower()] for p in parts if p.lower() in _SPLIT_NAMES), "") for parts in inside]
    classes = [next((p for p in reversed(parts) if p.lower() not in _SPLIT_NAMES), "") for parts in inside]
    if layout is None:
        layout = _guess_layout(set(classes))
    words = [_class_word(name, layout) for name in classes]
    names = (LAYOUTS[layout].classes if layout else ()) or tuple(sorted({word for word in words if word}))
    if layout and (strange := sorted(set(words) - set(names))):
        where = next(path for path, word in zip(files, words, strict=True) if word == strange[0])
        raise InputError(f"{where}: its folder is none of {layout}'s classes ({', '.join(names)})")
    return HeadImages(
        one_size([read_picture(path) for path in files], size_px),
        np.array([names.index(word) if word else UNLABELLED for word in words], np.int64),
        names,
        tuple(path.relative_to(folder).as_posix() for path in files),
        splits=tuple(splits),
        name=layout or folder.name,
    )


def _guess_layout(folders: set[str]) -> str | None:
    """The published set whose classes these folders are, when all of them are and each is there."""
    for name, layout in LAYOUTS.items():
        if layout.classes and {_class_word(f, name) for f in folders} == set(layout.classes):
            return name
    return None


# Tables of labels

_IMAGE_COLUMNS = ("image", "file", "filename", "image_name", "path")
_LABEL_COLUMNS = ("label", "class", "category")


def _rows(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        sample = stream.readline()
        stream.seek(0)
        reader = csv.DictReader(stream, delimiter=max(",;\t", key=sample.count), restval="")
        header = [(name or "").strip().lower().replace(" ", "_") for name in reader.fieldnames or ()]
        reader.fieldnames = header
        rows = [{key: (value or "").strip() for key, value in row.items() if isinstance(value, str)} for row in reader]
    return header, rows


def _is_table(path: Path) -> bool:
    try:
        header, _ = _rows(path)
    except (UnicodeDecodeError, csv.Error, OSError):
        return False
    return any(name in _IMAGE_COLUMNS for name in header)


def _read_table(folder: Path, table: Path, layout: str | None, size_px: int | None) -> HeadImages:
    header, rows = _rows(table)
    image_column = next(name for name in header if name in _IMAGE_COLUMNS)
    label_column = next((name for name in header if name in _LABEL_COLUMNS), None)
    expert_columns = [name for name in header if name.startswith("expert")]
    if label_column is None and not expert_columns:
        raise InputError(f"{table}: neither a column label nor expert columns; see docs/morphology.md for the layout")
    if not rows:
        raise InputError(f"{table}: no crops in it")
    ids = [row[image_column] for row in rows]
    if repeated := [name for name, count in Counter(ids).items() if count > 1]:
        raise InputError(f"{table}: {repeated[0]} is listed twice ({len(repeated)} such); keep one line a picture")
    files = _locate(folder, table, ids)
    columns = [name for name in (label_column, *expert_columns) if name]
    words = {name: [_class_word(row[name], layout) for row in rows] for name in columns}
    known = (LAYOUTS[layout].classes if layout else ()) or tuple(
        sorted({word for column in words.values() for word in column if word})
    )
    index = {word: k for k, word in enumerate(known)} | {"": UNLABELLED}
    for name, column in words.items():
        if strange := [(k, word) for k, word in enumerate(column) if word not in index]:
            line, word = strange[0]
            raise InputError(f"{table}: line {line + 2}, {name}: {word!r} is none of {', '.join(known)}")
    coded = {name: np.array([index[word] for word in column], np.int64) for name, column in words.items()}
    experts = np.stack([coded[name] for name in expert_columns], axis=1) if expert_columns else None
    labels = coded[label_column] if label_column else majority(experts, len(known))  # type: ignore[arg-type]
    return HeadImages(
        one_size([read_picture(path) for path in files], size_px),
        labels,
        known,
        tuple(ids),
        groups=tuple(row.get("group", "") for row in rows),
        splits=tuple(_SPLIT_NAMES.get(row.get("split", "").lower(), "") for row in rows),
        experts=experts,
        name=layout or folder.name,
    )


def _locate(folder: Path, table: Path, names: list[str]) -> list[Path]:
    """The file each line of ``table`` names: beside it, or anywhere below when the bare name is unique."""
    below: dict[str, list[Path]] = {}
    for path in picture_files(folder):
        for key in {path.name, path.stem, path.relative_to(folder).as_posix()}:
            below.setdefault(key, []).append(path)
    found = [below.get(name.replace("\\", "/"), []) for name in names]
    missing = [name for name, paths in zip(names, found, strict=True) if not paths]
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise InputError(
            f"{table}: {len(missing)} of {len(names)} pictures it names are missing ({shown}); "
            "fetch the set anew, or take these lines out"
        )
    if unclear := [name for name, paths in zip(names, found, strict=True) if len(paths) > 1]:
        raise InputError(f"{table}: {unclear[0]} is the name of several files; give paths from {folder}")
    return [paths[0] for paths in found]


def write_heads(folder: Path, heads: HeadImages) -> Path:
    """Write a set as pictures with ``labels.csv``: ``image,label[,expert_1,…],group,split``; returns the table.

    Raises
    ------
    CasaError : the disk refuses.
    """
    n_experts = 0 if heads.experts is None else heads.experts.shape[1]
    names = (*heads.class_names, "")  # -1 is the last
    table = folder / "labels.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with table.open("w", encoding="utf-8", newline="") as stream:
            out = csv.writer(stream)
            out.writerow(["image", "label", *(f"expert_{k + 1}" for k in range(n_experts)), "group", "split"])
            for k, picture in enumerate(heads.images):
                name = heads.ids[k] if Path(heads.ids[k]).suffix.lower() == ".png" else f"{heads.ids[k]}.png"
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                stored = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
                path.write_bytes(cv2.imencode(".png", stored)[1].tobytes())
                given = () if heads.experts is None else heads.experts[k]
                experts = [names[label] for label in given]
                out.writerow([name, names[heads.labels[k]], *experts, heads.groups[k], heads.splits[k]])
    except OSError as error:
        raise CasaError(f"{folder}: cannot be written ({error.strerror}); free space or choose another -o") from error
    return table
