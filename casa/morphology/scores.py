"""Scores of classified heads: from predicted probabilities and labels to figures with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError
from casa.morphology.probabilities import ABSTAINED, decide
from casa.statistics import wilson_percent
from casa.types import IntArray


def classification_scores(
    probabilities: NDArray[np.floating],
    labels: IntArray,
    class_names: Sequence[str],
    decided: IntArray | None = None,
    bins: int = 10,
) -> dict[str, Any]:
    """Scores of one part or set of classes; shares are in percent.

    Parameters
    ----------
    probabilities : (n, k), NaN where no head was found. labels : (n,), -1 where not known: left out.
    decided : (n,) what was decided on, ``ABSTAINED`` where nothing: such crops are counted in "abstained" and judged by
        no other figure; None takes the likeliest class.

    Returns
    -------
    "n", "abstained", "accuracy" with its Wilson interval "accuracy_95", "balanced_accuracy" (mean recall),
    "majority_accuracy" (of always saying the commonest class), "recall", "precision", "f1" (means over the classes that
    occur), "per_class", "confusion" (rows: true); "ece" (expected calibration error) and "reliability", of all crops
    that have probabilities.

    Raises
    ------
    InputError : no crop has a label, or columns do not fit.
    """
    k = len(class_names)
    if probabilities.shape != (len(labels), k):
        raise InputError(f"probabilities of shape {probabilities.shape}: expected {len(labels)} crops of {k} classes")
    known = labels >= 0
    if not known.any():
        raise InputError("no crop has a label: nothing to judge by")
    p, true = np.asarray(probabilities, np.float64)[known], labels[known]
    said = decide(p) if decided is None else decided[known]
    judged = said != ABSTAINED
    confusion = np.zeros((k, k), np.int64)
    np.add.at(confusion, (true[judged], said[judged]), 1)
    hits = np.diag(confusion)
    of_true, of_said = confusion.sum(axis=1), confusion.sum(axis=0)
    recall, precision = _share(hits, of_true), _share(hits, of_said)
    f1 = _share(2 * hits, of_true + of_said)
    there = of_true > 0
    n = int(judged.sum())
    accuracy = 100.0 * hits.sum() / n if n else None
    interval = None if accuracy is None else wilson_percent(accuracy, n)
    return {
        "n": n,
        "abstained": int((~judged).sum()),
        "accuracy": accuracy,
        "accuracy_95": None if interval is None else list(interval),
        "balanced_accuracy": _mean(recall, there),
        "majority_accuracy": 100.0 * int(of_true.max()) / n if n else None,
        "recall": _mean(recall, there),
        "precision": _mean(precision, there),
        "f1": _mean(f1, there),
        "per_class": {
            name: {
                "n": int(of_true[i]),
                "recall": _number(recall[i]),
                "recall_95": _interval(hits[i], of_true[i]),
                "precision": _number(precision[i]),
                "f1": _number(f1[i]),
            }
            for i, name in enumerate(class_names)
        },
        "confusion": confusion.tolist(),
        **reliability(p[(seen := np.isfinite(p).all(axis=1))], true[seen], bins),
    }


def reliability(probabilities: NDArray[np.floating], labels: IntArray, bins: int = 10) -> dict[str, Any]:
    """How sure the likeliest class was, against how often it was right.

    Returns
    -------
    "ece" : expected calibration error in percent (Naeini et al. 2015), None without crops.
    "reliability" : a row a bin that holds crops, with "from", "to", "n", "confidence", "accuracy" as fractions.
    """
    if not len(labels):
        return {"ece": None, "reliability": []}
    best = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    place = np.minimum((best * bins).astype(int), bins - 1)
    rows = [
        {
            "from": b / bins,
            "to": (b + 1) / bins,
            "n": int((place == b).sum()),
            "confidence": float(best[place == b].mean()),
            "accuracy": float(right[place == b].mean()),
        }
        for b in range(bins)
        if (place == b).any()
    ]
    gap = sum(row["n"] * abs(row["confidence"] - row["accuracy"]) for row in rows)
    return {"ece": 100.0 * gap / len(labels), "reliability": rows}


def paired_gain(gains: Sequence[float]) -> dict[str, Any]:
    """Mean of paired differences with Student's 95 % interval over the pairs ("low", "high"; None for one pair)."""
    from scipy.stats import t

    values = np.asarray(gains, np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return {"pairs": len(values), "mean": mean, "low": None, "high": None}
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return {"pairs": len(values), "mean": mean, "low": mean - half, "high": mean + half}


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, 100.0 * part / np.maximum(whole, 1), np.nan)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _mean(values: NDArray[np.float64], there: NDArray[np.bool_]) -> float | None:
    """Over the classes that occur; one that was never decided on has precision 0."""
    return float(np.nan_to_num(values[there]).mean()) if there.any() else None


def _interval(hits: int, n: int) -> list[float] | None:
    found = wilson_percent(100.0 * hits / n, n) if n else None
    return None if found is None else list(found)
