"""Head crops looked through: pseudo-masks, measures, quality and, with a classifier, classes; as a table and sheets."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from casa.errors import CasaError, InputError
from casa.morphology.datasets import picture_files, read_heads, read_picture, white_level
from casa.morphology.morphometry import MorphometryTable, measure_heads
from casa.morphology.pseudo_masks import HeadMask, HeadProblem, HpmOptions, find_head
from casa.morphology.quality import QualityTable, picture_quality
from casa.morphology.sheet import Cell
from casa.types import FloatArray, IntArray

#: In place of a ``HeadProblem`` for files that are no pictures.
NOT_READABLE = "not readable"


class Classifier(Protocol):
    """What is asked of a ``MorphologyClassifier``."""

    class_names: tuple[str, ...]

    def classify(self, crops: Any, masks: Any = None, um_per_px: float | None = None) -> FloatArray:
        """(n, k) probabilities, rows of NaN without a head."""
        ...

    def decide(self, probabilities: FloatArray) -> dict[str, IntArray]:
        """For each part, (n,) the class, -1 for an abstention."""
        ...

    def heat_map(
        self, crop: Any, *, class_name: str | None = None, mask: Any = None, um_per_px: float | None = None
    ) -> NDArray[np.float32] | None:
        """(h, w) in [0, 1]."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Examined:
    """Crops and what was found: all columns have n rows.

    Parameters
    ----------
    names, images : of the crops; an image is None where its file could not be read.
    found : ``HeadMask``, ``HeadProblem`` or ``NOT_READABLE``.
    probabilities : (n, k) of ``class_names``, or None; decided : for each part, names of the classes, "" for none.
    outside : why the pictures are not such as the classifier knows (``casa.morphology.domain``); () where they are.
    """

    names: tuple[str, ...]
    images: tuple[NDArray[Any] | None, ...]
    found: tuple[HeadMask | HeadProblem | str, ...]
    measures: MorphometryTable
    quality: QualityTable
    class_names: tuple[str, ...] = ()
    probabilities: FloatArray | None = None
    decided: dict[str, tuple[str, ...]] | None = None
    outside: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def reasons(self) -> Counter[str]:
        """How many crops have no head, by reason."""
        return Counter(str(found) for found in self.found if not isinstance(found, HeadMask))


def read_crops(source: Path) -> tuple[tuple[str, ...], tuple[NDArray[Any] | None, ...]]:
    """Names and pictures of a folder (or of MHSMA's arrays, or of one file), as they are; None for no picture.

    Raises
    ------
    InputError : nothing is there, or not a single picture can be read.
    """
    if source.is_dir() and any(source.glob("x_*_*.npy")):
        heads = read_heads(source)
        return heads.ids, tuple(heads.images)
    if source.is_file():
        return (source.name,), (read_picture(source),)
    files = picture_files(source)
    images: list[NDArray[Any] | None] = []
    for path in files:
        try:
            images.append(read_picture(path))
        except InputError:
            images.append(None)
    if all(image is None for image in images):
        raise InputError(f"{source}: none of its {len(files)} pictures can be read")
    return tuple(path.relative_to(source).as_posix() for path in files), tuple(images)


def examine(
    names: Sequence[str],
    images: Sequence[NDArray[Any] | None],
    um_per_px: float | None = None,
    classifier: Classifier | None = None,
    options: HpmOptions | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Examined:
    """Masks, measures and quality of each crop, and its class where a head was found and there is a ``classifier``.

    Raises
    ------
    InputError : a scale that makes no sense.
    """
    found: list[HeadMask | HeadProblem | str] = []
    for image in images:
        found.append(NOT_READABLE if image is None else find_head(image, options))
        advance()
    blank = np.zeros((2, 2), np.uint8)
    quality = picture_quality([blank if image is None or not image.size else image for image in images])
    measures = measure_heads(found, um_per_px)
    if classifier is None:
        return Examined(tuple(names), tuple(images), tuple(found), measures, quality)
    eight = _eight_bit(images)
    masks = [mask if isinstance(mask, HeadMask) else None for mask in found]
    probabilities = classifier.classify(eight, masks, um_per_px)
    decided = {}
    for part, rows in classifier.decide(probabilities).items():
        classes = [name.split(":")[-1] for name in classifier.class_names[_offset(classifier, part) :]]
        decided[part] = tuple(classes[k] if k >= 0 else "" for k in rows)
    return Examined(
        tuple(names), tuple(images), tuple(found), measures, quality, classifier.class_names, probabilities, decided
    )


def _offset(classifier: Classifier, part: str) -> int:
    """The first column of a part; with one part alone its classes are not prefixed."""
    prefixed = [k for k, name in enumerate(classifier.class_names) if name.startswith(f"{part}:")]
    return prefixed[0] if prefixed else 0


def _eight_bit(images: Sequence[NDArray[Any] | None]) -> list[NDArray[np.uint8]]:
    white = white_level([image for image in images if image is not None])
    blank = np.zeros((2, 2), np.uint8)
    out = []
    for image in images:
        if image is None:
            out.append(blank)
        elif image.dtype == np.uint8:
            out.append(image)
        else:
            out.append(np.round(image * (255.0 / white)).clip(0, 255).astype(np.uint8))
    return out


def write_table(path: Path, examined: Examined) -> None:
    """CSV, one line a crop: image, found, reason, direction, measures, strict limits, quality, classes.

    Raises
    ------
    CasaError : the disk refuses.
    """
    measures = [f.name for f in fields(MorphometryTable)]
    quality = [f.name for f in fields(QualityTable)]
    parts = list(examined.decided or ())
    header = ["image", "found", "reason", "direction_deg", *measures, "ellipticity_normal", "acrosome_normal", *quality]
    header += ["in_domain"] if parts else []
    header += [f"{part}_class" for part in parts] + [f"p_{name.replace(':', '_')}" for name in examined.class_names]
    columns = [getattr(examined.measures, name) for name in measures]
    checks = (
        (examined.measures.ellipticity, examined.measures.ellipticity_normal),
        (examined.measures.acrosome_share, examined.measures.acrosome_normal),
    )
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            out = csv.writer(stream)
            out.writerow(header)
            for k, found in enumerate(examined.found):
                head = isinstance(found, HeadMask)
                row: list[Any] = [examined.names[k], int(head), "" if head else str(found)]
                row += [_number(found.direction_deg if isinstance(found, HeadMask) else np.nan)]
                row += [_number(column[k]) for column in columns]
                row += ["" if np.isnan(value[k]) else int(normal[k]) for value, normal in checks]
                row += [_number(getattr(examined.quality, name)[k]) for name in quality]
                row += [int(not examined.outside)] if parts else []
                row += [examined.decided[part][k] for part in parts] if examined.decided else []
                row += [_number(p) for p in examined.probabilities[k]] if examined.probabilities is not None else []
                out.writerow(row)
    except OSError as error:
        raise CasaError(f"{path}: cannot be written ({error.strerror}); free space or choose another -o") from error


def _number(value: float) -> str:
    return f"{value:.5g}" if np.isfinite(value) else ""


def cells(
    examined: Examined, which: Sequence[int], classifier: Classifier | None = None, um_per_px: float | None = None
) -> list[Cell]:
    """The sheet's cells of crops ``which``; with a classifier, heat maps of the first part's class."""
    out = []
    eight = _eight_bit([examined.images[k] for k in which]) if classifier is not None else []
    for n, k in enumerate(which):
        image, found = examined.images[k], examined.found[k]
        if not isinstance(found, HeadMask):
            blank = np.full((32, 32), 200, np.uint8)
            shown = blank if image is None or image.size == 0 else image
            problem = found if isinstance(found, HeadProblem) else None
            out.append(Cell(shown, problem, examined.names[k], f"no class: {found}", warn=True))
            continue
        heat = None
        if classifier is not None:
            said = next(iter((examined.decided or {}).values()), None)
            of_class = (said[k] or None) if said else None
            heat = classifier.heat_map(eight[n], class_name=of_class, mask=found, um_per_px=um_per_px)
        out.append(Cell(image, found, examined.names[k], _said(examined, k), heat))  # type: ignore[arg-type]
    return out


def _said(examined: Examined, k: int) -> str:
    m = examined.measures
    if np.isfinite(m.length_um[k]):
        said = [f"{m.length_um[k]:.1f} x {m.width_um[k]:.1f} um"]
    else:
        said = [f"{m.length_px[k]:.0f} x {m.width_px[k]:.0f} px"]
    said.append(f"L/W {m.ellipticity[k]:.2f}" + ("" if m.ellipticity_normal[k] else " (not 1.5-2)"))
    if np.isfinite(m.acrosome_share[k]):
        said.append(f"acrosome {m.acrosome_share[k]:.0%}")
    if examined.decided is not None and examined.probabilities is not None:
        several = len(examined.decided) > 1
        for part, names in examined.decided.items():
            name = names[k] or "unsure"
            column = examined.class_names.index(f"{part}:{names[k]}" if several else names[k]) if names[k] else None
            p = f" {examined.probabilities[k, column]:.0%}" if column is not None else ""
            said.append(f"{part} {name}{p}" if several else f"{name}{p}")
    return "   ".join(said)
