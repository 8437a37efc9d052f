"""Trained head classifiers as they are used: from a weights file to class probabilities and heat maps of raw crops.

A file of weights holds one or several classifiers (their mean counts), the teacher that draws heads where backgrounds
are masked, and all that must be known to feed them. It is read with ``weights_only``: tensors, numbers and text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from casa.config import Fraction, Positive, Section
from casa.errors import CasaError, InputError
from casa.morphology.crops import face_right, to_tensor, view_matrix
from casa.morphology.gradcam import Method, heat_maps
from casa.morphology.networks import Classifier, Part, Segmenter, build_encoder
from casa.morphology.probabilities import ABSTAINED, decide, softmax
from casa.morphology.pseudo_masks import HeadMask, pseudo_mask
from casa.morphology.soft_tuning import OPEN_DILATIONS, TuneConfig, depth_outside, masked, views_of
from casa.types import BoolArray, FloatArray, IntArray
from casa.weights import ModelEntry, resolve_weights

#: First thing in a weights file: what it is, and the version of its layout.
FILE_KIND = "casa-morphology-1"
#: Heat maps are of the encoder's second coarsest map: the coarsest has 4 x 4 places for a whole crop.
_HEAT_LEVEL = -2
#: The class that every other is measured against.
NORMAL = "normal"


class ModelInfo(Section):
    """What must be known to use the networks of a weights file.

    Parameters
    ----------
    size_px, um_per_px : side and scale of the crops the networks see.
    parts : name and classes of each thing that is judged. temperatures : of each part's probabilities.
    abstain_below : a part is given no class when none is likelier. views, dilations : as in ``TuneConfig``.
    crop_um : side of a crop whose scale is not known.
    """

    encoder: str
    width: Annotated[int, Field(ge=1)] = 16
    channels: Annotated[int, Field(ge=1, le=3)] = 1
    size_px: Annotated[int, Field(ge=16)] = 48
    um_per_px: Positive = 0.125
    crop_um: Positive = 8.0
    parts: tuple[tuple[str, tuple[str, ...]], ...]
    temperatures: tuple[Positive, ...]
    abstain_below: Fraction = 0.0
    views: tuple[tuple[float, bool], ...] = ((0.0, False),)
    dilations: int | None = None


class MorphologyClassifier:
    """Classes of head crops.

    Parameters
    ----------
    weights : a name in casa's manifest, or a path. threads : of the CPU; 0 leaves PyTorch's choice.

    Attributes
    ----------
    parts : what is judged. class_names : of all parts side by side, as the columns of ``classify``.
    entry : of the manifest: licence, card, what it was trained on. file, sha256 : of the weights.

    Raises
    ------
    InputError : no such weights, not those of the manifest, or no classifier of heads.
    """

    def __init__(self, weights: str = "morphology", threads: int = 0) -> None:
        found = resolve_weights(weights, ("state",), "morphology")
        if threads:
            torch.set_num_threads(threads)
        self.entry: ModelEntry = found.entry
        self.file, self.sha256 = found.path.name, found.sha256
        self.info, self._networks, self._segmenter = read_model(found.path)
        self.parts = tuple(Part(*part) for part in self.info.parts)
        several = len(self.parts) > 1
        self.class_names = tuple(f"{p.name}:{c}" if several else c for p in self.parts for c in p.classes)
        self._tune = TuneConfig(views=self.info.views)

    def classify(
        self,
        crops: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
        masks: Sequence[HeadMask | None] | None = None,
        um_per_px: float | None = None,
    ) -> FloatArray:
        """(n, k) calibrated probabilities; those of each part add up to 1. Rows of NaN where no head was found.

        Parameters
        ----------
        crops : n of (h, w) gray or (h, w, 3) RGB uint8, as they were cut out. masks : what HPM found in them, if it was
            asked already. um_per_px : their scale; None takes them to be ``info.crop_um`` wide.

        Raises
        ------
        InputError : something that is no crop.
        """
        masks = [pseudo_mask(_checked(crop)) for crop in crops] if masks is None else masks
        if len(masks) != len(crops):
            raise InputError(f"{len(crops)} crops with {len(masks)} masks; give one (or None) a crop")
        out = np.full((len(crops), len(self.class_names)), np.nan)
        rows = [k for k, mask in enumerate(masks) if mask is not None]
        if rows:
            views = [self.view(_checked(crops[k]), masks[k], um_per_px) for k in rows]
            out[rows] = self.classify_views(np.stack(views))
        return out

    def classify_views(self, views: NDArray[np.uint8]) -> FloatArray:
        """``classify`` of crops that face right already: (n, size, size) gray uint8 of the networks' size and scale."""
        with torch.no_grad():
            x = self._masked(to_tensor(views, self.info.channels))
            total = np.zeros((len(x), len(self.class_names)))
            for network in self._networks:
                for view in views_of(x, self._tune):
                    total += torch.cat([logits.softmax(1) for logits in network.split(network(view))], 1).numpy()
        mean = total / (len(self._networks) * len(self._tune.views))
        return calibrated(np.log(np.maximum(mean, 1e-8)), self.parts, self.info.temperatures)

    def normal(self, probabilities: FloatArray) -> dict[str, FloatArray]:
        """For each part, (n,) the probability that it is normal."""
        columns = self.columns
        return {p.name: probabilities[:, columns[p.name]][:, p.classes.index(NORMAL)] for p in self.parts}

    @property
    def columns(self) -> dict[str, slice]:
        """Which columns of ``classify`` are a part's."""
        ends = np.cumsum([len(part.classes) for part in self.parts])
        return {p.name: slice(int(end) - len(p.classes), int(end)) for p, end in zip(self.parts, ends, strict=True)}

    def decide(self, probabilities: FloatArray, **how: Any) -> dict[str, IntArray]:
        """For each part, (n,) the class decided on; -1 where none is likely enough. ``how``: as ``decide`` takes it."""
        how = {"abstain_below": self.info.abstain_below} | how
        seen = has_head(probabilities)
        known = np.where(seen[:, None], probabilities, 0.0)
        return {name: np.where(seen, decide(known[:, c], **how), ABSTAINED) for name, c in self.columns.items()}

    def heat_map(
        self,
        crop: NDArray[np.uint8],
        part: str | None = None,
        class_name: str | None = None,
        mask: HeadMask | None = None,
        um_per_px: float | None = None,
        method: Method = "gradcam++",
    ) -> NDArray[np.float32] | None:
        """(h, w) in [0, 1], what in the crop spoke for a class; None where no head was found.

        Parameters
        ----------
        part, class_name : None: the first part, and its likeliest class as ``classify`` has it.

        Raises
        ------
        InputError : no such part or class.
        """
        _checked(crop)
        mask = mask or pseudo_mask(crop)
        if mask is None:
            return None
        view = self.view(crop, mask, um_per_px)[None]
        output = torch.tensor([self._output(view, part, class_name)])
        x = self._masked(to_tensor(view, self.info.channels))
        maps = [heat_maps(n, n.encoder, x, output, method, _HEAT_LEVEL)[0] for n in self._networks]
        heat = torch.stack(maps).mean(0).numpy()
        seen = (x[0] != 0).any(0).numpy().astype(np.float32)  # what was hidden had no say
        heat = np.asarray(cv2.GaussianBlur(heat * seen, (0, 0), 0.7), np.float32)
        heat /= max(float(heat.max()), 1e-6)
        matrix = view_matrix(crop.shape, mask, self.info.size_px, self._scale(crop, um_per_px))
        size = (crop.shape[1], crop.shape[0])
        back = cv2.warpAffine(heat, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        back[[0, -1]], back[:, [0, -1]] = 0, 0  # where it is turned, what lies beyond is filled up with the border
        return np.clip(back, 0, 1).astype(np.float32)

    def _output(self, view: NDArray[np.uint8], part: str | None, class_name: str | None) -> int:
        columns = self.columns
        name = part or self.parts[0].name
        if name not in columns:
            raise InputError(f"no part called {name!r}; these weights judge {', '.join(columns)}")
        classes = next(p.classes for p in self.parts if p.name == name)
        if class_name is not None:
            if class_name not in classes:
                raise InputError(f"no class called {class_name!r}; {name} is one of {', '.join(classes)}")
            return columns[name].start + classes.index(class_name)
        return columns[name].start + int(self.classify_views(view)[0, columns[name]].argmax())

    def _scale(self, crop: NDArray[Any], um_per_px: float | None) -> float:
        return (um_per_px or self.info.crop_um / max(crop.shape[:2])) / self.info.um_per_px

    def view(self, crop: NDArray[np.uint8], mask: HeadMask | None, um_per_px: float | None) -> NDArray[np.uint8]:
        """A crop as ``classify_views`` takes it: facing right, of the networks' size, scale and channels."""
        view = face_right(crop, mask, self.info.size_px, self._scale(crop, um_per_px))[0]
        if view.ndim == 3 and self.info.channels == 1:
            return np.round(view.mean(axis=2)).astype(np.uint8)
        return np.repeat(view[..., None], 3, 2) if view.ndim == 2 and self.info.channels == 3 else view

    def _masked(self, x: torch.Tensor) -> torch.Tensor:
        if self.info.dilations is None or self._segmenter is None:
            return x
        if self.info.dilations >= OPEN_DILATIONS:
            return x
        with torch.no_grad():
            drawn = torch.sigmoid(self._segmenter(x))[:, 0].numpy()
        return masked(x, torch.from_numpy(depth_outside(drawn))[:, None], self.info.dilations)


def calibrated(logits: NDArray[np.floating], parts: Sequence[Part], temperatures: Sequence[float]) -> FloatArray:
    """(n, k) probabilities of each part's logits at its temperature."""
    ends = np.cumsum([len(part.classes) for part in parts])[:-1]
    split = np.split(logits, ends, axis=1)
    return np.concatenate([softmax(part, t) for part, t in zip(split, temperatures, strict=True)], axis=1)


def _checked(crop: NDArray[Any]) -> NDArray[np.uint8]:
    crop = np.asarray(crop)
    if crop.dtype != np.uint8 or crop.ndim not in (2, 3) or (crop.ndim == 3 and crop.shape[2] != 3):
        raise InputError(f"a crop of shape {crop.shape} and {crop.dtype}: expected (h, w) or (h, w, 3) of uint8")
    return crop


def write_model(
    path: Path, info: ModelInfo, networks: Sequence[Classifier], segmenter: Segmenter | None, half: bool = True
) -> None:
    """Write a weights file; ``half`` keeps the weights in 16 bits, which changes no class.

    Raises
    ------
    CasaError : the disk refuses.
    """

    def kept(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {k: v.half() if half and v.is_floating_point() else v for k, v in state.items()}

    content = {
        "kind": FILE_KIND,
        "info": info.model_dump_json(),
        "classifiers": [kept(network.state_dict()) for network in networks],
        "segmenter": None if segmenter is None else kept(segmenter.state_dict()),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, path)
    except (OSError, RuntimeError) as error:
        raise CasaError(f"{path}: cannot be written ({error}); free space or choose another -o") from error


def read_model(path: Path) -> tuple[ModelInfo, list[Classifier], Segmenter | None]:
    """The networks of a weights file, ready to be used.

    Raises
    ------
    InputError : it is missing, or no weights file of casa's head classifiers.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        if content["kind"] != FILE_KIND:
            raise ValueError(f"it says {content['kind']}")
        info = ModelInfo.model_validate_json(content["info"])
        parts = [Part(*part) for part in info.parts]
        networks = []
        for state in content["classifiers"]:
            network = Classifier(build_encoder(info.encoder, info.width, info.channels), parts)
            network.load_state_dict(state)
            networks.append(_ready(network))
        segmenter = None
        if content["segmenter"] is not None:
            segmenter = Segmenter(build_encoder(info.encoder, info.width, info.channels))
            segmenter.load_state_dict(content["segmenter"])
            segmenter = _ready(segmenter)
    except InputError:
        raise
    except (Exception, ValidationError) as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path}: not weights of casa's head classifier ({reason})") from error
    if not networks:
        raise InputError(f"{path}: holds no classifier")
    return info, networks, segmenter


def _ready(module: Any) -> Any:
    return module.float().eval().requires_grad_(False).to(memory_format=torch.channels_last)


def has_head(probabilities: FloatArray) -> BoolArray:
    """(n,) bool: the rows of ``classify`` in which a head was found."""
    return np.asarray(np.isfinite(probabilities).all(axis=1), bool)
