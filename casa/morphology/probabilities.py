"""From logits to probabilities that can be believed, and from these to decisions: temperature, thresholds, costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from casa.errors import InputError
from casa.types import FloatArray, IntArray

#: What a decision is where no class is likely enough.
ABSTAINED = -1


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> FloatArray:
    """(n, k) probabilities of logits (or log-probabilities) divided by ``temperature``."""
    scaled = np.asarray(logits, np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True, initial=-np.inf)
    exp = np.exp(scaled)
    return exp / exp.sum(axis=-1, keepdims=True)


def negative_log_likelihood(logits: NDArray[np.floating], labels: IntArray, temperature: float = 1.0) -> float:
    """Mean over the crops, in nats."""
    p = softmax(logits, temperature)
    return float(-np.log(np.maximum(p[np.arange(len(p)), labels], 1e-12)).mean())


def fit_temperature(logits: NDArray[np.floating], labels: IntArray) -> float:
    """The temperature at which held-out crops are likeliest (Guo et al. 2017), in [0.05, 20]; 1 without crops.

    Fit it on crops that neither trained the network nor are reported on.
    """
    from scipy.optimize import minimize_scalar

    known = labels >= 0
    if not known.any():
        return 1.0
    found = minimize_scalar(
        lambda log_t: negative_log_likelihood(logits[known], labels[known], float(np.exp(log_t))),
        bounds=(np.log(0.05), np.log(20.0)),
        method="bounded",
    )
    return float(np.exp(found.x))


def decide(
    probabilities: NDArray[np.floating],
    thresholds: NDArray[np.floating] | None = None,
    costs: NDArray[np.floating] | None = None,
    abstain_below: float = 0.0,
) -> IntArray:
    """(n,) the class decided on; ``ABSTAINED`` where the likeliest has less than ``abstain_below``.

    Parameters
    ----------
    thresholds : (k,) positive: the class whose probability is the largest multiple of its threshold is taken (for two
        classes, thresholds (1 - t, t) say: the second one from probability t on).
    costs : (k, k), of deciding column j when row i is true: the class of the least expected cost is taken.

    Raises
    ------
    InputError : both are given, or one is of the wrong shape or sign.
    """
    p = np.asarray(probabilities, np.float64)
    k = p.shape[1]
    if thresholds is not None and costs is not None:
        raise InputError("give thresholds or costs, not both: each of them says how to decide")
    if costs is not None:
        costs = np.asarray(costs, np.float64)
        if costs.shape != (k, k) or not (np.isfinite(costs).all() and (costs >= 0).all()):
            raise InputError(f"costs: expected {k} x {k} numbers of at least 0, row: true class, column: decided on")
        best = (p @ costs).argmin(axis=1)
    elif thresholds is not None:
        thresholds = np.asarray(thresholds, np.float64)
        if thresholds.shape != (k,) or not (np.isfinite(thresholds).all() and (thresholds > 0).all()):
            raise InputError(f"thresholds: expected {k} numbers above 0, one a class")
        best = (p / thresholds).argmax(axis=1)
    else:
        best = p.argmax(axis=1)
    return np.where(p.max(axis=1, initial=0.0) < abstain_below, ABSTAINED, best).astype(np.int64)


def fit_threshold(probability: NDArray[np.floating], labels: IntArray, aim: str = "balanced_accuracy") -> float:
    """The threshold of the second of two classes that serves ``aim`` best on held-out crops (threshold moving).

    Parameters
    ----------
    probability : (n,) of class 1. aim : "balanced_accuracy", "f1" or "accuracy". Of equal ones the middle is taken.

    Raises
    ------
    InputError : an unknown aim, or a class without a crop.
    """
    known = labels >= 0
    p, true = np.asarray(probability, np.float64)[known], labels[known] == 1
    if not true.any() or true.all():
        raise InputError("a threshold needs held-out crops of both classes")
    edges = np.unique(p)
    candidates = np.concatenate([[edges[0] / 2], (edges[1:] + edges[:-1]) / 2, [(1 + edges[-1]) / 2]])
    said = p[:, None] >= candidates
    hits, alarms = (said & true[:, None]).sum(0), (said & ~true[:, None]).sum(0)
    positives, negatives = true.sum(), (~true).sum()
    scores = {
        "balanced_accuracy": (hits / positives + 1 - alarms / negatives) / 2,
        "accuracy": (hits + negatives - alarms) / len(true),
        "f1": 2 * hits / (hits + alarms + positives),
    }
    if aim not in scores:
        raise InputError(f"no aim called {aim!r}; known ones are {', '.join(scores)}")
    best = np.flatnonzero(scores[aim] >= scores[aim].max() - 1e-12)
    return float(candidates[best[len(best) // 2]])
