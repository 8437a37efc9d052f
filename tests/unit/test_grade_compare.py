"""Networks side by side: the paper's table, its ablations, and what speaks for a difference."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from casa.errors import InputError
from casa.grade.build import NETWORKS, build_network
from casa.grade.compare import ABLATIONS, TABLE_2, agreement_with_paper, compare, markdown
from casa.grade.experiment import FoldResult, read_predictions, write_predictions
from casa.grade.export import export_onnx
from casa.grade.look import MOTION_GAIN, with_motion
from casa.grade.rollout import rollout
from casa.grade.train import GradeTrainConfig, load_grade_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs" / "grade").glob("*.yaml"))


def runs_of(noise: float, n_runs: int = 3, seed: int = 0) -> list[list[FoldResult]]:
    """Runs of two folds whose predictions are ``noise`` away from the votes."""
    rng = np.random.default_rng(0)
    true = rng.dirichlet([2, 4, 6, 1, 0.5], 80)
    base = true.mean(axis=0)
    runs = []
    for run in range(n_runs):
        own = np.random.default_rng([seed, run])
        found = (1 - noise) * true + noise * own.dirichlet([2, 4, 6, 1, 0.5], 80)
        halves = (slice(0, 40), slice(40, 80))
        runs.append(
            [
                FoldResult(k, tuple(map(str, range(h.start, h.stop))), found[h], true[h], base, 10.0)
                for k, h in enumerate(halves)
            ]
        )
    return runs


def test_the_better_network_comes_first_with_its_share_of_the_way():
    result = compare({"X3D": runs_of(0.6, seed=1), "TimeSformer": runs_of(0.3)}, fresh_panel_mse=1e-4)
    assert [row.name for row in result.rows] == ["TimeSformer", "X3D"]
    best, other = result.rows
    assert best.way is not None
    assert other.way is not None
    assert other.way < best.way < 1
    assert best.interval[0] < best.values["mse"][0] < best.interval[1]
    mean, low, high = result.to_best["X3D"]
    assert 0 < low < mean < high
    assert result.test is not None
    assert result.test.p == pytest.approx(0.0495, abs=1e-4)  # the least that three runs each can give
    assert agreement_with_paper(result) == pytest.approx(1.0)


def test_a_network_like_another_is_not_told_apart():
    result = compare({"a": runs_of(0.5), "b": runs_of(0.5)}, None)
    assert result.to_best == {"b": (0.0, 0.0, 0.0)}
    assert result.test is not None
    assert result.test.p > 0.5
    assert result.rows[0].way is None
    assert "fresh panel" not in markdown(result)


def test_one_run_each_has_no_spread_and_no_test():
    result = compare({"a": runs_of(0.5, 1), "b": runs_of(0.7, 1)}, None)
    assert result.test is None
    assert np.isnan(result.rows[0].values["mse"][1])
    assert "±" not in markdown(result)


def test_runs_on_other_clips_are_refused():
    with pytest.raises(InputError, match="not judged on the same clips"):
        compare({"a": runs_of(0.5), "b": [run[:1] for run in runs_of(0.5)]}, None)


def test_predictions_are_read_as_they_were_written(tmp_path: Path):
    result = runs_of(0.5)[0][0]
    write_predictions(tmp_path / "fold0.csv", result)
    again = read_predictions(tmp_path / "fold0.csv", 0, result.prior)
    assert again.ids == result.ids
    np.testing.assert_allclose(again.found, result.found, rtol=1e-8)
    np.testing.assert_allclose(again.true, result.true, rtol=1e-8)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_names_a_network_that_can_be_built(path: Path):
    config = load_grade_config(path)
    if config.size == "T":  # the published sizes are hundreds of megabytes: B's own tests build them
        assert build_network(config.network, config.size, config.variant, **config.options)


def test_each_row_of_the_papers_table_has_its_configuration():
    rows = {(c.network, c.alpha if c.network == "rostfine" else None) for c in map(load_grade_config, CONFIGS)
            if c.name.startswith("table2")}  # fmt: skip
    wanted = {(change["network"], change.get("alpha")) for change, _ in TABLE_2.values()}
    assert rows == wanted


@pytest.mark.parametrize("ablation", ABLATIONS)
def test_every_row_of_an_ablation_can_be_built(ablation: str):
    for change in ABLATIONS[ablation].values():
        config = GradeTrainConfig(network="rostfine", size="T").model_copy(update=change)
        assert build_network("rostfine", "T", **config.options)


@pytest.mark.parametrize("ablation", [None, *ABLATIONS])
def test_the_comparison_at_an_equal_budget_can_be_built(ablation: str | None, capsys):
    spec = importlib.util.spec_from_file_location("compare_grades", ROOT / "tools" / "compare_grades.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    rows = tool.variants(load_grade_config(ROOT / "configs" / "grade" / "compare.yaml"), ablation)
    left_out = sorted(set(rows) - set(tool.buildable(rows)))
    assert left_out == (["K = 20"] if ablation == "k" else [])
    assert ("K = 20: left out: rostfine: selected 20: a frame has 16 patches" in capsys.readouterr().err) == bool(
        left_out
    )


def test_a_network_that_looks_at_the_middle_says_where_that_is(tmp_path: Path):
    network = build_network("rostfine", "T", size_px=128, crop_px=64, patch_px=16, depth=1, branch_depth=1, motion=True)
    clip = torch.rand(1, 1, 8, 128, 128).expand(-1, 3, -1, -1, -1)
    with torch.no_grad():
        of_middle = network.eval()(clip[..., 32:96, 32:96]).distribution
        torch.testing.assert_close(network(clip).distribution, of_middle)
        maps = rollout(network.space_attention(clip), network.config.margin)[0].unflatten(-1, (8, 8))  # type: ignore
    export_onnx(network, tmp_path / "middle.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "middle.onnx"), providers=["CPUExecutionProvider"])
    exported = session.run(["rollout"], {"gray": clip[:, 0].numpy()})[0]
    np.testing.assert_allclose(np.asarray(exported)[0].reshape(-1, 8, 8), maps.numpy(), atol=1e-4)
    assert maps[:, 2:6, 2:6].amax() == 1
    assert maps.count_nonzero() == maps[:, 2:6, 2:6].count_nonzero()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_can_be_given_the_same_look(name: str):
    """The middle of a larger picture is what it would have made of a picture of that size, changes in time or not."""
    look = {"motion": name != "vgg16"} | ({"patch_px": 16} if name in ("rostfine", "timesformer", "vivit") else {})
    network = build_network(name, "T", size_px=96, crop_px=64, **look).eval()
    clip = torch.rand(2, 1, 8, 96, 96).expand(-1, 3, -1, -1, -1)
    with torch.no_grad():
        found = network(clip)
        torch.testing.assert_close(found.distribution, network(clip[..., 16:80, 16:80]).distribution)
        moved = network(clip.roll(1, dims=2)).distribution
    assert [feature.ndim for feature in found.features] == [2] * len(found.features)
    assert found.features
    assert not torch.allclose(found.distribution, moved, atol=1e-7)


def test_changes_in_time_light_up_and_still_pictures_stay_dark():
    clip = torch.rand(1, 1, 1, 4, 4).expand(-1, 3, 5, -1, -1).clone()
    torch.testing.assert_close(with_motion(clip)[:, 1:], torch.zeros(1, 2, 5, 4, 4), atol=1e-5, rtol=0)
    clip[:, :, 2, 1, 1] += 1
    before = with_motion(clip)[0, 1, :, 1, 1]
    torch.testing.assert_close(before, torch.tensor([0.0, 0, MOTION_GAIN, MOTION_GAIN, 0]))
