"""``casa train morphology`` and ``casa evaluate morphology`` on a few rendered heads, from the call to the figures."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

from casa.cli.main import app
from casa.errors import InputError
from casa.morphology.datasets import rendered_heads, write_heads
from casa.morphology.domain import UNKNOWN, outside
from casa.morphology.predictors import groups_of
from casa.weights import read_manifest

RECIPE = """
encoder: small
width: 8
size_px: 32
um_per_px: 0.1875
aid:
  schedule: {epochs: 2, batch: 8, learning_rate: 0.002}
tune:
  schedule: {epochs: 1, batch: 8, learning_rate: 0.002}
  dilations: [15, 4]
"""


def call(*words: object) -> dict:
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    if result.exception is not None:
        raise result.exception
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rendered set of the SCIAN kind on disk, a recipe, and weights made of it."""
    root = tmp_path_factory.mktemp("morphology")
    for name, seed in (("one", 1), ("two", 2)):
        write_heads(root / name, rendered_heads(40, "scian", seed=seed)[0])
    (root / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    call(
        "train",
        "morphology",
        "-o",
        root / "made",
        "--config",
        root / "recipe.yaml",
        "--rendered",
        40,
        "--preset",
        "scian",
        "--name",
        "tiny",
        "--threads",
        1,
        "--json",
    )
    return root


def test_training_makes_weights_manifest_and_card_that_agree(folder: Path) -> None:
    entry = read_manifest(folder / "made")["tiny"]
    assert (entry.task, entry.licence) == ("morphology", "AGPL-3.0-or-later")
    assert "rendered heads" in entry.trained_on
    card = (folder / "made" / "tiny.md").read_text(encoding="utf-8")
    assert entry.files["state"][1] in card
    assert "not a diagnosis" in card
    with pytest.raises(InputError, match="exists already"):
        call("train", "morphology", "-o", folder / "made", "--name", "tiny", "--config", folder / "recipe.yaml")


def test_weights_say_what_pictures_they_know(folder: Path) -> None:
    words = ("train", "morphology", folder / "one", "--config", folder / "recipe.yaml", "--epochs", 1, "--threads", 1,
             "--name", "own", "--json")  # fmt: skip
    call(*words, "-o", folder / "said", "--um-per-px", 0.19, "--look", "Stained")
    call(*words, "-o", folder / "unsaid")
    said, unsaid = (read_manifest(folder / name)["own"].knows for name in ("said", "unsaid"))
    assert outside(said, 0.19, "stained") == ()
    assert outside(unsaid, 0.19, "stained") == (UNKNOWN,)
    card = (folder / "said" / "own.md").read_text(encoding="utf-8")
    assert "It knows (and outside of it results are marked): photographs of 0.19 um/px; stained." in card
    with pytest.raises(InputError, match="--look dark: expected one of"):
        call(*words, "-o", folder / "dark", "--look", "dark")


def test_evaluation_gives_figures_with_intervals(folder: Path) -> None:
    found = call(
        "evaluate",
        "morphology",
        folder / "one",
        "--weights",
        folder / "made" / "tiny.pt",
        "--um-per-px",
        0.19,
        "--json",
    )
    scores = found["parts"]["class"]
    assert scores["n"] + scores["abstained"] == 40
    assert sum(map(sum, scores["confusion"])) == scores["n"]
    low, high = scores["accuracy_95"]
    assert low <= scores["accuracy"] <= high
    assert {"ece", "reliability", "balanced_accuracy", "per_class"} <= set(scores)


def test_costs_and_abstention_change_what_is_decided(folder: Path) -> None:
    words = ("evaluate", "morphology", folder / "one", "--weights", folder / "made" / "tiny.pt", "--json")
    costly = call(
        *words, *(w for c in ("tapered", "pyriform", "amorphous", "small") for w in ("--cost", f"{c}>normal=1000"))
    )
    assert all(row[0] == 0 for row in costly["parts"]["class"]["confusion"])
    unsure = call(*words, "--abstain-below", 0.999)
    assert unsure["parts"]["class"]["n"] == 0
    for more, why in (
        (("--threshold", "odd=0.3"), r"--threshold odd=0.3: no class 'odd'"),
        (("--threshold", "head:small=0.3"), r"no part 'head'; judged are class"),
        (("--part", "head"), r"--part head: these weights judge class"),
        (("--agreement", 4), r"no crops on which 4 experts agree"),
    ):
        with pytest.raises(InputError, match=why):
            call(*words, *more)


def test_crops_of_classes_that_weights_do_not_know_are_counted(folder: Path) -> None:
    with pytest.raises(InputError, match=r"one label a crop, and the weights judge 3 parts; say of which with --part"):
        call("evaluate", "morphology", folder / "one", "--weights", "morphology-mhsma")
    found = call("evaluate", "morphology", folder / "one", "--weights", "morphology-mhsma", "--part", "head", "--json")
    scores = found["parts"]["head"]
    lines = (folder / "one" / "labels.csv").read_text(encoding="utf-8").splitlines()
    normal = sum(line.split(",")[1] == "normal" for line in lines)
    assert set(found["parts"]) == {"head"}
    assert found["um_per_px"] is None
    assert (scores["n"] + scores["abstained"], scores["other_classes"]) == (normal, 40 - normal)


def test_one_command_gives_the_row_of_a_table(folder: Path) -> None:
    found = call(
        "train", "morphology", folder / "one", "-o", folder / "row", "--config", folder / "recipe.yaml", "--folds", 2,
        "--um-per-px", 0.19, "--agreement", 2, "--threads", 1, "--json",
    )  # fmt: skip
    assert set(found["table_1"]) == {"accuracy", "recall", "precision", "f1"}
    assert len(found["folds"]) == 2
    assert 0 <= found["table_1"]["accuracy"]["mean"] <= 100


def test_a_whole_set_is_left_out(folder: Path) -> None:
    found = call(
        "evaluate", "morphology", folder / "one", folder / "two", "--leave-one-out", "--config", folder / "recipe.yaml",
        "--epochs", 1, "--um-per-px", 0.19, "--threads", 1, "--json",
    )  # fmt: skip
    assert set(found["parts"]) == {"one", "two"}
    assert found["parts"]["one"]["n"] == 40
    with pytest.raises(InputError, match="two or more"):
        call("evaluate", "morphology", folder / "one", folder / "two", "--json")


def test_an_unknown_recipe_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--config nothing: no such file, nor one of .*hushem.*scian"):
        call("train", "morphology", "-o", tmp_path, "--config", "nothing")


@pytest.mark.parametrize(
    "more",
    ["svm: {components: 8, cost: 10}", "groups: [[normal, small], [tapered, pyriform], [amorphous, unheard-of]]"],
    ids=["deep features", "two stages"],
)
def test_features_with_machines_and_two_stages_are_judged_by_folds(folder: Path, tmp_path: Path, more: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    network, rest = RECIPE.split("aid:")
    plain = f"{network}tune:{rest.split('tune:')[1].replace('[15, 4]', 'null')}{more}\n"
    recipe.write_text(plain, encoding="utf-8")
    words = ("train", "morphology", folder / "one", "-o", tmp_path / "row", "--config", recipe, "--um-per-px", 0.19)
    found = call(*words, "--folds", 2, "--threads", 1, "--json")
    assert len(found["folds"]) == 2
    assert found["pooled"]["n"] == sum(fold["n"] for fold in found["folds"])
    with pytest.raises(InputError, match="makes no weights; judge it with --folds"):
        call(*words, "--json")


def test_groups_that_leave_a_class_out_are_refused() -> None:
    classes = ("normal", "tapered", "small")
    assert groups_of((("normal", "odd"), ("small", "tapered")), classes).of == ((0,), (2, 1))
    for groups in ((("normal",), ("small",)), (("normal", "small", "tapered"),), (("normal", "small"), ("small",))):
        with pytest.raises(InputError, match="each of normal, tapered, small in one"):
            groups_of(groups, classes)


def test_thresholds_are_fitted_on_one_split_and_judged_on_another(folder: Path, tmp_path: Path) -> None:
    recipe = ("--config", folder / "recipe.yaml", "--epochs", 1, "--rendered", 40, "--preset", "mhsma", "--threads", 1)
    call("train", "morphology", "-o", tmp_path / "made", "--name", "two", "--part", "head", *recipe, "--json")
    heads, truth = rendered_heads(40, "mhsma", seed=8)
    (tmp_path / "set").mkdir()
    lines = ["image,label,split"]
    for k, image in enumerate(heads.images):
        cv2.imwrite(str(tmp_path / "set" / f"{k}.png"), image)
        lines.append(f"{k}.png,{('normal', 'abnormal')[truth.parts[k, 0]]},{'valid' if k % 2 else 'test'}")
    (tmp_path / "set" / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = ("evaluate", "morphology", tmp_path / "set", "--weights", tmp_path / "made" / "two.pt", "--split", "test")
    found = call(*words, "--fit-thresholds", "valid", "--json")
    assert len(found["thresholds"]) == 1
    assert found["thresholds"][0].startswith("head:abnormal=0.")
    assert found["parts"]["head"]["n"] <= 20
    given = call(*words, "--threshold", found["thresholds"][0], "--json")
    assert given["parts"] == found["parts"]
    for more, why in (
        (("--fit-thresholds", "test"), "not judged"),
        (("--fit-thresholds", "valid", "--threshold", "abnormal=0.3"), "itself"),
    ):
        with pytest.raises(InputError, match=why):
            call(*words, *more)
    with pytest.raises(InputError, match="takes parts of two"):
        call("evaluate", "morphology", folder / "one", "--weights", folder / "made" / "tiny.pt",
             "--fit-thresholds", "valid")  # fmt: skip
