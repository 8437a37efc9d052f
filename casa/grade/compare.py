"""Several networks on the same clips, side by side: the paper's Table 2 and its ablations (sections 5.2, 5.4, 5.5).

A *run* is one training with one seed; what its folds said of their test clips is pooled, so that every run has one
prediction a clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from casa.errors import InputError
from casa.grade.experiment import FoldResult
from casa.grade.scores import (
    SCORES,
    KruskalWallis,
    bootstrap_intervals,
    kruskal_wallis,
    paired_difference,
    scores,
    share_of_way,
    squared_errors,
)
from casa.types import FloatArray

#: Rows of the paper's Table 2: what of a configuration makes them, and the paper's MSE.
TABLE_2: dict[str, tuple[dict[str, Any], float]] = {
    "RoSTFine, alpha 1": ({"network": "rostfine", "alpha": 1.0}, 1.104e-2),
    "RoSTFine, alpha 0": ({"network": "rostfine", "alpha": 0.0}, 1.121e-2),
    "TimeSformer": ({"network": "timesformer"}, 1.186e-2),
    "SlowFast": ({"network": "slowfast"}, 1.346e-2),
    "R3D": ({"network": "r3d"}, 1.365e-2),
    "I3D": ({"network": "i3d"}, 1.376e-2),
    "ViViT": ({"network": "vivit"}, 1.406e-2),
    "VGG16": ({"network": "vgg16"}, 1.517e-2),
    "R(2+1)D": ({"network": "r2plus1d"}, 1.702e-2),
    "X3D": ({"network": "x3d"}, 1.808e-2),
}

#: The paper's ablations: what is varied, and the options of the network (or the configuration) of each row.
ABLATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "k": {f"K = {k}": {"options": {"selected": k}} for k in (1, 2, 3, 5, 10, 20)},
    "alpha": {f"alpha = {alpha:g}": {"alpha": alpha} for alpha in (0, 0.01, 0.05, 0.1, 0.5, 1.0, 1.5)},
    "branches": {
        " + ".join(names): {"options": {"branches": list(names)}}
        for names in (
            ("global",),
            ("spatial",),
            ("temporal",),
            ("global", "spatial"),
            ("global", "temporal"),
            ("spatial", "temporal"),
            ("global", "spatial", "temporal"),
        )
    },
    "aggregation": {name: {"options": {"aggregation": name}} for name in ("concat", "sum", "mean")},
}


@dataclass(frozen=True, slots=True)
class Row:
    """One network: ``values`` mean and sd over runs of each of ``SCORES`` (sd NaN of a single run), the 95 % interval
    over clips of the mean MSE, the share of the way from the prior to a fresh panel, each run's MSE, CPU seconds a run.
    """

    name: str
    values: dict[str, tuple[float, float]]
    interval: tuple[float, float]
    way: float | None
    mse_of_runs: list[float]
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """All rows, best MSE first; the prior's MSE; that of a fresh panel (or None); the test between networks (None of a
    single run each); mean difference in MSE to the best network and its 95 % interval, by name.
    """

    rows: list[Row]
    prior_mse: float
    fresh_panel_mse: float | None
    test: KruskalWallis | None
    to_best: dict[str, tuple[float, float, float]]


def compare(runs: Mapping[str, Sequence[Sequence[FoldResult]]], fresh_panel_mse: float | None) -> Comparison:
    """Compare networks; ``runs`` has for each name its runs, each with the results of its folds.

    Raises
    ------
    InputError : runs were not judged on the same clips.
    """
    pooled = {name: [_pooled(run) for run in of] for name, of in runs.items()}
    first = next(iter(pooled.values()))[0]
    if any(ids != first[0] for of in pooled.values() for ids, _, _, _ in of):
        raise InputError("the runs were not judged on the same clips; compare runs with the same folds")
    true, prior_mse = first[2], float(squared_errors(first[3], first[2]).mean())
    rows, errors = [], {}
    for name, of in pooled.items():
        each = [scores(found, true) for _, found, _, _ in of]
        table = {key: np.array([run[key] for run in each]) for key in SCORES}
        errors[name] = np.mean([squared_errors(found, true) for _, found, _, _ in of], axis=0)
        mse = float(table["mse"].mean())
        rows.append(
            Row(
                name=name,
                values={k: (float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else np.nan) for k, v in table.items()},
                interval=bootstrap_intervals([found for _, found, _, _ in of], true)["mse"],
                way=share_of_way(mse, prior_mse, fresh_panel_mse) if fresh_panel_mse is not None else None,
                mse_of_runs=table["mse"].tolist(),
                cpu_s=float(np.mean([sum(result.cpu_s for result in run) for run in runs[name]])),
            )
        )
    rows.sort(key=lambda row: row.values["mse"][0])
    several = len(rows) > 1 and min(len(row.mse_of_runs) for row in rows) > 1
    return Comparison(
        rows=rows,
        prior_mse=prior_mse,
        fresh_panel_mse=fresh_panel_mse,
        test=kruskal_wallis({row.name: row.mse_of_runs for row in rows}) if several else None,
        to_best={row.name: paired_difference(errors[row.name], errors[rows[0].name]) for row in rows[1:]},
    )


def _pooled(run: Sequence[FoldResult]) -> tuple[tuple[str, ...], FloatArray, FloatArray, FloatArray]:
    """Ids, predicted, true and prior distributions of all test clips of a run."""
    ids = tuple(name for result in run for name in result.ids)
    base = np.concatenate([np.tile(result.prior, (len(result.ids), 1)) for result in run])
    return ids, np.concatenate([r.found for r in run]), np.concatenate([r.true for r in run]), base


def agreement_with_paper(comparison: Comparison) -> float:
    """Kendall's tau between these networks' MSE and those of the paper's Table 2: 1 the same order, -1 the reverse."""
    from scipy.stats import kendalltau

    known = [row for row in comparison.rows if row.name in TABLE_2]
    if len(known) < 2:
        return float("nan")
    result: Any = kendalltau([row.values["mse"][0] for row in known], [TABLE_2[row.name][1] for row in known])
    return float(result.statistic)


def markdown(comparison: Comparison) -> str:
    """The comparison as a table for people, in units of the paper's (MSE and JS in 1e-2, accuracies in %)."""
    lines = [
        "| network | MSE (1e-2) | 95 % interval | JS (1e-2) | BA 1st | BA mean | of the way | CPU s a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in comparison.rows:
        mse, js, first, mean = (_cell(row.values[key]) for key in ("mse", "js", "ba_1st", "ba_mean"))
        low, high = (100 * edge for edge in row.interval)
        way = "" if row.way is None else f"{100 * row.way:.0f} %"
        lines.append(
            f"| {row.name} | {mse} | {low:.3f} to {high:.3f} | {js} | {first} | {mean} | {way} | {row.cpu_s:.0f} |"
        )
    lines += ["", f"Prior (mean distribution of the clips trained on): MSE {100 * comparison.prior_mse:.3f}e-2."]
    if comparison.fresh_panel_mse is not None:
        lines.append(f"A fresh panel of 40 raters: MSE {100 * comparison.fresh_panel_mse:.3f}e-2.")
    if comparison.test is not None:
        lines.append(f"Kruskal-Wallis over runs: H = {comparison.test.h:.2f}, p = {comparison.test.p:.2g}.")
    best = comparison.rows[0].name
    for name, (mean, low, high) in comparison.to_best.items():
        lines.append(f"{name} - {best}: {100 * mean:+.3f}e-2 ({100 * low:+.3f} to {100 * high:+.3f}).")
    tau = agreement_with_paper(comparison)
    if tau == tau:
        lines.append(f"Order against the paper's Table 2: Kendall's tau {tau:+.2f} (1: the same).")
    return "\n".join(lines)


def _cell(value: tuple[float, float]) -> str:
    mean, sd = 100 * value[0], 100 * value[1]
    return f"{mean:.3f}" if sd != sd else f"{mean:.3f} ± {sd:.3f}"
