"""A training of head classifiers from end to end: what a YAML file of ``configs/morphology`` says, done."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from casa.config import Positive, Section, load_section
from casa.errors import InputError
from casa.morphology.crops import Crops
from casa.morphology.distill import AidConfig, distill, draw_heads
from casa.morphology.networks import Classifier, Part, Segmenter, build_encoder, load_pretrained
from casa.morphology.soft_tuning import OPEN_DILATIONS, TuneConfig, predict, tune
from casa.morphology.train import Run, fingerprint
from casa.weights import file_sha256


class SvmConfig(Section):
    """Principal components and support vector machines on what the network's last layer sees."""

    components: Annotated[int, Field(ge=1)] = 64
    cost: Positive = 10.0


class RecipeConfig(Section):
    """How a head classifier is made.

    Parameters
    ----------
    encoder : of ``networks.ENCODERS``. width, channels : of the small one. size_px, um_per_px : of the crops it sees.
    aid : pretraining; null starts from ``pretrained`` weights or from nothing. tune : the classifier's training.
    rendered : a phase before it on rendered heads, whose labels are known; null: none.
    frozen : a phase before it in which the encoder stays as it is (CBAM's two phases); null: none.
    svm : what decides in place of the network's own last layer; null: that one. groups : classes in groups, told apart
    by one network, and within each group by another (two stages); null: one network for all. Both are judged by folds.
    members : networks of different seeds whose mean counts. abstain_below : of the finished classifier.
    """

    encoder: str = "small"
    width: Annotated[int, Field(ge=8, multiple_of=8)] = 16
    channels: Annotated[int, Field(ge=1, le=3)] = 1
    size_px: Annotated[int, Field(ge=32)] = 48
    um_per_px: Positive = 0.125
    aid: AidConfig | None = None
    rendered: TuneConfig | None = None
    frozen: TuneConfig | None = None
    tune: TuneConfig = TuneConfig()
    svm: SvmConfig | None = None
    groups: tuple[tuple[str, ...], ...] | None = None
    members: Annotated[int, Field(ge=1)] = 1
    abstain_below: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Member(NamedTuple):
    """A trained classifier, and the teacher that draws heads for it (None: nothing is masked)."""

    classifier: Classifier
    segmenter: Segmenter | None


def load_recipe(path: Path, overrides: dict[str, Any] | None = None) -> RecipeConfig:
    """A recipe from YAML, overrides by dotted key; see ``casa.config.load_section``."""
    return load_section(path, RecipeConfig, overrides)


def train_member(
    config: RecipeConfig,
    parts: tuple[Part, ...],
    labelled: Crops,
    unlabelled: Crops,
    run: Run,
    pretrained: Path | None = None,
    rendered: Crops | None = None,
) -> Member:
    """One network: pretrained by AID on ``unlabelled`` (if the recipe says so), tuned on ``labelled``.

    Parameters
    ----------
    pretrained : torchvision's (ImageNet) weights of the encoder. rendered : crops with the labels of the same parts.

    Raises
    ------
    InputError : weights of another network, a mask wanted without AID to draw it, or rendered heads that are lacking.
    """
    if config.rendered is not None and rendered is None:
        raise InputError("rendered: the recipe wants rendered heads, and none are given")
    masks_wanted = any(t is not None and masks_at_all(t) for t in (config.tune, config.frozen))
    if masks_wanted and (config.aid is None or not config.aid.fine):
        raise InputError("tune.dilations: masking needs heads drawn by AID; give aid with fine, or dilations: null")
    encoder = build_encoder(config.encoder, config.width, config.channels)
    if pretrained is not None:
        load_pretrained(encoder, pretrained)
    crops = [c for c in (labelled, unlabelled, rendered) if c is not None]
    columns = [column for c in crops for column in (c.images, c.rings, c.labels, c.second)]
    said = config.model_dump_json(exclude={"members", "abstain_below"})
    run.of = fingerprint(said, repr(parts), file_sha256(pretrained) if pretrained else "", *columns)
    teacher = None
    if config.aid is not None:
        teacher = distill(Segmenter(encoder), unlabelled, config.aid, run)
        encoder = copy.deepcopy(teacher.encoder).requires_grad_(True)
    classifier = Classifier(encoder, parts, config.tune.dropout)
    if config.rendered is not None and rendered is not None:
        tune(classifier, rendered, None, config.rendered, run, "rendered")
    segmenter = teacher if masks_wanted else None
    heads = draw_heads(segmenter, labelled.images) if segmenter else None
    if config.frozen is not None:
        from casa.morphology.cbam import tune_in_two_phases

        tune_in_two_phases(classifier, labelled, heads, config.frozen, config.tune, run)
    else:
        tune(classifier, labelled, heads, config.tune, run)
    return Member(classifier, segmenter)


def masks_at_all(config: TuneConfig) -> bool:
    """Whether a tuning masks any background."""
    return config.dilations is not None and min(config.dilations) < OPEN_DILATIONS


def predict_member(member: Member, images: NDArray[np.uint8], config: TuneConfig) -> NDArray[np.float32]:
    """(n, classes of all parts) log-probabilities of one network, over its test-time views."""
    heads = draw_heads(member.segmenter, images) if member.segmenter else None
    return predict(member.classifier, images, heads, config)


def gray(crops: Crops) -> Crops:
    """The crops with their colours averaged."""
    if crops.images.ndim == 3:
        return crops
    images = np.round(crops.images.mean(axis=3)).astype(np.uint8)
    return Crops(images, crops.rings, crops.labels, crops.second, crops.found)
