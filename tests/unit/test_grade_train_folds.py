"""A training from clips to scores: folds, what is left in the folder, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from casa.cli.main import app
from casa.errors import InputError
from casa.grade.checkpoints import load_network
from casa.grade.data import ClipDataset
from casa.grade.experiment import (
    calibrate,
    chosen_folds,
    judge,
    judge_folds,
    new_network,
    run_folds,
    samples_of,
    whiten_patches,
)
from casa.grade.train import GradeTrainConfig, as_input, last_layers, predict
from casa.grade.votes import write_counts
from casa.weights import read_manifest

TINY: dict[str, Any] = {
    "size": "T",
    "options": {"size_px": 32, "patch_px": 16, "width": 16, "heads": 2, "branch_heads": 2, "depth": 1,
                "branch_depth": 1},
    "optimiser": "adamw",
    "epochs": 2,
    "folds": 2,
}  # fmt: skip


def config_of(**changes: Any) -> GradeTrainConfig:
    return GradeTrainConfig.model_validate(TINY | changes)


@pytest.fixture
def clips() -> ClipDataset:
    rng = np.random.default_rng(0)
    n = 24
    return ClipDataset(
        images=rng.integers(0, 255, (n, 16, 150, 150), np.uint8),
        counts=rng.multinomial(40, [0.1, 0.3, 0.5, 0.05, 0.05], n).astype(np.int64),
        ids=np.arange(1, n + 1),
        groups=np.arange(n) // 3,
        um_per_px=np.full(n, np.nan),
        covariates={},
        name="noise",
        simulated=False,
    )


def test_every_clip_is_judged_once_by_a_network_that_has_not_seen_it(clips: ClipDataset, tmp_path: Path):
    results = run_folds(config_of(), clips, 0, tmp_path)
    assert sorted(int(name) for result in results for name in result.ids) == clips.ids.tolist()
    for fold, result in zip(chosen_folds(config_of(), clips, 0), results, strict=True):
        assert not set(clips.groups[fold.train]) & set(clips.groups[fold.test])
        np.testing.assert_allclose(result.prior, clips.distribution[fold.train].mean(axis=0))
        network, about = load_network(tmp_path / f"fold{fold.number}.pt")
        assert about["fold"] == fold.number
        again = predict(network, samples_of(clips, network).pictures[fold.test])
        np.testing.assert_allclose(again, result.found, atol=1e-6)
    judged = judge_folds(results, clips)
    assert judged is not None
    assert judged["mean"]["mse"] == pytest.approx(np.mean([fold["mse"] for fold in judged["folds"]]))
    assert judged["folds"][0]["fresh_panel_mse"] is None


def test_folds_that_are_done_are_not_trained_again(clips: ClipDataset, tmp_path: Path):
    first = run_folds(config_of(only_folds=(1,)), clips, 0, tmp_path)
    epochs: list[int] = []
    both = run_folds(config_of(), clips, 0, tmp_path, lambda fold, _log: epochs.append(fold))
    assert epochs == [0, 0]
    np.testing.assert_allclose(both[1].found, first[0].found, rtol=1e-8)


def test_a_folder_of_another_training_is_refused(clips: ClipDataset, tmp_path: Path):
    run_folds(config_of(), clips, 0, tmp_path)
    with pytest.raises(InputError, match="holds a training of another configuration"):
        run_folds(config_of(epochs=3), clips, 0, tmp_path)


def test_a_fold_that_is_not_there_is_named(clips: ClipDataset, tmp_path: Path):
    with pytest.raises(InputError, match="only_folds: 2 is not one of the 2 folds"):
        run_folds(config_of(only_folds=(2,)), clips, 0, tmp_path)


def test_real_clips_have_no_facts(clips: ClipDataset, tmp_path: Path):
    with pytest.raises(InputError, match="nothing is known of these clips but their votes"):
        run_folds(config_of(facts_weight=0.1), clips, 0, tmp_path)
    assert len(run_folds(config_of(only_folds=(0,)), clips, 0, tmp_path)) == 1  # the folder is not lost to a mistake


def test_training_goes_on_from_weights_of_the_same_network_alone(clips: ClipDataset, tmp_path: Path):
    run_folds(config_of(folds=0), clips, 0, tmp_path)
    started = new_network(config_of(start=tmp_path / "fold0.pt"), seed=5).state_dict()
    trained = load_network(tmp_path / "fold0.pt")[0].state_dict()
    assert all(torch.equal(started[key], trained[key]) for key in trained)
    with pytest.raises(InputError, match="is of another network than the configuration's"):
        new_network(config_of(start=tmp_path / "fold0.pt", options=TINY["options"] | {"depth": 2}), seed=5)


def test_whitened_patches_have_variance_one(clips: ClipDataset):
    network = new_network(config_of(), 0)
    pictures = samples_of(clips, network).pictures
    whiten_patches(network, pictures)
    with torch.no_grad():
        tokens = network.encoder.patch_embed(network.config.seen(as_input(pictures.float())))
    assert tokens.flatten(0, 2).std(0) == pytest.approx(np.ones(16), abs=0.25)  # taken over half of the frames
    with pytest.raises(InputError, match="r3d has no patch embedding"):
        whiten_patches(new_network(GradeTrainConfig(network="r3d", size="T"), 0), pictures)


def test_a_network_that_is_too_sure_is_drawn_towards_the_prior_and_keeps_its_form(clips: ClipDataset):
    network = new_network(config_of(), 0).eval()
    with torch.no_grad():
        for head in last_layers(network):
            head.weight.mul_(20)
    samples, base = samples_of(clips, network), clips.distribution.mean(axis=0)
    before = judge(predict(network, samples.pictures), clips.distribution, base)
    share = calibrate(network, samples, base)
    after = judge(predict(network, samples.pictures), clips.distribution, base)
    assert 0 <= share < 1
    assert after["mse"] < before["mse"]
    assert after["gain_percent"] >= 0  # the prior itself is one of the choices


def test_calibration_needs_clips_put_aside(clips: ClipDataset, tmp_path: Path):
    epochs: list[int] = []
    with pytest.raises(InputError, match="set inner_share above 0"):
        run_folds(config_of(calibrate=True), clips, 0, tmp_path, lambda fold, _log: epochs.append(fold))
    assert epochs == []  # it is not said after hours of training


def test_the_prior_gains_nothing_and_votes_themselves_gain_all(clips: ClipDataset):
    base = clips.distribution.mean(axis=0)
    nothing = judge(np.tile(base, (len(clips), 1)), clips.distribution, base, fresh_panel_mse=1e-3)
    assert nothing["gain_percent"] == 0
    assert nothing["share_of_way"] == 0
    assert judge(clips.distribution, clips.distribution, base)["gain_percent"] == 100


@pytest.mark.parametrize(
    ("settings", "fold", "words"),
    [
        ({"folds": 0}, ["--fold", "3"], "only_folds: with folds: 0 one network learns from all clips"),
        ({"folds": 0, "only_folds": [0]}, [], "only_folds: with folds: 0 one network learns from all clips"),
        ({"folds": 2}, ["--fold", "3"], "only_folds: 3 is not one of the 2 folds, 0 to 1"),
        ({"folds": 2, "only_folds": []}, [], "only_folds: names no fold; name some of 0 to 1"),
        ({"folds": 2}, ["--fold", "1", "--fold", "1"], "only_folds: 1 is there twice"),
    ],
)
def test_folds_that_are_none_are_refused_in_one_line_before_clips_are_drawn(tmp_path: Path, settings, fold, words):
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(TINY | {"name": "tiny"} | settings))
    refused = CliRunner().invoke(app, ["train", "grade", "--config", str(config), "-o", str(tmp_path / "out"), *fold])
    assert isinstance(refused.exception, InputError)
    assert words in str(refused.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_of_no_folds_one_network_learns_from_all_clips(clips: ClipDataset, tmp_path: Path):
    (result,) = run_folds(config_of(folds=0), clips, 0, tmp_path)
    assert not result.ids
    assert load_network(tmp_path / "fold0.pt")[1]["clips"] == len(clips)
    assert judge_folds([result], clips) is None


def test_the_commands_train_and_evaluate_a_folder_of_clips(clips: ClipDataset, tmp_path: Path):
    folder, out, config = tmp_path / "clips", tmp_path / "out", tmp_path / "tiny.yaml"
    folder.mkdir()
    np.save(folder / "clips.npy", clips.images)
    (folder / "clips.csv").write_text("clip\n" + "".join(f"{k:06d}\n" for k in clips.ids))
    write_counts(folder / "votes.csv", clips.ids, clips.counts)
    config.write_text(json.dumps(TINY | {"name": "tiny", "only_folds": [0]}))
    run = CliRunner().invoke
    trained = run(app, ["train", "grade", str(folder), "--config", str(config), "-o", str(out), "--json"])
    assert trained.exit_code == 0, trained.output
    result = json.loads(trained.stdout)
    assert result["simulated"] is False
    assert json.loads((out / "scores.json").read_text()) == result
    assert (out / "training.csv").read_text().count("\n") == 3
    assert set(read_manifest(out)["tiny"].files) == {"state", "onnx"}
    judged = run(app, ["evaluate", "grade", str(out / "tiny.pt"), str(folder), "--json"])
    assert judged.exit_code == 0, judged.output
    scores = json.loads(judged.stdout)
    assert scores["clips"] == 24
    low, high = scores["interval_95"]["mse"]
    assert low < scores["mse"] < high
