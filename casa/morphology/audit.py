"""What is to be known of a set of head crops before anything is trained on it or judged by it: ``casa data audit``."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from casa.evaluate.agreement import fleiss_kappa, kappa_interval
from casa.morphology.datasets import UNLABELLED, HeadImages, majority, picture_files, read_heads, read_picture, votes
from casa.morphology.quality import outliers, picture_quality
from casa.types import IntArray

#: Pictures whose hashes differ in so few of 64 bits are compared; correlated so highly, they are the same one.
_HASH_BITS, _SAME_CORRELATION = 10, 0.975
_SIDE = 32
#: Rows of a list that is shown; all are counted.
_SHOWN = 20


def audit_folder(folder: Path, layout: str | None = None, label: str = "head") -> dict[str, Any]:
    """``audit`` of a set on disk, with the sizes of its pictures.

    Raises
    ------
    InputError : the set cannot be read (see ``read_heads``).
    """
    heads = read_heads(folder, layout, label)
    unlisted = 0
    if heads.name == "mhsma":
        sizes = Counter({_size_text(heads.images[0]): len(heads)})
    else:
        files, listed = picture_files(folder), {name.replace("\\", "/") for name in heads.ids}
        used = [p for p in files if listed & {p.name, p.stem, p.relative_to(folder).as_posix()}]
        sizes, unlisted = Counter(_size_text(read_picture(path)) for path in used), len(files) - len(used)
    result = {"folder": str(folder), **audit(heads), "sizes": dict(sizes.most_common()), "unlisted": unlisted}
    if unlisted:
        result["findings"].append(f"{unlisted} pictures in the folder that its table does not name: left out")
    return result


def _size_text(image: NDArray[Any]) -> str:
    kind = "RGB" if image.ndim == 3 else "gray"
    return f"{image.shape[1]}x{image.shape[0]} {kind} {8 * image.itemsize} bit"


def audit(heads: HeadImages) -> dict[str, Any]:
    """Counts, imbalance, duplicates, experts' agreement and poor pictures of a set, for JSON.

    ``duplicates`` are pairs of the same crop (exact), or of crops so alike that they show one sperm, or could (near;
    also turned by quarters or mirrored: look at them); ``across_splits`` and ``other_label`` count those that a test,
    or a label, suffers from.
    """
    groups = Counter(group for group in heads.groups if group)
    result = {
        "name": heads.name,
        "crops": len(heads),
        "classes": _counts(heads.labels, heads.class_names),
        "unlabelled": int((heads.labels == UNLABELLED).sum()),
        "imbalance": _imbalance(heads),
        "majority_share": _majority_share(heads),
        "splits": {
            split or "none": _counts(heads.split(split).labels, heads.class_names) for split in _in_order(heads.splits)
        },
        "groups": len(groups),
        "groups_across_splits": _groups_across(heads),
        "duplicates": _duplicates(heads),
        "experts": _experts(heads),
        "quality": _quality(heads),
    }
    return {**result, "findings": _findings(result)}


def _in_order(names: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys(names))


def _counts(labels: IntArray, names: tuple[str, ...]) -> dict[str, int]:
    return {name: int((labels == k).sum()) for k, name in enumerate(names)}


def _imbalance(heads: HeadImages) -> float | None:
    """Crops of the most frequent class for one of the rarest."""
    counts = list(_counts(heads.labels, heads.class_names).values())
    return max(counts) / min(counts) if counts and min(counts) else None


def _majority_share(heads: HeadImages) -> float | None:
    """The accuracy of calling everything by the most frequent class."""
    counts = list(_counts(heads.labels, heads.class_names).values())
    return max(counts) / sum(counts) if sum(counts) else None


def _groups_across(heads: HeadImages) -> int:
    where: dict[str, set[str]] = {}
    for group, split in zip(heads.groups, heads.splits, strict=True):
        if group and split:
            where.setdefault(group, set()).add(split)
    return sum(len(splits) > 1 for splits in where.values())


# Duplicates


def _duplicates(heads: HeadImages) -> dict[str, Any]:
    pairs = duplicate_pairs(heads.images)
    split, label = np.array(heads.splits), heads.labels
    across = [(a, b) for a, b, _ in pairs if split[a] != split[b]]
    other = [(a, b) for a, b, _ in pairs if label[a] != label[b]]
    first = [*across, *other, *((a, b) for a, b, _ in pairs)]
    return {
        "exact": sum(exact for _, _, exact in pairs),
        "near": sum(not exact for _, _, exact in pairs),
        "across_splits": len(across),
        "other_label": len(other),
        "pairs": [[heads.ids[a], heads.ids[b]] for a, b in dict.fromkeys(first)][:_SHOWN],
    }


def duplicate_pairs(images: NDArray[np.uint8]) -> list[tuple[int, int, bool]]:
    """Pairs (a, b, exact) with a < b of crops that show the same picture, b perhaps turned by quarters or mirrored.

    Candidates are found by a perceptual hash of 64 bits (signs of the lowest cosine frequencies) and judged by the
    correlation of the crops at 32 px.
    """
    small = np.array([_standard(image) for image in images], np.float32).reshape(-1, _SIDE, _SIDE)
    digests: dict[bytes, list[int]] = {}
    for k, image in enumerate(images):
        digests.setdefault(hashlib.blake2b(image.tobytes()).digest(), []).append(k)
    exact = {(a, b) for same in digests.values() for i, a in enumerate(same) for b in same[i + 1 :]}
    hashes = np.array([_hash(image) for image in small], np.uint64)
    found = set()
    for turned in _TURNS:
        turned_small = np.array([turned(image) for image in small], np.float32)
        turned_hashes = np.array([_hash(image) for image in turned_small], np.uint64)
        for start in range(0, len(small), 512):
            part = slice(start, start + 512)
            near = np.bitwise_count(hashes[part, None] ^ turned_hashes[None]) <= _HASH_BITS
            for row, b in np.argwhere(near):
                a = start + int(row)
                if a < b and float((small[a] * turned_small[b]).mean()) >= _SAME_CORRELATION:
                    found.add((a, int(b)))
    return [(a, b, (a, b) in exact) for a, b in sorted(found | exact)]


_TURNS = [
    lambda image, k=k, mirrored=mirrored: np.rot90(image[:, ::-1] if mirrored else image, k)
    for mirrored in (False, True)
    for k in range(4)
]


def _standard(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(32, 32) gray of mean 0 and variance 1; one value alone becomes 0."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    small = cv2.resize(np.asarray(gray, np.float32), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    small = small - small.mean()
    spread = float(small.std())
    return np.asarray(small / spread if spread > 1e-6 else small * 0, np.float32)


def _hash(small: NDArray[np.float32]) -> np.uint64:
    frequencies = cv2.dct(np.ascontiguousarray(small))[:8, :8].ravel()
    frequencies[0] = 0.0
    return np.packbits(frequencies > np.median(frequencies)).view(np.uint64)[0]


# Experts and pictures


def _experts(heads: HeadImages) -> dict[str, Any] | None:
    if heads.experts is None:
        return None
    n_experts = heads.experts.shape[1]
    counts = votes(heads.experts, len(heads.class_names))
    all_voted = counts.sum(axis=1) == n_experts
    agreed = counts.max(axis=1, initial=0)[all_voted]
    low, high = kappa_interval(counts, 500)
    most = majority(heads.experts, len(heads.class_names))
    known = most != UNLABELLED
    return {
        "experts": n_experts,
        "kappa": {"fleiss": fleiss_kappa(counts), "low": low, "high": high},
        "agreement": {
            "none": int((agreed <= 1).sum()),
            "partial": int(((agreed > 1) & (agreed < n_experts)).sum()),
            "total": int((agreed == n_experts).sum()),
            "not_all_voted": int((~all_voted).sum()),
        },
        "with_majority": [float((heads.experts[known, k] == most[known]).mean()) for k in range(n_experts)],
        "kappa_by_class": {
            name: fleiss_kappa(np.stack([counts[:, k], counts.sum(axis=1) - counts[:, k]], axis=1))
            for k, name in enumerate(heads.class_names)
        },
    }


def _quality(heads: HeadImages) -> dict[str, Any]:
    table = picture_quality(heads.images)
    poor = {
        "out_of_focus": outliers(table.edge_px, above=True, below=False),
        "low_contrast": outliers(table.contrast, above=False, below=True),
        "noisy": outliers(table.noise, above=True, below=False),
        "clipped": table.clipped > 0.05,
        "one_value": table.contrast == 0,
    }
    return {
        "median": {
            "edge_px": float(np.median(table.edge_px)),
            "contrast": float(np.median(table.contrast)),
            "noise": float(np.nanmedian(table.noise)) if np.isfinite(table.noise).any() else None,
        },
        **{name: {"crops": int(which.sum()), "ids": _names(heads, which)} for name, which in poor.items()},
    }


def _names(heads: HeadImages, which: NDArray[np.bool_]) -> list[str]:
    return [heads.ids[k] for k in np.flatnonzero(which)[:_SHOWN]]


def _findings(result: dict[str, Any]) -> list[str]:
    """What stands out, a sentence each."""
    found = []
    empty = [name for name, count in result["classes"].items() if not count]
    if empty:
        found.append(f"no crop of class {', '.join(empty)}")
    if (ratio := result["imbalance"]) is not None and ratio >= 3:
        share = result["majority_share"]
        found.append(f"{ratio:.1f} crops of the most frequent class for one of the rarest; it alone gives {share:.1%}")
    same = result["duplicates"]
    if same["across_splits"]:
        pairs = f"{same['across_splits']} pairs of (nearly) the same crop"
        found.append(f"{pairs} lie in different splits: scores may flatter")
    if same["other_label"]:
        found.append(f"{same['other_label']} pairs of (nearly) the same crop have different labels")
    if same["exact"] + same["near"]:
        found.append(f"{same['exact']} exact and {same['near']} near duplicates")
    if result["groups_across_splits"]:
        found.append(f"{result['groups_across_splits']} groups have crops in more than one split")
    if result["experts"] is not None and (kappa := result["experts"]["kappa"]["fleiss"]) < 0.4:
        found.append(f"experts agree poorly (Fleiss' kappa {kappa:.2f})")
    poor = {name: part["crops"] for name, part in result["quality"].items() if name != "median" and part["crops"]}
    if poor:
        found.append("poor pictures: " + ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in poor.items()))
    return found
