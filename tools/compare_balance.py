"""What can be done about rare classes, side by side: weights in the loss, balanced sampling, thresholds moved, nothing.

    python tools/compare_balance.py MHSMA -o DIR [--seeds 3]

Each of MHSMA's parts by itself, by the plain recipe, on its train and valid crops alone: a network is trained on three
of four folds and judged on the other. A moved threshold is the one of best balanced accuracy on what was said of the
other folds. Gains over doing nothing are paired over seeds and parts, with Student's 95 % interval.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("head", "acrosome", "vacuole")
BALANCES = ("none", "weights", "sampling")
FOLDS = 4
FIGURES = ("accuracy", "balanced_accuracy", "recall_abnormal", "roc_area")


def folds_of(labels: np.ndarray) -> np.ndarray:
    """(n,) the fold of each crop; every fold has its share of abnormal ones."""
    rng, folds = np.random.default_rng(0), np.empty(len(labels), np.int64)
    for value in (0, 1):
        rows = rng.permutation(np.flatnonzero(labels == value))
        folds[rows] = np.arange(len(rows)) % FOLDS
    return folds


def figures(abnormal: np.ndarray, said: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """In percent, of chances ``abnormal`` (n,) and decisions ``said`` (n,)."""
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    values = (
        (said == labels).mean(),
        balanced_accuracy_score(labels, said),
        said[labels == 1].mean(),
        roc_auc_score(labels, abnormal),
    )
    return {name: 100 * float(value) for name, value in zip(FIGURES, values, strict=True)}


def chances(recipe: Any, part: str, crops: Any, folds: np.ndarray, seed: int) -> np.ndarray:
    """(n,) chance of abnormal, of each crop by the network that has not seen its fold."""
    from casa.morphology.networks import Part
    from casa.morphology.recipe import predict_member, train_member
    from casa.morphology.train import Run

    out = np.empty(len(crops))
    for fold in range(FOLDS):
        seen = crops[folds != fold]
        member = train_member(recipe, (Part(part, ("normal", "abnormal")),), seen, seen, Run(seed * FOLDS + fold))
        out[folds == fold] = np.exp(predict_member(member, crops.images[folds == fold], recipe.tune))[:, 1]
    return out


def moved(abnormal: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(n,) decisions by thresholds that are chosen on the other folds."""
    from casa.morphology.probabilities import fit_threshold

    said = np.empty(len(labels), np.int64)
    for fold in range(FOLDS):
        others = folds != fold
        said[~others] = abnormal[~others] >= fit_threshold(abnormal[others], labels[others])
    return said


def main() -> None:
    """Train them all, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mhsma", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()

    import torch

    from casa.morphology.recipe import load_recipe
    from casa.morphology.scores import paired_gain
    from casa.morphology.sets import load_set

    torch.set_num_threads(1)
    plain = Path(__file__).resolve().parents[1] / "configs" / "morphology" / "mhsma-plain.yaml"
    found: dict[str, list[dict[str, float]]] = {}
    for part in PARTS:
        given = load_set(options.mhsma, load_recipe(plain), (part,))
        crops = given.crops[np.array(given.splits) != "test"]
        labels = crops.labels[:, 0]
        folds = folds_of(labels)
        for seed in range(options.seeds):
            for balance in BALANCES:
                abnormal = chances(load_recipe(plain, {"tune.balance": balance}), part, crops, folds, seed)
                rows = {balance: figures(abnormal, (abnormal > 0.5).astype(np.int64), labels)}
                if balance == "none":
                    rows["threshold moved"] = figures(abnormal, moved(abnormal, labels, folds), labels)
                for name, row in rows.items():
                    found.setdefault(name, []).append(row)
                    said = ", ".join(f"{figure} {value:.1f}" for figure, value in row.items())
                    print(f"{part}, seed {seed}, {name}: {said}", file=sys.stderr, flush=True)
    print("| choice | accuracy | balanced accuracy | recall of abnormal | ROC area | gain in balanced accuracy |")
    print("|---|---|---|---|---|---|")
    for name, rows in found.items():
        means = " | ".join(f"{np.mean([row[figure] for row in rows]):.1f}" for figure in FIGURES)
        gains = [row[FIGURES[1]] - none[FIGURES[1]] for row, none in zip(rows, found["none"], strict=True)]
        gain = paired_gain(gains)
        text = "" if name == "none" else f"{gain['mean']:+.1f} ({gain['low']:+.1f} to {gain['high']:+.1f})"
        print(f"| {name} | {means} | {text} |")
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "balance.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
