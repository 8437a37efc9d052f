"""Training of grade networks: it learns, it goes on where it was killed, it never looks at what it is judged on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from casa.errors import InputError
from casa.grade.augment import AugmentConfig, augment
from casa.grade.rostfine import RoSTFine, RoSTFineConfig
from casa.grade.train import (
    GradeTrainConfig,
    Samples,
    as_input,
    fold_standardisation,
    learning_rate,
    load_grade_config,
    predict,
    standardised_heads,
    train_network,
)

STILL = AugmentConfig(flips=False, turns=False, gain=0, offset=0, shift_px=0)
QUICK: dict[str, Any] = {"optimiser": "adamw", "learning_rate": 1e-2, "epochs": 4, "batch": 32, "clip_gradient": 1.0}


def config_of(values: dict[str, Any]) -> GradeTrainConfig:
    return GradeTrainConfig.model_validate(values)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small_network(seed: int = 0, drop_path: float = 0.0) -> RoSTFine:
    torch.manual_seed(seed)
    sizes: dict[str, Any] = {"size_px": 16, "frames": 2, "patch_px": 8, "width": 16, "depth": 2, "heads": 2}
    return RoSTFine(RoSTFineConfig(**sizes, branch_depth=1, branch_heads=2, drop_path=drop_path))


def bright_is_good(n: int, seed: int) -> Samples:
    """Clips whose mean brightness says what the votes are."""
    rng = np.random.default_rng(seed)
    light = rng.uniform(-1, 1, n).astype(np.float32)
    pictures = light[:, None, None, None] + rng.normal(0, 0.3, (n, 2, 16, 16)).astype(np.float32)
    logits = 2 * light[:, None] * np.array([1, 0.5, 0, -0.5, -1], np.float32)
    return Samples(
        torch.from_numpy(pictures).half(), torch.from_numpy(logits).softmax(-1), torch.from_numpy(light)[:, None]
    )


def mse(network: Any, samples: Samples) -> float:
    return float(((predict(network, samples.pictures) - samples.true.numpy()) ** 2).mean())


@pytest.mark.parametrize("loss", ["mse", "js", "emd"])
def test_training_beats_the_prior_on_clips_it_has_not_seen(loss: str):
    config = config_of(QUICK | {"epochs": 10, "loss": loss, "augment": STILL, "alpha": 0.01})
    trained, unseen = bright_is_good(160, 1), bright_is_good(60, 2)
    network = train_network(small_network(), config, trained, seed=0)
    of_prior = float(((trained.true.mean(0) - unseen.true) ** 2).mean())
    assert mse(network, unseen) < 0.5 * of_prior


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"average": 0.9, "optimiser": "sgd", "learning_rate": 0.05},
        {"standardise": True, "facts_weight": 0.3},
    ],
)
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path: Path, options: dict[str, Any]):
    class Killed(Exception):
        pass

    def kill_after_two(log: Any) -> None:
        if log.epoch == 1:
            raise Killed

    config = config_of(QUICK | options)
    samples, aside = bright_is_good(40, 1), bright_is_good(16, 2)
    through = train_network(small_network(drop_path=0.2), config, samples, 3, tmp_path / "through.pt", aside)
    with pytest.raises(Killed):
        train_network(small_network(drop_path=0.2), config, samples, 3, tmp_path / "state.pt", aside, kill_after_two)
    logs: list[Any] = []
    resumed = train_network(
        small_network(seed=9, drop_path=0.2), config, samples, 3, tmp_path / "state.pt", aside, logs.append
    )
    assert [log.epoch for log in logs] == [2, 3]
    for name, tensor in through.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_another_seed_gives_other_weights():
    config = config_of(QUICK | {"epochs": 1})
    a, b = (train_network(small_network(), config, bright_is_good(16, 1), seed) for seed in (0, 1))
    assert not torch.equal(a.heads["global"].weight, b.heads["global"].weight)


@pytest.mark.parametrize("change", ["config", "seed", "clips"])
def test_a_state_of_another_training_is_refused(tmp_path: Path, change: str):
    config, samples = config_of(QUICK | {"epochs": 1}), bright_is_good(16, 1)
    train_network(small_network(), config, samples, 0, tmp_path / "state.pt")
    other = config.model_copy(update={"alpha": 0.5}) if change == "config" else config
    clips = bright_is_good(16, 2) if change == "clips" else samples
    with pytest.raises(InputError, match="of another configuration, seed or set of clips"):
        train_network(small_network(), other, clips, int(change == "seed"), tmp_path / "state.pt")


def test_what_is_no_state_is_refused(tmp_path: Path):
    (tmp_path / "state.pt").write_bytes(b"not a state")
    with pytest.raises(InputError, match=r"state\.pt: no state of a training"):
        train_network(small_network(), config_of(QUICK), bright_is_good(8, 1), 0, tmp_path / "state.pt")


def test_gradients_of_small_batches_add_up_to_those_of_a_large_one():
    step: dict[str, Any] = {
        "epochs": 1,
        "optimiser": "sgd",
        "augment": STILL,
        "alpha": 0.0,
        "learning_rate": 0.1,
        "weight_decay": 0.0,
    }
    samples = bright_is_good(16, 1)
    large, small = (
        train_network(small_network(), config_of(step | parts), samples, 0)
        for parts in ({"batch": 16}, {"batch": 4, "accumulate": 4})
    )
    for a, b, start in zip(large.parameters(), small.parameters(), small_network().parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)
        assert a.grad is None or a.grad.abs().sum() == 0 or not torch.equal(a, start)


def test_the_epoch_is_chosen_on_the_clips_put_aside():
    config, logs = config_of(QUICK | {"epochs": 6, "learning_rate": 0.03}), []
    aside = bright_is_good(24, 5)
    network = train_network(small_network(), config, bright_is_good(40, 1), 0, None, aside, logs.append)
    assert mse(network, aside) == pytest.approx(min(log.aside_mse for log in logs))


def test_diversity_is_pressed_down_by_its_weight():
    final = {}
    for alpha in (0.0, 1.0):
        logs: list[Any] = []
        config = config_of(QUICK | {"epochs": 8, "alpha": alpha})
        train_network(small_network(), config, bright_is_good(64, 1), 0, after_epoch=logs.append)
        final[alpha] = logs[-1].diversity
        assert logs[-1].loss == pytest.approx(logs[-1].distance + alpha * logs[-1].diversity)
    assert final[1.0] < 0.5 * final[0.0]


def test_bfloat16_learns_too():
    config = config_of(QUICK | {"epochs": 10, "augment": STILL, "alpha": 0.01, "precision": "bfloat16"})
    network = train_network(small_network(), config, bright_is_good(160, 1), seed=0)
    unseen = bright_is_good(60, 2)
    assert mse(network, unseen) < 0.5 * float(((unseen.true.mean(0) - unseen.true) ** 2).mean())


def test_standardised_heads_become_plain_ones():
    network, samples = small_network().train(), bright_is_good(64, 1)
    heads = standardised_heads(network)
    with torch.no_grad():
        in_training = network(as_input(samples.pictures.float())).parts
        fold_standardisation(network, samples.pictures)
        folded = network.eval()(as_input(samples.pictures.float())).parts
    for a, b in zip(in_training, folded, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)
    assert not any(head._forward_pre_hooks for head in heads)


def test_facts_are_asked_for_only_where_they_are_known():
    config = config_of(QUICK | {"facts_weight": 0.1})
    samples = bright_is_good(8, 1)
    with pytest.raises(InputError, match="nothing is known of these clips but their votes"):
        train_network(small_network(), config, Samples(samples.pictures, samples.true), 0)


def test_rate_warms_up_and_falls():
    config = GradeTrainConfig(warmup=0.1, schedule="cosine", learning_rate=1.0)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert np.argmax(rates) == 10
    assert rates[0] == pytest.approx(1 / 11)
    assert rates[-1] < 1e-3
    assert {learning_rate(GradeTrainConfig(learning_rate=1e-3), step, 9) for step in range(9)} == {1e-3}


def test_augmentation_moves_a_whole_clip_as_one():
    clip = torch.rand(1, 3, 8, 8)
    clip = clip[:, :1].expand(-1, 3, -1, -1)  # three frames, all the same
    for seed in range(20):
        changed = augment(clip, AugmentConfig(), np.random.default_rng(seed))
        assert torch.equal(changed[:, 0], changed[:, 1])
        assert torch.equal(changed[:, 0], changed[:, 2])


def test_turns_and_flips_keep_every_pixel_and_reach_all_eight_views():
    clip = torch.arange(16.0).view(1, 1, 4, 4)
    config = AugmentConfig(gain=0, offset=0, shift_px=0)
    views = [augment(clip, config, np.random.default_rng(seed)) for seed in range(200)]
    for view in views:
        torch.testing.assert_close(view.flatten().sort().values, torch.arange(16.0), atol=1e-4, rtol=0)
    assert len({tuple(view.round().flatten().tolist()) for view in views}) == 8


def test_no_augmentation_changes_nothing():
    clips = torch.rand(3, 2, 8, 8)
    torch.testing.assert_close(augment(clips, STILL, np.random.default_rng(0)), clips)


def test_shift_moves_by_whole_pixels_and_repeats_the_edge():
    clip = torch.zeros(1, 1, 9, 9)
    clip[0, 0, 4, 4] = 1
    config = AugmentConfig(flips=False, turns=False, gain=0, offset=0, shift_px=2)
    places = set()
    for seed in range(100):
        changed = augment(clip, config, np.random.default_rng(seed))[0, 0]
        places.add(tuple((changed > 0.5).nonzero()[0].tolist()))
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}


def test_gray_is_given_as_three_channels():
    assert as_input(torch.rand(2, 4, 8, 8)).shape == (2, 3, 4, 8, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs: 0", "epochs: Input should be greater than or equal to 1"),
        ("lr: 1", "lr: Extra inputs are not permitted"),
        ("loss: mae", "loss: Input should be 'mse', 'js' or 'emd'"),
        ("- 1", "expected keys and values, got list"),
        ("{", "cannot be read as YAML"),
    ],
)
def test_wrong_configurations_are_told_in_a_line(tmp_path: Path, text: str, message: str):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_grade_config(path)
    assert "\n" not in str(error.value)
