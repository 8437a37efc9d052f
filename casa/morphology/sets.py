"""Labelled sets as the trainings take them: read or rendered, turned to face right, one or several parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from casa.errors import InputError
from casa.morphology.crops import Crops, prepare
from casa.morphology.datasets import MHSMA_LABELS, HeadImages, read_heads, rendered_heads
from casa.morphology.networks import Part
from casa.morphology.recipe import RecipeConfig, gray
from casa.simulate.heads import HEAD_PRESETS

#: How the sperm of published sets, and of kinds of rendered heads, are stained and lit.
KNOWN_LOOKS = {
    "hushem": "Diff-Quik", "scian": "stained", "smids": "stained", "mhsma": "unstained", "phase": "phase contrast",
}  # fmt: skip
#: Scales (um/px) of published sets, where their crops do not say.
KNOWN_SCALES = {"hushem": 0.085, "scian": 0.19, "mhsma": 0.125, "smids": 0.085}


@dataclass(frozen=True, slots=True, eq=False)
class LabelledSet:
    """Crops, the parts their labels are of, and their splits ("" where they have none) and groups.

    ``scales_um_per_px``, ``looks``: least and greatest scale of the pictures (0 where not known), and how they are
    stained and lit.
    """

    name: str
    crops: Crops
    parts: tuple[Part, ...]
    splits: tuple[str, ...]
    groups: tuple[str, ...]
    scales_um_per_px: tuple[float, float] = (0.0, 0.0)
    looks: tuple[str, ...] = ()

    def of_split(self, name: str) -> Crops:
        """The crops of a split."""
        return self.crops[np.array([split == name for split in self.splits], bool)]


def load_set(
    folder: Path,
    config: RecipeConfig,
    parts: Sequence[str] = (),
    layout: str | None = None,
    agreement: int = 0,
    um_per_px: float | None = None,
    look: str | None = None,
) -> LabelledSet:
    """A set on disk in one of the layouts of docs/morphology.md.

    Parameters
    ----------
    parts : of MHSMA's labels, several at once; empty for its head, or for the one set of classes of others.
    agreement : only crops on which so many experts agree. um_per_px : scale of the crops; None: as published, else as
        if a crop were 8 um wide. look : how the sperm are stained and lit; None: as published, else not known.

    Raises
    ------
    InputError : what ``read_heads`` raises; several parts of a set that has one.
    """
    wanted = tuple(parts)
    heads = read_heads(folder, layout, wanted[0] if wanted else "head")
    if agreement:
        heads = heads.agreed(agreement)
    if wanted and heads.name != "mhsma":
        raise InputError(f"{folder}: --part is for MHSMA ({', '.join(MHSMA_LABELS)}); this set has one label a crop")
    labels, judged = None, (Part("class", heads.class_names),)
    if heads.name == "mhsma":
        wanted = wanted or ("head",)
        labels = np.stack([read_heads(folder, layout, part).labels for part in wanted], axis=1)
        judged = tuple(Part(part, heads.class_names) for part in wanted)
    return _prepared(heads, judged, labels, config, um_per_px, look)


def rendered_set(
    count: int, presets: Sequence[str], config: RecipeConfig, seed: int, parts: Sequence[str] = ()
) -> LabelledSet:
    """Rendered heads of several kinds, ``count`` in all; labelled by shape with three experts, or by ``parts``.

    Raises
    ------
    InputError : an unknown preset or part.
    """
    sets = []
    for k, preset in enumerate(presets):
        n = count // len(presets) + (k < count % len(presets))
        heads, truth = rendered_heads(n, preset, seed + 7919 * k)
        labels, judged = None, (Part("class", heads.class_names),)
        if parts:
            if strange := [part for part in parts if part not in MHSMA_LABELS]:
                raise InputError(f"rendered heads have {', '.join(MHSMA_LABELS)}, not {strange[0]!r}")
            labels = truth.parts[:, [MHSMA_LABELS.index(part) for part in parts]].astype(np.int64)
            judged = tuple(Part(part, ("normal", "abnormal")) for part in parts)
        sets.append(_prepared(heads, judged, labels, config, HEAD_PRESETS[preset].um_per_px))
    widest = max(sets, key=lambda one: len(one.parts[0].classes))
    joined = [one.crops if config.channels == 3 else gray(one.crops) for one in sets]
    crops = Crops(*(np.concatenate([getattr(c, field) for c in joined]) for field in Crops.__dataclass_fields__))
    n = len(crops)
    scales = [one.scales_um_per_px[0] for one in sets]
    looks = tuple(KNOWN_LOOKS[preset] for preset in presets)
    return LabelledSet("rendered", crops, widest.parts, ("",) * n, ("",) * n, (min(scales), max(scales)), looks)


def _prepared(
    heads: HeadImages,
    parts: tuple[Part, ...],
    labels: np.ndarray | None,
    config: RecipeConfig,
    um_per_px: float | None,
    look: str | None = None,
) -> LabelledSet:
    scale = um_per_px or heads.um_per_px or KNOWN_SCALES.get(heads.name) or 0.0
    crops = prepare(heads, config.size_px, labels, (scale or 8.0 / max(heads.images.shape[1:3])) / config.um_per_px)
    if config.channels == 1:
        crops = gray(crops)
    look = look or KNOWN_LOOKS.get(heads.name)
    looks = (look,) if look else ()
    return LabelledSet(heads.name, crops, parts, heads.splits, heads.groups, (scale, scale), looks)
