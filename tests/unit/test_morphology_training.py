"""AID's losses, soft-tuning, schedules and resumption, on tensors small enough to check by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from casa.errors import CasaError, InputError
from casa.morphology.crops import NOT_KNOWN, Crops, minority, to_tensor
from casa.morphology.distill import (
    AidConfig,
    consistency,
    distill,
    draw_heads,
    follow,
    partial_cross_entropy,
    view_rings,
)
from casa.morphology.networks import Classifier, Part, Segmenter, SmallEncoder
from casa.morphology.publish import split_off
from casa.morphology.recipe import RecipeConfig, load_recipe, train_member
from casa.morphology.sets import LabelledSet
from casa.morphology.soft_tuning import (
    OPEN_DILATIONS,
    TuneConfig,
    depth_outside,
    dilations_at,
    masked,
    predict,
    soft_cross_entropy,
    tune,
)
from casa.morphology.train import Run, Schedule, batches, class_weights, fit, sample_weights
from casa.morphology.warps import WarpRange, inverse, random_warps, repaint, warp

ROOT = Path(__file__).resolve().parents[2]
PARTS = (Part("shape", ("round", "long")),)
STILL = WarpRange(degrees=0, shift=0, scale=(1, 1), aspect=(1, 1), flip=False, brightness=0, contrast=0)


def ellipses(n: int = 48, size: int = 32, seed: int = 0) -> Crops:
    """Dark ellipses: long ones (1) and round ones (0), with exact rings."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    images, rings = [], []
    for label in labels:
        a, b = (0.34, 0.16) if label else (0.22, 0.22)
        distance = (x / (a * size)) ** 2 + (y / (b * size)) ** 2
        rings.append(np.where(distance <= 1, 1, np.where(distance <= 1.3, 2, 0)))
        images.append(140 - 60 * (distance <= 1) + rng.normal(0, 4, x.shape))
    return Crops(
        np.array(images).clip(0, 255).astype(np.uint8),
        np.array(rings, np.uint8),
        labels[:, None].astype(np.int64),
        np.full((n, 1), -1, np.int64),
        np.ones(n, bool),
    )


# Eq. 1 to 4


def test_partial_cross_entropy_ignores_every_unsure_pixel() -> None:
    rings = torch.tensor([[[[0, 1, 2, 3, NOT_KNOWN]]]], dtype=torch.uint8)
    logits = torch.tensor([[[[-1.0, 2.0, 50.0, -50.0, 7.0]]]], requires_grad=True)
    loss = partial_cross_entropy(logits, rings)
    by_hand = -(math.log(1 - 1 / (1 + math.exp(1))) + math.log(1 / (1 + math.exp(-2)))) / 5
    assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-5)
    loss.backward()
    assert logits.grad is not None
    assert (logits.grad[0, 0, 0, 2:] == 0).all()
    assert (logits.grad[0, 0, 0, :2] != 0).all()


def test_with_one_ring_partial_cross_entropy_is_the_usual_one() -> None:
    rings = torch.randint(0, 2, (2, 1, 5, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    logits = torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(1))
    usual = F.binary_cross_entropy_with_logits(logits, rings.float())
    assert float(partial_cross_entropy(logits, rings)) == pytest.approx(float(usual), rel=1e-5)


def test_masks_that_agree_once_turned_back_cost_nothing() -> None:
    y, x = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    picture = torch.exp(-(((x - 22) / 9) ** 2 + ((y - 25) / 5) ** 2))[None, None].expand(4, 1, 48, 48)
    generator = torch.Generator().manual_seed(5)
    ranges = WarpRange(degrees=20, shift=0.05, scale=(0.8, 1.1), aspect=(0.9, 1.1))
    one, other = (random_warps(4, ranges, generator) for _ in range(2))
    same = consistency(warp(picture, one), warp(picture, other), one, other)
    wrong = consistency(warp(picture, one), warp(picture, other), other, one)
    assert float(same) < 3e-4
    assert float(wrong) > 10 * float(same)


@pytest.mark.parametrize("seed", range(5))
def test_a_warp_and_its_inverse_cancel(seed: int) -> None:
    maps = random_warps(3, WarpRange(degrees=30), torch.Generator().manual_seed(seed))
    square = torch.cat([maps, torch.tensor([[[0.0, 0, 1]]]).expand(3, 1, 3)], 1)
    back = torch.cat([inverse(maps), torch.tensor([[[0.0, 0, 1]]]).expand(3, 1, 3)], 1)
    torch.testing.assert_close(square @ back, torch.eye(3).expand(3, 3, 3), atol=1e-5, rtol=0)


def test_rings_follow_the_view_and_are_not_known_beyond_the_crop() -> None:
    rings = torch.ones(1, 1, 8, 8, dtype=torch.uint8)
    shifted = torch.tensor([[[1.0, 0, 1.0], [0, 1, 0]]])  # half a picture to the right
    seen = view_rings(rings, shifted)
    assert (seen[..., :4] == 1).all()
    assert (seen[..., 4:] == NOT_KNOWN).all()


def test_eq_4_shares_the_loss_between_two_labels_and_is_cross_entropy_in_consensus() -> None:
    logits = torch.tensor([[2.0, 0.5, -1.0], [0.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    first, second = torch.tensor([0, 1, -1]), torch.tensor([2, -1, 1])
    log_p = logits.log_softmax(1)
    by_hand = (-(0.85 * log_p[0, 0] + 0.15 * log_p[0, 2]) - log_p[1, 1]) / 2  # the third has no label
    assert float(soft_cross_entropy(logits, first, second, 0.85, None, 0.0)) == pytest.approx(float(by_hand))
    consensus = soft_cross_entropy(logits[:2], first[:2], torch.tensor([-1, -1]), 0.85, None, 0.0)
    assert float(consensus) == pytest.approx(float(F.cross_entropy(logits[:2], first[:2])))


def test_a_part_nobody_labelled_costs_nothing() -> None:
    logits = torch.randn(2, 2, requires_grad=True)
    loss = soft_cross_entropy(logits, torch.tensor([-1, -1]), torch.tensor([-1, -1]), 0.85, None, 0.0)
    loss.backward()
    assert float(loss.detach()) == 0


def test_the_minority_is_what_the_other_experts_say() -> None:
    experts = np.array([[0, 0, 0], [0, 0, 2], [1, 2, 1], [0, 1, 2]])
    assert minority(experts, np.array([0, 0, 1, 0]), 3).tolist() == [-1, 2, 2, 1]


# Masking


def test_masking_tightens_linearly_from_15_dilations_to_0() -> None:
    config = TuneConfig(schedule=Schedule(epochs=31))
    steps = [dilations_at(config, epoch) for epoch in range(31)]
    assert (steps[0], steps[15], steps[-1]) == (15, 8, 0)
    assert steps == sorted(steps, reverse=True)


def test_a_mask_hides_the_background_by_its_dilations() -> None:
    head = np.zeros((1, 21, 21), np.float32)
    head[0, 8:13, 8:13] = 1
    depth = torch.from_numpy(depth_outside(head))[:, None]
    picture = torch.ones(1, 1, 21, 21)
    assert int(masked(picture, depth, 0).sum()) == 25
    assert int(masked(picture, depth, 2).sum()) > 25 + 4 * 5
    assert int(masked(picture, depth, OPEN_DILATIONS).sum()) == 21 * 21


def test_holes_and_bays_of_a_drawn_head_stay_visible() -> None:
    ring = np.zeros((1, 30, 30), np.float32)
    ring[0, 8:22, 6:24] = 1
    ring[0, 12:18, 10:30] = 0  # a bay open to the right
    assert (depth_outside(ring)[0, 8:22, 6:24] == 0).all()


def test_where_no_head_was_drawn_nothing_is_hidden() -> None:
    assert (depth_outside(np.zeros((2, 16, 16), np.float32)) == 0).all()


# The loop


def test_rates_follow_the_schedule() -> None:
    steps = Schedule(epochs=25, learning_rate=1e-4, milestones=(12, 19))
    assert [steps.rate(e) for e in (0, 11, 12, 19)] == pytest.approx([1e-4, 1e-4, 1e-5, 1e-6])
    cosine = Schedule(epochs=10, learning_rate=1e-3, decay="cosine")
    assert cosine.rate(2) > cosine.rate(5) > cosine.rate(9) > 0


def test_balanced_sampling_draws_rare_classes_as_often() -> None:
    labels = np.array([[0]] * 90 + [[1]] * 10)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.cat([torch.cat(list(batches(100, 50, generator, sample_weights(labels)))) for _ in range(40)])
    assert float((drawn >= 90).double().mean()) == pytest.approx(0.5, abs=0.03)


def test_class_weights_make_up_for_how_rare_a_class_is() -> None:
    labels = np.array([0] * 90 + [1] * 10 + [-1] * 5)
    weights = class_weights(labels, 3)
    assert float(weights[0] * 90) == pytest.approx(float(weights[1] * 10))
    assert float(weights[2]) == 0  # a class that does not occur
    assert float((weights[0] * 90 + weights[1] * 10) / 100) == pytest.approx(1)


def test_a_last_batch_of_one_is_left_out() -> None:
    sizes = [len(part) for part in batches(9, 4, torch.Generator().manual_seed(0))]
    assert sizes == [4, 4]


def test_a_loss_that_is_no_number_ends_the_training_with_one_line() -> None:
    layer = nn.Linear(1, 1)
    with pytest.raises(CasaError, match="loss of epoch 1 is nan; lower the learning rate"):
        fit("tune", {"m": layer}, layer.parameters(), lambda _n, _o: math.nan, Schedule(epochs=1), Run())


def test_a_training_that_was_broken_off_ends_with_the_same_weights(tmp_path: Path) -> None:
    crops = ellipses(24)
    config = TuneConfig(schedule=Schedule(epochs=4, batch=8, learning_rate=2e-3), dilations=None, dropout=0.3)

    def start(run: Run) -> Classifier:
        return Classifier(SmallEncoder(8), PARTS, 0.3)

    class Stop(Exception):
        pass

    def stop(_what: str, epoch: int, _loss: float) -> None:
        if epoch == 2:
            raise Stop

    run = Run(7)
    whole = tune(start(run), crops, None, config, run)
    run = Run(7, tmp_path, stop)
    with pytest.raises(Stop):
        tune(start(run), crops, None, config, run)
    run = Run(7, tmp_path)
    resumed = tune(start(run), crops, None, config, run)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=0, rtol=0)
    other = Run(8, tmp_path)
    with pytest.raises(InputError, match="is of another training"):
        tune(start(other), crops, None, config, other)


def test_a_state_of_other_crops_or_of_another_recipe_is_refused(tmp_path: Path) -> None:
    config = RecipeConfig(width=8, size_px=32, tune=TuneConfig(schedule=Schedule(epochs=1, batch=8), dilations=None))
    first, other = ellipses(8), ellipses(8, seed=1)
    longer = config.model_copy(update={"tune": config.tune.model_copy(update={"lambda_": 1.0})})
    train_member(config, PARTS, first, first, Run(0, tmp_path))
    train_member(config, PARTS, first, first, Run(0, tmp_path))  # the same: it goes on, here from its end
    for recipe, crops in ((config, other), (longer, first)):
        with pytest.raises(InputError, match="of another recipe or of other crops"):
            train_member(recipe, PARTS, crops, crops, Run(0, tmp_path))


@pytest.mark.parametrize(
    ("splits", "trained", "held_out"), [(("train", "valid", "test"), 8, 8), (("", "valid", "test"), 14, 2)]
)
def test_crops_for_the_temperature_are_neither_trained_on_nor_tested(
    splits: tuple[str, ...], trained: int, held_out: int
) -> None:
    crops = ellipses(24)
    made = LabelledSet("own", crops, PARTS, tuple(np.repeat(splits, 8)), ("",) * 24)
    train, rest = split_off(made, 0)
    assert (len(train), len(rest)) == (trained, held_out)


def test_the_teacher_follows_the_student_slowly() -> None:
    teacher, student = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    nn.init.zeros_(teacher.weight)
    nn.init.ones_(student.weight)
    for _ in range(3):
        follow(teacher, student, 0.9)
    assert float(teacher.weight.detach()) == pytest.approx(1 - 0.9**3)


# What is learned


def test_aid_learns_to_draw_heads_it_never_saw() -> None:
    run = Run(1)
    config = AidConfig(
        schedule=Schedule(epochs=10, batch=12, learning_rate=4e-3, decay="cosine"),
        warps=STILL,
        fine_share=0.9,
        decay=0.9,
    )
    teacher = distill(Segmenter(SmallEncoder(8)), ellipses(48), config, run)
    unseen = ellipses(12, seed=9)
    drawn, true = draw_heads(teacher, unseen.images) > 0.5, unseen.rings == 1
    overlap = (drawn & true).sum((1, 2)) / (drawn | true).sum((1, 2))
    assert overlap.mean() > 0.75


def test_tuning_learns_shapes_it_can_tell_apart() -> None:
    run = Run(2)
    config = TuneConfig(schedule=Schedule(epochs=8, batch=12, learning_rate=3e-3, decay="cosine"), dilations=None)
    model = tune(Classifier(SmallEncoder(8), PARTS), ellipses(48), None, config, run)
    unseen = ellipses(20, seed=9)
    found = predict(model, unseen.images, None, config)
    assert np.exp(found).sum(axis=1) == pytest.approx(np.ones(20), abs=1e-4)
    assert (found.argmax(axis=1) == unseen.labels[:, 0]).mean() >= 0.9


def test_a_crop_is_seen_alike_whatever_its_brightness_and_contrast() -> None:
    crops = ellipses(4).images
    darker = (crops * 0.6 + 20).round().astype(np.uint8)
    torch.testing.assert_close(to_tensor(crops, 1), to_tensor(darker, 1), atol=0.15, rtol=0)
    colour = to_tensor(np.repeat(crops[..., None], 3, 3), 3)
    assert colour.shape == (4, 3, 32, 32)
    assert torch.isfinite(to_tensor(np.full((1, 32, 32), 7, np.uint8), 1)).all()  # all one value


def test_gray_crops_are_repainted_within_their_ranges() -> None:
    x = torch.zeros(200, 1, 4, 4)
    out = repaint(x, WarpRange(brightness=0.3, contrast=0.0), torch.Generator().manual_seed(0))
    assert 0.25 < float(out.abs().max()) <= 0.3


# Recipes


def test_a_mask_that_nobody_draws_is_refused() -> None:
    crops = ellipses(4)
    with pytest.raises(InputError, match="masking needs heads drawn by AID"):
        train_member(RecipeConfig(size_px=32), PARTS, crops, crops, Run())


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "morphology").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.tune.schedule.epochs > 0
    if recipe.tune.dilations is not None:
        assert recipe.aid is not None


def test_a_recipe_names_the_key_that_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("tune: {schedule: {epoch: 3}}", encoding="utf-8")
    with pytest.raises(InputError, match=r"r.yaml: tune.schedule.epoch: Extra inputs"):
        load_recipe(path)
    path.write_text("encoder: small", encoding="utf-8")
    assert load_recipe(path, {"tune.schedule.epochs": 3, "members": None}).tune.schedule.epochs == 3
