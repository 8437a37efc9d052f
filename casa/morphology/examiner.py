"""The examiner: clips in, what their heads look like out. Imports PyTorch, through the classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.cells import HEAD_MEASURES, NO_NUMBERS, Clip, HeadExam, MorphologyTable
from casa.morphology.from_clips import ClipCrops, CropOptions, crops_of_clip
from casa.morphology.model import MorphologyClassifier
from casa.morphology.morphometry import measure_heads
from casa.morphology.pseudo_masks import HeadMask, oriented_crop
from casa.types import FloatArray


@dataclass(frozen=True, slots=True)
class ExaminerInfo:
    """Which network classes heads: goes into every recording."""

    name: str
    file: str
    sha256: str
    licence: str
    class_names: tuple[str, ...]
    abstain_below: float
    trained_on: str = "unknown"
    card: str = ""


class HeadExaminer:
    """Examines the heads in clips. One thread may use it at a time.

    Parameters
    ----------
    weights : name in casa's manifest, or path of a .pt file. threads : of the CPU; 0: as PyTorch chooses.
    crops : the sharpest pictures of a clip that count.

    Raises
    ------
    InputError : no such weights, not those of the manifest, or no classifier of heads.
    """

    def __init__(self, weights: str = "morphology", *, threads: int = 0, crops: int = 4) -> None:
        self._classifier = MorphologyClassifier(weights, threads)
        self._options = CropOptions(crops=crops)
        self._found: dict[int, ClipCrops | str] = {}  # or why there are none
        self._likeliest: dict[int, str] = {}  # class of the first part, over all crops of the clip
        entry = self.entry = self._classifier.entry
        self.info = ExaminerInfo(
            name=entry.name,
            file=self._classifier.file,
            sha256=self._classifier.sha256,
            licence=entry.licence,
            class_names=self._classifier.class_names,
            abstain_below=self._classifier.info.abstain_below,
            trained_on=entry.trained_on,
            card=entry.card,
        )

    def examine(self, clips: Sequence[Clip], in_domain: bool = False) -> list[HeadExam]:
        """What is found of each clip's head, with its sharpest crop; a reason where there is none to be classed.

        A clip of which the network gives no numbers has the reason ``NO_NUMBERS``; the others do not suffer from it.

        Parameters
        ----------
        in_domain : whether the clips are such as the network has learnt from.

        Raises
        ------
        InputError : a clip without pictures.
        """
        found = [crops_of_clip(clip, self._options) for clip in clips]
        self._found = {clip.clip_id: crops for clip, crops in zip(clips, found, strict=True)}
        views = [
            self._classifier.view(cut, mask, crops.cut_um_per_px)
            for crops in found
            if isinstance(crops, ClipCrops)
            for cut, mask in zip(crops.cuts, crops.masks, strict=True)
        ]
        chances = self._classifier.classify_views(np.stack(views)) if views else np.empty((0, 0))
        self._likeliest = {}
        exams, start = [], 0
        for clip, crops in zip(clips, found, strict=True):
            n = len(crops.cuts) if isinstance(crops, ClipCrops) else 0
            of_clip = chances[start : start + n]
            start += n
            if not np.isfinite(of_clip).all():
                crops = self._found[clip.clip_id] = NO_NUMBERS
            elif n:
                classes = self._classifier.parts[0].classes
                self._likeliest[clip.clip_id] = classes[int(of_clip.mean(axis=0)[: len(classes)].argmax())]
            crop = crops.images[0] if isinstance(crops, ClipCrops) else None
            exams.append(HeadExam(self._row(clip, crops, of_clip, in_domain), crop))
        return exams

    def heat(self, clip_id: int) -> NDArray[np.uint8] | None:
        """(s, s): what spoke for the clip's likeliest class in the sharpest crop of it; None without one."""
        found = self.sharpest(clip_id)
        if found is None:
            return None
        cut, mask, heat = found
        size = self._options.size_px
        return np.asarray(oriented_crop(np.round(heat * 255).astype(np.uint8), mask, size, size / len(cut)), np.uint8)

    def sharpest(self, clip_id: int) -> tuple[NDArray[np.uint8], HeadMask, NDArray[np.float32]] | None:
        """The sharpest picture of a clip just examined, as it was cut out, its mask, and its heat map in [0, 1]."""
        crops = self._found.get(clip_id)
        if not isinstance(crops, ClipCrops):
            return None
        cut, mask = crops.cuts[0], crops.masks[0]
        heat = self._classifier.heat_map(
            cut, class_name=self._likeliest[clip_id], mask=mask, um_per_px=crops.cut_um_per_px
        )
        return None if heat is None else (cut, mask, heat)

    def _row(self, clip: Clip, crops: ClipCrops | str, chances: FloatArray, in_domain: bool) -> MorphologyTable:
        names = self.info.class_names
        figures: dict[str, Any] = {name: np.array([np.nan]) for name in HEAD_MEASURES}
        n, reason, edge, shares = 0, str(crops), np.nan, np.full((1, len(names)), np.nan)
        if isinstance(crops, ClipCrops):
            n, reason, edge, shares = len(crops.cuts), "", float(crops.edge_share[0]), chances.mean(axis=0)[None]
            measured = measure_heads(crops.masks, crops.cut_um_per_px)
            figures = {name: _median(getattr(measured, name)) for name in HEAD_MEASURES}
        return MorphologyTable(
            clip_id=np.array([clip.clip_id]),
            track_id=np.array([clip.track_id]),
            frame=clip.frames[-1:],
            t_ns=clip.t_ns[-1:],
            n_crops=np.array([n]),
            reason=np.array([reason]),
            in_domain=np.array([in_domain]),
            distribution=shares,
            edge_share=np.array([edge]),
            **figures,
            class_names=names,
        )


def _median(values: FloatArray) -> FloatArray:
    """(1,) the median of what is known; NaN where nothing is."""
    known = values[np.isfinite(values)]
    return np.array([np.median(known) if len(known) else np.nan])
