"""AID with soft-tuning against plain supervised training of the same network, paired over seeds, on MHSMA.

Fixed before it was first run on the test crops: both arms are the same network, see the same crops (turned by HPM) and
tune for the same number of epochs of the same labelled crops at the same rates; the last epoch counts, none is picked.
The AID arm is pretrained before: AID on the train and valid crops without their labels, then rendered heads. A seed's
figure is the mean over head, acrosome and vacuole of the balanced accuracy at 1/2 (beside it: of the accuracy, and of
the area under the ROC curve); the gain is the mean difference over seeds with Student's 95 % interval.

    python tools/compare_morphology.py MHSMA -o DIR [--seeds 5] [--split valid]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

PARTS = ("head", "acrosome", "vacuole")


def figures(log_probabilities: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Means over the parts, in percent."""
    from sklearn.metrics import roc_auc_score

    from casa.morphology.scores import classification_scores

    rows = []
    for k in range(labels.shape[1]):
        pair = np.exp(log_probabilities[:, 2 * k : 2 * k + 2])
        scores = classification_scores(pair, labels[:, k], ("normal", "abnormal"))
        area = 100 * roc_auc_score(labels[:, k], pair[:, 1])
        rows.append((scores["accuracy"], scores["balanced_accuracy"], area))
    names = ("accuracy", "balanced_accuracy", "roc_area")
    means = dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))
    each = {
        f"{part}_{name}": value
        for part, row in zip(PARTS, rows, strict=True)
        for name, value in zip(names, row, strict=True)
    }
    return means | each


def kept_crops(mhsma: Path, recipe: Any, n_rendered: int, path: Path) -> tuple[Any, np.ndarray, Any]:
    """MHSMA's crops, their splits, and rendered heads; kept in ``path`` for the next call."""
    from casa.morphology.crops import Crops, prepare
    from casa.morphology.datasets import read_mhsma
    from casa.morphology.sets import rendered_set

    heads = read_mhsma(mhsma, "head")
    columns = Crops.__dataclass_fields__
    if not path.is_file():
        labels = np.stack([read_mhsma(mhsma, part).labels for part in PARTS], axis=1)
        crops = prepare(heads, recipe.size_px, labels, 0.125 / recipe.um_per_px)
        rendered = rendered_set(n_rendered, ("mhsma",), recipe, seed=1, parts=PARTS).crops
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {f"real_{c}": getattr(crops, c) for c in columns} | {
            f"made_{c}": getattr(rendered, c) for c in columns
        }
        np.savez(path, **arrays)
    with np.load(path, allow_pickle=False) as kept:
        crops, rendered = (Crops(*(kept[f"{kind}_{c}"] for c in columns)) for kind in ("real", "made"))
    return crops, np.array(heads.splits), rendered


def _say(what: str, epoch: int, loss: float) -> None:
    print(f"{what} {epoch + 1} {loss:.4f}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mhsma", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--rendered", type=int, default=2000, help="rendered heads for the AID arm")
    parser.add_argument("--split", choices=("valid", "test"), default="test")
    options = parser.parse_args()

    import torch

    from casa.morphology.networks import Part
    from casa.morphology.recipe import load_recipe, predict_member, train_member
    from casa.morphology.scores import paired_gain
    from casa.morphology.train import Run

    torch.set_num_threads(1)
    configs = Path(__file__).resolve().parents[1] / "configs" / "morphology"
    arms = {"plain": load_recipe(configs / "mhsma-plain.yaml"), "aid": load_recipe(configs / "mhsma.yaml")}
    crops, splits, rendered = kept_crops(options.mhsma, arms["aid"], options.rendered, options.output / "crops.npz")
    train, judged = crops[splits == "train"], crops[splits == options.split]
    unlabelled = crops[splits != "test"]
    parts = tuple(Part(part, ("normal", "abnormal")) for part in PARTS)
    results: list[dict[str, dict[str, float]]] = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        row = {}
        for name, recipe in arms.items():
            run = Run(seed, options.output / f"{name}-{seed}", _say)
            member = train_member(recipe, parts, train, unlabelled, run, rendered=rendered)
            found = predict_member(member, judged.images, recipe.tune)
            np.save(options.output / f"{name}-{seed}" / f"{options.split}.npy", found)
            row[name] = figures(found, judged.labels)
            print(seed, name, {k: round(v, 2) for k, v in row[name].items()}, file=sys.stderr, flush=True)
        results.append(row)
    gains = {
        name: paired_gain([row["aid"][name] - row["plain"][name] for row in results])
        for name in ("balanced_accuracy", "accuracy", "roc_area")
    }
    report = {"split": options.split, "gain": gains, "seeds": results}
    (options.output / f"{options.split}.json").write_text(json.dumps(report, indent=1), encoding="utf-8")
    print(json.dumps(gains, indent=1))


if __name__ == "__main__":
    main()
